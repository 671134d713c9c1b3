"""A crash of either side after each single effect: a tool that may run again is run again, any other ends as outcome_unknown, and runs
never twice; what was acknowledged is what a repeated call gets.
"""

import pytest

from meshos import cbor
from meshos.consensus.org.commands import GetOwed, GetTask
from meshos.errors import Broken, Unreachable
from meshos.ids import TaskId
from meshos.protocols.tasks.call import TaskResult
from meshos.protocols.tasks.limits import RECOVERED_AT_ONCE
from tests.tasks.driver import ACME, CALLER, PRICE, PROVIDER, World

KEY = "one and the same"


def _effects_of_one_call(tool: str, who: str) -> int:
    world = World()
    assert world.call(tool, key=KEY).status == "completed"
    world.run()
    return world.nodes[PROVIDER.node if who == "provider" else CALLER.node].effects


def _call(world: World, tool: str) -> TaskResult | None:
    """The result, or None if the caller died or nobody was reached."""
    flow = world.begin_call(tool, key=KEY)
    world.run()
    if flow not in world.ended:
        return None
    try:
        result = world.result(flow)
    except Unreachable:
        return None
    assert isinstance(result, TaskResult)
    return result


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("tool", ["read", "pay"])
def test_the_provider_dies_after_any_effect(tool: str, seed: int) -> None:
    total = _effects_of_one_call(tool, "provider")
    assert total > 12
    ends = set()
    for k in range(1, total + 1):
        world = World(seed)
        world.provider.crash_after = k
        first = _call(world, tool)
        assert not world.provider.alive, "it died"
        assert first is None or first.status in ("completed", "outcome_unknown")
        if tool == "pay" and first is not None and first.status == "outcome_unknown":
            assert first.receipt is None
        world.provider.start()
        world.run()
        assert world.provider.open_intents() == (), "after recovery no task is open"
        ran = len(world.executions)
        again = _call(world, tool)
        assert again is not None
        if first is not None and first.status == "completed":
            assert (again.status, again.result, again.task) == ("completed", first.result, first.task)
            assert again.replayed and len(world.executions) == ran
        if tool == "pay":
            assert len(world.executions) <= 1, f"ran twice with a crash after effect {k}"
            assert again.status in ("completed", "outcome_unknown")
            if again.status == "completed":
                assert [run.how for run in world.executions] == ["ended"]
        else:
            assert again.status == "completed"
            assert 1 <= len(world.executions) <= 2
        if again.status == "completed":
            assert again.result == cbor.encode({"echo": cbor.encode({"x": 1})})
            assert again.receipt is not None
        owed = world.propose(world.provider, GetOwed(ACME))
        assert owed == (PRICE if again.status == "completed" else 0), "owed once, for what was done"
        ends.add((again.status, len(world.executions)))
    if tool == "pay":
        assert ends >= {("completed", 1), ("outcome_unknown", 0), ("outcome_unknown", 1)}
    else:
        assert ends >= {("completed", 1), ("completed", 2)}


@pytest.mark.parametrize("tool", ["read", "pay"])
def test_the_caller_dies_after_any_effect(tool: str) -> None:
    for k in range(1, _effects_of_one_call(tool, "caller") + 1):
        world = World()
        world.caller.crash_after = k
        world.begin_call(tool, key=KEY)
        world.run()
        assert not world.caller.alive
        world.caller.start()
        again = _call(world, tool)
        assert again is not None
        assert again.status == "completed"
        assert [run.how for run in world.executions] == ["ended"], "the provider goes on, and gives the recorded outcome"
        assert again.receipt is not None and again.receipt.countersignature


def test_crash_upon_crash() -> None:
    """The provider dies again and again while it recovers; the tool that may not run twice does not."""
    for first in range(1, 14):
        for second in range(1, 8):
            world = World()
            world.provider.crash_after = first
            _call(world, "pay")
            assert not world.provider.alive
            world.provider.effects, world.provider.crash_after = 0, second
            world.provider.start()
            world.run()
            if not world.provider.alive:
                world.provider.crash_after = None
                world.provider.start()
                world.run()
            world.provider.crash_after = None
            again = _call(world, "pay")
            assert again is not None
            assert again.status in ("completed", "outcome_unknown")
            assert len(world.executions) <= 1
            assert world.provider.open_intents() == ()


def test_one_task_that_cannot_be_ended_keeps_no_other_from_it() -> None:
    """A bug on the way of the first: those beside it go on, those after it have their turn, and the start says that it failed."""
    world = World()
    world.bugs_expected = True
    tools = ["broken-read", *("read", "pay") * RECOVERED_AT_ONCE]
    for number, tool in enumerate(tools):
        world.begin_call(tool, task=TaskId(f"t-{number:02}"))
    world.run(until=lambda: len(world.executions) == len(tools))
    world.provider.crash()
    assert len(world.provider.open_intents()) == len(tools)
    world.provider.start()
    with pytest.raises(Broken, match="internal"):
        world.result(world.provider.recovery)
    assert [intent.task for intent in world.provider.open_intents()] == ["t-00"]
    ends = [world.propose(world.provider, GetTask(TaskId(f"t-{number:02}"))).status for number in range(1, len(tools))]
    assert ends == ["completed", "outcome_unknown"] * RECOVERED_AT_ONCE
