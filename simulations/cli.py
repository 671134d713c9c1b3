"""``mesh sim``: chaos in virtual time. Joins the command line by the entry point ``meshos.commands``.

Exit codes, made for ``git bisect run``: 0 nothing was violated, 1 safety, 10 stuck, 11 crashed, 125 undecided (a run that
this commit cannot replay); 2, as everywhere, for a file that is no run at all.
"""

import json
import multiprocessing
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.console import Console
from rich.table import Table

from meshos.errors import BadInput
from meshos.node.api import problems
from meshos.node.cli import later, output
from meshos.simulations import flight_cli
from meshos.simulations.run import Report, load, run
from meshos.simulations.scenarios import SCENARIOS, scenario_named

EXIT = {"ok": 0, "safety": 1, "stuck": 10, "crashed": 11}
UNDECIDED = 125
FOLDER = Path("sim")
MOVING_S = 1.0
"""On a terminal the line moves this often; a run that is over sooner shows none."""
STILL_S = 10.0
"""Elsewhere a line is written this often, and with each seed that is bad."""

app = typer.Typer(help="Chaos in virtual time: the nodes' own machines, hurt by a seed.", no_args_is_help=True)
later.register(app, later.SIM_COMMANDS, "mesh sim")
stderr = Console(stderr=True, highlight=False)


def register(root: typer.Typer) -> None:
    """Add ``mesh sim`` to the command line."""
    root.add_typer(app, name="sim")


@app.command("list")
def list_(json_: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False) -> None:
    """The scenarios. Example: mesh sim list"""
    if json_:
        rows = [{"name": s.name, "summary": s.summary, "nodes": s.nodes, "until_s": s.until_s} for s in SCENARIOS.values()]
        output.document("sim-list", {"scenarios": rows})
        return
    table = Table("SCENARIO", "NODES", "UNTIL", "WHAT IT HURTS", box=None, pad_edge=False)
    for scenario in SCENARIOS.values():
        table.add_row(scenario.name, str(scenario.nodes), f"{scenario.until_s:g} s", scenario.summary)
    Console(highlight=False).print(table)


@app.command("run")
def run_(
    scenario: Annotated[str, typer.Argument(help="Which one; `mesh sim list` names them.")] = "membership",
    seed: Annotated[int | None, typer.Option(help="The seed; without one, a new one is drawn and printed.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Many seeds, A..B, on all cores.")] = None,
    nodes: Annotated[int | None, typer.Option(min=2, max=5000, help="How many nodes.")] = None,
    until: Annotated[float | None, typer.Option(min=1, help="Virtual seconds.")] = None,
    log: Annotated[Path | None, typer.Option(help="Write the decision log here, one JSON line a step.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON document; no wall-clock time in it.")] = False,
) -> None:
    """Run a scenario. Example: mesh sim run membership --seeds 1..200 --nodes 30 --until 120"""
    scenario_named(scenario)  # refuses an unknown name before anything starts
    wanted = _range(seeds) if seeds else [seed if seed is not None else time.time_ns() % 1_000_000]
    begun = time.perf_counter()
    if len(wanted) == 1:
        with _opened(log) as out:
            reports = [run(scenario_named(scenario), wanted[0], nodes=nodes, until_s=until, log=out)]
    else:
        reports = list(_many(scenario, wanted, nodes, until, quiet=json_))
    _finish(reports, time.perf_counter() - begun, json_)


@app.command("replay")
def replay(
    file: Annotated[Path | None, typer.Argument(help="A file that a run wrote.")] = None,
    node: Annotated[Path | None, typer.Option(help="Instead: the folder of a node that has recorded itself.")] = None,
    machine: Annotated[str | None, typer.Option(help="With --node: the only machine to tell of.")] = None,
    until: Annotated[float | None, typer.Option(min=0, help="With --node: only the first so many seconds.")] = None,
    log: Annotated[Path | None, typer.Option(help="Write the decision log here.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Run a written run, or what a real node has recorded, again. Example: mesh sim replay sim/membership-8141.json"""
    if node is not None:
        flight_cli.replay_node(node, machine=machine, until=until, log=log, as_json=json_)
    if file is None:
        raise BadInput("usage", "neither a file nor a node to replay was named", hint="mesh sim replay FILE, or --node DIR")
    begun = time.perf_counter()
    try:
        name, seed, nodes, until, schedule, digest = load(file)
        scenario = scenario_named(name)
    except BadInput as error:
        if error.name == "bad-run-file":
            raise
        stderr.print(f"mesh: {error}", markup=False)
        if json_:
            output.document("sim-replay", problems.document(error, "") | {"exit": UNDECIDED})
        raise typer.Exit(UNDECIDED) from None
    with _opened(log) as out:
        report = run(scenario, seed, nodes=nodes, until_s=until, schedule=schedule, record=True, log=out)
    if digest and report.digest != digest:
        stderr.print(f"! not the same steps as when {file} was written: that was another commit, or a bug of determinism", markup=False)
    _finish([report], time.perf_counter() - begun, json_, "sim-replay")


@contextmanager
def _opened(log: Path | None) -> Iterator[TextIO | None]:
    if log is None:
        yield None
        return
    with log.open("w") as out:
        yield out


def _job(job: tuple[str, int, int | None, float | None]) -> Report:
    scenario, seed, nodes, until = job
    return run(scenario_named(scenario), seed, nodes=nodes, until_s=until)


def _many(scenario: str, seeds: list[int], nodes: int | None, until: float | None, *, quiet: bool) -> Iterator[Report]:
    """All seeds on all cores, in the order of the seeds, with a line on stderr that tells how far they are."""
    jobs = [(scenario, seed, nodes, until) for seed in seeds]
    began = shown_at = time.monotonic()
    bad = shown_bad = 0
    pause_s = MOVING_S if sys.stderr.isatty() else STILL_S
    with multiprocessing.get_context("spawn").Pool() as pool, output.progress() as shown:
        for done, report in enumerate(pool.imap(_job, jobs), 1):
            bad += report.verdict != "ok"
            now = time.monotonic()
            if not quiet and (now - shown_at >= pause_s or bad != shown_bad):
                shown_at, shown_bad = now, bad
                shown.at(f"{done} of {len(jobs)} seeds, {bad} bad, {(now - began) / done * (len(jobs) - done):.0f} s left")
            yield report


def _range(text: str) -> list[int]:
    first, dots, last = text.partition("..")
    if not (dots and first.isdigit() and last.isdigit() and int(first) <= int(last)):
        raise BadInput("bad-seeds", f"{text!r} is not a range of seeds", hint="write --seeds 1..200")
    return list(range(int(first), int(last) + 1))


def _finish(reports: list[Report], took_s: float, as_json: bool, command: str = "sim-run") -> None:
    """Print the verdict, write the failures down, exit with the worst."""
    failed = [report for report in reports if report.verdict != "ok"]
    paths = [_save(report) for report in failed]
    virtual_s = sum(report.at_s for report in reports)
    if as_json:
        output.document(command, {"runs": [report.to_json() for report in reports]})
    else:
        for report, path in zip(failed, paths, strict=True):
            print(f"FAIL {report.verdict}: {report.message}   seed {report.seed}")
            print(f"  at {report.at_s:.3f} s, after {report.steps} steps, {len(report.schedule)} faults drawn")
            print(f"Replay  mesh sim replay {path}")
        first = reports[0]
        what = f"seed {first.seed}" if len(reports) == 1 else f"{len(reports)} seeds, {first.seed} to {reports[-1].seed}"
        verdict = "ok  nothing violated" if not failed else f"x   {len(failed)} of {len(reports)} violated"
        print(f"{verdict}: {first.scenario}, {first.nodes} nodes, {what}, {first.until_s:g} virtual s each")
        for name, value in sorted(first.figures.items()):
            print(f"    {name} {value:g}")
        print(
            f"    {virtual_s / max(took_s, 1e-9):.0f} times real time, {sum(r.steps for r in reports)} events in {took_s:.1f} s",
            file=sys.stderr,
        )
    worst = max((EXIT[report.verdict] for report in reports), default=0)
    if any(report.verdict == "safety" for report in reports):
        worst = EXIT["safety"]
    raise typer.Exit(worst)


def _save(report: Report) -> Path:
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{report.scenario}-{report.seed}.json"
    path.write_text(json.dumps(report.to_json(), indent=1) + "\n")
    return path
