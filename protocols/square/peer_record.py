"""A node's signed peer record: where its square is, in a form that any libp2p program can verify by itself.

A node seals one when its square opens, and membership spreads it as a note of the node. So each node can tell of all others without being
believed (``node/runtime/square/rendezvous.py``). Source: libp2p specs, RFC 0002 (signed envelopes) and RFC 0003 (routing records).
"""

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

from meshos.crypto import base58
from meshos.crypto.keys import public_key_of, verify_bytes
from meshos.errors import MeshError, Refused
from meshos.genesis_content import is_place
from meshos.ids import NodeId
from meshos.protocols.square.protobuf import Value, field, fields, varint
from meshos.protocols.square.routes import dialled

TOPIC = "square-record"
"""Of the note that holds it."""

RECORD_BYTES = 256
"""As long as a note may be: some 200 with an address each for TCP and QUIC."""

_DOMAIN, _TYPE = b"libp2p-peer-record", b"\x03\x01"
_KEY, _KIND, _PAYLOAD, _SIGNATURE = 1, 2, 3, 5  # of an envelope
_PEER, _SEQUENCE, _ADDRESS = 1, 2, 3  # of a record
_MULTIADDR = 1  # of one of its addresses
_KEY_TYPE, _KEY_DATA, _ED25519 = 1, 2, 1

_CODES = {"ip4": 4, "tcp": 6, "ip6": 41, "dns": 53, "dns4": 54, "dns6": 55, "udp": 273, "quic-v1": 461}
"""Of multicodec, for what ``genesis_content.MULTIADDR`` allows."""


def seal(sign: Callable[[bytes], bytes], node: NodeId, addresses: Iterable[str], sequence: int) -> bytes:
    """The record of ``node``, whose key ``sign`` signs with, at as many of ``addresses`` (multiaddrs with or without the node's id) as fit.

    A later one has a higher ``sequence``; empty where there is no address that somebody can dial.
    """
    kept = [multiaddr(address) for address in dialled(addresses) if is_place(f"{address}/p2p/{node}")]
    while kept:
        payload = field(_PEER, base58.decode(node)) + field(_SEQUENCE, sequence)
        payload += b"".join(field(_ADDRESS, field(_MULTIADDR, address)) for address in kept)
        envelope = field(_KEY, _key(node)) + field(_KIND, _TYPE) + field(_PAYLOAD, payload)
        sealed = envelope + field(_SIGNATURE, sign(_signed(payload)))
        if len(sealed) <= RECORD_BYTES:
            return sealed
        kept.pop()
    return b""


def check(node: NodeId, record: bytes) -> None:
    """See that ``record`` is that of ``node``, signed by it; raises Refused ``square-bad-record``."""
    try:
        envelope = dict(fields(record))
        payload, signature = envelope.get(_PAYLOAD), envelope.get(_SIGNATURE)
        whose = envelope.get(_KEY) == _key(node) and envelope.get(_KIND) == _TYPE
        if whose and isinstance(payload, bytes) and isinstance(signature, bytes):
            peer = dict(fields(payload)).get(_PEER)
            if peer == base58.decode(node) and verify_bytes(public_key_of(node), _signed(payload), signature):
                return
    except (ValueError, MeshError) as error:
        raise _bad(node) from error
    raise _bad(node)


def multiaddr(text: str) -> bytes:
    """A multiaddr of an address, a port and perhaps QUIC, as ``genesis_content.is_place`` allows it, in bytes."""
    _, kind, host, transport, port, *more = text.split("/")
    if kind.startswith("ip"):
        place = ipaddress.ip_address(host).packed
    else:
        place = varint(len(host)) + host.encode()
    encoded = varint(_CODES[kind]) + place + varint(_CODES[transport]) + int(port).to_bytes(2, "big")
    return encoded + b"".join(varint(_CODES[word]) for word in more)


@dataclass(slots=True)
class _Row:
    number: int
    node: NodeId
    record: bytes
    good: bool | None = None
    """Whether it is its node's own; None as long as nobody has asked for it."""

    def is_good(self) -> bool:
        if self.good is None:
            try:
                check(self.node, self.record)
                self.good = True
            except Refused:
                self.good = False
        return self.good


class Records:
    """What nodes have signed, numbered as it came to be known here: who remembers the last number gets what is new since then.

    Numbers begin above ``start``: with the time of the node's start, so that they are higher than those of its lives before. Each record is
    verified when it is told for the first time, so that the first question costs no more than what it gets.
    """

    def __init__(self, start: int = 0) -> None:
        self._last = start
        self._rows: dict[NodeId, _Row] = {}  # in the order of their numbers

    def renew(self, notes: Iterable[tuple[NodeId, bytes]]) -> None:
        """These are there now, and no others."""
        there = dict(notes)
        self._rows = {node: row for node, row in self._rows.items() if there.get(node) == row.record}
        for node, note in there.items():
            if node not in self._rows and note:
                self._last += 1
                self._rows[node] = _Row(self._last, node, note)

    def page(self, after: int, most: int) -> list[tuple[int, bytes]]:
        """Records with their numbers, above ``after``, ``most`` of them. One that is not its node's is left out."""
        rows = (row for row in self._rows.values() if row.number > after and row.is_good())
        return [(row.number, row.record) for row in islice(rows, most)]


def _key(node: NodeId) -> Value:
    return field(_KEY_TYPE, _ED25519) + field(_KEY_DATA, public_key_of(node).raw)


def _signed(payload: bytes) -> bytes:
    return b"".join(varint(len(part)) + part for part in (_DOMAIN, _TYPE, payload))


def _bad(node: NodeId) -> Refused:
    return Refused("square-bad-record", f"what is said to be the peer record of {node} is none that it has signed")
