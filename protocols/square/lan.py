"""Multicast DNS as libp2p uses it (libp2p specs, discovery/mdns): a node on a local network answers who asks for libp2p peers.

    query    PTR _p2p._udp.local
    answer   PTR _p2p._udp.local -> <name>._p2p._udp.local, and beside it TXT <name>… "dnsaddr=<multiaddr with the peer id>", one an address

Datagrams come from anybody on the network: of a query the first question alone is read, of an answer a fixed number of records.
"""

import struct
from collections.abc import Sequence

from meshos.errors import Refused
from meshos.genesis_content import is_place

SERVICE = ("_p2p", "_udp", "local")
MESSAGE_BYTES = 1_472
"""One Ethernet frame's worth: longer answers are not made, longer messages not read."""
RECORDS, LABELS, ADDRESSES = 32, 16, 16
NAME_CHARS = 32
"""Of the name that a node takes; the specification wants 32 to 63 random characters, so that names say nothing."""

_HEADER = struct.Struct("!6H")
_RECORD = struct.Struct("!HHIH")
_PTR, _TXT, _ANY, _IN = 12, 16, 255, 1
_RESPONSE = 0x8400
_TTL_S = 120
_DNSADDR = b"dnsaddr="


def query() -> bytes:
    """Who is there?"""
    return _HEADER.pack(0, 0, 1, 0, 0, 0) + _name(SERVICE) + struct.pack("!HH", _PTR, _IN)


def is_query(data: bytes) -> bool:
    """Whether the first question of a message is ours."""
    wanted = _name(SERVICE)
    if len(data) > MESSAGE_BYTES or len(data) < _HEADER.size + len(wanted) + 4:
        return False
    _, flags, questions, *_ = _HEADER.unpack_from(data)
    end = _HEADER.size + len(wanted)
    kind, _ = struct.unpack_from("!HH", data, end)
    return not flags & 0xF800 and questions >= 1 and data[_HEADER.size : end].lower() == wanted and kind in (_PTR, _ANY)


def answer(name: str, addresses: Sequence[str]) -> bytes:
    """That a node of this ``name`` is at these multiaddrs."""
    mine = _name((name, *SERVICE))
    texts = [_DNSADDR + address.encode() for address in addresses[:ADDRESSES] if len(address) <= 255 - len(_DNSADDR)]
    data = b"".join(bytes([len(text)]) + text for text in texts)
    pointer = _name(SERVICE) + _RECORD.pack(_PTR, _IN, _TTL_S, len(mine)) + mine
    return _HEADER.pack(0, _RESPONSE, 0, 1, 0, 1) + pointer + mine + _RECORD.pack(_TXT, _IN, _TTL_S, len(data)) + data


def read_answer(data: bytes) -> tuple[str, ...]:
    """The multiaddrs that an answer tells; raises Refused ``square-bad-mdns``. Nothing of it is proven: whoever is dialled must be."""
    if not _HEADER.size <= len(data) <= MESSAGE_BYTES:
        raise _bad("it is too short, or too long")
    _, flags, questions, *counts = _HEADER.unpack_from(data)
    if not flags & 0x8000 or questions or sum(counts) > RECORDS:
        raise _bad("it is no answer, or one with too many records")
    found: list[str] = []
    at = _HEADER.size
    for _ in range(sum(counts)):
        at = _skip_name(data, at)
        if at + _RECORD.size > len(data):
            raise _bad("it is cut off")
        kind, _, _, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size + length
        if at > len(data):
            raise _bad("it is cut off")
        if kind == _TXT:
            found += _addresses(data[at - length : at])
    return tuple(dict.fromkeys(found))[:ADDRESSES]


def _addresses(text: bytes) -> list[str]:
    found, at = [], 0
    while at < len(text):
        entry = text[at + 1 : at + 1 + text[at]]
        at += 1 + text[at]
        if entry.startswith(_DNSADDR):
            address = entry.removeprefix(_DNSADDR).decode("ascii", errors="replace")
            if is_place(address):
                found.append(address)
    return found


def _skip_name(data: bytes, at: int) -> int:
    for _ in range(LABELS):
        if at >= len(data):
            raise _bad("it is cut off")
        length = data[at]
        if length & 0xC0 == 0xC0:
            return at + 2
        at += 1 + length
        if not length:
            return at
    raise _bad("a name in it has no end")


def _name(labels: Sequence[str]) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"


def _bad(why: str) -> Refused:
    return Refused("square-bad-mdns", f"this answer of the local network is passed over: {why}")
