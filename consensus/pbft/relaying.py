"""Requests on their way into a block: taken in, told to all validators, and watched.

A client gives its request to one node, which tells all validators of it, so that a primary that withholds it is noticed: each validator
waits for what it knows of (Castro & Liskov 1999, sections 4.1 and 4.4). What waits long is sent again to the primary, which may not have
got it, and after a patience to the others in turn. The oldest request that could be ordered is watched: each block of the present view
that comes without it is counted, and after a few, over some time, the primary is taken for one that withholds, however busy it is.

Fetched blocks count like those that were decided by votes here: else a primary could have every block arrive as a fetched one. But a block
counts only if it was proposed lately, and when the request had waited for long: so that who was away blames nobody for what was decided
meanwhile. Full blocks excuse a primary for as long as a queue may take, and not for ever: it may fill them itself.
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
LOOKED_AT = 1_024
"""So many old requests are looked at for those that could be ordered."""
SORTED_OUT = 256
"""Old requests that are looked at once more before a view is left for them."""
PASSED = 4
"""Blocks that may leave out a request which had waited for long when they were proposed."""
QUEUE_MS = 30_000
"""So long full blocks excuse that a request is left out: several times what it takes to empty a full pool."""


class Relaying:
    """The pool's ways in and out."""

    def __init__(self, desk: Desk, views: Views) -> None:
        self._desk = desk
        self._views = views
        self._watched: Pending | None = None
        self._began = 0.0  # to be watched
        self._passed: tuple[int, int, int, float] | None = None  # epoch, view, how many blocks have left it out, since when
        self._looked = 0.0
        self._turn = 0

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
        """Remind the primary of what waits for long and could be ordered; and of what waits for longer one other, each time the next."""
        desk, timing = self._desk, self._desk.timing
        self.sort_out()  # a node without a vote has no patience that would end
        if not desk.pool:
            return
        desk.again(RELAY, timing.relay_ms)
        old = desk.pool.older_than(desk.now - timing.relay_ms / 1000, LOOKED_AT)
        orderable = desk.chain.batch(fresh_time(desk.chain, desk.wall_ms))
        batch: list[bytes] = []
        size = 0
        for pending in old:
            if orderable.admit(pending.request) is not None:
                continue
            size += len(pending.request)
            if len(batch) >= RELAYED or (batch and size > RELAYED_BYTES):
                break
            batch.append(pending.request)
        if not batch:
            return
        to = {desk.node(desk.chain.validators.primary(desk.ballot.record.view))}
        others = desk.others()
        if others and old[0].since <= desk.now - timing.patience_ms / 1000:
            self._turn = (self._turn + 1) % len(others)
            to.add(others[self._turn])
        for node in sorted(to):
            desk.send(node, Relay(tuple(batch)))

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
        """A block was decided: did the primary of this view leave out what has waited for long?"""
        desk, header, view = self._desk, certified.block.header, certified.certificate.view
        record, timing = desk.ballot.record, desk.timing
        if self._views.leaving or (header.epoch, view) != (record.epoch, record.view) or header.height <= record.choice.height:
            return  # the block that a view must begin with is not its primary's choice
        long_ms, lag_ms = timing.patience_ms + timing.clock_ms, max(0, desk.wall_ms - header.time_ms)
        watched = self._watch(long_ms)
        if watched is None or lag_ms > long_ms + timing.patience_ms:
            return
        full = 2 * len(certified.block.requests) >= desk.config.batch_requests or 2 * len(certified.encoded) >= desk.config.batch_bytes
        waited_ms = (desk.now - (self._began if full else watched.since)) * 1000 - lag_ms
        if waited_ms < (QUEUE_MS if full else long_ms):
            return
        count, since = 1, desk.now
        if self._passed is not None and self._passed[:2] == (record.epoch, view):
            count, since = self._passed[2] + 1, self._passed[3]
        self._passed = (record.epoch, view, count, since)
        if count >= PASSED and (desk.now - since) * 1000 >= timing.patience_ms:
            self._watched = None
            if desk.chain.batch(fresh_time(desk.chain, desk.wall_ms)).admit(watched.request) is None:
                self._views.leave()

    def _watch(self, long_ms: int) -> Pending | None:
        """The request that is watched, as long as it waits; the next one is looked for once in a patience."""
        desk = self._desk
        if self._watched is not None and self._watched.hash in desk.pool:
            return self._watched
        self._watched = None
        if desk.index is None or (desk.now - self._looked) * 1000 < desk.timing.patience_ms:
            return None
        self._looked = self._began = desk.now
        self._passed = None
        batch = desk.chain.batch(fresh_time(desk.chain, desk.wall_ms))
        old = desk.pool.older_than(desk.now - long_ms / 1000, len(desk.pool))
        self._watched = next((pending for pending in old if batch.admit(pending.request) is None), None)
        return self._watched
