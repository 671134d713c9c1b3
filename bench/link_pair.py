"""What links cost over each path: an echo through Rpc and Links beside bare ones (trio's own TLS, aioquic, libp2p), one way messages, bulk.

Both ends run in this process and share its core, so that the figures are for a whole exchange: client, server, both
machines, both hosts. The bare echo has the same certificates, the same 200 bytes and one task a side. Echoes take turns, a tenth of
each at a time, so that all see the same machine.
"""

import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import trio

from meshos.bench.link_libp2p import echoes as libp2p_echoes
from meshos.bench.link_quic import RawQuic
from meshos.bench.services import ASKING, BIG, ECHO, SERVICES, anybody, no_signature
from meshos.crypto.certificates import Trust, issue, new_root
from meshos.crypto.keys import SigningKey, node_id
from meshos.effects import Ok
from meshos.flow import Ask
from meshos.flow_machine import Flows
from meshos.ids import NodeId, OrgDid, Peer
from meshos.node.runtime.host import Host
from meshos.node.runtime.links.limits import WRITE_BYTES
from meshos.node.runtime.links.links import Links
from meshos.node.runtime.links.path import Connection
from meshos.node.runtime.links.quic import QuicPath
from meshos.node.runtime.links.tcp import AddressOf, TcpPath
from meshos.node.runtime.links.tls import Credentials, contexts
from meshos.protocols.rpc.events import OpenLink, Reply, SendMessage
from meshos.protocols.rpc.limits import MIB
from meshos.protocols.rpc.machine import Rpc

BODY = bytes(200)
STREAM_TIMES = 3
"""The best of so many: what another process takes is none of it."""


TCP, QUIC = "links on TLS", "links on QUIC"
BARE_TLS, BARE_QUIC = "bare TLS 1.3 on trio", "bare aioquic on trio"
LIBP2P_TCP, LIBP2P_QUIC = "py-libp2p, TCP+Noise+Yamux", "py-libp2p, QUIC"
SLOW = frozenset({LIBP2P_TCP, LIBP2P_QUIC})
"""Fewer of these."""
PATHS: dict[str, type[TcpPath] | type[QuicPath]] = {TCP: TcpPath, QUIC: QuicPath}
SIZES = (1200, 16_000)
"""Of datagrams: what every path carries, and what links find on loopback."""


@dataclass(slots=True)
class Echo:
    """Milliseconds of each, and of a core for one (both ends)."""

    ms: list[float] = field(default_factory=list)
    cpu_ms: float = 0.0

    def p(self, share: float) -> float:
        """The quantile."""
        return sorted(self.ms)[min(len(self.ms) - 1, int(share * len(self.ms)))]


@dataclass(slots=True)
class LinkFigures:
    """By what carried it. Rates per second; ``stream`` is MB/s one way, by datagram size, of a connection without rpc above it."""

    echoes: dict[str, Echo] = field(default_factory=dict)
    concurrent_calls: dict[str, float] = field(default_factory=dict)
    one_way_messages: dict[str, float] = field(default_factory=dict)
    bulk_mib: dict[str, float] = field(default_factory=dict)
    stream: dict[tuple[str, int], float] = field(default_factory=dict)


class _Node:
    """One end: Rpc, Flows and Links on the real host."""

    def __init__(self, credentials: Credentials, org: OrgDid, address_of: AddressOf, over: type[TcpPath] | type[QuicPath]) -> None:
        self.peer = Peer(node_id(credentials.key.public), org)
        rpc = Rpc(self.peer, {ECHO: anybody, BIG: anybody}, random.SystemRandom())
        self.path = over(credentials, "127.0.0.1", 0, address_of)
        self.links = Links(self.peer, credentials.mesh, [self.path], self._deliver, lambda act: self.host.at_turn_end(act))
        self.host = Host(
            {"rpc": rpc, "flows": Flows(SERVICES, limit=10_000)},
            stores={},
            handlers={OpenLink: self.links.open_link, SendMessage: self.links.send_message},
            ports={},
            sign=no_signature,
        )

    def _deliver(self, events: Sequence[object]) -> bool:
        self.host.deliver_all([("rpc", event) for event in events])
        return True

    async def ask(self, to: NodeId, protocol: str, body: bytes) -> bytes:
        value = await self.host.flow(ASKING, Ask(to, protocol, body, 60.0), timeout_s=60)
        assert isinstance(value, bytes)
        return value


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


async def measure(*, echoes: int = 3000, messages: int = 50_000, bulk_bytes: int = 64 * MIB, stream_bytes: int = 64 * MIB) -> LinkFigures:
    """All figures in one run."""
    ours = _credentials()
    figures = LinkFigures()
    calls: dict[str, Callable[[], Awaitable[object]]] = {}
    pairs: dict[str, tuple[_Node, _Node]] = {}
    async with trio.open_nursery() as nursery:
        for name, over in PATHS.items():
            a, b = pairs[name] = await _pair(ours, over, nursery)
            calls[name] = partial(a.ask, b.peer.node, ECHO, BODY)
        calls[BARE_TLS] = await _bare(ours[0][1], ours[1][1], nursery)
        raw = RawQuic(ours[1][1], SIZES[-1])
        await raw.start(nursery)
        calls[BARE_QUIC] = raw.echo(BODY)
        for name, kind in ((LIBP2P_TCP, "tcp"), (LIBP2P_QUIC, "quic")):
            calls[name] = await libp2p_echoes(kind, BODY, nursery)
        await _take_turns(calls, echoes, figures)
        for name, (a, b) in pairs.items():
            to = b.peer.node
            figures.concurrent_calls[name] = await _concurrent(a, to, echoes)
            figures.one_way_messages[name] = await _one_way(a, b, messages)
            began = time.perf_counter()
            received = await a.ask(to, BIG, str(bulk_bytes).encode())
            figures.bulk_mib[name] = len(received) / MIB / (time.perf_counter() - began)
        nursery.cancel_scope.cancel()
    for size in SIZES:
        for _ in range(STREAM_TIMES):
            for name, measured in ((QUIC, _quic_stream), (BARE_QUIC, _raw_stream)):
                figures.stream[name, size] = max(figures.stream.get((name, size), 0.0), await measured(ours, size, stream_bytes) / 1e6)
    return figures


async def _pair(ours: list[tuple[OrgDid, Credentials]], over: type[TcpPath] | type[QuicPath], nursery: trio.Nursery) -> tuple[_Node, _Node]:
    addresses: dict[NodeId, tuple[str, int]] = {}
    a, b = (_Node(credentials, org, addresses.get, over) for org, credentials in ours)
    for node in (a, b):
        await nursery.start(node.host.run)
        await nursery.start(node.links.run)
        addresses[node.peer.node] = ("127.0.0.1", node.path.port)
    return a, b


async def _take_turns(calls: dict[str, Callable[[], Awaitable[object]]], echoes: int, figures: LinkFigures) -> None:
    for name, call in calls.items():
        figures.echoes[name] = Echo()
        await _timed(call, 20)
    await trio.sleep(1.0)  # QUIC has found its datagrams' size
    for _ in range(10):
        for name, call in calls.items():
            echo, began = figures.echoes[name], time.process_time()
            echo.ms += await _timed(call, echoes // (50 if name in SLOW else 10))
            echo.cpu_ms += time.process_time() - began
    for echo in figures.echoes.values():
        echo.cpu_ms *= 1000 / len(echo.ms)


async def _quic_stream(ours: list[tuple[OrgDid, Credentials]], datagram_bytes: int, count: int) -> float:
    """Bytes a second over one connection of the QUIC path."""
    addresses: dict[NodeId, tuple[str, int]] = {}
    a, b = (QuicPath(credentials, "127.0.0.1", 0, addresses.get, datagram_bytes=datagram_bytes) for _, credentials in ours)
    to = node_id(ours[1][1].key.public)
    finished = trio.Event()

    async def sink(connection: Connection) -> None:
        left = count
        while left > 0:
            left -= len(await connection.receive(WRITE_BYTES))
        finished.set()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for path in (a, b):
            await nursery.start(path.serve, sink)
        addresses[to] = ("127.0.0.1", b.port)
        connection = await a.dial(to)
        await trio.sleep(0.2)
        began = time.perf_counter()
        for _ in range(count // WRITE_BYTES):
            await connection.send(bytes(WRITE_BYTES))
        await finished.wait()
        taken = time.perf_counter() - began
        nursery.cancel_scope.cancel()
    return count / taken


async def _raw_stream(ours: list[tuple[OrgDid, Credentials]], datagram_bytes: int, count: int) -> float:
    """The same without anything around aioquic."""
    async with trio.open_nursery() as nursery:
        raw = RawQuic(ours[1][1], datagram_bytes)
        await raw.start(nursery)
        await raw.echo(BODY)()
        rate = await raw.one_way(count)
        nursery.cancel_scope.cancel()
    return rate


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
