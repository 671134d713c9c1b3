"""A new testnet: organisations, a genesis marked as a testnet, and a folder a node; nothing runs yet.

Ports stand in blocks, so that they can be guessed: with the base 8100 node 1 has API 8101, gossip 8201, links 8301 and the square 8401.
An organisation's nodes follow one another; the first is its validator, has its root key, and founds its group. Each has a person too, with
a key file in ``people/`` and a seat in the council. Everything is made in a folder beside the final one and renamed: an interruption leaves
no half testnet behind.
"""

import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from meshos import genesis
from meshos.crypto.keys import multikey
from meshos.crypto.keystore import TEST_COST, Passphrase
from meshos.errors import BadInput, Refused
from meshos.genesis import MESH
from meshos.ids import NodeId, OrgDid, org_did
from meshos.node import folder, person
from meshos.node.cli.testnet.record import FILE, Node, Testnet, save
from meshos.node.config import Address, NodeConfig, Seed
from meshos.node.runtime.square import places

ORGS = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"),
    *("nu", "xi", "omicron", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega"),
)
REGIONS = ("us-east-1", "eu-west-1", "ap-south-1", "us-west-2")
"""A testnet's nodes pretend to stand in these, in turn."""
BLOCK = 100
"""Ports between one kind and the next."""
MAX_SEEDS = 4
PEOPLE, COUNCIL = "people", "council"
"""The folder of people's key files (no node's), and the chamber of the template in which they sit."""
ALLOCATION = 1_000_000 * MESH
SOCKET_PATH_BYTES = 107
"""The longest path of a Unix socket on Linux (sockaddr_un holds 108 with the final zero)."""

MAX_NODES = BLOCK - 1

assert len(ORGS) <= MAX_NODES


@dataclass(frozen=True, slots=True)
class Size:
    """So many organisations of so many nodes each."""

    orgs: int
    replicas: int

    @property
    def nodes(self) -> int:
        """All of them."""
        return self.orgs * self.replicas


def make(final: Path, *, orgs: int, base_port: int, timing: str, replicas: int = 1) -> Testnet:
    """A testnet in ``final``, of ``orgs`` organisations with ``replicas`` nodes each; raises BadInput ``file-exists`` or ``path-too-long``,
    Failed ``cannot-write``.
    """
    final, size = final.absolute(), Size(orgs, replicas)
    if final.exists() and (not final.is_dir() or any(final.iterdir())):
        raise BadInput("file-exists", f"{final} exists and holds no testnet", hint="choose another folder with --dir")
    configs = _configs(final, size, base_port)
    for config in configs:
        if len(bytes(config.fault_socket)) > SOCKET_PATH_BYTES:
            told = f"{config.fault_socket} is longer than the {SOCKET_PATH_BYTES} bytes that a local socket may have"
            raise BadInput("path-too-long", told, hint="choose a shorter folder with --dir")
    final.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{final.name}-new-", dir=final.parent))
    try:
        testnet = _make(_configs(fresh, size, base_port), size, fresh, final, timing)
        try:
            fresh.rename(final)  # POSIX: replaces an empty folder, refuses another
        except OSError as error:
            raise BadInput(
                "file-exists", f"{final} exists meanwhile and is not empty", hint="another command made it: run yours again"
            ) from error
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return testnet


def _configs(root: Path, size: Size, base_port: int) -> list[NodeConfig]:
    """Organisation after organisation."""
    return [_config(root, number, size, base_port) for number in range(size.nodes)]


def _config(root: Path, number: int, size: Size, base_port: int) -> NodeConfig:
    def at(block: int) -> Address:
        return Address("127.0.0.1", base_port + block * BLOCK + number + 1)

    place, replica = divmod(number, size.replicas)
    name = f"{ORGS[place]}-{replica + 1}"
    region = REGIONS[place % len(REGIONS)]
    return NodeConfig(
        root / name, name, org_did("enterprise", ORGS[place]), api=at(0), gossip=at(1), link=at(2), square=at(3), region=region
    )


def _make(made: Sequence[NodeConfig], size: Size, fresh: Path, final: Path, timing: str) -> Testnet:
    now = time.time()
    firsts = made[:: size.replicas]
    entries = {
        config.org: folder.make_org(config, now=now, allocation=ALLOCATION, cost=TEST_COST, root_cost=TEST_COST) for config in firsts
    }
    seats = _people(fresh / PEOPLE, entries)
    content = genesis.new(
        folder.template(),
        mesh="testnet",
        time_ms=int(now * 1_000),
        placement_seed=secrets.token_bytes(32),
        testnet=True,
        timing=timing,
        orgs=entries.values(),
    )
    ids = {entry.did: entry.validator.node for entry in entries.values() if entry.validator is not None}
    meeting = tuple(address for config in firsts[:MAX_SEEDS] for address in p2p_of(config, ids[config.org]))
    content = replace(content, governance=replace(content.governance, seats=seats), bootstrap=meeting)
    folder.write_file(fresh / "genesis.json", genesis.to_json(content))
    all_seeds = [Seed(ids[config.org], config.gossip, config.link) for config in firsts]
    nodes = []
    for place, config in enumerate(made):
        first = firsts[place // size.replicas]
        node = ids[config.org] if config is first else folder.make_joining(config, cost=TEST_COST).node_id
        seeds = tuple(seed for seed in all_seeds if seed.node != node)[:MAX_SEEDS]
        folder.write_config(replace(config, seeds=seeds))
        folder.certify(config, content, now=now, root_in=first)
        nodes.append(
            Node(
                name=config.name,
                org=config.org.rpartition(":")[2],
                did=config.org,
                node_id=node,
                api=f"http://{config.api}",
                api_key=folder.read_file(config.dir / folder.API_KEY_FILE).decode().strip(),
                p2p=p2p_of(config, node),
                gossip=str(config.gossip),
                link=str(config.link),
                pid=None,
                dir=str(final / config.name),
                region=config.region,
                validator=config is first,
            )
        )
    testnet = Testnet(final, str(final / "genesis.json"), tuple(nodes))
    save(testnet, fresh)
    return testnet


def p2p_of(config: NodeConfig, node: NodeId) -> tuple[str, ...]:
    """The multiaddrs of its square."""
    at = config.square
    return () if at is None else (places.tcp(at.host, at.port, node), places.quic(at.host, at.port, node))


def _people(place: Path, entries: dict[OrgDid, genesis.Org]) -> tuple[genesis.Seat, ...]:
    """A person for each organisation: a key file in ``place``, its public key in the organisation's entry, and a seat in the council."""
    passphrase = secrets.token_urlsafe(32).encode()
    folder.write_file(place / person.PASSPHRASE_FILE, passphrase + b"\n", 0o600)
    place.chmod(0o700)
    seats = []
    for did, entry in entries.items():
        own = did.rpartition(":")[2]
        name, key = f"person of {own}", multikey(person.new_key(place / f"{own}.key", Passphrase(passphrase), TEST_COST).public)
        entries[did] = replace(entry, human_keys=(genesis.HumanKey(name, key),))
        seats.append(genesis.Seat(COUNCIL, name, did, key))
    return tuple(seats)


def check_ports(nodes: Sequence[Node]) -> None:
    """See that every port of these nodes can be had; raises Refused ``port-taken`` naming all that cannot."""
    _check_free((node.name, (node.api.removeprefix("http://"), node.gossip, node.link, *_squares(node))) for node in nodes)


def _squares(node: Node) -> Iterable[str]:
    """Where its square is, as ``host:port``; nowhere for a testnet that was made before there were squares."""
    parts = (address.split("/") for address in node.p2p)
    return [f"{host}:{port}" for _, _, host, kind, port, *_ in parts if kind == "tcp"]


def check_new_ports(size: Size, base_port: int) -> None:
    """As ``check_ports``, for a testnet that is still to be made."""
    configs = _configs(Path(), size, base_port)
    _check_free((config.name, (str(config.api), str(config.gossip), str(config.link), str(config.square))) for config in configs)


def _check_free(nodes: Iterable[tuple[str, tuple[str, ...]]]) -> None:
    taken = []
    for name, addresses in nodes:
        for kinds, what, at in zip(_KINDS, ("API", "gossip", "links", "square"), addresses, strict=False):
            host, _, port = at.rpartition(":")
            if not all(_free(kind, host, int(port)) for kind in kinds):
                taken.append(f"{port} ({what} of {name})")
    if taken:
        told = f"taken on this machine: port {', '.join(taken[:6])}{' and more' if len(taken) > 6 else ''}"
        raise Refused("port-taken", told, hint="end what uses them, or make another testnet with --dir and --base-port")


def free_base_port(nodes: int, wanted: int) -> int:
    """``wanted``, or the next base port from which all blocks are free; raises Refused ``port-taken``."""
    for base in range(wanted, 60_000, 4 * BLOCK):
        ports = [(kind, base + block * BLOCK + n) for block, kinds in enumerate(_KINDS) for kind in kinds for n in range(1, nodes + 1)]
        if all(_free(kind, "127.0.0.1", port) for kind, port in ports):
            return base
    raise Refused("port-taken", f"no free ports for {nodes} nodes above {wanted}", hint="end other testnets: mesh testnet down")


_STREAMS, _BOTH = (socket.SOCK_STREAM,), (socket.SOCK_STREAM, socket.SOCK_DGRAM)
_KINDS = (_STREAMS, (socket.SOCK_DGRAM,), _BOTH, _BOTH)
"""Of a node's four ports; links and strangers come over TCP and over QUIC."""


def _free(kind: socket.SocketKind, host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def exists(directory: Path) -> bool:
    """Whether there is a testnet in the folder."""
    return (directory / FILE).is_file()
