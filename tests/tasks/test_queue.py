"""The queue in front of an agent: who runs, who waits, whose turn is next; and with trio's events, until when."""

from collections import Counter
from itertools import count

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.errors import Refused, Unreachable
from meshos.ids import AgentId, OrgDid, TaskId
from meshos.node.runtime import turns as turns_module
from meshos.node.runtime.turns import Turns
from meshos.protocols.tasks.agent_file import AgentFile, parse_mapping
from meshos.protocols.tasks.limits import MAX_CONCURRENCY
from meshos.protocols.tasks.ports import CallTool
from meshos.protocols.tasks.queue import CallQueue

A, B, C = (OrgDid(f"did:mesh:enterprise:{name}") for name in "abc")


def drained(queue: CallQueue, running: list[object]) -> list[object]:
    """End what runs, the first first; gives the order in which what waits has its turn."""
    order: list[object] = []
    while running:
        called = queue.leave(running.pop(0))
        order += called
        running += called
    return order


def test_the_more_urgent_first_then_the_earlier() -> None:
    queue = CallQueue(1, 100)
    assert queue.enter("runs", A, 0)
    for number, priority in enumerate([5, 9, 0, 9, 5]):
        assert not queue.enter(f"{number}:{priority}", A, priority)
    assert drained(queue, ["runs"]) == ["1:9", "3:9", "0:5", "4:5", "2:0"]
    assert queue.statistics() == {"running": 0, "waiting": 0}


def test_one_organisation_does_not_starve_another() -> None:
    """A was first and asked for a hundred; B comes with one, and is next."""
    queue = CallQueue(2, 1000)
    running: list[object] = [f"a{number}" for number in range(100) if queue.enter(f"a{number}", A, 5)]
    assert running == ["a0", "a1"]
    assert not queue.enter("b", B, 5)
    assert queue.leave("a0") == ["b"]
    assert queue.leave("a1") == ["a2"]


def test_a_priority_takes_nobody_elses_turn() -> None:
    queue = CallQueue(2, 100)
    queue.enter("a", A, 9)
    queue.enter("b", B, 0)
    for number in range(3):
        queue.enter(f"a{number}", A, 9)
        queue.enter(f"b{number}", B, 0)
    assert drained(queue, ["a", "b"]) == ["a0", "b0", "a1", "b1", "a2", "b2"]


def turns_of_those_who_always_wait(slots: int, priorities: dict[OrgDid, int], turns: int) -> Counter[OrgDid]:
    """How often each had its turn, when each has calls waiting all the time and the longest running call ends."""
    queue, had, running = CallQueue(slots, 1000), Counter[OrgDid](), list[object]()
    for number in range(turns):
        for org, priority in priorities.items():
            ticket = (org, number)
            if queue.enter(ticket, org, priority):
                running.append(ticket)
        if number >= slots:
            called = queue.leave(running.pop(0))
            had.update(ticket[0] for ticket in called)  # type: ignore[index]
            running += called
    return had


@pytest.mark.parametrize(
    ("slots", "priorities"),
    [(1, {A: 9, B: 5}), (1, {A: 9, B: 5, C: 0}), (2, {A: 9, B: 9, C: 5}), (2, {A: 0, B: 9, C: 9}), (3, {A: 9, B: 0})],
)
def test_a_priority_gets_no_turns_however_few_run_at_once(slots: int, priorities: dict[OrgDid, int]) -> None:
    had = turns_of_those_who_always_wait(slots, priorities, 300)
    assert set(had) == set(priorities) and max(had.values()) - min(had.values()) <= slots


def test_who_comes_new_waits_for_one_turn_of_each_other() -> None:
    queue = CallQueue(1, 100)
    for number in range(3):
        queue.enter(f"a{number}", A, 5)
        queue.enter(f"b{number}", B, 5)
    assert queue.leave("a0") == ["b0"]
    queue.enter("c0", C, 0)
    assert drained(queue, ["b0"]) == ["a1", "c0", "b1", "a2", "b2"]


def test_going_away_and_coming_back_gets_no_turn_earlier() -> None:
    """A is gone whenever its call has ended, and enters the next one a moment later; B and C have all of theirs waiting."""
    queue, order = CallQueue(1, 1000), list[str]()
    queue.enter("a", A, 9)
    for number in range(30):
        queue.enter(f"b{number}", B, 5)
        queue.enter(f"c{number}", C, 5)
    running = "a"
    for number in range(30):
        [called] = queue.leave(running)
        if running.startswith("a"):
            queue.enter(f"a{number}", A, 9)
        running = str(called)
        order.append(running[0])
    assert Counter(order) == {"a": 10, "b": 10, "c": 10}


def test_full_is_busy_and_a_newcomer_has_a_place() -> None:
    queue = CallQueue(1, 8)
    queue.enter("runs", A, 5)
    taken = 0
    with pytest.raises(Refused, match="busy"):
        while not queue.enter(f"a{taken}", A, 5):
            taken += 1
    assert taken == 4, "half, as long as there is nobody else"
    assert not queue.enter("b", B, 5)
    with pytest.raises(Refused, match="busy"):
        queue.enter("one more", A, 9)
    queue.leave("a0")
    assert queue.statistics() == {"running": 1, "waiting": 4}


def test_more_slots_call_more() -> None:
    queue = CallQueue(1, 100)
    for number in range(4):
        queue.enter(number, A, 5)
    assert queue.resize(3) == [1, 2]
    assert queue.resize(1) == []
    assert [queue.leave(number) for number in (0, 1, 2)] == [[], [], [3]], "fewer slots end no call"
    assert queue.leave("unknown") == []


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 3), st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(0, 9), st.booleans()), max_size=40), st.randoms())
def test_whatever_comes_and_goes(slots: int, calls: list[tuple[OrgDid, int, bool]], rng: object) -> None:
    """Never more than the slots run, never a free slot while somebody waits, everybody's turn comes once."""
    queue = CallQueue(slots, 1000)
    running: dict[int, OrgDid] = {}
    waiting: dict[int, tuple[OrgDid, int]] = {}
    had: Counter[int] = Counter()
    ticks = count()
    since: dict[OrgDid, int] = {}  # when its last call ended, or it came

    def here(org: OrgDid) -> bool:
        return org in running.values() or any(org == other for other, _ in waiting.values())

    def began(number: int, org: OrgDid) -> None:
        running[number] = org
        had[number] += 1

    def gone(number: int) -> None:
        ended = running.pop(number, None)
        if ended is not None:
            since[ended] = next(ticks)
        waiting.pop(number, None)
        for called in queue.leave(number):
            assert isinstance(called, int)
            org, priority = waiting.pop(called)
            least = Counter(running.values())
            for earlier, (other, urgency) in waiting.items():
                if other == org:
                    assert (-priority, called) < (-urgency, earlier)
                else:
                    assert (least[org], since[org]) < (least[other], since[other])
            began(called, org)

    for number, (org, priority, leaves) in enumerate(calls):
        if not here(org):
            since[org] = next(ticks)
        if queue.enter(number, org, priority):
            began(number, org)
        else:
            waiting[number] = (org, priority)
        if leaves:
            gone(rng.choice([*running, *waiting]))  # type: ignore[attr-defined]
        assert queue.statistics() == {"running": len(running), "waiting": len(waiting)}
        assert len(running) <= slots and (len(running) == slots or not waiting)
    while running:
        gone(next(iter(running)))
    assert not waiting and set(had.values()) <= {1}
    assert not (queue._lines or queue._turns or queue._running_of or queue._waiting_of)


# -- with trio's events ------------------------------------------------------------------------------------------------

AGENT = AgentId("a-1")


def agent_file(**more: object) -> AgentFile:
    return parse_mapping({"name": "n", "description": "d", "runtime": {"mcp": {"command": ["python"]}}, **more})


def call(priority: int = 5, org: OrgDid = A, timeout_s: float = 10.0) -> CallTool:
    return CallTool(AGENT, TaskId("t-1"), "tool", b"\xa0", timeout_s, priority=priority, caller_org=org)


async def test_turns_are_waited_for_and_passed_on(nursery: trio.Nursery, mock_clock: trio.testing.MockClock) -> None:
    turns, order = Turns(), list[int]()
    turns.open(AGENT, agent_file(concurrency=1))

    async def one(priority: int) -> None:
        async with turns.turn(call(priority)) as mine:
            order.append(priority)
            await trio.sleep(1)
        assert mine.timeout_s <= 10.0

    for priority in (0, 3, 9, 5):
        nursery.start_soon(one, priority)
        await trio.testing.wait_all_tasks_blocked()
    assert turns.statistics() == {"running": 1, "waiting": 3} and turns.waiting() == {AGENT: 3}
    mock_clock.autojump_threshold = 0
    await trio.sleep(5)
    assert order == [0, 9, 5, 3] and turns.statistics() == {"running": 0, "waiting": 0}


async def test_the_time_in_the_queue_is_the_tasks_own(autojump_clock: trio.testing.MockClock) -> None:
    turns = Turns()
    turns.open(AGENT, agent_file(concurrency=1))
    async with trio.open_nursery() as nursery:

        async def first() -> None:
            async with turns.turn(call()):
                await trio.sleep(4)

        nursery.start_soon(first)
        await trio.testing.wait_all_tasks_blocked()
        async with turns.turn(call(timeout_s=10)) as mine:
            assert mine.timeout_s == pytest.approx(6)


async def test_a_call_whose_time_passes_in_the_queue_was_not_done(autojump_clock: trio.testing.MockClock) -> None:
    turns = Turns()
    turns.open(AGENT, agent_file(concurrency=1))
    async with turns.turn(call()):
        with pytest.raises(Unreachable, match="deadline-exceeded") as caught:
            async with turns.turn(call(timeout_s=2)):
                raise AssertionError("it had no turn")
        assert caught.value.outcome == "not_done"
        assert turns.statistics() == {"running": 1, "waiting": 0}


async def test_a_call_that_is_cancelled_leaves_its_place_and_its_turn(nursery: trio.Nursery) -> None:
    turns, began = Turns(), list[str]()
    turns.open(AGENT, agent_file(concurrency=1))
    scopes = {name: trio.CancelScope() for name in ("first", "second", "third")}

    async def one(name: str) -> None:
        with scopes[name]:
            async with turns.turn(call()):
                began.append(name)
                await trio.sleep_forever()

    for name in scopes:
        nursery.start_soon(one, name)
        await trio.testing.wait_all_tasks_blocked()
    scopes["second"].cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert turns.statistics() == {"running": 1, "waiting": 1}
    scopes["first"].cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert began == ["first", "third"]
    scopes["third"].cancel()


async def test_an_agent_that_is_deployed_anew_or_gone_keeps_nobody_waiting(nursery: trio.Nursery) -> None:
    turns, began = Turns(), list[int]()
    turns.open(AGENT, agent_file(concurrency=1))

    async def one(number: int) -> None:
        async with turns.turn(call()):
            began.append(number)
            await trio.sleep_forever()

    for number in range(6):
        nursery.start_soon(one, number)
        await trio.testing.wait_all_tasks_blocked()
    turns.open(AGENT, agent_file(concurrency=1, replicas=3))
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(began) == [0, 1, 2]
    turns.close(AGENT)
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(began) == [0, 1, 2, 3, 4, 5], "the provider tells them that it is gone"
    nursery.cancel_scope.cancel()


async def test_an_agent_that_names_no_bound_has_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "CONCURRENCY", 2)
    turns = Turns()
    turns.open(AGENT, agent_file())
    async with turns.turn(call()), turns.turn(call()):
        with pytest.raises(Unreachable):
            async with turns.turn(call(timeout_s=0.001)):
                raise AssertionError("it had no turn")


async def test_an_agent_that_is_not_here_is_the_providers_to_refuse() -> None:
    mine = call()
    async with Turns().turn(mine) as given:
        assert given is mine


@pytest.mark.parametrize("wrong", [0, -1, MAX_CONCURRENCY + 1, "four", 1.5, True, None])
def test_a_concurrency_out_of_its_bounds(wrong: object) -> None:
    with pytest.raises(Exception, match="bad-value"):
        agent_file(concurrency=wrong)


def test_the_canonical_form_of_before_there_was_a_concurrency_stays() -> None:
    assert b"concurrency" not in agent_file().canonical()
    assert b"concurrency" in agent_file(concurrency=3).canonical()
