"""``mesh sim mutants``: each mutation of a scenario, and the seed that finds it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import typer

from meshos.errors import BadInput
from meshos.node.cli import output
from meshos.simulations.mutations import Hunt, Mutation, hunt
from meshos.simulations.parallel import Workers, workers
from meshos.simulations.run import Scenario
from meshos.simulations.scenarios import MUTATIONS, scenario_named

SEEDS = 200
"""In so many seeds each mutation must be found."""


@dataclass(frozen=True, slots=True)
class _Job:
    mutation: Mutation
    scenario: Scenario
    seeds: int


def mutants(
    scenario: Annotated[str | None, typer.Argument(help="Which one's; without it, all.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="In how many seeds each must be found.")] = SEEDS,
    only: Annotated[str | None, typer.Option(help="The one mutation of this name.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Break the product in every known way; the seeds must find each. Exit code 1 if one survives. Example: mesh sim mutants calls"""
    jobs = _jobs(scenario, seeds, only)
    done: list[tuple[_Job, Hunt]] = []
    with workers() as pool, output.progress() as shown:
        for job, hunted in zip(jobs, pool.map(_hunt, jobs), strict=True):
            done.append((job, hunted))
            shown.at(f"{len(done)} of {len(jobs)} mutations, {sum(hunted.seed is None for _, hunted in done)} not found")
    if json_:
        output.document("sim-mutants", {"mutations": [_row(*each) for each in done]})
    else:
        _print(done)
    raise typer.Exit(any(hunted.seed is None for _, hunted in done))


def _jobs(scenario: str | None, seeds: int, only: str | None) -> list[_Job]:
    chosen: Iterable[Scenario] = (scenario_named(name) for name in ([scenario] if scenario else sorted(MUTATIONS)))
    jobs = [_Job(mutation, each, seeds) for each in chosen for mutation in MUTATIONS.get(each.name, ()) if only in (None, mutation.name)]
    if not jobs:
        there = ", ".join(mutation.name for name in ([scenario] if scenario else MUTATIONS) for mutation in MUTATIONS.get(name, ()))
        hint = f"there are: {there}" if there else f"scenarios with mutations: {', '.join(MUTATIONS)}"
        raise BadInput("unknown-mutation", f"there is no mutation {only[:60]!r}" if only else f"{scenario} has no mutations", hint=hint)
    return jobs


def _hunt(job: _Job) -> Hunt:
    """One mutation is one job: whoever finds it at the first seed has run no second one in vain."""
    return hunt(job.mutation, job.scenario, range(1, job.seeds + 1), Workers(None, 1))


def _row(job: _Job, hunted: Hunt) -> dict[str, object]:
    report = hunted.report
    return {
        "scenario": job.scenario.name,
        "mutation": job.mutation.name,
        "what": job.mutation.what,
        "seed": hunted.seed,
        "tried": hunted.tried,
        "verdict": report.verdict if report else "ok",
        "checker": report.checker if report else "",
        "message": report.message if report else "",
        "others": list(hunted.others),
    }


def _print(done: list[tuple[_Job, Hunt]]) -> None:
    rows = [
        (
            job.scenario.name,
            job.mutation.name,
            hunted.seed or "not found",
            hunted.report.checker if hunted.report else "",
            job.mutation.what,
        )
        for job, hunted in done
    ]
    output.table(("SCENARIO", "MUTATION", "FOUND AT SEED", "BY", "WHAT IS BROKEN"), rows, right=("FOUND AT SEED",))
    survivors = [(job, hunted) for job, hunted in done if hunted.seed is None]
    for job, hunted in survivors:
        output.say(f"x   {job.mutation.name}: none of {hunted.tried} seeds finds it; they said {list(hunted.others[:3]) or 'nothing'}")
    if not survivors:
        output.say(f"ok  all {len(done)} mutations found")
    found = next(((job, hunted) for job, hunted in done if hunted.seed), None)
    if found is not None:
        output.say(f"See one  mesh sim run {found[0].mutation.in_(found[0].scenario).name} --seed {found[1].seed}")
