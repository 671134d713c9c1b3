"""What a run came to, for people and programs: lines, tables, files and exit codes.

Exit codes, made for ``git bisect run``: 0 nothing was violated, 1 safety, 10 stuck, 11 crashed, 125 undecided (a run that this commit
cannot replay, or that is not made because nothing can be written here); 2, as everywhere, for a file that is no run at all, 130 for Ctrl-C.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from meshos.errors import Failed
from meshos.node.cli import output
from meshos.simulations import situations
from meshos.simulations.faults.processes import Mend
from meshos.simulations.run import Report, Scenario
from meshos.simulations.seeds import path_of

EXIT = {"ok": 0, "safety": 1, "stuck": 10, "crashed": 11}
UNDECIDED = 125
INTERRUPTED = 130
FOLDER = Path("sim")


def opened(file: Path) -> TextIO:
    """``file``, to be written; raises Failed ``cannot-write``."""
    try:
        return file.open("w", encoding="utf-8")
    except OSError as error:
        raise Failed("cannot-write", f"{file} cannot be written: {error.strerror}") from error


@contextmanager
def written(file: Path | None) -> Iterator[TextIO | None]:
    """The same where one is named: before anything is run for it."""
    if file is None:
        yield None
        return
    with opened(file) as out:
        yield out


def make_folder() -> None:
    """Where runs that fail are written down; raises Failed ``cannot-write``."""
    try:
        FOLDER.mkdir(exist_ok=True)
    except OSError as error:
        raise Failed("cannot-write", f"{FOLDER.absolute()} cannot be made: {error.strerror}", hint="go to a folder of your own") from error
    if not os.access(FOLDER, os.W_OK):
        raise Failed("cannot-write", f"{FOLDER.absolute()} is not yours to write in", hint="go to a folder of your own")


def save(report: Report) -> Path:
    """Write a run down so that it can be replayed; raises as ``make_folder`` and ``opened``."""
    make_folder()
    path = path_of(report.scenario, report.seed, FOLDER)
    with opened(path) as out:
        out.write(json.dumps(report.to_json(), indent=1) + "\n")
    return path


def tell_violation(report: Report) -> None:
    """In one line, and below it what else the checker has to say (a history is drawn)."""
    first, _, rest = report.message.partition("\n")
    output.say(f"FAIL {report.verdict}: {first}   seed {report.seed}")
    if rest:
        output.block(rest)


def tell_failure(report: Report, path: Path | None, page: Path | None) -> None:
    """What was violated, and what to do with it, where it was written down."""
    tell_violation(report)
    drawn = sum(not isinstance(fault, Mend) for _, fault in report.schedule)  # the mending at the end is none
    faults = f"{drawn} fault{'' if drawn == 1 else 's'} drawn"
    output.say(f"  at {report.at_s:.3f} s, after {report.steps} steps, {faults}")
    if path is not None:
        output.say(f"Replay  mesh sim replay {path}")
        output.say(f"Shrink  mesh sim shrink {path}")
    if page is not None:
        output.say(f"See     {page}")


def tell(reports: Sequence[Report], scenario: Scenario, wanted: int, took_s: float, *, coverage: bool) -> None:
    """The verdict over all runs."""
    first, failed = reports[0], sum(report.verdict != "ok" for report in reports)
    seeds = sorted(report.seed for report in reports)
    what = f"seed {first.seed}" if wanted == 1 else f"{len(reports)} seeds, {seeds[0]} to {seeds[-1]}"
    if len(reports) < wanted:
        what = f"{len(reports)} of {wanted} seeds"
    verdict = "ok  nothing violated" if not failed else f"x   {failed} of {len(reports)} violated"
    output.say(f"{verdict}: {first.scenario}, {first.nodes} nodes, {what}, {first.until_s:g} virtual s each")
    for name in sorted({name for report in reports for name in report.figures}):
        output.say(f"    {name} {sum(report.figures.get(name, 0) for report in reports):.15g}")
    _tell_coverage(situations.summed((report.visited for report in reports), scenario.situations), coverage)
    virtual_s = sum(report.at_s for report in reports)
    steps = sum(report.steps for report in reports)
    print(f"    {virtual_s / max(took_s, 1e-9):.0f} times real time, {steps} events in {took_s:.1f} s", file=sys.stderr)


def _tell_coverage(visits: Sequence[situations.Visits], table: bool) -> None:
    never = [each.situation for each in visits if not each.runs]
    output.say(f"    {len(visits) - len(never)} of {len(visits)} situations visited" + ("" if table else "; --coverage names them"))
    if not table:
        return
    output.table(
        ("SITUATION", "RUNS", "TIMES"), [(each.situation, each.runs, each.times) for each in visits if each.runs], right=("RUNS", "TIMES")
    )
    for situation in never:
        output.say(f"never: {situation}")


def document(command: str, reports: Sequence[Report], scenario: Scenario) -> None:
    """The same as one JSON document."""
    visits = situations.summed((report.visited for report in reports), scenario.situations)
    output.document(command, {"runs": [report.to_json() for report in reports], "coverage": situations.to_json(visits)})


def exit_code(reports: Sequence[Report]) -> int:
    """The worst; where safety was violated, that."""
    verdicts = {report.verdict for report in reports}
    return EXIT["safety"] if "safety" in verdicts else max((EXIT[verdict] for verdict in verdicts), default=0)
