"""Faults of the network: who hears whom, how late, and how much is lost on the way.

Datagrams may be lost, doubled and overtaken. What is on a link is not: a link loses nothing and keeps order until it breaks. So there a
loss is a delay, a cut ends in a break, and only around a break are messages lost, or delivered although their sender gave them up
(``links.py``).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from meshos.ids import NodeId
from meshos.simulations.faults.fields import Node, Nodes, Release, Seconds, Share, Sides
from meshos.simulations.faults.schedule import fault
from meshos.simulations.world import World


@fault("partition {sides}")
@dataclass(frozen=True, slots=True)
class Partition:
    """Nothing passes between nodes of different sides; a node on no side hears everybody (a bridge)."""

    sides: Sides

    def do(self, world: World) -> None:
        if world.network.faults.cut:
            world.visited("a partition on top of another")
        world.network.faults.partition([[NodeId(node) for node in side] for side in self.sides])


@fault("ring {nodes}")
@dataclass(frozen=True, slots=True)
class Ring:
    """Each of ``nodes`` hears only its two neighbours of the list (and whoever is not in it): no majority sees the same."""

    nodes: Nodes

    def do(self, world: World) -> None:
        world.visited("a ring of neighbours")
        size = len(self.nodes)
        for at, one in enumerate(self.nodes):
            far = (other for place, other in enumerate(self.nodes) if 1 < (place - at) % size < size - 1)
            world.network.faults.cut.update((NodeId(one), NodeId(other)) for other in far)


@fault("mute {source} to {targets}")
@dataclass(frozen=True, slots=True)
class OneWay:
    """What ``source`` sends to ``targets`` is lost; the other direction passes."""

    source: Node
    targets: Nodes

    def do(self, world: World) -> None:
        world.network.faults.cut.update((NodeId(self.source), NodeId(target)) for target in self.targets)


@fault("heal")
@dataclass(frozen=True, slots=True)
class Heal:
    """Every cut is mended."""

    def do(self, world: World) -> None:
        if world.network.faults.cut and world.links.stalled:
            world.visited("a partition healed with messages stalled in it")
        world.network.faults.heal()


@fault("weather loss {loss} duplication {duplication} spikes {spike} up to {spike_s}")
@dataclass(frozen=True, slots=True)
class Weather:
    """How the whole network is from now on; see ``NetworkFaults``."""

    loss: Share
    duplication: Share
    spike: Share
    spike_s: Seconds

    def do(self, world: World) -> None:
        faults = world.network.faults
        faults.loss, faults.duplication, faults.spike, faults.spike_s = self.loss, self.duplication, self.spike, self.spike_s


CALM = Weather(loss=0.0, duplication=0.0, spike=0.0, spike_s=0.0)


@fault("lose {share} of what {source} sends to {targets}")
@dataclass(frozen=True, slots=True)
class Lossy:
    """A share of the packets of these directions is lost, and not of the other way."""

    source: Node
    targets: Nodes
    share: Share

    def do(self, world: World) -> None:
        for target in self.targets:
            world.network.faults.path(NodeId(self.source), NodeId(target)).loss = self.share


@fault("clog {source} to {targets} for {for_s} then in {release}")
@dataclass(frozen=True, slots=True)
class Clog:
    """What ``source`` sends to ``targets`` is held back, then let go: in ``order``, one after the other, or in a ``burst``, all at once.

    (TigerBeetle's packet simulator clogs paths; a burst is what a switch does that comes back with full buffers.)
    """

    source: Node
    targets: Nodes
    for_s: Seconds
    release: Release

    def do(self, world: World) -> None:
        _clog(world, ((self.source, target) for target in self.targets), self.for_s, self.release)


@fault("clog all of {node} for {for_s} then in {release}")
@dataclass(frozen=True, slots=True)
class ClogNode:
    """The same for everything that comes to ``node`` or leaves it."""

    node: Node
    for_s: Seconds
    release: Release

    def do(self, world: World) -> None:
        others = [other for other in world.nodes if other != self.node]
        _clog(world, ((self.node, other) for other in others), self.for_s, self.release)
        _clog(world, ((other, self.node) for other in others), self.for_s, self.release)


def _clog(world: World, pairs: Iterable[tuple[str, str]], for_s: float, release: str) -> None:
    for source, target in pairs:
        path = world.network.faults.path(NodeId(source), NodeId(target))
        path.clogged_until = max(path.clogged_until, world.now + for_s)
        path.burst = release == "burst"
    world.visited("messages held back, then in a burst" if release == "burst" else "messages held back, then in order")


@fault("break links of {node} to {targets}")
@dataclass(frozen=True, slots=True)
class Unlink:
    """Links are reset, as by a router that restarts: what is on them is lost, or arrives after its sender has seen the break."""

    node: Node
    targets: Nodes

    def do(self, world: World) -> None:
        for target in self.targets:
            world.links.reset(NodeId(self.node), NodeId(target))
