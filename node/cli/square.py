"""``mesh square``: what a stranger asks of a mesh, over the public square of one of its nodes, with no key and no folder."""

from typing import Annotated

import typer

from meshos.node.cli.output import JsonFlag

app = typer.Typer(
    help="Ask a mesh from outside: the public square of one of its nodes, no key needed.", no_args_is_help=True, rich_markup_mode=None
)

Address = Annotated[str, typer.Argument(metavar="ADDR", help="The square of a node: a multiaddr over TCP or QUIC, or HOST:PORT.")]
Mesh = Annotated[
    str | None,
    typer.Option(
        "--mesh",
        metavar="HASH",
        help="The hash of its genesis, or its first 32 digits, from somebody you trust: all that has to be trusted.",
    ),
]


def register(root: typer.Typer) -> None:
    """Add ``mesh square``."""
    root.add_typer(app, name="square")


@app.command(epilog="Example: mesh square find 192.168.1.20")
def find(
    host: Annotated[str, typer.Argument(metavar="HOST", help="This machine's address on the network.")],
    seconds: Annotated[float, typer.Option(min=0.1, max=60, help="How long to listen.")] = 2.0,
    as_json: JsonFlag = False,
) -> None:
    """Nodes on this local network, by multicast DNS: where their squares are."""
    from meshos.node.cli import client_square

    client_square.find(host, seconds, as_json=as_json)


@app.command(epilog="Example: mesh square describe 127.0.0.1:8401")
def describe(address: Address, mesh: Mesh = None, as_json: JsonFlag = False) -> None:
    """Which mesh this is, its organisations, and where its ledger stands; proven where --mesh is given."""
    from meshos.node.cli import client_square

    client_square.describe(address, mesh, as_json=as_json)


@app.command(epilog='Example: mesh square search 127.0.0.1:8401 "read a chest x-ray"')
def search(
    address: Address,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What is wanted, in plain words.")],
    limit: Annotated[int, typer.Option(min=1, max=20, help="How many agents at most.")] = 10,
    as_json: JsonFlag = False,
) -> None:
    """Agents that the node knows of and that fit; it signs its answer."""
    from meshos.node.cli import client_square

    client_square.search(address, query, limit, as_json=as_json)


@app.command(epilog="Example: mesh square resolve 127.0.0.1:8401 did:mesh:enterprise:alpha")
def resolve(
    address: Address,
    did: Annotated[str, typer.Argument(metavar="DID", help="Of an organisation.")],
    mesh: Mesh = None,
    as_json: JsonFlag = False,
) -> None:
    """The DID document of an organisation, made of what the ledger proves."""
    from meshos.node.cli import client_square

    client_square.resolve(address, did, mesh, as_json=as_json)


@app.command(epilog="Example: mesh square verify 127.0.0.1:8401 account/did:mesh:enterprise:alpha")
def verify(
    address: Address,
    key: Annotated[str, typer.Argument(metavar="KEY", help="A key of the ledger's state, such as account/DID or org/DID.")],
    mesh: Mesh = None,
    as_json: JsonFlag = False,
) -> None:
    """What the ledger says of a key, fetched and proven from the genesis on."""
    from meshos.node.cli import client_square

    client_square.verify(address, key, mesh, as_json=as_json)
