"""The ledger as the other machines of a node see it: one command to it, one event from it, and a View.

The machine ``LEDGER`` orders and executes (PBFT's replica, or a follower of it). Others put ``Submit`` to it, are told ``Applied``, and
read what is decided in a ``LedgerView``. None of them waits for it on the way of anything else: where no quorum can be reached they go on
with what they know.
"""

from typing import Protocol

from meshos.consensus.ledger.results import Result
from meshos.consensus.pbft.events import Submit
from meshos.storage.store import View
from meshos.values import frozen

LEDGER = "pbft"
"""The machine that orders and executes: PBFT's replica."""

__all__ = ["LEDGER", "Applied", "LedgerView", "Submit"]


@frozen
class Applied:
    """The block of this height, with this ledger time, is executed, and the ``LedgerView`` shows it. One may stand for several."""

    height: int
    time_ms: int


class LedgerView(View, Protocol):
    """The newest state that this node knows: the ledger's entries (``Table.read``), and what became of requests."""

    @property
    def height(self) -> int:
        """Of the newest block executed here."""
        ...

    @property
    def time_ms(self) -> int:
        """Its ledger time. Every later block has a later one."""
        ...

    def result(self, request: bytes) -> Result | None:
        """What became of this request (the bytes that were submitted); None: nothing yet, or nothing that this node remembers."""
        ...
