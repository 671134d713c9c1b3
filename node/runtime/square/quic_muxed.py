"""A QUIC connection with its streams, in the place of libp2p's muxed connections.

What aioquic raises at a stranger's bytes ends that connection, and no other.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import trio
from aioquic.quic import events
from libp2p.peer.id import ID

from meshos.buckets import Bucket
from meshos.node.runtime.quic.limits import DATAGRAM_BYTES as LARGEST_BYTES
from meshos.node.runtime.square import limits
from meshos.node.runtime.square.quic_core import Core
from meshos.node.runtime.square.quic_stream import Over, QuicStream

logger = logging.getLogger("meshos.square")

Address = tuple[str, int]


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

    def __init__(self, core: Core, driver: Driver, excess: Callable[[str], None], meters: Sequence[Bucket] = ()) -> None:
        """``meters`` are for its packets: its own, and who else answers for them."""
        self.core, self._driver, self._excess, self.meters = core, driver, excess, meters
        self.peer_id: ID | None = None
        self.streams: dict[int, QuicStream] = {}
        self.handshaken, self.closed, self.progress = trio.Event(), trio.Event(), trio.Event()
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
        self.core.send_stream_data(stream.number, b"")  # else the number is the next one's, too, until something is written
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
        """A datagram has come, and was paid for; ``send`` follows."""
        with self._contained():
            self.core.receive_datagram(data, address, now)
            self._hear_all()
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

    def forget(self, number: int) -> None:
        """This stream is over."""
        self.streams.pop(number, None)

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
                self.core.drop(number)
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
