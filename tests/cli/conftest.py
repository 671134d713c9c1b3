"""Commands are run as a user runs them: a process of their own, from a folder of their own."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


Mesh = Callable[..., Done]


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    """Run ``mesh`` with the given words in ``tmp_path``, or in another folder."""

    def run(*words: str | Path, stdin: str = "", env: dict[str, str] | None = None, cwd: Path = tmp_path) -> Done:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("MESH_")}
        done = subprocess.run(
            [sys.executable, "-m", "meshos.node.cli.main", *map(str, words)],
            cwd=cwd,
            env=clean | (env or {}),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run
