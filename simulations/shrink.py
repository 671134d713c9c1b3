"""The smallest run that still fails: what a person wants to look at, out of what a seed has drawn.

Delta debugging (Zeller, Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE TSE 2002, section 3: *ddmin*) over the
rows of the schedule; then each fault is made simpler field by field, times are rounded, the run is cut short and the nodes become
fewer. What is left is 1-minimal: without any one of its faults the run does not fail in this way. Each candidate is run anew, so
nothing is assumed of how faults hang together; that ``Mend`` ends the faults is never taken away, since a mesh that is
not mended is stuck for that reason alone.

"In this way" means: the same verdict of the same checker, in a message that differs in names and numbers only. A candidate that fails
otherwise is another bug, and no smaller form of this one (Regehr et al., "Test-Case Reduction for C Compiler Bugs", PLDI 2012,
call it slippage).
"""

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from meshos.errors import BadInput
from meshos.simulations.faults import Fault, Mend
from meshos.simulations.faults.schedule import nodes_named, simpler
from meshos.simulations.parallel import Workers
from meshos.simulations.run import Report, run
from meshos.simulations.scenario_files import chosen

MAX_RUNS = 5000
"""Candidates that are tried at most: what is smaller after so many is smaller by little."""


Row: TypeAlias = tuple[float, Fault]


@dataclass(frozen=True, slots=True)
class Case:
    """A run that may fail."""

    source: str
    seed: int
    nodes: int
    until_s: float
    schedule: tuple[Row, ...]

    @property
    def faults(self) -> int:
        """How many there are, the mending at the end aside."""
        return sum(not isinstance(fault, Mend) for _, fault in self.schedule)


Sort: TypeAlias = tuple[str, str, str]
"""Verdict, checker, and message without what differs between two runs of one bug."""

_PARTICULAR = re.compile(r"\[[^\]]*\]|'[^']*'|\"[^\"]*\"|\([^)]*\)|\S*[0-9]\S*")


def sort_of(report: Report) -> Sort:
    """What kind of failure that is."""
    return report.verdict, report.checker, " ".join(_PARTICULAR.sub("*", report.message).split())


def try_case(wanted: Sort, case: Case) -> float | None:
    """When it fails in the way that is wanted, or None if it does not."""
    try:
        report = run_case(case)
    except BadInput:  # fewer nodes than a fault names, or than the scenario can have
        return None
    return report.at_s if sort_of(report) == wanted else None


def run_case(case: Case, *, record: bool = False) -> Report:
    """Run it."""
    scenario = chosen(case.source).scenario
    return run(scenario, case.seed, nodes=case.nodes, until_s=case.until_s, schedule=list(case.schedule), record=record)


class Shrinker:
    """Makes a case that ``failed`` smaller. ``told(case, runs)`` hears of each step."""

    def __init__(self, case: Case, failed: Report, pool: Workers, told: Callable[[Case, int], None], max_runs: int = MAX_RUNS) -> None:
        self.case = case
        self.runs = 0
        self._pool = pool
        self._told = told
        self._test = partial(try_case, sort_of(failed))
        self._known: dict[Case, float | None] = {case: failed.at_s}
        self._max_runs = max_runs
        self._fewest = chosen(case.source).scenario.fewest_nodes

    def shrink(self) -> Case:
        """All that helps, again and again until nothing does."""
        while True:
            before = self.case
            for reduce in (self._cut_short, self._fewer_faults, self._fewer_nodes, self._simpler_faults, self._rounder_times):
                reduce()
            if self.case == before or self.runs >= self._max_runs:
                return self.case

    # -- ways to make it smaller -------------------------------------------------------------------------------------

    def _fewer_faults(self) -> None:
        """ddmin: try each part alone, then all but each part, in ever smaller parts."""
        if self._first([self._with_rows([])]) is not None:
            return
        parts = 2
        while len(rows := self._rows()) >= 1:
            parts = min(parts, len(rows))
            chunks = _split(rows, parts)
            subsets = [self._with_rows(chunk) for chunk in chunks] if parts > 1 else []
            complements = [self._with_rows([row for other in chunks if other is not chunk for row in other]) for chunk in chunks]
            found = self._first([*subsets, *complements] if parts > 2 or parts == 1 else subsets)
            if found is None:
                if parts >= len(rows):
                    return
                parts = min(len(rows), 2 * parts)
            else:
                parts = 2 if found < len(subsets) else max(2, parts - 1)

    def _simpler_faults(self) -> None:
        """One field of one fault at a time."""
        at = 0
        while at < len(rows := self._rows()):
            time, fault = rows[at]
            candidates = [self._with_rows([*rows[:at], (time, each), *rows[at + 1 :]]) for each in simpler(fault)]
            if self._first(candidates) is None:
                at += 1

    def _rounder_times(self) -> None:
        """Times as a person would choose them."""
        for at in range(len(self._rows())):
            rows = self._rows()
            time, fault = rows[at]
            rounder = dict.fromkeys(each for each in (round(time), round(time, 1), round(time, 2)) if each != time)
            self._first(self._with_rows([*rows[:at], (float(each), fault), *rows[at + 1 :]]) for each in rounder)

    def _cut_short(self) -> None:
        """End just after the failure; or mend earlier, and end earlier by as much."""
        failed_s = self._known[self.case]
        if failed_s is not None and (soon := math.ceil(failed_s) + 1.0) < self.case.until_s:
            self._first([replace(self.case, until_s=soon)])
        case, rows = self.case, self._rows()
        end = max((time for time, fault in case.schedule if isinstance(fault, Mend)), default=None)
        last = max((time for time, _ in rows), default=0.0)
        if end is None or end > case.until_s:
            return
        ends = sorted({float(round(last + (end - last) * share) + 1) for share in (0.0, 0.1, 0.3, 0.6)})
        self._first(self._ending(case, each, case.until_s - (end - each)) for each in ends if each < end - 1)

    def _ending(self, case: Case, mend_s: float, until_s: float) -> Case:
        schedule = tuple((mend_s if isinstance(fault, Mend) else time, fault) for time, fault in case.schedule)
        return replace(case, schedule=schedule, until_s=until_s)

    def _fewer_nodes(self) -> None:
        """As few as there can be, beginning with the fewest. Whoever is named must stay."""
        named = {node for _, fault in self._rows() for node in nodes_named(fault)}
        numbers = [int(digits) for node in named if (digits := re.sub(r"\D", "", node))]
        fewest = max([self._fewest, *numbers])
        sizes = sorted({*range(fewest, min(fewest + 4, self.case.nodes)), (fewest + self.case.nodes) // 2})
        self._first(replace(self.case, nodes=size) for size in sizes if fewest <= size < self.case.nodes)

    # -- the rest ----------------------------------------------------------------------------------------------------

    def _rows(self) -> list[Row]:
        return [row for row in self.case.schedule if not isinstance(row[1], Mend)]

    def _with_rows(self, rows: Sequence[Row]) -> Case:
        mends = [row for row in self.case.schedule if isinstance(row[1], Mend)]
        return replace(self.case, schedule=tuple(sorted([*rows, *mends], key=lambda row: row[0])))

    def _first(self, candidates: Iterable[Case]) -> int | None:
        """Take the first candidate that still fails; which one it was. What was tried is not tried again."""
        listed = list(candidates)
        fresh = [case for case in dict.fromkeys(listed) if case not in self._known][: max(0, self._max_runs - self.runs)]
        answers: Iterator[float | None] = self._pool.map(self._test, fresh, ahead=1)
        for at, case in enumerate(listed):
            if case not in self._known:
                if self.runs >= self._max_runs:
                    return None
                self.runs += 1
                self._known[case] = next(answers)
            if self._known[case] is not None and case != self.case:
                self.case = case
                self._told(case, self.runs)
                return at
        self._told(self.case, self.runs)
        return None


def _split(rows: Sequence[Row], parts: int) -> list[list[Row]]:
    size, more = divmod(len(rows), parts)
    ends = [0]
    for part in range(parts):
        ends.append(ends[-1] + size + (part < more))
    return [list(rows[one:other]) for one, other in itertools.pairwise(ends)]
