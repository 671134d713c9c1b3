"""What the demo tells, for people and for programs: the same steps. The whole demo is run by tests/test_console.py."""

import io
from pathlib import Path

import pytest

from meshos.errors import Failed
from meshos.node.cli.demonstration import _Story


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
