"""``mesh ledger``: the ledger as a node has it, and ``verify``: what a file proves about it by genesis.json alone, no node asked."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshos.errors import BadInput, Failed, Refused
from meshos.node.cli.client_options import Where, asking
from meshos.node.cli.output import JsonFlag, document, ok, say, warn
from meshos.node.cli.proven_age import age

if TYPE_CHECKING:
    from meshos.consensus.ledger.light_client import Proven

app = typer.Typer(help="The ledger that the organisations decide on.", no_args_is_help=True, rich_markup_mode=None)

BundleFile = Annotated[Path, typer.Argument(metavar="FILE", help="A proof, as a node gives it.")]
GenesisFile = Annotated[Path, typer.Option("--genesis", metavar="GENESIS", help="The genesis of the mesh: all that is trusted.")]


def register(root: typer.Typer) -> None:
    """Add ``mesh ledger``."""
    app.command(epilog="Example: mesh ledger head --org alpha")(asking(head))
    app.command(epilog="Example: mesh ledger block 12")(asking(block))
    app.command(epilog="Example: mesh ledger tx 8f3a12cd")(asking(tx))
    app.command(epilog="Example: mesh ledger proof account/did:mesh:enterprise:alpha --out balance.proof")(asking(proof))
    app.command(epilog="Example: mesh ledger key 12D3KooWHQR1hWE46uNw --org alpha")(asking(key))
    app.command(epilog="Example: mesh ledger org did:mesh:enterprise:beta --org alpha")(asking(org))
    app.command(epilog="Example: mesh ledger send @transaction.txt --org alpha")(asking(send))
    root.add_typer(app, name="ledger")


def head(where: Where, as_json: JsonFlag = False) -> None:
    """The newest block that the node has."""
    from meshos.node.cli import client_ledger

    client_ledger.head(where.target(), as_json=as_json)


def block(where: Where, height: Annotated[int, typer.Argument(min=1, metavar="H")], as_json: JsonFlag = False) -> None:
    """A block: who signed it, and what became of its transactions."""
    from meshos.node.cli import client_ledger

    client_ledger.block(where.target(), height, as_json=as_json)


def tx(
    where: Where,
    transaction: Annotated[str, typer.Argument(metavar="ID", help="8 hex digits of it or more.")],
    as_json: JsonFlag = False,
) -> None:
    """A transaction, and what became of it."""
    from meshos.node.cli import client_ledger

    client_ledger.tx(where.target(), transaction, as_json=as_json)


def key(
    where: Where,
    name: Annotated[str, typer.Argument(metavar="KEY", help="A node's id, or the Multikey of a root key or a person.")],
    as_json: JsonFlag = False,
) -> None:
    """Whose a key is, what it may do, and the nonce of its next transaction."""
    from meshos.node.cli import client_ledger

    client_ledger.key(where.target(), name, as_json=as_json)


def org(
    where: Where,
    did: Annotated[str | None, typer.Argument(metavar="DID", help="Whose; without it that of the node's own organisation.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """An organisation's keys on the ledger, its seat among the validators, and how often that was moved."""
    from meshos.node.cli import client_ledger

    client_ledger.org(where.target(), did, as_json=as_json)


def send(
    where: Where,
    transaction: Annotated[
        str, typer.Argument(metavar="TRANSACTION", help="What was signed elsewhere, in base64, or @FILE, or - for stdin.")
    ],
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=1, max=300)] = 30.0,
    as_json: JsonFlag = False,
) -> None:
    """Have a transaction done that was signed elsewhere, such as by an offline root key; the same again is done once."""
    from meshos.node.cli import client_ledger
    from meshos.node.cli.output import text_of

    client_ledger.send(where.target(), text_of(transaction, "transaction"), timeout, as_json=as_json)


def proof(
    where: Where,
    key: Annotated[str, typer.Argument(metavar="KEY", help="A key of the ledger's state, such as account/DID or org/DID.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write it.")] = Path("ledger.proof"),
    as_json: JsonFlag = False,
) -> None:
    """Write a file by which anybody can check what the ledger says of a key, with `mesh ledger verify` and the genesis alone."""
    from meshos.node.cli import client_ledger

    client_ledger.proof(where.target(), key, out, as_json=as_json)


@app.command(epilog="Example: mesh ledger verify balance.proof --genesis genesis.json")
def verify(file: BundleFile, genesis: GenesisFile = Path("genesis.json"), as_json: JsonFlag = False) -> None:
    """Check a proof of what the ledger says of one key: with the genesis and nothing else."""
    from meshos.consensus.ledger import light_client
    from meshos.consensus.ledger.tree_limits import MAX_BUNDLE_BYTES
    from meshos.crypto.signing import Ed25519Verifier
    from meshos.node import folder

    founding = folder.read_genesis(genesis)
    data = folder.read_file(file, MAX_BUNDLE_BYTES)
    try:
        bundle = light_client.decode_bundle(data)
    except Refused as refusal:
        what = f"{file} is no proof of the ledger's state: {refusal.detail}"
        raise BadInput("no-proof", what, hint="`mesh ledger proof KEY` makes one; a proof that was cut off or changed is none") from refusal
    try:
        proven = light_client.verify(founding, bundle, Ed25519Verifier())
    except Refused as refusal:
        if as_json:
            document("ledger-verify", {"ok": False, "name": refusal.name, "sentence": refusal.detail})
            raise typer.Exit(Failed.exit_code) from refusal
        raise Failed("not-proven", f"{file} proves nothing: {refusal.detail} ({refusal.name})", hint="do not rely on it") from refusal
    if as_json:
        document("ledger-verify", proven_document(proven))
    else:
        show_proven(proven)


def proven_document(proven: "Proven") -> dict[str, object]:
    """What was proven, for ``--json``."""
    from meshos.times import time_text

    return {
        "ok": True,
        "key": _text(proven.key),
        "keyHex": proven.key.hex(),
        "present": proven.value is not None,
        "valueHex": None if proven.value is None else proven.value.hex(),
        "height": proven.height,
        "header": {"height": proven.header.height, "hash": proven.header.hash.hex(), "time": time_text(proven.time_ms)},
        "stateRoot": proven.header.state_root.hex(),
        "epoch": proven.validators.epoch,
        "signers": list(proven.signers),
        "validators": proven.validators.n,
        "quorum": proven.validators.q,
    }


def show_proven(proven: "Proven") -> None:
    """What was proven, for people."""
    from meshos.times import time_text

    say(f"key     {_text(proven.key)}")
    say(f"value   {'none: it is proven that the ledger has nothing under this key' if proven.value is None else _readable(proven.value)}")
    say(f"state   after block {proven.height}, root {proven.header.state_root.hex()[:16]}")
    say(f"signed  header {proven.header.height} of {time_text(proven.time_ms)}, {age(proven.time_ms)}, by {', '.join(proven.signers)}")
    warn("what was decided after that is not in it")
    epoch = proven.validators
    ok(f"{len(proven.signers)} of {epoch.n} validators of epoch {epoch.epoch} signed; {epoch.q} are enough")


def _text(data: bytes) -> str:
    text = data.decode("ascii", errors="replace")
    return text if text.isprintable() else data.hex()


def _readable(value: bytes) -> str:
    """Canonical CBOR as JSON, byte strings as hex digits; what is none, as hex digits."""
    from meshos import cbor

    hexed: Callable[[bytes], str] = bytes.hex
    try:
        return json.dumps(cbor.decode(value, max_bytes=len(value)), default=hexed, ensure_ascii=False)
    except Refused:
        return value.hex()
