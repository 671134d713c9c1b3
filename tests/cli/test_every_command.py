"""What CONTRACT.md asks of every command, asked of every command there is: --json, an example in --help, and a word about those to come."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from meshos.node.cli import later, main
from tests.cli.conftest import Mesh

main.add_plugins([])
ROOT: Any = typer.main.get_command(main.app)
"""Any: the classes of Typer's commands are not public."""


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    for name, one in inner.items():
        yield from leaves(one, (*path, name))


COMMANDS = {path: command for path, command in leaves(ROOT) if not command.hidden}
TO_COME = [("mesh", one) for one in later.COMMANDS]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_it_takes_json_and_shows_an_example(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    options = {option for parameter in command.params for option in parameter.opts}
    assert "--json" in options
    assert f"Example: mesh {' '.join(path)}" in f"{command.help} {command.epilog}"


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_a_word_that_is_no_option_is_refused_as_a_document(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([*path, "--no-such-option", "--json"]) == 2
    printed = capsys.readouterr()
    problem = json.loads(printed.out)
    assert next(iter(problem.items())) == ("schema", f"mesh.{'-'.join(path)}/1")
    assert problem["name"] == "usage" and problem["exit"] == 2
    assert printed.err.startswith("mesh: ") and printed.err.endswith("[usage]\n") and printed.err.count("\n") == 1


@pytest.mark.parametrize(("program", "command"), TO_COME, ids=lambda value: getattr(value, "name", ""))
def test_a_command_to_come_says_so_in_one_sentence(program: str, command: later.Later, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*program.split()[1:], command.name, "any", "words", "--choice", "for", "-x"]
    assert main.run(words) == 4
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"mesh: `{program} {command.name}` will {command.does}; it comes with {command.part} [not-yet]\n"
    assert main.run([*words, "--json"]) == 4
    problem = json.loads(capsys.readouterr().out)
    assert (problem["name"], problem["exit"], problem["outcome"]) == ("not-yet", 4, "not_done")


def test_no_command_to_come_is_there_already() -> None:
    there = {path[0] for path in COMMANDS} | {" ".join(path) for path in COMMANDS}
    assert not there & {one.name for one in later.COMMANDS}


def test_help_keeps_what_is_to_come_apart(mesh: Mesh) -> None:
    there, _, to_come = mesh("--help").out.partition("Not yet:")
    assert "  discover " in there and "veto" not in there
    assert all(one.name in to_come for one in later.COMMANDS)
