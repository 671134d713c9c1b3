"""The options by which every client command names the node that it asks, written once, and what a shell completes them to.

A command takes ``Where`` as its first parameter; ``asking`` puts the four options in its place.
"""

import functools
import inspect
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Concatenate, ParamSpec, TypeVar

import typer

from meshos.errors import MeshError

if TYPE_CHECKING:
    from meshos.node.cli.client_connection import Target
    from meshos.node.cli.testnet.record import Testnet

P = ParamSpec("P")
R = TypeVar("R")

COMPLETION_S = 0.12
"""What asking nodes may take while a shell completes a word: with the start of Python it stays near the 200 ms that nobody notices."""


@dataclass(frozen=True, slots=True)
class Where:
    """Which node is asked, as the command line says it."""

    node: str | None = None
    api_key: str | None = None
    directory: Path | None = None
    org: str | None = None

    def target(self) -> "Target":
        """The node; raises as ``client_connection.find``."""
        from meshos.node.cli.client_connection import find

        return replace(find(self.node, self.api_key, self.directory, self.org), options=self.options())

    def options(self) -> str:
        """The options as they are typed; never the key, which would stay in a terminal's history."""
        given = (("--node", self.node), ("--dir", self.directory), ("--org", self.org))
        return "".join(f" {option} {shlex.quote(str(value))}" for option, value in given if value is not None)

    def testnet(self) -> "Testnet":
        """The testnet that lies where the options say; raises as ``record.load``."""
        from meshos.node.cli.client_connection import testnet_here
        from meshos.node.cli.testnet import record

        return record.load(self.directory or testnet_here())


def _where(context: typer.Context) -> Where:
    return Where(**{name: context.params.get(name) for name in ("node", "api_key", "directory", "org")})


def _nodes(context: typer.Context, incomplete: str) -> list[str]:
    """The testnet's nodes that run."""
    try:
        nodes = _where(context).testnet().nodes
    except MeshError:
        return []
    return [node.name for node in nodes if node.pid is not None and node.name.startswith(incomplete)]


def _orgs(context: typer.Context, incomplete: str) -> list[str]:
    """The testnet's organisations."""
    try:
        nodes = _where(context).testnet().nodes
    except MeshError:
        return []
    return sorted({node.org for node in nodes if node.org.startswith(incomplete)})


def _agents(context: typer.Context, incomplete: str) -> list[str]:
    """The agents of the node that would be asked, and of the testnet's others while there is time; what does not answer gives none."""
    return _ids(context, incomplete, "agents", "agentId")


def proposal_ids(context: typer.Context, incomplete: str) -> list[str]:
    """The motions that the node that would be asked knows, as ``_agents``."""
    return _ids(context, incomplete, "proposals", "id")


def open_proposal_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Those of them that can be voted on."""
    return _ids(context, incomplete, "proposals", "id", "open")


def _ids(context: typer.Context, incomplete: str, listed: str, key: str, state: str | None = None) -> list[str]:
    """What stands under ``key`` in each row that is ``listed`` at nodes: in this ``state`` only, where one is named."""
    from meshos.node.cli.client_connection import Client

    until = time.monotonic() + COMPLETION_S
    found: dict[str, None] = {}
    for target in _targets(_where(context)):
        left_s = until - time.monotonic()
        if left_s <= 0:
            break
        try:
            with Client(target) as client:
                answer = client.send("GET", ("v1", listed), None, left_s)
        except MeshError:
            continue
        rows = answer.get(listed)
        shown = [one for one in rows if isinstance(one, dict)] if isinstance(rows, list) else []
        ids = [str(one.get(key)) for one in shown if state in (None, one.get("state"))]
        found.update(dict.fromkeys(identity for identity in ids if identity.startswith(incomplete)))
    return list(found)


def _targets(where: Where) -> "list[Target]":
    """The node that ``where`` names, then the other nodes of its testnet."""
    try:
        first = where.target()
    except MeshError:
        return []
    if where.node is not None or where.org is not None:
        return [first]
    try:
        others = [Where(node.name, directory=where.directory).target() for node in where.testnet().nodes if node.pid is not None]
    except MeshError:
        return [first]
    return [first, *(target for target in others if target != first)]


AgentId = Annotated[str, typer.Argument(metavar="AGENT_ID", help="An agent's id, or the beginning of one.", autocompletion=_agents)]
RelatedOption = Annotated[
    str | None,
    typer.Option("--related", metavar="AGENT_ID", help="Instead of QUERY: agents that are like this one.", autocompletion=_agents),
]
SubstituteOption = Annotated[
    str | None,
    typer.Option(
        "--substitute",
        metavar="AGENT_ID",
        help="Instead of QUERY: agents that are like this one, and have all of its capabilities.",
        autocompletion=_agents,
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print ids only.")]


def _options(
    *,
    node: Annotated[
        str | None,
        typer.Option(
            "--node", metavar="URL", help="The node's API address, or its name in the testnet. [env: MESH_NODE]", autocompletion=_nodes
        ),
    ] = None,
    api_key: Annotated[str | None, typer.Option("--api-key", metavar="KEY", help="An API key of that node. [env: MESH_API_KEY]")] = None,
    directory: Annotated[Path | None, typer.Option("--dir", help="The testnet's folder. [default: testnet]")] = None,
    org: Annotated[str | None, typer.Option("--org", help="Whose node of the testnet to ask.", autocompletion=_orgs)] = None,
) -> Where:
    return Where(node, api_key, directory, org)


def asking(command: Callable[Concatenate[Where, P], R]) -> Callable[..., R]:
    """``command`` as Typer reads it: with the options that name a node instead of its first parameter."""
    signature = inspect.signature(command)
    _, *own = signature.parameters.values()
    named = inspect.signature(_options).parameters

    @functools.wraps(command)
    def run(*arguments: P.args, **given: P.kwargs) -> R:
        where = _options(**{name: given.pop(name) for name in named})  # type: ignore[arg-type]
        return command(where, *arguments, **given)

    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    run.__signature__ = signature.replace(parameters=[*keywords, *named.values()])  # type: ignore[attr-defined]
    return run
