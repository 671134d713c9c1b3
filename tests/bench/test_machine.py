"""What is read of this machine and of its processes."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from meshos.bench import machine


def test_calibration_compares_with_the_best_so_far() -> None:
    first, second = machine.calibration(), machine.calibration()
    assert first >= 1 and second >= 1


def test_the_machine_is_described() -> None:
    found = machine.this_machine()
    assert found.cores == len(os.sched_getaffinity(0)) and found.memory_gib > 0
    assert found.python.startswith("3.") and set(found.versions) >= {"trio", "mcp"}


def test_open_files_are_told_by_what_they_stand_for(tmp_path: Path) -> None:
    path = tmp_path / "a file"
    before = machine.open_files(os.getpid())
    with path.open("w"):
        during = machine.open_files(os.getpid())
    assert str(path) not in before and str(path) in during and str(path) not in machine.open_files(os.getpid())


def test_threads_are_counted() -> None:
    stay = threading.Event()
    thread = threading.Thread(target=stay.wait)
    before = machine.threads(os.getpid())
    thread.start()
    try:
        assert machine.threads(os.getpid()) >= before + 1
    finally:
        stay.set()
        thread.join()


def test_children_and_their_children_are_found() -> None:
    inner = "import subprocess, sys; p = subprocess.Popen(['cat'], stdin=subprocess.PIPE); print(p.pid, flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", inner], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None and child.stdout is not None
        grandchild = int(child.stdout.readline())
        found = machine.descendants(os.getpid())
        child.stdin.close()
    assert {child.pid, grandchild} <= set(found)
    assert child.pid not in machine.descendants(os.getpid())


def test_processor_time_is_in_milliseconds() -> None:
    before, began = machine.cpu_ms(os.getpid()), time.process_time()
    while time.process_time() - began < 0.2:
        pass
    used, real = machine.cpu_ms(os.getpid()) - before, (time.process_time() - began) * 1000
    assert abs(used - real) <= 100  # the kernel counts in ticks of 10 ms


def test_memory_is_in_mebibytes() -> None:
    before = machine.rss_mib(os.getpid())
    held = bytearray(os.urandom(1 << 20) * 64)
    assert 48 <= machine.rss_mib(os.getpid()) - before <= 80
    assert len(held) == 64 << 20
