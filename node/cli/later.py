"""Commands that a later part of Mesh OS brings: each says in one sentence what it will do, and with what it comes.

They stand in a table of data, stay out of completion and of the list of commands, and take any words, so that what somebody
has read about in a plan gets an answer instead of "no such command".
"""

from collections.abc import Callable
from dataclasses import dataclass

import typer

from meshos.errors import Refused


@dataclass(frozen=True, slots=True)
class Later:
    """A command to come: its words, what it will do (after "will"), and the part that it comes with."""

    name: str
    does: str
    part: str


GOVERNANCE = "governance"
TRUST, OUTSIDE = "trust and policies", "the open directory"
WEB = "the dashboard"

COMMANDS = (
    Later("veto", "let people stop a decision", GOVERNANCE),
    Later("override", "let people replace a decision", GOVERNANCE),
    Later("trust", "show how far an organisation is trusted, and why", TRUST),
    Later("policy", "check and test a policy", TRUST),
    Later("attest", "prove what a node runs on", TRUST),
    Later("crawl", "collect records of agents from outside the mesh", OUTSIDE),
    Later("ui", "open the dashboard in a browser", WEB),
)
_ANY_WORDS = {"ignore_unknown_options": True, "allow_extra_args": True}


def register(app: typer.Typer, commands: tuple[Later, ...] = COMMANDS, path: str = "mesh") -> None:
    """Add ``commands`` below ``path``."""
    for later in commands:
        help_text = f"Not yet: will {later.does}; comes with {later.part}."
        app.command(later.name, hidden=True, help=help_text, context_settings=_ANY_WORDS)(_refusal(path, later))


def _refusal(path: str, later: Later) -> Callable[[], None]:
    def refuse() -> None:
        raise Refused("not-yet", f"`{path} {later.name}` will {later.does}", hint=f"it comes with {later.part}")

    return refuse


def panel() -> str:
    """For the end of ``mesh --help``: the commands to come, by the part that they come with."""
    parts: dict[str, list[str]] = {}
    for later in COMMANDS:
        parts.setdefault(later.part, []).append(later.name)
    width = max(map(len, parts))
    return "\n".join(["\b", "Not yet:", *(f"  with {part:<{width}}  {', '.join(names)}" for part, names in parts.items())])
