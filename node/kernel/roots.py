"""When the roots of organisations may have changed on the ledger: read off its audit trail, which tells of each such change.

To look at all organisations after every block would cost in proportion to their number; to look at one number costs a read.
"""

from meshos.consensus.ledger import queries
from meshos.consensus.ledger.audit import AUDIT, NEXT, place
from meshos.consensus.ledger.limits import MAX_AUDIT
from meshos.consensus.ledger.motions import CARRIED
from meshos.consensus.ledger.orgs import Leave, RotateRoot
from meshos.protocols.ledger.port import LedgerView

CHANGES = frozenset({CARRIED, RotateRoot.KIND, Leave.KIND})
"""What the entries say that may go with another root."""


class Roots:
    """``ledger`` shows the newest state. Nothing of a state is read that is still being laid down."""

    def __init__(self, ledger: LedgerView) -> None:
        self._ledger = ledger
        self._seen = -1  # entries of the trail that were looked at; -1: nothing of this ledger was

    def moved(self) -> bool:
        """Whether ``read`` may give something else than at the last time that this said so."""
        if not self._ledger.height:
            return False
        made = NEXT.read(self._ledger, b"") or 0
        seen, self._seen = self._seen, made
        if seen < 0 or made - seen > MAX_AUDIT:
            return True
        entries = (AUDIT.read(self._ledger, place(number)) for number in range(seen, made))
        return any(entry is not None and entry.what in CHANGES for entry in entries)

    def read(self) -> dict[str, tuple[str, bytes]] | None:
        """The members' roots, as ``queries.roots``; None where there is no ledger yet, or not now."""
        return queries.roots(self._ledger) if self._ledger.height else None
