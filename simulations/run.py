"""One run: a scenario, a seed, a schedule of faults; what was checked, and the verdict."""

import json
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TextIO, TypeAlias

from meshos.errors import BadInput
from meshos.ids import NodeId
from meshos.simulations.faults import Schedule, from_json, swarm, to_json
from meshos.simulations.faults.schedule import check_nodes
from meshos.simulations.marks import Watched, unmarked
from meshos.simulations.record import Recorder
from meshos.simulations.world import SimNode, Violation, World

FILE_VERSION = 1
MAX_FILE_BYTES = 16 * 1024 * 1024


class Checker(Protocol):
    """Watches a world and raises ``Violation`` when something does not hold that must."""

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """After each step of each machine."""
        ...

    def finish(self, world: World) -> None:
        """After the faults have ended and the world had time to settle: what must hold in the end."""
        ...


Observer: TypeAlias = Callable[[SimNode, str, object, list[object]], None]

Mixture: TypeAlias = Callable[[World, float, float], Schedule]
"""What a seed does to a world between two times: ``mixture(world, begin_s, end_s)``, at whose end everything is mended."""


def swarmed(world: World, begin_s: float, end_s: float) -> Schedule:
    """The faults that any world can suffer."""
    stores = list(dict.fromkeys(name for node in world.nodes.values() for name in node.spec.stores))
    return swarm(world.generator("schedule"), [str(name) for name in world.nodes], begin=begin_s, end=end_s, machines=stores)


def no_faults(world: World, begin_s: float, end_s: float) -> Schedule:
    """For a scenario whose checkers bring their own."""
    del world, begin_s, end_s
    return []


@dataclass(frozen=True, slots=True)
class Scenario:
    """A kind of world. ``begin_s`` is when faults may begin, ``settle_s`` how long before the end they are over.

    ``mixture`` draws the faults (a scenario with lying nodes adds theirs to ``swarmed``), ``marks`` says what a timeline shows of each
    step, ``situations`` names what ``World.visited`` may be told of by this scenario, so that what no seed has visited can be listed.
    ``broken()`` breaks the product for as long as a run lasts: a mutation (mutations.py).
    """

    name: str
    summary: str
    populate: Callable[[World, int], Sequence[Checker]]
    nodes: int
    until_s: float
    begin_s: float
    settle_s: float
    mixture: Mixture = swarmed
    marks: Watched = unmarked
    situations: tuple[str, ...] = ()
    fewest_nodes: int = 2
    broken: Callable[[], AbstractContextManager[None]] = nullcontext
    source: str = ""
    """The file that it comes from, where it is none of ours."""

    @property
    def called(self) -> str:
        """What to write to run it."""
        return self.source or self.name


@dataclass(slots=True)
class Report:
    """What a run came to. ``verdict`` is ok, safety, stuck or crashed; ``checker`` is the class that said so."""

    scenario: str
    seed: int
    nodes: int
    until_s: float
    schedule: Schedule
    verdict: str = "ok"
    message: str = ""
    checker: str = ""
    at_s: float = 0.0
    steps: int = 0
    packets: int = 0
    lost: int = 0
    digest: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    visited: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """As ``--json`` prints it and a file keeps it. Holds no wall-clock time, so that two runs give the same bytes."""
        return {
            "version": FILE_VERSION,
            "scenario": self.scenario,
            "seed": self.seed,
            "nodes": self.nodes,
            "until_s": self.until_s,
            "verdict": self.verdict,
            "message": self.message,
            "checker": self.checker,
            "at_s": self.at_s,
            "steps": self.steps,
            "packets": self.packets,
            "lost": self.lost,
            "digest": self.digest,
            "figures": self.figures,
            "visited": self.visited,
            "schedule": to_json(self.schedule),
        }


def run(
    scenario: Scenario,
    seed: int,
    *,
    nodes: int | None = None,
    until_s: float | None = None,
    schedule: Schedule | None = None,
    record: bool = False,
    log: TextIO | None = None,
    tracer: Callable[[Scenario, World], Observer] | None = None,
) -> Report:
    """Run once. Without a schedule, one is drawn from the seed. ``record`` hashes every step (some ten times slower). ``tracer`` is
    called with the world before it starts, and gives what observes each step beside the checkers."""
    with scenario.broken():
        return _run(scenario, seed, nodes, until_s, schedule, record=record, log=log, tracer=tracer)


def _run(
    scenario: Scenario,
    seed: int,
    nodes: int | None,
    until_s: float | None,
    schedule: Schedule | None,
    *,
    record: bool,
    log: TextIO | None,
    tracer: Callable[[Scenario, World], Observer] | None,
) -> Report:
    size = scenario.nodes if nodes is None else nodes
    if size < scenario.fewest_nodes:
        raise BadInput("too-few-nodes", f"{scenario.name} needs {scenario.fewest_nodes} nodes or more, not {size}")
    until = scenario.until_s if until_s is None else until_s
    world = World(seed)
    world.until_s = until
    checkers = list(scenario.populate(world, size))
    if schedule is None:
        schedule = scenario.mixture(world, scenario.begin_s, max(scenario.begin_s, until - scenario.settle_s))
    check_nodes(schedule, world.nodes)
    report = Report(scenario.called, seed, size, until, schedule)
    recorder = Recorder(log) if record or log is not None else None
    observers = list[Observer](checker.observe for checker in checkers)
    if recorder is not None:
        observers.append(recorder.observe)
    if tracer is not None:
        observers.append(tracer(scenario, world))
    world.observer = _together(observers)
    for at, fault in schedule:
        if at <= 0:
            fault.do(world)
        else:
            world.at(at, fault.do, world)
    try:
        for node in world.nodes.values():
            node.start()
        world.run(until)
        for checker in checkers:
            checker.finish(world)
    except Violation as violation:
        report.verdict, report.message = violation.kind, violation.message
        report.checker = _raised_by(violation, checkers)
    except Exception as error:  # whatever a machine raises is a bug of ours, and the run's verdict
        where = traceback.extract_tb(error.__traceback__)[-1]
        report.verdict, report.message = "crashed", f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
    report.at_s, report.steps = world.now, world.steps
    report.packets, report.lost = world.network.sent, world.network.lost
    report.visited = dict(sorted(world.situations.items()))
    report.digest = recorder.digest() if recorder is not None else ""
    for checker in checkers:
        report.figures.update(getattr(checker, "figures", {}))
    return report


def _raised_by(violation: Violation, checkers: Sequence[Checker]) -> str:
    """Which checker it was, by the frames that it came through; none, where a machine's own report ended the run."""
    for frame, _ in traceback.walk_tb(violation.__traceback__):
        for checker in checkers:
            if frame.f_locals.get("self") is checker:
                return type(checker).__name__
    return ""


def _together(observers: Sequence[Observer]) -> Observer | None:
    if len(observers) == 1:
        return observers[0]

    def observe(node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        for each in observers:
            each(node, machine, event, effects)

    return observe if observers else None


def load(path: Path) -> tuple[str, int, int, float, Schedule, str]:
    """Scenario, seed, nodes, until, schedule and digest of a file that a run wrote.

    Raises BadInput ``bad-run-file``, or ``other-run-version`` for a run that another commit can replay.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadInput("bad-run-file", f"{path} is larger than {MAX_FILE_BYTES} bytes")
        document = json.loads(path.read_text())
    except OSError as error:
        why = (error.strerror or "it cannot be opened").lower()
        raise BadInput("bad-run-file", f"{path} cannot be read: {why}", hint="`mesh sim run` says where it writes") from error
    except (ValueError, RecursionError) as error:
        raise BadInput("bad-run-file", f"{path} is no run: it is not JSON", hint="give a file that `mesh sim run` wrote") from error
    if not isinstance(document, dict) or "version" not in document:
        raise BadInput("bad-run-file", f"{path} is no run", hint="give a file that `mesh sim run` wrote")
    if document["version"] != FILE_VERSION:
        raise BadInput("other-run-version", f"{path} is a run of another version than {FILE_VERSION}", hint="replay it at its commit")
    try:
        return (
            str(document["scenario"]),
            int(document["seed"]),
            int(document["nodes"]),
            float(document["until_s"]),
            from_json(document["schedule"]),
            str(document.get("digest", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput("bad-run-file", f"{path} lacks or garbles the field {error}") from error


def node_ids(count: int) -> list[NodeId]:
    """n001, n002, …: ids that sort."""
    return [NodeId(f"n{number:03d}") for number in range(1, count + 1)]
