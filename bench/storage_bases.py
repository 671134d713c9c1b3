"""What a durable batch costs: plain segment files beside LevelDB, interleaved in the same run on the same disk.

Called by ``mesh bench storage``. Both do the same promise: the batch is on disk when the call returns.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from meshos.effects import Put
from meshos.storage.level import LevelStore
from meshos.storage.log import Log

ROUNDS = 20
"""Both bases take turns this often, so that what else the machine does meets both alike."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One base, one size: percentiles of one durable batch in microseconds, and batches a second."""

    base: str
    batch_bytes: int
    batches: int
    p50_us: float
    p95_us: float
    p99_us: float
    per_second: float


def measure(folder: Path, *, batches: int = 1000, sizes: tuple[int, ...] = (300, 16_384)) -> list[Figure]:
    """``batches`` durable batches of each size on each base, in a temporary folder below ``folder`` (the disk that is asked about)."""
    return [figure for size in sizes for figure in _side_by_side(folder, batches, size)]


def _side_by_side(folder: Path, batches: int, size: int) -> list[Figure]:
    """Both bases with batches of one size."""
    body = os.urandom(size)
    segments: list[float] = []
    leveldb: list[float] = []
    with tempfile.TemporaryDirectory(dir=folder) as inside:
        log = Log(Path(inside) / "log")
        store = LevelStore(Path(inside) / "level")
        level = store.prefixed("bench")
        for turn in range(ROUNDS):
            numbers = range(turn * batches // ROUNDS, (turn + 1) * batches // ROUNDS)
            segments += _times(numbers, lambda _: log.append([body]))
            leveldb += _times(numbers, lambda number: level.write([Put(b"%020d" % number, body)]))
        log.close()
        store.close()
    return [_figure("segments", size, segments), _figure("leveldb", size, leveldb)]


def _times(numbers: Iterable[int], write: Callable[[int], object]) -> list[float]:
    times = []
    for number in numbers:
        start = time.perf_counter()
        write(number)
        times.append(time.perf_counter() - start)
    return times


def _figure(base: str, size: int, times: list[float]) -> Figure:
    ordered = sorted(times)

    def percentile(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e6, 1)

    return Figure(base, size, len(times), percentile(0.5), percentile(0.95), percentile(0.99), round(len(times) / sum(times), 1))
