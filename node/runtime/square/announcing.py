"""Announcements on gossipsub (libp2p specs, pubsub): a node tells those who listen what it knows itself, seldom, and passes nothing on.

Nodes learn of each other's news from their members' protocols, so nothing has to flow through strangers: each node is the source of its own
announcements, signed with its key, and sends them to all who have subscribed with it ("flood publishing", gossipsub v1.1). A message that
a stranger publishes here goes nowhere. It is taken off its score, unless a node of the mesh has signed as its source: then a well-meaning
peer passes on what that node told it. Who has no score left loses the stream.

A peer speaks on a stream of its own, and is spoken to on one that is opened beside it.
"""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import trio
from google.protobuf.message import DecodeError
from libp2p.pubsub.pb.rpc_pb2 import RPC, Message

from meshos.buckets import block_of
from meshos.errors import Refused, busy
from meshos.node.runtime.square import limits
from meshos.node.runtime.square.streams import Stream
from meshos.node.runtime.square.upgrade import Identity
from meshos.protocols.square import wire
from meshos.protocols.square.answering import Answering, Asker

PROTOCOLS = ("/meshsub/1.1.0", "/meshsub/1.0.0")
SIGNED_PREFIX = b"libp2p-pubsub:"

COST = 1
RPC_BYTES = 16 * limits.KIB
"""Of what a peer says at once: its subscriptions, a few grafts. What it might publish is not wanted."""
LISTENERS, LISTENERS_A_PEER, LISTENERS_AN_ADDRESS = 64, 2, 8
"""Streams that are told: each costs a signature's bytes and some sealing a message. Who comes again while its last stream is not over yet
has another."""
QUEUE = 4
"""Announcements that wait for one peer; who does not take them misses some."""
SCORE = 16
"""Messages that a peer may publish here before it loses the stream."""
ANNOUNCE_S = 2.0
"""How often it is looked whether there is news: never more than that many announcements on a topic."""


@dataclass(eq=False, slots=True)
class Listener:
    """A peer that has subscribed to some topics of ours; others are nothing to wait for, and not remembered."""

    send: trio.MemorySendChannel[bytes]
    peer: str = ""
    block: str = ""
    """Whose count it is on."""
    topics: set[str] = field(default_factory=set)
    score: int = SCORE


class Announcer:
    """See the module's text. ``topics`` are ours, ``news`` gives what is to be said on them now; ``is_node`` whether a peer id is one of
    the mesh.
    """

    def __init__(
        self,
        own: Identity,
        answering: Answering,
        topics: Collection[str],
        news: Callable[[], Mapping[str, bytes]],
        is_node: Callable[[bytes], bool],
    ) -> None:
        self._own, self._answering, self._topics, self._news, self._is_node = own, answering, topics, news, is_node
        self._listeners: set[Listener] = set()
        self._said: dict[str, tuple[bytes, bytes]] = {}  # by topic: the newest, and its message
        self._sequence = int.from_bytes(os.urandom(4), "big") << 24  # another one after each start
        self._looked_at = -ANNOUNCE_S
        self.announced = self.dropped = 0

    async def run(self) -> None:
        """Look for news while somebody listens, until cancelled."""
        while True:
            await trio.sleep(ANNOUNCE_S)
            if self._listeners:
                self.announce()

    def announce(self) -> None:
        """Tell what is new to all who listen for it. It is looked for no more often than every ANNOUNCE_S, whoever comes."""
        now = trio.current_time()
        if now - self._looked_at < ANNOUNCE_S:
            return
        self._looked_at = now
        for topic, data in self._news().items():
            said, _ = self._said.get(topic, (None, b""))
            if said != data:
                message = self._message(topic, data)
                self._said[topic] = data, message
                self.announced += 1
                for listener in self._listeners:
                    if topic in listener.topics:
                        self._queue(listener, message)

    def _queue(self, listener: Listener, message: bytes) -> None:
        try:
            listener.send.send_nowait(message)
        except (trio.WouldBlock, trio.BrokenResourceError):
            self.dropped += 1

    def _message(self, topic: str, data: bytes) -> bytes:
        self._sequence += 1
        message = Message(from_id=self._own.peer.to_bytes(), data=data, seqno=self._sequence.to_bytes(8, "big"), topicIDs=[topic])
        message.signature = self._own.keys.private_key.sign(SIGNED_PREFIX + message.SerializeToString())
        message.key = self._own.public
        return bytes(RPC(publish=[message]).SerializeToString())

    # -- one peer ----------------------------------------------------------------------------------------------------

    async def serve(self, protocol: str, stream: Stream, asker: Asker) -> None:
        """Hear a peer, and tell it, until it ends. Raises Refused ``busy``, ``square-bad-gossip`` or ``square-unwanted-message``."""
        block = block_of(asker.address)
        self._check_room(asker.peer, block)
        self.announce()
        send, receive = trio.open_memory_channel[bytes](QUEUE)
        listener = Listener(send, asker.peer, block)
        self._listeners.add(listener)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._speak, protocol, stream, receive)
                await self._hear(stream, asker, listener)
                nursery.cancel_scope.cancel()
        finally:
            self._listeners.discard(listener)

    def _check_room(self, peer: str, block: str) -> None:
        if sum(one.peer == peer for one in self._listeners) >= LISTENERS_A_PEER:
            raise busy("your part of the list of those who hear announcements")
        if sum(one.block == block for one in self._listeners) >= LISTENERS_AN_ADDRESS:
            raise busy("your address's part of the list of those who hear announcements")
        if len(self._listeners) >= LISTENERS:
            raise busy("the list of those who hear announcements")

    async def _speak(self, protocol: str, stream: Stream, receive: trio.MemoryReceiveChannel[bytes]) -> None:
        beside = await stream.open_beside(protocol)
        try:
            topics = [RPC.SubOpts(subscribe=True, topicid=topic) for topic in self._said]
            await beside.write(wire.frame(RPC(subscriptions=topics).SerializeToString()))
            async for message in receive:
                await beside.write(wire.frame(message))
        finally:
            with trio.CancelScope(shield=True):
                await beside.reset()

    async def _hear(self, stream: Stream, asker: Asker, listener: Listener) -> None:
        while True:
            patience = limits.LIFETIME_S if listener.topics else limits.STREAM_IDLE_S
            said = await stream.frame(RPC_BYTES, idle_s=patience, whole_s=limits.REQUEST_S)
            if said is None:
                return
            self._answering.budget.take(trio.current_time(), COST, address=asker.address, peer=asker.peer)
            self._take(said, listener)

    def _take(self, said: bytes, listener: Listener) -> None:
        try:
            rpc = RPC.FromString(said)
        except DecodeError as error:
            raise Refused("square-bad-gossip", "this is no message of gossipsub") from error
        for option in rpc.subscriptions:
            topic = option.topicid
            if not option.subscribe:
                listener.topics.discard(topic)
            elif topic in self._topics and topic not in listener.topics:
                listener.topics.add(topic)
                if topic in self._said:
                    self._queue(listener, self._said[topic][1])  # how it is now
        for message in rpc.publish:
            if not self._is_node(message.from_id):
                listener.score -= 1
        if listener.score < 0:
            raise Refused("square-unwanted-message", "strangers announce nothing here", hint="publish agents with a node of your own")

    def statistics(self) -> dict[str, float]:
        """Who listens, and what was said."""
        return {"listeners": len(self._listeners), "announced": self.announced, "announcements_dropped": self.dropped}


assert LISTENERS_A_PEER < LISTENERS_AN_ADDRESS < LISTENERS
