"""Console blocks of pages: read, run on a terminal, compared with what the page shows, and written anew.

A block is fenced as ``console``; a line that begins with ``$ `` is a command, and what follows is all that it prints. Two texts are
the same if they are once what differs from run to run (times, ids, ports, scores) is taken out. A line of three dots stands for any lines.
"""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HOME = "/home/you"
"""How a page calls the folder that its commands are run in."""
ELLIPSIS = "..."
_NODE = re.compile(r"12D3KooW[1-9A-HJ-NP-Za-km-z]{44}")
_VARIES = tuple(
    (re.compile(pattern), stands)
    for pattern, stands in (
        (r"\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)", "<time>"),
        (_NODE.pattern, "<node>"),
        (r"\bt-[0-9a-f]{6,32}\b", "<task>"),
        (r"\b[0-9a-f]{16,64}\b", "<hash>"),
        (r":\d{4,5}\b", ":<port>"),
        (r" --base-port \d+", ""),
        (r"(?<![\w.])\d+(?:\.\d+)? (?:ms|s|m|h|d)\b", "<duration>"),
        (r"\b\d+ [MG]iB\b", "<size>"),
        (r"\baccused by [\w, -]+", "accused by <others>"),
        (r"\b[01]\.\d\d\b(?! MESH)", "<score>"),
        (r"\b\d+%", "<share>"),
        (r"\blist \d{10} of\b", "list <number> of"),
        (r"\s+", " "),
    )
)


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a page, what it shows below it, and the lines of the page (from 0, end excluded) that show it."""

    command: str
    shown: tuple[str, ...]
    begin: int
    end: int


def steps(page: str) -> Iterator[Step]:
    """The commands in the console blocks of ``page``, in their order."""
    lines = page.splitlines()
    begin: int | None = None
    inside = False
    for number, line in enumerate(lines):
        ends = inside and (line.startswith("$ ") or line == "```")
        if ends and begin is not None:
            yield Step(lines[begin].removeprefix("$ "), tuple(lines[begin + 1 : number]), begin, number)
            begin = None
        if line.startswith("```"):
            inside = line == "```console"
        elif inside and line.startswith("$ "):
            begin = number


def plain(line: str) -> str:
    """``line`` without what differs from run to run."""
    for pattern, stands in _VARIES:
        line = pattern.sub(stands, line)
    return line.strip()


def same(shown: Sequence[str], printed: Sequence[str]) -> bool:
    """Whether a page shows what was printed."""
    return _matches([plain(line) for line in shown], [plain(line) for line in printed])


def _matches(shown: Sequence[str], printed: Sequence[str]) -> bool:
    """As a glob: what follows an ellipsis is looked for from the first place on, so only the last one met is ever tried again."""
    at = found = 0
    ellipsis, from_there = -1, 0
    while found < len(printed):
        if at < len(shown) and shown[at] == ELLIPSIS:
            ellipsis, from_there = at, found
            at += 1
        elif at < len(shown) and shown[at] == printed[found]:
            at, found = at + 1, found + 1
        elif ellipsis >= 0:
            from_there += 1
            at, found = ellipsis + 1, from_there
        else:
            return False
    return all(line == ELLIPSIS for line in shown[at:])


def run(command: str, folder: Path, environment: Mapping[str, str]) -> list[str]:
    """What ``command`` leaves on a terminal, line by line; what it wiped away again is not there."""
    ours, terminal = pty.openpty()
    told = dict(environment) | {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "110"}
    with subprocess.Popen(["bash", "-c", command], cwd=folder, env=told, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal):
        os.close(terminal)
        data = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    text = data.decode("utf-8", "replace").replace("\r\n", "\n")
    lines = [line.rpartition("\r\x1b[K")[2].rstrip().replace(str(folder), HOME) for line in text.split("\n")]
    return lines[:-1] if lines and not lines[-1] else lines


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:
        return b""  # nobody holds the other end any more (EIO)


def renamed(shown: Sequence[str], printed: Sequence[str]) -> dict[str, str]:
    """The node ids of this run by those that the page shows in the same places: later commands name them."""
    pairs = zip(_NODE.findall("\n".join(shown)), _NODE.findall("\n".join(printed)), strict=False)
    return dict(pairs)


def rewritten(page: str, printed: Sequence[tuple[Step, Sequence[str]]], names: Mapping[str, str]) -> str:
    """``page`` with what was printed in place of what it shows, where the two differ; blocks with an ellipsis stay as they are."""
    lines = page.splitlines()
    for step, new in reversed(printed):
        if ELLIPSIS not in step.shown and not same(step.shown, new):
            lines[step.begin + 1 : step.end] = new
    text = "\n".join(lines) + "\n"
    for old, new_name in names.items():
        text = text.replace(old, new_name)
    return text


def environment() -> dict[str, str]:
    """As a user's who has activated the environment that these tests run in."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MESH_")}
    return kept | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
