"""``mesh approvals|approve|reject|propose|pause``: what coordinators decide together, and what people may do about it."""

from pathlib import Path
from typing import Annotated

import typer

from meshos.node.cli.client_options import QuietOption, Where, asking
from meshos.node.cli.output import JsonFlag

Id = Annotated[str, typer.Argument(metavar="ID", help="A decision's id, or how it begins: see `mesh approvals`.")]
KeyOption = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="Speak as a person: sign with this key file, here; no node sees the key.")
]
ReasonOption = Annotated[str, typer.Option(metavar="TEXT", help="Why; in one line. It stands on the ledger for all to read.")]
TimeoutOption = Annotated[float, typer.Option(metavar="SECONDS", min=1, max=300, help="How long to wait for the ledger.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: mesh approvals --org alpha")(asking(approvals))
    app.command(epilog="Example: mesh propose decision.yaml --org alpha")(asking(propose))
    app.command(epilog="Example: mesh approve 3f2c9aa1 --reason 'checked its answers' --org beta")(asking(approve))
    app.command(epilog="Example: mesh reject 3f2c9aa1 --reason 'it was our fault' --key ada.key")(asking(reject))
    app.command(epilog="Example: mesh pause --minutes 30 --reason 'looking into it' --key ada.key")(asking(pause))


def approvals(
    where: Where,
    everything: Annotated[bool, typer.Option("--all", help="Also those that ended within a day.")] = False,
    quiet: QuietOption = False,
    as_json: JsonFlag = False,
) -> None:
    """List the autonomous decisions that wait for approval: what each would do, how risky that is, and who approved it."""
    from meshos.node.cli import client_decisions

    client_decisions.approvals(where.target(), everything=everything, quiet=quiet, as_json=as_json)


def propose(
    where: Where,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML or JSON; - for stdin. It holds one thing, as below.")],
    vote: Annotated[bool, typer.Option("--vote", help="Let all organisations vote on `parameters`, not the coordinators decide.")] = False,
    timeout: TimeoutOption = 30.0,
    as_json: JsonFlag = False,
) -> None:
    """Propose something in the name of the node's organisation; prints its id.

    A decision of coordinators is like `{reason: it answers wrongly, quarantine: "did:mesh:enterprise:delta"}`; `lift` lets out again,
    `parameters` maps names to whole numbers. With a risk of at most the threshold it is executed at once; above, it waits until enough
    coordinators have approved it (`mesh approve`).

    A motion is what the organisations that vote decide (`mesh vote`); it takes no reason. It is one of `{admit: APPLICATION}` (of
    `mesh org apply`), `{expel: DID}`, `{coordinator: {did: DID, entitled: false}}`, `{reinstate: DID}`,
    `{upgrade: {version: 2, height: 9000}}`, and with --vote `{parameters: {dispute-ms: 20000}}`.
    """
    from meshos.node.cli import client_decisions

    client_decisions.propose(where.target(), file, timeout, vote=vote, as_json=as_json)


def approve(
    where: Where,
    decision: Id,
    reason: ReasonOption = "approved",
    key: KeyOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonFlag = False,
) -> None:
    """Approve a decision: in the name of the node's organisation, or as a person with --key.

    Enough coordinators execute it. People with 80 % of human power execute it without them, also one that was rejected.
    """
    from meshos.node.cli import client_decisions

    client_decisions.judge(where.target(), decision, "approve", reason, key, timeout, as_json=as_json)


def reject(
    where: Where,
    decision: Id,
    reason: ReasonOption,
    key: KeyOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonFlag = False,
) -> None:
    """Reject a decision: in the name of the node's organisation, or as a person with --key, who can also take back what was executed.

    Coordinators reject when too few are left to approve it. People with 80 % of human power reject what is open, and reverse what was
    executed: of such a decision --key means that.
    """
    from meshos.node.cli import client_decisions

    client_decisions.judge(where.target(), decision, "reject", reason, key, timeout, as_json=as_json)


def pause(
    where: Where,
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="The key file of a registered person; signed here.")],
    reason: ReasonOption,
    minutes: Annotated[float, typer.Option(metavar="N", min=0.1, max=60, help="For so long, or longer by so much if it is paused.")] = 60.0,
    timeout: TimeoutOption = 30.0,
    as_json: JsonFlag = False,
) -> None:
    """Pause autonomy in the whole mesh, as a person: nothing is proposed or executed by coordinators until it ends by itself.

    All people together have an hour in any 24 hours. A pause is not ended early; people can approve what is open meanwhile.
    """
    from meshos.node.cli import client_decisions

    client_decisions.pause(where.target(), key, minutes, reason, timeout, as_json=as_json)
