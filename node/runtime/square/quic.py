"""Connections over QUIC v1 on one UDP socket: driven from trio, with streams such as those of Yamux.

A datagram that begins a connection is first answered by a Retry (RFC 9000, section 8.1.2): an address can be forged, so nothing is counted
against it, and no handshake is paid for, before somebody there has answered. A connection that sends more packets than it may loses them,
and what no connection is for has a meter of its own: garbage from addresses that do not exist costs visitors nothing.

What aioquic raises at a stranger's bytes ends that connection, and no other.
"""

import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import trio
from aioquic._buffer import Buffer
from aioquic.quic import events
from aioquic.quic.packet import QuicPacketType, encode_quic_retry, encode_quic_version_negotiation, pull_quic_header
from aioquic.quic.retry import QuicRetryTokenHandler
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID

from meshos.node.runtime.quic.identifiers import ID_BYTES, Identifiers, destination
from meshos.node.runtime.quic.limits import DATAGRAM_BYTES as LARGEST_BYTES
from meshos.node.runtime.square import limits
from meshos.node.runtime.square.quic_core import DATAGRAM_BYTES, VERSION, Core
from meshos.node.runtime.square.wire import Meter

logger = logging.getLogger("meshos.square")

Address = tuple[str, int]
UNACKNOWLEDGED_BYTES = 128 * 1024
"""Written to a stream and on its way: what is more waits."""
BATCH = 64
"""Datagrams that are taken off the socket before the connections that they were for may send."""


class Over(BaseLibp2pError):
    """The stream or its connection is over."""


class QuicStream:
    """A stream both ways; reads and writes as those of Yamux do."""

    def __init__(self, conn: "QuicMuxed", number: int) -> None:
        self._conn, self.number = conn, number
        self.buffer = bytearray()
        self.ended = self.broken = self.finished = False
        """The peer has ended its side; it is cut off; this side has ended its own."""
        self.news = trio.Event()

    def tell(self) -> None:
        """Wake who waits for it."""
        self.news.set()
        self.news = trio.Event()

    async def read(self, n: int | None = None) -> bytes:
        """At most ``n`` bytes; raises EOFError at the end, Over where it was cut off."""
        while not self.buffer:
            if self.broken or self._conn.closed.is_set():
                raise Over("the stream was cut off")
            if self.ended:
                raise EOFError
            await self.news.wait()
        taken = bytes(self.buffer[:n])
        del self.buffer[: len(taken)]
        self._conn.core.consumed += len(taken)
        self._conn.send()
        return taken

    async def write(self, data: bytes) -> None:
        """All of ``data``; waits while the peer does not take it."""
        for at in range(0, len(data), limits.READ_BYTES):
            while not self.broken and not self._conn.closed.is_set() and self._conn.core.unsent(self.number) > UNACKNOWLEDGED_BYTES:
                await self._conn.progress.wait()
            self._act(partial(self._conn.core.send_stream_data, self.number, data[at : at + limits.READ_BYTES]))

    async def close(self) -> None:
        """Nothing more comes from here."""
        self.finished = True
        self._act(partial(self._conn.core.send_stream_data, self.number, b"", end_stream=True))
        await trio.lowlevel.checkpoint()

    async def reset(self) -> None:
        """End it both ways, and forget what was not read."""
        core = self._conn.core
        core.consumed += len(self.buffer)
        self.buffer.clear()
        if not self.broken:
            self.broken = True
            # What this side has ended is left to arrive: a reset would overtake it.
            ours = () if self.finished else (core.reset_stream,)
            for act in (*ours, *(() if self.ended else (core.stop_stream,))):
                try:
                    self._act(partial(act, self.number, 0))
                except Over:
                    continue
        self._conn.streams.pop(self.number, None)
        self.tell()
        await trio.lowlevel.checkpoint()

    def _act(self, act: Callable[[], None]) -> None:
        if self._conn.closed.is_set():
            raise Over("the connection is over")
        try:
            act()
        except (AssertionError, ValueError, RuntimeError) as error:  # aioquic's ways to say that the stream is finished, or not wanted
            raise Over("the stream is over") from error
        self._conn.send()


class Driver(Protocol):
    """Who moves datagrams: ``Endpoint``."""

    def send(self, datagrams: list[tuple[bytes, Address]]) -> None:
        """Send or lose them."""

    def issued(self, identifier: bytes, muxed: "QuicMuxed") -> None:
        """Datagrams with this connection id are for ``muxed``."""

    def retired(self, identifier: bytes) -> None:
        """No longer."""


class QuicMuxed:
    """A connection, with streams; in the place of libp2p's muxed connections. ``peer_id`` is there once ``prove`` was called."""

    def __init__(self, core: Core, driver: Driver, excess: Callable[[str], None]) -> None:
        self.core, self._driver, self._excess = core, driver, excess
        self.peer_id: ID | None = None
        self.streams: dict[int, QuicStream] = {}
        self.handshaken, self.closed, self.progress = trio.Event(), trio.Event(), trio.Event()
        self.meter = Meter(limits.PACKETS_A_SECOND, limits.PACKETS_SAVED)
        self._came, self._taken = trio.open_memory_channel[QuicStream](limits.STREAMS)
        self._clock = trio.CancelScope()

    # -- what the square asks ----------------------------------------------------------------------------------------

    def prove(self) -> ID:
        """Whose key was proven, once the handshake is over; raises Refused ``square-bad-handshake``."""
        self.peer_id = self.core.peer_of()
        self.core.admit(largest=LARGEST_BYTES, frames=limits.FRAMES_A_DATAGRAM)
        return self.peer_id

    async def accept_stream(self) -> QuicStream:
        """The next stream that the peer opens; raises Over."""
        try:
            return await self._taken.receive()
        except trio.EndOfChannel as error:
            raise Over("the connection is over") from error

    async def open_stream(self) -> QuicStream:
        """A new stream."""
        await trio.lowlevel.checkpoint()
        if self.closed.is_set():
            raise Over("the connection is over")
        stream = QuicStream(self, self.core.get_next_available_stream_id())
        self.streams[stream.number] = stream
        return stream

    async def start(self) -> None:
        """Until it is over: aioquic's clock."""
        try:
            while not self.closed.is_set():
                timer = self.core.get_timer()
                with trio.CancelScope(deadline=math.inf if timer is None else timer) as self._clock:
                    await self.closed.wait()
                now = trio.current_time()
                if timer is not None and timer <= now:
                    with self._contained():
                        self.core.handle_timer(now)
                    self.send()
        finally:
            self.over()

    async def close(self) -> None:
        """Say goodbye, and end it."""
        self.core.close()
        self.send()
        self.over()
        await trio.lowlevel.checkpoint()

    # -- datagrams ---------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, address: Address, now: float) -> None:
        """A datagram has come; ``send`` follows."""
        if not self.meter.allows(now, packets(data)):
            return
        with self._contained():
            self.core.receive_datagram(data, address, now)
            self._hear_all()
        self.meter.charge(self.core.frames_of_last // limits.FRAMES_A_PACKET)
        if self.core.exceeded:
            self._excess("square-flood")

    def send(self) -> None:
        """Whatever is due, and what has happened."""
        with self._contained():
            self._driver.send(self.core.datagrams_to_send(trio.current_time()))
            self._hear_all()
        self.progress.set()
        self.progress = trio.Event()
        self._clock.deadline = -math.inf  # the timer is another now

    def over(self) -> None:
        """Nothing more comes."""
        if not self.closed.is_set():
            self.closed.set()
            self.handshaken.set()  # who waits for it looks at ``closed``
            self._came.close()
            for stream in list(self.streams.values()):
                stream.tell()
            self.progress.set()

    @contextmanager
    def _contained(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a bug, ours or aioquic's, that these bytes have met: of this connection, not of the square
            logger.error("bug", exc_info=error, extra={"operation": "square-quic"})
            self._excess("square-bad-handshake")
            self.over()

    def _hear_all(self) -> None:
        while (event := self.core.next_event()) is not None:
            self._hear(event)

    def _hear(self, event: events.QuicEvent) -> None:
        match event:
            case events.ConnectionIdIssued(connection_id=identifier):
                self._driver.issued(identifier, self)
            case events.ConnectionIdRetired(connection_id=identifier):
                self._driver.retired(identifier)
            case events.HandshakeCompleted():
                self.handshaken.set()
            case events.ConnectionTerminated():
                self.over()
            case events.StreamDataReceived(data=data, end_stream=end, stream_id=number):
                self._data(number, data, end)
            case events.StreamReset(stream_id=number) | events.StopSendingReceived(stream_id=number):
                if (stream := self.streams.get(number)) is not None:
                    stream.broken = isinstance(event, events.StreamReset) or stream.broken
                    stream.tell()
            case _:
                pass

    def _data(self, number: int, data: bytes, end: bool) -> None:
        if self.closed.is_set():
            return
        stream = self.streams.get(number)
        if stream is None:
            if bool(number & 1) is not self.core.configuration.is_client or not self.handshaken.is_set():
                self.core.consumed += len(data)  # of one that was reset here
                return
            stream = self.streams[number] = QuicStream(self, number)
            try:
                self._came.send_nowait(stream)
            except trio.WouldBlock:
                self._excess("square-flood")
                return
        stream.buffer += data
        stream.ended = stream.ended or end
        if sum(len(one.buffer) for one in self.streams.values()) > limits.BACKLOG_BYTES:
            self._excess("square-flood")
        stream.tell()


@dataclass(slots=True)
class Beginning:
    """The first datagram of a connection whose address has answered."""

    data: bytes
    address: Address
    original: bytes
    retry: bytes


class Endpoint:
    """The socket, and which connection a datagram is for. ``begin`` is called with what begins one."""

    socket: trio.socket.SocketType

    def __init__(self, socket: trio.socket.SocketType, begin: Callable[[Beginning], None], *, metered: bool) -> None:
        """``metered`` is who can be dialled; who dials has chosen whom it hears."""
        self.socket, self._begin = socket, begin
        self.connections: Identifiers[QuicMuxed] = Identifiers()
        rate = (limits.ALL_PACKETS_A_SECOND, limits.ALL_PACKETS_SAVED) if metered else (math.inf, math.inf)
        self.meter, self.unknown = Meter(*rate), Meter(*rate)
        """What comes for connections that there are, and what else comes."""
        self._tokens = QuicRetryTokenHandler()

    async def run(self) -> None:
        """Take datagrams until cancelled."""
        raw = self.socket
        while True:
            await trio.lowlevel.wait_readable(raw)
            touched: dict[QuicMuxed, None] = {}
            for data, address in self._batch():
                if len(data) <= LARGEST_BYTES and (muxed := self._take(data, address)) is not None:
                    touched[muxed] = None
            for muxed in touched:
                muxed.send()
            await trio.lowlevel.checkpoint()

    def _batch(self) -> list[tuple[bytes, Address]]:
        batch = []
        for _ in range(BATCH):
            try:
                data, source = self.socket._sock.recvfrom(65_535)  # type: ignore[attr-defined]  # trio's own would wait
            except (BlockingIOError, InterruptedError):
                break
            except OSError:  # what ICMP said of an earlier one
                continue
            batch.append((data, (str(source[0]), int(source[1]))))
        return batch

    def send(self, datagrams: list[tuple[bytes, Address]]) -> None:
        """Send or lose them."""
        for data, address in datagrams:
            try:
                self.socket._sock.sendto(data, address)  # type: ignore[attr-defined]
            except OSError:
                continue

    def _take(self, data: bytes, address: Address) -> QuicMuxed | None:
        now = trio.current_time()
        if (muxed := self.connections.get(destination(data))) is not None:
            if not self.meter.allows(now, packets(data)):
                return None
            muxed.receive(data, address, now)
            self.meter.charge(muxed.core.frames_of_last // limits.FRAMES_A_PACKET)
            return muxed
        if len(data) < DATAGRAM_BYTES or not self.unknown.allows(now, packets(data)):
            return None
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=ID_BYTES)
        except ValueError:
            return None
        if header.packet_type is QuicPacketType.ONE_RTT or len(header.destination_cid) < ID_BYTES:
            return None
        if header.version != VERSION:
            if header.version:
                versions = encode_quic_version_negotiation(
                    source_cid=header.destination_cid, destination_cid=header.source_cid, supported_versions=[VERSION]
                )
                self.send([(versions, address)])
            return None
        if header.packet_type is QuicPacketType.INITIAL:
            self._initial(data, address, header.destination_cid, header.source_cid, header.token or b"")
        return None

    def _initial(self, data: bytes, address: Address, destination: bytes, source: bytes, token: bytes) -> None:
        now = trio.current_time()
        if token:
            try:
                original = self._tokens.validate_token(address=address, destination_cid=destination, token=token, now=now)
            except ValueError:
                return
            try:
                self._begin(Beginning(data, address, original, destination))
            except Exception as error:  # as in QuicMuxed
                logger.error("bug", exc_info=error, extra={"operation": "square-quic"})
            return
        ours = os.urandom(ID_BYTES)
        made = self._tokens.create_token(
            address=address, original_destination_connection_id=destination, retry_source_connection_id=ours, now=now
        )
        retry = encode_quic_retry(
            version=VERSION, source_cid=ours, destination_cid=source, original_destination_cid=destination, retry_token=made
        )
        self.send([(retry, address)])

    def add(self, muxed: QuicMuxed, *identifiers: bytes) -> None:
        """Datagrams for these ids are for this connection."""
        for identifier in (*identifiers, muxed.core.host_cid):
            self.connections.issued(identifier, muxed)

    def issued(self, identifier: bytes, muxed: QuicMuxed) -> None:
        """See ``Driver``."""
        if not muxed.closed.is_set():
            self.connections.issued(identifier, muxed)

    def retired(self, identifier: bytes) -> None:
        """See ``Driver``."""
        self.connections.retired(identifier)

    def forget(self, muxed: QuicMuxed) -> None:
        """It is over."""
        self.connections.forget(muxed)


def packets(data: bytes) -> int:
    """As how many packets a datagram counts: aioquic takes frames one by one, so large ones cost more."""
    return 1 + len(data) // 256
