"""How many strangers may be in the middle of a QUIC handshake, and how often they may begin one.

The bounds are those of the TCP path, with one difference: an address in a datagram may be forged. So it counts against the address only
once somebody there has answered (RFC 9000, section 8.1); while few handshakes are under way they begin without, as the round trip that it
costs would be everybody's. Checked first is what costs least. All strangers together have a rate too: a handshake costs four
times what it does in OpenSSL.
"""

from collections import Counter
from typing import Final

from aioquic._buffer import Buffer
from aioquic.quic.packet import QuicPacketType, encode_quic_retry, pull_quic_header
from aioquic.quic.retry import QuicRetryTokenHandler

from meshos.buckets import Bucket, Buckets, block_of
from meshos.errors import Refused
from meshos.node.runtime.links.limits import (
    HANDSHAKE_SOURCES,
    HANDSHAKES_BURST,
    HANDSHAKES_PER_S,
    QUIC_DATAGRAM_BYTES,
    QUIC_HANDSHAKES_BURST,
    QUIC_HANDSHAKES_PER_S,
    QUIC_RETRIES_PER_S,
    QUIC_RETRY_ABOVE,
    UNAUTHENTICATED,
    UNAUTHENTICATED_PER_ADDRESS,
)
from meshos.node.runtime.links.quic_endpoint import NOT_QUIC, UNKNOWN_CONNECTION
from meshos.node.runtime.links.quic_socket import Address
from meshos.node.runtime.quic.identifiers import ID_BYTES
from meshos.node.runtime.quic.limits import DATAGRAM_BYTES

VERSION: Final = 1
UNKNOWN_VERSION: Final = Refused("unknown-quic-version", "only QUIC version 1 is spoken here")
BAD_TOKEN: Final = Refused("bad-retry-token", "the token is not one that this node gave to this address just now")
"""For whoever counts them: none is raised, and strangers are told nothing."""


class Opening:
    """The first datagram of a connection, so far as it was read. ``original`` and ``retry`` are connection ids."""

    __slots__ = ("destination", "original", "retry", "source", "token")

    def __init__(self, destination: bytes, source: bytes, token: bytes) -> None:
        self.destination, self.source, self.token = destination, source, token
        self.original = destination
        self.retry: bytes | None = None


def read_opening(data: bytes) -> Opening | Refused:
    """What begins a connection in ``data``; else why it is dropped."""
    if not QUIC_DATAGRAM_BYTES <= len(data) <= DATAGRAM_BYTES:
        return NOT_QUIC  # RFC 9000, section 14.1; and what nobody sends before a path was probed for it
    if int.from_bytes(data[1:5], "big") != VERSION:
        return UNKNOWN_VERSION
    try:
        header = pull_quic_header(Buffer(data=data), host_cid_length=ID_BYTES)
    except ValueError:
        return NOT_QUIC
    if header.packet_type is not QuicPacketType.INITIAL or len(header.destination_cid) < 8:
        return UNKNOWN_CONNECTION
    return Opening(header.destination_cid, header.source_cid, header.token or b"")


class Admission:
    """``refusal`` first; then ``enter``, and ``leave`` when it is known who is there."""

    def __init__(self) -> None:
        self._waiting: Counter[str] = Counter()  # unauthenticated connections by address
        self._rates = Buckets(HANDSHAKES_PER_S, HANDSHAKES_BURST, HANDSHAKE_SOURCES)
        self._everybody = Bucket(QUIC_HANDSHAKES_PER_S, QUIC_HANDSHAKES_BURST)
        self._retries = Bucket(QUIC_RETRIES_PER_S, QUIC_RETRIES_PER_S)
        self._tokens = QuicRetryTokenHandler()

    @property
    def waiting(self) -> int:
        """Handshakes under way."""
        return self._waiting.total()

    def refusal(self, opening: Opening, address: Address, now: float) -> str | None:
        """By what name ``opening`` is dropped, ``retry`` if its address is to be validated first; None if it may go on."""
        validated = False
        if opening.token:
            try:
                opening.original = self._tokens.validate_token(
                    address=address, destination_cid=opening.destination, token=opening.token, now=now
                )
            except ValueError:
                return BAD_TOKEN.name
            opening.retry, validated = opening.destination, True
        if self.waiting >= UNAUTHENTICATED:
            return "too_many"
        if not validated and self.waiting >= QUIC_RETRY_ABOVE:
            return "retry" if self._retries.take(now) else "too_often"
        key = block_of(address[0])
        if self._waiting[key] >= UNAUTHENTICATED_PER_ADDRESS:
            return "too_many"
        if not self._rates.of(key).take(now) or not self._everybody.take(now):
            return "too_often"
        return None

    def enter(self, address: Address) -> None:
        """A handshake with ``address`` begins."""
        self._waiting[block_of(address[0])] += 1

    def leave(self, address: Address) -> None:
        """It has ended."""
        key = block_of(address[0])
        self._waiting[key] -= 1
        if not self._waiting[key]:
            del self._waiting[key]

    def retry(self, opening: Opening, address: Address, identifier: bytes, now: float) -> bytes:
        """The datagram that asks ``address`` to come again with a token; ``identifier`` is a new connection id."""
        token = self._tokens.create_token(
            address=address,
            original_destination_connection_id=opening.destination,
            retry_source_connection_id=identifier,
            now=now,
        )
        return encode_quic_retry(
            version=VERSION,
            source_cid=identifier,
            destination_cid=opening.source,
            original_destination_cid=opening.destination,
            retry_token=token,
        )
