"""Which proposals were applied, so that none is applied twice: a proposal is (node, session, number).

A node numbers its proposals from 1 in each *session*, one for each of its lives. It sends a proposal again wherever the first sending
may have been lost (thesis, section 6.3), and a leader may find it in its log twice. For each node the newest session's applied numbers are
remembered: all up to ``floor``, and those ``above``. A proposer says with each message up to where its numbers are settled, and never
waits for more than MAX_PROPOSALS, which bounds what is remembered.

This is part of the replicated state: the same on all nodes after the same entry.
"""

from dataclasses import dataclass, field

from meshos import cbor
from meshos.consensus.raft.keys import PROPOSED
from meshos.consensus.raft.limits import MAX_NODE_CHARS, MAX_PROPOSALS, MAX_SESSIONS
from meshos.effects import Delete, Put, Write
from meshos.errors import Broken
from meshos.ids import NodeId
from meshos.storage.store import View

_MAX_BYTES = 10 * (MAX_PROPOSALS + 8)


@dataclass(slots=True)
class Session:
    """What was applied of one node; ``used`` is the index of the entry that applied its last."""

    number: int
    floor: int = 0
    above: set[int] = field(default_factory=set)
    used: int = 0


class Sessions:
    """The sessions of all nodes."""

    def __init__(self, view: View) -> None:
        """As they lie in ``view``, a state."""
        self._of: dict[NodeId, Session] = {}
        self._touched: set[NodeId] = set()
        for key, value in view.scan(PROPOSED):
            self._of[NodeId(key[len(PROPOSED) :].decode())] = _decode(value)

    def applied(self, node: NodeId, session: int, number: int) -> bool:
        """Whether this proposal was applied, or can never be any more."""
        known = self._of.get(node)
        if known is None or session > known.number:
            return False
        return session < known.number or number <= known.floor or number in known.above

    def begin(self, node: NodeId, session: int, floor: int, index: int) -> None:
        """Proposals of ``node`` follow in the entry ``index``."""
        known = self._of.get(node)
        if known is None or session > known.number:
            known = self._of[node] = Session(session)
        if session == known.number:
            known.used = index
            if floor > known.floor:
                known.floor = floor
                known.above = {number for number in known.above if number > floor}
            self._touched.add(node)

    def apply(self, node: NodeId, number: int) -> None:
        """The proposal ``number`` of its current session is applied now."""
        known = self._of[node]
        if number == known.floor + 1:
            known.floor = number
            while known.above and known.floor + 1 in known.above:
                known.floor += 1
                known.above.remove(known.floor)
        else:
            known.above.add(number)

    def take_writes(self) -> list[Write]:
        """What changed since the last time, for the same batch as what was applied."""
        writes: list[Write] = []
        while len(self._of) > MAX_SESSIONS:
            oldest = min(self._of, key=lambda node: (self._of[node].used, node))
            del self._of[oldest]
            self._touched.discard(oldest)
            writes.append(Delete(_key(oldest)))
        writes += [Put(_key(node), _encode(self._of[node])) for node in sorted(self._touched)]
        self._touched.clear()
        return writes


def _key(node: NodeId) -> bytes:
    return PROPOSED + node.encode()


def _encode(session: Session) -> bytes:
    return cbor.encode([session.number, session.floor, session.used, sorted(session.above)])


def _decode(value: bytes) -> Session:
    fields = cbor.decode(value, max_bytes=_MAX_BYTES + MAX_NODE_CHARS, max_depth=2)
    if type(fields) is list and len(fields) == 4 and type(fields[3]) is list:
        number, floor, used, above = fields
        return Session(number, floor, set(above), used)  # type: ignore[arg-type]
    raise Broken("raft-log-broken", "what is remembered of a node's proposals cannot be read")
