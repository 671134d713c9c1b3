"""``mesh``: the commands, how they are found and how they end.

Import-light on purpose: a command that only asks a node never loads the node, and none loads what it does not use. Commands
of other parts (``sim``) join by the entry point group ``meshos.commands``, as a function that gets the app, when they are named.
"""

import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from meshos.errors import MeshError
from meshos.node.cli import (
    backup,
    client,
    decisions,
    demo,
    directory,
    doctor,
    ending,
    genesis,
    init,
    joining,
    key,
    later,
    ledger,
    org,
    proposals,
    quarantine,
    running,
    square,
    wallet,
)
from meshos.node.cli.testnet import commands as testnet

app = typer.Typer(
    name="mesh",
    help="One operating system for AI agents, run together by organisations that do not trust each other.",
    epilog=f"{later.panel()}\n\nStart with: mesh demo",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
PLUGINS = "meshos.commands"
for part in (
    demo,
    testnet,
    client,
    init,
    joining,
    running,
    genesis,
    org,
    key,
    wallet,
    directory,
    ledger,
    square,
    decisions,
    proposals,
    quarantine,
    backup,
    doctor,
    later,
):
    part.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        print(f"mesh {metadata.version('meshos')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)] = False,
) -> None:
    pass


def add_plugins(argv: Sequence[str]) -> None:
    """Load the commands of other parts: the one that ``argv`` names, or all where a list of commands is asked for.

    While a shell completes a word only their names are added: it waits for 200 ms, and one of them may load the whole node.
    """
    completing = "_MESH_COMPLETE" in os.environ
    words = os.environ.get("COMP_WORDS", "").split()[1:] if completing else argv
    named = next((word for word in words if not word.startswith("-")), None)
    if named in _known():
        return
    from importlib import metadata  # 40 ms, which most commands and completions need not wait for

    for entry in metadata.entry_points(group=PLUGINS):
        if named == entry.name or (named is None and not completing):
            entry.load()(app)
        elif completing:
            app.command(name=entry.name)(_later)


def _known() -> set[str]:
    names = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    return names | {group.name or "" for group in app.registered_groups}


def _later() -> None:
    """Stands for a command of another part while a shell completes its name."""


def run(argv: Sequence[str]) -> int:
    """Run one command; the exit code. Whatever happens becomes a sentence, never a traceback."""
    try:
        add_plugins(argv)
        code = app(args=list(argv), prog_name="mesh", standalone_mode=False)
    except MeshError as error:
        return ending.of_error(error, argv)
    except typer.Abort:
        return ending.INTERRUPTED
    except typer.TyperException as error:
        return ending.of_usage(error, argv)
    except KeyboardInterrupt:
        return ending.INTERRUPTED
    except BrokenPipeError:
        return _reader_gone()
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):
            return _reader_gone()
        return error.code if isinstance(error.code, int) else 0
    except BaseException as error:
        return ending.of_bug(error, argv)
    return code if isinstance(code, int) else 0


def _reader_gone() -> int:
    """Whoever read our output has enough: end quietly, as other programs do in a pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def main() -> None:
    """The console script ``mesh``."""
    code = run(sys.argv[1:])
    if code == ending.INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends: one more would end it with a traceback, or by the signal
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _reader_gone()
    sys.exit(code)


if __name__ == "__main__":
    main()
