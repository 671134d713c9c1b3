"""Output: plain tables that line up, text of strangers that can do nothing."""

import io
import json
import threading
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshos.node.cli import output


@given(st.text())
def test_cleaned_text_has_no_character_that_a_terminal_obeys(text: str) -> None:
    kept = output.clean(text)
    assert all(unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") for character in kept)
    assert output.clean(kept) == kept


def test_ordinary_text_stays() -> None:
    text = "Łódź 東京 é ✓ [bold]no markup[/bold] a_b-c.d 10 €"
    assert output.clean(text) == text
    assert output.clean("two\nlines\tand") == "two lines and"
    assert output.clean("two\nlines", keep_lines=True) == "two\nlines"


def test_a_plain_table_lines_up_also_with_wide_characters(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("NAME", "N", "WHAT"), [("東京", 7, "x"), ("a", 123, None), ("evil\x1b[2J\nname", 1, "[red]")], right=("N",))
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["NAME            N  WHAT", "東京            7  x", "a             123  -", "evil[2J name    1  [red]"]


def test_no_rows_say_none(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("A",), [])
    assert capsys.readouterr().out == "none\n"


def test_a_long_cell_is_cut() -> None:
    assert len(output.cell("x" * 10_000)) == output.MAX_CELL and output.cell("x" * 10_000).endswith("...")


def test_a_document_begins_with_its_schema(capsys: pytest.CaptureFixture[str]) -> None:
    output.document("members", {"members": [], "name": "\x1b[31m"})
    text = capsys.readouterr().out
    assert list(json.loads(text)) == ["schema", "members", "name"] and "\x1b" not in text


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_colours_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    assert output.colourful(Terminal()) and not output.colourful(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not output.colourful(Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not output.colourful(Terminal())


def test_a_table_on_a_terminal_reads_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    output.table(("NAME", "STATE"), [("[red]x[/red] :smile:", output.signed_state("suspect"))])
    shown = terminal.getvalue()
    assert "[red]x[/red] :smile:" in shown and "? suspect" in shown and "\x1b[" in shown


def test_progress_moves_on_a_terminal_and_is_lines_elsewhere() -> None:
    moving, still = Terminal(), io.StringIO()
    for stream in (moving, still):
        shown = output.Progress(stream, quiet_s=0)
        for text in ("1 of 2", "1 of 2", "2 of 2\x1b[2J"):
            shown.at(text)
        shown.close()
    assert still.getvalue() == "1 of 2\n2 of 2[2J\n"
    assert moving.getvalue() == "\r\x1b[K1 of 2\r\x1b[K2 of 2[2J\r\x1b[K"


def test_work_that_is_over_soon_shows_no_progress() -> None:
    stream = Terminal()
    shown = output.Progress(stream, quiet_s=600)
    shown.at("1 of 2")
    shown.close()
    shown.at("2 of 2")
    assert stream.getvalue() == ""


def test_work_that_takes_longer_shows_where_it_is_without_being_asked_again() -> None:
    written = threading.Event()

    class Stream(io.StringIO):
        def flush(self) -> None:
            written.set()

    stream = Stream()
    shown = output.Progress(stream, quiet_s=0.01)
    shown.at("starting")
    assert written.wait(timeout=60)
    shown.close()
    assert stream.getvalue() == "starting\n"
