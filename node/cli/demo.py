"""``mesh demo``."""

from typing import Annotated

import typer

from meshos.node.cli.output import JsonFlag
from meshos.node.cli.testnet.commands import BASE_PORT


def register(app: typer.Typer) -> None:
    """Add ``mesh demo``."""
    app.command(epilog="Example: mesh demo --keep")(demo)


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the mesh running in ./testnet.")] = False,
    base_port: Annotated[int, typer.Option(min=1024, max=60_000, help="Where to look for free ports from.")] = BASE_PORT,
    as_json: JsonFlag = False,
) -> None:
    """Four organisations on this machine: deploy, discover, call, and a node that dies; narrated, then cleaned up."""
    from meshos.node.cli import demonstration

    demonstration.tell(keep=keep, base_port=base_port, as_json=as_json)
