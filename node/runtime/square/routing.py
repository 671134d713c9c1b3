"""Kademlia peer routing (libp2p's kad-dht) under the mesh's own prefix: where a node of the mesh is, for whoever asks.

This is a server that knows the nodes of its mesh and answers FIND_NODE, and PING. It keeps no values and no providers for anybody (that of
py-libp2p 0.8.1 keeps them without bound, its issue 1425), takes no peer into its table because that peer says so, and asks nobody.
GET_VALUE and GET_PROVIDERS are answered with the nearest nodes, as by a server without the record; PUT_VALUE and ADD_PROVIDER are refused.
"""

from collections.abc import Callable
from functools import partial

import trio
from google.protobuf.message import DecodeError
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from multiaddr import Multiaddr

from meshos.errors import Refused
from meshos.node.runtime.square import limits
from meshos.node.runtime.square.host import Handler
from meshos.node.runtime.square.streams import Stream
from meshos.protocols.square import wire
from meshos.protocols.square.answering import Answering, Asker
from meshos.protocols.square.routes import Route, Routes

COST = 3
KEY_BYTES = 128
"""The longest key that is looked for: a peer id has 38 bytes, a content's multihash rarely more than 70."""
MESSAGE_BYTES = 4 * limits.KIB

_ASKED = (Message.FIND_NODE, Message.GET_VALUE, Message.GET_PROVIDERS)


def protocol_of(genesis_hash: bytes) -> str:
    """The name under which this mesh's nodes speak Kademlia: other meshes, and IPFS, are other worlds."""
    return f"/meshos/{genesis_hash[:8].hex()}/kad/1.0.0"


def handler(answering: Answering, routes: Callable[[], Routes]) -> Handler:
    """One for the mesh's Kademlia."""
    return partial(_serve, answering, routes)


async def _serve(answering: Answering, routes: Callable[[], Routes], stream: Stream, asker: Asker) -> None:
    while True:
        request = await stream.frame(MESSAGE_BYTES, idle_s=limits.STREAM_IDLE_S, whole_s=limits.REQUEST_S)
        if request is None:
            return
        answering.budget.take(trio.current_time(), COST, address=asker.address, peer=asker.peer)
        await stream.write(wire.frame(answer(request, routes())))


def answer(request: bytes, routes: Routes) -> bytes:
    """The answer to a message; raises Refused ``square-bad-kademlia`` for what is none, ``square-not-kept`` for what would be kept here."""
    try:
        asked = Message.FromString(request)
    except DecodeError as error:
        raise Refused("square-bad-kademlia", "this is no message of Kademlia") from error
    if asked.type == Message.PING:
        return bytes(Message(type=Message.PING).SerializeToString())
    if asked.type not in _ASKED:
        raise Refused("square-not-kept", "no values and no providers are kept here", hint="agents are found with /meshos/search/1")
    if not 0 < len(asked.key) <= KEY_BYTES:
        raise Refused("square-bad-kademlia", f"a key has 1 to {KEY_BYTES} bytes")
    said = Message(type=asked.type, key=asked.key)
    said.closerPeers.extend(filter(None, map(_peer, routes.nearest(asked.key))))
    return bytes(said.SerializeToString())


def _peer(route: Route) -> Message.Peer | None:
    """None where a node says of itself what libp2p cannot write (a name that is none in IDNA): the others are told all the same."""
    try:
        addresses = [Multiaddr(address).to_bytes() for address in route.addresses]
    except ValueError:
        return None
    return Message.Peer(id=route.peer, addrs=addresses, connection=Message.CAN_CONNECT)
