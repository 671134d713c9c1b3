"""Commitments: the hash of the record that an organisation publishes of each agent now, so that an old record is known as old.

An agent's id is a hash of its organisation and its name, and here both are given: nobody can commit to another's agent.

An agent that is withdrawn gives its place to another at once. Its tombstone, which holds its last version, is kept for WITHDRAWN_MS, so
that anybody can be shown that it was withdrawn. What remains then is one number for the whole organisation, its *floor*: no agent that the
ledger does not know is committed to in a version that is not above those of all that were forgotten. So no record comes back that is older
than a withdrawal, however long ago that was. Whoever deploys takes a version above those of all agents withdrawn so far
(``least_version``), so that a floor that rises meanwhile does not stop the commitment.
"""

from dataclasses import replace
from typing import ClassVar

from meshos import cbor
from meshos.consensus.ledger.agenda import PRUNE, Item, cancel, schedule
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.draft import Draft, Sender, Table
from meshos.consensus.ledger.fields import is_hash, is_number, is_text, malformed
from meshos.consensus.ledger.limits import MAX_AGENT_NAME_BYTES, MAX_AGENTS, MAX_VERSION_STEP, MAX_WITHDRAWN, WITHDRAWN_MS
from meshos.consensus.ledger.members import ORGS, member
from meshos.consensus.ledger.packing import pack, unpack
from meshos.errors import Refused, busy
from meshos.ids import AgentId, OrgDid, agent_id
from meshos.storage.store import View
from meshos.values import frozen

FORGOTTEN = "agent"
"""On the agenda: a withdrawn agent's time is over."""


@frozen
class Commitment:
    """``record`` is the hash of what the agent's record says since version ``version``, without that number: later versions that say
    the same (renewals) have the same hash. Empty: the agent was withdrawn, and is forgotten at ``forgotten_ms``.
    """

    org: str
    version: int
    record: bytes
    height: int
    forgotten_ms: int = 0


@frozen
class Withdrawn:
    """What an organisation withdrew: ``remembered`` agents with a tombstone; the ``highest`` version of all that ever were, and the
    ``floor``, the highest of those that were forgotten.
    """

    remembered: int = 0
    highest: int = 0
    floor: int = 0


COMMITMENTS = Table(
    b"commitment/",
    lambda one: pack(one.org, one.version, one.record, one.height, one.forgotten_ms),
    lambda value: Commitment(*unpack(value)),
)
"""By agent id."""
WITHDRAWN = Table(b"withdrawn/", lambda all_: pack(all_.remembered, all_.highest, all_.floor), lambda value: Withdrawn(*unpack(value)))
"""By the organisation's DID."""


def least_version(view: View, org: OrgDid, agent: AgentId) -> int:
    """The version that the record of a deployment must be above."""
    known, withdrawn = COMMITMENTS.read(view, agent), WITHDRAWN.read(view, org) or Withdrawn()
    return known.version if known is not None and known.record else withdrawn.highest


@frozen
class Commit(Body):
    """The record of the sender's agent ``name`` has this ``version`` and hash from now on; None: the agent is withdrawn."""

    KIND: ClassVar[str] = "commit"

    name: str
    version: int
    record: bytes | None

    @classmethod
    def read(cls, value: cbor.Value) -> "Commit":
        """From ``[name, version, hash or null]``; raises Refused ``transaction-malformed``."""
        match value:
            case [name, version, record] if is_text(name, MAX_AGENT_NAME_BYTES) and is_number(version, 1):
                if record is None or is_hash(record):
                    return cls(name, version, record)
        raise malformed("commitment to an agent's record")

    def fields(self) -> list[object]:
        """As ``read`` takes it."""
        return [self.name, self.version, self.record]

    def apply(self, draft: Draft, by: Sender) -> None:
        """Raises Refused ``version-conflict``, ``not-committed`` or ``busy``."""
        id_, org = agent_id(OrgDid(by.org), self.name), member(draft, by.org)
        before, gone = draft.read(COMMITMENTS, id_), draft.read(WITHDRAWN, by.org) or Withdrawn()
        self._check_version(gone.floor if before is None else before.version, gone)
        is_known = before is not None and before.record != b""
        if self.record is None:
            if not is_known:
                raise Refused("not-committed", f"{by.org} has no agent {self.name!r} here that could be withdrawn")
            forgotten_ms = draft.time_ms + WITHDRAWN_MS
            draft.write(COMMITMENTS, id_, Commitment(by.org, self.version, b"", draft.height, forgotten_ms))
            draft.write(WITHDRAWN, by.org, Withdrawn(gone.remembered + 1, max(gone.highest, self.version), gone.floor))
            draft.write(ORGS, by.org, replace(org, agents=org.agents - 1))
            schedule(draft, PRUNE, Item(forgotten_ms, FORGOTTEN, id_.encode()))
            return
        if not is_known:
            if org.agents >= MAX_AGENTS or (before is None and gone.remembered >= MAX_WITHDRAWN):
                raise busy(f"the list of agents of {by.org}")
            draft.write(ORGS, by.org, replace(org, agents=org.agents + 1))
            if before is not None:
                draft.write(WITHDRAWN, by.org, replace(gone, remembered=gone.remembered - 1))
                cancel(draft, PRUNE, Item(before.forgotten_ms, FORGOTTEN, id_.encode()))
        draft.write(COMMITMENTS, id_, Commitment(by.org, self.version, self.record, draft.height))

    def _check_version(self, least: int, gone: Withdrawn) -> None:
        if self.version <= least:
            raise Refused("version-conflict", f"version {self.version} is not above {least}")
        if self.version > max(least, gone.highest) + MAX_VERSION_STEP:
            raise Refused("version-conflict", f"version {self.version} is not soon after {max(least, gone.highest)}")


def forget(draft: Draft, id_: bytes) -> None:
    """A withdrawn agent's time is over: of it only its version is kept, in the floor."""
    known = draft.read(COMMITMENTS, id_)
    assert known is not None
    gone = draft.read(WITHDRAWN, known.org)
    assert gone is not None
    draft.write(COMMITMENTS, id_, None)
    draft.write(WITHDRAWN, known.org, Withdrawn(gone.remembered - 1, gone.highest, max(gone.floor, known.version)))
