"""``mesh sim explore``: every order of everything in a small scope of the agreement, or all within a bound of delays."""

import time
from typing import Annotated

import typer

from meshos.node.cli import output
from meshos.simulations.pbft.exhaustive import Counterexample, Found, Scope, explore, explore_delays
from meshos.simulations.verdicts import INTERRUPTED

SAFETY = 1


def explore_(
    heights: Annotated[int, typer.Option(min=1, max=3, help="Blocks that are decided.")] = 1,
    views: Annotated[int, typer.Option(min=0, max=3, help="Views that may be left.")] = 1,
    crashes: Annotated[int, typer.Option(min=0, max=2, help="Crashes, of whom and when it may be.")] = 1,
    delays: Annotated[int | None, typer.Option(min=0, max=5, help="Only runs with so many delays; without it, all orders.")] = None,
    most: Annotated[int | None, typer.Option(min=1, help="Stop after so many states.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON document; no wall-clock time in it.")] = False,
) -> None:
    """Explore a small scope of PBFT, four validators, exhaustively. Example: mesh sim explore --crashes 0"""
    scope = Scope(heights=heights, views=views, crashes=crashes)
    begun, found, stopped = time.perf_counter(), Found(), False
    try:
        explore(scope, most, found) if delays is None else explore_delays(scope, delays, most, found)
    except KeyboardInterrupt:
        found.complete, stopped = False, True
    except Counterexample as counterexample:
        if json_:
            output.document("sim-explore", {"verdict": "safety", "message": str(counterexample)})
        else:
            print(f"FAIL safety: {counterexample}")
        raise typer.Exit(SAFETY) from None
    took_s = time.perf_counter() - begun
    if json_:
        output.document("sim-explore", {"verdict": "stopped" if stopped else "ok", **_row(found)})
    else:
        _tell(found, "Ctrl-C" if stopped else f"--most {most}", took_s)
    if stopped:
        raise typer.Exit(INTERRUPTED)


def _tell(found: Found, ended_by: str, took_s: float) -> None:
    print(f"ok  nothing violated: {'all of it' if found.complete else f'not all of it, since {ended_by} ended it'}")
    for name, value in _row(found).items():
        if name == "complete":
            continue
        print(f"    {name.replace('_', ' ')} {value}")
    output.say(f"    {found.states / max(took_s, 1e-9):.0f} states a second, {took_s:.1f} s")


def _row(found: Found) -> dict[str, object]:
    return {
        "states": found.states,
        "steps": found.steps,
        "states_of_one_replica": found.locals,
        "states_with_a_decision": found.decisions,
        "states_with_a_block_carried_over": found.carried_over,
        "complete": found.complete,
    }
