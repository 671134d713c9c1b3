"""The scenario: which group, which clients, which faults, which checkers."""

from collections.abc import Sequence

from meshos.consensus.raft.replica import Replica
from meshos.simulations.faults.processes import Crash, Restart
from meshos.simulations.faults.schedule import Schedule
from meshos.simulations.history import Linearizable
from meshos.simulations.marks import Marks, State
from meshos.simulations.raft.checkers import DurabilityChecker, RaftChecker
from meshos.simulations.raft.group import MACHINE, Group
from meshos.simulations.raft.registers import model
from meshos.simulations.raft.work import Clients, Operator
from meshos.simulations.run import Checker, Scenario, swarmed
from meshos.simulations.world import SimNode, World

UNTIL_S, BEGIN_S, SETTLE_S = 90.0, 3.0, 40.0


def populate(world: World, nodes: int) -> Sequence[Checker]:
    """A group of ``nodes``, in use."""
    group = Group(world, nodes)
    clients = Clients(group, until_s=UNTIL_S)
    operator = Operator(group, end_s=UNTIL_S - SETTLE_S)
    history = Linearizable(clients.history, model())
    return [group, RaftChecker(group), DurabilityChecker(group), clients, operator, history]


def mixture(world: World, begin_s: float, end_s: float) -> Schedule:
    """What any world can suffer, and in some seeds the power cut that takes most nodes at once, or one after the other."""
    schedule = swarmed(world, begin_s, end_s)
    rng = world.generator("power cuts")
    if rng.random() < 0.5:
        nodes = [str(node) for node in world.nodes]
        for _ in range(rng.randint(1, 6)):
            at = round(rng.uniform(begin_s, end_s - 1), 3)
            apart_s = rng.choice((0.0, 0.001, 0.3))
            for place, node in enumerate(rng.sample(nodes, k=rng.randint(len(nodes) // 2, len(nodes)))):
                down = round(at + apart_s * place, 3)
                up = round(min(end_s, down + rng.choice((0.01, 0.5, 3.0))), 3)
                schedule += [(down, Crash(node)), (up, Restart(node))]
        schedule.sort(key=lambda row: row[0])
    return schedule


def marks(node: SimNode, machine: str, event: object, effects: list[object]) -> Marks:
    """What a timeline shows: who is what, and how far."""
    if machine == MACHINE:
        replica = node.core.machine(MACHINE)
        assert isinstance(replica, Replica)
        raft = replica.raft
        return (State("role", raft.role), State("term", str(raft.term)), State("commit", str(raft.commit)))
    return ()


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
)
