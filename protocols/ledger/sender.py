"""The machine "transactions": everything that this node's key signs for the ledger goes through here, since its nonces count up one by one.

Theory of operation. Whoever wants something done puts ``Send`` here, under a name (``ref``) of its own that it still knows after a restart.
The transaction gets the next nonce and an end, is made durable, signed, and submitted again and again until the ledger's state shows what
became of it. Nothing is concluded from an answer on the way: only what is decided counts. After a restart the same bytes are
signed again (Ed25519 gives the same signature) and submitted again, and a name that is asked for again is not sent again.

A nonce that nobody uses blocks those after it. So a transaction that lapsed by our clock, while the ledger is silent, is joined by a
*filler* with the same nonce that does nothing (it moves one millionth from the organisation to itself). One of the two is executed; if it
is the filler, or if ledger time reaches its end without it, the transaction has expired, and whoever asked learns just that.

The ledger's blocks and this machine's records reach the disk apart. After a crash the state here may be older than what was concluded from
it: no nonce is given until it has caught up with that, or one that was used would be given again.

Bounded: IN_FLIGHT nonces, QUEUED that wait, KEPT names that are remembered.
"""

from collections import deque
from dataclasses import dataclass

from meshos.consensus.ledger import transaction
from meshos.consensus.ledger.accounts import Transfer
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.keys import KEYS, NODE, RETIRED, Key
from meshos.consensus.ledger.kinds import envelope_of
from meshos.effects import Completed, Delete, Err, Ok, Outcome, Persist, Sign, Signed, Tell, Tick, Write, WriteBack
from meshos.errors import Refused, busy
from meshos.flow import Propose
from meshos.flow_machine import Abandon, Perform
from meshos.ids import NodeId, OrgDid
from meshos.protocols.ledger.limits import (
    FILLER_LIFETIME_MS,
    IN_FLIGHT,
    KEPT,
    LAPSE_MARGIN_MS,
    LIFETIME_MS,
    MAX_REF_BYTES,
    QUEUED,
    RESUBMIT_MOST_S,
    RESUBMIT_S,
)
from meshos.protocols.ledger.port import LEDGER, Decided, LedgerView, Noticed, Submit, WallTime
from meshos.protocols.ledger.slots import (
    COMMITTED,
    EXPIRED,
    REFUSED,
    UNKNOWN,
    Attempt,
    Concluded,
    Slot,
    done_key,
    drop_slot,
    purpose_of,
    read_done,
    read_slots,
    write_done,
    write_slot,
)
from meshos.storage.store import View

MACHINE = "transactions"

_Asker = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Send:
    """Have the ledger do ``body``, in the name of this node. ``ref`` (1 to MAX_REF_BYTES bytes) names it: what was sent under this name, or
    is on its way, is not sent again. Gives Concluded, however long that takes; Refused ``unknown-signer``, ``busy``, or
    ``idempotency-conflict`` where the name stands for another body.
    """

    ref: bytes
    body: Body


@dataclass(frozen=True, slots=True)
class IsKnown:
    """Whether something was sent under the name ``ref``, or is on its way: then ``Send`` sends nothing new. Gives bool."""

    ref: bytes


@dataclass(slots=True)
class _Waiting:
    """What has no nonce yet."""

    ref: bytes
    body: Body
    askers: list[_Asker]


class Sender:
    """See the module's text. ``ledger`` is what this node knows of the ledger; ``wall_ms`` is the wall time at ``now``."""

    def __init__(self, node: NodeId, genesis_hash: bytes, ledger: LedgerView, view: View, *, now: float, wall_ms: int) -> None:
        self._node = node
        self._domain = transaction.domain(genesis_hash)
        self._ledger = ledger
        self._clock = (now, wall_ms)
        self._slots = {slot.nonce: slot for slot in read_slots(view)}  # in the order of their nonces
        self._done: dict[bytes, Concluded] = {}
        self._numbers: deque[tuple[int, bytes]] = deque()
        for number, ended in read_done(view):
            self._done[ended.ref] = ended
            self._numbers.append((number, ended.ref))
        self._seen = max((ended.height for ended in self._done.values()), default=0)
        """The newest block that something was concluded from."""
        self._queue: deque[_Waiting] = deque()
        self._signing: dict[int, tuple[Slot, Attempt]] = {}
        self._submitted: dict[int, tuple[Slot, bytes]] = {}
        self._ops = 0
        self._began = False
        self._effects: list[object] = []

    def step(self, now: float, event: object) -> list[object]:
        """See ``meshos.effects.Machine``."""
        self._effects = []
        if not self._began:
            self._began = True
            for slot in self._slots.values():
                for attempt in slot.attempts():
                    self._sign(slot, attempt)
        if isinstance(event, Perform):
            self._perform(event)
        elif isinstance(event, Abandon):
            self._abandon((event.reply_to, event.op))
        elif isinstance(event, Signed):
            self._signed(now, event)
        elif isinstance(event, Completed):
            submitted = self._submitted.pop(event.op, None)
            if submitted is not None:
                submitted[0].op = 0
        elif isinstance(event, WallTime):
            self._clock = (now, event.ms)  # the replica here judges by this clock, be it wrong
            for slot in self._slots.values():
                slot.due = min(slot.due, max(now, self._lapses(slot)))
        elif not isinstance(event, Decided | Noticed | Tick):
            raise TypeError(f"Sender has no use for {event!r}")
        self._look(now)
        self._fill(now)
        self._submit_due(now)
        return self._effects

    def deadline(self) -> float | None:
        """At once after the start; then when something is to be submitted again, or has lapsed."""
        if not self._began:
            return self._clock[0]
        return min((slot.due for slot in self._slots.values() if slot.newest.request), default=None)

    def statistics(self) -> dict[str, int]:
        """Transactions on their way, and those that wait for a nonce."""
        return {"in_flight": len(self._slots), "queued": len(self._queue)}

    # -- being asked -------------------------------------------------------------------------------------------------

    def _perform(self, perform: Perform) -> None:
        assert isinstance(perform.operation, Propose)
        asker, command = (perform.reply_to, perform.op), perform.operation.command
        if isinstance(command, IsKnown):
            on_the_way = {slot.ref for slot in self._slots.values()} | {waiting.ref for waiting in self._queue}
            self._answer([asker], Ok(command.ref in self._done or command.ref in on_the_way))
            return
        if not isinstance(command, Send) or not 0 < len(command.ref) <= MAX_REF_BYTES:
            self._answer([asker], Err(Refused("unknown-command", f"the sender of transactions has no command {type(command).__name__}")))
            return
        ended = self._done.get(command.ref)
        slot = next((slot for slot in self._slots.values() if slot.ref == command.ref), None)
        waiting = next((waiting for waiting in self._queue if waiting.ref == command.ref), None)
        before = _purpose_before(ended, slot, waiting)
        if before and before != purpose_of(command.body):
            what = "something else was asked for under this name before"
            self._answer([asker], Err(Refused("idempotency-conflict", what, hint="take a new idempotencyKey for a new request")))
        elif ended is not None:
            self._answer([asker], Ok(ended))
        elif slot is not None:
            slot.askers.append(asker)
        elif waiting is not None:
            waiting.askers.append(asker)
        elif len(self._queue) >= QUEUED:
            self._answer([asker], Err(busy("the queue of this node's transactions")))
        else:
            self._queue.append(_Waiting(command.ref, command.body, [asker]))

    def _abandon(self, asker: _Asker) -> None:
        """Nobody waits there any more. What has a nonce goes on."""
        for waiting in [waiting for waiting in self._queue if asker in waiting.askers]:
            waiting.askers.remove(asker)
            if not waiting.askers:
                self._queue.remove(waiting)
        for slot in self._slots.values():
            if asker in slot.askers:
                slot.askers.remove(asker)

    def _answer(self, askers: list[_Asker], outcome: Outcome[object]) -> None:
        self._effects += [Tell(machine, Completed(op, outcome)) for machine, op in askers]

    # -- nonces ------------------------------------------------------------------------------------------------------

    def _key(self) -> Key | None:
        return KEYS.read(self._ledger, self._node)

    def _fill(self, now: float) -> None:
        """Give a nonce to those that wait, while there is room, and a state to find it in: whole, and not older than what is known."""
        ready = not self._ledger.restoring and self._ledger.height >= self._seen
        while self._queue and len(self._slots) < IN_FLIGHT and ready:
            key, waiting = self._key(), self._queue.popleft()
            if key is None or key.role != NODE:
                hint = "its organisation registers it where its root key is: mesh org register"
                refusal = Refused("unknown-signer", f"{self._node} is no node that the ledger knows", hint=hint)
                self._answer(waiting.askers, Err(refusal))
                continue
            nonce = max([key.nonce, *(nonce + 1 for nonce in self._slots)])
            attempt = Attempt.of(envelope_of(waiting.body, self._node, nonce, self._end(now, LIFETIME_MS)))
            slot = self._slots[nonce] = Slot(nonce, waiting.ref, attempt, askers=waiting.askers)
            self._effects.append(Persist((write_slot(slot),)))
            self._sign(slot, attempt)

    def _end(self, now: float, lifetime_ms: int) -> int:
        """When a transaction of now expires. The ledger's clock stands still while nothing happens there, ours does not."""
        return max(self._wall_ms(now), self._ledger.time_ms) + lifetime_ms

    def _wall_ms(self, now: float) -> int:
        since, wall_ms = self._clock
        return wall_ms + round((now - since) * 1000)

    def _lapses(self, slot: Slot) -> float:
        """When, by our clock, the ledger takes it no more."""
        since, wall_ms = self._clock
        return since + (slot.newest.expires_ms + LAPSE_MARGIN_MS - wall_ms) / 1000

    # -- signing and submitting --------------------------------------------------------------------------------------

    def _sign(self, slot: Slot, attempt: Attempt) -> None:
        self._ops += 1
        self._signing[self._ops] = (slot, attempt)
        self._effects.append(Sign(MACHINE, self._ops, self._domain, attempt.envelope))

    def _signed(self, now: float, event: Signed) -> None:
        if event.op in self._signing:
            slot, attempt = self._signing.pop(event.op)
            attempt.request = transaction.request(attempt.envelope, event.signature)
            slot.due, slot.tries = now, 0

    def _submit_due(self, now: float) -> None:
        for slot in self._slots.values():
            if slot.newest.request and now >= slot.due:
                if now >= self._lapses(slot):
                    self._lay_filler(now, slot)
                else:
                    self._submit(now, slot)

    def _submit(self, now: float, slot: Slot) -> None:
        self._forget_submission(slot)
        self._ops += 1
        slot.op = self._ops
        slot.due = min(now + min(RESUBMIT_MOST_S, RESUBMIT_S * 2**slot.tries), self._lapses(slot))
        slot.tries = min(slot.tries + 1, 8)
        self._submitted[slot.op] = (slot, slot.newest.request)
        operation = Propose[object](Submit(slot.newest.request), to=LEDGER)
        self._effects.append(Tell(LEDGER, Perform(slot.op, operation, None, MACHINE)))

    def _forget_submission(self, slot: Slot) -> None:
        submitted = self._submitted.pop(slot.op, None)
        if submitted is not None:
            operation = Propose[object](Submit(submitted[1]), to=LEDGER)
            self._effects.append(Tell(LEDGER, Abandon(slot.op, operation, MACHINE)))
        slot.op = 0

    def _lay_filler(self, now: float, slot: Slot) -> None:
        """Have the nonce used by what does nothing."""
        key = self._key()
        if key is None:
            slot.due = now + RESUBMIT_MOST_S
            return
        self._forget_submission(slot)
        body = Transfer(OrgDid(key.org), 1)
        slot.filler = Attempt.of(envelope_of(body, self._node, slot.nonce, self._end(now, FILLER_LIFETIME_MS)))
        self._effects.append(Persist((write_slot(slot),)))
        self._sign(slot, slot.filler)

    # -- what became of them -----------------------------------------------------------------------------------------

    def _look(self, now: float) -> None:
        """Conclude whatever the ledger's state decides."""
        key = self._key() if self._slots else None
        if key is None:
            return
        for slot in list(self._slots.values()):
            if slot.nonce < key.nonce:
                if all(attempt.request for attempt in slot.attempts()):
                    self._used(slot)
            elif key.role == RETIRED:
                if slot.first is not None:
                    self._conclude(slot, REFUSED, "unknown-signer")
                self._drop(slot)
            elif slot.first is not None and slot.first.expires_ms <= self._ledger.time_ms:
                self._conclude(slot, EXPIRED)
                self._release(now, slot)

    def _used(self, slot: Slot) -> None:
        """The nonce was used: by which of its transactions?"""
        first = slot.first
        if first is not None:
            result = self._ledger.result(first.request)
            if result is not None and result.id == first.id and result.outcome in (COMMITTED, REFUSED):
                self._conclude(slot, result.outcome, result.name, result.height)
            elif slot.filler is not None and (instead := self._ledger.result(slot.filler.request)) is not None:
                self._conclude(slot, EXPIRED, height=instead.height)
            else:
                self._conclude(slot, UNKNOWN)
        self._drop(slot)

    def _conclude(self, slot: Slot, outcome: str, name: str = "", height: int = 0) -> None:
        """Tell who asked, and remember it."""
        assert slot.first is not None
        ended = Concluded(slot.ref, slot.first.id, outcome, name, height, slot.first.purpose)
        slot.first, askers, slot.askers = None, slot.askers, []
        number = self._numbers[-1][0] + 1 if self._numbers else 0
        self._numbers.append((number, slot.ref))
        self._seen = max(self._seen, height)
        self._done[slot.ref] = ended
        writes: list[Write] = [write_done(number, ended)]
        if len(self._numbers) > KEPT:
            oldest, ref = self._numbers.popleft()
            del self._done[ref]
            writes.append(Delete(done_key(oldest)))
        self._effects.append(WriteBack(tuple(writes)))  # the ledger would tell again
        self._answer(askers, Ok(ended))

    def _release(self, now: float, slot: Slot) -> None:
        """What expired cannot be executed any more. Its nonce can, and must be where others come after it."""
        if slot.filler is not None:
            self._effects.append(WriteBack((write_slot(slot),)))
        elif slot.nonce < max(self._slots):
            self._lay_filler(now, slot)
        else:
            self._drop(slot)

    def _drop(self, slot: Slot) -> None:
        self._forget_submission(slot)
        for op in [op for op, (of, _) in self._signing.items() if of is slot]:
            del self._signing[op]
        del self._slots[slot.nonce]
        self._effects.append(WriteBack((drop_slot(slot),)))


def _purpose_before(ended: Concluded | None, slot: Slot | None, waiting: _Waiting | None) -> bytes:
    """Of what a name stands for already; empty: of nothing, or that is not known any more."""
    if ended is not None:
        return ended.purpose
    if slot is not None and slot.first is not None:
        return slot.first.purpose
    return b"" if waiting is None else purpose_of(waiting.body)
