"""Faults that only a group with a leader can suffer."""

from dataclasses import dataclass

from meshos.consensus.raft.replica import Replica
from meshos.simulations.faults.fields import Seconds
from meshos.simulations.faults.schedule import fault
from meshos.simulations.raft.group import MACHINE
from meshos.simulations.world import SimNode, World

LOOK_S = 0.0005
"""How often it is looked whether somebody has come to lead."""


@fault("for {for_s} leaders die {reign_s} after their election and come back after {down_s}")
@dataclass(frozen=True, slots=True)
class ShortReigns:
    """Whoever comes to lead loses its power soon after: what it has spread until then is on few disks, in a term that is over
    (Raft, figure 8)."""

    for_s: Seconds
    reign_s: Seconds
    down_s: Seconds

    def do(self, world: World) -> None:
        self._look(world, world.now + self.for_s, {})

    def _look(self, world: World, until: float, doomed: dict[str, int]) -> None:
        for node in world.nodes.values():
            if node.alive and doomed.get(node.name) != node.epoch and _leads(node):
                doomed[node.name] = node.epoch
                world.after(self.reign_s, self._cut, world, node, node.epoch)
        if world.now < until:
            world.after(LOOK_S, self._look, world, until, doomed)

    def _cut(self, world: World, node: SimNode, epoch: int) -> None:
        if node.alive and node.epoch == epoch:
            world.visited("a leader that died young")
            node.crash()
            world.after(self.down_s, _restart, node)


def _leads(node: SimNode) -> bool:
    replica = node.core.machine(MACHINE)
    return isinstance(replica, Replica) and replica.raft.role == "leader"


def _restart(node: SimNode) -> None:
    if not node.alive:
        node.start()
