"""QUIC v1 as libp2p speaks it (libp2p specs, quic and tls): aioquic's connection, with what a square needs set otherwise.

- What is bounded for every connection of a node is bounded here, too (``runtime/quic/bounded.py``).
- Both sides show a self-signed certificate in which their libp2p key vouches for the certificate's key. aioquic proves possession of the
  certificate's key alone: ``peer_of`` checks the rest. (That of py-libp2p 0.8.1 takes
  any signature of an Ed25519 key for good: ``PeerAuthenticator`` does not look at what ``verify`` returns. So its QUIC is not used here.)
- Windows open as data is *read*: aioquic doubles them whenever half is used, so that a peer could have any amount buffered (aiortc/aioquic
  issue 589).
- No session tickets: resumption would skip the certificates. No streams one way: libp2p has none.
"""

import ssl

from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnectionError, QuicReceiveContext
from aioquic.quic.packet import QuicErrorCode
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from libp2p.crypto.keys import KeyPair
from libp2p.peer.id import ID
from libp2p.security.tls.certificate import create_cert_template, generate_certificate, verify_certificate_chain

from meshos.errors import Refused
from meshos.node.runtime.quic.bounded import BoundedConnection
from meshos.node.runtime.quic.identifiers import ID_BYTES
from meshos.node.runtime.square import limits

ALPN = "libp2p"
DATAGRAM_BYTES = 1_200
VERSION = 1
PING_S = limits.IDLE_S + 30.0
"""aioquic's own idle timeout, above ours, so that ours decides."""


def configuration(keys: KeyPair, *, client: bool) -> QuicConfiguration:
    """For a host of these keys: its certificate is made anew, as its key is."""
    certificate, key = generate_certificate(keys.private_key, create_cert_template())
    made = QuicConfiguration(
        is_client=client,
        alpn_protocols=[ALPN],
        connection_id_length=ID_BYTES,
        idle_timeout=PING_S,
        max_data=limits.BACKLOG_BYTES,
        max_stream_data=limits.PIECE_BYTES,
        max_datagram_size=DATAGRAM_BYTES,
        verify_mode=ssl.CERT_NONE,  # libp2p certificates have no issuer; see peer_of
    )
    made.certificate = x509.load_pem_x509_certificate(certificate.encode())
    made.private_key = load_pem_private_key(key.encode(), None)
    return made


class Core(BoundedConnection):
    """See the module's text. Sans I/O: datagrams and times in, datagrams and deadlines out."""

    def __init__(self, configured: QuicConfiguration, *, original: bytes | None = None, retry: bytes | None = None) -> None:
        super().__init__(configured, original=original, retry=retry)
        self._retired = 0
        self.consumed = 0
        """Bytes of all streams that were read here, or thrown away."""
        for limit, streams in ((self._local_max_streams_bidi, limits.STREAMS), (self._local_max_streams_uni, 0)):
            limit.value = limit.sent = streams

    def peer_of(self) -> ID:
        """Whose key the peer's certificate proves; raises Refused ``square-bad-handshake``."""
        certificate = self.tls._peer_certificate
        if certificate is None:
            raise Refused("square-bad-handshake", "it has shown no certificate")
        try:
            return ID.from_pubkey(verify_certificate_chain([certificate]))
        except Exception as error:  # whatever a parser raises at a stranger's certificate
            raise Refused("square-bad-handshake", f"its certificate proves no libp2p key: {type(error).__name__}") from error

    def unsent(self, stream: int) -> int:
        """Bytes written to a stream that the peer has not acknowledged."""
        found = self._streams.get(stream)
        return 0 if found is None else len(found.sender._buffer)

    @property
    def unsent_in_all(self) -> int:
        """Those of all streams, and of those that have ended here and are kept until the peer says that it knows."""
        return sum(len(stream.sender._buffer) for stream in self._streams.values())

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        """See ``QuicConnection``, which keeps what was not sent until the reset is acknowledged."""
        super().reset_stream(stream_id, error_code)
        self.drop(stream_id)

    def drop(self, stream: int) -> None:
        """Where a side of ours has been reset, by us or because the peer has asked for it, nothing of it is sent any more."""
        found = self._streams.get(stream)
        if found is not None and found.sender._reset_error_code is not None:
            found.sender._buffer.clear()
            found.sender._buffer_start = found.sender._buffer_stop

    def _handle_retire_connection_id_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._retired += 1
        if self._retired > limits.IDS_RETIRED:
            self.exceeded = True
            raise QuicConnectionError(QuicErrorCode.PROTOCOL_VIOLATION, frame_type, "too many connection ids were retired")
        super()._handle_retire_connection_id_frame(context, frame_type, buf)

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        limit = self._local_max_data
        window = limits.BACKLOG_BYTES
        if self.consumed + window - limit.value >= window // 4:
            limit.value = self.consumed + window
        used, limit.used = limit.used, 0  # of what is not half used aioquic does not double the limit
        try:
            super()._write_connection_limits(builder, space)
        finally:
            limit.used = used
