"""aioquic with as little around it as can be had: the floor for links over QUIC, with the same datagrams in the same trains.

Two connections, two sockets, two tasks; certificates are shown by the server only and looked at by nobody.
"""

import time
from collections.abc import Awaitable, Callable

import trio
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import StreamDataReceived
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshos.node.runtime.links.quic_socket import Address, UdpSocket
from meshos.node.runtime.links.tls import Credentials

AHEAD_BYTES = 256 * 1024
"""What the writer keeps queued, as links do."""


class _End:
    """One side: a task that receives, hands on and answers; the clock of its connection is the timeout of its wait."""

    def __init__(self, socket: UdpSocket, connection: QuicConnection, heard: Callable[["_End", bytes], None]) -> None:
        self.socket, self.connection, self.heard = socket, connection, heard
        self.received = 0
        self.progress = trio.Event()

    def flush(self) -> None:
        self.socket.send(self.connection.datagrams_to_send(trio.current_time()))

    async def run(self) -> None:
        while True:
            timer = self.connection.get_timer()
            with trio.move_on_at(timer if timer is not None else trio.current_time() + 1):
                await trio.lowlevel.wait_readable(self.socket.raw)
            now = trio.current_time()
            if timer is not None and timer <= now:
                self.connection.handle_timer(now)
            for data, address in self.socket.receive()[0]:
                self.connection.receive_datagram(data, address, now)
            while (event := self.connection.next_event()) is not None:
                if isinstance(event, StreamDataReceived):
                    self.received += len(event.data)
                    self.heard(self, event.data)
            self.flush()
            self.progress.set()
            self.progress = trio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self.progress.wait()


class RawQuic:
    """``await start``, then ``echo`` and ``one_way``."""

    def __init__(self, credentials: Credentials, datagram_bytes: int) -> None:
        common = {"alpn_protocols": ["raw"], "max_datagram_size": datagram_bytes, "supported_versions": [1], "verify_mode": 0}
        self._server = QuicConfiguration(is_client=False, **common)  # type: ignore[arg-type]
        self._server.certificate = x509.load_der_x509_certificate(credentials.certificate)
        self._server.private_key = Ed25519PrivateKey.from_private_bytes(credentials.key.seed())
        self._client = QuicConnection(configuration=QuicConfiguration(is_client=True, **common))  # type: ignore[arg-type]
        self._echoing = True

    async def start(self, nursery: trio.Nursery) -> None:
        """Connect the two."""
        here, there = UdpSocket("127.0.0.1", 0), UdpSocket("127.0.0.1", 0)
        self._a = _End(here, self._client, lambda end, data: None)
        self._client.connect(("127.0.0.1", there.port), trio.current_time())
        self._a.flush()
        first: tuple[bytes, Address] | None = None
        while first is None:
            await trio.lowlevel.wait_readable(there.raw)
            received = there.receive()[0]
            first = received[0] if received else None
        connection = QuicConnection(configuration=self._server, original_destination_connection_id=first[0][6 : 6 + first[0][5]])
        self._b = _End(there, connection, self._answer)
        connection.receive_datagram(first[0], first[1], trio.current_time())
        self._b.flush()
        nursery.start_soon(self._a.run)
        nursery.start_soon(self._b.run)
        with trio.fail_after(5):
            await self._a.until(lambda: self._client._handshake_confirmed)

    def _answer(self, end: _End, data: bytes) -> None:
        if self._echoing:
            end.connection.send_stream_data(0, data)

    def echo(self, body: bytes) -> Callable[[], Awaitable[object]]:
        """A call that sends ``body`` and waits for it."""

        async def call() -> None:
            want = self._a.received + len(body)
            self._client.send_stream_data(0, body)
            self._a.flush()
            await self._a.until(lambda: self._a.received >= want)

        return call

    async def one_way(self, count: int) -> float:
        """Bytes a second."""
        self._echoing = False
        began, want, sent = time.perf_counter(), self._b.received + count, 0
        stream = self._client._streams[0].sender
        piece = bytes(AHEAD_BYTES // 2)
        while sent < count:
            if stream._buffer_stop - stream.highest_offset < AHEAD_BYTES:
                self._client.send_stream_data(0, piece)
                sent += len(piece)
                self._a.flush()
            else:
                await self._a.progress.wait()
        await self._b.until(lambda: self._b.received >= want)
        return count / (time.perf_counter() - began)
