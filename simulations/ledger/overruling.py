"""What people have said of decisions, counted anew from what is decided, and what must hold of it.

Nothing is executed that people with enough power have rejected, unless they approve it later; nothing is taken back unless they want it;
and while a person has paused autonomy nothing is executed but what people approve.
"""

from collections import Counter

from meshos.consensus.ledger.approvals import APPROVE, EXECUTED, REJECT, REJECTED, REVERSE, REVERSED, Decision, Judge
from meshos.consensus.ledger.people import Pause
from meshos.genesis import Genesis
from meshos.simulations.world import Violation

STILL = {EXECUTED: REVERSE, REJECTED: APPROVE}
"""What can be said of a decision that has ended so, and may have been in the block in which it did; all else was for the step before."""


class Overruling:
    """See the module's text. ``genesis`` has one chamber with seats, so that each seat has the same power."""

    def __init__(self, genesis: Genesis) -> None:
        self._seats = Counter(seat.key for seat in genesis.governance.seats)
        self._percent = genesis.governance.override_percent
        self._said: dict[bytes, dict[str, str]] = {}
        self._ruled: dict[bytes, str] = {}
        self._pauses: list[tuple[int, int]] = []
        self.figures: dict[str, float] = dict.fromkeys(("pauses", "overruled by people", "taken back by people"), 0)

    def judged(self, person: str, judge: Judge) -> None:
        """``person`` said so, and it was taken."""
        said = self._said.setdefault(judge.decision, {})
        said[person] = judge.act
        power = sum(self._seats[one] for one, act in said.items() if act == judge.act)
        if power * 100 >= self._percent * self._seats.total():
            self._ruled[judge.decision] = judge.act
            self.figures["overruled by people"] += 1
            said.clear()

    def paused(self, pause: Pause, time_ms: int) -> None:
        """A person paused autonomy, in the block of that time."""
        begin = max(time_ms, self._pauses[-1][1] if self._pauses else 0)
        self._pauses.append((begin, begin + pause.for_ms))
        self.figures["pauses"] += 1

    def ended(self, id_: bytes, decision: Decision) -> bool:
        """It has another status than before; whether that is what people wanted."""
        still = STILL.get(decision.status, "")
        self._said[id_] = {person: act for person, act in self._said.get(id_, {}).items() if act == still}
        ruled, name = self._ruled.get(id_, ""), id_.hex()
        if decision.status == REVERSED:
            if ruled != REVERSE:
                raise Violation("safety", f"decision {name} is taken back, and people have not said so")
            self.figures["taken back by people"] += 1
        if decision.status == EXECUTED:
            if ruled == REJECT:
                raise Violation("safety", f"decision {name} is executed, and people have rejected it")
            if ruled != APPROVE and any(begin < decision.ended_ms < end for begin, end in self._pauses):
                raise Violation("safety", f"decision {name} is executed while autonomy is paused")
        return ruled == APPROVE
