"""The machine that a figure was taken on, and whether it was quiet.

A figure is called quiet when a fixed loop of Python runs, before and after it, within 10 % of the best time that this loop has
reached in the run. On a shared machine that is often not so; then the report says so, and only ratios count.
"""

import os
import platform
import time
from dataclasses import dataclass
from importlib.metadata import version

QUIET = 1.10
_LOOP = 200_000
_TRIES = 5

_best = float("inf")


def _loop_s() -> float:
    begun = time.perf_counter()
    total = 0
    for number in range(_LOOP):
        total += number & 7
    return time.perf_counter() - begun


def calibration() -> float:
    """How many times the best time the calibration loop takes now: the median of five, over the best so far."""
    global _best
    times = sorted(_loop_s() for _ in range(_TRIES))
    _best = min(_best, times[0])
    return times[len(times) // 2] / _best


@dataclass(frozen=True, slots=True)
class Machine:
    """What a reader needs to judge a figure."""

    cores: int
    memory_gib: float
    python: str
    system: str
    versions: dict[str, str]


def this_machine() -> Machine:
    """Cores, memory, and the versions of what is measured most."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    packages = ("trio", "mcp", "hypercorn", "fastapi", "plyvel", "numpy", "pynacl", "cbor2")
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(pages / 2**30, 1),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()}",
        versions={name: version(name) for name in packages},
    )


def rss_mib(pid: int) -> float:
    """Resident memory of a process now."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files(pid: int) -> int:
    """How many file descriptors a process holds."""
    return len(os.listdir(f"/proc/{pid}/fd"))
