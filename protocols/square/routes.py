"""Where the nodes of the mesh are for strangers, and which of them are nearest to a key, as Kademlia measures it.

Only nodes of the mesh stand here: each says, in a note that it signs and that membership spreads, where its square is. So no number of
peers that a stranger makes up gets into the table, nor pushes anybody out of it (Sybil and eclipse attacks on Kademlia: Prünster et al.,
"Total Eclipse of the Heart", 2022, lived off tables that anybody may enter).

While few are known, the genesis's meeting points (``bootstrap``) stand here as well: all founders have agreed on them.

Distance: XOR of the SHA-256 of peer ids, as in libp2p's kad-dht (libp2p specs, kad-dht, "Distance").
"""

import hashlib
import heapq
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from meshos import cbor
from meshos.crypto import base58
from meshos.errors import Refused
from meshos.genesis_content import is_place
from meshos.ids import NodeId

TOPIC = "square"
"""Of the note in which a node says where its square is."""

NEAREST = 20
"""Kademlia's k in libp2p: peers in an answer."""

ADDRESSES = 4
NOTE_BYTES = 256
PEERS_TOLD = 16
"""In a description: enough to go on with, should the node that is asked be gone."""

_PEER_ID_BYTES = 38
_SUFFIX = re.compile(r"/p2p/[1-9A-HJ-NP-Za-km-z]{1,80}")


@dataclass(frozen=True, slots=True)
class Route:
    """A node, its peer id in bytes, and where it is (multiaddrs without the peer id)."""

    node: NodeId
    peer: bytes
    addresses: tuple[str, ...]

    @property
    def key(self) -> int:
        """Its place."""
        return place(self.peer)


def place(peer: bytes) -> int:
    """Where a peer id, or any other key, stands in Kademlia's space."""
    return int.from_bytes(hashlib.sha256(peer).digest(), "big")


class Routes:
    """The nodes that are known now."""

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self._routes = tuple((route.key, route) for route in routes)
        self._peers = frozenset(route.peer for _, route in self._routes)

    def __len__(self) -> int:
        return len(self._routes)

    def knows(self, peer: bytes) -> bool:
        """Whether this peer id is that of a node."""
        return peer in self._peers

    def nearest(self, key: bytes, count: int = NEAREST) -> list[Route]:
        """The nodes that are nearest to a key (a peer id in bytes), the nearest first."""
        wanted = place(key)
        return [route for _, route in heapq.nsmallest(count, self._routes, key=lambda row: row[0] ^ wanted)]


def routes_of(notes: Iterable[tuple[NodeId, bytes]], bootstrap: Iterable[str] = ()) -> Routes:
    """Of what the nodes say; a note that cannot be read is passed over: its node has made it, and harms nobody but itself. While fewer
    than NEAREST say anything, those at ``bootstrap`` (multiaddrs with a node id) count that have not.
    """
    found: list[Route] = []
    for node, note in notes:
        try:
            addresses = read_note(node, note)
        except Refused:
            continue
        found += _route(node, addresses)
    said = {route.node for route in found}
    meeting = (route for node, addresses in _meeting(bootstrap).items() if node not in said for route in _route(node, addresses))
    return Routes([*found, *islice(meeting, max(0, NEAREST - len(found)))])


def _route(node: NodeId, addresses: Sequence[str]) -> list[Route]:
    """That of a node, where it has a peer id and an address."""
    try:
        peer = base58.decode(node)
    except ValueError:
        return []
    return [Route(node, peer, tuple(addresses[:ADDRESSES]))] if addresses and len(peer) == _PEER_ID_BYTES else []


def node_at(address: str) -> NodeId:
    """Which node a multiaddr leads to."""
    return NodeId(address.rpartition("/p2p/")[2])


def _meeting(bootstrap: Iterable[str]) -> dict[NodeId, list[str]]:
    places: dict[NodeId, list[str]] = {}
    for address in bootstrap:
        places.setdefault(node_at(address), []).append(address.rpartition("/p2p/")[0])
    return places


def note_of(addresses: Sequence[str]) -> bytes:
    """What a node says of where its square is: its multiaddrs, without the peer id."""
    kept: list[str] = []
    for address in dialled(addresses)[:ADDRESSES]:
        if len(cbor.encode([*kept, address])) <= NOTE_BYTES:
            kept.append(address)
    return cbor.encode(kept)


def read_note(node: NodeId, note: bytes) -> tuple[str, ...]:
    """Where ``node`` says that its square is; raises Refused ``square-bad-note``, ``too-large`` or ``bad-encoding``."""
    match cbor.decode(note, max_bytes=NOTE_BYTES, max_depth=1):
        case [*addresses] if len(addresses) <= ADDRESSES:
            if all(isinstance(address, str) and is_place(f"{address}/p2p/{node}") for address in addresses):
                return tuple(map(str, addresses))
    raise Refused("square-bad-note", f"{node} says of its square what is no list of addresses")


def dialled(addresses: Iterable[str]) -> list[str]:
    """Those that somebody can dial, and no wildcards, without the peer id."""
    return [_SUFFIX.sub("", address) for address in addresses if not address.startswith(("/ip4/0.0.0.0/", "/ip6/::/"))]
