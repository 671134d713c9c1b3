"""All links of a node: who is connected, over which connections, and the events that rpc hears of it.

Theory of operation. A peer has one or more connections; which of them count and which one carries is in peer_links.py, and how
a second path to a peer is kept warm in standby.py.

``LinkUp`` is told when a peer gets its first main connection, ``LinkDown`` when it has lost its last, or when a dial has
failed; before that, ``NotSent`` for each message of which the peer cannot have read the end. Events go to ``deliver``,
which says whether it took them: while it does not, no connection is read.

Paths (TCP, then QUIC, then the one through a member, relay.py) are dialled in their order, the next one where the one before has failed or
takes long. While a link is relayed, both sides look for a direct way now and then; the relayed connection then parts politely.
``splicing`` takes the connections that are to be relayed here. ``cut`` is the fault hook of testnets: links to these nodes are dropped,
and refused in both directions.
"""

import logging
import os
from collections import Counter
from collections.abc import Container, Sequence
from functools import partial
from itertools import groupby

import trio

from meshos.errors import MeshError, Refused, Unreachable, busy
from meshos.flow import Lane
from meshos.ids import NodeId, OrgDid, Peer
from meshos.node.runtime.links.channel import Channel
from meshos.node.runtime.links.counting import name_of
from meshos.node.runtime.links.limits import (
    CONNECTIONS,
    CONNECTIONS_ACCEPTED,
    CONNECTIONS_PER_ORG,
    CONNECTIONS_PER_PEER,
    CONNECTIONS_SECOND,
    DIAL_S,
    DIRECT_FIRST_S,
    DIRECT_PAUSE_S,
    DIRECT_S,
    NEXT_DIAL_S,
    RECHECK_S,
    RELAY_AFTER_S,
    WRITE_BYTES,
)
from meshos.node.runtime.links.link_state import LinkState, state_of
from meshos.node.runtime.links.mailbox import Deliver, Mailbox
from meshos.node.runtime.links.path import RELAY, Connection, Path
from meshos.node.runtime.links.peer_links import BULK, Noticed, PeerLinks, cut_off, link_down
from meshos.node.runtime.links.racing import first_of
from meshos.node.runtime.links.splicing import Splicing
from meshos.node.runtime.links.standby import Standby
from meshos.node.runtime.links.turn import AtTurnEnd, Turn
from meshos.protocols.rpc.events import Message, MessageReceived, NotSent, OpenLink, SendMessage
from meshos.protocols.rpc.frames import Hello, refusal_frame
from meshos.protocols.rpc.partials import Partials

logger = logging.getLogger("meshos.links")


class Links:
    """Use: ``await nursery.start(links.run)``, then ``open_link`` and ``send_message`` carry out rpc's effects."""

    def __init__(self, me: Peer, mesh: bytes, paths: Sequence[Path], deliver: Deliver, at_turn_end: AtTurnEnd | None = None) -> None:
        """``at_turn_end`` calls what it is given once the events under way have been dealt with: then what they had sent to one peer
        leaves as one piece. Without it each message leaves when it is sent."""
        self.me = me
        self.cut: frozenset[NodeId] = frozenset()
        self.splicing: Splicing | None = None
        self.noticed: Noticed = lambda node, path, why: None
        self._mesh = mesh
        self._boot = os.urandom(16)
        self._paths = paths
        self._by_name = {path.name: path for path in paths}
        self._mailbox = Mailbox(deliver)
        self._turn = Turn(at_turn_end)
        self._order = tuple(path.name for path in paths)
        self._direct = tuple(name for name in self._order if name != RELAY)
        self._peers: dict[NodeId, PeerLinks] = {}
        self._standby = Standby(self._peers, self._second)
        self._partials = Partials()
        self._connections = 0
        self._accepted: Counter[str] = Counter()  # connections from outside, by peer and by organisation
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
            if len(self._paths) > 1:
                nursery.start_soon(self._standby.run)
            if RELAY in self._by_name:
                nursery.start_soon(self._look_for_direct)
            for path in self._paths:
                await nursery.start(self._serve, path)
            task_status.started()

    def open_link(self, effect: OpenLink) -> None:
        """Carry out ``OpenLink``: ``LinkUp`` or ``LinkDown`` follows, nothing if there is a link already."""
        if not self._running:
            return  # not yet; whoever wants the link asks again
        peer = self._peer_of(effect.to)
        if peer.main is None and not peer.dialling:
            peer.dialling = True
            self._nursery.start_soon(self._dial, effect.to, peer)

    def _peer_of(self, node: NodeId) -> PeerLinks:
        peer = self._peers.get(node)
        if peer is None:
            peer = self._peers[node] = PeerLinks(self.me.node, node, self._order, self, self._counts)
        return peer

    def send_message(self, effect: SendMessage) -> None:
        """Carry out ``SendMessage``: ``NotSent`` follows if the message cannot be queued."""
        peer = self._peers.get(effect.to)
        main = None if peer is None else peer.main
        if peer is None or main is None:
            self._mailbox.tell(NotSent(effect.to, effect.message, "link-lost"))
        elif effect.lane != "bulk":
            if not peer.hold(effect.lane, effect.message):
                self.send(main, effect.lane, effect.message)
        else:
            self.send_bulk(peer, effect.message)

    def set_cut(self, cut: frozenset[NodeId]) -> None:
        """From now on nothing passes between this node and those of ``cut`` (the fault hook of a testnet)."""
        self.cut = cut
        for node in sorted(cut & self._peers.keys()):
            for channel in list(self._peers[node].channels):
                channel.end(cut_off(node))
        if self.splicing is not None:
            self.splicing.cut(cut)

    def renew(self) -> None:
        """End every connection: this machine has slept, and what is still wanted is opened again."""
        for channel in self._channels():
            channel.end(Unreachable("link-silent", "this machine was asleep"))

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
            self._counts[f"refused_{name_of(refusal)}"] += 1
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

    def peer(self, node: NodeId) -> PeerLinks | None:
        """What there is to ``node``."""
        return self._peers.get(node)

    def states(self) -> list[LinkState]:
        """Every connection, by peer."""
        return [state_of(channel, self._peers[node]) for node in sorted(self._peers) for channel in self._peers[node].channels]

    def statistics(self) -> dict[str, float]:
        """Counts since the start and sizes of the tables, for metrics."""
        totals = {f"path_{key}": value for path in self._paths for key, value in path.statistics().items()}
        return {
            **totals,
            **self._counts,
            "connections": self._connections,
            "peers": len(self._peers),
            "links": sum(peer.main is not None for peer in self._peers.values()),
            "links_on_two_paths": sum(len(peer.mains) > 1 for peer in self._peers.values()),
            **{f"links_carried_by_{name}": sum(peer.choice.current == name for peer in self._peers.values()) for name in self._order},
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
        node, org = connection.peer.node, connection.peer.org
        full = self._connections >= CONNECTIONS_ACCEPTED or self._accepted[org] >= CONNECTIONS_PER_ORG
        if node in self.cut or full or self._accepted[node] >= CONNECTIONS_PER_PEER:
            self._counts["refused_connections"] += 1
            await connection.close()
            return
        channel = Channel(connection, self._hello(), path, self._partials, self)
        self._connections += 1
        self._accepted.update((node, org))
        try:
            await channel.greet()
            if token := channel.relay_token:
                await self._splice(channel, token)
            else:
                await self._run(channel, self._join(channel))
        except MeshError as error:
            self._counts[f"refused_{name_of(error)}"] += 1
        finally:
            self._connections -= 1
            for whose in (node, org):
                self._accepted[whose] -= 1
                if not self._accepted[whose]:
                    del self._accepted[whose]

    async def _splice(self, channel: Channel, token: bytes) -> None:
        """A connection that is to be relayed, to its end."""
        if self.splicing is None or channel.connection.via is not None:
            refusal = Refused("relay-off" if self.splicing is None else "relay-nested", "this connection is not relayed from here")
            await channel.connection.close_after(refusal_frame(refusal))
            raise refusal
        await channel.connection.send(channel.codec.data_to_send(WRITE_BYTES))
        channel.codec.close()
        await self.splicing.take(channel.connection, token)

    async def _dial(self, to: NodeId, peer: PeerLinks) -> None:
        """Open a main connection, over the next path, too, where one does not answer soon; ``LinkDown`` if none can be had and none has
        come from the other side meanwhile. A path that answers later is a second one."""
        errors: dict[str, MeshError] = {}
        async with trio.open_nursery() as nursery:
            for path in self._order:
                ended = trio.Event()
                nursery.start_soon(self._dial_over, path, peer, errors, ended)
                with trio.move_on_after(NEXT_DIAL_S):
                    await ended.wait()
                if peer.main is not None:
                    break
        peer.dialling = False
        if peer.main is None and errors:
            self._mailbox.tell(link_down(to, next(errors[path] for path in self._order if path in errors)))
        self._forget(to)

    async def _dial_over(self, path: str, peer: PeerLinks, errors: dict[str, MeshError], ended: trio.Event) -> None:
        try:
            channel = await self._connected(peer.node, self._hello(), [path])
        except MeshError as error:
            errors[path] = error
        else:
            self._nursery.start_soon(self._run_dialled, channel, self._join(channel))
        ended.set()

    async def _dial_bulk(self, to: NodeId, peer: PeerLinks) -> None:
        """Open a bulk connection, and send what waits for it; over the main connection if it cannot be had."""
        try:
            channel = await self._connected(to, self._hello(BULK), peer.choice.ranked())
        except MeshError as error:
            self._counts[f"bulk_on_main_{name_of(error)}"] += 1
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
                self.send(target, "bulk", message)
        self._forget(to)

    def _second(self, peer: PeerLinks, path: str) -> None:
        if self._connections < CONNECTIONS_SECOND:
            peer.dialling_second = True
            self._nursery.start_soon(self._dial_second, peer, path)

    async def _dial_second(self, peer: PeerLinks, path: str) -> None:
        """Open one more main connection, to have it when the other one fails; nobody hears whether it can be had."""
        errors: dict[str, MeshError] = {}
        await self._dial_over(path, peer, errors, trio.Event())
        for error in errors.values():
            self._counts[f"second_path_{name_of(error)}"] += 1
            peer.failed(path)
        peer.dialling_second = False
        self._forget(peer.node)

    async def _connected(self, to: NodeId, hello: Hello, order: Sequence[str]) -> Channel:
        """A greeted channel to ``to`` over the first path of ``order`` that has one; raises the first error that says why not."""
        if self._connections >= CONNECTIONS:
            raise busy("the table of connections")
        groups = [tuple(names) for _, names in groupby(order, key=lambda name: name == RELAY)]
        ways = [partial(self._over, names, to, hello) for names in groups]
        return await (ways[0]() if len(ways) == 1 else first_of(ways, RELAY_AFTER_S, self._discard))

    async def _discard(self, channel: Channel) -> None:
        """It was not needed, and is none of its peer's yet."""
        self._connections -= 1
        await channel.connection.close()

    async def _over(self, names: Sequence[str], to: NodeId, hello: Hello) -> Channel:
        """The same over the first of the paths of these ``names``."""
        first: MeshError | None = None
        for path in (self._by_name[name] for name in names):
            if to in self.cut:
                raise cut_off(to)
            self._connections += 1
            connected = False
            try:
                with trio.fail_after(DIAL_S):
                    channel = Channel(await path.dial(to), hello, path.name, self._partials, self)
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
        while True:
            await trio.sleep(DIRECT_FIRST_S)
            for node, peer in list(self._peers.items()):
                now = trio.current_time()
                if peer.relayed and peer.direct_at <= now:
                    peer.direct_at = now + DIRECT_S
                    for path in self._direct:
                        await self.go_direct(node, path)

    async def go_direct(self, node: NodeId, path: str) -> None:
        """Where the link to ``node`` is relayed, have one over this path instead; if none can be had it stays as it is."""
        peer = self._peer_of(node)
        while path in peer.going_direct:  # a second one by the same side would be the end of the first
            await trio.sleep(DIRECT_PAUSE_S)
        try:
            if peer.relayed:
                peer.going_direct.add(path)
                channel = await self._over([path], node, self._hello())
                self._counts["direct_after_all"] += 1
                self._nursery.start_soon(self._run_dialled, channel, self._join(channel))
        except MeshError:
            pass  # it stays
        finally:
            peer.going_direct.discard(path)
            self._forget(node)

    def _hello(self, lanes: tuple[Lane, ...] = ("control", "work", "bulk")) -> Hello:
        return Hello(self._mesh, self.me.node, self._boot, lanes, paths=self._direct)

    # -- one connection ----------------------------------------------------------------------------------------------

    async def _run_dialled(self, channel: Channel, peer: PeerLinks) -> None:
        try:
            await self._run(channel, peer)
        finally:
            self._connections -= 1

    def _join(self, channel: Channel) -> PeerLinks:
        """The hellos are exchanged: from now on ``channel`` is one of its peer's."""
        node = channel.peer.node
        if node in self.cut:
            channel.end(cut_off(node))
        peer = self._peer_of(node)
        peer.join(channel)
        return peer

    async def _run(self, channel: Channel, peer: PeerLinks) -> None:
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

    # -- what channels and peers tell (channel.Owner, peer_links.Ports) ------------------------------------------------

    def parted(self, channel: Channel) -> None:
        """See ``channel.Owner``."""
        if (peer := self._peers.get(channel.peer.node)) is not None:
            peer.parted(channel)

    def waits(self, channel: Channel) -> None:
        """See ``channel.Owner``."""
        peer = self._peers.get(channel.peer.node)
        if peer is not None and len(peer.mains) > 1:
            self._standby.look_soon()

    def told(self, channel: Channel) -> None:
        """See ``channel.Owner``."""
        if (peer := self._peers.get(channel.peer.node)) is not None:
            peer.told(channel)

    def tell(self, event: object) -> None:
        """See ``peer_links.Ports``."""
        self._mailbox.tell(event)

    def send_bulk(self, peer: PeerLinks, message: Message) -> None:
        """See ``peer_links.Ports``."""
        if (bulk := peer.bulk()) is not None:
            self.send(bulk, "bulk", message)
        else:
            self._send_when_open(peer, message)

    def moved(self, peer: PeerLinks) -> None:
        """See ``peer_links.Ports``."""
        assert peer.choice.current is not None
        self.noticed(peer.node, peer.choice.current, peer.choice.why)

    def look_soon(self) -> None:
        """See ``peer_links.Ports``."""
        self._standby.look_soon()

    def _ended(self, channel: Channel, peer: PeerLinks, error: MeshError) -> None:
        self._counts[f"ended_{name_of(error)}"] += 1
        peer.channels.remove(channel)
        peer.drop(channel, error)
        self._forget(channel.peer.node)

    def _forget(self, node: NodeId) -> None:
        peer = self._peers.get(node)
        if peer is not None and peer.empty():
            del self._peers[node]

    async def _received(self, peer: Peer, messages: list[tuple[Lane, Message]]) -> None:
        self._mailbox.tell_all([MessageReceived(peer, message, lane) for lane, message in messages])
        await self._mailbox.room()

    # -- sending -----------------------------------------------------------------------------------------------------

    def send(self, channel: Channel, lane: Lane, message: Message) -> None:
        """See ``peer_links.Ports``."""
        try:
            channel.send(lane, message)
        except Refused as refusal:
            self._counts[f"not_sent_{name_of(refusal)}"] += 1
            self._mailbox.tell(NotSent(channel.peer.node, message, refusal.name))
        else:
            self._turn.sent(channel)

    def _send_when_open(self, peer: PeerLinks, message: Message) -> None:
        if not peer.has_room_for(message):
            self._counts["not_sent_busy"] += 1
            self._mailbox.tell(NotSent(peer.node, message, "busy"))
            return
        peer.bulk_waiting.append(message)
        if not peer.dialling_bulk:
            peer.dialling_bulk = True
            self._nursery.start_soon(self._dial_bulk, peer.node, peer)
