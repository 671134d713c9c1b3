"""The options of commands that sign with an organisation's root key, written once."""

from pathlib import Path
from typing import Annotated

import typer

from meshos.node.cli.output import document, ok

RootDir = Annotated[Path, typer.Option("--dir", help="The folder with the organisation's root key.")]
NodeOption = Annotated[
    str | None, typer.Option("--node", metavar="URL", help="The node that passes it on; that of the folder if not given. [env: MESH_NODE]")
]
ApiKeyOption = Annotated[str | None, typer.Option("--api-key", metavar="KEY", help="An API key of that node. [env: MESH_API_KEY]")]
NonceOption = Annotated[
    int | None,
    typer.Option(min=0, metavar="N", help="Ask no node: print the transaction, signed as the root key's Nth (see `mesh ledger key`)."),
]


def say_signed(transaction: str, command: str, as_json: bool) -> None:
    """Print what was signed offline."""
    if as_json:
        document(command, {"transaction": transaction})
        return
    print(transaction)
    ok("signed, and good for 12 h; where a node can be reached: mesh ledger send @FILE")
