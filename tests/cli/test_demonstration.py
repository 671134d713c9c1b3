"""What the demo tells, for people and for programs: the same steps. The whole demo is run by tests/test_console.py."""

import io
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshos.errors import Failed
from meshos.node.cli.demonstration import _Story
from meshos.node.cli.testnet import making, processes, record
from tests.cli.conftest import Mesh
from tests.leftovers import kill_below, processes_below
from tests.mesh.testnet import PATIENCE_S, until


@pytest.fixture
def story(tmp_path: Path) -> _Story:
    return _Story(tmp_path, io.StringIO())


def test_each_step_is_kept_with_its_command_and_how_it_went(story: _Story) -> None:
    story.step("Begin", "genesis", "new", "genesis.json")
    story.step("and check", "explain", "busy", same=True)
    story.verdict("that was clear", known_ms=12)
    first, second = story.steps
    assert (first["step"], first["title"], first["command"]) == (1, "Begin", "mesh genesis new genesis.json")
    assert str(first["verdict"]).startswith("genesis.json has 0 organisations") and isinstance(first["took_ms"], int)
    assert (second["step"], second["verdict"], second["known_ms"]) == (1, "that was clear", 12)
    told = story._out
    assert isinstance(told, io.StringIO) and told.getvalue().splitlines()[0] == "1/7 Begin           $ mesh genesis new genesis.json"


def test_a_step_that_fails_ends_the_story(story: _Story) -> None:
    with pytest.raises(Failed) as caught:
        story.step("Begin", "members", "--org", "nobody")
    assert caught.value.name == "demo-failed" and story.steps == []


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a short name: sockets of nodes have their places below it."""
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        yield Path(folder)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_demo_that_is_told_to_end_leaves_nothing_running_and_no_folder(place: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "meshos.node.cli.main", "demo"]
    demo = subprocess.Popen(command, env=os.environ | {"TMPDIR": str(place)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: next(place.glob("mesh-demo-*/testnet/testnet.json"), None), "no node was ever started")
        demo.send_signal(number)
        assert demo.wait(PATIENCE_S) == 130
        assert not list(place.glob("mesh-demo-*"))
        until(lambda: not processes_below(place), "something is left running")
    finally:
        demo.kill()
        kill_below(place)


@pytest.mark.parametrize("here", ["testnet", "."])
def test_a_demo_that_stays_leaves_a_testnet_that_is_there_alone(mesh: Mesh, tmp_path: Path, here: str) -> None:
    made = making.make(tmp_path / "testnet", orgs=1, base_port=20_600, timing="local")
    place = tmp_path if here == "testnet" else made.dir
    done = mesh("demo", "--keep", cwd=place)
    assert (done.code, done.out) == (2, "") and "[file-exists]" in done.err
    assert "there is a testnet" in done.err and "`mesh demo`" in done.err
    assert record.load(made.dir) == made and not (Path(made.nodes[0].dir) / processes.LOG).exists()


def test_a_demo_that_stays_says_so_from_the_start(mesh: Mesh, tmp_path: Path) -> None:
    (tmp_path / "testnet").write_text("in the way")
    told = mesh("demo", "--keep").out.splitlines()[0]
    assert "Ctrl-C cleans up" not in told and told.endswith("it stays in ./testnet, after Ctrl-C too: mesh testnet down")
