"""``mesh quarantine``: what is cut off in the whole mesh, and letting it out again."""

from typing import Annotated

import typer

from meshos.node.cli.client_options import QuietOption, Where, asking
from meshos.node.cli.decisions import ReasonOption, TimeoutOption
from meshos.node.cli.output import JsonFlag

app = typer.Typer(help="What is in quarantine: no call goes to it, and nobody finds it.", no_args_is_help=True, rich_markup_mode=None)


def register(root: typer.Typer) -> None:
    """Add ``mesh quarantine``."""
    app.command(name="list", epilog="Example: mesh quarantine list --org alpha")(asking(list_))
    app.command(epilog="Example: mesh quarantine lift a-3f2c9aa1b0d41c55 --reason 'it answers rightly again' --org alpha")(asking(lift))
    root.add_typer(app, name="quarantine")


def list_(where: Where, quiet: QuietOption = False, as_json: JsonFlag = False) -> None:
    """Who is in quarantine, since when, and whether several coordinators have decided so or one alone."""
    from meshos.node.cli import client_quarantine

    client_quarantine.list_(where.target(), quiet=quiet, as_json=as_json)


def lift(
    where: Where,
    subject: Annotated[
        str, typer.Argument(metavar="ID", help="An organisation's DID, a node's or an agent's id: see `mesh quarantine list`.")
    ],
    reason: ReasonOption,
    timeout: TimeoutOption = 30.0,
    as_json: JsonFlag = False,
) -> None:
    """Propose to let it out again, in the name of the node's organisation; as `mesh propose` with `lift`."""
    from meshos.node.cli import client_quarantine

    client_quarantine.lift(where.target(), subject, reason, timeout, as_json=as_json)
