"""``mesh org seat|leave|rotate-root|reissue``: what an organisation does with itself on the ledger, signed by its root key."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshos.errors import BadInput, MeshError, Refused
from meshos.node.cli.init import DEFAULT_DIR
from meshos.node.cli.output import JsonFlag, document, note, ok, say, warn
from meshos.node.cli.root_options import ApiKeyOption, NodeOption, NonceOption, RootDir, say_signed

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshos.node.cli.client_connection import Target
    from meshos.node.cli.rotating import Coming
    from meshos.node.cli.seating import Moved
    from meshos.node.config import NodeConfig


def register(org: typer.Typer) -> None:
    """Add the commands to ``mesh org``."""
    org.command(epilog="Example: mesh org seat acme-2 --dir acme-1")(seat)
    org.command(epilog="Example: mesh org leave --heir did:mesh:enterprise:beta --dir acme-1")(leave)
    org.command(name="rotate-root", epilog="Example: mesh org rotate-root --dir acme-1")(rotate_root)
    org.command(epilog="Example: mesh org reissue 12D3KooWHQR1hWE46uNw --dir acme-1 > certificate.next.pem")(reissue)


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

    It is in force from the next checkpoint on; there is one every 64 blocks, which a mesh that decides nothing else makes in some five
    minutes. Until then the node that voted goes on voting: leave it running. Again for the same node changes nothing.
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

    Refused while it has open tabs on which it pays (tabs-open): close them with mesh wallet close, at each of its nodes, and with --root
    those of nodes that are gone. No process is ended, and nothing in the folders is deleted. The others part from its nodes at once, but
    for the one that votes: its vote ends with the next checkpoint, and they count on it until then, so leave that one running. Where too
    many leave before one checkpoint, it is refused (seat-needed). It comes back only by a motion of the others.
    """
    from meshos.consensus.ledger.orgs import Leave
    from meshos.ids import parse_org_did
    from meshos.node import config as node_config
    from meshos.node.cli import leaving, registering, seating

    try:
        parse_org_did(heir or "did:mesh:enterprise:nobody")
    except ValueError as error:
        raise BadInput("bad-did", str(error), hint="`mesh members --json` has the DIDs of this mesh") from error
    config = node_config.load(directory)
    if nonce is not None:
        say_signed(registering.signed_offline(config, Leave(heir), nonce), "org-leave", as_json)
        return
    if not yes and not sys.stdin.isatty():
        raise BadInput("not-confirmed", "leaving is for good, and nobody can be asked here", hint="say --yes, or run it in a terminal")
    target = registering.target_of(config, node, api_key)
    now = leaving.standing(config, target)
    if now.left is not None:
        _say_left(now.did, now.balance, 0, as_json=as_json)
        return
    for sentence in leaving.consequences(now, heir):
        note(sentence)
    leaving.check(now)
    if not yes and not typer.confirm("Leave?", err=True):
        raise BadInput("not-confirmed", "nothing was done")
    height, account = leaving.leave(config, heir, target)
    _say_left(now.did, str(account.get("balance")), height, votes_until=seating.in_force(height) if now.votes else None, as_json=as_json)


def _say_left(did: str, balance: str, height: int, *, votes_until: int | None = None, as_json: bool) -> None:
    if as_json:
        body = {"org": did, "changed": height > 0, "height": height or None, "balance": balance, "votesUntil": votes_until}
        document("org-leave", body)
        return
    say(did)
    ok(f"it has left the mesh{f', in block {height}' if height else ' before'}; {balance} MESH are in its account")
    if votes_until is not None:
        note(f"Its node votes until the checkpoint at block {votes_until}: leave it running")


def rotate_root(
    directory: RootDir = DEFAULT_DIR,
    commit: Annotated[bool, typer.Option("--commit", help="Have the ledger take the new key, once all nodes have certificates.")] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="With --commit: also if nodes have none; the others part from them.")] = False,
    node: NodeOption = None,
    api_key: ApiKeyOption = None,
    nonce: NonceOption = None,
    committed: Annotated[
        bool, typer.Option("--committed", help="Ask no node: what --nonce printed is committed, so take the new key over here.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Give the organisation another root key, in two steps between which its nodes get certificates under it.

    First without --commit: makes the key (root.next.keys) and the certificate of the folder's node (certificate.next.pem), and names the
    nodes that need one too: mesh org reissue. Then with --commit: the old key signs, and once the ledger has the new one it takes the place
    of the old one, which is kept as root.old.keys. The nodes swap their certificates by themselves. Whatever interrupts it: run it again.
    """
    from meshos.node import config as node_config
    from meshos.node.cli import registering, rotating

    if commit + committed + (nonce is not None) > 1:
        raise BadInput("usage", "--commit, --nonce and --committed are said one at a time", hint="see `mesh org rotate-root --help`")
    config = node_config.load(directory)
    if rotating.finish(config):
        _say_rotated(config.org, 0, as_json)
        return
    if committed or nonce is not None:
        coming = rotating.under_way(config)
        if nonce is not None:
            _say_ahead(rotating.list_ahead(config, coming))
            say_signed(registering.signed_offline(config, rotating.transaction(config, coming), nonce), "org-rotate-root", as_json)
            return
        rotating.take_over(config, coming)
        _say_rotated(config.org, 0, as_json)
        return
    coming = rotating.under_way(config) if commit else rotating.prepare(config)
    if not commit:
        _say_prepared(config, coming, lambda: registering.target_of(config, node, api_key), as_json)
        return
    target = registering.target_of(config, node, api_key)
    left = [] if anyway else rotating.waiting(config, coming, target)
    if left:
        names = ", ".join(one.name or one.node for one in left)
        hint = f"mesh org reissue {left[0].node} --dir {shlex.quote(str(directory))}, or --anyway"
        raise Refused("certificates-missing", f"no certificate under the new root was issued for {names}", hint=hint)
    _say_ahead(rotating.list_ahead(config, coming))
    height = rotating.commit(config, coming, target)
    rotating.take_over(config, coming)
    _say_rotated(config.org, height, as_json)


def _say_prepared(config: "NodeConfig", coming: "Coming", target: "Callable[[], Target]", as_json: bool) -> None:
    from meshos.crypto.keys import multikey
    from meshos.node import folder
    from meshos.node.cli import rotating

    try:
        left, why_not = rotating.waiting(config, coming, target()), ""
    except MeshError as error:  # the root key may be offline
        left, why_not = rotating.known(config, coming), error.detail
    ahead = rotating.list_ahead(config, coming)
    root, file, there = multikey(coming.next.public), config.dir / folder.NEXT_CERTIFICATE, shlex.quote(str(config.dir))
    if as_json:
        nodes = [{"node_id": one.node, "name": one.name or None} for one in left]
        document(
            "org-rotate-root",
            {"org": config.org, "next": root, "committed": False, "certificate": str(file), "waiting": nodes, "complete": not why_not},
        )
        return
    say(root)
    ok(f"the next root key of {config.org}, and a certificate under it for this folder's node: {file}")
    if why_not:
        warn(f"only nodes whose certificates were issued in this folder are looked at, since the ledger cannot be asked: {why_not}")
    for one in left:
        note(f"Next mesh org reissue {one.node} --dir {there} > {folder.NEXT_CERTIFICATE}, into the folder of {one.name or one.node}")
    _say_ahead(ahead)
    note(f"{'Then' if left else 'Next'} mesh org rotate-root --commit --dir {there}; nothing has changed on the ledger so far")


def _say_ahead(ahead: "Path | None") -> None:
    """Where whoever is revoked is listed under the coming root."""
    if ahead is not None:
        note(f"Whoever is revoked stays so by {ahead}: have it in revocations/ of one node that runs, before the ledger takes the new key")


def _say_rotated(org: str, height: int, as_json: bool) -> None:
    if as_json:
        document("org-rotate-root", {"org": org, "committed": True, "height": height or None})
        return
    say(org)
    ok(f"the new root key counts{f', from block {height} on' if height else ''}, and is in root.keys; the old one is in root.old.keys")
    note("Keep a copy of root.keys where the old one was kept. Invitations of the old key count no more")


def reissue(
    node: Annotated[str, typer.Argument(metavar="NODE", help="The node's id, or the beginning of it: see mesh ledger org.")],
    certificate: Annotated[
        Path | None, typer.Option(help="The certificate that the node has, if it was not issued with this folder's root key file.")
    ] = None,
    directory: RootDir = DEFAULT_DIR,
    as_json: JsonFlag = False,
) -> None:
    """Print a node's certificate under the coming root key (PEM), while mesh org rotate-root is under way.

    It goes into the node's folder as certificate.next.pem; the node swaps to it when the ledger has the new root key. Again for the same
    node prints the same. A revoked node gets none.
    """
    from meshos.node import config as node_config
    from meshos.node import folder
    from meshos.node.cli import rotating

    node_id, pem = rotating.reissue(node_config.load(directory), node, certificate)
    if as_json:
        document("org-reissue", {"node_id": node_id, "certificate": pem})
        return
    print(pem, end="")
    ok(f"a certificate for {node_id}; put it into the node's folder as {folder.NEXT_CERTIFICATE}")
