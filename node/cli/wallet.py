"""``mesh wallet``: what an organisation has, and moving it."""

from pathlib import Path
from typing import Annotated

import typer

from meshos.errors import BadInput
from meshos.node.cli.client_options import Where, asking
from meshos.node.cli.output import JsonFlag
from meshos.node.cli.root_options import NonceOption, say_signed

app = typer.Typer(help="MESH of the node's organisation.", no_args_is_help=True, rich_markup_mode=None)


def register(root: typer.Typer) -> None:
    """Add ``mesh wallet``."""
    app.command(epilog="Example: mesh wallet balance --org alpha")(asking(balance))
    app.command(epilog="Example: mesh wallet transfer did:mesh:enterprise:beta 25 --org alpha")(asking(transfer))
    app.command(epilog="Example: mesh wallet close 8f3a12cd --org alpha")(asking(close))
    root.add_typer(app, name="wallet")


def balance(
    where: Where,
    did: Annotated[str | None, typer.Argument(metavar="DID", help="Whose; without it that of the node's own organisation.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """What an organisation has, and the tabs that it pays and is paid by."""
    from meshos.node.cli import client_ledger

    client_ledger.balance(where.target(), did, as_json=as_json)


def transfer(
    where: Where,
    did: Annotated[str, typer.Argument(metavar="DID", help="The organisation that gets it.")],
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="MESH, with at most 6 decimals.")],
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=1, max=300)] = 30.0,
    key: Annotated[str | None, typer.Option("--idempotency-key", metavar="KEY", help="The same transfer again, if it is one.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Move MESH to another organisation; returns when the ledger has committed it. Exits 3 if that is not known yet."""
    from meshos.node.cli import client_ledger

    client_ledger.transfer(where.target(), did, amount, timeout, key, as_json=as_json)


def close(
    where: Where,
    tab: Annotated[
        str | None,
        typer.Argument(
            metavar="TAB", help="A tab's id, or 8 hex digits of it; without it all on which the asked node pays.", show_default=False
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A folder with the organisation's root key, which closes any of its tabs; without TAB those of gone nodes."
        ),
    ] = None,
    nonce: NonceOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Close a tab on which the node pays, and get back what is not used of it once its dispute window is over.

    That is an hour of ledger time, 10 s on a testnet. Refused while the provider has not redeemed all that it is owed (tab-in-use: try
    again in a minute). A tab belongs to the node that opened it. The next call that costs something opens another.

    A tab whose node is gone is closed by the root key: --root names its folder, and the node of that folder passes it on, or the one
    that is named. What the gone node still owed and had signed no voucher for is not paid then.
    """
    from meshos.consensus.ledger.tabs import CloseTab
    from meshos.node import config as node_config
    from meshos.node.cli import closing, registering

    if root is None:
        if nonce is not None:
            raise BadInput("usage", "--nonce is for what the root key signs", hint="name its folder with --root")
        closing.close(where.target(), tab, as_json=as_json)
        return
    config = node_config.load(root)
    if nonce is not None:
        say_signed(registering.signed_offline(config, CloseTab(closing.whole_id(tab)), nonce), "wallet-close", as_json)
        return
    named = where.node is not None or where.org is not None or where.directory is not None
    target = where.target() if named else registering.target_of(config, None, where.api_key)
    closing.close_by_root(config, target, tab, as_json=as_json)
