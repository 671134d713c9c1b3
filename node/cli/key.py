"""``mesh key new|agree``: a person's key, made where the person is."""

from pathlib import Path
from typing import Annotated

import typer

from meshos.errors import BadInput
from meshos.node.cli.output import JsonFlag, document, note, ok, say

KeyFile = Annotated[Path, typer.Argument(metavar="FILE", help="The key file.")]

app = typer.Typer(help="A person's key: it speaks for people, and no node ever has it.", no_args_is_help=True, rich_markup_mode=None)


def register(root: typer.Typer) -> None:
    """Add ``mesh key``."""
    root.add_typer(app, name="key")


@app.command(epilog="Example: mesh key new ada.key")
def new(file: KeyFile, as_json: JsonFlag = False) -> None:
    """Make a key file, encrypted with a passphrase that is asked for (or MESH_PASSPHRASE); prints the public key."""
    from meshos.crypto.keys import multikey
    from meshos.node import person

    public = multikey(person.new_key(file, person.passphrase_for(file, new=True)).public)
    if as_json:
        document("key-new", {"file": str(file), "key": public})
        return
    say(public)
    ok(f"{file} holds the key; keep it, and a copy elsewhere")
    note(f'Next mesh key agree {file} --name "Your Name" --org did:mesh:enterprise:acme --genesis genesis.json')


@app.command(epilog='Example: mesh key agree ada.key --name "Ada" --org did:mesh:enterprise:acme --genesis genesis.json')
def agree(
    file: KeyFile,
    name: Annotated[str, typer.Option(help="What people call you; it stands on the ledger.")],
    org: Annotated[str, typer.Option(metavar="DID", help="The organisation that you will speak in.")],
    genesis: Annotated[Path, typer.Option(help="The genesis of the mesh.")] = Path("genesis.json"),
    as_json: JsonFlag = False,
) -> None:
    """Agree that this key speaks for you in an organisation; prints a text for `mesh org register` there."""
    from meshos.consensus.ledger.fields import is_text
    from meshos.consensus.ledger.limits import MAX_LABEL_BYTES
    from meshos.ids import parse_org_did
    from meshos.node import agreeing, folder, person

    try:
        parse_org_did(org)
    except ValueError as error:
        raise BadInput("bad-did", str(error), hint="write it whole, like did:mesh:enterprise:acme") from error
    if not is_text(name, MAX_LABEL_BYTES):
        raise BadInput("usage", "this is no name", hint=f"one line of at most {MAX_LABEL_BYTES} bytes")
    content = folder.read_genesis(genesis)
    text = agreeing.of_person(person.open_key(file), content.hash, org, name)
    if as_json:
        document("key-agree", {"agreement": text, "org": org, "name": name})
        return
    print(text)
    ok("nothing in it is secret; where the root key of the organisation is: mesh org register TEXT --dir DIR")
