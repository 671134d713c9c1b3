"""The machine "registrar": what this node owes the ledger, compared with what the ledger says, and sent where it is missing.

Four things are owed. The node that leads its organisation commits to the record of each agent that the organisation runs
(``consensus/ledger/commitments.py``), in its newest version; an agent that was withdrawn is committed to as gone, if the ledger has it as
there: then its place is another's. And the node that holds its organisation's seat says which version of the ledger's rules it supports
(``consensus/ledger/upgrades.py``), and votes for whom another organisation moves to admit, where the mesh admits by invitation or anybody
(the parameter ``admission``): some ADMISSIONS at once and an hour, and for no more, so that what one member lets in the others bound. It
endorses the codebook that its directory has found good (``consensus/ledger/codebooks.py``), and testifies about nodes of others of which
its directory is convinced that they lie (``consensus/ledger/testimonies.py``).

Theory of operation. Nothing is remembered on disk: what is owed is the difference between two states that both survive a crash, the
organisation's and the ledger's. The machine looks every LOOK_S, at a few numbers that tell whether the organisation's agents may have
changed: only then, when it comes to lead, and every REFRESH_S are they read, PAGE at a time. What is owed goes to the machine
"transactions", AT_ONCE at the same time, so that payments have their turn. Once that has ended, however it has, the ledger's state says
whether it is owed still; what is comes again after a pause that grows. Two nodes that both take themselves for the leader do no harm: the
ledger takes a version once.

What is committed to is a deployment, not each renewal of its record: a record that is published again under the next version is the same
but for that version, and so is its hash (``record.content_hash``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from meshos.buckets import Bucket
from meshos.consensus.ledger import queries
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.codebooks import CODEBOOKS, Codebooks, Endorse
from meshos.consensus.ledger.commitments import COMMITMENTS, Commit
from meshos.consensus.ledger.keys import KEYS, NODE
from meshos.consensus.ledger.limits import MAX_TESTIMONIES
from meshos.consensus.ledger.members import ORGS
from meshos.consensus.ledger.motions import MOTIONS, Admit, Motion, Vote
from meshos.consensus.ledger.parameters import BY_VOTE, PARAMETERS
from meshos.consensus.ledger.seats import SEATS
from meshos.consensus.ledger.testimonies import DISCHARGES, Testify, said_by
from meshos.consensus.ledger.upgrades import RULES, SUPPORTED, Rules, Support
from meshos.consensus.org.commands import Agent
from meshos.consensus.org.entries import agent_key, decode_agent, read_meta
from meshos.consensus.org.machine import Lead
from meshos.crypto.certificates import verify_root
from meshos.crypto.keys import public_key_of_multikey
from meshos.effects import Completed, Err, Ok, Outcome, Tell, Tick
from meshos.errors import MeshError, Refused
from meshos.flow import Propose
from meshos.flow_machine import Abandon, Perform
from meshos.ids import AgentId, NodeId, OrgDid, Peer
from meshos.protocols.directory.record import content_hash, parse
from meshos.protocols.directory.suspects import Lie
from meshos.protocols.ledger.limits import ADMISSIONS, AT_ONCE, HOUR_S, LOOK_S, OWED_MOST_S, OWED_S, PAGE, REFRESH_S, SCANNED
from meshos.protocols.ledger.port import LedgerView
from meshos.protocols.ledger.sender import MACHINE as TRANSACTIONS
from meshos.protocols.ledger.sender import Send
from meshos.protocols.ledger.slots import COMMITTED, Concluded
from meshos.storage.store import View

MACHINE = "registrar"

VOTE = "vote/"
CODEBOOK = "codebook"
TESTIMONY = "testimony/"

Endorses: TypeAlias = Callable[[], tuple[int, bytes] | None]
"""The version and the hash of the codebook that this node has checked; None: there is none."""

Convinced: TypeAlias = Callable[[], Mapping[NodeId, Lie]]
"""The nodes of which this node is convinced that they lie about the directory."""


@dataclass(slots=True)
class _Owed:
    """``body``, under a name that begins with ``name`` and ends with the number of the attempt: a name that has ended sends nothing new."""

    name: str
    body: Body
    attempt: int = 0
    failures: int = 0
    not_before: float = 0.0
    op: int = 0
    """Of the attempt that is under way."""
    asked_at: float = 0.0


class Registrar:
    """See the module's text. ``office`` knows who leads the organisation, ``state`` gives the organisation's state as it is here now."""

    def __init__(
        self,
        me: Peer,
        office: Lead,
        ledger: LedgerView,
        state: Callable[[], View],
        *,
        now: float,
        endorses: Endorses = lambda: None,
        convinced: Convinced = dict,
    ) -> None:
        self._me = me
        self._office = office
        self._ledger = ledger
        self._state = state
        self._endorses = endorses
        self._convinced = convinced
        self._look_at = now
        self._read: tuple[int, int] | None = None  # the lead and the organisation's audit number when its agents were read last
        self._refresh_at = now
        self._after: AgentId | None = None  # reading them goes on after this one
        # By agent; that of the rules by "", of a codebook by CODEBOOK, votes by VOTE and the motion, testimonies by TESTIMONY and the node.
        self._owed: dict[str, _Owed] = {}
        self._welcomes = Bucket(ADMISSIONS / HOUR_S, ADMISSIONS)
        self._genuine: dict[bytes, bool] = {}  # by motion: whether its certificate is that of the root key in it
        self._voted_at = -1  # the height up to which every motion has what it is owed
        self._ops = 0
        self.refused = 0
        """Attempts that ended without being done."""
        self._effects: list[object] = []

    def step(self, now: float, event: object) -> list[object]:
        """See ``meshos.effects.Machine``."""
        self._effects = []
        if isinstance(event, Completed):
            self._ended(now, event)
        elif isinstance(event, Perform):
            refusal = Refused("unknown-command", "the registrar takes no commands")
            self._effects.append(Tell(event.reply_to, Completed(event.op, Err(refusal))))
        elif not isinstance(event, Tick | Abandon):
            raise TypeError(f"Registrar has no use for {event!r}")
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            self._look(now)
        self._send(now)
        return self._effects

    def deadline(self) -> float | None:
        """When it looks next."""
        return self._look_at

    def statistics(self) -> dict[str, int]:
        """What is owed, what of it is on its way, and attempts that ended without being done."""
        return {"owed": len(self._owed), "in_flight": self._in_flight(), "refused": self.refused}

    # -- what is owed ------------------------------------------------------------------------------------------------

    def _look(self, now: float) -> None:
        if self._ledger.restoring:
            return  # a part of a state says nothing of what is missing in it
        held = SEATS.read(self._ledger, b"")
        seat = None if held is None else next((entry for entry in held.entries if entry.org == self._me.org), None)
        speaks = seat is not None and seat.node == self._me.node
        self._look_at_rules(speaks)
        self._look_at_codebook(speaks)
        self._look_at_liars(speaks)
        self._look_at_strangers(now, speaks and seat is not None and not seat.suspended)
        lead = self._office.lead
        if lead is None:
            self._read = self._after = None
            for name in [name for name in self._owed if name not in ("", CODEBOOK) and not name.startswith((VOTE, TESTIMONY))]:
                del self._owed[name]  # what is on its way goes on; whoever leads sees to the rest
            return
        state = self._state()
        found = (lead, read_meta(state).audit)
        if found != self._read or now >= self._refresh_at:
            self._read, self._refresh_at, self._after = found, now + REFRESH_S, AgentId("")
        if self._after is not None:
            self._after = self._look_at_agents(state, self._after)
            if self._after is not None:
                self._look_at = now  # the rest in the next step

    def _look_at_rules(self, speaks: bool) -> None:
        rules = RULES.read(self._ledger, b"") or Rules()
        if not speaks or dict(rules.support).get(self._me.org, 1) == SUPPORTED:
            self._owed.pop("", None)
        else:
            self._owe("", f"support/{SUPPORTED}", Support(SUPPORTED))

    def _look_at_codebook(self, speaks: bool) -> None:
        """Owe the endorsement of the codebook that this node has checked, as long as it can come to be the next."""
        now, good = CODEBOOKS.read(self._ledger, b"") or Codebooks(), self._endorses()
        if not speaks or good is None or good[0] != now.version + 1 or dict(now.endorsed).get(self._me.org) == good[1]:
            self._owed.pop(CODEBOOK, None)
        else:
            self._owe(CODEBOOK, f"endorse/{good[0]}/{good[1].hex()[:16]}", Endorse(*good))

    def _look_at_liars(self, speaks: bool) -> None:
        """Owe a testimony about each node of which this one is convinced, as long as it is needed and one may say more."""
        convinced = self._convinced() if speaks else {}
        liars = {node: lie for node, lie in convinced.items() if self._is_anothers(node) and not self._has_testified(node)}
        said = len(said_by(self._ledger, self._me.org, self._ledger.time_ms)) if liars else 0
        for key in [key for key in self._owed if key.startswith(TESTIMONY) and key.removeprefix(TESTIMONY) not in liars]:
            del self._owed[key]
        for node in sorted(liars)[: max(0, MAX_TESTIMONIES - said)]:
            lie = liars[node]
            self._owe(TESTIMONY + node, f"testify/{lie.answer.hex()[:32]}", Testify(node, lie.reason, lie.answer))

    def _is_anothers(self, node: NodeId) -> bool:
        key = KEYS.read(self._ledger, node)
        return key is not None and key.role == NODE and key.org != self._me.org

    def _has_testified(self, node: str) -> bool:
        """Whether the ledger has this organisation's word about ``node``, or needs it no more."""
        said = said_by(self._ledger, self._me.org, self._ledger.time_ms)
        return DISCHARGES.read(self._ledger, node) is not None or any(one.node == node for one in said)

    def _look_at_strangers(self, now: float, votes: bool) -> None:
        """Owe a vote to each motion that admits somebody, where nobody has to think about it."""
        if self._ledger.height == self._voted_at:
            return
        parameters = PARAMETERS.read(self._ledger, b"")
        wanted: dict[str, Vote] = {}
        if votes and parameters is not None and parameters["admission"] != BY_VOTE:
            motions = list(islice(queries.motions(self._ledger), SCANNED))
            self._genuine = {id_: self._genuine[id_] for id_, _ in motions if id_ in self._genuine}
            said = ((id_, self._word_on(id_, motion)) for id_, motion in motions)
            wanted = {VOTE + id_.hex()[:32]: Vote(id_, word) for id_, word in said if word is not None}
        for key in [key for key, owed in self._owed.items() if key.startswith(VOTE) and wanted.get(key) != owed.body]:
            del self._owed[key]
        for key in sorted(wanted.keys() - self._owed.keys()):
            if not self._welcomes.take(now):
                return  # looked at again with the next, as long as the motion is open
            self._owe(key, f"{key}/{'for' if wanted[key].in_favour else 'against'}", wanted[key])
        self._voted_at = self._ledger.height

    def _word_on(self, id_: bytes, motion: Motion) -> bool | None:
        """Whether this organisation, which has not voted yet, is for ``motion`` by itself, or against it; None: people decide.

        It is against what can never be carried any more, which would keep its mover's place for a voting period. Of a former member that
        comes back it knows nothing: its name and what it left behind are not for whoever asks first.
        """
        if not isinstance(motion.subject, Admit) or self._me.org in motion.in_favour or self._me.org in motion.against:
            return None
        asked = motion.subject
        known = ORGS.read(self._ledger, asked.did)
        if known is not None:
            return None if known.left_ms else False
        if id_ not in self._genuine:
            self._genuine[id_] = _is_genuine(asked)
        return True if self._genuine[id_] else None  # people may find out what it is

    def _look_at_agents(self, state: View, after: AgentId) -> AgentId | None:
        """Compare PAGE of them, those after ``after``; gives the last, None where there are no more."""
        count, prefix = 0, agent_key("")
        for key, value in state.scan(prefix):
            if key <= agent_key(after) and after:
                continue
            if count == PAGE:
                return after
            agent = decode_agent(value)
            after, count = agent.agent, count + 1
            self._compare(agent)
        return None

    def _compare(self, agent: Agent) -> None:
        if self._is_committed(agent.agent, agent.version, withdrawn=agent.withdrawn):
            self._owed.pop(agent.agent, None)
            return
        record = None if agent.withdrawn else content_hash(parse(agent.record).body)
        self._owe(agent.agent, f"commit/{agent.agent}/{agent.version}", Commit(agent.name, agent.version, record))

    def _is_committed(self, agent: AgentId, version: int, *, withdrawn: bool) -> bool:
        """Whether the ledger has this version or a later one; of what was withdrawn, whether it has none."""
        known = COMMITMENTS.read(self._ledger, agent)
        if withdrawn and (known is None or not known.record):
            return True
        return known is not None and known.version >= version

    def _owe(self, key: str, name: str, body: Body) -> None:
        known = self._owed.get(key)
        if known is None or known.name != name:
            self._owed[key] = _Owed(name, body)

    # -- sending it --------------------------------------------------------------------------------------------------

    def _in_flight(self) -> int:
        return sum(1 for owed in self._owed.values() if owed.op)

    def _send(self, now: float) -> None:
        room = AT_ONCE - self._in_flight()
        due = [owed for owed in self._owed.values() if not owed.op and owed.not_before <= now]
        for owed in due[: max(0, room)]:
            self._ops += 1
            owed.op, owed.asked_at = self._ops, now
            operation = Propose[object](Send(f"{owed.name}/{owed.attempt}".encode(), owed.body), to=TRANSACTIONS)
            self._effects.append(Tell(TRANSACTIONS, Perform(owed.op, operation, None, MACHINE)))

    def _ended(self, now: float, event: Completed) -> None:
        """An attempt has ended. Whether it is owed still is for the ledger's state to say."""
        key = next((key for key, owed in self._owed.items() if owed.op == event.op), None)
        if key is None:
            self._refresh_at = now  # of something that is owed no more; what it did may have to be undone
            return
        owed = self._owed[key]
        owed.op, owed.attempt = 0, owed.attempt + (1 if isinstance(event.outcome, Ok) else 0)
        done = _is_done(event.outcome)
        if not self._ledger.restoring and self._is_settled(owed.body, key):
            del self._owed[key]
        elif now > owed.asked_at or not isinstance(event.outcome, Ok):  # else the name had ended before: by an earlier life of this node
            owed.failures = min(owed.failures + 1, 8)
            owed.not_before = now + min(OWED_MOST_S, OWED_S * 2 ** (owed.failures - 1))
        self.refused += not done

    def _is_settled(self, body: Body, key: str) -> bool:
        if isinstance(body, Commit):
            return self._is_committed(AgentId(key), body.version, withdrawn=body.record is None)
        if isinstance(body, Vote):
            motion = MOTIONS.read(self._ledger, body.motion)
            return motion is None or self._me.org in motion.in_favour or self._me.org in motion.against
        if isinstance(body, Endorse):
            now = CODEBOOKS.read(self._ledger, b"") or Codebooks()
            return now.version >= body.version or dict(now.endorsed).get(self._me.org) == body.name
        if isinstance(body, Testify):
            return self._has_testified(body.node)
        rules = RULES.read(self._ledger, b"") or Rules()
        return dict(rules.support).get(self._me.org, 1) == SUPPORTED


def _is_genuine(asked: Admit) -> bool:
    """Whether the certificate is that of the root key: who moved it may not have looked."""
    try:
        verify_root(asked.certificate, OrgDid(asked.did), public_key_of_multikey(asked.root))
    except MeshError:
        return False
    return True


def _is_done(outcome: Outcome[object]) -> bool:
    return isinstance(outcome, Ok) and isinstance(outcome.value, Concluded) and outcome.value.outcome == COMMITTED
