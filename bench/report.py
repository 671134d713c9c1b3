"""How a benchmark speaks: rows with a figure, its spread, the peer or the floor beside it, and the command."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from rich.console import Console
from rich.table import Table

from meshos.bench.machine import QUIET, Machine


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the values lie (nearest rank); NaN of nothing."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. ``bar`` is what the figure is held to, in words; ``met`` is None where there is none."""

    what: str
    p50: float
    unit: str
    p95: float | None = None
    p99: float | None = None
    count: int = 0
    bar: str = ""
    met: bool | None = None
    note: str = ""


def row(what: str, values: Sequence[float], unit: str, *, bar: str = "", met: bool | None = None, note: str = "") -> Row:
    """A Row of many measurements."""
    p50, p95, p99 = (percentile(values, share) for share in (0.5, 0.95, 0.99))
    return Row(what, p50, unit, p95, p99, len(values), bar, met, note)


@dataclass(slots=True)
class Report:
    """What one benchmark found."""

    name: str
    command: str
    machine: Machine
    rows: list[Row] = field(default_factory=list)
    noise: float = 1.0  # the worst calibration seen during the run
    notes: list[str] = field(default_factory=list)

    def print(self, *, as_json: bool) -> None:
        """To stdout; as one JSON document, or as a table that ends with the command."""
        if as_json:
            print(json.dumps({"schema": f"mesh.bench-{self.name}/1", **asdict(self)}))
            return
        machine = self.machine
        console = Console(highlight=False)
        quiet = "quiet" if self.noise <= QUIET else f"NOT quiet: the calibration loop ran {self.noise:.2f} times its best"
        console.print(f"{self.name}  {machine.cores} cores, {machine.memory_gib:g} GiB, Python {machine.python}, {machine.system}; {quiet}")
        table = Table("WHAT", "P50", "P95", "P99", "N", "BAR", "", box=None, pad_edge=False)
        for each in self.rows:
            verdict = {True: "ok", False: "MISSED", None: ""}[each.met]
            cells = (each.p50, each.p95, each.p99)
            table.add_row(each.what, *(_cell(value, each.unit) for value in cells), str(each.count or ""), each.bar, verdict)
        console.print(table)
        for note in [f"{each.what}: {each.note}" for each in self.rows if each.note] + self.notes:
            console.print(f"- {note}", markup=False)
        console.print(f"Again  {self.command}", markup=False)


def _cell(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:.4g} {unit}"
