"""What simulated clients saw: written down as it happens, and decided at the end of a run.

    history = History(lambda: world.now)
    token = history.invoke("client-1", Write(3))      # when it is sent
    history.ok(token, None)                           # it answered
    history.fail(token)                               # it surely did not happen and never will
    history.info(token)                               # nobody knows: a timeout, a crash; also for reads

What is left open at the end counts as unknown. A client that goes on after ``info`` may do so under the same name: the operation of
unknown outcome stays open beside the next one.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from meshos.simulations.conflict import explain
from meshos.simulations.linearizability import LIMIT, UNKNOWN, Model, Operation, check
from meshos.simulations.world import SimNode, Violation, World

S = TypeVar("S", bound=Hashable)


@dataclass(slots=True)
class _Entry:
    process: Hashable
    op: Hashable
    invoked: int
    invoked_s: float
    returned: int | None = None
    result: object = UNKNOWN
    ended: bool = False
    failed: bool = False


class History:
    """Operations in the order in which they began and ended: that order is what is compared, ``now`` is for people."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._entries: list[_Entry] = []
        self._moments = 0

    def invoke(self, process: Hashable, op: Hashable) -> int:
        """``process`` has sent ``op``; gives the token under which its outcome is told, once."""
        self._entries.append(_Entry(process, op, self._moment(), self._now()))
        return len(self._entries) - 1

    def ok(self, token: int, result: object) -> None:
        """It has happened, and gave ``result``."""
        entry = self._end(token)
        entry.returned, entry.result = self._moment(), result

    def fail(self, token: int) -> None:
        """It has not happened, and never will."""
        self._end(token).failed = True

    def info(self, token: int) -> None:
        """It has happened, will happen, or will not: nobody knows."""
        self._end(token)

    def operations(self) -> list[Operation]:
        """What there is to check: all but what surely did not happen."""
        return [Operation(e.process, e.op, e.result, e.invoked, e.returned) for e in self._entries if not e.failed]

    def acknowledged(self) -> list[Operation]:
        """Those that have happened for sure."""
        return [operation for operation in self.operations() if operation.returned is not None]

    def began_s(self, operation: Operation) -> float:
        """When ``operation`` was sent, on the clock of this history."""
        return next(entry.invoked_s for entry in self._entries if entry.invoked == operation.invoked)

    def _moment(self) -> int:
        self._moments += 1
        return self._moments

    def _end(self, token: int) -> _Entry:
        entry = self._entries[token]
        if entry.ended:
            raise ValueError(f"the outcome of {entry.op!r} was told before")
        entry.ended = True
        return entry


class Linearizable(Generic[S]):
    """A Checker: in the end, what clients saw in ``history`` is what ``model`` could have answered.

    A history that is too hard to decide is no violation; it shows in the figures.
    """

    def __init__(self, history: History, model: Model[S], *, limit: int = LIMIT) -> None:
        self._history, self._model, self._limit = history, model, limit
        self.figures: dict[str, float] = {}

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """See ``Checker``."""

    def finish(self, world: World) -> None:
        """See ``Checker``."""
        operations = self._history.operations()
        verdict = check(operations, self._model, limit=self._limit)
        self.figures = {
            "operations checked": len(operations),
            "of unknown outcome": sum(operation.returned is None for operation in operations),
            "histories undecided": verdict.answer == "undecided",
        }
        if verdict.conflict is not None:
            began_s = self._history.began_s(verdict.conflict.failing)
            raise Violation("safety", f"not linearizable, seen at {began_s:.3f} s\n{explain(verdict.conflict, self._model)}")


class Kept:
    """A Checker: in the end, everything in ``history`` that was acknowledged is there, as ``there(operation)`` finds it."""

    def __init__(self, history: History, there: Callable[[Operation], bool]) -> None:
        self._history, self._there = history, there
        self.figures: dict[str, float] = {}

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """See ``Checker``."""

    def finish(self, world: World) -> None:
        """See ``Checker``."""
        acknowledged = self._history.acknowledged()
        self.figures = {"operations acknowledged": len(acknowledged)}
        lost = [operation for operation in acknowledged if not self._there(operation)]
        if lost:
            said = f"{lost[0].op!r} -> {lost[0].result!r} of {lost[0].process}, {self._history.began_s(lost[0]):.3f} s"
            raise Violation("safety", f"{len(lost)} of {len(acknowledged)} acknowledged operations are lost, the first: {said}")
