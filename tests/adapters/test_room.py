"""What an agent may keep on disk: counted whatever it does to its folder meanwhile, and its end says so."""

import os
import shutil
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from meshos.adapters.onprem import limits
from meshos.adapters.onprem.room import Counting, Room, excess
from meshos.errors import Failed, MeshError

from .conftest import Bench

SMALL = Room(max_bytes=8 << 20, max_files=200, check_s=0.05)


class TestAgent:
    @pytest.fixture
    def room(self) -> Room:
        return SMALL

    @pytest.mark.parametrize(("what", "says"), [("bytes", "8 MiB"), ("files", "200 files"), ("depth", "deep")])
    async def test_one_that_fills_the_disk_is_ended_by_name_and_stays_ended_until_there_is_room(
        self, bench: Bench, what: str, says: str
    ) -> None:
        agent = await bench.start()
        with pytest.raises(Failed) as caught:
            await bench.call(agent, "fill", timeout_s=60, **{"with": what})
        error = caught.value
        assert error.name == "agent-disk-full" and says in error.detail and error.outcome == "unknown"
        home = bench.node / "agents" / agent / "0" / "home"
        assert str(home) in error.hint
        with pytest.raises(MeshError, match="agent-disk-full"):
            await bench.provider.start(bench.spec())
        shutil.rmtree(home)
        assert await bench.start() == agent and await bench.call(agent, "echo") == {}

    async def test_another_agent_is_not_disturbed(self, bench: Bench) -> None:
        agent, other = await bench.start(), await bench.start(name="two")
        with pytest.raises(Failed, match="agent-disk-full"):
            await bench.call(agent, "fill", timeout_s=60, **{"with": "bytes"})
        assert await bench.call(other, "echo") == {} and bench.provider.statistics()[other][0].restarts == 0


def test_what_is_in_bounds_is_not_too_much(tmp_path: Path) -> None:
    assert excess(tmp_path / "nothing", SMALL) is None
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_bytes(bytes(8 << 20 >> 1))
    assert excess(tmp_path, SMALL) is None
    (tmp_path / "in" / "more").write_bytes(bytes(8 << 20 >> 1))
    assert excess(tmp_path, SMALL) == "more than 8 MiB"


def test_a_file_with_holes_counts_as_what_it_takes(tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 30)
    assert excess(tmp_path, SMALL) is None


def test_links_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "root").symlink_to("/")
    (tmp_path / "self").symlink_to(tmp_path)
    assert excess(tmp_path, SMALL) is None
    assert excess(tmp_path / "root", SMALL) is None, "not even the first step"


def test_many_and_deep_are_too_much_and_no_handle_is_left(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    for index in range(150):
        (tmp_path / "wide" / str(index)).mkdir(parents=True)
    assert excess(tmp_path, SMALL) is None
    deep = tmp_path / "deep"
    for _ in range(limits.PRIVATE_DEPTH):
        deep /= "d"
    deep.mkdir(parents=True)
    assert "deep" in str(excess(tmp_path / "deep", SMALL))
    for index in range(60):
        (tmp_path / "wide" / f"more-{index}").touch()
    assert excess(tmp_path / "wide", SMALL) == "more than 200 files"
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_closed_folder_is_too_much(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    try:
        assert str(excess(tmp_path, SMALL)).startswith("what cannot be counted")
    finally:
        (tmp_path / "closed").chmod(0o700)


async def test_it_is_looked_at_again_and_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    counting = Counting(Room(max_files=1, check_s=5))
    with trio.move_on_after(60) as scope:
        await counting.wait_excess(tmp_path)
    assert scope.cancelled_caught
    for name in ("a", "b"):
        (tmp_path / name).touch()
    assert await counting.wait_excess(tmp_path) == "more than 1 files"
