"""``mesh proposals|vote``: what the organisations that vote decide together (``mesh propose`` begins it)."""

from typing import Annotated, Literal

import typer

from meshos.node.cli.client_options import QuietOption, Where, asking, open_proposal_ids, proposal_ids
from meshos.node.cli.decisions import TimeoutOption
from meshos.node.cli.output import JsonFlag

ID_HELP = "A motion's id, or how it begins."


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: mesh proposals --org beta")(asking(proposals))
    app.command(epilog="Example: mesh vote --proposal 3f2c9aa1 --choice for --org beta")(asking(vote))


def proposals(
    where: Where,
    id_: Annotated[str | None, typer.Argument(metavar="ID", help=f"{ID_HELP} All if not given.", autocompletion=proposal_ids)] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also those that have ended, as far as the audit trail tells.")] = False,
    quiet: QuietOption = False,
    as_json: JsonFlag = False,
) -> None:
    """List the motions that wait for votes: what each would do, who is for and against it, and until when; or show all about one."""
    from meshos.node.cli import client_proposals

    if id_ is None:
        client_proposals.proposals(where.target(), everything=everything, quiet=quiet, as_json=as_json)
    else:
        client_proposals.proposal(where.target(), id_, quiet=quiet, as_json=as_json)


def vote(
    where: Where,
    proposal: Annotated[str, typer.Option(metavar="ID", help=f"{ID_HELP} See `mesh proposals`.", autocompletion=open_proposal_ids)],
    choice: Annotated[Literal["for", "against"], typer.Option(help="Nobody can abstain from a motion yet.")],
    timeout: TimeoutOption = 30.0,
    as_json: JsonFlag = False,
) -> None:
    """Vote on a motion in the name of the node's organisation: once, and it stands.

    The node that holds the organisation's seat among the validators speaks for it. A quorum of the seats (3 of 4) carries a motion; it is
    rejected when too few are left for that, and expires when its time is over.
    """
    from meshos.node.cli import client_proposals

    client_proposals.vote(where.target(), proposal, choice, timeout, as_json=as_json)
