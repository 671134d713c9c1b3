"""SIGKILL of a real writer in the middle of its writes: nothing acknowledged is lost, nothing is torn."""

import os
import subprocess
import sys
from pathlib import Path
from random import Random

from meshos.storage.level import LevelStore
from tests.storage.writer import KEYS, body

ROOT = Path(__file__).parents[2]
KILLS = 8


def _write_until_killed(folder: Path, first: int, acknowledge: int) -> int:
    """Let a writer acknowledge so many batches, kill it wherever it is by then; gives the last number acknowledged."""
    command = [sys.executable, str(Path(__file__).with_name("writer.py")), str(folder), str(first)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert writer.stdout is not None
    lines = [writer.stdout.readline() for _ in range(acknowledge)]
    writer.kill()
    rest = writer.stdout.read().splitlines(keepends=True)
    writer.stdout.close()
    writer.wait()
    whole = [line for line in lines + rest if line.endswith(b"\n")]
    assert len(whole) >= acknowledge, "the writer ended by itself"
    return int(whole[-1])


def _last_number(folder: Path) -> int:
    """The number of the last batch, after checking that all of it and nothing of another is there."""
    store = LevelStore(folder)
    machine = store.prefixed("machine")
    number = int(machine.get(b"number") or b"-1")
    assert [key for key, _ in machine.scan(b"only/")] == [b"only/%d" % number]
    for key in range(KEYS):
        assert machine.get(b"%03d" % key) == body(number)
    store.close()
    return number


def test_kill_during_writes(tmp_path: Path) -> None:
    random = Random(1)
    number = -1
    for _ in range(KILLS):
        acknowledged = _write_until_killed(tmp_path, number + 1, random.randint(1, 60))
        number = _last_number(tmp_path)
        assert number in (acknowledged, acknowledged + 1), "the one that was under way may be there; none before it may be missing"
