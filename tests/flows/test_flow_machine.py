"""Flows: what waits, fans out, hedges and gives up, step by step."""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from meshos.effects import Completed, Err, Ok, Report, Tell, Tick
from meshos.errors import Failed, Refused
from meshos.flow import Ask, Cancelled, Compute, Gather, Propose, Sleep, after, successes
from meshos.flow_machine import ABANDONED, Abandon, CancelFlow, FlowEnded, Flows, Perform, StartFlow
from meshos.ids import NodeId

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")


def ask(to: NodeId, timeout_s: float = 1.0) -> Ask:
    return Ask(to, "/test/1", b"?", timeout_s)


class Bench:
    """One Flows machine, and what it asked for."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, object]], *, deadline: float | None = None, limit: int = 10) -> None:
        self.flows = Flows({"work": lambda _: work()}, limit=limit)
        self.performed: dict[NodeId | str, Perform] = {}
        self.abandoned: list[object] = []
        self.ended: list[FlowEnded] = []
        self.bugs: list[BaseException] = []
        self.step(0.0, StartFlow(1, "work", None, deadline, "test"))

    def step(self, now: float, event: object) -> None:
        for effect in self.flows.step(now, event):
            inner = effect.event if isinstance(effect, Tell) else effect
            match inner:
                case Perform(operation=Ask(to=to)):
                    self.performed[to] = inner
                case Perform(operation=operation):
                    self.performed[type(operation).__name__] = inner
                case Abandon(operation=Ask(to=to)):
                    self.abandoned.append(to)
                case Abandon():
                    self.abandoned.append(type(inner.operation).__name__)
                case FlowEnded():
                    self.ended.append(inner)
                case Report():
                    self.bugs.append(inner.error)

    def answer(self, now: float, who: NodeId | str, value: object) -> None:
        self.step(now, Completed(self.performed[who].op, Ok(value)))

    def fail(self, now: float, who: NodeId | str) -> None:
        self.step(now, Completed(self.performed[who].op, Err(Failed("task-failed", "no"))))

    @property
    def value(self) -> object:
        (ended,) = self.ended
        assert isinstance(ended.outcome, Ok), ended
        return ended.outcome.value

    @property
    def error(self) -> str:
        (ended,) = self.ended
        assert isinstance(ended.outcome, Err), ended
        return ended.outcome.error.name

    def quiet(self) -> bool:
        """Nothing is left behind."""
        return self.flows.statistics() == {"flows": 0, "operations": 0, "timers": 0} and self.flows.deadline() is None


def test_each_operation_goes_to_whoever_carries_it_out() -> None:
    async def work() -> list[object]:
        return [await ask(A), await Propose("p"), await Compute(lambda: 1)]

    flows = Flows({"work": lambda _: work()}, limit=1)
    (first,) = flows.step(0, StartFlow(1, "work", None, None, "test", "trace-1"))
    assert isinstance(first, Tell) and first.machine == "rpc"
    assert isinstance(first.event, Perform) and first.event.trace == "trace-1"
    (second,) = flows.step(1, Completed(first.event.op, Ok(b"!")))
    assert isinstance(second, Tell) and second.machine == "org"
    assert isinstance(second.event, Perform)
    (third,) = flows.step(2, Completed(second.event.op, Ok("done")))
    assert isinstance(third, Perform) and isinstance(third.operation, Compute)
    (last,) = flows.step(3, Completed(third.op, Ok(1)))
    assert last == Tell("test", FlowEnded(1, Ok([b"!", "done", 1])))


def test_a_hedge_begins_late_and_the_loser_is_cancelled() -> None:
    async def work() -> bytes:
        return successes(await Gather(ask(A), after(0.05, ask(B)), need=1))[0]

    bench = Bench(work)
    assert set(bench.performed) == {A} and bench.flows.deadline() == 0.05
    bench.step(0.05, Tick())
    bench.answer(0.06, B, b"from b")
    assert bench.value == b"from b" and bench.abandoned == [A] and bench.quiet()


def test_a_hedge_that_was_not_needed_never_begins() -> None:
    async def work() -> list[object]:
        return await Gather(ask(A), after(0.05, ask(B)), need=1)

    bench = Bench(work)
    bench.answer(0.01, A, b"from a")
    assert bench.value == [Ok(b"from a"), ABANDONED]
    assert set(bench.performed) == {A} and bench.abandoned == [] and bench.quiet()


def test_gather_keeps_the_order_of_its_children_and_their_errors() -> None:
    async def work() -> list[object]:
        return await Gather(ask(A), ask(B), ask(C), need=2)

    bench = Bench(work)
    bench.fail(0.1, B)
    bench.answer(0.2, C, b"c")
    bench.answer(0.3, A, b"a")
    outcomes = bench.value
    assert isinstance(outcomes, list)
    assert outcomes[0] == Ok(b"a") and outcomes[2] == Ok(b"c")
    assert isinstance(outcomes[1], Err) and outcomes[1].error.name == "task-failed"


def test_gather_gives_up_once_its_need_cannot_be_met() -> None:
    async def work() -> list[object]:
        return await Gather(ask(A), ask(B), ask(C), need=2)

    bench = Bench(work)
    bench.fail(0.1, A)
    assert not bench.ended
    bench.fail(0.2, B)
    assert bench.abandoned == [C] and bench.quiet()


def test_gather_of_each_waits_for_all_whatever_becomes_of_the_others() -> None:
    async def work() -> list[object]:
        return await Gather(ask(A), ask(B), each=True)

    bench = Bench(work)
    bench.fail(0.1, A)
    assert not bench.ended and bench.abandoned == []
    bench.answer(0.2, B, b"b")
    outcomes = bench.value
    assert isinstance(outcomes, list) and isinstance(outcomes[0], Err) and outcomes[1] == Ok(b"b")


def test_gather_of_nothing_ends_at_once() -> None:
    async def work() -> list[object]:
        return await Gather()

    assert Bench(work).value == []


def test_the_deadline_ends_the_whole_tree() -> None:
    cleaned: list[str] = []

    async def child(to: NodeId) -> bytes:
        try:
            return await ask(to, timeout_s=60)
        finally:
            cleaned.append(to)

    async def work() -> list[object]:
        return await Gather(child(A), child(B))

    bench = Bench(work, deadline=2.0)
    assert bench.performed[A].deadline == 2.0, "an Ask never outlives its Flow"
    bench.step(2.0, Tick())
    assert bench.error == "deadline-exceeded"
    assert sorted(bench.abandoned, key=str) == [A, B] and sorted(cleaned) == [A, B] and bench.quiet()


def test_an_asks_own_timeout_is_kept_when_it_is_the_shorter_one() -> None:
    async def work() -> bytes:
        return await ask(A, timeout_s=0.5)

    assert Bench(work, deadline=2.0).performed[A].deadline == 0.5


def test_cancelling_reaches_what_is_under_way_and_late_answers_are_dropped() -> None:
    async def work() -> bytes:
        return await ask(A)

    bench = Bench(work)
    bench.step(0.1, CancelFlow(1))
    assert bench.error == "cancelled" and bench.abandoned == [A]
    bench.answer(0.2, A, b"late")
    assert len(bench.ended) == 1 and bench.quiet()
    outcome = bench.ended[0].outcome
    assert isinstance(outcome, Err) and outcome.error.outcome == "unknown"  # what it had begun may have been done


def test_a_flow_that_awaits_after_it_was_cancelled_is_a_bug_of_ours() -> None:
    async def work() -> None:
        try:
            await Sleep(10)
        except Cancelled:
            await Sleep(10)

    bench = Bench(work)
    bench.step(0.1, CancelFlow(1))
    assert bench.error == "cancelled" and len(bench.bugs) == 1 and bench.quiet()


def test_an_error_arrives_at_the_await_and_can_be_handled() -> None:
    async def work() -> str:
        try:
            await ask(A)
        except Failed as error:
            return error.name
        return "no error"

    bench = Bench(work)
    bench.fail(0.1, A)
    assert bench.value == "task-failed"


def test_a_bug_in_a_flow_is_reported_and_its_asker_told() -> None:
    async def work() -> None:
        raise ZeroDivisionError

    bench = Bench(work)
    assert bench.error == "internal" and isinstance(bench.bugs[0], ZeroDivisionError) and bench.quiet()


def test_awaiting_something_foreign_is_a_bug_not_a_hang() -> None:
    class Foreign:
        def __await__(self) -> Any:
            yield "what is this"

    async def work() -> None:
        await Foreign()

    assert Bench(work).error == "internal"


def test_a_full_table_an_unknown_service_and_a_second_start_are_refused() -> None:
    async def work() -> None:
        await Sleep(1)

    bench = Bench(work, limit=1)
    bench.step(0, StartFlow(2, "work", None, None, "test"))
    bench.step(0, StartFlow(1, "work", None, None, "test"))
    bench.step(0, StartFlow(3, "nonsense", None, None, "test"))
    names = [ended.outcome.error.name for ended in bench.ended if isinstance(ended.outcome, Err)]
    assert names == ["busy", "duplicate", "unknown-protocol"]


def test_sleeps_end_in_the_order_of_their_times() -> None:
    order: list[float] = []

    async def nap(seconds: float) -> None:
        await Sleep(seconds)
        order.append(seconds)

    async def work() -> None:
        await Gather(nap(3), nap(1), nap(2))

    bench = Bench(work)
    for _ in range(3):
        due = bench.flows.deadline()
        assert due is not None
        bench.step(due, Tick())
    assert order == [1, 2, 3] and bench.quiet()


def test_successes_raises_the_first_error_when_none_succeeded() -> None:
    assert successes([Err(Refused("x", "")), Ok(1)]) == [1]
    with pytest.raises(Refused):
        successes([Err(Refused("x", ""))])
