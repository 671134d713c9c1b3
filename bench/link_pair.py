"""What links cost: an echo through Rpc and Links beside a bare echo over trio's own TLS, one way messages, and bulk.

Both ends run in this process and share its core, so that the figures are for a whole exchange: client, server, both
machines, both hosts. The bare echo has the same certificates, the same 200 bytes and one task a side.
"""

import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio

from meshos.crypto.certificates import Trust, issue, new_root
from meshos.crypto.keys import SigningKey, node_id
from meshos.effects import Ok, Sign
from meshos.flow import Ask
from meshos.flow_machine import Flows, Service
from meshos.ids import NodeId, OrgDid, Peer
from meshos.node.runtime.host import Host
from meshos.node.runtime.links.links import Links
from meshos.node.runtime.links.tcp import TcpPath
from meshos.node.runtime.links.tls import Credentials, contexts
from meshos.protocols.rpc.events import Inbound, OpenLink, Reply, SendMessage
from meshos.protocols.rpc.limits import MIB
from meshos.protocols.rpc.machine import Rpc

ECHO, BIG, ASKING = "/bench/echo/1", "/bench/big/1", "/bench/asking/1"
BODY = bytes(200)


@dataclass(frozen=True, slots=True)
class LinkFigures:
    """Times in milliseconds, rates per second."""

    echo_p50_ms: float
    echo_p99_ms: float
    bare_p50_ms: float
    bare_p99_ms: float
    concurrent_calls_per_s: float
    one_way_messages_per_s: float
    bulk_mib_per_s: float
    bulk_bytes: int


class _Node:
    """One end: Rpc, Flows and Links on the real host."""

    def __init__(self, credentials: Credentials, org: OrgDid, address_of: Callable[[NodeId], tuple[str, int] | None]) -> None:
        self.peer = Peer(node_id(credentials.key.public), org)
        services: dict[str, Service] = {ECHO: _echo, BIG: _big, ASKING: _asking}
        rpc = Rpc(self.peer, {ECHO: _anybody, BIG: _anybody}, random.SystemRandom())
        self.path = TcpPath(credentials, "127.0.0.1", 0, address_of)
        self.links = Links(self.peer, credentials.mesh, [self.path], self._deliver, lambda act: self.host.at_turn_end(act))
        self.host = Host(
            {"rpc": rpc, "flows": Flows(services, limit=10_000)},
            stores={},
            handlers={OpenLink: self.links.open_link, SendMessage: self.links.send_message},
            ports={},
            sign=_no_signature,
        )

    def _deliver(self, events: Sequence[object]) -> bool:
        self.host.deliver_all([("rpc", event) for event in events])
        return True

    async def ask(self, to: NodeId, protocol: str, body: bytes) -> bytes:
        value = await self.host.flow(ASKING, Ask(to, protocol, body, 60.0), timeout_s=60)
        assert isinstance(value, bytes)
        return value


async def _echo(request: Inbound) -> bytes:
    return request.body


async def _big(request: Inbound) -> bytes:
    return bytes(int(request.body))


async def _asking(ask: Ask) -> bytes:
    return await ask


def _anybody(peer: Peer) -> bool:
    return True


async def _no_signature(sign: Sign) -> bytes:
    raise NotImplementedError("nothing is signed in this benchmark")


def _credentials() -> list[tuple[OrgDid, Credentials]]:
    """One node each of two organisations."""
    mesh, now = bytes(32), time.time()
    dids = [OrgDid("did:mesh:enterprise:alpha"), OrgDid("did:mesh:enterprise:beta")]
    roots = {did: SigningKey.generate() for did in dids}
    trust = Trust(mesh.hex()[:32], {did: key.public for did, key in roots.items()})
    authorities = tuple(new_root(key, did, now=now) for did, key in roots.items())
    made = []
    for did, root in roots.items():
        key = SigningKey.generate()
        certificate = issue(root, mesh_id=trust.mesh_id, org=did, node=key.public, now=now)
        made.append((did, Credentials(key, certificate, mesh, trust, authorities)))
    return made


async def measure(*, echoes: int = 3000, messages: int = 50_000, bulk_bytes: int = 64 * MIB) -> LinkFigures:
    """All figures in one run; the bare echo and ours take turns, so that both see the same machine."""
    ours = _credentials()
    addresses: dict[NodeId, tuple[str, int]] = {}
    a, b = (_Node(credentials, org, addresses.get) for org, credentials in ours)
    async with trio.open_nursery() as nursery:
        for node in (a, b):
            await nursery.start(node.host.run)
            await nursery.start(node.links.run)
            addresses[node.peer.node] = ("127.0.0.1", node.path.port)
        bare = await _bare(ours[0][1], ours[1][1], nursery)
        to = b.peer.node
        for _ in range(100):
            await a.ask(to, ECHO, BODY)
            await bare()
        mine: list[float] = []
        theirs: list[float] = []
        for _ in range(10):
            mine += await _timed(lambda: a.ask(to, ECHO, BODY), echoes // 10)
            theirs += await _timed(bare, echoes // 10)
        concurrent = await _concurrent(a, to, echoes)
        one_way = await _one_way(a, b, messages)
        began = time.perf_counter()
        received = await a.ask(to, BIG, str(bulk_bytes).encode())
        bulk = len(received) / MIB / (time.perf_counter() - began)
        nursery.cancel_scope.cancel()
    return LinkFigures(
        _quantile(mine, 0.5),
        _quantile(mine, 0.99),
        _quantile(theirs, 0.5),
        _quantile(theirs, 0.99),
        concurrent,
        one_way,
        bulk,
        bulk_bytes,
    )


async def _bare(client: Credentials, server: Credentials, nursery: trio.Nursery) -> Callable[[], Awaitable[object]]:
    """An echo over ``trio.SSLStream`` with the same certificates: as little as can be had."""
    accepting, calling = contexts(server)[0], contexts(client)[1]

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        while data := await stream.receive_some(65536):
            await stream.send_all(data)

    (listener,) = await trio.open_ssl_over_tcp_listeners(0, accepting, host="127.0.0.1")
    assert isinstance(listener.transport_listener, trio.SocketListener)
    port = listener.transport_listener.socket.getsockname()[1]
    nursery.start_soon(trio.serve_listeners, serve, [listener])
    stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=calling)

    async def echo() -> None:
        await stream.send_all(BODY)
        left = len(BODY)
        while left:
            left -= len(await stream.receive_some(65536))

    return echo


async def _timed(call: Callable[[], Awaitable[object]], times: int) -> list[float]:
    """Milliseconds of each of ``times`` calls."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        await call()
        taken.append((time.perf_counter() - began) * 1000)
    return taken


async def _concurrent(node: _Node, to: NodeId, calls: int, tasks: int = 64) -> float:
    """Calls a second with ``tasks`` of them under way at any time."""

    async def many() -> None:
        for _ in range(calls // tasks):
            await node.ask(to, ECHO, BODY)

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(many)
    return calls // tasks * tasks / (time.perf_counter() - began)


async def _one_way(a: _Node, b: _Node, messages: int) -> float:
    """Replies of 200 bytes a second from link to link, sixteen queued at a time, until rpc has heard the last (and ignored it)."""
    (before,) = (state.messages_in["work"] for state in b.links.states() if state.lanes != ("bulk",))
    already = a.links.states()[0].messages_out["work"]
    began = time.perf_counter()
    for number in range(messages):
        a.links.send_message(SendMessage(b.peer.node, "work", Reply(number.to_bytes(16, "big"), Ok(BODY))))
        if number % 16 == 15:
            await trio.lowlevel.checkpoint()
    while True:
        (now,) = (state.messages_in["work"] for state in b.links.states() if state.lanes != ("bulk",))
        sent = a.links.states()[0].messages_out["work"] - already
        if now - before >= sent:
            return sent / (time.perf_counter() - began)
        await trio.lowlevel.checkpoint()


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
