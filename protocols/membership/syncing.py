"""When to sync with whom: joining by seeds, anti-entropy, catching up, and finding each other again.

A sync itself is a Flow (sync.py). Here it is only begun, and what came of it sets the pace: news make the next one follow in
``sync_gap_s``, none doubles the gap up to the interval. Each sync joins two nodes' knowledge, so what anybody knows reaches everybody in
about log2(n) rounds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, log2

from meshos import cbor
from meshos.effects import Ok, Persist, Put, Tell
from meshos.errors import MeshError, Refused
from meshos.flow_machine import FlowEnded, StartFlow
from meshos.ids import NodeId
from meshos.protocols.membership.events import SeedFailed
from meshos.protocols.membership.judgement import Judgement
from meshos.protocols.membership.limits import STORED_PEERS, STORED_PEERS_S, SYNCS
from meshos.protocols.membership.member import Member
from meshos.protocols.membership.reach import Reach
from meshos.protocols.membership.state import State
from meshos.protocols.membership.timers import Timer, call_off
from meshos.storage.store import View

SYNC_FLOW = "membership.sync"
PEERS_KEY = b"peers"
MACHINE = "membership"

MAX_STORED_BYTES = 16 * 1024
FAILURES_TOLD = 64
"""Of seeds and reasons, while nobody is known."""


@dataclass(frozen=True, slots=True)
class Seed:
    """A node through which to join: its id and where its link is."""

    node: NodeId
    link: str


@dataclass(frozen=True, slots=True)
class SyncArgument:
    """What the Flow ``membership.sync`` is started with."""

    peer: NodeId


class Syncing:
    """``ping_lost(member)`` looks whether a dead member is there again."""

    def __init__(
        self, state: State, reach: Reach, judgement: Judgement, seeds: Sequence[Seed], view: View, ping_lost: Callable[[Member], None]
    ) -> None:
        self._state = state
        self._reach = reach
        self._judgement = judgement
        self._ping_lost = ping_lost
        me = state.table.me
        known: dict[NodeId, Seed] = {}
        for seed in (each for each in (*seeds, *stored_peers(view)) if each.node != me):
            known.setdefault(seed.node, seed)  # what the operator has written goes before: the whole mesh may have moved
        self.seeds = known
        self._failed: set[tuple[NodeId, str]] = set()  # what was told already
        self._running: dict[tuple[str, int], NodeId] = {}
        self._turned: object = None  # the sync whose turn came last; others are besides, and say nothing of the pace
        self._gap = state.timing.sync_gap_s
        self._wish: NodeId | None = None
        self._began = float("-inf")
        self._timer: Timer | None = None
        self._stored = float("-inf")
        self.joined = not known
        self._stopped = False

    def begin(self) -> None:
        """Join, now."""
        state = self._state
        self._turn(None)
        state.timers.set(state.now + state.timing.reconnect_interval_s * (0.5 + state.rng.random()), self._reconnect)

    def stop(self) -> None:
        """No new syncs: this node leaves."""
        self._stopped = True
        call_off(self._timer)

    def wish(self, peer: NodeId | None) -> None:
        """``peer`` knows something that this node cannot judge yet."""
        if peer is None or peer in self._running.values() or self._wish is not None or self._stopped:
            return
        self._wish = peer
        earliest = max(self._state.now, self._began + min(self._gap, self._state.timing.sync_interval_s))
        if self._timer is None or self._timer[0] > earliest:
            self._set(earliest)

    def ended(self, event: FlowEnded) -> None:
        """A sync has ended."""
        state = self._state
        peer = self._running.pop(event.flow, None) if isinstance(event.flow, tuple) else None
        if peer is None or self._stopped:
            return
        in_turn = event.flow == self._turned
        timing = state.timing
        news = event.outcome.value if isinstance(event.outcome, Ok) else 0
        if isinstance(event.outcome, Ok):
            self.joined = True
            self._store_peers()
        elif not self.joined and peer in self.seeds:
            self._tell_failed(peer, event.outcome.error)
        if news:
            self._gap = timing.sync_gap_s
        elif not in_turn:
            return
        else:
            self._gap = min(self._gap * 2, self._rest_s() if len(state.table.ring) else 8 * timing.sync_gap_s)
        self._set(max(state.now, self._began + self._gap * (0.75 + 0.5 * state.rng.random())))

    # -- inside ------------------------------------------------------------------------------------------------------

    def _tell_failed(self, peer: NodeId, error: MeshError) -> None:
        why = (peer, error.name)
        if why not in self._failed and len(self._failed) < FAILURES_TOLD:
            self._failed.add(why)
            self._state.tell(SeedFailed(peer, error))

    def _rest_s(self) -> float:
        size = len(self._state.table.ring) + 1
        return self._state.timing.sync_interval_s * (1 + max(0, ceil(log2(size / 32))))

    def _set(self, when: float) -> None:
        call_off(self._timer)
        self._timer = self._state.timers.set(when, self._turn)

    def _turn(self, _: object) -> None:
        """Time for a sync; whatever comes of it, there is a next time."""
        self._timer = None
        wish, self._wish = self._wish, None
        peer = wish if wish is not None else self._choose()
        if peer is not None and (flow := self._sync(peer)) is not None:
            self._turned, self._began = flow, self._state.now
        if self._timer is None:
            self._set(self._state.now + max(self._gap, self._state.timing.sync_timeout_s / 2))

    def _choose(self) -> NodeId | None:
        state = self._state
        ring = state.table.ring
        if not len(ring) or not self.joined:
            seeds = list(self.seeds)
            return seeds[int(state.rng.random() * len(seeds))] if seeds else None
        found = self._reach.partner()
        return None if found is None else found.node

    def _sync(self, peer: NodeId) -> tuple[str, int] | None:
        state = self._state
        if len(self._running) >= SYNCS or peer in self._running.values():
            return None
        flow = (SYNC_FLOW, state.number())
        self._running[flow] = peer
        state.counts["syncs"] += 1
        deadline = state.now + state.timing.sync_timeout_s
        state.out.append(Tell("flows", StartFlow(flow, SYNC_FLOW, SyncArgument(peer), deadline, reply_to=MACHINE)))
        return flow

    def _reconnect(self, _: object) -> None:
        """Look for one that was lost: a dead member, or a seed that is not among the members."""
        state = self._state
        if self._stopped:
            return
        state.timers.set(state.now + state.timing.reconnect_interval_s * (0.75 + 0.5 * state.rng.random()), self._reconnect)
        members = state.table.members
        if state.rng.random() * (len(members) + 1) > 32:
            return  # with many members others do it too
        lost: list[Member | NodeId] = [*self._judgement.lost.values(), *(node for node in self.seeds if node not in members)]
        if not lost:
            return
        chosen = lost[int(state.rng.random() * len(lost))]
        if not isinstance(chosen, Member):
            self._sync(chosen)
        elif self._reach.touches(chosen):
            self._ping_lost(chosen)
        elif state.anchors and not chosen.facts.anchors:
            self._sync(chosen.node)  # a leaf pings its anchors alone, and can dial whoever is no leaf itself

    def _store_peers(self) -> None:
        """Write down some addresses, for a restart without seeds."""
        state = self._state
        if state.now - self._stored < STORED_PEERS_S:
            return
        self._stored = state.now
        rows = [[member.node, member.facts.link] for member in state.table.ring.sample(STORED_PEERS) if member.facts.link]
        if rows:
            state.out.append(Persist((Put(PEERS_KEY, cbor.encode(rows)),)))


def stored_peers(view: View) -> list[Seed]:
    """What an earlier life wrote down. Unreadable rows are worth nothing, and nothing is lost with them."""
    stored = view.get(PEERS_KEY)
    if stored is None:
        return []
    try:
        rows = cbor.decode(stored, max_bytes=MAX_STORED_BYTES)
    except Refused:
        return []
    seeds: list[Seed] = []
    for row in rows if isinstance(rows, list) else []:
        match row:
            case [str() as node, str() as link]:
                seeds.append(Seed(NodeId(node), link))
    return seeds
