"""Which situations runs have been through: a simulator that never gets into one has not tested it.

The world counts those that any world can get into (``SITUATIONS``), a scenario those that it names itself
(``Scenario.situations``) with ``World.visited``. What no seed has been through is listed, since that is what to change the faults for.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SITUATIONS = (
    "a crash while syncing",
    "a crash while a tool or a signature was under way",
    "a crash that lost all that was not synced",
    "a crash that kept some of what was not synced",
    "a crash before a write",
    "a crash with a torn write",
    "a crash after a write",
    "a crash before a sync",
    "a crash with a torn sync",
    "a crash after a sync",
    "half of the nodes or more dead at once",
    "every node dead at once",
    "a node that could not start: its disk is corrupt",
    "a value rotted",
    "a sync that failed",
    "a sync on a slow disk",
    "a sync that met a stalled disk",
    "a paused node that met late what came meanwhile",
    "a paused node's buffer ran over",
    "a partition on top of another",
    "a partition healed with messages stalled in it",
    "a ring of neighbours",
    "messages held back, then in order",
    "messages held back, then in a burst",
    "a message lost with its link",
    "a message that arrived after its sender saw the link break",
    "a new link in the place of one half dead",
    "a wall clock jumped",
)


@dataclass(frozen=True, slots=True)
class Visits:
    """In how many runs a situation was, and how often in all."""

    situation: str
    runs: int
    times: int


def summed(visited: Iterable[dict[str, int]], own: Sequence[str] = ()) -> list[Visits]:
    """Every known situation over several runs, those of the scenario first; what was never visited has zeros."""
    runs = list(visited)
    names = dict.fromkeys((*own, *SITUATIONS, *(name for run in runs for name in run)))
    return [Visits(name, sum(name in run for run in runs), sum(run.get(name, 0) for run in runs)) for name in names]


def to_json(visits: Sequence[Visits]) -> dict[str, object]:
    """As ``--json`` prints it."""
    return {
        "visited": [{"situation": each.situation, "runs": each.runs, "times": each.times} for each in visits if each.runs],
        "never": [each.situation for each in visits if not each.runs],
    }
