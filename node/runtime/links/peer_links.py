"""What there is to one peer: its connections, which of them count, and which one carries.

A peer has at most one *main* connection on each path, with all lanes, and may have a *bulk* connection, dialled when the first
large message is sent (one by each side, if both do so at once); where that cannot be had, bulk goes as the last lane of a main one.
Both nodes may dial each other at once; then both keep the connection that the smaller node id dialled, and the other one parts
politely, so that nothing on it is lost. A second connection over the same path from the same side, or from a new start of the process,
means that the old one is dead.

A relayed one is there for want of any other: once the two are connected themselves, it parts politely.

Of the main ones one carries (``protocols/rpc/paths.py`` decides). When it has failed and another carries on, rpc is told ``Rerouted``,
and so is the other side, by a frame before all that follows: what either waits for goes again, and nothing else has to be remembered here.

A connection that breaks may mean that its path has, or that the peer is gone. So the one that is left has to answer a ping, or at least to
acknowledge it, as a peer that is busy does: if nothing comes over that either, there is no link. Until that is known nothing more is sent.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import trio

from meshos.buckets import Bucket
from meshos.effects import Ok
from meshos.errors import MeshError, Refused, Unreachable
from meshos.flow import Lane
from meshos.ids import NodeId
from meshos.node.runtime.links.channel import Channel
from meshos.node.runtime.links.limits import (
    AGAIN_MAX_S,
    AGAIN_MIN_S,
    ANSWER_ROUND_TRIPS,
    ANSWER_S,
    DIRECT_SETTLED_S,
    NEWS_BURST,
    NEWS_PER_S,
    SETTLED_S,
)
from meshos.node.runtime.links.transport import NOTHING
from meshos.protocols.rpc.events import LinkDown, LinkUp, Message, Notice, NotSent, Reply, Request, Rerouted
from meshos.protocols.rpc.limits import OUTBOUND_BYTES, OUTBOUND_MESSAGES, REROUTES_BURST, REROUTES_PER_S
from meshos.protocols.rpc.paths import Choice, Why

BULK: tuple[Lane, ...] = ("bulk",)


Noticed: TypeAlias = Callable[[NodeId, str, Why], None]
"""Hears that what goes to a node takes another path from now on, and why."""


class Ports(Protocol):
    """What it needs of all links (links.py)."""

    def tell(self, event: object) -> None:
        """Put ``event`` into rpc's mailbox."""

    def send(self, channel: Channel, lane: Lane, message: Message) -> None:
        """Put ``message`` on ``channel``."""

    def send_bulk(self, peer: "PeerLinks", message: Message) -> None:
        """Put ``message`` on a bulk connection, once there is one."""

    def moved(self, peer: "PeerLinks") -> None:
        """Another path carries what goes to ``peer``: ``peer.choice`` says which and why."""

    def look_soon(self) -> None:
        """Have ``PeerLinks.look`` called every LOOK_S while something waits."""


class PeerLinks:
    """``order`` names the paths."""

    def __init__(self, me: NodeId, node: NodeId, order: Sequence[str], ports: Ports, counts: Counter[str]) -> None:
        self.node = node
        self.order = tuple(order)
        self.channels: list[Channel] = []
        self.mains: dict[str, Channel] = {}
        self.main: Channel | None = None
        """The one that carries."""
        self.choice = Choice(order)
        self.dialling = self.dialling_bulk = self.dialling_second = False
        self.going_direct: set[str] = set()
        """Paths over which a direct way is looked for now, where the one that carries is relayed."""
        self.direct_at = 0.0
        """When one is looked for next."""
        self.bulk_waiting: list[Message] = []
        """Large messages that wait for their connection."""
        self.proving: tuple[Channel, int, float] | None = None
        """Since a main connection has broken: the one that carries on, the ping that it has to answer, and when that was sent."""
        self.held: list[tuple[Lane, Message]] = []
        """What is to be sent while it is not known whether the peer is there: what a dead one never got is certainly not done."""
        self.owed = False
        """Whether the other side has said once more than it may that replies may be lost: they are asked for when it may again."""
        self._me = me
        self._ports = ports
        self._tell = ports.tell
        self._counts = counts
        self._failures: Counter[str] = Counter()
        self._held_bytes: Counter[Lane] = Counter()
        self._held_messages: Counter[Lane] = Counter()
        self._again_at: dict[str, float] = {}
        self._told = Bucket(REROUTES_PER_S, REROUTES_BURST)
        self._bulk_again = Bucket(REROUTES_PER_S, REROUTES_BURST)
        self._news = Bucket(NEWS_PER_S, NEWS_BURST)

    def bulk(self) -> Channel | None:
        """The newest bulk connection that takes messages."""
        return next((each for each in reversed(self.channels) if each.bulk_only and not each.ending), None)

    def has_room_for(self, message: Message) -> bool:
        """Whether one more large message may wait."""
        waiting = sum(map(_size, self.bulk_waiting))
        return waiting + _size(message) <= OUTBOUND_BYTES["bulk"] and len(self.bulk_waiting) < OUTBOUND_MESSAGES["bulk"]

    def empty(self) -> bool:
        """Whether nothing needs to be remembered of this peer."""
        dialling = self.dialling or self.dialling_bulk or self.dialling_second or self.going_direct
        return not (self.channels or dialling or self.bulk_waiting or self.held)

    def hold(self, lane: Lane, message: Message) -> bool:
        """Whether ``message`` was kept until it is known whether the peer is there; what a lane holds has the bounds of its queue."""
        if self.proving is None or self.proving[0] is not self.main:
            return False
        size = self._held_bytes[lane] + _size(message)
        if size > OUTBOUND_BYTES[lane] or self._held_messages[lane] >= OUTBOUND_MESSAGES[lane]:
            return False
        self._held_bytes[lane] = size
        self._held_messages[lane] += 1
        self.held.append((lane, message))
        return True

    def _release(self, why_not: str = "link-lost") -> None:
        held, self.held = self.held, []
        self._held_bytes.clear()
        self._held_messages.clear()
        for lane, message in held:
            if self.main is None:
                self._tell(NotSent(self.node, message, why_not))
            else:
                self._ports.send(self.main, lane, message)

    @property
    def relayed(self) -> bool:
        """Whether there is no way to it but through another member."""
        return bool(self.mains) and all(each.connection.via is not None for each in self.mains.values())

    def leave_relay(self, now: float) -> None:
        """Part with the relayed connection where a direct one has lasted: two that both sides opened at once are sorted out by then."""
        if any(each.connection.via is None and now - each.began_at > DIRECT_SETTLED_S for each in self.mains.values()):
            for relayed in [each for each in self.mains.values() if each.connection.via is not None]:
                relayed.part()

    # -- a connection more -------------------------------------------------------------------------------------------

    def join(self, channel: Channel) -> None:
        """Decide which connections count, now that there is one more."""
        assert channel.codec.peer_hello is not None
        self.channels.append(channel)
        if channel.bulk_only or channel.codec.peer_hello.lanes == BULK:
            channel.bulk_only = True
            self._replace_bulk(channel)
            return
        for former in [each for each in self.mains.values() if each.boot != channel.boot]:
            self._replace(former)
        old = self.mains.get(channel.path)
        if old is not None and old.dialler(self._me) == channel.dialler(self._me):
            self._replace(old)
            old = None
        if old is None:
            self._count_on(channel)
        elif channel.dialler(self._me) == min(self._me, self.node):
            self.mains[channel.path] = channel
            self._settle()
            old.part()
        else:
            channel.part()

    def _count_on(self, channel: Channel) -> None:
        first = not self.mains
        self.mains[channel.path] = channel
        self.choice.up(channel.path)
        self._settle()
        if first:
            self._tell(LinkUp(channel.peer))

    def _replace(self, old: Channel) -> None:
        lost = Unreachable("link-replaced", f"{self.node} has opened a new link{' for bulk' if old.bulk_only else ''}")
        self.drop(old, lost)
        old.end(lost)

    def _replace_bulk(self, channel: Channel) -> None:
        """Each side has one bulk connection of its own dialling: a second one means that the first is dead."""
        for old in self.channels[:]:
            same = old.boot != channel.boot or old.dialler(self._me) == channel.dialler(self._me)
            if old is not channel and old.bulk_only and same and not old.ending:
                self._replace(old)

    # -- a connection less -------------------------------------------------------------------------------------------

    def drop(self, channel: Channel, error: MeshError) -> None:
        """``channel`` counts no more. Where another main one is left, that carries on; else say what was not sent, and that there is no
        link."""
        was_main = self._without(channel)
        if self.main is None:
            self._release(error.name)
        unsent = channel.codec.unsent()
        channel.codec.forget_unsent()
        if was_main:
            self.failed(channel.path, lasted_s=trio.current_time() - channel.began_at)
        if channel.bulk_only and unsent and self._bulk_goes_on(error):
            for _, message in unsent:
                self._ports.send_bulk(self, message)
        elif self.main is None or channel.bulk_only:
            for _, message in unsent:
                self._tell(NotSent(self.node, message, error.name))
            if was_main:
                self._tell(link_down(self.node, error))
            if channel.messages_out["bulk"] and not channel.codec.goodbye and not unsent and self._bulk_goes_on(error):
                self._ask_for_lost()
        else:
            broken = not channel.codec.goodbye
            if was_main and broken:
                self._prove(self.main)
            if unsent or (channel.carried and broken):
                self._carry_on(self.main, unsent)

    def _bulk_goes_on(self, error: MeshError) -> bool:
        """Whether what was not sent over a bulk connection goes over the next: where the peer is still there, and not time and again."""
        again = self.main is not None and isinstance(error, Unreachable)
        return again and self._bulk_again.take(trio.current_time())

    def _ask_for_lost(self) -> None:
        """All that went over a bulk connection has left this node, but may not have arrived: have the other side ask for it."""
        if self.main is not None:
            self._counts["bulk_ended"] += 1
            self.main.reroute()

    def _prove(self, main: Channel) -> None:
        main.ping()
        self.proving = main, main.pings, trio.current_time()
        self._ports.look_soon()

    def parted(self, channel: Channel) -> None:
        """``channel`` takes nothing more: what comes next needs another one. What it holds still goes out."""
        if self._without(channel) and self.main is None:
            self._release()
            self._tell(LinkDown(self.node, "link-closed", f"the link to {self.node} is being closed"))

    def _without(self, channel: Channel) -> bool:
        """Whether ``channel`` was a main one until now."""
        if self.mains.get(channel.path) is not channel:
            return False
        del self.mains[channel.path]
        self.choice.down(channel.path)
        self._settle()
        return True

    def _carry_on(self, main: Channel, unsent: list[tuple[Lane, Message]]) -> None:
        """Over ``main``, with what waited on one that has ended. A request goes again with all that wait for an answer."""
        self._counts["paths_ended"] += 1
        main.reroute()
        for lane, message in unsent:
            if not isinstance(message, Request):
                self._ports.send(main, lane, message)
        self._tell(Rerouted(self.node, tuple(message.id for _, message in unsent if isinstance(message, Request))))

    def failed(self, path: str, lasted_s: float = 0.0) -> None:
        """A connection over ``path`` could not be had, or did not last: leave it for a while."""
        self._failures[path] = 0 if lasted_s >= SETTLED_S else self._failures[path] + 1
        pause_s = min(AGAIN_MAX_S, AGAIN_MIN_S * 2.0 ** min(self._failures[path], 16))
        self._again_at[path] = trio.current_time() + pause_s * random.uniform(0.5, 1.0)

    def missing(self, now: float) -> str | None:
        """A path over which this side may dial one more main connection now. Whoever has dialled the one that carries does it, so that
        never both do, and only where the other side says that it takes one."""
        main = self.main
        if main is None or self.dialling or self.dialling_second or not main.connection.dialled or now - main.began_at < AGAIN_MIN_S:
            return None
        if self.relayed:
            return None  # both sides look for a direct way (``Links.go_direct``)
        assert main.codec.peer_hello is not None
        named = main.codec.peer_hello.paths
        ready = (path for path in self.choice.ranked() if path in named and path not in self.mains)
        return next((path for path in ready if self._again_at.get(path, 0.0) <= now), None)

    # -- which one carries -------------------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """Measure, and let another path carry if it should."""
        if self.owed:
            self._ask_again(now)
        if self._is_dead(now):
            return
        measured = {path: channel.measured(now) for path, channel in self.mains.items()}
        if self.choice.measure(now, measured):
            self._settle()
            self._counts[f"paths_{self.choice.why}"] += 1
            if self.choice.why == "stalled" and self.main is not None:
                self.main.reroute()
                self._tell(Rerouted(self.node))

    def _is_dead(self, now: float) -> bool:
        """Whether one connection broke, and over the one that is left nothing came in time: then the peer is gone."""
        if self.proving is None:
            return False
        main, ping, since = self.proving
        transport = main.transport()
        acknowledged = transport is not NOTHING and not transport.waits and not main.codec.urgent()
        if main is not self.main or main.ponged >= ping or acknowledged:
            self.proving = None
            self._release()
            return False
        quiet_s = now - max(since, main.heard_at)
        if transport is not NOTHING:
            quiet_s = min(quiet_s, transport.acknowledged_s)
        if quiet_s <= answer_s(main.measuring.rtt_s):
            return False
        self.proving = None
        if len(self.mains) > 1:
            self._release()
            return False  # one that was dialled meanwhile
        silent = Unreachable("link-silent", f"one connection to {self.node} broke, and over the other nothing came")
        self.drop(main, silent)
        main.end(silent)
        return True

    def told(self, channel: Channel) -> None:
        """The other side goes on over ``channel``, and asks for what may be lost."""
        if self.mains.get(channel.path) is not channel:
            return
        if self.choice.told(channel.path):
            self._settle()
        self._ask_again(trio.current_time())
        if self.owed:
            self._counts["paths_told_too_often"] += 1
            self._ports.look_soon()

    def _ask_again(self, now: float) -> None:
        """For what may be lost, as soon as that is allowed; without a link rpc hears enough."""
        self.owed = self.main is not None and not self._told.take(now)
        if self.main is not None and not self.owed:
            self._counts["paths_told"] += 1
            self._tell(Rerouted(self.node))

    def _settle(self) -> None:
        before, current = self.main, self.choice.current
        self.main = None if current is None else self.mains[current]
        moved = before is not None and self.main is not None and before.path != self.main.path
        if moved and self._news.take(trio.current_time()):
            self._ports.moved(self)


def answer_s(rtt_s: float | None) -> float:
    """How long whoever is there may take to show it, after another connection has broken, where a round trip takes ``rtt_s``."""
    return max(ANSWER_S, ANSWER_ROUND_TRIPS * (rtt_s or 0.0))


def _size(message: Message) -> int:
    if isinstance(message, Request | Notice):
        return len(message.body)
    return len(message.outcome.value) if isinstance(message, Reply) and isinstance(message.outcome, Ok) else 0


def link_down(node: NodeId, error: MeshError) -> LinkDown:
    """What rpc hears when the last connection has ended, or none can be had."""
    return LinkDown(node, error.name, error.detail, isinstance(error, Refused) and error.name != "busy")


def cut_off(node: NodeId) -> Unreachable:
    """Nothing passes between this node and ``node``."""
    return Unreachable("peer-unreachable", f"{node} is cut off by the fault hook", outcome="not_done")
