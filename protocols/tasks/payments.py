"""What a provider asks before and after it runs a task: may this caller spend so much, and what does it owe now?

Payment stays out of the call's path (DESIGN.md, 'A task, exactly'): nothing here waits for a ledger round.
"""

from typing import Protocol

from meshos.consensus.org.commands import Intent, Status
from meshos.errors import Refused
from meshos.flow import Propose
from meshos.ids import OrgDid, Peer, TaskId
from meshos.protocols.payments.commands import EARNING, Accept, Accepted, Admit, Release
from meshos.protocols.payments.voucher import Voucher
from meshos.protocols.tasks import amounts


class Payments(Protocol):
    """Amounts are millionths of a MESH."""

    async def admit(self, intent: Intent, budget_micro: int | None) -> None:
        """A Flow: return if the caller may spend the price of ``intent``; raises Refused with the reason. Nothing was run yet."""
        ...

    def due(self, intent: Intent, status: Status) -> int:
        """What the caller owes now that its task ended so; recorded with the outcome."""
        ...

    async def ended(self, intent: Intent) -> None:
        """A Flow: the outcome of ``intent``, which was admitted, is recorded."""
        ...

    async def accept(self, caller: Peer, voucher: Voucher | None, leaves: tuple[tuple[TaskId, bytes], ...]) -> Accepted:
        """A Flow: see ``protocols.payments.commands.Accept``; all signatures were verified."""
        ...


class OwedOnly:
    """For a node without a ledger: a caller's own budget is kept, and what would be owed is recorded (``GetOwed``). Nobody pays."""

    __slots__ = ()

    async def admit(self, intent: Intent, budget_micro: int | None) -> None:
        """See ``Payments.admit``."""
        check_budget(intent, budget_micro)

    def due(self, intent: Intent, status: Status) -> int:
        """See ``Payments.due``: a completed task costs its price, any other nothing."""
        return intent.price_micro if status == "completed" else 0

    async def ended(self, intent: Intent) -> None:
        """See ``Payments.ended``."""

    async def accept(self, caller: Peer, voucher: Voucher | None, leaves: tuple[tuple[TaskId, bytes], ...]) -> Accepted:
        """See ``Payments.accept``: vouchers are worth nothing here."""
        return Accepted(0, "" if voucher is None else "tab-not-open")


class OnCredit:
    """With a ledger: other organisations owe up to their credit, and pay by voucher (the machine "earning"). An organisation's own calls
    cost it nothing but what its receipts say.
    """

    __slots__ = ("_org",)

    def __init__(self, org: OrgDid) -> None:
        self._org = org

    async def admit(self, intent: Intent, budget_micro: int | None) -> None:
        """See ``Payments.admit``; raises Refused ``over-budget`` or ``unpaid``."""
        check_budget(intent, budget_micro)
        if self._is_paid(intent):
            await Propose[None](Admit(intent.task, intent.caller, intent.price_micro), to=EARNING)

    def due(self, intent: Intent, status: Status) -> int:
        """See ``Payments.due``: a completed task costs its price, any other nothing."""
        return intent.price_micro if status == "completed" else 0

    async def ended(self, intent: Intent) -> None:
        """See ``Payments.ended``."""
        if self._is_paid(intent):
            await Propose[None](Release(intent.task, intent.caller.org), to=EARNING)

    async def accept(self, caller: Peer, voucher: Voucher | None, leaves: tuple[tuple[TaskId, bytes], ...]) -> Accepted:
        """See ``Payments.accept``."""
        if caller.org == self._org:
            return Accepted(0)
        return await Propose[Accepted](Accept(caller, voucher, leaves), to=EARNING)

    def _is_paid(self, intent: Intent) -> bool:
        return intent.price_micro > 0 and intent.caller.org != self._org


def check_budget(intent: Intent, budget_micro: int | None) -> None:
    """Raise Refused ``over-budget`` if the caller would not spend the price."""
    if budget_micro is not None and intent.price_micro > budget_micro:
        raise Refused(
            "over-budget",
            f"the task costs {amounts.mesh(intent.price_micro)} MESH, the caller gives at most {amounts.mesh(budget_micro)} MESH",
            hint="see its price with `mesh discover` (it may be new), raise --budget, or find a cheaper agent with --max-price",
        )
