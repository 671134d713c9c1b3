"""What commands print: answers on stdout, everything about them on stderr, tables that are rich on a terminal and plain elsewhere.

Text that came from strangers (names, descriptions, error sentences of other organisations) passes ``clean`` before it reaches a
terminal, and is never read as markup. Colour is an addition: each state has its sign too, and ``NO_COLOR`` is obeyed.
"""

import json
import os
import sys
import threading
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, TextIO

import typer

from meshos.errors import BadInput

JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else there.")]
"""The ``--json`` that every command takes."""

STATE_SIGNS: Mapping[str, tuple[str, str]] = {
    "alive": ("+", "blue"),
    "suspect": ("?", "yellow"),
    "dead": ("x", "magenta"),
    "left": ("-", "bright_black"),
}
"""State of a member: its sign and its colour (told apart without colour; never red against green)."""

MAX_CELL = 200
"""Longest text of a table's cell, in characters; what is longer ends in three dots."""
MAX_TEXT = 65_536
"""Of an argument that stands in a file."""
QUIET_S = 1.0
"""Work that takes less shows no progress."""
_GAP = "  "


def clean(text: str, *, keep_lines: bool = False) -> str:
    """``text`` without what could move a cursor, colour a terminal or reorder a line.

    Control characters (C0, C1, DEL), format characters (bidirectional overrides, zero-width ones), lone surrogates and private-use ones go;
    tabs and line ends become a space, unless ``keep_lines``.
    """
    kept: list[str] = []
    for character in text:
        if character in "\n\t":
            kept.append(character if keep_lines else " ")
        elif unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co") and character not in "\u2028\u2029":
            kept.append(character)
    return "".join(kept)


def colourful(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal that wants colours (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def document(command: str, body: Mapping[str, object]) -> None:
    """Print ``body`` as the one JSON document of ``mesh <command> --json``; money is a string in it already."""
    print(json.dumps({"schema": f"mesh.{command}/1", **body}, ensure_ascii=False, indent=2, allow_nan=False))


def say(text: str = "") -> None:
    """A line of the answer, on stdout."""
    print(clean(text))


def block(text: str) -> None:
    """An answer of several lines, on stdout."""
    print(clean(text, keep_lines=True))


def note(text: str) -> None:
    """A line about the answer, on stderr."""
    print(clean(text), file=sys.stderr, flush=True)


def ok(text: str) -> None:
    """The verdict of what went well, on stderr."""
    note(f"ok {text}")


def warn(text: str) -> None:
    """What is partial, stale or unknown, on stderr."""
    note(f"! {text}")


def text_of(given: str, what: str) -> str:
    """An argument's text: itself, or what @FILE or stdin (-) holds; raises BadInput ``cannot-read``. ``what`` it should be."""
    if given == "-":
        return sys.stdin.read(MAX_TEXT)
    if not given.startswith("@"):
        return given
    try:
        with open(given[1:], "rb") as file:
            return file.read(MAX_TEXT).decode("ascii")
    except OSError as error:
        raise BadInput("cannot-read", f"{given[1:]} cannot be read: {error.strerror}", hint="check the path") from error
    except UnicodeDecodeError as error:
        raise BadInput("cannot-read", f"{given[1:]} is no {what}") from error


def signed_state(state: str) -> str:
    """A member's state with its sign, as in ``? suspect``."""
    sign, _ = STATE_SIGNS.get(state, ("~", ""))
    return f"{sign} {state}"


def cell(value: object) -> str:
    """``value`` as a table shows it: cleaned, short, ``-`` for nothing."""
    text = "-" if value is None or value == "" else clean(str(value))
    return text if len(text) <= MAX_CELL else text[: MAX_CELL - 3] + "..."


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = (), empty: str = "none") -> None:
    """Print ``rows`` under ``columns`` on stdout; the columns named in ``right`` are aligned right; ``empty`` stands for no rows."""
    texts = [[cell(value) for value in row] for row in rows]
    if not texts:
        say(empty)
    elif colourful(sys.stdout):
        _rich_table(columns, texts, right)
    else:
        for line in _plain_table(columns, texts, right):
            print(line)


def _plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> Iterator[str]:
    widths = [max(_width(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
    for row in (columns, *rows):
        cells = []
        for name, text, width in zip(columns, row, widths, strict=True):
            fill = " " * (width - _width(text))
            cells.append(fill + text if name in right else text + fill)
        yield _GAP.join(cells).rstrip()


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        shown.add_column(Text(name), justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(text, style=_style(text)) for text in row))
    Console(markup=False, highlight=False, emoji=False).print(shown)


def _style(text: str) -> str:
    return next((colour for state, (sign, colour) in STATE_SIGNS.items() if text in (state, f"{sign} {state}")), "")


def _width(text: str) -> int:
    """Columns that ``text`` takes on a terminal: wide East Asian characters take two, combining ones none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


class Progress:
    """Where a longer piece of work is: a line that moves on a terminal, a line a change elsewhere; on stderr.

    Work that is over within ``quiet_s`` says nothing. ``at`` and ``close`` belong to one thread; another wakes once, after that time.
    """

    def __init__(self, stream: TextIO, quiet_s: float = QUIET_S) -> None:
        self._stream = stream
        self._moving = stream.isatty()
        self._wanted = self._shown = ""
        self._lock = threading.Lock()
        self._loud = quiet_s <= 0
        self._timer = threading.Timer(quiet_s, self._begin)
        self._timer.daemon = True
        if not self._loud:
            self._timer.start()

    def at(self, text: str) -> None:
        """Say where the work is now."""
        with self._lock:
            self._wanted = clean(text)
            self._show()

    def close(self) -> None:
        """Take the moving line away."""
        self._timer.cancel()
        with self._lock:
            self._loud = False
            if self._moving and self._shown:
                self._stream.write("\r\x1b[K")
                self._stream.flush()

    def _begin(self) -> None:
        with self._lock:
            if not self._timer.finished.is_set():
                self._loud = True
                self._show()

    def _show(self) -> None:
        if self._loud and self._wanted != self._shown:
            self._shown = self._wanted
            self._stream.write(f"\r\x1b[K{self._shown}" if self._moving else f"{self._shown}\n")
            self._stream.flush()


@contextmanager
def progress() -> Iterator[Progress]:
    """A ``Progress`` on stderr that cleans up behind itself."""
    shown = Progress(sys.stderr)
    try:
        yield shown
    finally:
        shown.close()
