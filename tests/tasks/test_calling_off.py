"""Calls that are cancelled, whose time is over, or that nobody waits for any more: what both sides say of them."""

from dataclasses import replace

import pytest

from meshos import cbor
from meshos.consensus.org.commands import Ended, GetOwed, GetTask
from meshos.errors import Refused
from meshos.flow_machine import CancelFlow, StartFlow
from meshos.ids import Peer, TaskId
from meshos.protocols.rpc.events import Inbound
from meshos.protocols.tasks import wire
from meshos.protocols.tasks.call import TaskResult
from meshos.protocols.tasks.wire import TaskRequest, decode_reply, encode_request
from tests.tasks.driver import ACME, AGENT, CALLER, ECHO, PRICE, PROVIDER, SECOND, STRANGER, World


def test_cancelling_reaches_the_tool() -> None:
    world = World()
    flow = world.begin_call("slow", key="k", timeout_s=60.0)
    world.run(until=lambda: bool(world.executions))
    world.caller.post("flows", CancelFlow(flow))
    with pytest.raises(Refused, match="cancelled"):
        world.result(flow)
    world.run()
    assert [run.how for run in world.executions] == ["cancelled"]
    assert world.provider.open_intents() == ()
    assert world.call("slow", key="k", timeout_s=60.0).status == "cancelled"


def test_cancelled_at_any_moment_no_task_stays_open() -> None:
    world = World()
    world.call("pay")
    world.run()
    total = world.provider.effects
    for k in range(1, total + 1):
        world = World()
        flow = world.begin_call("pay", key="k")
        world.run(until=lambda world=world, k=k: world.provider.effects >= k)  # type: ignore[misc]
        world.caller.post("flows", CancelFlow(flow))
        world.run()
        assert world.provider.open_intents() == (), f"cancelled after effect {k}"
        assert world.provider.waits() == (0, 0)
        assert all(run.how in ("ended", "cancelled") for run in world.executions)
        again = world.call("pay", key="k")
        assert again.status in ("completed", "cancelled")
        assert len(world.executions) <= 1


def test_cancelled_between_any_two_events_no_task_stays_open() -> None:
    """The provider hears of the cancel at once, also while the intent is on its way to the disk."""
    statuses = set()
    for k in range(1, 60):
        world = World()
        world.run()
        flow = world.begin_call("pay", key="k")
        for _ in range(k):
            if world.queue:
                world.queue.popleft()()
        for key in list(world.pending):
            world.provider.post("flows", CancelFlow(key))
            world.queue.rotate(1)
        world.run(until=lambda flow=flow, world=world: flow in world.ended)  # type: ignore[misc]
        world.run()
        assert world.provider.open_intents() == (), f"cancelled after event {k}"
        assert world.provider.waits() == (0, 0)
        again = world.call("pay", key="k")
        assert len(world.executions) <= 1
        statuses.add((again.status, len(world.executions)))
    assert statuses == {("completed", 1), ("cancelled", 0), ("cancelled", 1)}


def test_the_task_expires() -> None:
    world = World()
    before = world.now
    result = world.call("slow", timeout_s=2.0)
    assert result.status == "expired"
    assert result.problem is not None and result.problem.name == "deadline-exceeded"
    assert 1.9 <= world.now - before <= 2.1, "the provider's own word, before the caller stops waiting"
    assert [run.how for run in world.executions] == ["cancelled"]


def test_a_tool_that_cannot_be_stopped_by_its_own_timeout() -> None:
    """The deadline of the request ends the provider's Flow; its hold ends the task."""
    world = World()
    result = world.call("stuck", timeout_s=2.0, key="k")
    assert (result.status, result.heard) == ("expired", True), "the caller asks once more, and hears what was recorded"
    assert world.call("stuck", timeout_s=2.0, key="k").status == "expired"
    assert [run.how for run in world.executions] == ["cancelled"]


def test_no_time_left() -> None:
    world = World()
    body = encode_request(TaskRequest(TaskId("t-1"), AGENT, "pay", cbor.encode({}), "", 1000, 5, None))
    world.provider.post("flows", StartFlow("late", wire.TASK, Inbound(CALLER, wire.TASK, body, world.now), world.now + 5, "outside"))
    reply = decode_reply(world.result("late"))  # type: ignore[arg-type]
    assert reply.status == "expired"
    assert world.executions == []


# -- called off -----------------------------------------------------------------------------------------------------------


def _call_off(world: World, flow: int) -> TaskResult:
    """What the caller's node does with a call that nobody waits for any more: cancel its Flow, then hear how it ended."""
    request = world.requests[flow]
    world.caller.post("flows", CancelFlow(flow))
    result = world.result(world.caller.begin("call-off", request))
    assert isinstance(result, TaskResult)
    return result


def _recorded(world: World, task: TaskId) -> str:
    """How the provider recorded that the task ended; "nothing" if it does not know it."""
    try:
        found = world.propose(world.provider, GetTask(task))
    except Refused as error:
        assert error.name == "task-unknown"
        return "nothing"
    assert isinstance(found, Ended)
    return found.status


def test_called_off_between_any_two_events_both_sides_say_the_same() -> None:
    """The cancel crosses the request, the intent, the tool, the outcome and the reply; whatever was first recorded counts for both."""
    ends = set()
    for k in range(1, 80):
        world = World()
        world.run()
        flow = world.begin_call("pay")
        for _ in range(k):
            if not world.queue:
                world.run(until=lambda world=world: bool(world.queue))  # type: ignore[misc]
            if world.queue:
                world.queue.popleft()()
        answered = flow in world.ended
        result = _call_off(world, flow)
        world.run()
        recorded = _recorded(world, result.task)
        assert result.heard
        assert result.status == ("cancelled" if recorded == "nothing" else recorded), f"called off after event {k}"
        assert world.provider.open_intents() == ()
        assert world.provider.waits() == (0, 0)
        assert world.propose(world.provider, GetOwed(ACME)) == (PRICE if result.status == "completed" else 0)
        if result.status == "completed":
            assert result.receipt is not None and result.receipt.countersignature, "what is owed is acknowledged"
            assert [run.how for run in world.executions] == ["ended"]
        else:
            assert not answered
        ends.add((result.status, recorded, *(run.how for run in world.executions)))
    assert ends == {
        ("cancelled", "cancelled"),
        ("cancelled", "cancelled", "cancelled"),
        ("completed", "completed", "ended"),
    }


def test_called_off_before_the_request_came_it_is_never_begun() -> None:
    """The request is still on its way (a larger one on another lane) when its provider hears that it is not wanted any more."""
    world = World()
    task = TaskId("t-overtaken")
    request = replace(world.requests[world.begin_call("pay", task=task, timeout_s=5.0)])
    world = World()
    result = world.result(world.caller.begin("call-off", request))
    assert (result.status, result.heard, result.problem) == ("cancelled", True, None)
    with pytest.raises(Refused, match="called it off") as caught:
        world.call("pay", task=task)
    assert (caught.value.name, caught.value.outcome) == ("cancelled", "not_done")
    assert world.executions == [] and world.provider.open_intents() == ()
    assert world.call("pay", task=TaskId("t-another")).status == "completed"
    world.call("pay", task=task, node=world.nodes[STRANGER.node])  # another organisation's task of this name is another task
    assert len(world.executions) == 2


def test_nobody_calls_off_what_another_organisation_asked_for() -> None:
    world = World()
    flow = world.begin_call("slow", timeout_s=60.0)
    world.run(until=lambda: bool(world.executions))
    result = world.result(world.nodes[STRANGER.node].begin("call-off", world.requests[flow]))
    assert result.status == "cancelled", "as of a task that is not known here: nothing is told of it"
    assert [run.how for run in world.executions] == ["running"]
    assert world.result(flow).status == "completed"


@pytest.mark.parametrize("by_way_of", [PROVIDER, SECOND])
def test_a_repetition_that_is_called_off_is_not_cancelled_while_its_first_call_goes_on(by_way_of: Peer) -> None:
    world = World()
    first = world.begin_call("slow", key="k", timeout_s=60.0)
    world.run(until=lambda: bool(world.executions))
    again = world.begin_call("slow", key="k", timeout_s=60.0, providers=(by_way_of.node,))
    world.run(until=lambda: world.provider.org.statistics()["waiting"] == 1)
    result = _call_off(world, again)
    assert (result.status, result.heard) == ("outcome_unknown", False), "what it may cost is not given back"
    assert result.problem is not None and world.requests[first].task in result.problem.detail
    assert result.problem.outcome == "unknown"
    assert [run.how for run in world.executions] == ["running"]
    assert world.provider.org.statistics()["waiting"] == 0
    heard = world.result(first)
    assert isinstance(heard, TaskResult) and heard.status == "completed"
    late = world.call("slow", key="k", timeout_s=60.0)
    assert (late.task, late.status, late.replayed) == (heard.task, "completed", True), "repeated once more, it is heard"


def test_a_repetition_whose_time_is_over_is_not_cancelled_while_its_first_call_goes_on() -> None:
    world = World()
    first = world.begin_call("slow", key="k", timeout_s=60.0)
    world.run(until=lambda: bool(world.executions))
    assert world.call("slow", key="k", timeout_s=2.0).status == "outcome_unknown"
    assert world.result(first).status == "completed"


def test_a_call_with_a_key_that_repeats_nothing_is_cancelled() -> None:
    world = World()
    request = world.requests[world.begin_call("pay", task=TaskId("t-late"), key="k")]
    world = World()
    world.call("pay", key="another")
    world.call("pay", key="k", node=world.nodes[STRANGER.node])
    result = world.result(world.caller.begin("call-off", request))
    assert (result.status, result.heard) == ("cancelled", True)


def test_called_off_by_way_of_another_node_of_the_provider() -> None:
    world = World()
    flow = world.begin_call("slow", timeout_s=60.0, providers=(SECOND.node,))
    world.run(until=lambda: bool(world.executions))
    result = _call_off(world, flow)
    assert (result.status, _recorded(world, result.task)) == ("cancelled", "cancelled")
    assert [run.how for run in world.executions] == ["cancelled"]


def test_called_off_without_a_word_from_the_provider_nobody_knows() -> None:
    world = World()
    flow = world.begin_call("slow", timeout_s=60.0)
    world.run(until=lambda: bool(world.executions))
    world.provider.crash()
    result = _call_off(world, flow)
    assert (result.status, result.heard) == ("outcome_unknown", False)
    assert result.problem is not None and (result.problem.name, result.problem.outcome) == ("outcome-unknown", "unknown")


def test_a_provider_that_does_not_speak_of_calling_off_leaves_it_unknown() -> None:
    world = World()
    flow = world.begin_call("slow", timeout_s=60.0)
    world.run(until=lambda: bool(world.executions))
    del world.provider.machines["flows"]._services[wire.CALL_OFF]  # type: ignore[attr-defined]
    result = _call_off(world, flow)
    assert (result.status, result.heard) == ("outcome_unknown", False)


def test_a_large_result_that_crossed_the_cancel_is_done_and_gone() -> None:
    world = World()
    flow = world.begin_call("big")
    world.result(flow)
    result = world.result(world.caller.begin("call-off", world.requests[flow]))
    assert (result.status, result.result, result.heard) == ("completed", None, True)
    assert result.problem is not None and (result.problem.name, result.problem.outcome) == ("result-not-kept", "done")


def test_a_cheat_of_a_called_off_task_is_seen() -> None:
    world = World()
    flow = world.begin_call("slow", timeout_s=60.0)
    world.run(until=lambda: bool(world.executions))

    def tamper(body: bytes) -> bytes:
        del body
        ended = world.propose(world.provider, GetTask(world.requests[flow].task))
        return wire.encode_reply(replace(ended, status="completed", result=ECHO), replayed=False)

    world.caller.post("flows", CancelFlow(flow))
    number = world.caller.begin("call-off", world.requests[flow])
    world.tamper = tamper
    with pytest.raises(Refused, match="receipt-invalid"):
        world.result(number)
