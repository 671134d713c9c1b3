"""The scenario: which group, which clients, which faults, which checkers."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from weakref import WeakKeyDictionary

from meshos.consensus.pbft.events import Decided, Noticed
from meshos.effects import Tell
from meshos.simulations.faults.network import Heal, Partition
from meshos.simulations.faults.processes import Crash, Pause, Resume, Wall
from meshos.simulations.faults.schedule import Schedule
from meshos.simulations.marks import Mark, Marks, State
from meshos.simulations.pbft.checkers import HonestyChecker, LedgerChecker, LivenessChecker
from meshos.simulations.pbft.faults import BackUp, PutBack
from meshos.simulations.pbft.group import MACHINE, Group, liars_of
from meshos.simulations.pbft.situations import NAMES, Situations
from meshos.simulations.pbft.work import Clients
from meshos.simulations.run import Checker, Scenario, swarmed
from meshos.simulations.world import SimNode, World

UNTIL_S, BEGIN_S, SETTLE_S = 60.0, 3.0, 25.0


_groups: "WeakKeyDictionary[World, Group]" = WeakKeyDictionary()


def populate(world: World, nodes: int, *, full: bool = False) -> Sequence[Checker]:
    """A mesh of ``nodes``, in use."""
    group = _groups[world] = Group(world, nodes, full=full)
    clients = Clients(group, until_s=UNTIL_S - 0.5, changes_until_s=UNTIL_S - SETTLE_S)
    ledger = LedgerChecker(group, clients)
    return [HonestyChecker(group), LivenessChecker(group, clients, ledger), ledger, Situations(group)]


def mixture(world: World, begin_s: float, end_s: float) -> Schedule:
    """What any world can suffer, and in some seeds a disk that is put back. In the end clocks are right again: without that no fresh block
    can be agreed on. But where nobody may be blamed for anything, one is away then: the others must do without it."""
    schedule = swarmed(world, begin_s, end_s)
    schedule += _short_pauses(world, begin_s, end_s) + _short_cuts(world, begin_s, end_s)
    schedule.sort(key=lambda row: row[0])
    group = _groups[world]
    if group.forgetful is not None:
        rng = world.generator("old copies")
        taken = round(rng.uniform(begin_s, end_s - 2), 3)
        back = round(taken + rng.choice((0.05, 1.0, 10.0)) * rng.random(), 3)
        schedule += [(taken, BackUp(group.forgetful)), (min(back, end_s), PutBack(group.forgetful))]
        schedule.sort(key=lambda row: row[0])
    schedule += [(end_s, Wall(str(node), 0.0)) for node in world.nodes]
    if not group.suspects and liars_of(group.genesis.n):
        gone = world.generator("gone").choice(list(world.nodes))
        schedule.append((end_s, Crash(str(gone))))  # none lies: so one is away, from the healing on
    return schedule


def _short_pauses(world: World, begin_s: float, end_s: float) -> Schedule:
    """In some seeds one validator after the other is away for a little longer than patience, so that views change all the time."""
    rng = world.generator("short pauses")
    schedule: Schedule = []
    if rng.random() < 0.5:
        for _ in range(rng.randint(3, 12)):
            node = str(rng.choice(list(world.nodes)))
            at = round(rng.uniform(begin_s, end_s - 4), 3)
            schedule += [(at, Pause(node)), (round(at + rng.uniform(0.8, 4.0), 3), Resume(node))]
    return schedule


def _short_cuts(world: World, begin_s: float, end_s: float) -> Schedule:
    """In some seeds one node after the other is alone for a while, with what it alone has decided."""
    rng = world.generator("short cuts")
    schedule: Schedule = []
    if rng.random() < 0.5:
        for _ in range(rng.randint(5, 20)):
            alone, *others = rng.sample([str(node) for node in world.nodes], k=len(world.nodes))
            at = round(rng.uniform(begin_s, end_s - 4), 3)
            schedule += [(at, Partition(((alone,), tuple(others)))), (round(at + rng.uniform(0.8, 3.0), 3), Heal())]
    return schedule


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
    "four to six organisations agree while up to f of their validators lie, and validators come and go",
    populate,
    7,
    UNTIL_S,
    BEGIN_S,
    SETTLE_S,
    mixture=mixture,
    marks=marks,
    situations=NAMES,
)

FULL = replace(
    SCENARIO,
    name="pbft-full",
    summary="seven organisations of which two lie agree, while seats are handed over",
    populate=partial(populate, full=True),
    nodes=8,
)
