"""The queue in front of an agent: how many calls it is given at once, and whose turn is next.

An agent that is given all calls at once queues them inside its own process, in an order of its own, or fails. So it is given as many as its
file says (``concurrency``, for each replica), and the others wait here. Next is a call of the organisation that has the fewest running, so
that nobody gets more by asking more; among equals the more urgent call, then the earlier one. A priority is chosen by whoever calls: it
orders an organisation's own calls, and does not take another organisation's turns. Full is ``busy``, and no organisation has more places
than are left for all others.
"""

from collections import Counter
from collections.abc import Hashable
from typing import TypeAlias

from meshos.errors import busy
from meshos.ids import OrgDid

Ticket: TypeAlias = Hashable
"""Names one call; chosen by whoever enters it, unique among those that are here."""

_Line: TypeAlias = tuple[OrgDid, int]
"""The calls of one organisation with one priority."""


class CallQueue:
    """One agent's. Knows no clock: a call that has waited too long leaves."""

    def __init__(self, slots: int, places: int) -> None:
        self._slots = slots
        self._places = places
        self._running: dict[Ticket, OrgDid] = {}
        self._running_of: Counter[OrgDid] = Counter()
        self._waiting: dict[Ticket, _Line] = {}
        self._waiting_of: Counter[OrgDid] = Counter()
        self._lines: dict[_Line, dict[Ticket, int]] = {}  # in the order of arrival, which is counted in ``_arrivals``
        self._arrivals = 0

    def enter(self, ticket: Ticket, org: OrgDid, priority: int) -> bool:
        """Whether the call runs now; if not, ``leave`` or ``resize`` will name it when its turn has come. Raises Refused ``busy``."""
        if len(self._running) < self._slots and not self._waiting:
            self._run(ticket, org)
            return True
        if self._waiting_of[org] >= self._places - len(self._waiting):
            raise busy("the queue of calls to this agent")
        self._arrivals += 1
        self._waiting[ticket] = (org, priority)
        self._waiting_of[org] += 1
        self._lines.setdefault((org, priority), {})[ticket] = self._arrivals
        return False

    def leave(self, ticket: Ticket) -> list[Ticket]:
        """The call has ended, or waits no longer. Gives those whose turn it is now."""
        org = self._running.pop(ticket, None)
        if org is not None:
            _one_less(self._running_of, org)
            return self._next()
        self._no_longer_waits(ticket)
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
            line = min(self._lines, key=self._rank)
            ticket = next(iter(self._lines[line]))
            self._no_longer_waits(ticket)
            self._run(ticket, line[0])
            chosen.append(ticket)
        return chosen

    def _rank(self, line: _Line) -> tuple[int, int, int]:
        org, priority = line
        return self._running_of[org], -priority, next(iter(self._lines[line].values()))

    def _run(self, ticket: Ticket, org: OrgDid) -> None:
        self._running[ticket] = org
        self._running_of[org] += 1

    def _no_longer_waits(self, ticket: Ticket) -> None:
        line = self._waiting.pop(ticket, None)
        if line is None:
            return
        _one_less(self._waiting_of, line[0])
        del self._lines[line][ticket]
        if not self._lines[line]:
            del self._lines[line]


def _one_less(counts: Counter[OrgDid], org: OrgDid) -> None:
    counts[org] -= 1
    if not counts[org]:
        del counts[org]
