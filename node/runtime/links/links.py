"""All links of a node: who is connected, over which connections, and the events that rpc hears of it.

Theory of operation. A peer has at most one *main* connection that counts, with all lanes, and may have a *bulk* connection,
dialled when the first large message is sent (one by each side, if both do so at once); where that cannot be had, bulk goes
as the last lane of the main one. Both
nodes may dial each other at once; then both keep the connection that the smaller node id dialled, and the other one
parts politely, so that nothing on it is lost. A second connection from the same side, or from a new start of the
process, means that the old one is dead.

``LinkUp`` is told when a peer gets its first main connection, ``LinkDown`` when it has lost its last, or when a dial has
failed; before that, ``NotSent`` for each message of which the peer cannot have read the end. Events go to ``deliver``,
which says whether it took them: while it does not, no connection is read.

Paths are tried in their order; the one through a member (relay.py) is begun RELAY_AFTER_S after the direct ones, if none has led there
by then. While a link is relayed, a direct way is looked for now and then, by both sides; one that is found takes over, and the relayed one
parts politely. ``splicing`` takes the connections that are to be relayed here. ``cut`` is the fault hook of testnets: links to these
nodes are dropped, and refused in both directions.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import trio

from meshos.effects import Ok
from meshos.errors import MeshError, Refused, Unreachable, busy
from meshos.flow import Lane
from meshos.ids import NodeId, OrgDid, Peer
from meshos.node.runtime.links.channel import Channel
from meshos.node.runtime.links.limits import (
    CONNECTIONS,
    CONNECTIONS_PER_PEER,
    DIAL_S,
    DIRECT_FIRST_S,
    DIRECT_S,
    FLUSH_MESSAGES,
    RECHECK_S,
    RELAY_AFTER_S,
    WRITE_BYTES,
)
from meshos.node.runtime.links.mailbox import Deliver, Mailbox
from meshos.node.runtime.links.path import RELAY, Connection, Path
from meshos.node.runtime.links.racing import first_of
from meshos.node.runtime.links.splicing import Splicing
from meshos.protocols.rpc.events import LinkDown, LinkUp, Message, MessageReceived, NotSent, OpenLink, Reply, Request, SendMessage
from meshos.protocols.rpc.frames import Hello, refusal_frame
from meshos.protocols.rpc.limits import OUTBOUND_BYTES, OUTBOUND_MESSAGES
from meshos.protocols.rpc.partials import Partials

logger = logging.getLogger("meshos.links")

AtTurnEnd: TypeAlias = Callable[[Callable[[], None]], None]

BULK: tuple[Lane, ...] = ("bulk",)


@dataclass(slots=True)
class _PeerLinks:
    """What there is to one peer. ``bulk_waiting`` are the large messages that wait for their connection."""

    channels: list[Channel] = field(default_factory=list)
    main: Channel | None = None
    dialling: bool = False
    dialling_bulk: bool = False
    going_direct: bool = False
    bulk_waiting: list[Message] = field(default_factory=list)
    direct_at: float = 0.0
    """When a direct way is looked for next, where the main connection is relayed."""

    def bulk(self) -> Channel | None:
        """The newest bulk connection that takes messages."""
        return next((each for each in reversed(self.channels) if each.bulk_only and not each.ending), None)

    def empty(self) -> bool:
        return not (self.channels or self.dialling or self.dialling_bulk or self.bulk_waiting)


@dataclass(frozen=True, slots=True)
class LinkState:
    """One connection, for metrics and ``mesh status``. ``rtt_s`` is the latest round trip, None before the first; ``via`` is the
    member that relays it."""

    node: NodeId
    org: OrgDid
    path: str
    lanes: tuple[Lane, ...]
    dialled: bool
    rtt_s: float | None
    bytes_in: int
    bytes_out: int
    messages_in: dict[Lane, int]
    messages_out: dict[Lane, int]
    queued: int
    via: NodeId | None = None


class Links:
    """Use: ``await nursery.start(links.run)``, then ``open_link`` and ``send_message`` carry out rpc's effects."""

    def __init__(self, me: Peer, mesh: bytes, paths: Sequence[Path], deliver: Deliver, at_turn_end: AtTurnEnd | None = None) -> None:
        """``at_turn_end`` calls what it is given once the events under way have been dealt with: then what they had sent to one peer
        leaves as one piece. Without it each message leaves when it is sent."""
        self.me = me
        self.cut: frozenset[NodeId] = frozenset()
        self.splicing: Splicing | None = None
        self._mesh = mesh
        self._boot = os.urandom(16)
        self._paths = paths
        self._mailbox = Mailbox(deliver)
        self._at_turn_end = at_turn_end
        self._to_flush: list[Channel] = []
        self._peers: dict[NodeId, _PeerLinks] = {}
        self._partials = Partials()
        self._connections = 0
        self._accepted: Counter[NodeId] = Counter()  # connections from outside, by peer
        self._counts: Counter[str] = Counter()
        self._nursery: trio.Nursery
        self._running = False

    # -- for the node ------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen on every path and carry messages until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery, self._running = nursery, True
            nursery.start_soon(self._mailbox.run)
            nursery.start_soon(self._recheck_often)
            nursery.start_soon(self._look_for_direct)
            for path in self._paths:
                await nursery.start(self._serve, path)
            task_status.started()

    def open_link(self, effect: OpenLink) -> None:
        """Carry out ``OpenLink``: ``LinkUp`` or ``LinkDown`` follows, nothing if there is a link already."""
        if not self._running:
            return  # not yet; whoever wants the link asks again
        peer = self._peers.setdefault(effect.to, _PeerLinks())
        if peer.main is None and not peer.dialling:
            peer.dialling = True
            self._nursery.start_soon(self._dial, effect.to, peer)

    def send_message(self, effect: SendMessage) -> None:
        """Carry out ``SendMessage``: ``NotSent`` follows if the message cannot be queued."""
        peer = self._peers.get(effect.to)
        main = None if peer is None else peer.main
        if peer is None or main is None:
            self._mailbox.tell(NotSent(effect.to, effect.message, "link-lost"))
        elif effect.lane != "bulk":
            self._send(main, effect.lane, effect.message)
        elif (bulk := peer.bulk()) is not None:
            self._send(bulk, "bulk", effect.message)
        else:
            self._send_when_open(effect, peer)

    def set_cut(self, cut: frozenset[NodeId]) -> None:
        """From now on nothing passes between this node and those of ``cut`` (the fault hook of a testnet)."""
        self.cut = cut
        for node in sorted(cut & self._peers.keys()):
            for channel in list(self._peers[node].channels):
                channel.end(_cut_off(node))
        if self.splicing is not None:
            self.splicing.cut(cut)

    def recheck(self, orgs: Container[OrgDid] | None = None) -> None:
        """Let every peer (of ``orgs``) prove again that it may be here, after certificates, roots or revocations have changed."""
        for channel in self._channels():
            if orgs is None or channel.peer.org in orgs:
                self._recheck(channel)
        if self.splicing is not None:
            self.splicing.recheck(orgs)

    async def _recheck_often(self) -> None:
        while True:
            await trio.sleep(RECHECK_S)
            if self.splicing is not None:
                self.splicing.recheck()
            for channel in self._channels():
                self._recheck(channel)
                await trio.lowlevel.checkpoint()  # each is a signature check: not all of them in one go

    def _recheck(self, channel: Channel) -> None:
        try:
            channel.connection.check()
        except Refused as refusal:
            self._counts[f"refused_{refusal.name}"] += 1
            channel.end(refusal)

    def _channels(self) -> list[Channel]:
        return [channel for peer in self._peers.values() for channel in peer.channels]

    async def leave(self) -> None:
        """Part from every peer politely; what is queued goes out first. Returns when all are gone or time is up."""
        for channel in self._channels():
            channel.part()
        if self.splicing is not None:
            self.splicing.leave()
        with trio.move_on_after(2.0):
            while self._connections:
                await trio.sleep(0.01)

    def states(self) -> list[LinkState]:
        """Every connection, by peer."""
        return [_state(channel) for node in sorted(self._peers) for channel in self._peers[node].channels]

    def relayed(self) -> dict[NodeId, NodeId]:
        """To whom links go through whom."""
        mains = ((node, peer.main) for node, peer in self._peers.items())
        return {node: main.connection.via for node, main in mains if main is not None and main.connection.via is not None}

    def statistics(self) -> dict[str, float]:
        """Counts since the start and sizes of the tables, for metrics."""
        totals = {f"path_{key}": value for path in self._paths for key, value in path.statistics().items()}
        return {
            **totals,
            **self._counts,
            "connections": self._connections,
            "peers": len(self._peers),
            "links": sum(peer.main is not None for peer in self._peers.values()),
            "links_relayed": len(self.relayed()),
            **({} if self.splicing is None else {f"splicing_{key}": value for key, value in self.splicing.statistics().items()}),
            "partial_bytes": self._partials.used,
            "partial_evictions": self._partials.evicted,
            "undelivered": len(self._mailbox),
            "mailbox_full": self._mailbox.times_full,
        }

    # -- beginning ---------------------------------------------------------------------------------------------------

    async def _serve(self, path: Path, *, task_status: trio.TaskStatus[None]) -> None:
        async def accepted(connection: Connection) -> None:
            await self._accept(connection, path.name)

        await path.serve(accepted, task_status=task_status)

    async def _accept(self, connection: Connection, path: str) -> None:
        """An authenticated connection from outside, to its end. Its hello says whether it is for all lanes, for bulk, or to be relayed."""
        node = connection.peer.node
        if node in self.cut or self._connections >= CONNECTIONS or self._accepted[node] >= CONNECTIONS_PER_PEER:
            self._counts["refused_connections"] += 1
            await connection.close()
            return
        channel = Channel(connection, self._hello(), path, self._partials, self._parted)
        self._connections += 1
        self._accepted[node] += 1
        try:
            await channel.greet()
            if token := channel.relay_token:
                await self._splice(channel, token)
            else:
                await self._run(channel, self._join(channel))
        except MeshError as error:
            self._counts[f"refused_{error.name}"] += 1
        finally:
            self._connections -= 1
            self._accepted[node] -= 1
            if not self._accepted[node]:
                del self._accepted[node]

    async def _splice(self, channel: Channel, token: bytes) -> None:
        """A connection that is to be relayed, to its end."""
        if self.splicing is None or channel.connection.via is not None:
            refusal = Refused("relay-off" if self.splicing is None else "relay-nested", "this connection is not relayed from here")
            await channel.connection.close_after(refusal_frame(refusal))
            raise refusal
        await channel.connection.send(channel.codec.data_to_send(WRITE_BYTES))
        channel.codec.close()
        await self.splicing.take(channel.connection, token)

    async def _dial(self, to: NodeId, peer: _PeerLinks) -> None:
        """Open a main connection; ``LinkDown`` if none can be had and none has come from the other side meanwhile."""
        try:
            channel = await self._connected(to, self._hello())
        except MeshError as error:
            peer.dialling = False
            if peer.main is None:
                self._mailbox.tell(_link_down(to, error))
            self._forget(to)
        else:
            peer.dialling = False
            self._nursery.start_soon(self._run_dialled, channel, self._join(channel))

    async def _dial_bulk(self, to: NodeId, peer: _PeerLinks) -> None:
        """Open a bulk connection, and send what waits for it; over the main connection if it cannot be had."""
        try:
            channel = await self._connected(to, self._hello(BULK))
        except MeshError as error:
            self._counts[f"bulk_on_main_{error.name}"] += 1
            target = peer.main
        else:
            self._nursery.start_soon(self._run_dialled, channel, self._join(channel))  # joined now, or the next would dial again
            target = channel
        peer.dialling_bulk = False
        waiting, peer.bulk_waiting = peer.bulk_waiting, []
        for message in waiting:
            if target is None:
                self._mailbox.tell(NotSent(to, message, "link-lost"))
            else:
                self._send(target, "bulk", message)
        self._forget(to)

    async def _connected(self, to: NodeId, hello: Hello) -> Channel:
        """A greeted channel to ``to`` over the first path that has one; raises the first error that says why not."""
        if self._connections >= CONNECTIONS:
            raise busy("the table of connections")
        groups = ([path for path in self._paths if path.name != RELAY], [path for path in self._paths if path.name == RELAY])
        ways = [partial(self._over, paths, to, hello) for paths in groups if paths]
        if len(ways) == 1:
            return await ways[0]()
        return await first_of(ways, RELAY_AFTER_S, self._discard)

    async def _discard(self, channel: Channel) -> None:
        """It was not needed, and is none of its peer's yet."""
        self._connections -= 1
        await channel.connection.close()

    async def _over(self, paths: Sequence[Path], to: NodeId, hello: Hello) -> Channel:
        """The same over the first of ``paths``."""
        first: MeshError | None = None
        for path in paths:
            if to in self.cut:
                raise _cut_off(to)
            self._connections += 1
            connected = False
            try:
                with trio.fail_after(DIAL_S):
                    channel = Channel(await path.dial(to), hello, path.name, self._partials, self._parted)
                    await channel.greet()
                    connected = True
                    return channel
            except trio.TooSlowError:
                first = first or Unreachable("handshake-timeout", f"{to} did not answer in time", outcome="not_done")
            except MeshError as error:
                first = first or error
            except Exception as error:
                first = first or self._bug(to, error)
            finally:
                self._connections -= not connected
        self._counts["dials_failed"] += 1
        raise first or Unreachable("no-address", f"there is no path to {to}", outcome="not_done")

    async def _look_for_direct(self) -> None:
        """Where a link is relayed, see now and then whether the two can reach each other by now: one dial at a time."""
        direct = [path for path in self._paths if path.name != RELAY]
        while True:
            await trio.sleep(DIRECT_FIRST_S)
            for node, peer in list(self._peers.items()):
                if peer.direct_at <= trio.current_time() and peer.main is not None and peer.main.connection.via is not None:
                    peer.direct_at = trio.current_time() + DIRECT_S
                    await self.go_direct(node, direct)

    async def go_direct(self, node: NodeId, paths: Sequence[Path]) -> None:
        """Where the link to ``node`` is relayed, have one over one of ``paths`` instead; if none can be had it stays as it is."""
        peer = self._peers.get(node)
        if peer is None or peer.going_direct or peer.main is None or peer.main.connection.via is None:
            return
        peer.going_direct = True  # a second one by the same side would count as the end of the first
        try:
            channel = await self._over(paths, node, self._hello())
        except MeshError:
            return
        finally:
            peer.going_direct = False
        self._counts["direct_after_all"] += 1
        self._nursery.start_soon(self._run_dialled, channel, self._join(channel))

    def _hello(self, lanes: tuple[Lane, ...] = ("control", "work", "bulk")) -> Hello:
        return Hello(self._mesh, self.me.node, self._boot, lanes)

    # -- one connection ----------------------------------------------------------------------------------------------

    async def _run_dialled(self, channel: Channel, peer: _PeerLinks) -> None:
        try:
            await self._run(channel, peer)
        finally:
            self._connections -= 1

    def _join(self, channel: Channel) -> _PeerLinks:
        """The hellos are exchanged: from now on ``channel`` is one of its peer's."""
        node = channel.peer.node
        if node in self.cut:
            channel.end(_cut_off(node))
        peer = self._peers.setdefault(node, _PeerLinks())
        peer.channels.append(channel)
        self._adopt(channel, peer)
        return peer

    async def _run(self, channel: Channel, peer: _PeerLinks) -> None:
        """Carry messages, to the end."""
        error: MeshError = Unreachable("link-closed", "this node ended")
        try:
            error = await channel.run(self._received)
        except Exception as bug:
            error = self._bug(channel.peer.node, bug)
            await channel.connection.close()
        finally:
            self._ended(channel, peer, error)

    def _bug(self, node: NodeId, error: Exception) -> Unreachable:
        """A bug of ours that the bytes of ``node`` have met: it ends their connection, not this node."""
        self._counts["bugs"] += 1
        logger.error("bug", exc_info=error, extra={"operation": "link", "peer": node})
        return Unreachable("link-lost", f"a bug of this node has ended the link to {node}; its log has it")

    def _adopt(self, channel: Channel, peer: _PeerLinks) -> None:
        """Decide which connection counts, now that there is one more."""
        assert channel.codec.peer_hello is not None
        if channel.bulk_only or channel.codec.peer_hello.lanes == BULK:
            channel.bulk_only = True
            self._replace_bulk(channel, peer)
            return
        old = peer.main
        if old is None:
            peer.main = channel
            self._mailbox.tell(LinkUp(channel.peer))
            return
        mine, other = old.dialler(self.me.node), channel.dialler(self.me.node)
        was_relayed, is_relayed = old.connection.via is not None, channel.connection.via is not None
        if old.boot == channel.boot and was_relayed and not is_relayed:
            peer.main = channel
            old.part()
        elif old.boot == channel.boot and is_relayed and not was_relayed and mine != other:
            channel.part()
        elif mine == other or old.boot != channel.boot:
            lost = Unreachable("link-replaced", f"{channel.peer.node} has opened a new link")
            self._drop(old, peer, lost)
            old.end(lost)
            peer.main = channel
            self._mailbox.tell(LinkUp(channel.peer))
        elif other == min(self.me.node, channel.peer.node):
            peer.main = channel
            old.part()
        else:
            channel.part()

    def _replace_bulk(self, channel: Channel, peer: _PeerLinks) -> None:
        """Each side has one bulk connection of its own dialling: a second one means that the first is dead."""
        for old in peer.channels[:]:
            same = old.boot != channel.boot or old.dialler(self.me.node) == channel.dialler(self.me.node)
            if old is not channel and old.bulk_only and same and not old.ending:
                lost = Unreachable("link-replaced", f"{channel.peer.node} has opened a new link for bulk")
                self._drop(old, peer, lost)
                old.end(lost)

    def _drop(self, channel: Channel, peer: _PeerLinks, error: MeshError) -> None:
        """``channel`` counts no more: say what was not sent, and that there is no link if it was the main one."""
        node = channel.peer.node
        was_main = peer.main is channel
        if was_main:
            peer.main = None
        for _, message in channel.codec.unsent():
            self._mailbox.tell(NotSent(node, message, error.name))
        channel.codec.forget_unsent()
        if was_main:
            self._mailbox.tell(_link_down(node, error))

    def _parted(self, channel: Channel) -> None:
        """``channel`` takes nothing more: what comes next needs a new link. What it holds still goes out."""
        peer = self._peers.get(channel.peer.node)
        if peer is not None and peer.main is channel:
            peer.main = None
            self._mailbox.tell(LinkDown(channel.peer.node, "link-closed", f"the link to {channel.peer.node} is being closed"))

    def _ended(self, channel: Channel, peer: _PeerLinks, error: MeshError) -> None:
        self._counts[f"ended_{error.name}"] += 1
        peer.channels.remove(channel)
        self._drop(channel, peer, error)
        self._forget(channel.peer.node)

    def _forget(self, node: NodeId) -> None:
        peer = self._peers.get(node)
        if peer is not None and peer.empty():
            del self._peers[node]

    async def _received(self, peer: Peer, messages: list[tuple[Lane, Message]]) -> None:
        self._mailbox.tell_all([MessageReceived(peer, message, lane) for lane, message in messages])
        await self._mailbox.room()

    # -- sending -----------------------------------------------------------------------------------------------------

    def _send(self, channel: Channel, lane: Lane, message: Message) -> None:
        try:
            channel.send(lane, message)
        except Refused as refusal:
            self._counts[f"not_sent_{refusal.name}"] += 1
            self._mailbox.tell(NotSent(channel.peer.node, message, refusal.name))
        else:
            if channel.to_flush:
                if channel.codec.waiting >= FLUSH_MESSAGES:
                    channel.flush()
            elif self._at_turn_end is None:
                channel.flush()
            else:
                channel.to_flush = True
                self._to_flush.append(channel)
                if len(self._to_flush) == 1:
                    self._at_turn_end(self._flush)

    def _flush(self) -> None:
        channels, self._to_flush = self._to_flush, []
        for channel in channels:
            channel.to_flush = False
            channel.flush()

    def _send_when_open(self, effect: SendMessage, peer: _PeerLinks) -> None:
        waiting = sum(map(_size, peer.bulk_waiting))
        if waiting + _size(effect.message) > OUTBOUND_BYTES["bulk"] or len(peer.bulk_waiting) >= OUTBOUND_MESSAGES["bulk"]:
            self._counts["not_sent_busy"] += 1
            self._mailbox.tell(NotSent(effect.to, effect.message, "busy"))
            return
        peer.bulk_waiting.append(effect.message)
        if not peer.dialling_bulk:
            peer.dialling_bulk = True
            self._nursery.start_soon(self._dial_bulk, effect.to, peer)


def _size(message: Message) -> int:
    if isinstance(message, Request):
        return len(message.body)
    return len(message.outcome.value) if isinstance(message, Reply) and isinstance(message.outcome, Ok) else 0


def _link_down(node: NodeId, error: MeshError) -> LinkDown:
    return LinkDown(node, error.name, error.detail, isinstance(error, Refused) and error.name != "busy")


def _cut_off(node: NodeId) -> Unreachable:
    return Unreachable("peer-unreachable", f"{node} is cut off by the fault hook", outcome="not_done")


def _state(channel: Channel) -> LinkState:
    return LinkState(
        channel.peer.node,
        channel.peer.org,
        channel.path,
        BULK if channel.bulk_only else ("control", "work", "bulk"),
        channel.connection.dialled,
        channel.rtt_s,
        channel.bytes_in,
        channel.bytes_out,
        dict(channel.messages_in),
        dict(channel.messages_out),
        channel.codec.waiting,
        channel.connection.via,
    )
