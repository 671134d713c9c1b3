"""Programs that are none of ours, or not in our language: where they are, and how they are run.

``make test-interop`` installs what they need, by their lock files; nothing is fetched while tests run. Where something is not installed, a
test is skipped and says what is missing; under ``make test-interop`` it fails.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
LIGHT_CLIENT = ROOT / "sdk" / "light-client"
PATIENCE_S = 100
STRIPS_TYPES = (22, 18)
"""Node.js from this version on runs TypeScript as it is."""


def program(name: str) -> list[str]:
    """The words that start the stranger in this language."""
    if name == "go":
        return [str(_there(HERE / "go" / "stranger"))]
    _there(HERE / "js" / "node_modules")
    return [_node(), str(HERE / "js" / "stranger.js")]


def light_client(file: str) -> list[str]:
    """The words that start ``src/verify`` or ``test/vectors`` of the light client, built where Node.js needs that."""
    node = _node()
    if _version(node) >= STRIPS_TYPES:
        return [node, str(LIGHT_CLIENT / f"{file}.ts")]
    return [node, str(_there(LIGHT_CLIENT / "dist" / f"{file}.js"))]


def any_installed() -> None:
    """Skip where no program is installed at all: then nobody needs a testnet."""
    built = [HERE / "go" / "stranger", HERE / "js" / "node_modules", LIGHT_CLIENT / "dist"]
    if not any(path.exists() for path in built):
        _missing("no program of another library")


def run(words: Sequence[str], told: object = None) -> Any:
    """What a program prints as JSON, and its exit code; ``told`` is given to it as JSON."""
    given = None if told is None else json.dumps(told)
    done = subprocess.run(words, input=given, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.stdout, (done.returncode, done.stderr[-4_000:])
    return json.loads(done.stdout), done.returncode


def _node() -> str:
    found = shutil.which("node")
    if found is None:
        _missing("node")
    return str(found)


@cache
def _version(node: str) -> tuple[int, int]:
    said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=PATIENCE_S, check=True).stdout
    major, minor, *_ = said.strip().removeprefix("v").split(".")
    return int(major), int(minor)


def _there(path: Path) -> Path:
    if not path.exists():
        _missing(str(path.relative_to(ROOT)))
    return path


def _missing(what: str) -> None:
    why = f"{what}: not installed, make test-interop does that"
    if os.environ.get("MESH_INTEROP"):
        pytest.fail(why)
    pytest.skip(why)
