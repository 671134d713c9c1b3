"""The UDP socket of the square's QUIC: which connection a datagram is for, and who may begin one.

A datagram that begins a connection is first answered by a Retry (RFC 9000, section 8.1.2): an address can be forged, so nothing is counted
against it, and no handshake is paid for, before somebody there has answered. A connection that sends more packets than it may loses them,
and so does an address; what is lost takes nothing of what all may send. What no connection is for has a meter of its own: garbage from
addresses that do not exist costs visitors nothing.
"""

import logging
import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import trio
from aioquic._buffer import Buffer
from aioquic.quic.packet import QuicPacketType, encode_quic_retry, encode_quic_version_negotiation, pull_quic_header
from aioquic.quic.retry import QuicRetryTokenHandler

from meshos.buckets import Bucket, Buckets, block_of
from meshos.node.runtime.quic.identifiers import ID_BYTES, Identifiers, destination
from meshos.node.runtime.quic.limits import DATAGRAM_BYTES as LARGEST_BYTES
from meshos.node.runtime.square import limits
from meshos.node.runtime.square.quic_core import DATAGRAM_BYTES, VERSION
from meshos.node.runtime.square.quic_muxed import Address, QuicMuxed
from meshos.protocols.square.limits import REMEMBERED

logger = logging.getLogger("meshos.square")

BATCH = 64
"""Datagrams that are taken off the socket before the connections that they were for may send."""


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
        rate = (limits.ALL_PACKETS_A_SECOND, limits.ALL_PACKETS_SAVED) if metered else (0.0, math.inf)
        self.meter, self.unknown = Bucket(*rate), Bucket(*rate)
        """What comes for connections that there are, and what else comes."""
        self._blocks = Buckets(limits.ADDRESS_PACKETS_A_SECOND, limits.ADDRESS_PACKETS_SAVED, REMEMBERED)
        self._tokens = QuicRetryTokenHandler()

    async def run(self) -> None:
        """Take datagrams until cancelled."""
        raw = self.socket
        while True:
            await trio.lowlevel.wait_readable(raw)
            touched: dict[QuicMuxed, None] = {}
            frames = 0
            for data, address in self._batch():
                if len(data) <= LARGEST_BYTES and (muxed := self._take(data, address)) is not None:
                    touched[muxed] = None
                    frames += muxed.core.frames_of_last
                    if frames > limits.FRAMES_A_TURN:
                        frames = 0
                        await trio.lowlevel.checkpoint()
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
            meters = (*muxed.meters, self.meter)
            cost = packets(data)
            if any(meter.level(now) < cost for meter in meters):
                return None  # and takes nothing: one that floods has no part of what all may have but its own
            muxed.receive(data, address, now)
            for meter in meters:
                meter.spend(now, cost + muxed.core.frames_of_last // limits.FRAMES_A_PACKET)
            return muxed
        if len(data) < DATAGRAM_BYTES or not self.unknown.take(now, packets(data)):
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

    def meters(self, address: str) -> tuple[Bucket, Bucket]:
        """What bounds the packets of a new connection from there: a meter of its own, and that of its address."""
        return Bucket(limits.PACKETS_A_SECOND, limits.PACKETS_SAVED), self._blocks.of(block_of(address))

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
