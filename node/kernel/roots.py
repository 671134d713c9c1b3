"""When the roots of organisations may have changed on the ledger: read off its audit trail, which tells of each such change.

To look at all organisations after every block would cost in proportion to their number; to look at one number costs a read.

An organisation that leaves gives its seat up, and its vote ends with the next checkpoint. Until then the others count on it: the agreement
has n and its quorum from the validators in force. So its root is believed of the node that votes until other validators are in force,
which is a reason to look again.
"""

from collections.abc import Callable, Mapping

from meshos.consensus.ledger import queries
from meshos.consensus.ledger.audit import AUDIT, NEXT, place
from meshos.consensus.ledger.limits import MAX_AUDIT
from meshos.consensus.ledger.motions import CARRIED
from meshos.consensus.ledger.orgs import Leave, RotateRoot
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.ids import NodeId, OrgDid
from meshos.protocols.ledger.port import LedgerView
from meshos.values import frozen

CHANGES = frozenset({CARRIED, RotateRoot.KIND, Leave.KIND})
"""What the entries say that may go with another root."""


@frozen
class Believed:
    """By the ledger: the root key (Multikey) and its certificate of each organisation that is believed, and those of them that have left,
    with the node of each whose vote has not ended yet."""

    roots: Mapping[str, tuple[str, bytes]]
    leaving: Mapping[OrgDid, NodeId]


class Roots:
    """``ledger`` shows the newest state, ``deciding`` who decides the next block. Nothing is read of a state that is being laid down."""

    def __init__(self, ledger: LedgerView, deciding: Callable[[], ValidatorSet]) -> None:
        self._ledger = ledger
        self._deciding = deciding
        self._seen = -1  # entries of the trail that were looked at; -1: nothing of this ledger was
        self._epoch = 0  # of those that decided then
        self._due = False  # something may have changed that was not read yet

    def moved(self) -> bool:
        """Whether ``read`` may give something else than at the last time that it gave anything."""
        if not self._ledger.height:
            return False
        seen, epoch = self._seen, self._epoch
        self._seen, self._epoch = NEXT.read(self._ledger, b"") or 0, self._deciding().epoch
        if seen < 0 or self._seen - seen > MAX_AUDIT or self._epoch != epoch:
            self._due = True
        else:
            entries = (AUDIT.read(self._ledger, place(number)) for number in range(seen, self._seen))
            self._due |= any(entry is not None and entry.what in CHANGES for entry in entries)
        return self._due

    def read(self) -> Believed | None:
        """Whom to believe now; None where there is no ledger yet, or not now: then what has changed is still to be read."""
        if not self._ledger.height:
            return None
        self.moved()
        self._due = False
        roots, gone = queries.roots(self._ledger), queries.leaving(self._ledger, self._deciding())
        roots |= {did: (root, der) for did, (root, der, _) in gone.items()}
        return Believed(roots, {OrgDid(did): node for did, (_, _, node) in gone.items()})
