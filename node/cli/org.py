"""``mesh org invite|issue|revoke``: how nodes of an organisation get and lose their certificates; the root key may be offline.
``mesh org register|unregister``: which keys of nodes and people count on the ledger.
``mesh org apply``: how it asks a running mesh to admit it.
``mesh org nodes|remove``: which nodes decide for it, asked of a running one. ``rooted.py`` has the rest of what the root key does.
"""

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshos.errors import MeshError
from meshos.node.cli import rooted
from meshos.node.cli.client_options import QuietOption, Where, asking
from meshos.node.cli.init import DEFAULT_DIR
from meshos.node.cli.output import JsonFlag, document, note, ok, say, text_of, warn
from meshos.node.cli.root_options import ApiKeyOption, NodeOption, NonceOption, RootDir, say_signed

if TYPE_CHECKING:
    from meshos.genesis import Genesis
    from meshos.ids import NodeId
    from meshos.node.cli.registering import Registered
    from meshos.node.config import NodeConfig

HOUR_S = 3_600

app = typer.Typer(help="Nodes of one organisation.", no_args_is_help=True, rich_markup_mode=None)


def register(root: typer.Typer) -> None:
    """Add ``mesh org``."""
    app.command(epilog="Example: mesh org nodes --org alpha")(asking(nodes))
    app.command(epilog="Example: mesh org remove alpha-2 --org alpha")(asking(remove))
    rooted.register(app)
    root.add_typer(app, name="org")


def nodes(where: Where, quiet: QuietOption = False, as_json: JsonFlag = False) -> None:
    """List the nodes of an organisation: who leads, who votes, who only follows, and how far behind each is.

    1, 3 or 5 nodes vote, by themselves: one that joins follows
    first, and gets a vote when it has caught up and another makes the number odd.
    """
    from meshos.node.cli import client_org

    client_org.nodes(where.target(), quiet=quiet, as_json=as_json)


def remove(
    where: Where,
    name: Annotated[str, typer.Argument(metavar="NODE", help="The node's name or id, or the beginning of its id: see mesh org nodes.")],
    as_json: JsonFlag = False,
) -> None:
    """Remove a node of the organisation for good, dead or alive: it decides nothing any more, and nothing waits for it.

    Its certificate stays good for calls until it is revoked. To come back it is invited anew, with a new key. Again for the same node
    changes nothing.
    """
    from meshos.node.cli import client_org

    client_org.remove(where.target(), name, as_json=as_json)


@app.command(epilog="Example: mesh org apply --genesis genesis.json --dir initech-1 > application.txt")
def apply(
    directory: RootDir = DEFAULT_DIR,
    genesis: Annotated[Path | None, typer.Option(metavar="F", help="The genesis of the mesh; that of the folder if not given.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Apply for a running mesh to admit an organisation that its genesis does not name; prints the application, signed by its root key.

    The folder is one that `mesh init --org` made. Any organisation that votes there moves to admit it with `mesh propose`; nothing in the
    application is secret, and it counts for this mesh and this organisation only.
    """
    from meshos.node import applying, folder
    from meshos.node import config as node_config

    config = node_config.load(directory)
    content = folder.read_genesis(genesis or config.genesis)
    application = applying.of_folder(config, content)
    if as_json:
        document("org-apply", {"application": application, "org": config.org, "mesh": content.mesh, "genesis": content.hash.hex()})
        return
    print(application)
    ok(f"{config.org} asks to be admitted to {content.mesh}, the mesh with the genesis {content.hash.hex()[:16]}")
    note("Next, at an organisation that votes there: write `admit: APPLICATION` into a file, and mesh propose FILE")


@app.command(epilog="Example: mesh org invite --node --dir acme-1")
def invite(
    directory: RootDir = DEFAULT_DIR,
    node: Annotated[bool, typer.Option("--node", help="Invite a node (what is invited if nothing is said).")] = True,
    guest: Annotated[
        str | None,
        typer.Option(
            metavar="APPLICATION",
            help="Invite the organisation that applies with this into the mesh, instead of a node; or @FILE, or - for stdin.",
        ),
    ] = None,
    hours: Annotated[int, typer.Option(min=1, max=168, help="How long the invitation lasts.")] = 24,
    as_json: JsonFlag = False,
) -> None:
    """Print an invitation: whoever holds it can become one node of the organisation, once. With --guest it is for another organisation,
    which comes into the mesh with it where members invite (`mesh join --invitation`), and for its root key: nobody else has a use for it.
    What to give to --guest is what `mesh join` has left in application.txt there, or `mesh org apply` prints.
    """
    from meshos.crypto import invitations
    from meshos.node import config as node_config
    from meshos.node import folder

    config = node_config.load(directory)
    genesis = folder.read_genesis(config.genesis)
    if guest is not None:
        _invite_guest(config, genesis, text_of(guest, "application").strip(), hours, as_json)
        return
    token = invitations.invite(
        folder.open_root(config),
        genesis_hash=genesis.hash,
        org=config.org,
        now=time.time(),
        lifetime_s=hours * HOUR_S,
        addresses=(str(config.advertised_link),),
    )
    if as_json:
        document("org-invite", {"invitation": token, "org": config.org, "hours": hours})
        return
    print(token)
    ok(f"it lasts {hours} h, for one node of {config.org}; there: mesh init --join TOKEN --genesis genesis.json --dir DIR")


def _invite_guest(config: "NodeConfig", genesis: "Genesis", application: str, hours: int, as_json: bool) -> None:
    from meshos.crypto import guests
    from meshos.crypto.keys import public_key_of_multikey
    from meshos.ids import OrgDid
    from meshos.node import applying, folder

    asked = applying.read(application, genesis.hash)
    guest, key, root = OrgDid(asked.did), public_key_of_multikey(asked.root), folder.open_root(config)
    now, lifetime_s = time.time(), hours * HOUR_S
    token = guests.invite_guest(root, genesis_hash=genesis.hash, host=config.org, guest=guest, key=key, now=now, lifetime_s=lifetime_s)
    if as_json:
        document("org-invite", {"invitation": token, "org": config.org, "guest": guest, "hours": hours})
        return
    print(token)
    ok(f"it lasts {hours} h, for {guest} with the root key {asked.root}")
    note(f"Next, there: the same mesh join again, with --invitation TOKEN and the address of a square of {config.org}")


@app.command(epilog="Example: mesh org issue @join-request.txt --dir acme-1 > certificate.pem")
def issue(
    request: Annotated[str, typer.Argument(metavar="REQUEST", help="What `mesh init --join` wrote, or @FILE, or - for stdin.")],
    directory: RootDir = DEFAULT_DIR,
    as_json: JsonFlag = False,
) -> None:
    """Answer a joining node's request with its certificate (PEM, on stdout), and register the node on the ledger if that can be reached."""
    from meshos.crypto import certificates, invitations
    from meshos.node import config as node_config
    from meshos.node import folder

    config = node_config.load(directory)
    text = text_of(request, "join request")
    now = time.time()
    answered = folder.spent(config, now)
    root = folder.open_root(config)
    issued = invitations.issue(
        root,
        (text.split() or [""])[0],
        genesis_hash=folder.read_genesis(config.genesis).hash,
        org=config.org,
        spent={nonce: node for nonce, (node, _) in answered.items()},
        now=now,
    )
    folder.remember_issued(config, issued.certificate)
    folder.remember_spent(config, {**answered, issued.nonce: (issued.node, issued.forget_after)})
    chain = (issued.certificate, folder.root_certificate(config, root, now=now))
    pem = b"".join(map(certificates.pem, chain)).decode()
    registered, why_not = _register_too(config, text, issued.node)
    if as_json:
        document("org-issue", {"certificate": pem, "node_id": issued.node, "org": config.org, "registered": registered})
        return
    print(pem, end="")
    ok(f"a certificate for {issued.node}; there: mesh init --dir DIR --certificate certificate.pem")
    if not registered:
        warn(f"it is not on the ledger yet, so it cannot pay: {why_not}")
        shown = shlex.quote(request) if request.startswith("@") else "REQUEST"
        note(f"Next, once the node of {directory} runs: mesh org register {shown} --dir {shlex.quote(str(directory))}")


@app.command(name="register", epilog="Example: mesh org register @join-request.txt --dir acme-1")
def register_key(
    agreement: Annotated[
        str | None,
        typer.Argument(
            metavar="AGREEMENT",
            help="What `mesh key agree` or `mesh init --join` printed, or @FILE, or - for stdin; the node of the folder if not given.",
        ),
    ] = None,
    directory: RootDir = DEFAULT_DIR,
    node: NodeOption = None,
    api_key: ApiKeyOption = None,
    nonce: NonceOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Register the key of a person or of a further node on the ledger, with the organisation's root key.

    A person can then pause, approve and reject with it; a node can pay. The transaction is signed here; the node of the folder (or --node)
    passes it on. Again for the same key changes nothing. Without AGREEMENT it is the folder's own node that is registered: the first one of
    an organisation that was admitted by vote.
    """
    from meshos.node import config as node_config
    from meshos.node.cli import registering

    config = node_config.load(directory)
    text = registering.own_agreement(config) if agreement is None else text_of(agreement, "agreement")
    if nonce is not None:
        body = registering.registration(config, text)
        say_signed(registering.signed_offline(config, body, nonce), "org-register", as_json)
        return
    done = registering.register(config, text, registering.target_of(config, node, api_key))
    _say_registered(done, "org-register", "is registered", as_json)


@app.command(epilog="Example: mesh org unregister z6MkfYYc6R2tYvw3 --dir acme-1")
def unregister(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The public key of a person, or a node's id.")],
    directory: RootDir = DEFAULT_DIR,
    node: NodeOption = None,
    api_key: ApiKeyOption = None,
    nonce: NonceOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Take the key of a person or of a node off the ledger, with the organisation's root key: it signs nothing any more."""
    from meshos.node import config as node_config
    from meshos.node.cli import registering

    config = node_config.load(directory)
    if nonce is not None:
        say_signed(registering.signed_offline(config, registering.removal(key), nonce), "org-unregister", as_json)
        return
    done = registering.unregister(config, key, registering.target_of(config, node, api_key))
    _say_registered(done, "org-unregister", "counts no longer", as_json)


def _say_registered(done: "Registered", command: str, what: str, as_json: bool) -> None:
    if as_json:
        body = {"key": done.key, "role": done.role, "org": done.org, "changed": done.changed, "height": done.height or None}
        document(command, body)
        return
    say(done.key)
    if done.moved:
        ok(f"its seat goes to the new validator key at the first checkpoint after block {done.height}, within some five minutes")
        note("Until then `mesh status` says that it follows, and then that it votes")
        return
    ok(f"the {done.role} key {what} in {done.org}{f', from block {done.height} on' if done.changed else '; it was so before'}")


def _register_too(config: "NodeConfig", text: str, node: "NodeId") -> tuple[bool, str]:
    """Register a joining node where that is possible now; else say why it is not."""
    from meshos.node.cli import registering

    if registering.agreement_in(text) is None:
        return False, "its request holds no agreement"
    try:
        registering.register(config, text, registering.target_of(config, None, None), node=node)
    except MeshError as error:
        return False, error.detail
    return True, ""


@app.command(epilog="Example: mesh org revoke 12D3KooWHQR1hWE46uNw --dir acme-1")
def revoke(
    node: Annotated[str, typer.Argument(metavar="NODE", help="The node's id, or the beginning of it: see mesh members -q.")],
    certificate: Annotated[
        Path | None, typer.Option(help="The node's certificate, if it was not issued with this folder's root key file.")
    ] = None,
    directory: RootDir = DEFAULT_DIR,
    as_json: JsonFlag = False,
) -> None:
    """Revoke a node's certificates: sign a new list with the root key, for any running node to hand on to all others.

    The list goes into the folder `revocations` of one running node of the mesh, of whatever organisation, which reads it on SIGHUP. Its
    number is the time in seconds, or one more than that of the list in this folder; nodes keep the list with the highest. Again for the
    same node changes nothing. The node comes back only with a certificate that is not on the list: invite it anew, with a new key.
    """
    from meshos.node import config as node_config
    from meshos.node.cli import revoking

    done = revoking.revoke(node_config.load(directory), node, certificate)
    if as_json:
        serials = [f"{serial:x}" for serial in done.serials]
        body = {"org": done.org, "node_id": done.node, "serials": serials, "number": done.number, "listed": done.listed}
        document("org-revoke", body | {"file": str(done.file), "changed": done.changed})
        return
    say(str(done.file))
    if done.own:
        warn("that is the node of this folder: it loses its links as well")
    what = f"list {done.number} of {done.org} names {done.listed} certificate{'' if done.listed == 1 else 's'}"
    ok(f"{done.node} {'is revoked' if done.changed else 'was revoked already'}; {what}")
    note("Next copy it into revocations/ of one running node, and kill -HUP its process; the others get it from there")
