"""aioquic's connection, bounded until it is known whose it is: what links between members and the square of strangers both need.

The keys of a first packet are public (RFC 9001, section 5.2), so anybody can make valid ones. aioquic works frame by frame, in Python, and
buffers what it cannot use yet. So until ``admit`` a connection has so many datagrams, bytes and frames, and no large datagrams at all;
who goes beyond it is cut off, and ``exceeded`` says so.

- A handshake is small; what is longer is refused before it is buffered, and so is one that never ends after the handshake.
- What comes of a stream out of its order is kept in ranges, of which each frame looks through all: who leaves more holes than losses do is
  cut off, also later.
- The other side's certificate is asked for, which aioquic's server does only behind a private switch. It then proves possession of the key
  and nothing else, and takes an empty certificate for an answer: ``chain`` holds what was shown, and who made this connection decides.
"""

from collections.abc import Callable
from typing import Any

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import END_STATES, QuicConnection, QuicConnectionError, QuicReceiveContext
from aioquic.quic.packet import QuicErrorCode, QuicFrameType

from meshos.crypto.limits import CERTIFICATE_BYTES, CHAIN_LENGTH
from meshos.node.runtime.quic import limits

_HANDLERS = "_QuicConnection__frame_handlers"
_Handler = Callable[[QuicReceiveContext, int, Buffer], None]


class BoundedConnection(QuicConnection):
    """See the module's text. Sans I/O: datagrams and times in, datagrams and deadlines out."""

    def __init__(self, configured: QuicConfiguration, *, original: bytes | None = None, retry: bytes | None = None) -> None:
        super().__init__(configuration=configured, original_destination_connection_id=original, retry_source_connection_id=retry)
        self.chain: tuple[bytes, ...] = ()
        """The certificates that the peer has shown, in DER, its own first."""
        self.exceeded = False
        """Whether it was cut off for more than a handshake needs, or than it may send later."""
        self.frames_of_last = 0
        """Of the datagram that was received last."""
        self._admitted = False
        self._datagrams = self._bytes = self._frames = 0
        self._frames_a_datagram: int | None = None
        self._largest: int | None = limits.DATAGRAM_BYTES
        self._uncounted: dict[int, tuple[_Handler, Any]] = getattr(self, _HANDLERS)
        setattr(self, _HANDLERS, {kind: (self._counted(handler), epochs) for kind, (handler, epochs) in self._uncounted.items()})

    @property
    def admitted(self) -> bool:
        """Whether it is known whose it is."""
        return self._admitted

    def admit(self, *, largest: int | None = None, frames: int | None = None) -> None:
        """It is known whose it is: from now on datagrams are taken up to ``largest`` bytes, with up to so many ``frames`` (None: any)."""
        self._admitted, self._largest, self._frames_a_datagram = True, largest, frames
        if frames is None:
            setattr(self, _HANDLERS, self._uncounted)

    def receive_datagram(self, data: bytes, addr: Any, now: float) -> None:
        """See ``QuicConnection``; what is too large is lost, as if on the way."""
        self.frames_of_last = 0
        if (self._largest is not None and len(data) > self._largest) or self._state in END_STATES or self.exceeded:
            return
        if self._admitted:
            self._frames = 0
        else:
            self._datagrams += 1
            self._bytes += len(data)
            if self._datagrams > limits.DATAGRAMS or self._bytes > limits.ALL_BYTES:
                self.exceeded = True
                self.close(QuicErrorCode.PROTOCOL_VIOLATION, QuicFrameType.PADDING, "a handshake is shorter")
                return
        super().receive_datagram(data, addr, now)

    def _counted(self, handler: _Handler) -> _Handler:
        def handle(context: QuicReceiveContext, kind: int, buf: Buffer) -> None:
            self._frames += 1
            self.frames_of_last += 1
            most = limits.FRAMES if not self._admitted else self._frames_a_datagram
            if most is not None and self._frames > most:
                self.exceeded = True
                raise QuicConnectionError(QuicErrorCode.PROTOCOL_VIOLATION, kind, "too many frames")
            handler(context, kind, buf)

        return handle

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        self.tls._request_client_certificate = not self._is_client
        parse = self.tls._set_peer_certificate

        def keep(certificate: tls.Certificate) -> None:
            shown = tuple(der for der, _ in certificate.certificates)
            if len(shown) > CHAIN_LENGTH or any(len(der) > CERTIFICATE_BYTES for der in shown):
                raise tls.AlertBadCertificate(f"a chain has 1 to {CHAIN_LENGTH} certificates of at most {CERTIFICATE_BYTES} bytes")
            parse(certificate)
            self.chain = shown

        self.tls._set_peer_certificate = keep  # type: ignore[method-assign]

    def _handle_stream_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        begin = buf.tell()
        number = buf.pull_uint_var()
        buf.seek(begin)
        super()._handle_stream_frame(context, frame_type, buf)
        stream = self._streams.get(number)
        if stream is not None and len(stream.receiver._ranges) > limits.HOLES:
            self.exceeded = True
            raise QuicConnectionError(QuicErrorCode.PROTOCOL_VIOLATION, frame_type, "too many holes in a stream")

    def _handle_crypto_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        begin = buf.tell()
        end = buf.pull_uint_var() + buf.pull_uint_var()
        if end > limits.CRYPTO_BYTES:
            raise QuicConnectionError(
                QuicErrorCode.CRYPTO_BUFFER_EXCEEDED, frame_type, f"a handshake has up to {limits.CRYPTO_BYTES} bytes"
            )
        buf.seek(begin)
        super()._handle_crypto_frame(context, frame_type, buf)
