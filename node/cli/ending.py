"""How every command ends: one plain sentence, an exit code, never a traceback.

0 yes, 1 no, 2 usage or file, 3 unreachable or unknown, 4 refused, 70 our bug, 130 interrupted.
"""

import json
import os
import platform
import re
import sys
import tempfile
import traceback
from collections.abc import Sequence

import typer

from meshos.errors import BadInput, Broken, MeshError
from meshos.node.cli.output import clean

INTERRUPTED = 130
_SECRET_OPTIONS = frozenset({"--api-key", "--join", "--key", "--passphrase", "--data"})


def of_error(error: MeshError, argv: Sequence[str]) -> int:
    """Say what was wrong and give the exit code; with ``--json`` the problem document is what stdout gets."""
    print(f"mesh: {clean(str(error))}", file=sys.stderr, flush=True)
    if "--json" in argv:
        from meshos.node.api.problems import document

        problem = {"schema": f"mesh.{command_of(argv)}/1"} | document(error, request_id="")
        print(json.dumps(problem, ensure_ascii=False, indent=2))
    return error.exit_code


_NEGATIVE = re.compile(r"option: -\.?[0-9]")


def of_usage(error: typer.TyperException, argv: Sequence[str]) -> int:
    """A command line that makes no sense: its sentence, and where help is; a group named alone gets its list of commands."""
    message = error.format_message().strip()
    if message.startswith("Usage:"):
        print(message, file=sys.stderr)
        return BadInput.exit_code
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "mesh"
    sentence = message.rstrip(".")
    hint = f"see `{path} --help`"
    if _NEGATIVE.search(sentence):
        hint = f"a word that begins with - is an option, and no amount or number here is negative: {hint}"
    return of_error(BadInput("usage", sentence[:1].lower() + sentence[1:], hint=hint), argv)


def of_bug(error: BaseException, argv: Sequence[str]) -> int:
    """A bug of ours: a sentence for the user, the traceback into a report file that only they can read."""
    where = _write_report(error, argv)
    detail = f"a bug of ours, {type(error).__name__}; it is unknown whether anything changed"
    return of_error(Broken("internal", detail, hint=f"the report {where} says more: please pass it on"), argv)


def words_of(argv: Sequence[str]) -> list[str]:
    """The command's words at the start of ``argv``, as in ["genesis", "check"]; at most two, no options, no values."""
    words: list[str] = []
    for word in argv:
        if not word.replace("-", "").isalpha() or word.startswith("-") or len(words) == (2 if words[:1] and words[0] in GROUPS else 1):
            break
        words.append(word)
    return words


GROUPS = frozenset({"genesis", "org", "testnet", "sim", "wallet", "directory", "ledger", "key", "policy", "quarantine", "square"})
"""Commands that have commands of their own."""


def command_of(argv: Sequence[str]) -> str:
    """The command's name in a schema, as in ``genesis-check``."""
    return "-".join(words_of(argv)) or "mesh"


def _without_secrets(argv: Sequence[str]) -> list[str]:
    shown: list[str] = []
    hide_next = False
    for word in argv:
        option, _, value = word.partition("=")
        if hide_next:
            shown.append("(removed)")
        elif option in _SECRET_OPTIONS and value:
            shown.append(f"{option}=(removed)")
        else:
            shown.append(word)
        hide_next = not hide_next and word in _SECRET_OPTIONS
    return shown


def _write_report(error: BaseException, argv: Sequence[str]) -> str:
    from importlib.metadata import version

    lines = [
        f"meshos {version('meshos')}, Python {platform.python_version()}, {platform.platform()}",
        f"command: mesh {' '.join(_without_secrets(argv))}",
        "",
        *traceback.format_exception(error),
    ]
    handle, path = tempfile.mkstemp(prefix="mesh-report-", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write("\n".join(lines))
    return path
