"""An MCP server that looks into a CSV table: give it ``file`` (a file sent along; its path arrives here) or ``text``."""

import csv
import io
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

MAX_CHARACTERS = 32 << 20
MAX_ROWS = 500_000
SURE = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
server = MCPServer("tables")

MEASURES: dict[str, Callable[[list[float]], float]] = {
    "sum": math.fsum,
    "mean": statistics.fmean,
    "median": statistics.median,
    "min": min,
    "max": max,
    "count": len,
}

Rows = list[dict[str, str]]


def _rows(file: str, text: str) -> Rows:
    """The table's rows; its separator is found out, its first line names the columns."""
    if bool(file) == bool(text):
        raise ToolError("give either a file (mesh call … --file file=table.csv) or the table as text")
    source = Path(file).read_text(encoding="utf-8-sig", errors="replace") if file else text
    if len(source) > MAX_CHARACTERS:
        raise ToolError(f"the table has more than {MAX_CHARACTERS >> 20} million characters")
    first = source.partition("\n")[0]
    separator = max(",;\t|", key=first.count)
    rows: Rows = []
    for row in csv.DictReader(io.StringIO(source), delimiter=separator, restkey="(more)", restval=""):
        cells = {name: value if isinstance(value, str) else "|".join(value or []) for name, value in row.items()}
        rows.append({str(name).strip(): value.strip() for name, value in cells.items()})
        if len(rows) > MAX_ROWS:
            raise ToolError(f"the table has more than {MAX_ROWS} rows")
    if not rows:
        raise ToolError("the table has no rows below its first line")
    return rows


def _column(rows: Rows, name: str) -> list[str]:
    if name not in rows[0]:
        raise ToolError(f"there is no column {name[:60]!r}; there are {', '.join(rows[0])[:300]}")
    return [row.get(name, "") for row in rows]


def _number(text: str) -> float | None:
    try:
        value = float(text.replace("\u202f", "").replace(" ", ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _describe(values: list[str]) -> dict[str, object]:
    present = [value for value in values if value]
    numbers = [number for value in present if (number := _number(value)) is not None]
    about: dict[str, object] = {"missing": len(values) - len(present), "distinct": len(set(present))}
    if present and len(numbers) == len(present):
        about |= {
            "kind": "number",
            "min": min(numbers),
            "median": statistics.median(numbers),
            "mean": statistics.fmean(numbers),
            "max": max(numbers),
            "deviation": statistics.stdev(numbers) if len(numbers) > 1 else 0.0,
        }
    else:
        about |= {"kind": "text", "most": [{"value": value, "rows": count} for value, count in Counter(present).most_common(5)]}
    return about


@server.tool(annotations=SURE)
def describe_table(file: str = "", text: str = "") -> dict[str, object]:
    """Describe each column of a CSV table: kind, missing values, range, mean, median, most frequent values."""
    rows = _rows(file, text)
    return {"rows": len(rows), "columns": {name: _describe(_column(rows, name)) for name in rows[0]}}


@server.tool(annotations=SURE)
def summarise_by(
    group: str, value: str, how: Literal["sum", "mean", "median", "min", "max", "count"] = "sum", file: str = "", text: str = ""
) -> dict[str, object]:
    """Sum, average or count one column of a CSV table for each value of another, for example the sum of amount by country."""
    rows = _rows(file, text)
    groups: dict[str, list[float]] = defaultdict(list)
    skipped = 0
    for key, cell in zip(_column(rows, group), _column(rows, value), strict=True):
        number = _number(cell)
        if number is None and how != "count":
            skipped += 1
        else:
            groups[key].append(number or 0.0)
    found = sorted(((key, MEASURES[how](numbers)) for key, numbers in groups.items()), key=lambda pair: -float(pair[1]))
    return {"how": f"{how} of {value} by {group}", "groups": [{"group": key, "value": result} for key, result in found], "skipped": skipped}


@server.tool(annotations=SURE)
def correlate(first: str, second: str, file: str = "", text: str = "") -> dict[str, object]:
    """How two number columns of a CSV table go together: Pearson's correlation and the line of least squares."""
    rows = _rows(file, text)
    cells = zip(_column(rows, first), _column(rows, second), strict=True)
    pairs = [(x, y) for a, b in cells if (x := _number(a)) is not None and (y := _number(b)) is not None]
    if len(pairs) < 3 or len({x for x, _ in pairs}) < 2 or len({y for _, y in pairs}) < 2:
        raise ToolError("fewer than three rows with two numbers, or a column that never changes")
    xs, ys = [x for x, _ in pairs], [y for _, y in pairs]
    slope, intercept = statistics.linear_regression(xs, ys)
    return {"rows": len(pairs), "correlation": statistics.correlation(xs, ys), "slope": slope, "intercept": intercept}


if __name__ == "__main__":
    server.run("stdio")
