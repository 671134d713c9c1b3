"""Faults that only a group with a leader can suffer: what happens to whoever leads, or has just voted."""

from collections.abc import Callable
from dataclasses import dataclass

from meshos.consensus.org.machine import MACHINE as ORG
from meshos.consensus.org.machine import OrgMachine
from meshos.consensus.raft.replica import Replica
from meshos.simulations.faults.fields import Count, Seconds
from meshos.simulations.faults.schedule import fault
from meshos.simulations.raft.group import MACHINE
from meshos.simulations.world import SimNode, World

LOOK_S = 0.001
"""How often it is looked whether somebody has come to lead, or has voted."""


@fault("for {for_s} leaders die {reign_s} after their election and come back after {down_s}")
@dataclass(frozen=True, slots=True)
class ShortReigns:
    """Whoever comes to lead loses its power soon after: what it has spread until then is on few disks, in a term that is over
    (Raft, figure 8)."""

    for_s: Seconds
    reign_s: Seconds
    down_s: Seconds

    def do(self, world: World) -> None:
        _watch(world, self.for_s, _leads, lambda node, epoch: world.after(self.reign_s, self._cut, world, node, epoch))

    def _cut(self, world: World, node: SimNode, epoch: int) -> None:
        if node.alive and node.epoch == epoch:
            world.visited("a leader that died young")
            node.crash()
            world.after(self.down_s, _restart, node)


@fault("for {for_s} leaders freeze {reign_s} after their election, for {frozen_s}")
@dataclass(frozen=True, slots=True)
class FrozenLeaders:
    """Whoever comes to lead stops soon after, and goes on later as if nothing had happened meanwhile."""

    for_s: Seconds
    reign_s: Seconds
    frozen_s: Seconds

    def do(self, world: World) -> None:
        _watch(world, self.for_s, _leads, lambda node, epoch: world.after(self.reign_s, self._freeze, world, node, epoch))

    def _freeze(self, world: World, node: SimNode, epoch: int) -> None:
        if node.alive and node.epoch == epoch:
            world.visited("a leader that froze")
            node.pause()
            world.after(self.frozen_s, node.resume)


@fault("for {for_s} leaders are cut off {reign_s} after their election, with {others} others, for {cut_s}")
@dataclass(frozen=True, slots=True)
class LonelyLeaders:
    """Whoever comes to lead soon hears few of the others, or none."""

    for_s: Seconds
    reign_s: Seconds
    others: Count
    cut_s: Seconds

    def do(self, world: World) -> None:
        _watch(world, self.for_s, _leads, lambda node, epoch: world.after(self.reign_s, self._cut, world, node))

    def _cut(self, world: World, node: SimNode) -> None:
        world.visited("a leader that was cut off")
        others = [other for other in world.nodes if other != node.name]
        world.generator(f"lonely/{world.now}").shuffle(others)
        world.network.faults.partition([[node.name, *others[: self.others]], others[self.others :]])
        world.after(self.cut_s, world.network.faults.heal)


@fault("for {for_s} voters die as soon as they have voted and come back after {down_s}")
@dataclass(frozen=True, slots=True)
class ShortLivedVoters:
    """Whoever has voted for somebody else loses its power, and must still know of its vote when another candidate asks."""

    for_s: Seconds
    down_s: Seconds

    def do(self, world: World) -> None:
        _watch(world, self.for_s, _voted, lambda node, epoch: self._cut(world, node))

    def _cut(self, world: World, node: SimNode) -> None:
        world.visited("a voter that died after its vote")
        node.crash()
        world.after(self.down_s, _restart, node)


def _watch(world: World, for_s: float, when: Callable[[Replica], bool], then: Callable[[SimNode, int], None]) -> None:
    """For so long, whenever a node has come to be as ``when`` says; once a term, over all its lives."""
    seen: dict[str, int] = {}
    until = world.now + for_s

    def look() -> None:
        for node in world.nodes.values():
            replica = _replica(node) if node.alive and not node.paused else None
            if replica is not None and when(replica) and seen.get(node.name) != replica.raft.term:
                seen[node.name] = replica.raft.term
                then(node, node.epoch)
        if world.now < until:
            world.after(LOOK_S, look)

    look()


def _replica(node: SimNode) -> Replica | None:
    """Of a node of one group, or of an organisation."""
    machine = node.core.machine(MACHINE if MACHINE in node.stores else ORG)
    return machine.replica if isinstance(machine, OrgMachine) else machine if isinstance(machine, Replica) else None


def _leads(replica: Replica) -> bool:
    return replica.raft.role == "leader"


def _voted(replica: Replica) -> bool:
    """It has voted for another node, on disk, and does not know yet who was elected."""
    s = replica.raft.state
    return s.vote not in (None, s.node) and s.leader is None and s.unstored_since is None


def _restart(node: SimNode) -> None:
    if not node.alive:
        node.start()
