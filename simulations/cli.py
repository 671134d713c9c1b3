"""``mesh sim``: chaos in virtual time. Joins the command line by the entry point ``meshos.commands``."""

import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from meshos.errors import BadInput, Failed, MeshError
from meshos.node.api import problems
from meshos.node.cli import output
from meshos.protocols.tasks.located import FileError
from meshos.simulations import flight_cli, verdicts
from meshos.simulations.explore import explore_
from meshos.simulations.mutants import mutants
from meshos.simulations.run import Report, Scenario, load, run
from meshos.simulations.scenario_files import MAX_SEED, Chosen, chosen, seeds_of
from meshos.simulations.scenarios import SCENARIOS
from meshos.simulations.seeds import Job, failed_first, run_seeds
from meshos.simulations.shrinking import shrink
from meshos.simulations.timeline import traced

MAX_S = 10_000_000.0
"""Of virtual time: four months, which is more than anybody waits for."""
PAGES = 3
"""The first failures of many get a timeline by themselves; each takes as long as its run did."""

app = typer.Typer(help="Chaos in virtual time: the nodes' own machines, hurt by a seed.", no_args_is_help=True)
app.command("mutants")(mutants)
app.command("explore")(explore_)
app.command("shrink")(shrink)


def names_of(incomplete: str) -> list[str]:
    """The scenarios that begin so: for completion."""
    return [name for name in SCENARIOS if name.startswith(incomplete)]


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
    output.table(
        ("SCENARIO", "NODES", "UNTIL", "WHAT IT HURTS"), [(s.name, s.nodes, f"{s.until_s:g} s", s.summary) for s in SCENARIOS.values()]
    )


@app.command("run")
def run_(
    scenario: Annotated[
        str, typer.Argument(help="One of `mesh sim list`, SCENARIO+MUTATION, or a scenario file.", autocompletion=names_of)
    ] = "membership",
    seed: Annotated[int | None, typer.Option(min=0, max=MAX_SEED, help="The seed; without one, a new one is drawn and printed.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Many seeds, A..B, on all cores.")] = None,
    nodes: Annotated[int | None, typer.Option(min=2, max=5000, help="How many nodes.")] = None,
    until: Annotated[float | None, typer.Option(min=1, max=MAX_S, help="Virtual seconds.")] = None,
    stop_after: Annotated[int | None, typer.Option(min=1, help="End after so many seeds that fail.")] = None,
    coverage: Annotated[bool, typer.Option("--coverage", help="Name the situations that the runs have been through.")] = False,
    log: Annotated[Path | None, typer.Option(help="Write the decision log of a single run here, one JSON line a step.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON document; no wall-clock time in it.")] = False,
) -> None:
    """Run a scenario. Example: mesh sim run membership --seeds 1..200 --nodes 30 --until 120"""
    with _excerpts():
        picked = chosen(scenario)
    wanted = _wanted(picked, seed, seeds)
    begun = time.perf_counter()
    try:
        with _undecided_if_it_fails("sim-run", json_):
            verdicts.make_folder()  # before a run is lost for want of it
            if len(wanted) == 1:
                with verdicts.written(log) as out:
                    runs = _given(run(picked.scenario, wanted[0], nodes=nodes, until_s=until, log=out))
        if len(wanted) > 1:
            order = failed_first(wanted, scenario, verdicts.FOLDER)
            runs = run_seeds([Job(scenario, each, nodes, until) for each in order], stop_after=stop_after, quiet=json_)
    except KeyboardInterrupt:
        runs = _interrupted()
    _finish(runs, picked.scenario, len(wanted), begun, json_, coverage=coverage)


@app.command("replay")
def replay(
    file: Annotated[Path | None, typer.Argument(help="A file that a run wrote.")] = None,
    node: Annotated[Path | None, typer.Option(help="Instead: the folder of a node that has recorded itself.")] = None,
    machine: Annotated[str | None, typer.Option(help="With --node: the only machine to tell of.")] = None,
    until: Annotated[float | None, typer.Option(min=0, help="With --node: only the first so many seconds.")] = None,
    log: Annotated[Path | None, typer.Option(help="Write the decision log here.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a timeline here: one page, to be opened in a browser.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Run a written run, or what a real node has recorded, again. Example: mesh sim replay sim/membership-8141.json"""
    if node is not None:
        if file is not None or html is not None:
            raise BadInput("usage", "a node's recording is no file of a run, and has no timeline", hint="give --node with --log or --json")
        flight_cli.replay_node(node, machine=machine, until=until, log=log, as_json=json_)
    if file is None:
        raise BadInput("usage", "neither a file nor a node to replay was named", hint="mesh sim replay FILE, or --node DIR")
    begun = time.perf_counter()
    try:
        name, seed, nodes, until, schedule, digest = load(file)
        scenario = chosen(name).scenario
    except BadInput as error:
        if error.name == "bad-run-file":
            raise
        raise _undecided(error, "sim-replay", json_) from None
    beside = [path for path in (log, html) if path is not None]
    if any(path.exists() and path.samefile(file) for path in beside) or len({path.absolute() for path in beside}) < len(beside):
        raise BadInput("usage", "the run, its log and its page are three files", hint="write them beside each other")
    with _undecided_if_it_fails("sim-replay", json_), verdicts.written(log) as out, verdicts.written(html) as page:
        report = run(scenario, seed, nodes=nodes, until_s=until, schedule=schedule, record=True, log=out)
        if page is not None:
            page.write(traced(report))
    if digest and report.digest != digest:
        output.warn(f"not the same steps as when {file} was written: that was another commit, or a bug of determinism")
    _finish(_given(report), scenario, 1, begun, json_, "sim-replay", replayed=(file, html))


def _undecided(error: MeshError, command: str, as_json: bool) -> typer.Exit:
    """Say why there is no verdict; to be raised."""
    output.note(f"mesh: {error}")
    if as_json:
        output.document(command, problems.document(error, "") | {"exit": verdicts.UNDECIDED})
    return typer.Exit(verdicts.UNDECIDED)


@contextmanager
def _undecided_if_it_fails(command: str, as_json: bool) -> Iterator[None]:
    """What keeps a run from being made, or written down, is no verdict of it."""
    try:
        yield
    except Failed as error:
        raise _undecided(error, command, as_json) from None


@contextmanager
def _excerpts() -> Iterator[None]:
    """Show the line that is wrong below the sentence that says so."""
    try:
        yield
    except FileError as error:
        if error.excerpt:
            print(output.clean(error.excerpt, keep_lines=True), file=sys.stderr)
        raise


def _saved(report: Report, *, with_page: bool) -> tuple[Path, Path | None]:
    """The file of a run, and the timeline beside it."""
    path = verdicts.save(report)
    if not with_page:
        return path, None
    page = path.with_suffix(".html")
    with verdicts.opened(page) as out:
        out.write(traced(report))
    return path, page


def _wanted(picked: Chosen, seed: int | None, seeds: str | None) -> Sequence[int]:
    """Which seeds: those that were asked for, those of the scenario's file, or one that is drawn."""
    if seeds is not None:
        if seed is not None:
            raise BadInput("usage", "--seed and --seeds exclude each other", hint="give one of them")
        try:
            return seeds_of(seeds)
        except ValueError as error:
            raise BadInput("bad-seeds", str(error), hint="write --seeds 1..200") from None
    if seed is not None:
        return [seed]
    return picked.seeds or [time.time_ns() % 1_000_000]


def _given(report: Report) -> Generator[Report, None, None]:
    yield report


def _interrupted() -> Generator[Report, None, None]:
    """What there is after a Ctrl-C before the first run was over."""
    yield from map(_raise_it, (KeyboardInterrupt,))


def _raise_it(error: type[BaseException]) -> Report:
    raise error


def _finish(
    runs: Generator[Report, None, None],
    scenario: Scenario,
    wanted: int,
    begun: float,
    as_json: bool,
    command: str = "sim-run",
    *,
    coverage: bool = False,
    replayed: tuple[Path, Path | None] | None = None,
) -> None:
    """Tell and write down each failure as it comes, then the verdict; exit with the worst. Ctrl-C gives what there is.

    A run that is ``replayed`` is in its file, and has its page or none: it is not written again.

    ``runs`` is closed here, and its workers end: whoever collected it later might be one of the pool's own threads.
    """
    reports: list[Report] = []
    interrupted, failed = False, 0
    try:
        for report in runs:
            reports.append(report)
            if report.verdict != "ok":
                failed += 1
                try:
                    path, page = replayed or _saved(report, with_page=failed <= PAGES)
                except Failed as error:  # what was found stands all the same
                    output.warn(str(error))
                    path, page = None, None
                if not as_json:
                    verdicts.tell_failure(report, path, page)
    except KeyboardInterrupt:
        interrupted = True
        output.warn(f"stopped after {len(reports)} of {wanted} runs")
    finally:
        runs.close()
    if as_json:
        verdicts.document(command, reports, scenario)
    elif reports:
        verdicts.tell(reports, scenario, wanted, time.perf_counter() - begun, coverage=coverage)
    raise typer.Exit(verdicts.INTERRUPTED if interrupted else verdicts.exit_code(reports))
