"""aioquic's connection, with what a link between members needs set otherwise than aioquic sets it.

What every connection of a node needs is in ``runtime/quic/bounded.py``: certificates both ways, and bounds until they are known.


- One stream, opened by the client. The peer may open no other, either then or later.
- Windows open as data is *read* (``consumed``), not as it arrives: aioquic doubles its limits whenever half of them is used, so that a
  peer could have any amount buffered (aiortc/aioquic issue 589).
- Acknowledgements wait a little for data to travel with.
- Datagrams grow where the path carries larger ones (``probe``, ``resize``); aioquic has one size for a connection's life.
- A reset token (RFC 9000, section 10.3) is made from the connection's id, so that the next start of this node can still give it.

No session tickets: resumption would skip the certificates, and early data comes before anybody is known.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from aioquic import tls
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    CONNECTION_LIMIT_FRAME_CAPACITY,
    END_STATES,
    MAX_STREAM_DATA_FRAME_CAPACITY,
    Limit,
    QuicConnectionError,
    QuicConnectionState,
)
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicPacketType
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder, QuicPacketBuilderStop, QuicSentPacket
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream

from meshos.node.runtime.links.limits import (
    QUIC_ACK_BYTES,
    QUIC_ACK_DELAY_S,
    QUIC_ACK_WITH_DATA_S,
    QUIC_DATAGRAM_BYTES,
    QUIC_WINDOW_BYTES,
)
from meshos.node.runtime.links.transport import NOTHING, Transport
from meshos.node.runtime.quic.bounded import BoundedConnection

STREAM = 0
"""The first that a client opens for both directions (RFC 9000, section 2.1)."""


class Core(BoundedConnection):
    """See the module's text. Sans I/O: datagrams and times in, datagrams and deadlines out."""

    def __init__(
        self,
        configuration: QuicConfiguration,
        reset_token: Callable[[bytes], bytes],
        *,
        original_destination: bytes | None = None,
        retry_source: bytes | None = None,
    ) -> None:
        super().__init__(configuration, original=original_destination, retry=retry_source)
        self.consumed = 0
        """Bytes of the stream that were read here."""
        self._reset_token = reset_token
        if not self._is_client:
            self._host_cids[0].stateless_reset_token = reset_token(self._host_cids[0].cid)
        for limit, streams in ((self._local_max_streams_bidi, int(not self._is_client)), (self._local_max_streams_uni, 0)):
            limit.value = limit.sent = streams
        self._ack_delay = QUIC_ACK_DELAY_S
        self._unacknowledged = 0
        self._lost = 0
        self._acknowledged = -1  # the highest packet that is
        self._acknowledged_at = 0.0
        self._forget_lost, self._loss._on_packets_lost = self._loss._on_packets_lost, self._packets_lost  # type: ignore[method-assign]

    # -- what the link asks ------------------------------------------------------------------------------------------

    @property
    def ended(self) -> ConnectionTerminated | None:
        """Why it ended, as soon as either side has ended it (aioquic tells only when it has also been forgotten)."""
        return self._close_event if self._state in END_STATES or self._close_pending else None

    @property
    def ended_by_peer(self) -> bool:
        """Whether the other side has closed it."""
        return self._state is QuicConnectionState.DRAINING

    @property
    def stream(self) -> QuicStream | None:
        """The stream, once it was opened and until it is finished."""
        return self._streams.get(STREAM)

    @property
    def confirmed(self) -> bool:
        """Whether both sides have all keys (RFC 9001, section 4.1.2)."""
        return self._handshake_confirmed

    @property
    def address(self) -> object:
        """Where the peer is now."""
        return self._network_paths[0].addr

    @property
    def timeouts(self) -> int:
        """Probe timeouts since something was last acknowledged."""
        return self._loss._pto_count

    @property
    def unsent(self) -> int:
        """Bytes written that were not yet sent for the first time."""
        stream = self._streams.get(STREAM)
        return 0 if stream is None else stream.sender._buffer_stop - stream.sender.highest_offset

    @property
    def window_due(self) -> bool:
        """Whether so much was read that the peer should hear of it."""
        return self.consumed + QUIC_WINDOW_BYTES - self._local_max_data.value >= QUIC_WINDOW_BYTES // 4

    @property
    def peer_ids(self) -> tuple[int | None, int]:
        """Something that changes when the ids change by which the peer is spoken to."""
        return self._peer_cid.sequence_number, len(self._peer_cid_sequence_numbers)

    @property
    def peer_reset_tokens(self) -> list[bytes]:
        """By which the peer may say that it has forgotten this connection."""
        known = (self._peer_cid, *self._peer_cid_available)
        return [cid.stateless_reset_token for cid in known if cid.stateless_reset_token]

    def transport(self, now: float) -> Transport:
        """What is known of the path."""
        space, loss = self._spaces.get(tls.Epoch.ONE_RTT), self._loss
        if space is None:
            return NOTHING
        rate = loss.congestion_window / loss._rtt_smoothed if loss._rtt_initialized else 0.0
        waits = space.ack_eliciting_in_flight > 0
        return Transport(self._packet_number, self._lost, loss.get_probe_timeout(), waits, now - self._acknowledged_at, rate)

    def write(self, data: bytes, *, end: bool = False) -> None:
        """Queue ``data`` on the stream."""
        self.send_stream_data(STREAM, data, end_stream=end)

    def received(self, now: float) -> None:
        """A batch has been received: acknowledge it soon enough, with data where that goes out anyway."""
        space = self._spaces.get(tls.Epoch.ONE_RTT)
        if space is None or space.ack_at is None or space.ack_at <= now:
            return
        if self._unacknowledged >= QUIC_ACK_BYTES or (space.ack_at - now <= QUIC_ACK_DELAY_S - QUIC_ACK_WITH_DATA_S and self._has_data()):
            space.ack_at = now

    def _has_data(self) -> bool:
        stream = self._streams.get(STREAM)
        return stream is not None and (len(stream.sender._pending) > 0 or stream.sender._pending_eof)

    def _plain(self) -> bool:
        """Whether there is nothing to send but data, acknowledgements and windows: so it is nearly always."""
        path = self._network_paths[0]
        stream = self._streams.get(STREAM)
        return (
            self._handshake_confirmed
            and path.is_validated
            and len(self._network_paths) == 1
            and stream is not None
            and not stream.sender.reset_pending
            and not stream.receiver.stop_pending
            and not stream.is_finished
            and self._state is QuicConnectionState.CONNECTED
            and not (
                self._close_pending
                or self._probe_pending
                or self._ping_pending
                or self._handshake_done_pending
                or self._retire_connection_ids
                or path.remote_challenges
            )
            and self._crypto_streams[tls.Epoch.ONE_RTT].sender.buffer_is_empty
            and all(cid.was_sent for cid in self._host_cids)
        )

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        """See ``QuicConnection``, which also begins one packet more than there is something for, and looks for what is rarely there."""
        if not self._plain():
            mute = self._close_pending and not self._network_paths[0].can_send(self._max_datagram_size)
            datagrams = super().datagrams_to_send(now)
            return [] if mute else datagrams  # aioquic does not count a close towards what an address may be sent before it has answered
        space = self._spaces[tls.Epoch.ONE_RTT]
        self._pacing_at = None
        if not (self._has_data() or self.window_due or self._window_lost() or (space.ack_at is not None and space.ack_at <= now)):
            return []
        builder = QuicPacketBuilder(
            host_cid=self.host_cid,
            is_client=self._is_client,
            max_datagram_size=self._max_datagram_size,
            packet_number=self._packet_number,
            peer_cid=self._peer_cid.cid,
            spin_bit=self._spin_bit,
            version=self._version or 1,
        )
        builder.max_flight_bytes = self._loss.congestion_window - self._loss.bytes_in_flight
        with suppress(QuicPacketBuilderStop):
            self._fill(builder, space, self._streams[STREAM], now)
        return self._flush_builder(builder=builder, network_path=self._network_paths[0], peer_cid=self._peer_cid.cid, now=now)

    def _fill(self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream, now: float) -> None:
        """As ``QuicConnection._write_application`` does: acknowledgements are not paced, all else is."""
        crypto = self._cryptos[tls.Epoch.ONE_RTT]
        while True:
            due = space.ack_at is not None and space.ack_at <= now
            if not due:
                self._pacing_at = self._loss._pacer.next_send_time(now=now)
            if self._pacing_at is not None or not (due or self._has_data() or self.window_due or self._window_lost()):
                return
            builder.start_packet(QuicPacketType.ONE_RTT, crypto)
            if due:
                self._write_ack_frame(builder=builder, space=space, now=now)
            self._write_connection_limits(builder=builder, space=space)
            self._write_stream_limits(builder=builder, space=space, stream=stream)
            if self._has_data():
                room = stream.sender.highest_offset + self._remote_max_data - self._remote_max_data_used
                self._remote_max_data_used += self._write_stream_frame(builder, space, stream, min(room, stream.max_stream_data_remote))
            if builder.packet_is_empty:
                return
            self._loss._pacer.update_after_send(now=now)

    def _window_lost(self) -> bool:
        """Whether what the peer was told last of its window is to be told again."""
        stream = self._streams[STREAM]
        untold = stream.max_stream_data_local != stream.max_stream_data_local_sent and not stream.receiver.is_finished
        return untold or self._local_max_data.value != self._local_max_data.sent

    def get_timer(self) -> float | None:
        """See ``QuicConnection``, which looks at keys that are long forgotten."""
        if not (self._handshake_confirmed and self._state is QuicConnectionState.CONNECTED and self._network_paths[0].is_validated):
            return super().get_timer()
        assert self._close_at is not None
        timer: float = self._close_at
        self._loss_at = self._loss.get_loss_detection_time(amplification_limited=False)
        for at in (self._spaces[tls.Epoch.ONE_RTT].ack_at, self._loss_at, self._pacing_at):
            if at is not None and at < timer:
                timer = at
        return timer

    # -- datagrams' size ---------------------------------------------------------------------------------------------

    @property
    def datagram_bytes(self) -> int:
        """The largest datagram that is sent."""
        return self._max_datagram_size

    def resize(self, datagram_bytes: int) -> None:
        """Send datagrams up to this size from now on."""
        self._max_datagram_size = datagram_bytes
        self._loss._cc._max_datagram_size = datagram_bytes  # type: ignore[attr-defined]  # of both that there are
        self._loss._pacer._max_datagram_size = datagram_bytes
        initial = min(10 * datagram_bytes, max(14_720, 2 * datagram_bytes))  # RFC 9002, section 7.2
        self._loss._cc.congestion_window = max(self._loss._cc.congestion_window, initial)

    def probe(self, datagram_bytes: int, now: float, answered: Callable[[bool], None]) -> list[tuple[bytes, Any]]:
        """A datagram of this size that carries nothing; ``answered`` hears whether it arrived. Its loss says nothing of congestion
        (RFC 8899, section 3, item 7), so it does not count as in flight."""
        builder = QuicPacketBuilder(
            host_cid=self.host_cid,
            is_client=self._is_client,
            max_datagram_size=datagram_bytes,
            packet_number=self._packet_number,
            peer_cid=self._peer_cid.cid,
            spin_bit=self._spin_bit,
            version=self._version or 1,
        )

        def delivered(state: QuicDeliveryState) -> None:
            answered(state is QuicDeliveryState.ACKED)

        try:
            builder.start_packet(QuicPacketType.ONE_RTT, self._cryptos[tls.Epoch.ONE_RTT])
            builder.start_frame(QuicFrameType.PING, handler=delivered)
            builder.start_frame(QuicFrameType.PADDING).push_bytes(bytes(builder.remaining_buffer_space))
        except QuicPacketBuilderStop:
            return []
        assert builder._packet is not None
        builder._packet.in_flight = False
        self._loss._time_of_last_sent_ack_eliciting_packet = (
            now  # it has a probe timeout to be answered in, as all that waits for an answer
        )
        return self._flush_builder(builder=builder, network_path=self._network_paths[0], peer_cid=self._peer_cid.cid, now=now)

    # -- what aioquic does otherwise ---------------------------------------------------------------------------------

    def receive_datagram(self, data: bytes, addr: object, now: float) -> None:
        """See ``QuicConnection``."""
        self._unacknowledged += len(data)
        super().receive_datagram(data, addr, now)
        space = self._spaces.get(tls.Epoch.ONE_RTT)
        if space is not None and space.largest_acked_packet > self._acknowledged:
            self._acknowledged, self._acknowledged_at = space.largest_acked_packet, now

    def _packets_lost(self, *, packets: Iterable[QuicSentPacket], **what: Any) -> None:
        lost = list(packets)
        self._lost += len(lost)
        self._forget_lost(packets=lost, **what)

    def _replenish_connection_ids(self) -> None:
        already = len(self._host_cids)
        super()._replenish_connection_ids()
        for issued in self._host_cids[already:]:
            issued.stateless_reset_token = self._reset_token(issued.cid)

    def _get_or_create_stream(self, frame_type: int, stream_id: int) -> QuicStream:
        """See ``QuicConnection``, which would let the peer open another stream for each one that is over."""
        if stream_id != STREAM:
            raise QuicConnectionError(QuicErrorCode.STREAM_LIMIT_ERROR, frame_type, "a link is one stream")
        return super()._get_or_create_stream(frame_type, stream_id)

    def _write_ack_frame(self, builder: QuicPacketBuilder, space: QuicPacketSpace, now: float) -> None:
        super()._write_ack_frame(builder, space, now)
        self._unacknowledged = 0

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        limit: Limit = self._local_max_data
        if self.window_due:
            limit.value = self.consumed + QUIC_WINDOW_BYTES
        if limit.value != limit.sent:
            handler = self._on_connection_limit_delivery
            buf = builder.start_frame(limit.frame_type, CONNECTION_LIMIT_FRAME_CAPACITY, handler, (limit,))
            buf.push_uint_var(limit.value)
            limit.sent = limit.value

    def _write_stream_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream) -> None:
        stream.max_stream_data_local = max(stream.max_stream_data_local, self._local_max_data.value)
        if stream.max_stream_data_local != stream.max_stream_data_local_sent and not stream.receiver.is_finished:
            handler: Callable[..., None] = self._on_max_stream_data_delivery
            args: Sequence[object] = (stream,)
            buf = builder.start_frame(QuicFrameType.MAX_STREAM_DATA, MAX_STREAM_DATA_FRAME_CAPACITY, handler, args)
            buf.push_uint_var(stream.stream_id or STREAM)
            buf.push_uint_var(stream.max_stream_data_local)
            stream.max_stream_data_local_sent = stream.max_stream_data_local


def configuration(certificate: object, key: object, alpn: str, idle_s: float, *, client: bool) -> QuicConfiguration:
    """QUIC version 1, our protocol's name, no tickets. The chain is verified by who made the connection, not by aioquic."""
    made = QuicConfiguration(
        alpn_protocols=[alpn],
        is_client=client,
        idle_timeout=idle_s,
        max_data=QUIC_WINDOW_BYTES,
        max_stream_data=QUIC_WINDOW_BYTES,
        max_datagram_size=QUIC_DATAGRAM_BYTES,
        verify_mode=0,  # ssl.CERT_NONE
        supported_versions=[1],
    )
    made.certificate, made.private_key = certificate, key
    return made
