"""Who is in quarantine, and which of it stands on the word of one coordinator alone.

*Unsettled* is a subject that is in quarantine, or was let out, by what one coordinator decided alone (``actions.py``): that differs from
what several have decided last, or people, or nobody ever. It adds to the risk of whatever one does next, until several decide on it. Their
risks together are at most the threshold, so that there are few.
"""

from meshos.consensus.ledger.draft import Draft, Table
from meshos.consensus.ledger.packing import pack, unpack

QUARANTINE: Table[int] = Table(b"quarantine/", lambda since_ms: pack(since_ms), lambda value: int(unpack(value)[0]))
"""Who is in quarantine, by DID, node id or agent id, and since when."""


def _decode(value: bytes) -> tuple[tuple[str, int], ...]:
    return tuple((subject, weight) for subject, weight in unpack(value))


UNSETTLED: Table[tuple[tuple[str, int], ...]] = Table(b"unsettled", lambda rows: pack(*rows), _decode)
"""(subject, its weight in the risk when that was decided), in the order of the subjects."""


def in_quarantine(draft: Draft, *subjects: str) -> bool:
    """Whether one of them is."""
    return any(draft.read(QUARANTINE, subject) is not None for subject in subjects)


def unsettled(draft: Draft) -> dict[str, int]:
    """What stands on one coordinator's word."""
    rows = draft.read(UNSETTLED, b"")
    return dict(rows or ())


def set_quarantine(draft: Draft, subject: str, since_ms: int | None, weight: int | None) -> None:
    """``subject`` is in quarantine since then; None: it is not. ``weight``: where one coordinator decided so alone; None: several have."""
    rows = unsettled(draft)
    before = rows.pop(subject, None)
    if weight is not None and before is None:  # else it is again as several have decided
        rows[subject] = weight
    draft.write(UNSETTLED, b"", tuple(sorted(rows.items())) or None)
    draft.write(QUARANTINE, subject, since_ms)
