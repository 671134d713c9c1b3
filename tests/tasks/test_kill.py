"""SIGKILL of a real node in the middle of calls: nothing acknowledged is lost, and what may not run twice does not."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

from meshos import cbor
from tests.tasks.node_process import tool_of

ROOT = Path(__file__).parents[2]
KILLS = 8


def _start(folder: Path, *numbers: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, str(Path(__file__).with_name("node_process.py")), str(folder), *map(str, numbers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})


def _ran(folder: Path) -> Counter[int]:
    return Counter(int(line) for line in (folder / "ran").read_text().split())


def test_kill_during_calls(tmp_path: Path) -> None:
    random = Random(1)
    acknowledged: dict[int, str] = {}
    first = 0
    for _ in range(KILLS):
        node = _start(tmp_path, first)
        assert node.stdout is not None
        lines = [node.stdout.readline() for _ in range(random.randint(1, 25))]
        node.kill()
        lines += node.stdout.read().splitlines(keepends=True)
        node.stdout.close()
        node.wait()
        for line in lines:
            if line.endswith(b"\n"):
                shown, rest = line.decode().split(" ", 1)
                acknowledged[int(shown)] = rest
        assert max(acknowledged) >= first, "the node ended by itself"
        first = max(acknowledged) + 1  # the call under way is repeated with its key
    ran = _ran(tmp_path)
    node = _start(tmp_path, 0, first)
    output, _ = node.communicate(timeout=60)
    assert node.returncode == 0
    replayed = {int(line.split(" ", 1)[0]): line.split(" ", 1)[1] + "\n" for line in output.decode().splitlines()}
    for number, rest in acknowledged.items():
        assert replayed[number] == rest, "the recorded outcome, whatever was killed in between"
        result = cbor.encode({"n": number}).hex()
        assert rest == f"completed {result}\n" or (tool_of(number) == "pay" and rest == "outcome_unknown \n")
    again = _ran(tmp_path)
    assert {number: times for number, times in again.items() if number < first} == {n: t for n, t in ran.items() if n < first}
    assert all(times == 1 for number, times in again.items() if tool_of(number) == "pay"), "ran at most once"
    assert all(times <= 2 for times in again.values())
