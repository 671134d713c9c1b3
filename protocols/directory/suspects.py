"""Whom a node has caught lying about what it holds, and of whom it is convinced: counted in rounds of the Flow that keeps the directory.

A lie that is proven by itself convinces at once. Any other is a suspicion: it takes ``CAUGHT`` of them, each ``CAUGHT_APART`` rounds after
the one before, so that nothing that passes (a restart, a moment between two messages) makes an honest node a liar.
"""

from dataclasses import dataclass, field

from meshos.ids import NodeId
from meshos.protocols.directory import limits
from meshos.protocols.directory.commands import Item
from meshos.protocols.directory.record import Sealed


@dataclass(frozen=True, slots=True)
class Lie:
    """What kind of lie (``consensus/ledger/testimonies.py``), and the hash of the answer that is one."""

    reason: str
    answer: bytes


@dataclass(frozen=True, slots=True)
class Spot:
    """In round ``due`` the holder ``node``, which has listed ``item`` in ``place`` of a layout, is asked a question that ``sealed``
    answers; questions find it in the cell ``home``."""

    layout: bytes
    node: NodeId
    place: int
    item: Item
    sealed: Sealed
    home: int
    due: int


@dataclass(slots=True)
class Suspects:
    """``spot`` is the check that is under way. ``convinced`` has the last lie of each node of which this one is convinced."""

    round: int = 0
    spot: Spot | None = None
    convinced: dict[NodeId, Lie] = field(default_factory=dict)
    _caught: dict[NodeId, list[int]] = field(default_factory=dict)
    """The rounds in which each was caught, rising; of one who is convinced of, the last."""

    def begin_round(self) -> None:
        """Another round. What was long ago counts no more: who lies no more is looked at anew."""
        self.round += 1
        for node, rounds in list(self._caught.items()):
            lasts = limits.CONVINCED_ROUNDS if node in self.convinced else limits.SUSPECTED_ROUNDS
            if self.round - rounds[-1] > lasts:
                del self._caught[node]
                self.convinced.pop(node, None)

    def catch(self, node: NodeId, lie: Lie, *, proven: bool) -> None:
        """``node`` was caught in this round."""
        rounds = self._caught.setdefault(node, [])
        if rounds and not proven and self.round - rounds[-1] < limits.CAUGHT_APART:
            return
        rounds.append(self.round)
        if proven or len(rounds) >= limits.CAUGHT:
            self.convinced[node] = lie

    def suspected(self) -> list[NodeId]:
        """Those that were caught, and of whom this node is not convinced yet."""
        return [node for node in self._caught if node not in self.convinced]
