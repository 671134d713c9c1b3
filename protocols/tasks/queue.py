"""The queue in front of an agent: how many calls it is given at once, and whose turn is next.

An agent that is given all calls at once queues them inside its own process, in an order of its own, or fails. So it is given as many as its
file says (``concurrency``, for each replica), and the others wait here. Next is the organisation that has the fewest running, so that
nobody gets more by asking more; among those with as many, the one whose last call ended, or who came, the longest ago. Of its calls the
most urgent is next, then the earliest. A priority is chosen by whoever calls, so it says nothing between organisations. Full is
``busy``, and no organisation has more places than are left for all others.
"""

from collections import Counter
from collections.abc import Hashable
from typing import TypeAlias

from meshos.errors import busy
from meshos.ids import OrgDid

Ticket: TypeAlias = Hashable
"""Names one call; chosen by whoever enters it, unique among those that are here."""


class CallQueue:
    """One agent's. Knows no clock: a call that has waited too long leaves."""

    def __init__(self, slots: int, places: int) -> None:
        self._slots = slots
        self._places = places
        self._running: dict[Ticket, OrgDid] = {}
        self._running_of: Counter[OrgDid] = Counter()
        self._waiting: dict[Ticket, tuple[OrgDid, int]] = {}
        self._waiting_of: Counter[OrgDid] = Counter()
        self._lines: dict[OrgDid, dict[int, dict[Ticket, None]]] = {}  # who waits, by priority, in the order of arrival
        self._turns: dict[OrgDid, None] = {}  # who runs or waits; at the end whose call ended, or who came, last. Who is gone comes as new

    def enter(self, ticket: Ticket, org: OrgDid, priority: int) -> bool:
        """Whether the call runs now; if not, ``leave`` or ``resize`` will name it when its turn has come. Raises Refused ``busy``."""
        if len(self._running) < self._slots and not self._waiting:
            self._run(ticket, org)
            return True
        if self._waiting_of[org] >= self._places - len(self._waiting):
            raise busy("the queue of calls to this agent")
        self._turns.setdefault(org)
        self._waiting[ticket] = (org, priority)
        self._waiting_of[org] += 1
        self._lines.setdefault(org, {}).setdefault(priority, {})[ticket] = None
        return False

    def leave(self, ticket: Ticket) -> list[Ticket]:
        """The call has ended, or waits no longer. Gives those whose turn it is now."""
        org = self._running.pop(ticket, None)
        if org is not None:
            _one_less(self._running_of, org)
            del self._turns[org]
            if org in self._running_of or org in self._waiting_of:
                self._turns[org] = None
            return self._next()
        if ticket in self._waiting:
            org = self._no_longer_waits(ticket)
            if org not in self._running_of and org not in self._waiting_of:
                del self._turns[org]
        return []

    def resize(self, slots: int) -> list[Ticket]:
        """The agent may be given so many calls. Gives those whose turn it is now."""
        self._slots = slots
        return self._next()

    def statistics(self) -> dict[str, int]:
        """Calls that run and that wait."""
        return {"running": len(self._running), "waiting": len(self._waiting)}

    def _next(self) -> list[Ticket]:
        chosen: list[Ticket] = []
        while self._waiting and len(self._running) < self._slots:
            org = min((org for org in self._turns if org in self._lines), key=self._running_of.__getitem__)
            lines = self._lines[org]
            ticket = next(iter(lines[max(lines)]))
            self._no_longer_waits(ticket)
            self._run(ticket, org)
            chosen.append(ticket)
        return chosen

    def _run(self, ticket: Ticket, org: OrgDid) -> None:
        self._turns.setdefault(org)
        self._running[ticket] = org
        self._running_of[org] += 1

    def _no_longer_waits(self, ticket: Ticket) -> OrgDid:
        org, priority = self._waiting.pop(ticket)
        _one_less(self._waiting_of, org)
        lines = self._lines[org]
        del lines[priority][ticket]
        if not lines[priority]:
            del lines[priority]
        if not lines:
            del self._lines[org]
        return org


def _one_less(counts: Counter[OrgDid], org: OrgDid) -> None:
    counts[org] -= 1
    if not counts[org]:
        del counts[org]
