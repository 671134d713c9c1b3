"""Linearizability as Herlihy & Wing (1990) define it: against brute force on small histories, and by their own examples."""

import itertools
from collections.abc import Hashable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.simulations.conflict import explain
from meshos.simulations.history import History, Kept, Linearizable
from meshos.simulations.linearizability import UNKNOWN, Model, Operation, check
from meshos.simulations.models import (
    Add,
    Cas,
    Elements,
    Increase,
    Read,
    Remove,
    Total,
    Write,
    counter,
    elements,
    key_values,
    register,
)
from meshos.simulations.world import Violation, World


def _explains(order: Sequence[Operation], model: Model[Hashable]) -> bool:
    """Whether ``order`` keeps the order of time, and the model may answer as it was answered."""
    state = model.init
    for operation in order:
        fits, state = model.step(state, operation.op, UNKNOWN if operation.returned is None else operation.result)
        if not fits:
            return False
    return not any(later.returned is not None and later.returned < earlier.invoked for earlier, later in itertools.combinations(order, 2))


def _brute(history: Sequence[Operation], model: Model[Hashable]) -> bool:
    """By the definition: some completion (each unknown operation there or not) has some order that explains it."""
    known = [operation for operation in history if operation.returned is not None]
    unknown = [operation for operation in history if operation.returned is None]
    return any(
        _explains(order, model)
        for number in range(len(unknown) + 1)
        for there in itertools.combinations(unknown, number)
        for order in itertools.permutations([*known, *there])
    )


VALUES = st.integers(0, 2)
OPS = st.one_of(
    st.tuples(st.just(Read()), st.one_of(st.none(), VALUES)),
    st.tuples(st.builds(Write, VALUES), st.none()),
    st.tuples(st.builds(Cas, VALUES, VALUES), st.booleans()),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Operation]:
    """Up to five operations of a register; some overlap, some outcomes are unknown, times repeat."""
    found = []
    for process in range(draw(st.integers(1, 5))):
        (op, result), invoked, lasting = draw(OPS), draw(st.integers(0, 8)), draw(st.integers(0, 5))
        lost = draw(st.integers(0, 3)) == 0
        found.append(Operation(process, op, UNKNOWN if lost else result, invoked, None if lost else invoked + lasting))
    return found


@settings(max_examples=400, deadline=None)
@given(histories())
def test_the_verdict_is_that_of_the_definition(history: list[Operation]) -> None:
    verdict = check(history, register())
    assert (verdict.answer == "ok") == _brute(history, register())
    if verdict.answer == "ok":
        (order,) = verdict.orders
        assert _explains(order, register())
        assert {o.process for o in history if o.returned is not None} <= {o.process for o in order}


@settings(max_examples=150, deadline=None)
@given(histories())
def test_what_is_named_as_contradictory_is_so_and_needs_each_of_its_operations(history: list[Operation]) -> None:
    conflict = check(history, register()).conflict
    if conflict is None:
        return
    forgotten = [o if o in conflict.core else Operation(o.process, o.op, UNKNOWN, o.invoked, None) for o in history]
    assert not _brute(forgotten, register())
    for spared in conflict.core:
        if spared is not conflict.failing:
            assert _brute([o if o is not spared else Operation(o.process, o.op, UNKNOWN, o.invoked, None) for o in forgotten], register())
    for reached in conflict.reached:
        assert _explains(reached.order, register())
        assert conflict.failing not in reached.order


def _in_turn(*steps: tuple[Hashable, object]) -> list[Operation]:
    return [Operation("a", op, result, 2 * number, 2 * number + 1) for number, (op, result) in enumerate(steps)]


def test_a_read_must_not_miss_a_write_that_returned_before_it() -> None:
    assert check(_in_turn((Write(1), None), (Read(), 1)), register()).answer == "ok"
    assert check(_in_turn((Write(1), None), (Read(), None)), register()).answer == "violation"


def test_operations_that_overlap_take_effect_in_either_order() -> None:
    for seen in (1, 2):
        history = [Operation("a", Write(1), None, 0, 5), Operation("b", Write(2), None, 1, 4), Operation("c", Read(), seen, 6, 7)]
        assert check(history, register()).answer == "ok"


def test_two_reads_that_overlap_one_write_do_not_go_back() -> None:
    """Herlihy & Wing, section 1: a register's reads do not see the new value and then the old one."""
    history = [Operation("a", Write(1), None, 0, 9), Operation("b", Read(), 1, 1, 2), Operation("c", Read(), None, 3, 4)]
    assert check(history, register()).answer == "violation"


def test_a_write_of_unknown_outcome_may_happen_late_or_never_but_not_before_its_call() -> None:
    lost = Operation("a", Write(7), UNKNOWN, 2, None)
    assert check([lost, Operation("b", Read(), None, 5, 6), Operation("b", Read(), 7, 7, 8)], register()).answer == "ok"
    assert check([lost, Operation("b", Read(), None, 5, 6)], register()).answer == "ok"
    assert check([lost, Operation("b", Read(), 7, 0, 1)], register()).answer == "violation"
    twice = [Operation("b", Read(), 7, 5, 6), Operation("b", Write(1), None, 7, 8), Operation("b", Read(), 7, 9, 10)]
    assert check([lost, *twice], register()).answer == "violation", "it happens once"


def test_a_write_of_what_is_there_may_be_needed_later() -> None:
    writes = [Operation("a", Write(0), None, 0, 9), Operation("b", Write(0), None, 0, 9)]
    swap = Operation("c", Cas(0, 1), True, 0, 9)
    assert check([*writes, swap, Operation("d", Read(), 0, 10, 11)], register()).answer == "ok"


def test_keys_are_decided_apart() -> None:
    fine = _in_turn((Write(1, "x"), None), (Write(2, "y"), None), (Read("x"), 1), (Cas(2, 3, "y"), True), (Read("y"), 3))
    verdict = check(fine, key_values())
    assert verdict.answer == "ok" and len(verdict.orders) == 2
    wrong = check([*fine, Operation("b", Read("y"), 1, 20, 21)], key_values())
    assert wrong.conflict is not None and all("'x'" not in repr(o.op) for o in wrong.conflict.core)


def test_a_set_and_a_counter() -> None:
    assert check(_in_turn((Add(1), True), (Add(1), False), (Elements(), frozenset({1})), (Remove(1), True)), elements()).answer == "ok"
    assert check(_in_turn((Add(1), None), (Elements(), frozenset())), elements()).answer == "violation"
    assert check(_in_turn((Increase(), 1), (Increase(2), None), (Total(), 3)), counter()).answer == "ok"
    assert check(_in_turn((Increase(), 1), (Increase(), 1)), counter()).answer == "violation"


def test_many_lost_writes_cost_no_more_than_they_are_different() -> None:
    lost = [Operation(f"lost-{number}", Write(number % 3), UNKNOWN, number, None) for number in range(60)]
    reads = [Operation("r", Read(), number % 3, 100 + 2 * number, 101 + 2 * number) for number in range(30)]
    assert check([*lost, *reads], register()).answer == "ok"
    verdict = check([*lost, *reads, Operation("r", Read(), 5, 200, 201)], register())
    assert verdict.answer == "violation" and verdict.visited < 5_000


def test_what_is_too_hard_is_undecided_and_never_guessed() -> None:
    hard = [Operation(number, Cas(number, number + 1), True, 0, 100) for number in range(12)]
    assert check([*hard, Operation("w", Write(0), None, 0, 100)], register(), limit=5).answer == "undecided"


def test_a_violation_is_shown_as_lanes_with_what_came_before() -> None:
    history = _in_turn((Write(1), None), (Write(2), None), (Read(), 1))
    history = [Operation(name, o.op, o.result, o.invoked, o.returned) for name, o in zip("abc", history, strict=True)]
    conflict = check([*history, Operation("d", Write(9), UNKNOWN, 1, None)], register()).conflict
    assert conflict is not None
    assert explain(conflict, register()).splitlines() == [
        "register: no order explains these 3 operations",
        "  a  |write(1)|",
        "  b            |write(2)|",
        "  c                      |read() -> 1| x does not fit",
        "of unknown outcome: d: write(9)",
        "before it: write(1), write(2) leave 2",
        "before it: write(1), write(2), write(9) leave 9",
    ]


def test_clients_write_their_history_down_and_the_checker_decides_it() -> None:
    world = World(1)
    history = History(lambda: world.now)
    first, second = history.invoke("a", Write(1)), history.invoke("b", Write(2))
    history.ok(first, None)
    history.fail(second)
    third = history.invoke("b", Write(3))
    history.info(third)
    open_ = history.invoke("c", Write(4))
    assert [operation.returned is None for operation in history.operations()] == [False, True, True]
    checker = Linearizable(history, register())
    checker.finish(world)
    assert checker.figures == {"operations checked": 3, "of unknown outcome": 2, "histories undecided": 0}
    with pytest.raises(ValueError, match="told before"):
        history.ok(first, None)
    kept = Kept(history, lambda operation: operation.op != Write(4))
    kept.finish(world)
    assert kept.figures == {"operations acknowledged": 1}
    history.ok(open_, None)
    with pytest.raises(Violation, match=r"1 of 2 acknowledged operations are lost.*value=4"):
        kept.finish(world)
    history.ok(history.invoke("c", Read()), 1)
    with pytest.raises(Violation, match="no order explains"):
        checker.finish(world)
