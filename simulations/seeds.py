"""Many seeds of one scenario on all cores: those that failed before run first, and what fails is told at once."""

import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from meshos.node.cli import output
from meshos.simulations.parallel import workers
from meshos.simulations.run import Report, run
from meshos.simulations.scenario_files import chosen

MOVING_S = 1.0
"""On a terminal the line moves this often; a run that is over sooner shows none."""
STILL_S = 10.0
"""Elsewhere a line is written this often, and with each seed that is bad."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run, as it is sent to another process: a scenario's name or file, and what was asked for instead of its own."""

    source: str
    seed: int
    nodes: int | None = None
    until_s: float | None = None


def run_job(job: Job) -> Report:
    """Run it."""
    return run(chosen(job.source).scenario, job.seed, nodes=job.nodes, until_s=job.until_s)


def failed_first(seeds: Sequence[int], scenario: str, folder: Path) -> list[int]:
    """The seeds whose run file is there come before the others: what failed last is looked at first."""
    bad = {seed for seed in seeds if path_of(scenario, seed, folder).exists()}
    return sorted(seeds, key=lambda seed: seed not in bad)


def path_of(scenario: str, seed: int, folder: Path) -> Path:
    """Where the run of a seed is written down."""
    return folder / f"{Path(scenario).stem}-{seed}.json"


def run_seeds(jobs: Sequence[Job], *, stop_after: int | None = None, quiet: bool = False) -> Generator[Report, None, None]:
    """The reports in the order of the jobs, with a line on stderr that tells how far they are. Ends after ``stop_after`` failures."""
    began = shown_at = time.monotonic()
    bad = shown_bad = 0
    pause_s = MOVING_S if sys.stderr.isatty() else STILL_S
    with workers() as pool, output.progress() as shown:
        for done, report in enumerate(pool.map(run_job, jobs), 1):
            bad += report.verdict != "ok"
            now = time.monotonic()
            if not quiet and (now - shown_at >= pause_s or bad != shown_bad):
                shown_at, shown_bad = now, bad
                left_s = (now - began) / done * (len(jobs) - done)
                shown.at(f"{done} of {len(jobs)} seeds, {bad} bad, {left_s:.0f} s left")
            yield report
            if bad == stop_after:
                return
