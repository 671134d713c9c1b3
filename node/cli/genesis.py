"""``mesh genesis new|add|check``: what all nodes of a mesh agree on before they have agreed on anything."""

import re
import secrets
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshos.errors import BadInput, Failed
from meshos.node.cli.client_text import plural
from meshos.node.cli.output import JsonFlag, document, ok, say, warn

if TYPE_CHECKING:
    from meshos.genesis import Genesis, Org

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The genesis file.")]
OrgFiles = Annotated[list[Path] | None, typer.Argument(metavar="[ORG.JSON]...", help="Organisations' entries, as `mesh init` writes them.")]
MeshOption = Annotated[str, typer.Option("--allocation", help="MESH for each of these organisations.")]

_AMOUNT = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,6}))?")

app = typer.Typer(help="Make or check a genesis: the orgs, keys and parameters of a mesh.", no_args_is_help=True, rich_markup_mode=None)


def register(root: typer.Typer) -> None:
    """Add ``mesh genesis``."""
    root.add_typer(app, name="genesis")


@app.command(epilog="Example: mesh genesis new genesis.json acme/org.json globex/org.json --mesh trade")
def new(
    file: FileArgument,
    orgs: OrgFiles = None,
    mesh: Annotated[str, typer.Option(help="The mesh's name, for people.")] = "mesh",
    timing: Annotated[str, typer.Option(help="lan, wan, local or fast.")] = "lan",
    testnet: Annotated[bool, typer.Option("--testnet", help="For play: allows faults by hand and agents on loopback.")] = False,
    allocation: MeshOption = "0",
    as_json: JsonFlag = False,
) -> None:
    """Write a new genesis with the given organisations."""
    from meshos import genesis
    from meshos.genesis import TIMINGS
    from meshos.node import folder

    if file.exists():
        raise BadInput("file-exists", f"{file} exists", hint="add to it with `mesh genesis add`, or choose another name")
    if timing not in TIMINGS:
        raise BadInput("usage", f"there is no timing called {timing!r}", hint=f"one of {', '.join(TIMINGS)}")
    made = genesis.new(
        folder.template(),
        mesh=mesh,
        time_ms=time.time_ns() // 1_000_000,
        placement_seed=secrets.token_bytes(32),
        testnet=testnet,
        timing=timing,
        orgs=[replace(_org(path), allocation=millionths(allocation)) for path in orgs or []],
    )
    _write(file, made, "genesis-new", as_json)


@app.command(epilog="Example: mesh genesis add genesis.json initech/org.json --allocation 1000000")
def add(file: FileArgument, orgs: OrgFiles = None, allocation: MeshOption = "0", as_json: JsonFlag = False) -> None:
    """Add organisations to a genesis that no node runs yet: every change makes another mesh."""
    from meshos import genesis
    from meshos.node import folder

    if not orgs:
        raise BadInput("usage", "no organisation was named", hint="give the org.json files that `mesh init` wrote")
    content = folder.read_genesis(file)
    for path in orgs:
        content = genesis.add(content, replace(_org(path), allocation=millionths(allocation)))
    _write(file, content, "genesis-add", as_json)


@app.command(epilog="Example: mesh genesis check genesis.json")
def check(file: FileArgument, as_json: JsonFlag = False) -> None:
    """Say in one sentence each what is wrong with a genesis, and what may surprise."""
    from meshos.crypto.genesis_keys import check_all
    from meshos.genesis import MAX_BYTES, parse
    from meshos.node import folder

    data = folder.read_file(file, MAX_BYTES)
    problems = check_all(data)
    wrong = [problem for problem in problems if not problem.note]
    if as_json:
        rows = [{"path": problem.path, "sentence": problem.sentence, "note": problem.note} for problem in problems]
        document("genesis-check", {"ok": not wrong, "problems": rows, "hash": None if wrong else parse(data).hash.hex()})
    else:
        for problem in problems:
            (warn if problem.note else say)(str(problem))
    if wrong:
        if as_json:
            raise typer.Exit(Failed.exit_code)
        count = "1 thing is" if len(wrong) == 1 else f"{len(wrong)} things are"
        raise Failed("genesis-wrong", f"{count} wrong in {file}", hint="mend them and check again")
    content = parse(data)
    ok(f"{plural(len(content.orgs), 'organisation')}, {plural(len(content.validators), 'validator')}, hash {content.hash.hex()[:16]}")


def millionths(text: str) -> int:
    """An amount of MESH in millionths; raises BadInput ``bad-amount``."""
    from meshos.genesis import MESH

    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise BadInput("bad-amount", f"{text[:40]!r} is no amount of MESH", hint="write a decimal number with at most 6 decimals")
    whole, part = match.groups()
    return int(whole) * MESH + int(((part or "") + "000000")[:6])


def _org(path: Path) -> "Org":
    from meshos.genesis import parse_org
    from meshos.node import folder

    return parse_org(folder.read_file(path))


def _write(file: Path, content: "Genesis", command: str, as_json: bool) -> None:
    from meshos.genesis import to_json
    from meshos.node import folder

    folder.write_file(file, to_json(content))
    if as_json:
        document(command, {"file": str(file), "mesh": content.mesh, "hash": content.hash.hex(), "orgs": [org.did for org in content.orgs]})
    else:
        for org in content.orgs:
            say(f"  {org.did}")
        ok(f"{file} has {plural(len(content.orgs), 'organisation')}; next: mesh genesis check {file}")
