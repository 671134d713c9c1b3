"""Paying for tasks: the port that the ledger's tabs and vouchers will stand behind, and the one-node form until then.

Payment stays out of the call's path (DESIGN.md, 'A task, exactly'): nothing here waits for a ledger round.
"""

from typing import Protocol

from meshos.consensus.org.commands import Intent, Status
from meshos.errors import Refused
from meshos.protocols.tasks import amounts


class Payments(Protocol):
    """What a provider asks before and after it runs a task. Amounts are millionths of a MESH."""

    async def admit(self, intent: Intent, budget_micro: int | None) -> None:
        """A Flow: return if the caller may spend the price of ``intent``; raises Refused with the reason. Nothing was run yet."""
        ...

    def due(self, intent: Intent, status: Status) -> int:
        """What the caller owes now that its task ended so; recorded with the outcome."""
        ...


class OwedOnly:
    """Until there is a ledger: a caller's own budget is kept, and what would be owed is recorded (``GetOwed``). Nobody pays."""

    __slots__ = ()

    async def admit(self, intent: Intent, budget_micro: int | None) -> None:
        """See ``Payments.admit``."""
        if budget_micro is not None and intent.price_micro > budget_micro:
            raise Refused(
                "over-budget",
                f"the task costs {amounts.mesh(intent.price_micro)} MESH, the caller gives at most {amounts.mesh(budget_micro)} MESH",
                hint="see its price with `mesh discover` (it may be new), raise --budget, or find a cheaper agent with --max-price",
            )

    def due(self, intent: Intent, status: Status) -> int:
        """See ``Payments.due``: a completed task costs its price, any other nothing."""
        return intent.price_micro if status == "completed" else 0
