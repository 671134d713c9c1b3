"""One synced batch, on segment files and on LevelDB, side by side on this disk."""

from pathlib import Path

from meshos.bench.report import Report, Row
from meshos.bench.storage_bases import measure as measure_bases


def measure(report: Report, *, short: bool) -> None:
    """Both bases, two sizes."""
    for figure in measure_bases(Path.cwd(), batches=200 if short else 1000):
        note = f"{figure.per_second:.0f} batches/s"
        what = f"{figure.base}, {figure.batch_bytes} B"
        report.rows.append(Row(what, figure.p50_us, "us", figure.p95_us, figure.p99_us, figure.batches, note=note))
