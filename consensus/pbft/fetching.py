"""Whom to ask for blocks: nodes that say that they are further.

What a node says of its height proves nothing, so it costs little to be wrong: one question at a time, a time limit, and whoever does not
answer with the block that it claimed to have is not asked again for a while. Who takes back what it has claimed is asked again after a
time limit, and so is who keeps no blocks so old, but as soon as what it keeps comes next. What comes is proven by its certificate.
"""

from dataclasses import dataclass

from meshos.consensus.pbft.limits import MAX_PEERS
from meshos.ids import NodeId

PENALTY = 5.0
"""So many time limits long a node is not asked that did not give what it claimed to have."""


@dataclass(slots=True)
class _Peer:
    height: int
    not_before: float = 0.0
    asked: float = -1.0
    oldest: int | None = None  # of its blocks, where it keeps none so old as those that were asked for

    def ready_at(self, height: int) -> float:
        """From when on it may be asked for the blocks after ``height``."""
        return 0.0 if self.oldest is not None and self.oldest <= height + 1 else self.not_before


class Fetching:
    """``timeout_s`` is how long one node is waited for."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._peers: dict[NodeId, _Peer] = {}
        self.asked: NodeId | None = None
        self._from = 0  # the height after which blocks were asked for
        self._until = 0.0

    def claims(self, peer: NodeId, height: int) -> None:
        """``peer`` says that it has committed ``height``."""
        known = self._peers.get(peer)
        if known is not None:
            known.height = max(known.height, height)
        elif len(self._peers) < MAX_PEERS:
            self._peers[peer] = _Peer(height)

    def highest(self) -> int:
        """That anybody claims."""
        return max((peer.height for peer in self._peers.values()), default=0)

    def next(self, now: float, height: int) -> NodeId | None:
        """Whom to ask for the blocks after ``height``, if anybody, and nobody is being asked: the one asked longest ago."""
        if self.asked is not None:
            return None
        able = [(peer.asked, name) for name, peer in self._peers.items() if peer.height > height and peer.ready_at(height) <= now]
        if not able:
            return None
        _, name = min(able)
        self._peers[name].asked = now
        self.asked, self._from, self._until = name, height, now + self._timeout_s
        return name

    def answered(self, peer: NodeId, now: float, height: int, *, first: int | None, oldest: int) -> None:
        """``peer`` has sent blocks from ``first`` on, or none (None). It says that it is at ``height`` and keeps blocks from ``oldest`` on.
        Blocks that were not asked for are no answer.
        """
        known = self._peers.get(peer)
        if known is not None:
            known.height = height
        wanted = self._from + 1
        if peer != self.asked or first not in (None, wanted):
            return
        asked, self.asked = self._peers[peer], None
        if first is None and (oldest > wanted or height < wanted):
            asked.oldest = oldest if oldest > wanted else None
            asked.not_before = now + self._timeout_s
        elif first is None:
            self._punish(asked, now)

    def tick(self, now: float) -> None:
        """Give up on whoever does not answer."""
        if self.asked is not None and now >= self._until:
            self._punish(self._peers[self.asked], now)
            self.asked = None

    def deadline(self, height: int) -> float | None:
        """When to look again."""
        if self.asked is not None:
            return self._until
        return min((peer.ready_at(height) for peer in self._peers.values() if peer.height > height), default=None)

    def _punish(self, peer: _Peer, now: float) -> None:
        peer.height, peer.oldest = 0, None
        peer.not_before = now + PENALTY * self._timeout_s
