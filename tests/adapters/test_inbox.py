"""What a killed node left in its agents' inboxes: gone at the next start, so that the same task can be called again with its file."""

from pathlib import Path

import pytest

from meshos.adapters.onprem import inbox
from meshos.ids import TaskId

from .conftest import Bench


def _left(replica: Path) -> Path:
    """A delivery that nobody removed."""
    (replica / "inbox").mkdir(mode=0o711, parents=True)
    _, folder = inbox.deliver(replica / "inbox", TaskId("t-1"), {"path": b"from before"})
    return folder


@pytest.fixture
def left_behind(folders: tuple[Path, Path]) -> list[Path]:
    """What a kill in the middle of calls leaves, before the provider of ``bench`` starts: of two replicas and of an agent of before."""
    agents = folders[0] / "agents"
    left = [_left(agents / agent / number) for agent, number in (("a-one", "0"), ("a-one", "1"), ("a-gone", "0"))]
    for folder in (agents, agents / "a-one", agents / "a-one" / "0"):
        folder.chmod(0o711)
    (agents / "a-one" / "0" / "home").mkdir()
    (agents / "a-one" / "0" / "home" / "kept").write_text("the agent's own")
    return left


async def test_the_same_task_with_its_file_again_after_a_kill(left_behind: list[Path], bench: Bench) -> None:
    assert [folder.exists() for folder in left_behind] == [False, False, False]
    agent = await bench.start()
    assert await bench.call(agent, "read", path=b"once more") == "read: once more"
    assert (bench.node / "agents" / agent / "0" / "home" / "kept").read_text() == "the agent's own"


def test_another_link_than_a_delivery_is_not_followed(tmp_path: Path) -> None:
    """An agent that shares the node's user cannot have the node remove what lies elsewhere."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    folder = _left(tmp_path / "agents" / "a-one" / "0").parent
    (folder / "link").symlink_to(outside)
    inbox.empty(tmp_path / "agents")
    assert (outside / "precious").read_text() == "x"
    assert [entry.name for entry in folder.iterdir()] == ["link"]
