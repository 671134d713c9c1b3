"""``mesh join``: from a fresh machine to a running node of an organisation that was admitted, by one command.

    learn      who decides in the mesh, proven from its genesis
    keys       of the organisation and its first node, where there are none yet
    admission  by the node that was asked, as the mesh's policy says; proven by the ledger
    run        the node, here and now; once it has the ledger, its key is registered

Each step is looked at before it is done, so that the command can be given again after whatever interrupted it.
"""

import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from meshos.errors import BadInput, Failed, MeshError, Refused, Unreachable
from meshos.ids import ORG_KINDS
from meshos.node.cli.init import API_PORT, DEFAULT_DIR, GOSSIP_PORT, LINK_PORT, DirOption, configured, did_of
from meshos.node.cli.output import JsonFlag, document, note, ok, progress, say, warn
from meshos.node.cli.own_address import is_own, towards

if TYPE_CHECKING:
    from meshos.node.compose import Ready
    from meshos.node.config import NodeConfig
    from meshos.node.joining import Visit
    from meshos.node.runtime.square.asking import Where

POLL_S = 0.5
ADMISSION_S = 60.0
"""How long it waits to be admitted where nodes vote by themselves; where people do, it is asked again later."""
REGISTER_S = 120.0
"""How long it waits for the ledger before it gives up registering the node's key, which `mesh org register` does too."""
ANYWHERE = "0.0.0.0"
STEPS = 90
"""Sets of ports that are tried, each one above the last: those of the four kinds stay apart."""
_HASH = re.compile(r"[0-9a-f]{16,64}")


def register(app: typer.Typer) -> None:
    """Add ``mesh join``."""
    app.command(epilog="Example: mesh join /ip4/198.51.100.7/tcp/8400/p2p/12D3KooW... --org newco")(join)


def join(
    addresses: Annotated[
        list[str], typer.Argument(metavar="ADDR...", help="Squares of its nodes: multiaddrs, or HOST:PORT. See p2p in mesh status.")
    ],
    org: Annotated[str | None, typer.Option(help="The new organisation's name, as in acme, or its whole DID.")] = None,
    kind: Annotated[str, typer.Option(help=f"What it is: {', '.join(ORG_KINDS)}.")] = ORG_KINDS[0],
    directory: DirOption = DEFAULT_DIR,
    genesis_hash: Annotated[
        str | None, typer.Option(metavar="HEX", help="Of the mesh that is meant, or how it begins (16 digits at least).")
    ] = None,
    invitation: Annotated[str | None, typer.Option(help="Of a member, where one is needed: what `mesh org invite --guest` prints.")] = None,
    name: Annotated[str | None, typer.Option(help="The node's name; NAME-1 if not given.")] = None,
    region: Annotated[str, typer.Option(help="Where it stands, as in eu-west-1.")] = "local",
    host: Annotated[
        str | None, typer.Option(help="The address that others reach it at; the one that leads to the mesh if not given.")
    ] = None,
    only_admission: Annotated[bool, typer.Option("--no-run", help="Stop once the organisation is admitted.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Join a running mesh with a new organisation: learn and check its genesis and headers, make keys, be admitted, and run the first node.

    The node runs until Ctrl-C, as with `mesh run`. Again with the same --dir it goes on where it was. Without --genesis-hash the first node
    that answers says which mesh it is; everything after that is proven.
    """
    from meshos.node.config import FILE, load
    from meshos.node.runtime.square.asking import where

    places = [where(text) for text in addresses]
    expected = (genesis_hash or "").lower()
    if expected and not _HASH.fullmatch(expected):
        raise BadInput("usage", "a genesis hash is 64 hex digits, of which the first 16 do", hint="`mesh status` of a member shows it")
    if not (directory / FILE).exists() and org is None:
        raise BadInput("usage", "which organisation is it that joins", hint="give --org NAME")

    def config_for(visited: "Visit") -> "NodeConfig":
        if (directory / FILE).exists():
            return load(directory)
        listen = host or towards(visited.where.host, visited.where.port)
        if not is_own(listen):
            listen = ANYWHERE  # a router's address, say, which leads here
        seeds = [f"{seed.node},{seed.gossip},{seed.link}" for seed in visited.standing.seeds]
        made = configured(did_of(str(org), kind), name, directory, region, listen, _free_ports(listen), seeds)
        return made if host is None else replace(made, advertise=host)

    config = _be_admitted(places, expected, config_for, invitation)
    if not only_admission:
        _run(config, as_json)
    elif as_json:
        document("join", {"org": config.org, "name": config.name, "dir": str(config.dir), "ready": False})
    else:
        note(f"Next: mesh run --dir {config.dir}")


# -- being admitted ----------------------------------------------------------------------------------------------------


def _be_admitted(
    places: "Sequence[Where]", expected: str, config_for: "Callable[[Visit], NodeConfig]", invitation: str | None
) -> "NodeConfig":
    import trio

    from meshos.node import joining

    async def act(visited: "Visit") -> "NodeConfig":
        _tell_mesh(visited, expected)
        config = config_for(visited)
        application = _made(config, visited)
        await _admitted(visited, config, application, invitation)
        return config

    return trio.run(joining.visit, places, expected, act, strict_exception_groups=True)


def _tell_mesh(visited: "Visit", expected: str) -> None:
    genesis, head = visited.client.genesis, visited.client.head
    seats = visited.client.trusted.validators
    told = "no block yet" if head is None else f"block {head.header.height} is signed by {len(head.certificate.signatures)} of {seats.n}"
    ok(f"{genesis.mesh}: genesis {genesis.hash.hex()[:16]}, {told}")
    if not expected:
        note(f"  it is {visited.where} that says so; who wants to be sure compares, and gives --genesis-hash {genesis.hash.hex()[:16]}")


def _made(config: "NodeConfig", visited: "Visit") -> str:
    """See that the folder has keys, genesis and certificate; gives the organisation's application."""
    from meshos.node import applying, folder
    from meshos.node.cli import making
    from meshos.node.config import FILE

    genesis = visited.client.genesis
    if genesis.org(config.org) is not None:
        told = f"{config.org} is one of those that founded this mesh"
        raise BadInput("org-exists", told, hint="choose another name, or run a node of it with `mesh init --join` and `mesh run`")
    if not (config.dir / FILE).exists():
        making.founding(config, None)
        ok(f"keys of {config.org} and of {config.name} in {config.dir}; keep a copy of {folder.ROOT_FILE} offline")
    if not config.certificate.exists():
        folder.certify(config, genesis, now=time.time())
    elif folder.read_genesis(config.genesis).hash != genesis.hash:
        raise Refused("wrong-genesis", f"the node in {config.dir} belongs to another mesh", hint="give another --dir")
    return applying.of_folder(config, genesis)


async def _admitted(visited: "Visit", config: "NodeConfig", application: str, invitation: str | None) -> None:
    """Return once the organisation is a member, with the root key of this folder."""
    import trio

    until = time.monotonic() + ADMISSION_S
    with progress() as shown:
        while True:
            try:
                standing = await visited.knock(application, invitation)
            except MeshError as error:
                if error.name == "admission-by-vote":
                    _print_application(application, config)
                raise
            if standing.state == "member":
                break
            shown.at(f"{config.org} was moved to be admitted; waiting for the others")
            if time.monotonic() > until:
                told = f"{config.org} was moved to be admitted, and the others have not agreed within {ADMISSION_S:g} s"
                raise Unreachable("unknown-yet", told, hint="give the same command again: it goes on where it was", outcome="unknown")
            await trio.sleep(POLL_S)
    ok(f"{config.org} is a member, {'as the ledger proves' if await _is_proven(visited, config) else f'as {visited.where} says'}")


async def _is_proven(visited: "Visit", config: "NodeConfig") -> bool:
    """Whether the newest state that is proven has the organisation, with this root key. The block that admitted it is proven by the next,
    and the node will check all of them: so nothing waits for that here.
    """
    from meshos.crypto.keys import multikey
    from meshos.node import folder

    try:
        member = await visited.member(config.org)
    except Refused as refusal:
        if refusal.name != "proof-not-yet":
            raise
        return False
    if member is not None and member.root != multikey(folder.open_root(config).public):
        told = f"the ledger proves that {config.org} is a member by another root key than that in {config.dir}"
        raise Refused("already-a-member", told, hint="choose another name")
    return member is not None


def _print_application(application: str, config: "NodeConfig") -> None:
    from meshos.node import folder

    path = config.dir / "application.txt"
    folder.write_file(path, application.encode() + b"\n")
    note(f"  the application of {config.org} is in {path}")


# -- running -----------------------------------------------------------------------------------------------------------


def _run(config: "NodeConfig", as_json: bool) -> None:
    """Run the node until it is ended; once it serves, register its key beside it."""
    from meshos.node.runtime.matrix_threads import load_numpy

    load_numpy()
    from meshos.node.process import run as run_node

    def ready(facts: "Ready") -> None:
        threading.Thread(target=_register, args=(config, facts, as_json), name="register", daemon=True).start()

    code = run_node(config.dir, ready)
    if code:
        raise typer.Exit(code)


def _register(config: "NodeConfig", facts: "Ready", as_json: bool) -> None:
    """Put the node's key on the ledger as soon as the node has it: then it signs for its organisation, and is paid and pays."""
    from meshos.node.cli import registering

    target = registering.own_node(config)
    until = time.monotonic() + REGISTER_S
    problem: MeshError | None = None
    while time.monotonic() < until:
        try:
            registering.register(config, registering.own_agreement(config), target)
            problem = None
            break
        except MeshError as error:
            problem = error
            time.sleep(POLL_S)
    if problem is not None:
        warn(f"the node's key is not on the ledger yet: {problem}; mesh org register --dir {config.dir} does it later")
    if as_json:
        document("join", {**asdict(facts), "dir": str(config.dir), "ready": problem is None})
    else:
        say(f"{facts.name} of {facts.org}, mesh {facts.mesh}")
        say(f"  node id  {facts.node_id}")
        say(f"  API      {facts.api}")
        say("ready")
    sys.stdout.flush()


# -- where this machine is ---------------------------------------------------------------------------------------------


def _free_ports(host: str) -> tuple[int, int, int]:
    """Ports that nobody has here: the usual ones, or the next after them."""
    from meshos.node.config import SQUARE_AFTER

    for shift in range(STEPS):
        ports = API_PORT + shift, GOSSIP_PORT + shift, LINK_PORT + shift
        if _are_free(host, ports, SQUARE_AFTER):
            return ports
    raise Failed("no-free-ports", f"none of the ports from {API_PORT} to {LINK_PORT + STEPS} are free", hint="give them to mesh init")


def _are_free(host: str, ports: tuple[int, int, int], square_after: int) -> bool:
    api, gossip, link = ports
    tcp, udp = socket.SOCK_STREAM, socket.SOCK_DGRAM
    square = link + square_after
    taken = ((tcp, "127.0.0.1", api), (udp, host, gossip), (tcp, host, link), (udp, host, link), (tcp, host, square), (udp, host, square))
    for kind, address, port in taken:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as probe:
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True
