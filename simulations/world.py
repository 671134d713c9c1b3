"""The world: many nodes in virtual time, from one heap of events and one seed.

Theory of operation. Every node is a ``Core``, the same that runs in a process (``node/kernel/core.py``). The world is its driver
(``node.py``): it carries out effects by putting events on the heap, and time is the time of the event in hand. Nothing waits, nothing
runs twice at once, and all chance comes from generators seeded with ``seed`` and a name, so that a run is a function of
its seed and its schedule of faults.
"""

import gc
import hashlib
import itertools
import random
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Protocol, TypeAlias

from meshos.ids import NodeId, Peer
from meshos.protocols.membership.events import SendDatagram
from meshos.simulations.links import Links
from meshos.simulations.network import Network, NetworkFaults
from meshos.simulations.node import WALL_BEGIN_MS, Lasting, SimNode, Spec, Violation

__all__ = ["WALL_BEGIN_MS", "Lasting", "SimNode", "Spec", "Tracer", "Violation", "World"]

GARBAGE = 200_000
"""New objects between two collections: most of what a run makes is gone at once or stays, so looking often is in vain."""


STORM = 10_000
"""Events a node and virtual second, over a while, that no node at work has: messages that cause each other without end. Raft in use has
some hundred."""
WHILE = 65_536
"""That while is so many events, and a sixteenth of it more for each node."""

Happening: TypeAlias = tuple[float, int, Callable[..., None], tuple[object, ...]]
"""On the heap: when, the number among equals, what, with which arguments."""


class Tracer(Protocol):
    """Sees what passes between nodes and what becomes of them, for a page that shows it."""

    def sent(self, now: float, arrives: float, source: NodeId, target: NodeId, message: object) -> None:
        """A message went out; it ``arrives`` before ``now`` if it is lost."""
        ...

    def life(self, now: float, node: NodeId, what: str) -> None:
        """A node was started, crashed, paused or resumed."""
        ...


class World:
    """Virtual time, the nodes, and what happens next."""

    def __init__(self, seed: int, faults: NetworkFaults | None = None) -> None:
        self.seed = seed
        self.now = 0.0
        self.until_s = 120.0  # when the run ends, as far as whoever gives the nodes work should know
        self.steps = 0
        self.sign_range_s = (0.0001, 0.02)
        self.port_s = 0.002
        self.disk_range_s = (0.0001, 0.001)
        self.heap: list[Happening] = []
        self.numbers = itertools.count(1)
        self.nodes: dict[NodeId, SimNode] = {}
        self.network = Network(self.generator("network"), faults or NetworkFaults(), self.visited)
        self.links = Links(self)
        self.observer: Callable[[SimNode, str, object, list[object]], None] | None = None
        self.noticed: Callable[[SimNode, object], None] | None = None
        self.situations: dict[str, int] = {}  # how often each was visited
        self.tracer: Tracer | None = None
        self._disk = self.generator("disk")
        self._signing = self.generator("signing")

    def generator(self, name: str) -> random.Random:
        """A generator of its own for each source of chance, so that one more draw here changes nothing there."""
        return random.Random(hashlib.sha256(f"{self.seed}/{name}".encode()).digest())

    def visited(self, situation: str) -> None:
        """Count a situation: what a run has been through, so that one sees what no seed has been through."""
        self.situations[situation] = self.situations.get(situation, 0) + 1

    def crashed(self, node: SimNode) -> None:
        """Count what kind of crash that was."""
        living = sum(other.alive for other in self.nodes.values())
        if node.outside:
            self.visited("a crash while a tool or a signature was under way")
        if not living:
            self.visited("every node dead at once")
        elif 2 * living <= len(self.nodes):
            self.visited("half of the nodes or more dead at once")

    def add(self, spec: Spec) -> SimNode:
        """A node that is not started yet."""
        node = self.nodes[spec.node] = SimNode(self, spec)
        return node

    def peer(self, node: NodeId) -> Peer:
        """Who that is, as its certificate would prove."""
        return Peer(node, self.nodes[node].spec.org)

    def disk_s(self) -> float:
        """How long one sync takes on a good disk."""
        low, high = self.disk_range_s
        return low + (high - low) * self._disk.random()

    def disk_share(self) -> float:
        """Chance for disks that are not good."""
        return self._disk.random()

    def sign_s(self) -> float:
        """How long one signature takes: a key in a TPM takes its time."""
        low, high = self.sign_range_s
        return low + (high - low) * self._signing.random()

    def at(self, when: float, action: Callable[..., None], *arguments: object) -> None:
        """Do ``action`` at ``when``; among equals, first come first served."""
        heappush(self.heap, (when, next(self.numbers), action, arguments))

    def after(self, delay: float, action: Callable[..., None], *arguments: object) -> None:
        """Do ``action`` in ``delay`` seconds."""
        heappush(self.heap, (self.now + delay, next(self.numbers), action, arguments))

    def run(self, until: float) -> None:
        """Everything up to and including ``until``; raises Violation ``stuck`` where events cause each other without end."""
        heap = self.heap
        steps, then = 0, self.now
        whiles = WHILE + len(self.nodes) * WHILE // 16
        look = whiles
        generations = gc.get_threshold()
        gc.set_threshold(GARBAGE)
        try:
            while heap and heap[0][0] <= until:
                self.now, _, action, arguments = heappop(heap)
                steps += 1
                action(*arguments)
                if steps >= look:
                    self._check_storm(whiles, self.now - then)
                    look, then = steps + whiles, self.now
        finally:
            self.steps += steps
            gc.set_threshold(*generations)
        self.now = until

    def _check_storm(self, events: int, within_s: float) -> None:
        if events > STORM * max(1, len(self.nodes)) * within_s:
            raise Violation("stuck", f"a storm: {events} events within {within_s:.3g} s")

    def send_datagram(self, node: SimNode, effect: SendDatagram) -> None:
        """Through the network to whoever has that id now."""
        to = effect.to
        target = self.nodes.get(to)
        if target is None:
            return
        name = node.name
        if target.spec.leaf:
            raise Violation("safety", f"{name} sends a datagram to {to}, which is a leaf and says no address")
        delays = self.network.datagram(name, to, self.now)
        if self.tracer is not None:
            self.tracer.sent(self.now, self.now + min(delays, default=-1.0), name, to, effect.message)
        for delay in delays:
            arguments = (name, effect.address, effect.message)
            heappush(self.heap, (self.now + delay, next(self.numbers), target.receive, arguments))

    def notify(self, node: SimNode, effect: object) -> None:
        """An effect that no part of the world carries out: for whoever watches."""
        if self.noticed is not None:
            self.noticed(node, effect)
