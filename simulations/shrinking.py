"""``mesh sim shrink``: the smallest run that still fails, and what became smaller."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from meshos.errors import BadInput
from meshos.node.cli import output
from meshos.simulations import verdicts
from meshos.simulations.faults import in_words
from meshos.simulations.parallel import workers
from meshos.simulations.run import Report, load
from meshos.simulations.shrink import MAX_RUNS, Case, Row, Shrinker, run_case
from meshos.simulations.timeline import traced


def shrink(
    file: Annotated[Path, typer.Argument(help="A file that a run wrote when it failed.")],
    out: Annotated[Path | None, typer.Option(help="Where to write the smaller run; without it, beside the file.")] = None,
    runs: Annotated[int, typer.Option(min=1, help="How many runs to try at most.")] = MAX_RUNS,
    json_: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Find the smallest schedule that fails in the same way. Example: mesh sim shrink sim/membership-8141.json"""
    name, seed, nodes, until, schedule, _ = load(file)
    whole = Case(name, seed, nodes, until, tuple(schedule))
    path = out or file.with_suffix(".min.json")
    if not path.parent.is_dir():
        raise BadInput("usage", f"there is no folder {path.parent}", hint="name another file with --out")
    failed = run_case(whole)
    if failed.verdict == "ok":
        raise BadInput("nothing-to-shrink", f"the run in {file} does not fail", hint="it was another commit's, or is mended")
    with workers() as pool, output.progress() as shown:
        shrinker = Shrinker(whole, failed, pool, lambda case, tried: shown.at(_line(case, whole, tried)), runs)
        try:
            shrinker.shrink()
        except KeyboardInterrupt:
            output.warn("stopped: this is the smallest so far")
    least = _tidy(shrinker.case)
    report = run_case(least, record=True)
    page = path.with_suffix(".html")
    with verdicts.opened(path) as to:
        to.write(json.dumps(report.to_json(), indent=1) + "\n")
    with verdicts.opened(page) as to:
        to.write(traced(report))
    if json_:
        sizes = {"runs": shrinker.runs, "before": _size(whole), "after": _size(least), "file": str(path)}
        output.document("sim-shrink", {**sizes, "words": words(least.schedule), "run": report.to_json()})
    else:
        _print(whole, least, report, shrinker.runs, path)


def _tidy(case: Case) -> Case:
    """Without what lies after its end."""
    return replace(case, schedule=tuple(row for row in case.schedule if row[0] <= case.until_s))


def _size(case: Case) -> dict[str, float]:
    return {"faults": case.faults, "nodes": case.nodes, "until_s": case.until_s}


def _line(case: Case, whole: Case, tried: int) -> str:
    return f"{tried} runs: {case.faults} of {whole.faults} faults, {case.nodes} of {whole.nodes} nodes, {case.until_s:g} s"


def words(schedule: Sequence[Row]) -> list[str]:
    """A schedule, a line a fault."""
    return [f"{time:9.3f} s  {in_words(fault)}" for time, fault in schedule]


def _print(whole: Case, least: Case, report: Report, tried: int, path: Path) -> None:
    verdicts.tell_violation(report)
    output.say(
        f"  {whole.nodes} nodes before, {least.nodes} now; {whole.until_s:g} virtual s before, {least.until_s:g} now; {tried} runs tried"
    )
    output.say(f"Minimal schedule ({least.faults} of {whole.faults} faults)")
    output.block("\n".join(words(least.schedule)))
    output.say(f"Replay  mesh sim replay {path}")
    output.say(f"See     {path.with_suffix('.html')}")
