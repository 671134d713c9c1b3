"""Testimonies: that a node which holds a part of the directory (``protocols/directory/cells``) lies in what it answers to searches.

A node finds out by itself who lies (``protocols/directory/spotting.py``), and the one that holds its organisation's seat says so here.
A testimony counts for TESTIMONY_MS. Once f + 1 organisations whose votes count, and two at least, say it of the same node, whatever the
lie, it is *discharged*: it holds nothing for DISCHARGE_MS. One of them is honest, so that f liars can have no honest node discharged.
What they have said of it is used up by that: to have it discharged again takes as many new testimonies.

A node that its organisation has removed is nobody's to testify about. Its key comes back a day later at the earliest (``keys.py``), when
all that was said of it has lapsed; how long it is discharged goes on meanwhile.
"""

from typing import ClassVar

from meshos import cbor
from meshos.consensus.ledger.agenda import DUE, PRUNE, Item, schedule
from meshos.consensus.ledger.audit import record
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.draft import Draft, Sender, Table
from meshos.consensus.ledger.fields import is_hash, is_key, malformed
from meshos.consensus.ledger.keys import KEYS, NODE
from meshos.consensus.ledger.limits import DISCHARGE_MS, MAX_TESTIMONIES, TESTIMONY_MS
from meshos.consensus.ledger.packing import pack, unpack
from meshos.consensus.ledger.seats import Seats, seats, speaks
from meshos.consensus.pbft.quorum import weak_quorum
from meshos.errors import Refused
from meshos.storage.store import View
from meshos.values import frozen

FORGED, STALE, OMITTED = "forged", "stale", "omitted"
REASONS = (FORGED, STALE, OMITTED)
"""What a node shows: what is not signed, or at a score that is not its own; an older version than it lists; less than it lists."""

LAPSES = "testimony"
"""On the agenda: a testimony of an organisation counts no longer."""

TERM_ENDS = "discharge"
"""On the agenda: a node may hold again."""

TESTIFIED, DISCHARGED, HOLDS_AGAIN = "testified", "discharged", "holds-again"
"""In the audit trail."""


@frozen
class Testimony:
    """``node`` has lied; ``answer`` is the hash of what it answered."""

    node: str
    reason: str
    answer: bytes
    time_ms: int


@frozen
class Discharge:
    """Until ``until_ms`` a node holds nothing; ``said`` has (organisation, reason) of whoever testified."""

    until_ms: int
    said: tuple[tuple[str, str], ...]


def _encode(rows: tuple[Testimony, ...]) -> bytes:
    return pack(*([one.node, one.reason, one.answer, one.time_ms] for one in rows))


def _decode(value: bytes) -> tuple[Testimony, ...]:
    return tuple(Testimony(*row) for row in unpack(value))


def _discharge(value: bytes) -> Discharge:
    until_ms, said = unpack(value)
    return Discharge(until_ms, tuple((org, reason) for org, reason in said))


TESTIMONIES: Table[tuple[Testimony, ...]] = Table(b"testimony/", _encode, _decode)
"""By organisation what it has said, the oldest first; some of it may have lapsed."""

DISCHARGES = Table(b"discharged/", lambda one: pack(one.until_ms, one.said), _discharge)
"""By node id. Where there is an entry the node holds nothing."""


@frozen
class Testify(Body):
    """The sender's organisation has found that ``node``, of another one, lies: ``answer`` is the hash of an answer that does."""

    KIND: ClassVar[str] = "testify"

    node: str
    reason: str
    answer: bytes

    @classmethod
    def read(cls, value: cbor.Value) -> "Testify":
        """From ``[node id, reason, hash]``; raises Refused ``transaction-malformed``."""
        match value:
            case [node, str() as reason, answer] if is_key(node) and reason in REASONS and is_hash(answer):
                return cls(node, reason, answer)
        raise malformed("testimony about a node")

    def fields(self) -> list[object]:
        """As ``read`` takes it."""
        return [self.node, self.reason, self.answer]

    def apply(self, draft: Draft, by: Sender) -> None:
        """Raises Refused ``no-voice``, ``holder-unknown``, ``own-node``, ``already-testified`` or ``testimonies-full``."""
        speaks(draft, by)
        accused = draft.read(KEYS, self.node)
        if accused is None or accused.role != NODE:
            raise Refused("holder-unknown", f"{self.node} is no node of an organisation of this mesh")
        if accused.org == by.org:
            raise Refused("own-node", f"{self.node} is a node of {by.org} itself, which can remove it")
        if draft.read(DISCHARGES, self.node) is not None:
            raise Refused("already-testified", f"{self.node} is discharged already")
        before = tuple(one for one in _said(draft, by.org) if _is_node(draft, one.node))
        if any(one.node == self.node for one in before):
            raise Refused("already-testified", f"{by.org} has said so of {self.node} less than a day ago")
        if len(before) >= MAX_TESTIMONIES:
            raise Refused("testimonies-full", f"{by.org} has testified about {len(before)} nodes within a day, and may about no more")
        draft.write(TESTIMONIES, by.org, (*before, Testimony(self.node, self.reason, self.answer, draft.time_ms)))
        schedule(draft, PRUNE, Item(draft.time_ms + TESTIMONY_MS + 1, LAPSES, by.org.encode()))
        record(draft, by.org, TESTIFIED, self.node, self.reason)
        self._decide(draft, by)

    def _decide(self, draft: Draft, by: Sender) -> None:
        voting = seats(draft)
        counted = [entry.org for entry in voting.entries if not entry.suspended]
        said = tuple((org, one.reason) for org in counted for one in _said(draft, org) if one.node == self.node)
        if len(said) < needed(voting):
            return
        for entry in voting.entries:
            rows = draft.read(TESTIMONIES, entry.org) or ()
            if any(one.node == self.node for one in rows):
                draft.write(TESTIMONIES, entry.org, tuple(one for one in rows if one.node != self.node) or None)
        until_ms = draft.time_ms + DISCHARGE_MS
        draft.write(DISCHARGES, self.node, Discharge(until_ms, said))
        schedule(draft, DUE, Item(until_ms, TERM_ENDS, self.node.encode()))
        record(draft, by.org, DISCHARGED, self.node, f"{len(said)} organisations say: {', '.join(sorted({reason for _, reason in said}))}")


def needed(voting: Seats) -> int:
    """So many organisations have a node discharged: one of them is honest, and none does it alone."""
    return max(2, weak_quorum(len(voting.entries)))


def _said(draft: Draft, org: str) -> tuple[Testimony, ...]:
    """What this organisation has said that counts still."""
    return tuple(one for one in draft.read(TESTIMONIES, org) or () if draft.time_ms - one.time_ms <= TESTIMONY_MS)


def _is_node(draft: Draft, name: str) -> bool:
    key = draft.read(KEYS, name)
    return key is not None and key.role == NODE


def lapse(draft: Draft, id_: bytes) -> None:
    """Forget what an organisation has said too long ago."""
    if draft.read(TESTIMONIES, id_) is not None:
        draft.write(TESTIMONIES, id_, _said(draft, id_.decode()) or None)


def end_term(draft: Draft, id_: bytes) -> None:
    """A node holds again, if its organisation still has it."""
    draft.write(DISCHARGES, id_, None)
    record(draft, "", HOLDS_AGAIN, id_.decode())


def said_by(state: View, org: str, time_ms: int) -> tuple[Testimony, ...]:
    """For questions: what an organisation has said that counts at this ledger time."""
    return tuple(one for one in TESTIMONIES.read(state, org) or () if time_ms - one.time_ms <= TESTIMONY_MS)


def discharged(state: View) -> frozenset[str]:
    """For questions: the nodes that hold nothing now."""
    return frozenset(key.removeprefix(DISCHARGES.prefix).decode() for key, _ in state.scan(DISCHARGES.prefix))
