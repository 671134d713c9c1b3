"""What README and docs show is what the commands print, run in the pages' order on real nodes. `make docs` writes the pages anew."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshos.node.cli.testnet import making, processes, record
from meshos.node.cli.testnet.commands import BASE_PORT
from tests import console
from tests.console import Step

ROOT = Path(__file__).resolve().parent.parent
PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if "```console" in page.read_text(encoding="utf-8")]
PATIENCE_S = 60.0
LOOKS = ("mesh discover", "mesh members", "mesh status")
"""Commands that only look: what they show may come a moment later, since nodes tell each other at their own pace."""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Where a page's reader stands: the examples are there, and whatever is left running is ended."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    tmp_path.chmod(0o755)  # agents run under users of their own, and their files are looked up through here
    yield tmp_path
    if making.exists(tmp_path / "testnet"):
        processes.kill(record.load(tmp_path / "testnet").nodes)


def command_of(step: Step, names: dict[str, str], base_port: int) -> str:
    """What is run for a step: on ports that are free here, and with the ids of this run."""
    command = step.command.replace("make demo", "mesh demo")
    for shown, printed in names.items():
        command = command.replace(shown, printed)
    if command.startswith(("mesh testnet up", "mesh demo")):
        command += f" --base-port {base_port}"
    return command


def carried_out(step: Step, home: Path, names: dict[str, str], base_port: int) -> list[str]:
    """What the step prints; one that only looks is repeated until it shows what the page does."""
    until = time.monotonic() + PATIENCE_S
    while True:
        printed = console.run(command_of(step, names, base_port), home, console.environment())
        printed = [re.sub(r":(\d{5})\b", lambda port: _usual(port, base_port), line) for line in printed]
        awaited = step.shown and step.command.startswith(LOOKS) and time.monotonic() < until
        if not awaited or console.same(step.shown, printed):
            return printed
        time.sleep(processes.POLL_S)


def _usual(port: re.Match[str], base_port: int) -> str:
    """The port that stands in a page for one of this run."""
    offset = int(port[1]) - base_port
    return f":{BASE_PORT + offset}" if 0 <= offset < 400 else port[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_shows_what_its_commands_print(page: Path, home: Path) -> None:
    text = page.read_text(encoding="utf-8")
    names: dict[str, str] = {}
    base_port = making.free_base_port(4, 23_000)
    done: list[tuple[Step, list[str]]] = []
    for step in console.steps(text):
        printed = carried_out(step, home, names, base_port)
        names |= console.renamed(step.shown, printed)
        done.append((step, printed))
    wrong = [(step, printed) for step, printed in done if not console.same(step.shown, printed)]
    if os.environ.get("MESH_WRITE_PAGES"):
        page.write_text(console.rewritten(text, done, names), encoding="utf-8")
        wrong = [(step, printed) for step, printed in wrong if console.ELLIPSIS in step.shown]  # these are to be mended by hand
    told = "\n".join("\n".join([f"{page.name}:{step.begin + 1}: $ {step.command}", *printed]) for step, printed in wrong)
    assert not wrong, f"`make docs` writes what is shown anew, except where there are dots. Printed now:\n{told}"


# -- the comparison itself -------------------------------------------------------------------------------------------

PAGE = """\
Text
```console
$ mesh one
ok 3 nodes, 4.1 s
$ mesh two
```
```sh
$ mesh three
```
"""


def test_commands_and_their_output_are_found() -> None:
    assert [(step.command, step.shown) for step in console.steps(PAGE)] == [("mesh one", ("ok 3 nodes, 4.1 s",)), ("mesh two", ())]


@pytest.mark.parametrize(
    ("shown", "printed", "alike"),
    [
        (["ok 3 nodes, 4.1 s"], ["ok 3 nodes, 12 ms"], True),
        (["ok 3 nodes, 4.1 s"], ["ok 4 nodes, 4.1 s"], False),
        (["A  B", "a-1  http://127.0.0.1:8101"], ["A     B", "a-1     http://127.0.0.1:23001"], True),
        (["0.59  0.01 MESH"], ["0.61  0.01 MESH"], True),
        (["0.59  0.01 MESH"], ["0.59  0.02 MESH"], False),
        (["first", "...", "last"], ["first", "a", "b", "last"], True),
        (["first", "...", "last"], ["first", "a", "b"], False),
        (["first", "...", "a", "..."], ["first", "b", "a", "b", "a", "c"], True),
        (["...", "a", "last"], ["a", "a", "last"], True),
        (["first", "..."], ["first"], True),
        (["first"], ["first", "more"], False),
        (["first", "more"], ["first"], False),
        ([], [], True),
        ([], ["something"], False),
    ],
)
def test_only_what_differs_from_run_to_run_may_differ(shown: list[str], printed: list[str], alike: bool) -> None:
    assert console.same(shown, printed) is alike


def test_a_page_is_rewritten_where_it_is_wrong_only() -> None:
    first, second = console.steps(PAGE)
    assert console.rewritten(PAGE, [(first, ["ok 3 nodes, 9.9 s"]), (second, [])], {}) == PAGE
    new = console.rewritten(PAGE, [(first, ["ok 4 nodes, 9.9 s"]), (second, ["done"])], {})
    assert new == PAGE.replace("ok 3 nodes, 4.1 s", "ok 4 nodes, 9.9 s").replace("$ mesh two\n", "$ mesh two\ndone\n")


def test_a_terminal_shows_what_was_not_wiped_away(tmp_path: Path) -> None:
    script = r"printf 'working\r\033[Kdone\n'; pwd; echo err >&2; test -t 1 && test -t 2 && echo tty"
    assert console.run(script, tmp_path, console.environment()) == ["done", console.HOME, "err", "tty"]
