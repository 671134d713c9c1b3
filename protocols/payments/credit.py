"""How much callers may owe: what is recorded as owed, less what their vouchers cover, and what the calls under way may add.

    unpaid + held + price <= credit        or nothing is unpaid or held: so a call dearer than the credit can be made, one at a time

A call that does not fit waits for a voucher where its caller's tab holds enough for all of that, else it is refused at once.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from meshos.errors import Refused
from meshos.ids import OrgDid, TaskId
from meshos.protocols.payments.books import Books
from meshos.protocols.payments.commands import Admit
from meshos.protocols.tasks.amounts import mesh


@dataclass(slots=True)
class Waiter:
    """A call that waits until ``until``; ``asker`` is told."""

    asker: tuple[str, int]
    admit: Admit
    until: float


@dataclass(slots=True)
class Account:
    """One organisation that calls. ``paid``: what its vouchers cover in all; ``held``: what its calls under way may cost."""

    org: OrgDid
    paid: int
    window: float
    """Since when ``low`` is looked at."""
    low: int
    """The least that was unpaid since then: what no voucher of all that time has covered."""
    held: dict[TaskId, int] = field(default_factory=dict)
    held_micro: int = 0
    waiters: deque[Waiter] = field(default_factory=deque)

    def unpaid(self, books: Books) -> int:
        """What is owed and not covered."""
        return max(0, books.owed_micro(self.org) - self.paid)

    def takes(self, admit: Admit, credit: int, books: Books) -> bool:
        """Whether the call can be made now; then it is held."""
        if not self._fits(admit.micro, credit, books):
            self.sweep(books)
            if not self._fits(admit.micro, credit, books):
                return False
        if admit.task not in self.held:
            self.held[admit.task] = admit.micro
            self.held_micro += admit.micro
        return True

    def refusal(self, credit: int, books: Books) -> Refused:
        """What a caller hears that cannot be admitted."""
        owes, held = mesh(self.unpaid(books)), mesh(self.held_micro)
        what = f"{self.org} owes {owes} MESH here without a voucher, and {held} MESH for calls under way; its credit is {mesh(credit)} MESH"
        hint = "its node pays by itself while it has MESH and its limits allow it: see `mesh wallet` there; then call again"
        return Refused("unpaid", what, hint=hint)

    def release(self, task: TaskId) -> None:
        """The call has ended."""
        self.held_micro -= self.held.pop(task, 0)

    def sweep(self, books: Books) -> None:
        """Release those that have ended without a word (their Flow was cancelled)."""
        for task in [task for task in self.held if not books.is_open(task)]:
            self.release(task)

    def _fits(self, micro: int, credit: int, books: Books) -> bool:
        owes = self.unpaid(books) + self.held_micro
        return not owes or owes + micro <= credit

    def look(self, books: Books) -> None:
        """Take in what is unpaid now."""
        self.low = min(self.low, self.unpaid(books))

    def write_off(self, now: float, books: Books) -> int:
        """Begin another window; gives what was unpaid all through the last one, which counts as paid from now on."""
        self.look(books)
        lost, self.paid = self.low, self.paid + self.low
        self.window, self.low = now, self.unpaid(books)
        return lost

    def expired(self, now: float) -> Iterator[Waiter]:
        """Those that have waited long enough, taken away: they came in the order of their ends."""
        while self.waiters and self.waiters[0].until <= now:
            yield self.waiters.popleft()
