"""Requests on their way into a block: taken in, told to all validators, and watched.

A client gives its request to one node, which tells all validators of it, so that a primary that withholds it is noticed: each validator
waits for what it knows of (Castro & Liskov 1999, sections 4.1 and 4.4). What waits long is sent to the primary again, which may not
have got it. Of the oldest request it is counted how many blocks with room its view has decided without it; after a few the primary is taken
for one that withholds, however busy it is with others. Fetched blocks say nothing of it, nor do those of a view that was left.
"""

from meshos.consensus.pbft.block import request_hash
from meshos.consensus.pbft.desk import Desk
from meshos.consensus.pbft.events import Dropped
from meshos.consensus.pbft.limits import MAX_BLOCK_REQUESTS
from meshos.consensus.pbft.messages import Relay
from meshos.consensus.pbft.pool import Pending
from meshos.consensus.pbft.proposing import fresh_time
from meshos.consensus.pbft.views import Views
from meshos.errors import MeshError, Refused

RELAY = "relay"
RELAYED = 64
"""Requests in one reminder."""
RELAYED_BYTES = 48 << 10
SORTED_OUT = 256
"""Old requests that are looked at once more before a view is left for them."""
PASSED = 4
"""Blocks with room that may leave out a request that waits for longer than patience."""


class Relaying:
    """The pool's ways in and out."""

    def __init__(self, desk: Desk, views: Views) -> None:
        self._desk = desk
        self._views = views

    def take(self, pendings: list[Pending], *, relay: bool) -> None:
        """Take requests in; with ``relay``, tell the others of those that are new."""
        desk = self._desk
        now_ms = fresh_time(desk.chain, desk.wall_ms)
        taken: list[bytes] = []
        for pending in pendings:
            error = self._why_not(pending, now_ms)
            if error is not None:
                desk.out.append(Dropped(pending.hash, error))
            elif pending.hash not in desk.pool:
                try:
                    desk.pool.add(pending)
                except Refused as full:
                    desk.out.append(Dropped(pending.hash, full))
                else:
                    taken.append(pending.request)
        if relay and taken:
            self._tell(taken)

    def take_own(self, request: bytes) -> None:
        """A request that this replica itself makes."""
        desk = self._desk
        self.take([Pending(request_hash(request), request, desk.config.node, desk.now)], relay=True)

    def _why_not(self, pending: Pending, now_ms: int) -> MeshError | None:
        place = self._desk.chain.place(pending.hash)
        if place is not None:
            return Refused("request-repeated", f"it was ordered before, at height {place[0]}", outcome="done")
        return self._desk.chain.admit(pending.request, now_ms)

    def _tell(self, requests: list[bytes]) -> None:
        batch: list[bytes] = []
        size = 0
        for request in requests:
            if batch and (size + len(request) > RELAYED_BYTES or len(batch) >= MAX_BLOCK_REQUESTS):
                self._desk.broadcast(Relay(tuple(batch)))
                batch, size = [], 0
            batch.append(request)
            size += len(request)
        self._desk.broadcast(Relay(tuple(batch)))

    def relay(self) -> None:
        """Remind the primary of what waits for long."""
        desk = self._desk
        if not desk.pool:
            return
        desk.again(RELAY, desk.timing.relay_ms)
        batch: list[bytes] = []
        size = 0
        for pending in desk.pool.older_than(desk.now - desk.timing.relay_ms / 1000, RELAYED):
            size += len(pending.request)
            if batch and size > RELAYED_BYTES:
                break
            batch.append(pending.request)
        primary = desk.node(desk.chain.validators.primary(desk.ballot.record.view))
        if batch:
            desk.send(primary, Relay(tuple(batch)))

    def sort_out(self) -> None:
        """Drop what cannot be ordered any more, of what waits longest."""
        desk = self._desk
        now_ms = fresh_time(desk.chain, desk.wall_ms)
        for pending in desk.pool.older_than(desk.now, SORTED_OUT):
            error = self._why_not(pending, now_ms)
            if error is not None:
                desk.pool.remove([pending.hash])
                desk.out.append(Dropped(pending.hash, error))

    def orderable(self) -> bool:
        """Whether anything that waits could stand in the next block; what only waits for others before it keeps nobody waiting."""
        desk = self._desk
        batch = desk.chain.batch(fresh_time(desk.chain, desk.wall_ms))
        return any(batch.admit(pending.request) is None for pending in desk.pool)

    def decided(self, had_room: bool) -> None:
        """A block was decided by votes: did its primary leave out what it had room for?"""
        desk = self._desk
        oldest = None if self._views.leaving else desk.pool.oldest()
        if oldest is None or not had_room or desk.now - oldest.since < desk.timing.patience_ms / 1000:
            return
        oldest.passed += 1
        if oldest.passed >= PASSED:
            oldest.passed = 0
            if desk.chain.batch(fresh_time(desk.chain, desk.wall_ms)).admit(oldest.request) is None:
                self._views.leave()
