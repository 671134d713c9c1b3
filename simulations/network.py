"""The simulated network: datagrams that are lost, doubled and overtaken; links that keep order until they break.

All of it is drawn from one seeded generator. Partitions are sets of ordered pairs, so one-way and partial ones are the
ordinary case. A link between two nodes behaves like TCP: what is sent arrives in order, later when packets are lost, and
a pair that is cut stalls until ``link_timeout_s``, after which both sides learn ``LinkDown``.
"""

import random
from dataclasses import dataclass, field

from meshos.ids import NodeId


@dataclass(slots=True)
class NetworkFaults:
    """What the network does to what is sent; probabilities in 0..1, times in seconds."""

    latency_s: tuple[float, float] = (0.0002, 0.002)  # drawn evenly between the two
    spike: float = 0.0  # share of packets that take up to ``spike_s`` more, and so overtake each other
    spike_s: float = 0.1
    loss: float = 0.0
    duplication: float = 0.0
    link_timeout_s: float = 5.0
    cut: set[tuple[NodeId, NodeId]] = field(default_factory=set)  # (from, to) through which nothing passes

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

    def __init__(self, rng: random.Random, faults: NetworkFaults) -> None:
        self.faults = faults
        self._random = rng.random
        self.sent = self.lost = 0

    def datagram(self, source: NodeId, target: NodeId) -> tuple[float, ...]:
        """The delays after which a datagram arrives: none, one, or two."""
        faults = self.faults
        self.sent += 1
        if (faults.cut and (source, target) in faults.cut) or (faults.loss and self._random() < faults.loss):
            self.lost += 1
            return ()
        if faults.duplication and self._random() < faults.duplication:
            return (self.delay(), self.delay())
        return (self.delay(),)

    def delay(self) -> float:
        """One way, one packet."""
        faults = self.faults
        low, high = faults.latency_s
        delay = low + (high - low) * self._random()
        if faults.spike and self._random() < faults.spike:
            delay += faults.spike_s * self._random()
        return delay

    def stream_delay(self) -> float:
        """One way for a message on a link: each packet that is lost costs a retransmission (RFC 6298: at least 200 ms)."""
        delay = self.delay()
        while self.faults.loss and self._random() < self.faults.loss:
            delay += 0.2 + self.delay()
        return delay

    def passes(self, source: NodeId, target: NodeId) -> bool:
        """Whether anything gets through from ``source`` to ``target`` now."""
        return (source, target) not in self.faults.cut
