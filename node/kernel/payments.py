"""The machines by which a node pays and is paid, put together once; there are none where a node has no ledger."""

from collections.abc import Mapping
from dataclasses import dataclass

from meshos.effects import Machine
from meshos.ids import Peer
from meshos.protocols.ledger.port import LedgerView
from meshos.protocols.ledger.sender import MACHINE as TRANSACTIONS
from meshos.protocols.ledger.sender import Sender
from meshos.protocols.payments.books import Books
from meshos.protocols.payments.budget import USUAL as USUAL_BUDGET
from meshos.protocols.payments.budget import Budget
from meshos.protocols.payments.commands import EARNING, PAYING
from meshos.protocols.payments.earning import Earnings
from meshos.protocols.payments.limits import CREDIT_MICRO, REDEEM_S
from meshos.protocols.payments.paying import Paying
from meshos.storage.store import View

STORED = (TRANSACTIONS, PAYING, EARNING)
"""Each of them has a disk; each is a listener of the ledger's, in this order."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What an operator decides (``[payments]`` in node.toml): what the node may spend, what others may owe it, and how soon a voucher is
    redeemed.
    """

    budget: Budget = USUAL_BUDGET
    credit_micro: int = CREDIT_MICRO
    redeem_s: float = REDEEM_S


USUAL = Terms()
"""What nodes do whose operators say nothing."""


def payment_machines(
    me: Peer, genesis_hash: bytes, ledger: LedgerView, books: Books, terms: Terms, views: Mapping[str, View], *, now: float, wall_ms: int
) -> dict[str, Machine]:
    """Those of ``STORED``, by name. ``views`` has the Views of their disks, ``books`` reads the organisation's state."""
    return {
        TRANSACTIONS: Sender(me.node, genesis_hash, ledger, views[TRANSACTIONS], now=now, wall_ms=wall_ms),
        PAYING: Paying(me, genesis_hash, terms.budget, ledger, views[PAYING], now=now, wall_ms=wall_ms),
        EARNING: Earnings(me, ledger, books, views[EARNING], now=now, credit_micro=terms.credit_micro, redeem_s=terms.redeem_s),
    }
