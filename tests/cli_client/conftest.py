"""A node in a process of its own, and the commands run in this one."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from meshos.node.cli import main

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Node:
    """Where the node answers."""

    url: str
    key: str


def start(*options: str) -> Iterator[Node]:
    """A node until the generator is closed."""
    command = [sys.executable, "-m", "tests.cli_client.serve_memory", *options]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url, key = process.stdout.readline().split()
        yield Node(url, key)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=20)
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """A node for a whole file of tests: by default the memory node's."""
    url, key = os.environ.get("MESH_TEST_NODE"), os.environ.get("MESH_TEST_API_KEY")
    if url and key:
        yield Node(url, key)
    else:
        yield from start()


@pytest.fixture(scope="module")
def partial_node() -> Iterator[Node]:
    """A node whose directory misses a cell."""
    yield from start("--partial")


Mesh = Callable[..., Ran]


@pytest.fixture
def mesh(node: Node, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mesh:
    """Run ``mesh`` with these words against ``node`` (``to`` for another), in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str, to: Node | None = node) -> Ran:
        for name, value in (("MESH_NODE", to.url if to else None), ("MESH_API_KEY", to.key if to else None)):
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)
        capsys.readouterr()
        code = main.run(list(words))
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return run


AGENT = """\
name: Clock
description: tells the time in another city
capabilities: [time]
pricing: {perQuery: 2 MESH}
region: us-east-1
runtime:
  mcp: {command: [python, -m, clock]}
"""


@pytest.fixture
def clock(mesh: Mesh, tmp_path: Path) -> str:
    """The id of an agent that is deployed."""
    file = tmp_path / "clock.yaml"
    file.write_text(AGENT)
    ran = mesh("deploy", "--agent", str(file), "-q")
    assert ran.code == 0, ran.err
    return ran.out.strip()
