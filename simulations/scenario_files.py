"""Scenarios that a tester writes: a few lines of YAML over one of ours, or a Python file with one of its own.

    scenario: calls                 # which one it changes; the only key that must be there
    nodes: 4
    until: 60 s                     # virtual time
    begin: 10 s                     # when faults may begin
    settle: 30 s                    # how long before the end everything is mended
    seeds: 1..20                    # or one
    checkers: [call, quiet]         # of the scenario's; all of them without this key
    faults: {clogs: some, pauses: much}     # kinds that each seed draws; without this key and the next, each seed's own mixture
    schedule:                       # what happens in any case, in words
      - 12 s: partition n001 n002 | n003 n004
      - 15 s: crash n001 before sync 3 of org

A Python file gives ``SCENARIO``, a ``meshos.simulations.run.Scenario``, and may give ``SEEDS``, numbers. It is a program and runs as one.
"""

import functools
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from meshos.errors import BadInput
from meshos.protocols.tasks import located
from meshos.protocols.tasks.located import Located, Table, Text, nearest, quoted
from meshos.simulations.faults import DRAWN, Fault, Schedule, draw, from_words
from meshos.simulations.faults.fields import read_seconds
from meshos.simulations.faults.schedule import check_nodes
from meshos.simulations.run import Checker, Scenario
from meshos.simulations.scenarios import scenario_named
from meshos.simulations.world import World

T = TypeVar("T")

NAME = "bad-scenario-file"
AMOUNTS = {"little": 0.5, "some": 1.0, "much": 3.0}
KEYS = ("scenario", "nodes", "until", "begin", "settle", "seeds", "checkers", "faults", "schedule")
MAX_NODES = 5000
MAX_SEED = 2**64 - 1
MAX_SEEDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Chosen:
    """A scenario as it was chosen, and the seeds that its file names."""

    scenario: Scenario
    seeds: tuple[int, ...] = ()


def chosen(source: str) -> Chosen:
    """The scenario of a name or of a file; raises BadInput ``unknown-scenario``, ``bad-yaml`` or ``bad-scenario-file``."""
    path = Path(source)
    if path.suffix not in (".yaml", ".yml", ".py"):
        return Chosen(scenario_named(source))
    try:
        return _loaded(source, path.stat().st_mtime_ns)
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror or "it cannot be opened").lower() if isinstance(error, OSError) else "it is not text"
        raise BadInput(
            "unknown-scenario", f"{source[:200]} cannot be read: {why}", hint="`mesh sim list` names our own scenarios"
        ) from error


@functools.lru_cache(maxsize=8)
def _loaded(source: str, changed_ns: int) -> Chosen:
    """The file as it was at ``changed_ns``: a worker reads it once for many runs."""
    path = Path(source)
    given = _from_python(path) if path.suffix == ".py" else _from_yaml(path.read_text(), source)
    return replace(given, scenario=replace(given.scenario, source=source))


def seeds_of(text: str) -> tuple[int, ...]:
    """``7`` or ``1..20``; raises ValueError."""
    first, dots, last = text.partition("..")
    if not first.isdecimal() or (dots and not last.isdecimal()):
        raise ValueError(f"{text[:40]!r} is neither a seed nor a range of them, as 1..200")
    seeds = range(int(first), int(last or first) + 1)
    if int(last or first) > MAX_SEED:
        raise ValueError(f"{text[:40]!r} goes beyond the last seed, {MAX_SEED}")
    if not 0 < len(seeds) <= MAX_SEEDS:
        raise ValueError(f"{text[:40]!r} are {len(seeds)} seeds, from 1 to {MAX_SEEDS} are allowed")
    return tuple(seeds)


# -- Python ----------------------------------------------------------------------------------------------------------


def _from_python(path: Path) -> Chosen:
    spec = importlib.util.spec_from_file_location(f"scenario_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a tester's program raises is said with its line, and is no bug of ours
        inner = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else inner[-1] if inner else 1
        raise BadInput(NAME, f"{path}:{line}: {type(error).__name__}: {str(error)[:200]}") from error
    scenario, seeds = getattr(module, "SCENARIO", None), getattr(module, "SEEDS", ())
    if not isinstance(scenario, Scenario):
        raise BadInput(NAME, f"{path} has no SCENARIO", hint="give it a meshos.simulations.run.Scenario of that name")
    try:
        return Chosen(scenario, tuple(int(seed) for seed in seeds))
    except (TypeError, ValueError) as error:
        raise BadInput(NAME, f"{path}: SEEDS are numbers, as range(1, 21)") from error


# -- YAML ------------------------------------------------------------------------------------------------------------


def _from_yaml(text: str, file: str) -> Chosen:
    entries = _entries(located.from_yaml(text, file), KEYS)
    if "scenario" not in entries:
        raise BadInput(
            NAME, f"{file}: the key scenario is missing", hint="it names the scenario that this file changes, as in scenario: calls"
        )
    base = _parsed(entries["scenario"], scenario_named)
    scenario = replace(
        base,
        name=Path(file).stem,
        summary=f"{base.name}, as {file} changes it",
        nodes=_get(entries, "nodes", _count, base.nodes),
        until_s=_get(entries, "until", read_seconds, base.until_s),
        begin_s=_get(entries, "begin", read_seconds, base.begin_s),
        settle_s=_get(entries, "settle", read_seconds, base.settle_s),
    )
    end = scenario.until_s - scenario.settle_s
    if end < scenario.begin_s:
        place = next((entries[key].place for key in ("settle", "begin", "until") if key in entries), entries["scenario"].place)
        what = f"faults begin at {scenario.begin_s:g} s and are over at {end:g} s (until less settle), so there is no time for any"
        raise place.error(NAME, what)
    world = World(0)
    checkers = scenario.populate(world, scenario.nodes)
    if "checkers" in entries:
        names = _checkers(entries["checkers"], checkers)
        scenario = replace(scenario, populate=functools.partial(_with_checkers, base.populate, names))
    if "faults" in entries or "schedule" in entries:
        mixed = _mixed(entries["faults"]) if "faults" in entries else {}
        rows = _schedule(entries["schedule"], world, end) if "schedule" in entries else []
        scenario = replace(scenario, mixture=functools.partial(_as_written, rows, mixed))
    return Chosen(scenario, _get(entries, "seeds", seeds_of, ()))


def _with_checkers(
    populate: Callable[[World, int], Sequence[Checker]], names: frozenset[str], world: World, nodes: int
) -> Sequence[Checker]:
    return [checker for checker in populate(world, nodes) if checker_name(checker) in names]


def checker_name(checker: Checker) -> str:
    """How a scenario file calls it: ``CallChecker`` is ``call``."""
    return type(checker).__name__.removesuffix("Checker").lower()


def _as_written(rows: Schedule, mixed: Mapping[str, float], world: World, begin: float, end: float) -> Schedule:
    stores = list(dict.fromkeys(name for node in world.nodes.values() for name in node.spec.stores))
    names = [str(name) for name in world.nodes]
    drawn = draw(world.generator("schedule"), names, mixed, begin=begin, end=end, machines=stores)
    return sorted([*rows, *drawn], key=lambda row: row[0])


def _entries(tree: Located, known: Sequence[str]) -> dict[str, Located]:
    if not isinstance(tree, Table):
        raise tree.place.error(NAME, "this is no mapping of keys to values", hint=f"the keys are {', '.join(known)}")
    for key, _ in tree:
        if key.text not in known:
            meant = nearest(key.text, known)
            hint = f"did you mean {meant}?" if meant else f"there are {', '.join(known)}"
            raise key.place.error(NAME, f"there is no {quoted(key.text)} here", hint=hint)
    return {key.text: value for key, value in tree}


def _get(entries: Mapping[str, Located], key: str, parse: Callable[[str], T], default: T) -> T:
    return _parsed(entries[key], parse) if key in entries else default


def _parsed(value: Located, parse: Callable[[str], T]) -> T:
    if not isinstance(value, Text):
        raise value.place.error(NAME, "one value is wanted here, not a list or mapping")
    try:
        return parse(value.text)
    except ValueError as error:
        raise value.place.error(NAME, str(error)) from None
    except BadInput as error:
        raise value.place.error(NAME, error.detail, hint=error.hint) from None


def _count(text: str) -> int:
    if not text.isdecimal() or not 2 <= int(text[:9]) <= MAX_NODES:
        raise ValueError(f"{text[:40]!r} is no number of nodes from 2 to {MAX_NODES}")
    return int(text)


def _checkers(value: Located, there: Sequence[Checker]) -> frozenset[str]:
    names = [checker_name(checker) for checker in there]
    if not isinstance(value, located.Sequence) or not value.items:
        raise value.place.error(NAME, "a list of checkers is wanted here", hint=f"there are {', '.join(names)}")
    return frozenset(_parsed(item, lambda text: _one_of(text, names, "checker of this scenario")) for item in value.items)


def _one_of(text: str, known: Sequence[str], what: str) -> str:
    if text not in known:
        meant = nearest(text, known)
        raise BadInput(NAME, f"{quoted(text)} is no {what}", hint=f"did you mean {meant}?" if meant else f"there are: {', '.join(known)}")
    return text


def _mixed(value: Located) -> dict[str, float]:
    entries = _entries(value, tuple(DRAWN))
    return {kind: AMOUNTS[_parsed(much, lambda text: _one_of(text, tuple(AMOUNTS), "amount"))] for kind, much in entries.items()}


def _schedule(value: Located, world: World, end: float) -> Schedule:
    if not isinstance(value, located.Sequence):
        raise value.place.error(NAME, "a list of times and faults is wanted here", hint="write it as in - 12 s: crash n001")
    rows: Schedule = []
    for item in value.items:
        if not isinstance(item, Table):
            raise item.place.error(NAME, "a time and a fault are wanted here", hint="write it as in - 12 s: crash n001")
        for time, words in item:
            at = _parsed(time, read_seconds)
            if not 0 <= at <= end:
                raise time.place.error(NAME, f"{time.text} lies after {end:g} s (until less settle), when everything is mended")
            rows += [(at, _fault(each, world, at)) for each in (words.items if isinstance(words, located.Sequence) else (words,))]
    return rows


def _fault(value: Located, world: World, at: float) -> Fault:
    fault = _parsed(value, from_words)
    try:
        check_nodes([(at, fault)], world.nodes)
    except BadInput as error:
        raise value.place.error(NAME, error.detail, hint=error.hint) from None
    return fault
