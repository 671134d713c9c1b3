"""The scenario: which group, which clients, which faults, which checkers."""

import random
from collections.abc import Sequence

from meshos.consensus.raft.replica import Replica
from meshos.simulations.faults.processes import Crash, Mend, Restart
from meshos.simulations.faults.schedule import Fault, Schedule
from meshos.simulations.history import Linearizable
from meshos.simulations.marks import Marks, State
from meshos.simulations.raft.checkers import DurabilityChecker, RaftChecker
from meshos.simulations.raft.faults import FrozenLeaders, LonelyLeaders, ShortLivedVoters, ShortReigns
from meshos.simulations.raft.group import MACHINE, Group
from meshos.simulations.raft.registers import model
from meshos.simulations.raft.work import Clients, Operator
from meshos.simulations.run import Checker, Scenario, swarmed
from meshos.simulations.world import SimNode, World

UNTIL_S, BEGIN_S, SETTLE_S = 45.0, 2.0, 18.0


def populate(world: World, nodes: int) -> Sequence[Checker]:
    """A group of ``nodes``, in use."""
    group = Group(world, nodes)
    clients = Clients(group, until_s=UNTIL_S)
    operator = Operator(group, end_s=UNTIL_S - SETTLE_S)
    history = Linearizable(clients.history, model())
    return [group, RaftChecker(group), DurabilityChecker(group), clients, operator, history]


def mixture(world: World, begin_s: float, end_s: float) -> Schedule:
    """What any world can suffer, and in some seeds what a group fears most: power cuts that take most nodes at once or one after the
    other, leaders that die, freeze or lose the others soon, voters that die after their vote."""
    rng = world.generator("raft faults")
    schedule: Schedule = swarmed(world, begin_s, end_s) if rng.random() < 0.8 else [(end_s, Mend())]
    if rng.random() < 0.4:
        schedule += _power_cuts(rng, [str(node) for node in world.nodes], begin_s, end_s)
    schedule += leaders_suffer(rng, begin_s, end_s)
    return sorted(schedule, key=lambda row: row[0])


def leaders_suffer(rng: random.Random, begin_s: float, end_s: float) -> Schedule:
    """In some seeds leaders die, freeze or lose the others soon, or voters die after their vote."""
    schedule: Schedule = []
    for draw in (_short_reigns, _frozen_leaders, _lonely_leaders, _short_lived_voters):
        if rng.random() < 0.3:
            at = round(rng.uniform(begin_s, end_s - 3), 3)
            for_s = round(min(end_s - at, rng.choice((3.0, 10.0, 25.0))), 3)
            schedule.append((at, draw(rng, for_s)))
    return schedule


def _power_cuts(rng: random.Random, nodes: list[str], begin_s: float, end_s: float) -> Schedule:
    schedule: Schedule = []
    for _ in range(rng.randint(1, 6)):
        at = round(rng.uniform(begin_s, end_s - 1), 3)
        apart_s = rng.choice((0.0, 0.001, 0.3))
        for place, node in enumerate(rng.sample(nodes, k=rng.randint(len(nodes) // 2, len(nodes)))):
            down = round(min(at + apart_s * place, end_s - 0.01), 3)
            up = round(min(end_s, down + rng.choice((0.01, 0.5, 3.0))), 3)
            schedule += [(down, Crash(node)), (up, Restart(node))]
    return schedule


def _short_reigns(rng: random.Random, for_s: float) -> Fault:
    return ShortReigns(for_s, rng.choice((0.001, 0.004, 0.02, 0.3, 1.0)), rng.choice((0.01, 0.3, 1.0)))


def _frozen_leaders(rng: random.Random, for_s: float) -> Fault:
    return FrozenLeaders(for_s, rng.choice((0.02, 0.3, 1.0)), rng.choice((0.3, 1.0, 2.0)))


def _lonely_leaders(rng: random.Random, for_s: float) -> Fault:
    return LonelyLeaders(for_s, rng.choice((0.004, 0.02, 0.3, 1.0)), rng.choice((0, 1, 1, 2)), rng.choice((0.6, 2.0)))


def _short_lived_voters(rng: random.Random, for_s: float) -> Fault:
    return ShortLivedVoters(for_s, rng.choice((0.002, 0.01, 0.05)))


def marks(node: SimNode, machine: str, event: object, effects: list[object]) -> Marks:
    """What a timeline shows: who is what, and how far."""
    if machine == MACHINE:
        replica = node.core.machine(MACHINE)
        assert isinstance(replica, Replica)
        raft = replica.raft
        return (State("role", raft.role), State("term", str(raft.term)), State("commit", str(raft.commit)))
    return ()


SITUATIONS = (
    "a change of members was made",
    "a leader that died young",
    "a leader that froze",
    "a leader that was cut off",
    "a voter that died after its vote",
)
"""What a run of it may meet."""

SCENARIO = Scenario(
    "raft",
    "one organisation's nodes agree: nothing acknowledged is lost, reads are never old, members come and go",
    populate,
    5,
    UNTIL_S,
    BEGIN_S,
    SETTLE_S,
    mixture=mixture,
    marks=marks,
    situations=SITUATIONS,
)
