"""Keeps several paths to a peer that is talked to: dials what is missing, measures what there is, lets go of what nobody needs.

Two looks. While something waits for a sign that it arrived, or until it may be asked for, every LOOK_S: is the path that carries stalled?
And every MEASURE_S: a ping over each connection, its losses, and what is missing or of no use any more. A peer that has not been talked to
for WARM_S gets no second path, after STANDBY_IDLE_S it has none.

A path that has brought nothing for PATH_SILENT_S while another did, and takes nothing either (a slow one that is full does), is closed on
both sides, and dialled anew, more and more seldom.
That is also what keeps a request from being done twice: what lay in a path that was cut and comes to life again finds the connection
closed before the record of its answer is gone.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import trio

from meshos.errors import Unreachable
from meshos.ids import NodeId
from meshos.node.runtime.links.limits import LOOK_S, MEASURE_S, PATH_PING_S, PATH_SILENT_S, STANDBY_IDLE_S, WARM_S
from meshos.node.runtime.links.peer_links import PeerLinks
from meshos.protocols.rpc.limits import STALL_MIN_S

DialSecond: TypeAlias = Callable[[PeerLinks, str], None]
"""Opens one more main connection to a peer, over the path of this name."""


class Standby:
    """``peers`` are those of links.py, ``run`` looks at them until cancelled."""

    def __init__(self, peers: Mapping[NodeId, PeerLinks], dial: DialSecond) -> None:
        self._peers = peers
        self._dial = dial
        self._soon = trio.Event()

    def look_soon(self) -> None:
        """Something waits, on one of several paths."""
        self._soon.set()

    async def run(self) -> None:
        """Both looks."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            nursery.start_soon(self._measure)

    async def _watch(self) -> None:
        while True:
            await self._soon.wait()
            self._soon = trio.Event()
            waiting = True
            while waiting:
                await trio.sleep(LOOK_S)
                for _ in range(2):  # this node may be late itself: what has come meanwhile is read first
                    await trio.lowlevel.checkpoint()
                waiting = self._look(trio.current_time())

    def _look(self, now: float) -> bool:
        """At the peers of which something waits; whether there are any."""
        waiting = False
        for peer in list(self._peers.values()):
            since = [channel.waits_since for channel in peer.mains.values() if channel.waits_since is not None]
            due = peer.proving is not None or peer.owed
            if not due and (not since or len(peer.mains) < 2):
                continue
            waiting = True
            if due or now - min(since) > STALL_MIN_S:
                peer.look(now)
        return waiting

    async def _measure(self) -> None:
        while True:
            await trio.sleep(MEASURE_S)
            now = trio.current_time()
            for peer in list(self._peers.values()):
                if peer.main is not None:
                    self._tend(peer, now)

    def _tend(self, peer: PeerLinks, now: float) -> None:
        quiet_s = now - max(channel.used_at for channel in peer.channels)
        if len(peer.mains) > 1:
            peer.leave_relay(now)
        if len(peer.mains) > 1:
            for channel in peer.mains.values():
                channel.measuring.look(channel.transport())
            if quiet_s < STANDBY_IDLE_S:
                self._keep(peer, now)
            else:
                self._let_go(peer)
        if quiet_s < WARM_S and (path := peer.missing(now)) is not None:
            self._dial(peer, path)

    def _keep(self, peer: PeerLinks, now: float) -> None:
        used_at = max(channel.used_at for channel in peer.channels)
        heard_at = max(channel.heard_at for channel in peer.channels)
        for channel in peer.channels[:]:
            silent = now - heard_at < PATH_SILENT_S / 2 and heard_at - channel.heard_at > PATH_SILENT_S and not channel.handing
            if silent and channel.unanswered_s(now) > PATH_SILENT_S / 2:
                channel.end(Unreachable("link-silent", f"nothing came from {peer.node} over {channel.path}, while something did otherwise"))
            channel.ping_every(PATH_PING_S)
        for channel in peer.mains.values():
            channel.used_at = used_at  # the peer is talked to, whichever carries
        peer.look(now)

    def _let_go(self, peer: PeerLinks) -> None:
        """Of all main connections but the first in the order: both sides come to the same, whichever carries for whom."""
        for path in [path for path in peer.order if path in peer.mains][1:]:
            peer.mains[path].part()
