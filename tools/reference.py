"""Write docs/reference/ from the source: every command's help, every error's entry, the limits that a user meets.

``make docs`` runs it; tests/test_reference.py compares the pages with what it would write.
"""

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from meshos import catalogue
from meshos.consensus.ledger.parameters import SPECS, from_genesis
from meshos.node import folder
from meshos.node.cli import later, main

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
COLUMNS = 100
MADE = "<!-- Made by `make docs` from the source; change it there. -->"

LIMITS = (
    ("Calls", ""),
    ("arguments of a task", "node.api.limits DATA_BYTES"),
    ("files sent along with a task, together", "node.api.limits FILE_BYTES"),
    ("a result; larger is `result-too-large`", "node.api.limits RESULT_BYTES"),
    ("a task's time, if nothing is said", "node.api.limits TIMEOUT_S_DEFAULT"),
    ("a task's time, at most", "node.api.limits TIMEOUT_S_MAX"),
    ("agents that call agents, in a row", "protocols.tasks.limits MAX_DEPTH"),
    ("Agents", ""),
    ("agents of a node", "adapters.onprem.limits MAX_AGENTS"),
    ("tools of an agent", "adapters.onprem.limits MAX_TOOLS"),
    ("calls of an agent at once", "adapters.onprem.limits MAX_CALLS"),
    ("time that an agent has to start", "adapters.onprem.limits START_TIMEOUT_S"),
    ("open files of an agent's process", "adapters.onprem.limits MAX_OPEN_FILES"),
    ("a file that an agent writes", "adapters.onprem.limits MAX_FILE_SIZE_BYTES"),
    ("restarts in a row before an agent is given up", "adapters.onprem.limits MAX_RESTARTS"),
    ("Discovery", ""),
    ("records of an organisation", "protocols.directory.limits ORG_RECORDS"),
    ("records that a node holds", "protocols.directory.limits TOTAL_RECORDS"),
    ("days that room for records is rented ahead", "consensus.ledger.limits MAX_RENT_DAYS"),
    ("a record", "protocols.directory.limits RECORD_BYTES"),
    ("how long a record counts without being renewed", "protocols.directory.limits TTL_S"),
    ("a question", "protocols.directory.limits QUERY_CHARS"),
    ("agents in an answer, and in all of its pages together", "protocols.directory.limits FOUND"),
    ("entries of a list in a filter", "protocols.directory.limits FILTER_ENTRIES"),
    ("capabilities, certifications or regions that are counted (`--facets`)", "protocols.directory.limits FACETS_SHOWN"),
    ("lines published at once", "node.api.limits PUBLISH_LINES"),
    ("Nodes", ""),
    ("members of a mesh", "protocols.membership.limits MEMBERS"),
    ("members of an organisation", "protocols.membership.limits MEMBERS_OF_ORG"),
    ("seeds in `node.toml`", "node.config MAX_SEEDS"),
    ("networks and hosts in `egress.allow`", "node.config MAX_EGRESS"),
    ("revoked certificates of an organisation", "crypto.limits CRL_ENTRIES"),
    ("a node's certificate counts for", "crypto.limits NODE_LIFETIME_S"),
    ("an invitation counts for, at most", "crypto.limits INVITATION_MAX_LIFETIME_S"),
    ("The API of a node", ""),
    ("a request's body, except for tasks and publications", "node.api.limits BODY_BYTES"),
    ("requests at once", "node.api.limits REQUESTS"),
    ("API keys", "node.api.limits KEYS"),
    ("events kept for those who read them late", "node.api.limits EVENTS"),
    ("Strangers at a node's square", ""),
    ("connections", "node.runtime.square.limits CONNECTIONS"),
    ("connections from an address", "node.runtime.square.limits CONNECTIONS_AN_ADDRESS"),
    ("connections of a peer", "node.runtime.square.limits CONNECTIONS_A_PEER"),
    ("streams on a connection", "node.runtime.square.limits STREAMS"),
    ("a connection that asks nothing", "node.runtime.square.limits IDLE_S"),
    ("tokens a second for a peer; one is about a millisecond of the node's processor", "protocols.square.limits PEER_TOKENS_A_SECOND"),
    ("tokens a second for an address", "protocols.square.limits ADDRESS_TOKENS_A_SECOND"),
    ("tokens a second for all", "protocols.square.limits TOKENS_A_SECOND"),
    ("a request", "protocols.square.limits REQUEST_BYTES"),
    ("an answer", "protocols.square.limits ANSWER_BYTES"),
    ("bytes of an answer for a token, beside those of the question", "protocols.square.limits ANSWER_BYTES_A_TOKEN"),
    ("answers that an address has not taken yet", "node.runtime.square.limits UNTAKEN_AN_ADDRESS_BYTES"),
    ("changes of the validators with a proof", "protocols.square.limits STEPS_A_BUNDLE"),
    ("agents found by a search", "protocols.square.limits FOUND"),
)
"""What a limit is of, and the module and constant that hold it; a heading where there is none."""


def errors_page() -> str:
    """Every name of the catalogue."""
    parts = [
        "# Errors",
        MADE,
        "Every error has a stable name, in brackets at the end of its sentence; `mesh explain NAME` says the same as this page.",
    ]
    parts.append("A command ends with the exit code given here; the API sends the name in a problem document (RFC 9457).")
    for name, entry in catalogue.entries().items():
        parts.append(f"## {name}\n\n{entry.kind}, exit code {entry.exit_code}. {entry.means}\n\nDo: {entry.do}")
        if entry.example:
            parts.append(f"```yaml\n{entry.example.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def commands_page() -> str:
    """The help of every command."""
    main.add_plugins([])
    parts = ["# Commands", MADE, "What each command prints with `--help`."]
    with _plain_terminal():
        for path in _leaves(typer.main.get_command(main.app)):
            parts.append(f"## mesh {' '.join(path)}\n\n```text\n{_help(path)}\n```")
    parts.append("## Not yet\n\nThese say in one sentence what they will do, and end with exit code 4 (`not-yet`).")
    rows = [f"| `mesh {one.name}` | will {one.does} | {one.part} |" for one in later.COMMANDS]
    parts.append("\n".join(["| command | does | comes with |", "|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def limits_page() -> str:
    """The limits that a user meets."""
    parts = [
        "# Limits",
        MADE,
        "Whatever is more is refused at once, by name. Each part keeps all of its limits, with their reasons, in its `limits.py`.",
    ]
    rows: list[str] = []
    for what, where in LIMITS:
        if where:
            module, name = where.split()
            value = getattr(importlib.import_module(f"meshos.{module}"), name)
            rows.append(f"| {what} | {_amount(name, value)} |")
        else:
            rows += ["", f"## {what}", "", "| what | at most |", "|---|---|"]
    return "\n\n".join(parts) + "\n" + "\n".join(rows) + "\n"


def parameters_page() -> str:
    """What the organisations decide together about how their mesh works."""
    parts = [
        "# Parameters of the mesh",
        MADE,
        "They are on the ledger: genesis gives the first values, motions and decisions change them (`mesh propose`). All are whole "
        "numbers; a name that ends with `-ms` is in milliseconds. The coordinators may decide on some by themselves, in small steps.",
    ]
    new = from_genesis(folder.template())
    rows = [
        f"| `{name}` | {new[name]:,} | {spec.least:,} | {spec.most:,} | {'coordinators' if spec.autonomous else 'all'} | {spec.read_by} |"
        for name, spec in SPECS.items()
    ]
    parts.append("\n".join(["| name | in a new mesh | least | most | decided by | read by |", "|---|---|---|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


PAGES = {"cli.md": commands_page, "errors.md": errors_page, "limits.md": limits_page, "parameters.md": parameters_page}


@contextlib.contextmanager
def _plain_terminal() -> Iterator[None]:
    """The same text on every machine."""
    before = dict(os.environ)
    os.environ.update({"COLUMNS": str(COLUMNS), "NO_COLOR": "1", "TERM": "dumb"})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """``command``: Any, since the classes of Typer's commands are not public."""
    inner: Mapping[str, Any] | None = getattr(command, "commands", None)
    if inner is None:
        if not command.hidden:
            yield path
        return
    for name, one in inner.items():
        yield from _leaves(one, (*path, name))


def _help(path: tuple[str, ...]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        main.run([*path, "--help"])
    return "\n".join(line.rstrip() for line in out.getvalue().strip().splitlines())


def _amount(name: str, value: float) -> str:
    """A value with the unit that its name ends with."""
    if name.endswith("_BYTES"):
        size, unit = next(
            (size, unit) for size, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "bytes")) if value % size == 0
        )
        return f"{value // size:,} {unit}"
    if "_S" in name and (name.endswith("_S") or "_S_" in name):
        size, unit = next(
            (size, unit) for size, unit in ((86_400, "days"), (3_600, "hours"), (1, "s")) if value >= size and value % size == 0
        )
        return f"{value // size:,.0f} {unit if value != size else unit.removesuffix('s') or unit}"
    return f"{value:,} characters" if name.endswith("_CHARS") else f"{value:,}"


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for page, text in PAGES.items():
        (FOLDER / page).write_text(text(), encoding="utf-8")
    print(f"ok wrote {', '.join(PAGES)} to {FOLDER}", file=sys.stderr)
