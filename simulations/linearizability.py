"""Is there an order in which these operations, each at one moment between its call and its return, give what was answered?

That is linearizability (Herlihy & Wing 1990), decided against a sequential model for a history of what clients saw. Finding the
order is NP-complete (Gibbons & Korach 1997); histories of real clients are mostly easy, and the search is bounded: beyond its limit
the answer is ``undecided``.

Theory of operation. The search of Wing & Gong (1993), in the just-in-time form of Lowe (2017): go through the returns in the order
of time; an operation takes effect at the latest when it returns, and others only if that needs them to. A *configuration* is how far
we are, the model's state, and which of the pending operations have taken effect. It is searched depth first; what was met once is not
searched again (Lowe's memoisation). Three observations keep it small:

- What only looks (the model says what: a read, a compare-and-set that failed), is pending and fits now takes effect at once, without a
  branch: any order in which it comes later stays one if it comes now. (A write of what is there already does not: it may be needed
  later, when something else is there.)
- An operation whose outcome nobody learnt may have happened at any time after its call, or never. Of two configurations that differ
  in these alone, the one that has used fewer of them can do all that the other can.
- Of equal operations of unknown outcome the one that was called first goes first.

Registers of different names do not know of each other, so a history is split by key where the model says so, and each part is decided
alone (Herlihy & Wing's locality).

If a history is not linearizable, the return that no configuration gets beyond ends the shortest prefix that is wrong. Of its
operations those are kept that the contradiction needs: with the outcome of any of them unknown it would be gone (``core``).
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeAlias, TypeVar

S = TypeVar("S", bound=Hashable)

Answer = Literal["ok", "violation", "undecided"]

LIMIT = 200_000
"""Configurations looked at for one part of a history: some seconds, and 100 MB."""
CORE_STEPS = 30_000
"""Steps of the model for all tries to do without an operation, together. What was not tried by then is kept."""
TRY_STEPS = 3_000
"""The same for one of them; one that ends undecided keeps the operation."""
REACHED = 4
"""Of the configurations that got farthest, how many are told."""


class _Unknown:
    """The one value of its kind."""

    def __repr__(self) -> str:
        return "unknown"


UNKNOWN = _Unknown()
"""What a model is given as the result of an operation whose outcome nobody learnt: every result fits."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What one client did. ``returned`` is None where nobody learnt the outcome; the times need only be in order.

    Two operations of which one returned before the other was called are in that order; at equal times they overlap. What surely did
    not happen is in no history. ``op`` is hashable.
    """

    process: Hashable
    op: Hashable
    result: object
    invoked: float
    returned: float | None


@dataclass(frozen=True, slots=True)
class Model(Generic[S]):
    """A sequential object: its first state, and what it does.

    ``step(state, op, result)`` says whether ``op`` may give ``result`` in ``state`` (with ``UNKNOWN``: yes, unless it cannot happen at
    all), and the state after it. It is a pure function, and a state that compares equal to another behaves as that one.
    ``split`` cuts a history into parts that have nothing to do with each other; ``show`` writes an operation for people. ``looks`` says
    of an operation with this result that it leaves every state as it is in which it fits; what it does not say costs time, and no more.
    """

    name: str
    init: S
    step: Callable[[S, Hashable, object], tuple[bool, S]]
    split: Callable[[Sequence[Operation]], Iterable[Sequence[Operation]]] = lambda history: [history]
    looks: Callable[[Hashable, object], bool] = lambda op, result: False
    show: Callable[[Hashable, object], str] = lambda op, result: f"{op!r} -> {result!r}"


@dataclass(frozen=True, slots=True)
class Reached:
    """One way to explain what comes before the operation that does not fit: an order, and the state it leaves."""

    order: tuple[Operation, ...]
    state: object


@dataclass(frozen=True, slots=True)
class Conflict:
    """Why a history is not linearizable. No order explains all of ``core``; ``failing`` is that of them whose return comes last in the
    shortest wrong prefix. ``pending`` were under way then. ``reached`` are ways to explain all that returned before.
    """

    failing: Operation
    core: tuple[Operation, ...]
    pending: tuple[Operation, ...]
    reached: tuple[Reached, ...]
    part: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found. ``orders``: if ok, for each part an order that explains it. ``visited``: configurations looked at."""

    answer: Answer
    visited: int
    orders: tuple[tuple[Operation, ...], ...] = ()
    conflict: Conflict | None = None


def check(history: Sequence[Operation], model: Model[S], *, limit: int = LIMIT, core: bool = True) -> Verdict:
    """Decide ``history``. A part that violates is told even where others are undecided. Without ``core`` no operation is tried to do
    without, and the core is all that was called by then."""
    visited = 0
    orders: list[tuple[Operation, ...]] = []
    undecided = False
    for number, part in enumerate(model.split(history)):
        search = _Search(part, model)
        answer = search.run(limit)
        visited += search.visited
        if answer == "violation":
            conflict = Conflict(
                search.failing(), _core(search, model, CORE_STEPS if core else 0), search.pending(), search.reached(), number
            )
            return Verdict("violation", visited, conflict=conflict)
        undecided |= answer == "undecided"
        orders.append(search.order())
    return Verdict("undecided", visited) if undecided else Verdict("ok", visited, tuple(orders))


def by_key(key: Callable[[Hashable], Hashable]) -> Callable[[Sequence[Operation]], list[list[Operation]]]:
    """Split a history by the key that each operation is about."""

    def split(history: Sequence[Operation]) -> list[list[Operation]]:
        parts: dict[Hashable, list[Operation]] = {}
        for operation in history:
            parts.setdefault(key(operation.op), []).append(operation)
        return list(parts.values())

    return split


_Order: TypeAlias = "tuple[_Order, int] | None"
"""Which operations have taken effect, the last one first: a list that many configurations share."""

_Configuration: TypeAlias = tuple[int, S, int, _Order]
"""How many returns were passed; the state; a bit for each operation that has taken effect (and has not returned); their order."""


class _Search(Generic[S]):
    """One part of a history, and how far its search has come."""

    def __init__(self, part: Sequence[Operation], model: Model[S]) -> None:
        self.operations = part
        self._model = model
        self.visited = self.steps = 0
        self._returns = _in_order_of_return(part)
        self._pending = [list(found) for found in _pending_at(part, self._returns)]
        self._unknown = sum(1 << index for index, operation in enumerate(part) if operation.returned is None)
        self._twins = _twins(part)
        self._looks = [operation.returned is not None and model.looks(operation.op, operation.result) for operation in part]
        self._found: _Order = None
        self._farthest: list[_Configuration[S]] = []

    def run(self, limit: int, steps: int | None = None) -> Answer:
        """Search until an order is found, nothing is left, or ``limit`` configurations or ``steps`` of the model were made."""
        stack: list[_Configuration[S]] = [(0, self._model.init, 0, None)]
        # How far, state and known operations in effect -> the unknown ones that were in effect as well, each time it was met.
        met: dict[tuple[int, S, int], list[int]] = {}
        while stack:
            if self.visited >= limit or (steps is not None and self.steps >= steps):
                return "undecided"
            self.visited += 1
            configuration, moves = self._settle(*stack.pop())
            passed, state, effective, order = configuration
            if passed == len(self._returns):
                self._found = order
                return "ok"
            key, used = (passed, state, effective & ~self._unknown), effective & self._unknown
            before = met.setdefault(key, [])
            if any(not earlier & ~used for earlier in before):
                continue
            before.append(used)
            self._remember(configuration)
            stack += [(passed, after, effective | 1 << index, (order, index)) for after, index in reversed(moves)]
        return "violation"

    def _settle(self, passed: int, state: S, effective: int, order: _Order) -> tuple[_Configuration[S], list[tuple[S, int]]]:
        """Pass every return that is explained, let all that changes nothing take effect; and what else may happen then."""
        while True:
            while passed < len(self._returns) and effective >> self._returns[passed] & 1:
                effective &= ~(1 << self._returns[passed])
                passed += 1
            moves: list[tuple[S, int]] = []
            if passed == len(self._returns):
                return (passed, state, effective, order), moves
            for index in self._pending[passed]:
                if effective >> index & 1 or not self._its_turn(index, effective):
                    continue
                operation = self.operations[index]
                unknown = operation.returned is None
                self.steps += 1
                fits, after = self._model.step(state, operation.op, UNKNOWN if unknown else operation.result)
                if not fits or (unknown and after == state):
                    continue
                if self._looks[index]:
                    effective |= 1 << index
                    order = (order, index)
                else:
                    moves.append((after, index))
            if not effective >> self._returns[passed] & 1:
                return (passed, state, effective, order), moves

    def _its_turn(self, index: int, effective: int) -> bool:
        """Whether no equal operation of unknown outcome was called before and has not taken effect."""
        twin = self._twins[index]
        return twin is None or bool(effective >> twin & 1)

    def _remember(self, configuration: _Configuration[S]) -> None:
        farthest = self._farthest[0][0] if self._farthest else -1
        if configuration[0] > farthest:
            self._farthest = [configuration]
        elif configuration[0] == farthest and len(self._farthest) < REACHED:
            self._farthest.append(configuration)

    # -- what was found ----------------------------------------------------------------------------------------------

    def order(self) -> tuple[Operation, ...]:
        """The order that explains everything."""
        return self._listed(self._found)

    def failing(self) -> Operation:
        """The operation whose return nothing explains."""
        return self.operations[self._returns[self._farthest[0][0]]]

    def pending(self) -> tuple[Operation, ...]:
        """What was under way when it returned, itself left out."""
        passed = self._farthest[0][0]
        return tuple(self.operations[index] for index in self._pending[passed] if index != self._returns[passed])

    def reached(self) -> tuple[Reached, ...]:
        """How far one gets."""
        return tuple(Reached(self._listed(order), state) for _, state, _, order in self._farthest)

    def _listed(self, order: _Order) -> tuple[Operation, ...]:
        found: list[Operation] = []
        while order is not None:
            order, index = order
            found.append(self.operations[index])
        return tuple(reversed(found))


def _in_order_of_return(part: Sequence[Operation]) -> list[int]:
    known = [(operation.returned, index) for index, operation in enumerate(part) if operation.returned is not None]
    return [index for _, index in sorted(known)]


def _pending_at(part: Sequence[Operation], returns: Sequence[int]) -> Iterator[Iterator[int]]:
    """For each return, what was called by then and had not returned: in the order of the returns, the unknown ones last."""
    unknown = sorted((operation.invoked, index) for index, operation in enumerate(part) if operation.returned is None)
    order = [*returns, *(index for _, index in unknown)]
    for passed, returning in enumerate(returns):
        until = part[returning].returned
        assert until is not None
        yield (index for index in order[passed:] if part[index].invoked <= until)


def _twins(part: Sequence[Operation]) -> list[int | None]:
    """For each operation of unknown outcome the equal one that was called just before it, if there is one."""
    twins: list[int | None] = [None] * len(part)
    last: dict[Hashable, int] = {}
    for _, index in sorted((operation.invoked, index) for index, operation in enumerate(part) if operation.returned is None):
        twins[index] = last.get(part[index].op)
        last[part[index].op] = index
    return twins


def _core(search: _Search[S], model: Model[S], limit: int) -> tuple[Operation, ...]:
    """The operations of the shortest wrong prefix that the contradiction needs, in the order of their calls.

    One is done without by taking its outcome for unknown, not by leaving it out: so what is left is a contradiction of the history as
    it was. Halves are tried first, as in delta debugging (Zeller & Hildebrandt 2002).
    """
    failing = search.failing()
    assert failing.returned is not None
    prefix = sorted((operation for operation in search.operations if operation.invoked <= failing.returned), key=lambda o: o.invoked)
    known = [operation for operation in prefix if operation.returned is not None and operation is not failing]
    chunk = len(known)
    steps = 0
    while chunk and steps < limit:
        for start in range(0, len(known), chunk):
            left_out = known[start : start + chunk]
            relaxed = [_forgotten(operation) if operation in left_out else operation for operation in prefix]
            tried = _Search(relaxed, model)
            if steps < limit and tried.run(LIMIT, TRY_STEPS) == "violation":
                prefix = relaxed
            steps += tried.steps
        known = [operation for operation in prefix if operation.returned is not None and operation is not failing]
        chunk = chunk // 2 if chunk > 1 else 0
    return tuple(operation for operation in prefix if operation.returned is not None)


def _forgotten(operation: Operation) -> Operation:
    return replace(operation, result=UNKNOWN, returned=None)
