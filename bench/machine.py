"""The machine that a figure was taken on, and whether it was quiet.

A figure is called quiet when a fixed loop of Python runs, before and after it, within 10 % of the best time that this loop has
reached in the run. On a shared machine that is often not so; then the report says so, and only ratios count.
"""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


def open_files(pid: int) -> list[str]:
    """What the file descriptors of a process stand for: a path, ``socket:[…]``, ``pipe:[…]``, ``anon_inode:…``."""
    folder = f"/proc/{pid}/fd"
    found = []
    for name in os.listdir(folder):
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(f"{folder}/{name}"))
    return found


def threads(pid: int) -> int:
    """How many threads a process has."""
    return len(os.listdir(f"/proc/{pid}/task"))


def cpu_ms(pid: int) -> float:
    """Milliseconds of processor time that a process has used, in user and kernel mode, without its children (proc(5))."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def descendants(pid: int) -> list[int]:
    """The processes that a process has started and those that they have, which still run or wait to be buried."""
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with suppress(FileNotFoundError, ProcessLookupError):
                parents.setdefault(int(_stat(int(name))[1]), []).append(int(name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = parents.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on: a command's name may hold spaces and brackets."""
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()


@contextmanager
def every_core_busy() -> Iterator[None]:
    """As many processes as there are cores do nothing but take time."""
    command = [sys.executable, "-c", "while True: pass"]
    spinning = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait(10)
