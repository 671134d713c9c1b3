"""One process of ``mesh bench raft``: a node of a group of three, or the client, with the product's host, links, LevelDB and Raft.

    python -m meshos.bench.raft_node FOLDER NUMBER

The folder holds what all of them must know of each other (``Members``). The client is the peer with the last number: it has no part in
the group, and writes by requests on its link like any other node of the organisation.
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
from meshos.bench.raft_writer import Writer
from meshos.bench.services import no_signature
from meshos.consensus.raft.applying import founding
from meshos.consensus.raft.config import LAN
from meshos.consensus.raft.events import GetGroup, Group, Unlinked
from meshos.consensus.raft.replica import Replica, protocol_of
from meshos.crypto.certificates import Trust, issue, new_root
from meshos.crypto.keys import SigningKey, node_id
from meshos.effects import Machine, Put, Write
from meshos.errors import Refused
from meshos.flow import Propose
from meshos.flow_machine import Flows, Service
from meshos.ids import NodeId, OrgDid, Peer
from meshos.node.runtime.host import Host
from meshos.node.runtime.links.links import Links
from meshos.node.runtime.links.tcp import TcpPath
from meshos.node.runtime.links.tls import Credentials
from meshos.protocols.rpc.casting import Listener
from meshos.protocols.rpc.events import Inbound, LinkDown, OpenLink, SendMessage
from meshos.protocols.rpc.machine import Rpc
from meshos.protocols.rpc.serving import Commanded
from meshos.storage.level import LevelStore
from meshos.storage.overlay import Overlay
from meshos.storage.store import View

NODES = 3
GROUP, RAFT, WRITER = "bench", "raft", "writer"
WRITE, STATE = "/bench/write/1", "/bench/state/1"
MESH = bytes(32)
MESH_ID = MESH.hex()[:32]
ORG = OrgDid("did:mesh:enterprise:bench")


@dataclass(frozen=True, slots=True)
class Members:
    """Keys, certificates and ports of the nodes and of the client, in hexadecimal where they are bytes."""

    root: str
    seeds: list[str]
    certificates: list[str]
    ports: list[int]

    @classmethod
    def new(cls, ports: Sequence[int]) -> "Members":
        """One organisation with NODES nodes and a client, each with one of ``ports``."""
        root, now = SigningKey.generate(), time.time()
        keys = [SigningKey.generate() for _ in range(NODES + 1)]
        certificates = [issue(root, mesh_id=MESH_ID, org=ORG, node=key.public, now=now) for key in keys]
        return cls(
            new_root(root, ORG, now=now).hex() + "." + root.seed().hex(),
            [key.seed().hex() for key in keys],
            [each.hex() for each in certificates],
            list(ports),
        )

    @classmethod
    def load(cls, folder: Path) -> "Members":
        """What ``save`` wrote."""
        return cls(**json.loads((folder / "members.json").read_text()))

    def save(self, folder: Path) -> None:
        """For the other processes."""
        (folder / "members.json").write_text(json.dumps(asdict(self)))

    def key(self, number: int) -> SigningKey:
        """The key of one of them."""
        return SigningKey(bytes.fromhex(self.seeds[number]))

    def node(self, number: int) -> NodeId:
        """The id of one of them."""
        return node_id(self.key(number).public)

    def credentials(self, number: int) -> Credentials:
        """What one of them shows, and whom it believes."""
        certificate, seed = map(bytes.fromhex, self.root.split("."))
        trust = Trust(MESH_ID, {ORG: SigningKey(seed).public})
        return Credentials(self.key(number), bytes.fromhex(self.certificates[number]), MESH, trust, (certificate,))


@dataclass(frozen=True, slots=True)
class State:
    """What a node knows of its group. ``leader`` is empty where it knows of none."""

    term: int
    leader: NodeId
    commit: int

    def encode(self) -> bytes:
        """For the client."""
        return cbor.encode([self.term, self.leader, self.commit])

    @classmethod
    def decode(cls, data: bytes) -> "State":
        """What ``encode`` gave."""
        match cbor.decode(data, max_bytes=1024):
            case [int(term), str(leader), int(commit)]:
                return cls(term, NodeId(leader), commit)
        raise Refused("bad-message", "a state is [term, leader, commit]")


class Registers:
    """The replicated state: a value under each key. See ``StateMachine``."""

    def asks(self, command: object) -> bool:
        """It only writes."""
        return False

    def encode(self, command: object) -> bytes:
        """A command is what came in the request (``raft_writer.write``)."""
        assert isinstance(command, bytes)
        return command

    def decode(self, data: bytes) -> object:
        """A write of one key."""
        if not data or len(data) <= data[0]:
            raise Refused("bad-message", "that is no write")
        return Put(data[1 : 1 + data[0]], data[1 + data[0] :])

    def apply(self, view: View, command: object, at_ms: int) -> tuple[object, Sequence[Write]]:
        """Write it."""
        assert isinstance(command, Put)
        return b"", (command,)

    def query(self, view: View, question: object) -> object:
        """Nobody asks."""
        raise Refused("bad-message", "only writes are measured")


class Node:
    """A host with rpc, flows and links, and ``machines`` beside them."""

    def __init__(self, members: Members, number: int, services: Mapping[str, Service], stores: Mapping[str, tuple[Any, Overlay]]) -> None:
        self.me = Peer(members.node(number), ORG)
        self.path = TcpPath(members.credentials(number), "127.0.0.1", members.ports[number], self._address_of)
        self._addresses = {members.node(each): ("127.0.0.1", port) for each, port in enumerate(members.ports)}
        self.links = Links(self.me, MESH, [self.path], self._deliver, lambda act: self.host.at_turn_end(act))
        listeners = {protocol_of(GROUP): Listener(RAFT, lambda peer: True)} if stores else {}
        commands = {WRITE: Commanded(RAFT, lambda request: request.body, lambda result: b"")} if stores else {}
        allowed = dict.fromkeys([*services, *commands], lambda peer: True)
        self.rpc = Rpc(self.me, allowed, random.SystemRandom(), listeners=listeners, commands=commands)
        machines: dict[str, Machine] = {"rpc": self.rpc, "flows": Flows(services, limit=8192)}
        self._in_group = bool(stores)
        if not stores:
            machines[WRITER] = Writer(WRITER, WRITE)
        else:
            machines[RAFT] = Replica(
                RAFT,
                GROUP,
                self.me.node,
                Registers(),
                stores[RAFT][1],
                org=ORG,
                config=LAN,
                rng=random.SystemRandom(),
                now=trio.current_time(),
                wall_ms=int(time.time() * 1000),
            )
        self.host = Host(
            machines,
            stores=stores,
            handlers={OpenLink: self.links.open_link, SendMessage: self.links.send_message},
            ports={},
            sign=no_signature,
        )

    def _address_of(self, node: NodeId) -> tuple[str, int] | None:
        return self._addresses.get(node)

    def _deliver(self, events: Sequence[object]) -> bool:
        happened: list[tuple[str, object]] = []
        for event in events:
            happened.append(("rpc", event))
            if self._in_group and type(event) is LinkDown:
                happened.append((RAFT, Unlinked(event.node)))
        self.host.deliver_all(happened)
        return True

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.host.run)
            await nursery.start(self.links.run)
            gc.collect()
            gc.freeze()  # as a node does
            task_status.started()


async def _state(request: Inbound) -> bytes:
    group = await Propose[Group](GetGroup(), to=RAFT)
    return State(group.term, group.leader or NodeId(""), group.commit).encode()


def client(members: Members) -> Node:
    """The peer that writes."""
    return Node(members, NODES, {}, {})


async def _serve(folder: Path, number: int) -> None:
    members = Members.load(folder)
    level = LevelStore(folder / f"node{number}")
    try:
        store = level.prefixed(RAFT)
        if next(store.scan(b""), None) is None:
            store.write(founding([members.node(each) for each in range(NODES)]))
        await Node(members, number, {STATE: _state}, {RAFT: (store, Overlay(store))}).run()
    finally:
        level.close()


if __name__ == "__main__":
    trio.run(_serve, Path(sys.argv[1]), int(sys.argv[2]))
