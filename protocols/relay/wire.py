"""What members cast to each other about relaying, under ``CAST``: canonical CBOR, a list whose first item says which it is.

    [0, ref, to]          want      caller -> relay: would you relay me to this node?
    [1, ref, token]       granted   relay -> caller: yes; come with this token
    [2, ref, reason]      denied    relay -> caller: no
    [3, token, caller]    called    relay -> called: this node waits here for you; come with this token
    [4, token, reason]    declined  called -> relay: no

And about a direct way between two whose link is relayed, through routers that let in what they believe to be an answer:

    [5, other]                 meet   either -> relay: have us meet
    [6, token, other]          show   relay -> both: come over QUIC with this token, so that it is seen where you come from
    [7, other, mine, theirs]   met    relay -> both: where you came from, and the other
    [8, code, mine, theirs]    here   each to the other, end to end: where I came from, where you did, and by what I know your datagrams

An address is [host, port], an IP address as it is written.

Who sent it is what the link has proved. A token is good once, for seconds, and from that member alone, so that knowing it is of no use to
anybody else.
"""

import ipaddress
from typing import Final, TypeAlias

from meshos import cbor
from meshos.errors import Refused
from meshos.ids import NodeId
from meshos.protocols.relay.limits import HOST_CHARS, MESSAGE_BYTES, TOKEN_BYTES
from meshos.values import frozen

CAST: Final = "/meshos/relay/1"

NODE_CHARS: Final = 64

Address: TypeAlias = tuple[str, int]

REASONS: Final = {
    "relay-off": "this node does not relay for that member",
    "relay-unlinked": "the relay has no link to the node that is wanted",
    "relay-full": "the relay has as many pairs as it takes, in all or of one member or organisation",
    "relay-too-often": "one member has asked more often than it may",
    "relay-to-itself": "a member asked to be relayed to itself, or to the relay",
    "relay-token": "the token is none that the relay gave to this member just now, or was used before",
    "relay-unanswered": "the node that was called did not come to the relay in time",
    "relay-declined": "the node that was called does not want to, or cannot",
    "relay-nested": "a relayed link cannot be relayed over again",
    "relay-ended": "the relay has ended this connection: it was idle or old, or its other side is gone",
}
"""Why not, by name."""


@frozen
class Want:
    """See the module's text. ``ref`` is the asker's own."""

    ref: int
    to: NodeId


@frozen
class Granted:
    """See the module's text."""

    ref: int
    token: bytes


@frozen
class Denied:
    """See the module's text."""

    ref: int
    reason: str


@frozen
class Called:
    """See the module's text."""

    token: bytes
    caller: NodeId


@frozen
class Declined:
    """See the module's text."""

    token: bytes
    reason: str


@frozen
class Meet:
    """See the module's text."""

    other: NodeId


@frozen
class Show:
    """See the module's text."""

    token: bytes
    other: NodeId


@frozen
class Met:
    """See the module's text."""

    other: NodeId
    mine: Address
    theirs: Address


@frozen
class Here:
    """See the module's text."""

    code: bytes
    mine: Address
    theirs: Address


Message: TypeAlias = Want | Granted | Denied | Called | Declined | Meet | Show | Met | Here


def encode(message: Message) -> bytes:
    """``message`` as bytes."""
    match message:
        case Want(ref, to):
            return cbor.encode([0, ref, to])
        case Granted(ref, token):
            return cbor.encode([1, ref, token])
        case Denied(ref, reason):
            return cbor.encode([2, ref, reason])
        case Called(token, caller):
            return cbor.encode([3, token, caller])
        case Declined(token, reason):
            return cbor.encode([4, token, reason])
        case Meet(other):
            return cbor.encode([5, other])
        case Show(token, other):
            return cbor.encode([6, token, other])
        case Met(other, mine, theirs):
            return cbor.encode([7, other, list(mine), list(theirs)])
        case Here(code, mine, theirs):
            return cbor.encode([8, code, list(mine), list(theirs)])


def decode(body: bytes) -> Message:
    """The message in ``body``; raises Refused ``relay-bad-message``, and as ``cbor.decode``."""
    match cbor.decode(body, max_bytes=MESSAGE_BYTES, max_depth=3):
        case [0, int(ref), str(to)] if _is_ref(ref) and _is_node(to):
            return Want(ref, NodeId(to))
        case [1, int(ref), bytes(token)] if _is_ref(ref) and len(token) == TOKEN_BYTES:
            return Granted(ref, token)
        case [2, int(ref), str(reason)] if _is_ref(ref) and reason in REASONS:
            return Denied(ref, reason)
        case [3, bytes(token), str(caller)] if len(token) == TOKEN_BYTES and _is_node(caller):
            return Called(token, NodeId(caller))
        case [4, bytes(token), str(reason)] if len(token) == TOKEN_BYTES and reason in REASONS:
            return Declined(token, reason)
        case [5, str(other)] if _is_node(other):
            return Meet(NodeId(other))
        case [6, bytes(token), str(other)] if len(token) == TOKEN_BYTES and _is_node(other):
            return Show(token, NodeId(other))
        case [7, str(other), list(mine), list(theirs)] if _is_node(other):
            return Met(NodeId(other), _address(mine), _address(theirs))
        case [8, bytes(code), list(mine), list(theirs)] if len(code) == TOKEN_BYTES:
            return Here(code, _address(mine), _address(theirs))
    raise Refused("relay-bad-message", "that is no message about relaying")


def _address(value: list[cbor.Value]) -> Address:
    """``value`` as an address that a datagram could come from; raises Refused ``relay-bad-message``."""
    match value:
        case [str(host), int(port)] if type(port) is int and 0 < port < 65536 and len(host) <= HOST_CHARS:
            try:
                parsed = ipaddress.ip_address(host)
            except ValueError:
                pass
            else:
                if str(parsed) == host and not (parsed.is_multicast or parsed.is_unspecified or host == "255.255.255.255"):
                    return host, port
    raise Refused("relay-bad-message", "that is no address of anybody")


def _is_ref(ref: int) -> bool:
    return type(ref) is int and 0 <= ref < 1 << 63


def _is_node(node: str) -> bool:
    return 0 < len(node) <= NODE_CHARS
