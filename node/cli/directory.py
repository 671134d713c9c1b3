"""``mesh directory``: how many records an organisation has room for, and renting more."""

from typing import Annotated

import typer

from meshos.node.cli.client_options import Where, asking
from meshos.node.cli.output import JsonFlag

app = typer.Typer(help="Room for an organisation's records in the directory.", no_args_is_help=True, rich_markup_mode=None)


def register(root: typer.Typer) -> None:
    """Add ``mesh directory``."""
    app.command(epilog="Example: mesh directory room --org alpha")(asking(room))
    app.command(epilog="Example: mesh directory rent 500 --days 60 --at-most 25 --org alpha")(asking(rent))
    root.add_typer(app, name="directory")


def room(
    where: Where,
    did: Annotated[str | None, typer.Argument(metavar="DID", help="Whose; without it that of the node's own organisation.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """How many records an organisation has in the directory, for how many it has room, until when, and what more costs."""
    from meshos.node.cli import client_directory

    client_directory.room(where.target(), did, as_json=as_json)


def rent(
    where: Where,
    records: Annotated[int, typer.Argument(metavar="RECORDS", min=1, help="For how many records, beyond the free ones, in all.")],
    days: Annotated[int, typer.Option(metavar="DAYS", min=1, max=90, help="For how long, today included; days are those of UTC.")] = 30,
    at_most: Annotated[
        str | None, typer.Option("--at-most", metavar="AMOUNT", help="Pay no more MESH than this.", show_default=False)
    ] = None,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=1, max=300)] = 30.0,
    key: Annotated[str | None, typer.Option("--idempotency-key", metavar="KEY", help="The same rent again, if it is one.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Rent room for so many records in the name of the node's organisation; returns when the ledger has committed it.

    What is paid is the difference: the same again on the same day costs nothing, more records cost what they cost for the days that are
    left, fewer for longer come after what was paid for. Nothing is refunded. Exits 3 if it is not known yet whether it was done.
    """
    from meshos.node.cli import client_directory

    client_directory.rent(where.target(), records, days, at_most, timeout, key, as_json=as_json)
