"""Faults of disks. A node whose disk fails once is dead: after a failed sync nothing that it believes of its past is known to be true."""

from dataclasses import dataclass

from meshos.ids import NodeId
from meshos.simulations.disks import Trap
from meshos.simulations.faults.fields import Node, Operation, Ordinal, Point, Seconds, Share, Store
from meshos.simulations.faults.schedule import fault
from meshos.simulations.world import World


@fault("disk of {node} fails {error_rate}")
@dataclass(frozen=True, slots=True)
class Disk:
    """From now on a share of the node's syncs fails."""

    node: Node
    error_rate: Share

    def do(self, world: World) -> None:
        world.nodes[NodeId(self.node)].disks.fail(self.error_rate)


@fault("crash {node} {point} {operation} {number} of {machine}")
@dataclass(frozen=True, slots=True)
class CrashAt:
    """The power goes at the ``number``-th ``write`` or ``sync`` from now on of the store ``machine`` (or ``any``).

    ``before`` it: nothing of it is there afterwards, nor of what was not synced before. ``torn``: a part of it is, and is found to be one.
    ``after`` it: it is on disk, and nobody has heard of it.
    """

    node: Node
    point: Point
    operation: Operation
    number: Ordinal
    machine: Store

    def do(self, world: World) -> None:
        world.nodes[NodeId(self.node)].disks.set_trap(Trap(self.machine, self.operation, self.number, self.point))


@fault("slow disk of {node} by {takes_s}")
@dataclass(frozen=True, slots=True)
class SlowDisk:
    """From now on each sync takes between half of ``takes_s`` and all of it; 0 s is a good disk again."""

    node: Node
    takes_s: Seconds

    def do(self, world: World) -> None:
        world.nodes[NodeId(self.node)].disks.slow_s = self.takes_s


@fault("stall disk of {node} for {for_s}")
@dataclass(frozen=True, slots=True)
class Stall:
    """No sync answers for so long; then all do. (A cloud volume that hangs, a controller that resets.)"""

    node: Node
    for_s: Seconds

    def do(self, world: World) -> None:
        world.nodes[NodeId(self.node)].disks.stall(self.for_s)


@fault("corrupt a key of {machine} of {node}")
@dataclass(frozen=True, slots=True)
class Corrupt:
    """A byte of one value rots, and its checksum tells whoever reads it: that ends the node, until the disk is mended."""

    node: Node
    machine: Store

    def do(self, world: World) -> None:
        world.nodes[NodeId(self.node)].disks.corrupt(self.machine)
