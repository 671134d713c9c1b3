"""The ledger as the other machines of a node see it: what they put to it, what they hear from it, and a View of what is decided.

The machine ``LEDGER`` (``consensus/pbft/replica.py``, or a follower of it) orders and executes. Others put ``Submit`` to it, are its
``listeners``, and read what is decided in a ``LedgerView``. None of them waits for it on the way of anything else: where no quorum can be
reached they go on with what they know.

``Submit`` is answered once its request was executed, or with the reason why it is not going to be for now; whoever waits looks at the View
then, and whenever it hears ``Decided``: one of these may stand for several blocks, where a state was fetched.
"""

from typing import Protocol

from meshos.consensus.ledger.results import Result, decode_result
from meshos.consensus.ledger.tree import State
from meshos.consensus.pbft.block import request_hash
from meshos.consensus.pbft.events import Decided, Noticed, Submit, WallTime
from meshos.consensus.pbft.records import RESTORING
from meshos.consensus.pbft.replica import Replica
from meshos.storage.store import View

__all__ = ["LEDGER", "Decided", "LedgerView", "Noticed", "ReplicaLedger", "Submit", "WallTime"]

LEDGER = "pbft"


class LedgerView(View, Protocol):
    """The newest state that this node knows: the ledger's entries (``Table.read``), and what became of requests."""

    @property
    def height(self) -> int:
        """Of the newest block executed here; 0 while a state is being laid down, and nothing can be read off it."""
        ...

    @property
    def restoring(self) -> bool:
        """Whether a state is being laid down: what is here then is a part of it."""
        ...

    @property
    def time_ms(self) -> int:
        """Its ledger time. Every later block has a later one."""
        ...

    def result(self, request: bytes) -> Result | None:
        """What became of this request (the bytes that were submitted); None: nothing yet, or nothing that this node remembers."""
        ...


class ReplicaLedger:
    """The ``LedgerView`` of a node that has a ``Replica``, whose disk ``view`` shows."""

    def __init__(self, replica: Replica, view: View) -> None:
        self._chain = replica.core.chain
        self._view = view
        state = State(view)
        self.get, self.scan = state.get, state.scan

    @property
    def height(self) -> int:
        """See ``LedgerView``."""
        return 0 if self.restoring else self._chain.height

    @property
    def restoring(self) -> bool:
        """See ``LedgerView``."""
        return self._view.get(RESTORING) is not None

    @property
    def time_ms(self) -> int:
        """See ``LedgerView``."""
        return self._chain.time_ms

    def result(self, request: bytes) -> Result | None:
        """See ``LedgerView``."""
        place = self._chain.place(request_hash(request))
        return None if place is None else decode_result(place[2])
