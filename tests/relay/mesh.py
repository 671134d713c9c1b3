"""Three members on the real host, with real sockets and certificates: some cannot dial others, one relays."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import trio

from meshos.crypto.keys import node_id
from meshos.effects import Report
from meshos.flow import Ask
from meshos.flow_machine import Flows
from meshos.ids import NodeId, OrgDid, Peer
from meshos.node.relaying import Relaying
from meshos.node.runtime.host import Host
from meshos.node.runtime.links.links import Links, LinkState
from meshos.node.runtime.links.quic import QuicPath
from meshos.node.runtime.links.relay import nearest
from meshos.node.runtime.links.splicing import Splicing
from meshos.node.runtime.links.tcp import TcpPath
from meshos.node.runtime.links.tls import Credentials
from meshos.protocols.membership.probing import PROBE_PROTOCOL
from meshos.protocols.relay.events import MACHINE
from meshos.protocols.relay.machine import Relay
from meshos.protocols.relay.policy import USUAL, Bandwidth, Policy
from meshos.protocols.relay.wire import CAST
from meshos.protocols.rpc.casting import Listener
from meshos.protocols.rpc.events import Inbound, LinkDown, OpenLink, SendMessage
from meshos.protocols.rpc.machine import Rpc
from tests.links import mesh as links_mesh
from tests.links.mesh import ALPHA, ASK, BETA, ask_service, until

ECHO, BIG = "/test/echo/1", "/test/big/1"
STAYS = replace(USUAL, punch=False)
"""A link that is relayed stays so, however well the loopback would let them meet."""
GAMMA = OrgDid("did:mesh:hospital:gamma")


class Mesh(links_mesh.Mesh):
    """``walls``: pairs (from, to) of nodes of which the first does not reach the second."""

    def __init__(self) -> None:
        super().__init__(orgs=(ALPHA, BETA, GAMMA))
        self.members: dict[NodeId, Node] = {}
        self.walls: set[tuple[NodeId, NodeId]] = set()

    def member(self, org: OrgDid, policy: Policy = STAYS, splicing: type[Splicing] = Splicing) -> "Node":
        node = Node(self, org, self.credentials(org), policy, splicing)
        self.members[node.id] = node
        return node

    def wall(self, a: "Node", b: "Node") -> None:
        """Neither reaches the other."""
        self.walls |= {(a.id, b.id), (b.id, a.id)}


class Node:
    """rpc, flows, relay and links."""

    def __init__(self, mesh: Mesh, org: OrgDid, credentials: Credentials, policy: Policy, splicing: type[Splicing]) -> None:
        self.id = node_id(credentials.key.public)
        self.peer = Peer(self.id, org)
        self.credentials = credentials
        self.events: list[object] = []
        self.reports: list[object] = []
        self.relays: Sequence[NodeId] | None = None  # whom it asks, where it is told
        self.mesh = mesh
        rng = random.SystemRandom()
        rpc = Rpc(self.peer, dict.fromkeys((ECHO, BIG, PROBE_PROTOCOL), _anybody), rng, listeners={CAST: Listener(MACHINE, _anybody)})
        self.machine = Relay(self.peer, policy, rpc.peer_of, rng)
        self.paths = self._paths(mesh.kind)
        self.path = self.paths[0]
        self.relaying = Relaying(credentials, self.peer, self.paths, policy)
        self.relay = self.relaying.path
        self.relay._candidates = self._candidates
        paths = [*self.paths, self.relay]
        self.links = Links(self.peer, credentials.mesh, paths, self._deliver, lambda act: self.host.at_turn_end(act))
        self.relaying.splicing = splicing(Bandwidth(policy.bytes_per_s), lambda machine, event: self.host.deliver(machine, event))
        self.relaying.attach(self.links)
        self.host = Host(
            {
                "rpc": rpc,
                "flows": Flows({ECHO: _echo, BIG: _big, PROBE_PROTOCOL: _nothing, ASK: ask_service}, limit=10_000),
                MACHINE: self.machine,
            },
            stores={},
            handlers={OpenLink: self.links.open_link, SendMessage: self.links.send_message, **self.relaying.handlers()},
            ports={},
            sign=_never_sign,
            observe=self._observe,
        )
        self.relaying.host = self.host

    def _paths(self, kind: str) -> list[TcpPath | QuicPath]:
        return [links_mesh.PATHS[kind](self.credentials, "127.0.0.1", 0, self._address_of)]

    def _address_of(self, node: NodeId) -> tuple[str, int] | None:
        found = self.mesh.members.get(node)
        return None if found is None or (self.id, node) in self.mesh.walls else ("127.0.0.1", found.path.port)

    def _candidates(self, to: NodeId) -> Sequence[NodeId]:
        return nearest(self.links.states(), to) if self.relays is None else self.relays

    def _deliver(self, events: Sequence[object]) -> bool:
        self.host.deliver_all([("rpc", event) for event in events])
        return True

    def _observe(self, machine: str, event: object, effects: list[object]) -> None:
        if machine == "rpc":
            self.events.append(event)
        self.reports += [effect for effect in effects if isinstance(effect, Report)]

    async def start(self, nursery: trio.Nursery) -> "Node":
        self.scope = trio.CancelScope()
        await nursery.start(self._run)
        return self

    async def _run(self, *, task_status: trio.TaskStatus[None]) -> None:
        with self.scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.host.run)
                await nursery.start(self.links.run)
                if self.relaying.punching is not None:
                    await nursery.start(self.relaying.punching.run)
                task_status.started()

    async def ask(self, to: "Node", body: bytes = b"", protocol: str = ECHO, *, timeout_s: float = 10.0, retries: int = 0) -> bytes:
        return await self.ask_id(to.id, body, protocol, timeout_s=timeout_s, retries=retries)

    async def ask_id(self, to: NodeId, body: bytes, protocol: str = ECHO, *, timeout_s: float = 10.0, retries: int = 0) -> bytes:
        value = await self.host.flow(ASK, Ask(to, protocol, body, timeout_s, retries), timeout_s=timeout_s + 5)
        assert isinstance(value, bytes)
        return value

    async def link(self, to: "Node") -> None:
        """Have a link to ``to``."""
        await self.ask(to)

    def state(self, to: "Node") -> LinkState:
        """Of the one main connection to ``to``."""
        (found,) = (state for state in self.links.states() if state.node == to.id and "control" in state.lanes)
        return found

    def state_via(self, to: "Node") -> NodeId | None:
        """Through whom new messages to ``to`` go."""
        main = self.links._peers[to.id].main
        return None if main is None else main.connection.via

    def downs(self) -> list[str]:
        """Why links have ended."""
        return [event.reason for event in self.events if isinstance(event, LinkDown)]

    def figure(self, name: str) -> float:
        """Of the machine ``relay``."""
        return self.machine.statistics().get(name, 0)


async def three(nursery: trio.Nursery, *, policy: Policy = STAYS, splicing: type[Splicing] = Splicing) -> tuple[Mesh, Node, Node, Node]:
    """``a`` and ``b``, between which there is a wall, and ``r``, to which both have a link."""
    mesh = Mesh()
    a, b, r = mesh.member(ALPHA), mesh.member(BETA), mesh.member(GAMMA, policy, splicing)
    mesh.wall(a, b)
    for node in (a, b, r):
        await node.start(nursery)
    await a.link(r)
    await b.link(r)
    await until(lambda: len(r.links.states()) == 2)
    return mesh, a, b, r


def _anybody(peer: Peer) -> bool:
    return True


async def _echo(request: Inbound) -> bytes:
    return request.peer.org.encode() + b" " + request.body


async def _big(request: Inbound) -> bytes:
    return b"\xa5" * int(request.body)


async def _nothing(request: Inbound) -> bytes:
    return b""


async def _never_sign(sign: Any) -> bytes:
    raise AssertionError("nothing is signed here")
