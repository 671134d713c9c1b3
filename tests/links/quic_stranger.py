"""For the tests of the QUIC path: a server, a stranger with an aioquic client of its own on a plain socket, and a router in between."""

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import trio
from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, QuicEvent
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.tls import Epoch
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshos.node.runtime.links.quic_link import QuicLink
from meshos.node.runtime.links.tls import Credentials
from meshos.protocols.rpc.events import Inbound, LinkUp
from tests.links.mesh import BETA, Mesh, Node

ECHO, BIG = "/test/echo/1", "/test/big/1"
CREDENTIALS = Mesh().credentials()
"""Of somebody, for cores that nobody looks at."""


async def echo(request: Inbound) -> bytes:
    return request.body


async def big(request: Inbound) -> bytes:
    return bytes(int(request.body))


async def listening(nursery: trio.Nursery) -> tuple[Mesh, Node]:
    mesh = Mesh()
    node = mesh.node(services={ECHO: echo, BIG: big})
    await node.start(nursery)
    return mesh, node


async def still_serves(mesh: Mesh, server: Node, nursery: trio.Nursery) -> None:
    honest = mesh.node(BETA)
    await honest.start(nursery)
    assert await honest.ask(server.id, ECHO, b"fine") == b"fine"
    assert [event.peer for event in server.of(LinkUp)] == [honest.peer], "and it is the only one that got a link"


def count(server: Node, name: str) -> float:
    return server.links.statistics().get(f"path_quic_{name}", 0)


def link_of(node: Node) -> QuicLink:
    """Its one connection."""
    ((channel_,),) = (peer.channels for peer in node.links._peers.values())
    assert isinstance(channel_.connection, QuicLink)
    return channel_.connection


class ByHand:
    """A client that is driven by hand: ``send``, ``receive``, ``until``; or ``raw``, which sends frames as they are."""

    def __init__(self, quic: QuicConnection, port: int) -> None:
        self.quic = quic
        self.socket = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.server = ("127.0.0.1", port)
        self.events: list[QuicEvent] = []
        self.bytes_out = self.bytes_in = 0
        self.quic.connect(self.server, trio.current_time())

    async def raw(self, frames: bytes, epoch: Epoch = Epoch.ONE_RTT, largest: int = 1_200) -> None:
        """Send ``packet``."""
        for data in self.packet(frames, epoch, largest):
            await self.socket.sendto(data, self.server)

    def packet(self, frames: bytes, epoch: Epoch = Epoch.ONE_RTT, largest: int = 1_200) -> list[bytes]:
        """One with these frames, padded as a first packet has to be."""
        quic = self.quic
        kind = QuicPacketType.ONE_RTT if epoch is Epoch.ONE_RTT else QuicPacketType.INITIAL
        builder = QuicPacketBuilder(
            host_cid=quic.host_cid,
            is_client=True,
            max_datagram_size=largest,
            packet_number=quic._packet_number,
            peer_cid=quic._peer_cid.cid,
            peer_token=quic._peer_token,
            version=1,
        )
        builder.start_packet(kind, quic._cryptos[epoch] if epoch is Epoch.ONE_RTT else quic._cryptos_initial[1])
        builder.start_frame(frames[0]).push_bytes(frames[1:])
        datagrams, _ = builder.flush()
        quic._packet_number = builder.packet_number
        return list(datagrams)

    async def send(self) -> None:
        """All that it has to send."""
        for data, address in self.quic.datagrams_to_send(trio.current_time()):
            self.bytes_out += len(data)
            await self.socket.sendto(data, address)

    async def receive(self, within_s: float = 0.2) -> bool:
        """One datagram, if one comes."""
        with trio.move_on_after(within_s):
            data, address = await self.socket.recvfrom(65_535)
            self.bytes_in += len(data)
            self.quic.receive_datagram(data, address, trio.current_time())
            while (event := self.quic.next_event()) is not None:
                self.events.append(event)
            return True
        return False

    async def until(self, condition: Callable[[], Any], timeout_s: float = 5.0) -> None:
        """Exchange datagrams until ``condition()`` holds."""
        with trio.fail_after(timeout_s):
            while not condition():
                await self.send()
                await self.receive(0.02)
                timer = self.quic.get_timer()
                if timer is not None and timer <= trio.current_time():
                    self.quic.handle_timer(trio.current_time())

    @property
    def completed(self) -> bool:
        """Whether its side of the handshake has ended."""
        return self.quic._handshake_complete

    @property
    def close(self) -> ConnectionTerminated | None:
        """How the server has closed the connection."""
        return self.quic._close_event


class Stranger(ByHand):
    """Somebody who comes to a node's links."""

    def __init__(self, server: Node, credentials: Credentials | None, **changes: Any) -> None:
        options: dict[str, Any] = {"alpn_protocols": ["meshos/1"], "verify_mode": 0, "supported_versions": [1], **changes}
        configuration = QuicConfiguration(is_client=True, **options)
        if credentials is not None:
            configuration.certificate = x509.load_der_x509_certificate(credentials.certificate)
            configuration.private_key = Ed25519PrivateKey.from_private_bytes(credentials.key.seed())
        super().__init__(QuicConnection(configuration=configuration), server.path.port)


class Router:
    """Forwards datagrams between one client and ``to`` as a router with address translation does. ``mapping`` is its outer socket."""

    def __init__(self, to: Callable[[], tuple[str, int]], largest: int = 65_535) -> None:
        self.inside = _bound("127.0.0.1")
        self.mapping = _bound("127.0.0.1")
        self.largest = largest
        self.cut = False
        self.port: int = self.inside.getsockname()[1]
        self._to = to
        self._client: tuple[str, int] | None = None

    def remap(self, host: str) -> None:
        """Forget the mapping: what comes next goes out from another port, and from another address if ``host`` is one."""
        former, self.mapping = self.mapping, _bound(host)
        former.close()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Forward until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._outwards)
            nursery.start_soon(self._inwards)
            task_status.started()

    async def _outwards(self) -> None:
        while True:
            data, self._client = await self.inside.recvfrom(65_535)
            if len(data) <= self.largest and not self.cut:
                await self.mapping.sendto(data, self._to())

    async def _inwards(self) -> None:
        while True:
            with suppress(trio.ClosedResourceError):  # there is another mapping now
                while True:
                    data, _ = await self.mapping.recvfrom(65_535)
                    if len(data) <= self.largest and not self.cut and self._client is not None:
                        await self.inside.sendto(data, self._client)


def _bound(host: str) -> Any:
    raw = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    raw.bind((host, 0))
    return trio.socket.from_stdlib_socket(raw)


def crypto(offset: int, data: bytes) -> bytes:
    """A frame of a handshake."""
    frame = Buffer(capacity=len(data) + 32)
    frame.push_uint_var(0x06)
    frame.push_uint_var(offset)
    frame.push_uint_var(len(data))
    return bytes(frame.data) + data
