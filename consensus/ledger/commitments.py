"""Commitments: the hash of the record that an organisation publishes of each agent now, so that an old record is known as old.

An agent's id is a hash of its organisation and its name, and here both are given: nobody can commit to another's agent.
"""

from dataclasses import replace
from typing import ClassVar

from meshos import cbor
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.draft import Draft, Sender, Table
from meshos.consensus.ledger.fields import is_hash, is_number, is_text, malformed
from meshos.consensus.ledger.limits import MAX_AGENT_NAME_BYTES, MAX_AGENTS
from meshos.consensus.ledger.members import ORGS, member
from meshos.consensus.ledger.packing import pack, unpack
from meshos.errors import Refused, busy
from meshos.ids import OrgDid, agent_id
from meshos.values import frozen


@frozen
class Commitment:
    """``record`` is the hash of what the agent's record says since version ``version``, without that number: later versions that say
    the same (renewals) have the same hash. Empty: the agent was withdrawn.
    """

    org: str
    version: int
    record: bytes
    height: int


COMMITMENTS = Table(
    b"commitment/",
    lambda commitment: pack(commitment.org, commitment.version, commitment.record, commitment.height),
    lambda value: Commitment(*unpack(value)),
)
"""By agent id."""


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
        """Raises Refused ``version-conflict`` or ``busy``."""
        id_ = agent_id(OrgDid(by.org), self.name)
        before, org = draft.read(COMMITMENTS, id_), member(draft, by.org)
        if before is None:
            if org.agents >= MAX_AGENTS:
                raise busy(f"the list of agents of {by.org}")
            draft.write(ORGS, by.org, replace(org, agents=org.agents + 1))
        elif self.version <= before.version:
            raise Refused("version-conflict", f"version {self.version} is not above {before.version}")
        draft.write(COMMITMENTS, id_, Commitment(by.org, self.version, self.record or b"", draft.height))
