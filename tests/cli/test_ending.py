"""How commands end: one plain sentence with a name, an exit code, never a traceback; with --json one document."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from meshos.errors import BadInput, Broken, Failed, MeshError, Refused, Unreachable
from meshos.node.cli import ending, main


@pytest.fixture
def app_that(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Make ``mesh boom`` raise something."""

    def use(error: BaseException) -> None:
        app = typer.Typer(rich_markup_mode=None)

        @app.callback()
        def _root() -> None: ...

        @app.command()
        def boom(api_key: str = "", as_json: bool = typer.Option(False, "--json")) -> None:
            raise error

        monkeypatch.setattr(main, "app", app)

    return use


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Failed("busy", "no"), 1),
        (BadInput("busy", "wrong"), 2),
        (Unreachable("busy", "nobody"), 3),
        (Refused("busy", "not you", hint="ask"), 4),
        (Broken("busy", "ours"), 70),
    ],
)
def test_each_class_has_its_exit_code_and_one_sentence(
    app_that: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str], error: MeshError, code: int
) -> None:
    app_that(error)
    assert main.run(["boom"]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"mesh: {error}\n" and printed.err.endswith("[busy]\n")


def test_with_json_the_problem_document_is_all_of_stdout(
    app_that: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    app_that(Refused("busy", "not you", hint="ask", outcome="unknown"))
    assert main.run(["boom", "--json"]) == 4
    problem = json.loads(capsys.readouterr().out)
    assert next(iter(problem.items())) == ("schema", "mesh.boom/1")
    assert (problem["name"], problem["detail"], problem["hint"], problem["outcome"], problem["exit"]) == (
        "busy",
        "not you",
        "ask",
        "unknown",
        4,
    )


def test_a_bug_becomes_a_sentence_and_a_report_without_secrets(
    app_that: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    app_that(KeyError("perQuery"))
    assert main.run(["boom", "--api-key", "mk_secret"]) == 70
    said = capsys.readouterr().err
    assert said.startswith("mesh: a bug of ours, KeyError") and said.endswith("[internal]\n") and said.count("\n") == 1
    (report,) = tmp_path.iterdir()
    text = report.read_text()
    assert "Traceback" in text and "KeyError" in text and "mk_secret" not in text
    assert report.stat().st_mode & 0o077 == 0 and str(report) in said


def test_ctrl_c_is_130(app_that: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]) -> None:
    app_that(KeyboardInterrupt())
    assert main.run(["boom"]) == 130
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "error", [Refused("busy", "evil \x1b[31mred\x1b[0m \u202egnp.exe\n\x07 [bold]x[/bold]"), BadInput("busy", "a\r\x9b2Jb")]
)
def test_a_strangers_sentence_cannot_move_the_cursor(
    app_that: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str], error: MeshError
) -> None:
    app_that(error)
    main.run(["boom"])
    said = capsys.readouterr().err
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 or character == "\u202e" for character in said[:-1])


@pytest.mark.parametrize(
    ("argv", "needle"),
    [
        (["nonsense"], "no such command 'nonsense'"),
        (["init", "--nonsense"], "--nonsense"),
        (["testnet", "kill"], "NODE"),
        (["testnet", "up", "--orgs", "many"], "--orgs"),
        (["testnet", "up", "--orgs", "99"], "24"),
    ],
)
def test_a_wrong_command_line_says_what_and_where_help_is(argv: list[str], needle: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(argv) == 2
    said = capsys.readouterr().err
    assert needle in said and "--help`" in said and "Traceback" not in said and said.count("\n") == 1


def test_a_group_alone_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["testnet"]) == 2
    assert "partition" in capsys.readouterr().err


def test_commands_start_without_the_node() -> None:
    """Client commands never import the node: neither its libraries nor its runtime."""
    heavy = ("trio", "numpy", "plyvel", "hnswlib", "libp2p", "web3", "mcp", "fastapi", "hypercorn", "httpx", "nacl", "cryptography", "rich")
    code = f"import sys, meshos.node.cli.main; print([m for m in {heavy!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_an_interrupt_while_commands_are_loaded_is_an_interrupt() -> None:
    code = """
import os, signal, sys
from meshos.node.cli import start
class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "meshos.node.cli.main":
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupted())
start.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (ending.INTERRUPTED, "", "")


def test_a_reader_that_has_enough_is_no_error() -> None:
    command = f"{sys.executable} -m meshos.node.cli.main explain --list | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == "" and done.stdout.splitlines()[-1] == "0"


def test_words_of_a_command_line() -> None:
    assert ending.command_of(["testnet", "kill", "alpha-1", "--json"]) == "testnet-kill"
    assert ending.command_of(["members", "--json"]) == "members"
    assert ending.command_of(["--json"]) == "mesh"
