"""A nonce of the node's key, and the transactions that may use it: how it is stored.

slot/<nonce>     [ref, envelope, filler]
done/<number>    [ref, id, outcome, name, height, purpose]: the newest KEPT transactions that ended
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from meshos import cbor
from meshos.consensus.ledger import transaction
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.packing import pack, unpack
from meshos.effects import Delete, Put
from meshos.storage.store import View
from meshos.values import frozen

SLOT = b"slot/"
DONE = b"done/"

COMMITTED, REFUSED, EXPIRED, UNKNOWN = "committed", "refused", "expired", "unknown"


@frozen
class Concluded:
    """How a transaction ended. ``name``: of the ledger's refusal. ``id`` is the transaction's.

    *committed*  It was done.
    *refused*    It was not, and never will be.
    *expired*    The same, since its time was over.
    *unknown*    It can be executed no more, and this node has not seen whether it was: look at the ledger's state.
    """

    ref: bytes
    id: bytes
    outcome: str
    name: str = ""
    height: int = 0
    purpose: bytes = field(default=b"", compare=False)
    """``purpose_of`` the body; empty in what an earlier version wrote."""


@dataclass(slots=True)
class Attempt:
    """One envelope for a nonce, what it is for, and its signed request once there is one."""

    envelope: bytes
    id: bytes
    expires_ms: int
    purpose: bytes
    request: bytes = b""

    @classmethod
    def of(cls, envelope: bytes) -> "Attempt":
        """From the bytes that were made here."""
        _, kind, _, _, expires_ms, body = unpack(envelope)
        return cls(envelope, transaction.transaction_id(envelope), expires_ms, _purpose(kind, body))


@dataclass(slots=True)
class Slot:
    """A nonce that is not used yet. ``first`` is what was asked for; None once it is known never to be executed.

    ``filler`` does nothing, and takes its place when it lapsed: one of the two is executed, so that the nonces after it get their turn and
    it is known what became of the first.
    """

    nonce: int
    ref: bytes
    first: Attempt | None
    filler: Attempt | None = None
    askers: list[tuple[str, int]] = field(default_factory=list)
    due: float = 0.0
    """When it is given to the ledger again."""
    tries: int = 0
    op: int = 0
    """Of the submission that is under way."""

    @property
    def newest(self) -> Attempt:
        """The attempt that is signed and submitted."""
        attempt = self.filler or self.first
        assert attempt is not None
        return attempt

    def attempts(self) -> Iterator[Attempt]:
        """All that may still be executed."""
        return (attempt for attempt in (self.first, self.filler) if attempt is not None)


def purpose_of(body: Body) -> bytes:
    """A hash of what a transaction is to do, with whatever nonce and end: by this it is known whether a name means the same again."""
    return _purpose(body.KIND, body.fields())


def _purpose(kind: str, body: object) -> bytes:
    return hashlib.sha256(cbor.encode([kind, body])).digest()


def slot_key(nonce: int) -> bytes:
    """Where a Slot lies."""
    return SLOT + nonce.to_bytes(8, "big")


def write_slot(slot: Slot) -> Put:
    """Keep ``slot``."""
    envelopes = [attempt.envelope if attempt else b"" for attempt in (slot.first, slot.filler)]
    return Put(slot_key(slot.nonce), pack(slot.ref, *envelopes))


def drop_slot(slot: Slot) -> Delete:
    """Its nonce is used."""
    return Delete(slot_key(slot.nonce))


def read_slots(view: View) -> Iterator[Slot]:
    """All that are kept, in the order of their nonces."""
    for key, value in view.scan(SLOT):
        ref, first, filler = unpack(value)
        attempt, other = (Attempt.of(envelope) if envelope else None for envelope in (first, filler))
        yield Slot(int.from_bytes(key.removeprefix(SLOT), "big"), ref, attempt, other)


def done_key(number: int) -> bytes:
    """Where a Concluded lies."""
    return DONE + number.to_bytes(8, "big")


def write_done(number: int, ended: Concluded) -> Put:
    """Keep ``ended``."""
    return Put(done_key(number), pack(ended.ref, ended.id, ended.outcome, ended.name, ended.height, ended.purpose))


def read_done(view: View) -> Iterator[tuple[int, Concluded]]:
    """All that are kept, the oldest first."""
    for key, value in view.scan(DONE):
        yield int.from_bytes(key.removeprefix(DONE), "big"), Concluded(*unpack(value))
