"""The audit trail: who changed what in how the mesh is run, the newest MAX_AUDIT entries of it.

Transfers, vouchers and commitments are not in it: the blocks tell of these.
"""

from meshos.consensus.ledger.draft import Draft, Table
from meshos.consensus.ledger.limits import MAX_AUDIT
from meshos.consensus.ledger.packing import pack, unpack
from meshos.values import frozen


@frozen
class Entry:
    """``by`` (a DID or a key) did ``what`` to ``subject``; ``why`` is what people are told, or empty."""

    number: int
    height: int
    time_ms: int
    by: str
    what: str
    subject: str
    why: str


def _encode(entry: Entry) -> bytes:
    return pack(entry.number, entry.height, entry.time_ms, entry.by, entry.what, entry.subject, entry.why)


AUDIT = Table(b"audit/", _encode, lambda value: Entry(*unpack(value)))
NEXT = Table(b"audited", lambda number: pack(number), lambda value: int(unpack(value)[0]))
"""How many entries were ever made."""


def record(draft: Draft, by: str, what: str, subject: str, why: str = "") -> None:
    """Add an entry."""
    number = draft.read(NEXT, b"") or 0
    draft.write(AUDIT, place(number), Entry(number, draft.height, draft.time_ms, by, what, subject, why))
    draft.write(NEXT, b"", number + 1)


def place(number: int) -> bytes:
    """The entry's place in the ring."""
    return (number % MAX_AUDIT).to_bytes(4, "big")
