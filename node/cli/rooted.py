"""``mesh org seat|leave``: what an organisation does with itself on the ledger, signed by its root key where that key lies."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from meshos.errors import BadInput
from meshos.node.cli.init import DEFAULT_DIR
from meshos.node.cli.output import JsonFlag, document, note, ok, say, warn
from meshos.node.cli.root_options import ApiKeyOption, NodeOption, NonceOption, RootDir, say_signed

if TYPE_CHECKING:
    from meshos.node.cli.seating import Moved


def register(org: typer.Typer) -> None:
    """Add the commands to ``mesh org``."""
    org.command(epilog="Example: mesh org seat acme-2 --dir acme-1")(seat)
    org.command(epilog="Example: mesh org leave --heir did:mesh:enterprise:beta --dir acme-1")(leave)


def seat(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NODE", help="The node's name or id, or the beginning of its id: see mesh ledger org.", show_default=False),
    ] = None,
    give_up: Annotated[bool, typer.Option("--give-up", help="Instead of a node: the organisation votes no longer.")] = False,
    directory: RootDir = DEFAULT_DIR,
    node: NodeOption = None,
    api_key: ApiKeyOption = None,
    nonce: NonceOption = None,
    moves: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="With --nonce: how often the seat was moved so far (see `mesh ledger org`).")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Have another node of the organisation vote on the ledger, or begin to vote, or give the vote up; signed by the root key.

    It is in force from the next checkpoint on; there is one every 64 blocks, and blocks come only with something to decide. Until then
    the node that voted goes on voting: leave it running. Again for the same node changes nothing.
    """
    from meshos.node import config as node_config
    from meshos.node.cli import registering, seating

    if give_up == (name is not None):
        raise BadInput("usage", "name a node, or say --give-up", hint="`mesh ledger org` lists the nodes that can vote")
    if (nonce is None) != (moves is None):
        raise BadInput("usage", "--nonce and --moves are given together", hint="`mesh ledger key` and `mesh ledger org` tell them")
    config = node_config.load(directory)
    if nonce is not None and moves is not None:
        say_signed(registering.signed_offline(config, seating.statement(config, name, moves), nonce), "org-seat", as_json)
        return
    _say_moved(seating.move(config, name, registering.target_of(config, node, api_key)), as_json)


def _say_moved(done: "Moved", as_json: bool) -> None:
    if as_json:
        in_force = done.from_height if done.changed else None
        body = {"org": done.org, "node_id": done.node, "before": done.before, "changed": done.changed, "height": done.height or None}
        document("org-seat", body | {"fromHeight": in_force})
        return
    say(done.node or "none")
    if not done.changed:
        ok(f"the seat of {done.org} is there already" if done.node else f"{done.org} has no seat")
        return
    went = f"votes for {done.org}" if done.node else f"no node votes for {done.org}"
    ok(f"committed in block {done.height}; {'it ' if done.node else ''}{went} from the checkpoint at block {done.from_height} on")
    if done.before is not None:
        note(f"Until then {done.before} votes: leave it running")
    if done.node is not None and done.suspended:
        warn("the organisation's vote is suspended, whichever node has the seat: the others give it back by a motion")
    note(f"Next mesh ledger org {done.org}, which says who votes now")


def leave(
    directory: RootDir = DEFAULT_DIR,
    heir: Annotated[
        str | None, typer.Option(metavar="DID", help="The organisation that gets what is in the account; without it that stays there.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; needed where nobody sits at a terminal.")] = False,
    node: NodeOption = None,
    api_key: ApiKeyOption = None,
    nonce: NonceOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Leave the mesh for good: the organisation's vote ends, its keys are retired, its MESH go to the heir; signed by the root key.

    Refused while it has open tabs on which it pays (tabs-open): close them with mesh wallet close, at each of its nodes. No process is
    ended, and nothing in the folders is deleted. It comes back only by a motion of the others.
    """
    from meshos.consensus.ledger.orgs import Leave
    from meshos.ids import parse_org_did
    from meshos.node import config as node_config
    from meshos.node.cli import leaving, registering

    try:
        parse_org_did(heir or "did:mesh:enterprise:nobody")
    except ValueError as error:
        raise BadInput("bad-did", str(error), hint="`mesh members` shows the organisations of this mesh") from error
    config = node_config.load(directory)
    if nonce is not None:
        say_signed(registering.signed_offline(config, Leave(heir), nonce), "org-leave", as_json)
        return
    if not yes and not sys.stdin.isatty():
        raise BadInput("not-confirmed", "leaving is for good, and nobody can be asked here", hint="say --yes, or run it in a terminal")
    target = registering.target_of(config, node, api_key)
    now = leaving.standing(config, target)
    if now.left is not None:
        _say_left(now.did, now.balance, 0, as_json)
        return
    for sentence in leaving.consequences(now, heir):
        note(sentence)
    leaving.check(now)
    if not yes and not typer.confirm("Leave?", err=True):
        raise BadInput("not-confirmed", "nothing was done")
    height, account = leaving.leave(config, heir, target)
    _say_left(now.did, str(account.get("balance")), height, as_json)


def _say_left(did: str, balance: str, height: int, as_json: bool) -> None:
    if as_json:
        document("org-leave", {"org": did, "changed": height > 0, "height": height or None, "balance": balance})
        return
    say(did)
    ok(f"it has left the mesh{f', in block {height}' if height else ' before'}; {balance} MESH are in its account")
