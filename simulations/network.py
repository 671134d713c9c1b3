"""The simulated network: datagrams that are lost, doubled and overtaken; links that keep order until they break.

All of it is drawn from one seeded generator. Partitions are sets of ordered pairs, so one-way and partial ones are the
ordinary case. A link between two nodes behaves like TCP: what is sent arrives in order, later when packets are lost, and
a pair that is cut stalls until ``link_timeout_s``, after which both sides learn ``LinkDown``.

One direction between two nodes may have a *path* of its own: it loses more than the rest, or is clogged, which holds back what is
sent until it is let go, one after the other or all at once.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from meshos.ids import NodeId


def side_by_side(source: NodeId, target: NodeId) -> float:
    """The way between nodes that distance does not part."""
    return 0.0


MOST_LOSS = 0.9
"""A stream over a path that loses all never arrives; that is what a cut is for."""

RELEASE_S = 0.0005
"""What was held back in order arrives at this distance."""


@dataclass(slots=True)
class Path:
    """What one direction between two nodes suffers beside the weather; times in seconds."""

    loss: float = 0.0
    clogged_until: float = 0.0
    burst: bool = False
    held: int = 0  # what is held back now

    def wait(self, now: float) -> float:
        """For how long a packet that is sent now is held back."""
        if now >= self.clogged_until:
            self.held = 0
            return 0.0
        self.held += 1
        return self.clogged_until - now + (0.0 if self.burst else self.held * RELEASE_S)


@dataclass(slots=True)
class NetworkFaults:
    """What the network does to what is sent; probabilities in 0..1, times in seconds."""

    latency_s: tuple[float, float] = (0.0002, 0.002)  # drawn evenly between the two
    way_s: Callable[[NodeId, NodeId], float] = side_by_side  # what the distance from one to the other adds to it, each way
    spike: float = 0.0  # share of packets that take up to ``spike_s`` more, and so overtake each other
    spike_s: float = 0.1
    loss: float = 0.0
    duplication: float = 0.0
    link_timeout_s: float = 5.0
    cut: set[tuple[NodeId, NodeId]] = field(default_factory=set)  # (from, to) through which nothing passes
    paths: dict[tuple[NodeId, NodeId], Path] = field(default_factory=dict)  # (from, to) that are worse than the rest

    def path(self, source: NodeId, target: NodeId) -> Path:
        """This direction's own."""
        return self.paths.setdefault((source, target), Path())

    def mend(self) -> None:
        """Whole and calm."""
        self.heal()
        self.paths.clear()
        self.loss = self.duplication = self.spike = 0.0

    def partition(self, sides: list[list[NodeId]]) -> None:
        """Nothing passes between nodes of different sides."""
        for one in sides:
            for other in sides:
                if one is not other:
                    self.cut.update((a, b) for a in one for b in other)

    def heal(self) -> None:
        """Everything passes again."""
        self.cut.clear()


class Network:
    """Decides when, and how often, a packet arrives."""

    def __init__(self, rng: random.Random, faults: NetworkFaults, visited: Callable[[str], None]) -> None:
        self.faults = faults
        self._visited = visited
        self._random = rng.random
        self.sent = self.lost = 0

    def datagram(self, source: NodeId, target: NodeId, now: float) -> tuple[float, ...]:
        """The delays after which a datagram arrives: none, one, or two."""
        faults = self.faults
        self.sent += 1
        if (faults.cut and (source, target) in faults.cut) or (faults.loss and self._random() < faults.loss):
            self.lost += 1
            return ()
        held = 0.0
        if faults.paths and (source, target) in faults.paths:
            path = faults.paths[source, target]
            if path.loss and self._random() < path.loss:
                self.lost += 1
                return ()
            held = self._held(path, now)
        if faults.duplication and self._random() < faults.duplication:
            return (held + self.delay(source, target), held + self.delay(source, target))
        return (held + self.delay(source, target),)

    def delay(self, source: NodeId, target: NodeId) -> float:
        """One way, one packet."""
        faults = self.faults
        low, high = faults.latency_s
        delay = faults.way_s(source, target) + low + (high - low) * self._random()
        if faults.spike and self._random() < faults.spike:
            delay += faults.spike_s * self._random()
        return delay

    def stream_delay(self, source: NodeId, target: NodeId, now: float) -> float:
        """One way for a message on a link: each packet that is lost costs a retransmission (RFC 6298: at least 200 ms)."""
        faults, delay = self.faults, self.delay(source, target)
        path = faults.paths.get((source, target)) if faults.paths else None
        loss = faults.loss if path is None else max(faults.loss, path.loss)
        while loss and self._random() < min(loss, MOST_LOSS):
            delay += 0.2 + self.delay(source, target)
        return delay if path is None else delay + self._held(path, now)

    def _held(self, path: Path, now: float) -> float:
        """For how long a packet of a clogged path is held back."""
        wait = path.wait(now)
        if wait:
            self._visited("messages held back, then in a burst" if path.burst else "messages held back, then in order")
        return wait

    def passes(self, source: NodeId, target: NodeId) -> bool:
        """Whether anything gets through from ``source`` to ``target`` now."""
        return (source, target) not in self.faults.cut
