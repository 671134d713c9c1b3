"""Requests on their way into a block: taken in, told to all validators, and watched.

A client gives its request to one node, which tells all validators of it, so that a primary that withholds it is noticed: each validator
waits for what it knows of (Castro & Liskov 1999, sections 4.1 and 4.4). What waits long is sent to the primary again, which may not have
got it. Of the oldest request it is counted how many blocks its view has decided without it that had room, and were proposed when it had
waited for long; after a few, the primary is taken for one that withholds, however busy it is with others. That the block came by votes
is not asked for: a primary could see to it that each comes with its certificate. So what is fetched counts too, but not what was decided
before the request was here, nor anything in a view that was left already.
"""

from meshos.consensus.pbft.block import Certified, request_hash
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
"""Blocks that may leave out a request which had waited for longer than patience when they were proposed."""


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

    def committed(self, certified: Certified) -> None:
        """A block was decided: did the primary of this view leave out what it had room for, though it waited?"""
        desk, header = self._desk, certified.block.header
        oldest, view = desk.pool.oldest(), certified.certificate.view
        record, timing = desk.ballot.record, desk.timing
        if oldest is None or self._views.leaving or view != record.view or header.height <= record.choice.height:
            return  # also with what the view had to begin with
        had_waited_ms = (desk.now - oldest.since) * 1000 - max(0, desk.wall_ms - header.time_ms)
        full = len(certified.block.requests) >= desk.config.batch_requests // 2
        if full or had_waited_ms < timing.patience_ms + timing.clock_ms:
            return
        oldest.passed = (view, oldest.passed[1] + 1 if oldest.passed[0] == view else 1)
        if oldest.passed[1] >= PASSED:
            oldest.passed = (view, 0)
            if desk.chain.batch(fresh_time(desk.chain, desk.wall_ms)).admit(oldest.request) is None:
                self._views.leave()
