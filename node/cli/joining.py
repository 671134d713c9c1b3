"""``mesh join``: from a fresh machine to a running node of an organisation that was admitted, by one command.

    learn      who decides in the mesh, proven from its genesis, at all nodes that are named
    keys       of the organisation and its first node, where there are none yet
    admission  by the first of those nodes that sees to it, as the mesh's policy says; proven by the ledger as soon as it can be
    run        the node, here and now; once it has the ledger, its key is registered

Each step is looked at before it is done, so that the command can be given again after whatever interrupted it.
"""

import shlex
import socket
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshos.errors import BadInput, Failed, MeshError, Refused
from meshos.ids import ORG_KINDS
from meshos.node.cli.client_text import GENESIS_DIGITS, names_genesis
from meshos.node.cli.init import API_PORT, DEFAULT_DIR, GOSSIP_PORT, LINK_PORT, DirOption, LeafFlag, configured, did_of
from meshos.node.cli.output import JsonFlag, document, note, ok, progress, say, warn
from meshos.node.cli.own_address import is_own, towards
from meshos.node.cli.proven_age import age, warn_if_old

if TYPE_CHECKING:
    from meshos.crypto.keys import SigningKey
    from meshos.ids import OrgDid
    from meshos.node import joining
    from meshos.node.compose import Ready
    from meshos.node.config import NodeConfig
    from meshos.node.joining import Learned

POLL_S = 0.5
REGISTER_S = 120.0
"""How long it waits for the ledger before it gives up registering the node's key, which `mesh org register` does too."""
ANYWHERE = "0.0.0.0"
STEPS = 90
"""Sets of ports that are tried, each one above the last: those of the four kinds stay apart."""
BY_PEOPLE = ("admission-by-vote", "not-invited")


def register(app: typer.Typer) -> None:
    """Add ``mesh join``."""
    app.command(epilog="Example: mesh join /ip4/198.51.100.7/tcp/8400/p2p/12D3KooW... --org newco")(join)


def join(
    addresses: Annotated[
        list[str],
        typer.Argument(metavar="ADDR...", help="Squares of several of its nodes: multiaddrs, or HOST:PORT. See p2p in mesh status."),
    ],
    org: Annotated[str | None, typer.Option(help="The new organisation's name, as in acme, or its whole DID.")] = None,
    kind: Annotated[str, typer.Option(help=f"What it is: {', '.join(ORG_KINDS)}.")] = ORG_KINDS[0],
    directory: DirOption = DEFAULT_DIR,
    genesis_hash: Annotated[
        str | None, typer.Option(metavar="HEX", help=f"Of the mesh that is meant, or how it begins ({GENESIS_DIGITS} digits at least).")
    ] = None,
    invitation: Annotated[str | None, typer.Option(help="Of a member, where one is needed: what `mesh org invite --guest` prints.")] = None,
    name: Annotated[str | None, typer.Option(help="The node's name; NAME-1 if not given.")] = None,
    region: Annotated[str | None, typer.Option(help="Where it stands, as in eu-west-1; local if not given.")] = None,
    host: Annotated[
        str | None, typer.Option(help="The address that others reach it at; the one that leads to the mesh if not given.")
    ] = None,
    leaf: LeafFlag = False,
    only_admission: Annotated[bool, typer.Option("--no-run", help="Stop once the organisation is admitted.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Join a running mesh with a new organisation: learn and check its genesis and headers, make keys, be admitted, and run the first node.

    The node runs until Ctrl-C, as with `mesh run`. Again with the same --dir it goes on where it was. Without --genesis-hash the nodes that
    are named say which mesh it is, and all the same one; everything after that is proven. Name several: what one keeps back, another says.
    """
    import trio

    from meshos.crypto.keys import multikey
    from meshos.node import applying, joining
    from meshos.node.config import FILE, load
    from meshos.node.runtime.square.places import where

    places = [where(text) for text in addresses]
    expected = _expected(genesis_hash, directory)
    config = None
    if (directory / FILE).exists():
        config = load(directory)
        given = {"org": org and did_of(org, kind), "name": name, "region": region, "host": host, "leaf": "true" if leaf else None}
        _check_same(config, given)
    elif org is None:
        raise BadInput("usage", "which organisation is it that joins", hint="give --org NAME")
    learned = trio.run(joining.learn, places, expected, strict_exception_groups=True)
    _tell_mesh(learned, expected)
    if not only_admission:
        threading.Thread(target=_load_node, name="load", daemon=True).start()
    if config is None:
        config = _new(learned, did_of(str(org), kind), name, directory, region or "local", host, leaf=leaf)
    root = _made(config, learned)
    application = applying.of_folder(config, learned.genesis, root)
    asked = joining.Asked(config.org, multikey(root.public), application, invitation, _former(config))
    _be_admitted(learned, config, asked)
    if not only_admission:
        _run(config, root, as_json)
    elif as_json:
        document("join", {"org": config.org, "name": config.name, "dir": str(config.dir), "ready": False})
    else:
        note(f"Next: mesh run --dir {config.dir}")


def _expected(given: str | None, directory: Path) -> str:
    """The hash of the mesh that is meant, or how it begins: what is given, and of a folder that has a genesis that one's."""
    from meshos.node import folder

    expected = (given or "").lower()
    if expected and not names_genesis(expected):
        told = f"a genesis hash is 64 hex digits, of which the first {GENESIS_DIGITS} do"
        raise BadInput("usage", told, hint="`mesh square describe ADDR` shows it, and `mesh genesis check`")
    genesis = directory / "genesis.json"
    if not genesis.exists():
        return expected
    own = folder.read_genesis(genesis).hash.hex()
    if not own.startswith(expected):
        raise Refused("wrong-genesis", f"the node in {directory} belongs to the mesh {own[:GENESIS_DIGITS]}", hint="give another --dir")
    return own


def _check_same(config: "NodeConfig", given: Mapping[str, str | None]) -> None:
    """Raise BadInput ``node-differs`` where an option says something else than the folder that is there."""
    there = {"org": config.org, "name": config.name, "region": config.region, "host": config.advertise or config.link.host}
    there["leaf"] = "true" if config.leaf else "false"
    for option, value in given.items():
        if value is not None and value != there[option]:
            told = f"the folder {config.dir} has a node whose {option} is {there[option]}, not {value}"
            hint = "name, host and leaf stand in its node.toml; for another organisation choose another folder with --dir"
            raise BadInput("node-differs", told, hint=hint)


def _new(
    learned: "Learned", org: "OrgDid", name: str | None, directory: Path, region: str, host: str | None, *, leaf: bool
) -> "NodeConfig":
    place = learned.places[0]
    listen = host or towards(place.host, place.port)
    if not is_own(listen):
        listen = ANYWHERE  # a router's address, say, which leads here
    seeds = [f"{seed.node},{seed.gossip},{seed.link}" for seed in learned.seeds]
    made = configured(org, name, directory, region, listen, _free_ports(listen), seeds, leaf=leaf)
    return made if host is None or leaf else replace(made, advertise=host)


def _tell_mesh(learned: "Learned", expected: str) -> None:
    genesis, head = learned.genesis, learned.head
    for place, error in learned.passed:
        warn(f"{place} is passed over: {error}")
    digits = genesis.hash.hex()[:GENESIS_DIGITS]
    if head is None:
        ok(f"{genesis.mesh}: genesis {digits}, no block yet")
    else:
        signed = f"{len(head.certificate.signatures)} of {learned.seats}"
        ok(f"{genesis.mesh}: genesis {digits}, block {head.header.height}, {age(head.header.time_ms)}, is signed by {signed}")
        warn_if_old(head.header.time_ms)
    if not expected:
        told = " and ".join(map(str, learned.places))
        note(f"  it is {told} that says so; who wants to be sure compares, and gives --genesis-hash {digits}")


def _made(config: "NodeConfig", learned: "Learned") -> "SigningKey":
    """See that the folder has keys, genesis and certificate; gives the root key, which is opened only once, as that takes its time."""
    from meshos.crypto.keys import SigningKey
    from meshos.node import folder
    from meshos.node.cli import making
    from meshos.node.config import FILE

    genesis = learned.genesis
    if genesis.org(config.org) is not None:
        told = f"{config.org} is one of those that founded this mesh"
        raise BadInput("org-exists", told, hint="choose another name, or run a node of it with `mesh init --join` and `mesh run`")
    is_made = (config.dir / FILE).exists()
    root = folder.open_root(config) if is_made or (config.dir / folder.ROOT_FILE).exists() else SigningKey.generate()
    if not is_made:
        making.founding(config, None, root)
        ok(f"keys of {config.org} and of {config.name} in {config.dir}; keep a copy of {folder.ROOT_FILE} offline")
    if not config.certificate.exists():
        folder.certify(config, genesis, now=time.time(), root=root)
    elif folder.read_genesis(config.genesis).hash != genesis.hash:
        raise Refused("wrong-genesis", f"the node in {config.dir} belongs to another mesh", hint="give another --dir")
    return root


def _former(config: "NodeConfig") -> str | None:
    """The root key (Multikey) before the last rotation in this folder, if there was one."""
    from meshos.crypto.keys import multikey
    from meshos.crypto.keystore import FileKeyStore
    from meshos.node import folder
    from meshos.node.cli.rotating import OLD_ROOT

    path = config.dir / OLD_ROOT
    if not path.exists():
        return None
    return multikey(folder.exported(FileKeyStore.open(path, folder.passphrase_of(config)), folder.ROOT_KEY).public)


def _be_admitted(learned: "Learned", config: "NodeConfig", asked: "joining.Asked") -> None:
    """Return once the organisation is a member, with the root key of this folder."""
    import trio

    from meshos.node import joining

    with progress() as shown:

        def waiting() -> None:
            shown.at(f"{config.org} was moved to be admitted; waiting for the others")

        try:
            done = trio.run(joining.be_admitted, learned, asked, waiting, strict_exception_groups=True)
        except MeshError as error:
            if error.name in BY_PEOPLE:
                _print_application(asked.application, config)
            raise
    if done.proven:
        ok(f"{config.org} is a member, as the ledger proves")
    else:
        told = " and ".join(map(str, done.by))
        ok(f"{config.org} is a member, as {told} says; the next block proves it, and the node that runs now looks at each of them")


def _print_application(application: str, config: "NodeConfig") -> None:
    from meshos.node import folder

    path = config.dir / "application.txt"
    folder.write_file(path, application.encode() + b"\n")
    note(f"  the application of {config.org} is in {path}")


# -- running -----------------------------------------------------------------------------------------------------------


def _load_node() -> None:
    """Import what a node is made of, beside making keys and waiting to be admitted."""
    from meshos.node.runtime.matrix_threads import load_numpy

    load_numpy()
    import meshos.node.process  # noqa: F401


def _run(config: "NodeConfig", root: "SigningKey", as_json: bool) -> None:
    """Run the node until it is ended; once it serves, register its key beside it."""
    _load_node()
    from meshos.node.process import run as run_node

    def ready(facts: "Ready") -> None:
        threading.Thread(target=_register, args=(config, root, facts, as_json), name="register", daemon=True).start()

    code = run_node(config.dir, ready)
    if code:
        raise typer.Exit(code)


def _register(config: "NodeConfig", root: "SigningKey", facts: "Ready", as_json: bool) -> None:
    """Put the node's key on the ledger as soon as the node has it: then it signs for its organisation, and is paid and pays."""
    from meshos.node.cli import registering

    target, agreement = registering.own_node(config), registering.own_agreement(config)
    until = time.monotonic() + REGISTER_S
    problem: MeshError | None = None
    while time.monotonic() < until:
        try:
            registering.register(config, agreement, target, root=root)
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
        say("ready" if problem is None else "it runs")
        key = shlex.quote(str(config.dir / "api-key"))
        note(f'Next, in another shell: MESH_NODE={facts.api} MESH_API_KEY="$(cat {key})" mesh members')
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
