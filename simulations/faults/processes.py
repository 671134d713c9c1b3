"""Faults of processes and of their clocks."""

from dataclasses import dataclass

from meshos.ids import NodeId
from meshos.simulations.faults.fields import Node, Offset, Rate
from meshos.simulations.faults.schedule import fault
from meshos.simulations.world import World


@fault("crash {node}")
@dataclass(frozen=True, slots=True)
class Crash:
    """A process dies, and of what its disk had not synced some is lost."""

    node: Node

    def do(self, world: World) -> None:
        node = world.nodes[NodeId(self.node)]
        if node.alive:
            node.crash()


@fault("restart {node}")
@dataclass(frozen=True, slots=True)
class Restart:
    """A dead process starts again on its disk."""

    node: Node

    def do(self, world: World) -> None:
        node = world.nodes[NodeId(self.node)]
        if not node.alive:
            node.start()


@fault("pause {node}")
@dataclass(frozen=True, slots=True)
class Pause:
    """SIGSTOP."""

    node: Node

    def do(self, world: World) -> None:
        world.nodes[NodeId(self.node)].pause()


@fault("resume {node}")
@dataclass(frozen=True, slots=True)
class Resume:
    """SIGCONT."""

    node: Node

    def do(self, world: World) -> None:
        world.nodes[NodeId(self.node)].resume()


@fault("clock of {node} runs at {rate}")
@dataclass(frozen=True, slots=True)
class Drift:
    """A node's clock runs at ``rate`` times true time (set before it starts: a monotonic clock never jumps)."""

    node: Node
    rate: Rate

    def do(self, world: World) -> None:
        world.nodes[NodeId(self.node)].drift = self.rate


@fault("wall clock of {node} is off by {offset_s}")
@dataclass(frozen=True, slots=True)
class Wall:
    """A node's wall clock is off by ``offset_s`` from now on: set wrong at the start, or moved while it runs."""

    node: Node
    offset_s: Offset

    def do(self, world: World) -> None:
        world.nodes[NodeId(self.node)].wall_offset_s = self.offset_s
        if world.now:
            world.visited("a wall clock jumped")


@fault("mend everything")
@dataclass(frozen=True, slots=True)
class Mend:
    """The network is whole and calm, disks work, whoever is paused goes on and whoever is dead starts again. Clocks stay wrong."""

    def do(self, world: World) -> None:
        world.network.faults.mend()
        for node in world.nodes.values():
            node.disks.mend()
        for node in world.nodes.values():
            node.resume()
            if not node.alive:
                node.start()
