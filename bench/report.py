"""How a benchmark speaks: rows with a figure, its spread, the peer or the floor beside it, and the command."""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from rich.console import Console
from rich.table import Table
from rich.text import Text

from meshos.bench.machine import QUIET, Machine

FILE_WIDTH = 140
"""Columns of a table that goes to a file or a pipe, where nobody can say how wide it is."""


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of the values do not exceed (nearest rank); NaN of nothing."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def slope_share(at: Sequence[float], values: Sequence[float]) -> float:
    """By which share of their mean the values grow from the first to the last of ``at``, along the line of least squares.

    0 where a line is not defined: fewer than two points, or all at one place.
    """
    middle, mean = sum(at) / max(1, len(at)), sum(values) / max(1, len(values))
    spread = sum((x - middle) ** 2 for x in at)
    if not spread or not mean:
        return 0.0
    slope = sum((x - middle) * (y - mean) for x, y in zip(at, values, strict=True)) / spread
    return slope * (max(at) - min(at)) / mean


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
    """A Row of measurements; of a single one there are no other percentiles."""
    p50, p95, p99 = (percentile(values, share) for share in (0.5, 0.95, 0.99))
    if len(values) < 2:
        return Row(what, p50, unit, count=len(values), bar=bar, met=met, note=note)
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
            document = {"schema": f"mesh.bench-{self.name}/1", **asdict(self)}
            document["rows"] = [{key: _plain(value) for key, value in asdict(each).items()} for each in self.rows]
            print(json.dumps(document, allow_nan=False))
            return
        machine = self.machine
        console = Console(highlight=False, width=None if sys.stdout.isatty() else FILE_WIDTH)
        quiet = "quiet" if self.noise <= QUIET else f"NOT quiet: the calibration loop ran {self.noise:.2f} times its best"
        console.print(f"{self.name}  {machine.cores} cores, {machine.memory_gib:g} GiB, Python {machine.python}, {machine.system}; {quiet}")
        console.print(self._table())
        for note in [f"{each.what}: {each.note}" for each in self.rows if each.note] + self.notes:
            console.print(f"- {note}", markup=False)
        console.print(f"Again  {self.command}", markup=False)

    def _table(self) -> Table:
        """The verdict stands first, where a narrow terminal cannot push it away."""
        table = Table(box=None, pad_edge=False)
        table.add_column("", no_wrap=True)
        table.add_column("P50", justify="right", no_wrap=True)
        table.add_column("P95", justify="right", no_wrap=True)
        table.add_column("P99", justify="right", no_wrap=True)
        table.add_column("N", justify="right", no_wrap=True)
        table.add_column("WHAT", overflow="fold")
        table.add_column("BAR", overflow="fold")
        for each in self.rows:
            verdict = {True: "ok", False: "MISSED", None: ""}[each.met]
            cells = (_cell(each.p50, each.unit), _cell(each.p95), _cell(each.p99), str(each.count or ""))
            table.add_row(verdict, *cells, Text(each.what), Text(each.bar))
        return table


def _cell(value: float | None, unit: str = "") -> str:
    if value is None or math.isnan(value):
        return "" if value is None else "-"
    digits = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{digits} {unit}".rstrip()


def _plain(value: object) -> object:
    """JSON has no word for NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
