"""One process of ``mesh bench pbft``: a validator of four organisations, or the client, with the product's host, links, LevelDB and ledger.

    python -m meshos.bench.pbft_node FOLDER NUMBER

The folder holds genesis and what the processes must know of each other (``Members``). The client is the peer with the last number, a node
of the first organisation without a seat: it submits by requests on its links.
"""

import gc
import json
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import trio

from meshos import cbor
from meshos.bench.pbft_payer import SUBMITTER, Submitter
from meshos.consensus.ledger.results import COMMITTED, decode_result
from meshos.consensus.pbft.events import Committed, Head, ReadHead, Submit
from meshos.consensus.pbft.limits import CHECKPOINT_INTERVAL
from meshos.consensus.pbft.replica import CAST
from meshos.crypto.certificates import Trust, issue, new_root
from meshos.crypto.keys import SigningKey, multikey, node_id
from meshos.crypto.signing import Domain, Ed25519Verifier, sign
from meshos.effects import Machine, Sign
from meshos.errors import Failed, Refused
from meshos.genesis import MESH, Genesis, Org, Validator, new, parse, to_json
from meshos.ids import NodeId, OrgDid, Peer
from meshos.node.folder import template
from meshos.node.kernel.ledger import replica_of
from meshos.node.runtime.host import AtOnce, Host
from meshos.node.runtime.links.links import Links
from meshos.node.runtime.links.tcp import TcpPath
from meshos.node.runtime.links.tls import Credentials
from meshos.protocols.ledger.port import LEDGER
from meshos.protocols.rpc.casting import Listener
from meshos.protocols.rpc.events import OpenLink, SendMessage
from meshos.protocols.rpc.machine import Rpc
from meshos.protocols.rpc.serving import Commanded
from meshos.storage.level import LevelStore
from meshos.storage.overlay import Overlay
from meshos.storage.store import Store

VALIDATORS = 4
SUBMIT, STATE = "/bench/submit/1", "/bench/state/1"
ORGS = tuple(OrgDid(f"did:mesh:enterprise:bench{number}") for number in range(VALIDATORS))
ALLOCATION = 1_000_000 * MESH


@dataclass(frozen=True, slots=True)
class Members:
    """Secrets, certificates and ports of the validators and, last, of the client; keys as seeds in hexadecimal, certificates likewise."""

    roots: list[str]
    seeds: list[str]
    votes: list[str]
    certificates: list[str]
    ports: list[int]
    genesis: str

    @classmethod
    def new(cls, ports: Sequence[int]) -> "Members":
        """VALIDATORS organisations with a validator each, and a client, each with one of ``ports``."""
        now = time.time()
        roots = [SigningKey.generate() for _ in ORGS]
        keys = [SigningKey.generate() for _ in range(VALIDATORS + 1)]
        votes = [SigningKey.generate() for _ in ORGS]
        authorities = [new_root(root, org, now=now) for root, org in zip(roots, ORGS, strict=True)]
        genesis = new(
            template(),
            mesh="bench",
            time_ms=int(now * 1000),
            placement_seed=random.SystemRandom().randbytes(32),
            testnet=True,
            orgs=[
                Org(org, multikey(root.public), authority, Validator(node_id(key.public), multikey(vote.public)), (), ALLOCATION)
                for org, root, authority, key, vote in zip(ORGS, roots, authorities, keys, votes, strict=False)
            ],
        )
        issuers = [*zip(roots, ORGS, strict=True), (roots[0], ORGS[0])]
        certificates = [
            issue(root, mesh_id=genesis.mesh_id, org=org, node=key.public, now=now) for (root, org), key in zip(issuers, keys, strict=True)
        ]
        return cls(
            [root.seed().hex() for root in roots],
            [key.seed().hex() for key in keys],
            [vote.seed().hex() for vote in votes],
            [each.hex() for each in certificates],
            list(ports),
            to_json(genesis).decode(),
        )

    @classmethod
    def load(cls, folder: Path) -> "Members":
        """What ``save`` wrote."""
        return cls(**json.loads((folder / "members.json").read_text()))

    def save(self, folder: Path) -> None:
        """For the other processes."""
        (folder / "members.json").write_text(json.dumps(asdict(self)))

    def mesh(self) -> Genesis:
        """What they agree on before they have agreed on anything."""
        return parse(self.genesis.encode())

    def key(self, number: int) -> SigningKey:
        """The node key of one of them; that of a validator signs its organisation's transactions."""
        return SigningKey(bytes.fromhex(self.seeds[number]))

    def peer(self, number: int) -> Peer:
        """One of them, as the others know it."""
        return Peer(node_id(self.key(number).public), ORGS[number % VALIDATORS])

    def credentials(self, number: int, genesis: Genesis) -> Credentials:
        """What one of them shows, and whom it believes."""
        keys = {org: SigningKey(bytes.fromhex(seed)).public for org, seed in zip(ORGS, self.roots, strict=True)}
        authorities = tuple(org.root_certificate for org in genesis.orgs)
        certificate = bytes.fromhex(self.certificates[number])
        return Credentials(self.key(number), certificate, genesis.hash, Trust(genesis.mesh_id, keys), authorities)


@dataclass(frozen=True, slots=True)
class State:
    """Where a validator stands. ``silent`` says why it does not vote."""

    view: int
    primary: NodeId
    height: int
    root: bytes
    waiting: int
    silent: str

    @classmethod
    def of(cls, head: object) -> "State":
        """What a replica gives for ``ReadHead``."""
        assert isinstance(head, Head)
        return cls(head.view, head.primary, head.height, head.state_root, head.pool, head.silent)

    def encode(self) -> bytes:
        """For the client."""
        return cbor.encode([self.view, self.primary, self.height, self.root, self.waiting, self.silent])

    @classmethod
    def decode(cls, data: bytes) -> "State":
        """What ``encode`` gave."""
        match cbor.decode(data, max_bytes=1024):
            case [int(view), str(primary), int(height), bytes(root), int(waiting), str(silent)]:
                return cls(view, NodeId(primary), height, root, waiting, silent)
        raise Refused("bad-message", "a state is [view, primary, height, root, waiting, silent]")


class Node:
    """A host with rpc and links; with a ``store`` and what ``votes`` also the ledger's replica, else the client's Submitter."""

    def __init__(self, members: Members, number: int, store: Store | None = None) -> None:
        genesis = members.mesh()
        self.me = members.peer(number)
        self.path = TcpPath(members.credentials(number, genesis), "127.0.0.1", members.ports[number], self._address_of)
        self._addresses = {members.peer(each).node: ("127.0.0.1", port) for each, port in enumerate(members.ports)}
        self.links = Links(self.me, genesis.hash, [self.path], self._deliver, lambda act: self.host.at_turn_end(act))
        machines: dict[str, Machine] = {"rpc": _rpc(self.me, serves=store is not None)}
        stores: dict[str, tuple[Any, Overlay]] = {}
        at_once: dict[type, AtOnce] = {}
        if store is None:
            machines[SUBMITTER] = Submitter(SUBMITTER, SUBMIT)
        else:
            vote = SigningKey(bytes.fromhex(members.votes[number]))
            stores[LEDGER] = (store, Overlay(store))
            at_once[Sign] = lambda effect: _sign(vote, effect)
            machines[LEDGER] = replica_of(
                genesis,
                self.me,
                multikey(vote.public),
                stores[LEDGER][1],
                Ed25519Verifier(),
                interval=CHECKPOINT_INTERVAL,
                now=trio.current_time(),
                wall_ms=int(time.time() * 1000),
                keep_blocks=None,
                listeners=(),
            )
        self.host = Host(
            machines,
            stores=stores,
            handlers={OpenLink: self.links.open_link, SendMessage: self.links.send_message},
            ports={},
            at_once=at_once,
            sign=_never,
        )

    def _address_of(self, node: NodeId) -> tuple[str, int] | None:
        return self._addresses.get(node)

    def _deliver(self, events: Sequence[object]) -> bool:
        self.host.deliver_all([("rpc", event) for event in events])
        return True

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.host.run)
            await nursery.start(self.links.run)
            gc.collect()
            gc.freeze()  # as a node does
            task_status.started()


def _rpc(me: Peer, *, serves: bool) -> Rpc:
    if not serves:
        return Rpc(me, {}, random.SystemRandom())
    commands: Mapping[str, Commanded] = {
        SUBMIT: Commanded(LEDGER, lambda request: Submit(request.body), _reply),
        STATE: Commanded(LEDGER, lambda request: ReadHead(), lambda head: State.of(head).encode()),
    }
    listeners = {CAST: Listener(LEDGER, lambda peer: True)}
    return Rpc(me, dict.fromkeys(commands, lambda peer: True), random.SystemRandom(), listeners=listeners, commands=commands)


def _reply(committed: object) -> bytes:
    """Empty if the transaction did what it should, else why not."""
    assert isinstance(committed, Committed)
    result = decode_result(committed.result)
    return b"" if result.outcome == COMMITTED else f"{result.outcome} {result.name}".encode()


def _sign(vote: SigningKey, effect: Sign) -> bytes:
    assert isinstance(effect.domain, Domain)
    return sign(vote, effect.domain, effect.payload)


async def _never(effect: Sign) -> bytes:
    raise Failed("bench-command-failed", f"{effect.machine} was to sign at once")


async def _serve(folder: Path, number: int) -> None:
    members = Members.load(folder)
    level = LevelStore(folder / f"node{number}")
    try:
        await Node(members, number, level.prefixed(LEDGER)).run()
    finally:
        level.close()


if __name__ == "__main__":
    trio.run(_serve, Path(sys.argv[1]), int(sys.argv[2]))
