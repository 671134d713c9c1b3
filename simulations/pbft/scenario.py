"""The scenario: which group, which clients, which faults, which checkers."""

from collections.abc import Sequence

from meshos.consensus.pbft.events import Decided, Noticed
from meshos.effects import Tell
from meshos.simulations.faults.processes import Wall
from meshos.simulations.faults.schedule import Schedule
from meshos.simulations.marks import Mark, Marks, State
from meshos.simulations.pbft.checkers import HonestyChecker, LedgerChecker, LivenessChecker
from meshos.simulations.pbft.group import MACHINE, Group
from meshos.simulations.pbft.work import Clients
from meshos.simulations.run import Checker, Scenario, swarmed
from meshos.simulations.world import SimNode, World

UNTIL_S, BEGIN_S, SETTLE_S = 60.0, 3.0, 25.0


def populate(world: World, nodes: int) -> Sequence[Checker]:
    """A mesh of ``nodes``, in use."""
    group = Group(world, nodes)
    clients = Clients(group, until_s=UNTIL_S - 0.5, changes_until_s=UNTIL_S - SETTLE_S)
    ledger = LedgerChecker(group, clients)
    return [HonestyChecker(group), LivenessChecker(group, clients, ledger), ledger]


def mixture(world: World, begin_s: float, end_s: float) -> Schedule:
    """What any world can suffer. In the end clocks are right again: without that no fresh block can be agreed on."""
    schedule = swarmed(world, begin_s, end_s)
    return schedule + [(end_s, Wall(str(node), 0.0)) for node in world.nodes]


def marks(node: SimNode, machine: str, event: object, effects: list[object]) -> Marks:
    """What a timeline shows: height, view and epoch of each, and what it refuses."""
    if machine != MACHINE:
        return
    for effect in effects:
        if type(effect) is Tell and isinstance(effect.event, Noticed):
            yield Mark(effect.event.error.name, "refusal")
        elif type(effect) is Tell and isinstance(effect.event, Decided):
            header = effect.event.certified.block.header
            yield State("height", str(header.height))
            yield State("epoch", str(header.epoch))
            yield State("view", str(effect.event.certified.certificate.view))


SCENARIO = Scenario(
    "pbft",
    "organisations agree while up to f of their validators lie, and validators come and go",
    populate,
    7,
    UNTIL_S,
    BEGIN_S,
    SETTLE_S,
    mixture=mixture,
    marks=marks,
    situations=("other validators came into force",),
)
