"""``mesh ledger verify``: what a file proves about the ledger, by genesis.json alone; no node is asked."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshos.errors import Failed, Refused
from meshos.node.cli import later
from meshos.node.cli.output import JsonFlag, document, ok, say, warn

if TYPE_CHECKING:
    from meshos.consensus.ledger.light_client import Proven

app = typer.Typer(help="The ledger that the organisations decide on.", no_args_is_help=True, rich_markup_mode=None)
later.register(app, later.LEDGER_COMMANDS, "mesh ledger")

BundleFile = Annotated[Path, typer.Argument(metavar="FILE", help="A proof, as a node gives it.")]
GenesisFile = Annotated[Path, typer.Option("--genesis", metavar="GENESIS", help="The genesis of the mesh: all that is trusted.")]


def register(root: typer.Typer) -> None:
    """Add ``mesh ledger``."""
    root.add_typer(app, name="ledger")


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
        proven = light_client.verify(founding, light_client.decode_bundle(data), Ed25519Verifier())
    except Refused as refusal:
        if as_json:
            document("ledger-verify", {"ok": False, "name": refusal.name, "sentence": refusal.detail})
            raise typer.Exit(Failed.exit_code) from refusal
        raise Failed("not-proven", f"{file} proves nothing: {refusal.detail} ({refusal.name})", hint="do not rely on it") from refusal
    if as_json:
        document("ledger-verify", _document(proven))
    else:
        _show(proven)


def _document(proven: "Proven") -> dict[str, object]:
    from meshos.genesis_content import time_text

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


def _show(proven: "Proven") -> None:
    from meshos.genesis_content import time_text

    say(f"key     {_text(proven.key)}")
    say(f"value   {'none: it is not there' if proven.value is None else _readable(proven.value)}")
    say(f"state   after block {proven.height}, root {proven.header.state_root.hex()[:16]}")
    say(f"signed  header {proven.header.height} of {time_text(proven.time_ms)}, by {', '.join(proven.signers)}")
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
