"""Calls, end to end over the real Flows and machines: results, errors, repetition, cancelling, deadlines, receipts, forwarding."""

import hashlib
import re
from dataclasses import replace

import pytest

from meshos import cbor
from meshos.consensus.org.commands import Ended, GetOwed, GetTask, Running, WithdrawAgent
from meshos.crypto.signing import Domain
from meshos.crypto.simulated import SimulatedSigner, SimulatedVerifier
from meshos.errors import BadInput, Broken, MeshError, Refused, Unreachable
from meshos.flow_machine import CancelFlow, StartFlow
from meshos.ids import NodeId, Peer, TaskId
from meshos.protocols.rpc.events import Inbound
from meshos.protocols.tasks import amounts, outbox, wire
from meshos.protocols.tasks.call import TaskResult
from meshos.protocols.tasks.receipt import PROTOCOL, caller_domain, decode_receipt, provider_domain, request_hash
from meshos.protocols.tasks.wire import TaskRequest, decode_reply, encode_request
from tests.tasks.driver import ACME, AGENT, BETA, CALLER, GENESIS, PRICE, PROVIDER, SECOND, STRANGER, World

ECHO = cbor.encode({"echo": cbor.encode({"x": 1})})


def test_a_call_and_its_receipt() -> None:
    world = World()
    result = world.call("read")
    assert (result.status, result.result, result.problem, result.replayed, result.replica) == ("completed", ECHO, None, False, "replica-0")
    assert result.receipt is not None
    receipt = decode_receipt(result.receipt.payload)
    assert (receipt.caller, receipt.provider, receipt.task, receipt.price_micro) == (CALLER, PROVIDER, result.task, PRICE)
    assert receipt.result_hash == hashlib.sha256(ECHO).digest()
    assert receipt.request_hash == request_hash(AGENT, "read", hashlib.sha256(cbor.encode({"x": 1})).digest())
    verifier = SimulatedVerifier(world.simulated)
    verifier.verify(PROVIDER.node, provider_domain(GENESIS), result.receipt.payload, result.receipt.signature)
    verifier.verify(CALLER.node, caller_domain(GENESIS), result.receipt.payload, result.receipt.countersignature)
    world.run()
    recorded = world.propose(world.provider, GetTask(result.task))
    assert isinstance(recorded, Ended)
    assert recorded.countersignature == result.receipt.countersignature, "the caller's signature came back to the provider"
    assert world.propose(world.provider, GetOwed(ACME)) == PRICE


def test_the_same_node_calls_its_own_agent() -> None:
    world = World()
    result = world.call("pay", node=world.provider)
    assert (result.status, result.result) == ("completed", ECHO)
    assert result.receipt is not None and result.receipt.countersignature
    world.run()
    assert world.propose(world.provider, GetTask(result.task)).countersignature


def test_another_node_of_the_organisation_passes_the_call_on() -> None:
    world = World()
    result = world.call("pay", providers=(SECOND.node,))
    assert result.status == "completed"
    assert result.receipt is not None
    receipt = decode_receipt(result.receipt.payload)
    assert (receipt.caller, receipt.provider) == (CALLER, PROVIDER)
    world.run()
    assert world.propose(world.provider, GetTask(result.task)).countersignature


def test_the_next_provider_is_asked_when_one_is_gone() -> None:
    world = World()
    result = world.call("pay", providers=(NodeId("nobody"), PROVIDER.node))
    assert result.status == "completed"
    with pytest.raises(Unreachable) as caught:
        world.call("pay", providers=(NodeId("nobody"),))
    assert caught.value.outcome == "not_done"
    with pytest.raises(Unreachable, match="no-provider"):
        world.call("pay", providers=())
    assert len(world.executions) == 1


# -- repetition --------------------------------------------------------------------------------------------------------


def test_the_same_key_runs_once_and_another_body_conflicts() -> None:
    world = World()
    first = world.call("pay", key="k")
    again = world.call("pay", key="k")
    assert (again.task, again.result, again.replayed) == (first.task, first.result, True)
    assert again.receipt == first.receipt
    for changes in ({"arguments": cbor.encode({"x": 2})}, {"tool": "read"}):
        with pytest.raises(Refused, match="idempotency-conflict"):
            world.call(**({"tool": "pay", "key": "k"} | changes))
    assert len(world.executions) == 1
    assert world.call("pay", key="other").replayed is False
    assert world.call("pay").task != world.call("pay").task
    assert world.propose(world.provider, GetOwed(ACME)) == 4 * PRICE


def test_the_same_key_of_another_organisation_is_another_call() -> None:
    world = World()
    world.call("pay", key="k")
    assert not world.call("pay", key="k", node=world.nodes[STRANGER.node], arguments=cbor.encode({"x": 5})).replayed
    assert len(world.executions) == 2


def test_repeated_while_it_runs() -> None:
    world = World()
    flows = [world.begin_call("slow", key="k", timeout_s=60.0) for _ in range(3)]
    world.run(until=lambda: len(world.executions) == 1)
    results = [world.result(flow) for flow in flows]
    assert {result.status for result in results} == {"completed"}
    assert len({result.task for result in results}) == 1
    assert sorted(result.replayed for result in results) == [False, True, True]
    assert len(world.executions) == 1


def test_a_large_result_is_not_kept() -> None:
    world = World()
    result = world.call("big", key="k")
    assert result.status == "completed"
    assert result.result is not None and len(result.result) == (2 << 20) + 5
    with pytest.raises(Refused, match="result-not-kept") as caught:
        world.call("big", key="k")
    assert caught.value.outcome == "done"
    assert len(world.executions) == 1


# -- errors ------------------------------------------------------------------------------------------------------------


def test_a_tool_that_says_it_failed() -> None:
    result = World().call("sad")
    assert (result.status, result.result) == ("failed", ECHO)
    assert result.problem is not None and result.problem.name == "tool-failed"


def test_an_agent_that_crashes() -> None:
    """Of a tool that may not run twice nobody knows what it did; of one that may, a new call is the answer."""
    world = World()
    result = world.call("crash")
    assert result.status == "outcome_unknown"
    assert result.problem is not None and result.problem.name == "agent-crashed"
    assert world.call("crash-read").status == "failed"
    assert world.propose(world.provider, GetOwed(ACME)) == 0


def test_a_bug_is_no_cancel() -> None:
    world = World()
    world.bugs_expected = True
    with pytest.raises(Broken, match="internal"):
        world.call("broken", key="k")
    assert world.call("broken", key="k").status == "outcome_unknown"
    assert world.provider.open_intents() == ()


def test_an_outcome_that_cannot_be_signed_is_recorded_and_not_believed() -> None:
    world = World()
    world.broken_signer = PROVIDER.node
    for _ in range(2):
        with pytest.raises(Refused, match="it sent none") as caught:
            world.call("pay", key="k", task=TaskId("t-unsigned"))
        assert (caught.value.name, caught.value.outcome) == ("receipt-invalid", "done")
    assert world.provider.services.unsigned == 1
    assert world.propose(world.provider, GetOwed(ACME)) == 0
    assert world.propose(world.provider, GetTask(TaskId("t-unsigned"))).status == "completed"
    assert len(world.executions) == 1


def test_an_end_that_is_not_completed_needs_no_receipt() -> None:
    world = World()
    world.broken_signer = PROVIDER.node
    result = world.call("sad")
    assert (result.status, result.result, result.receipt) == ("failed", ECHO, None)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"agent": "a-none"}, "agent-unknown"),
        ({"tool": "none"}, "unknown-tool"),
        ({"arguments": cbor.encode([1])}, "bad-message"),
        ({"arguments": b"\xff"}, "bad-encoding"),
        ({"arguments": b"\xa2\x61b\x01\x61a\x01"}, "bad-encoding"),
        ({"arguments": bytes(17 << 20)}, "arguments-too-large"),
        ({"timeout_s": 0.0}, "bad-call"),
        ({"timeout_s": 1e9}, "bad-call"),
        ({"priority": 10}, "bad-call"),
        ({"key": "k" * 129}, "bad-call"),
        ({"budget_micro": -1}, "bad-call"),
        ({"price_micro": -1, "budget_micro": 5}, "bad-call"),
        ({"providers": (STRANGER.node,)}, "agent-unknown"),
    ],
)
def test_refused_before_anything_is_tried(changes: dict[str, object], name: str) -> None:
    world = World()
    with pytest.raises(MeshError) as caught:
        world.call(**({"tool": "pay"} | changes))  # type: ignore[arg-type]
    assert (caught.value.name, caught.value.outcome) == (name, "not_done")
    assert world.executions == []
    assert world.provider.open_intents() == ()


def test_an_unknown_tool_is_answered_with_those_there_are() -> None:
    with pytest.raises(BadInput) as caught:
        World().call("none")
    assert caught.value.name == "unknown-tool" and re.search(r"has no tool 'none'; it has .*\bpay\b", caught.value.detail)


def test_over_budget_leaves_the_key_free() -> None:
    world = World()
    result = world.call("pay", key="k", budget_micro=PRICE - 1)
    assert result.status == "failed"
    assert result.problem is not None and (result.problem.name, result.problem.outcome) == ("over-budget", "not_done")
    assert world.executions == []
    assert world.call("pay", key="k", budget_micro=PRICE).status == "completed"


def test_a_price_that_has_risen_is_refused_before_the_tool_runs() -> None:
    world = World()
    result = world.call("pay", price_micro=PRICE - 1, budget_micro=10 * PRICE)
    assert result.problem is not None and (result.problem.name, result.problem.outcome) == ("over-budget", "not_done")
    assert f"costs {amounts.mesh(PRICE)} MESH, the caller gives at most {amounts.mesh(PRICE - 1)} MESH" in result.problem.detail
    assert world.executions == []
    result = world.call("pay", price_micro=PRICE, budget_micro=PRICE)
    assert result.status == "completed"
    assert result.receipt is not None and result.receipt.countersignature


def test_a_withdrawn_agent_and_a_policy() -> None:
    world = World(policy=lambda caller, agent, tool: Refused("not-allowed", "no") if caller.org == STRANGER.org else None)
    with pytest.raises(Refused, match="not-allowed"):
        world.call("read", node=world.nodes[STRANGER.node])
    assert world.call("read").status == "completed"
    world.propose(world.provider, WithdrawAgent(AGENT, 2, b"tombstone", "tests", 0))
    with pytest.raises(Refused, match="agent-unknown"):
        world.call("read")


# -- cancelling and deadlines --------------------------------------------------------------------------------------------


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


# -- receipts and strangers ----------------------------------------------------------------------------------------------


def _forge(world: World, changed: str, ended: Ended) -> Ended:
    """What a provider that cheats answers instead of ``ended``."""
    another = TaskId("t-another")
    if changed == "result":
        return replace(ended, result=cbor.encode({"echo": b"forged"}))
    if changed == "status":
        return replace(ended, status="failed")
    if changed == "signature":
        return replace(ended, signature=SimulatedSigner(world.simulated, "other").sign(provider_domain(GENESIS), ended.receipt))
    if changed == "no receipt":
        return replace(ended, receipt=b"", signature=b"")
    forged = {
        "request": {"request_hash": b"x" * 32},
        "receipt of another task": {"task": another},
        "task": {"task": another},
        "caller": {"caller": Peer(NodeId("another"), ACME)},
        "stranger": {"caller": STRANGER, "task": another},
        "unknown node": {"provider": Peer(NodeId("gone"), BETA), "task": another},
        "price": {"price_micro": PRICE + 1},
        "price of another task": {"price_micro": PRICE + 1, "task": another},
        "price of a failure": {"price_micro": 1, "status": "failed"},
    }[changed]
    receipt = replace(decode_receipt(ended.receipt), **forged)
    if changed != "receipt of another task":
        ended = replace(ended, intent=replace(ended.intent, task=receipt.task), status=receipt.status)  # type: ignore[arg-type]
    signature = SimulatedSigner(world.simulated, PROVIDER.node).sign(provider_domain(GENESIS), receipt.payload())
    return replace(ended, receipt=receipt.payload(), signature=signature)


def _cheated(world: World, changed: str, replayed: bool, **changes: object) -> TaskResult:
    """The end of a call whose answer is forged on its way back."""

    def tamper(body: bytes) -> bytes:
        reply = decode_reply(body)
        ended = replace(world.propose(world.provider, GetTask(reply.task)), result=reply.result)
        return wire.encode_reply(_forge(world, changed, ended), replayed=replayed)

    flow = world.begin_call("read", **changes)
    world.tamper = tamper
    try:
        result = world.result(flow)
    finally:
        world.tamper = None
    assert isinstance(result, TaskResult)
    return result


CHEATS = ("result", "status", "signature", "no receipt", "request", "caller", "receipt of another task", "price of a failure")
NO_KEY: dict[str, object] = {}
KEY: dict[str, object] = {"key": "k"}
BOUND: dict[str, object] = {"price_micro": PRICE}


@pytest.mark.parametrize(
    ("changed", "replayed", "changes"),
    [
        *((changed, replayed, changes) for changed in CHEATS for replayed in (False, True) for changes in (NO_KEY, KEY)),
        ("task", False, NO_KEY),
        ("task", False, KEY),
        ("task", True, NO_KEY),
        ("stranger", True, KEY),
        ("unknown node", True, KEY),
        ("price", False, BOUND),
        ("price", True, BOUND),
        ("price", True, BOUND | KEY),
        ("price", False, {"budget_micro": PRICE}),
        ("price", False, {"budget_micro": PRICE, "price_micro": 2 * PRICE}),
        ("price", False, {"budget_micro": 2 * PRICE, "price_micro": PRICE}),
        ("price of another task", True, BOUND | KEY),
    ],
)
def test_a_provider_that_cheats(changed: str, replayed: bool, changes: dict[str, object]) -> None:
    """Whatever it changes, and whether or not it says that the outcome is of before: no result, and no signature of the caller."""
    world = World()
    with pytest.raises(Refused, match="receipt-invalid") as caught:
        _cheated(world, changed, replayed, **changes)
    assert caught.value.outcome == "done"
    assert world.caller.machines["receipts"].statistics() == {"waiting": 0, "dropped": 0}  # type: ignore[attr-defined]
    world.run()
    (run,) = world.executions
    assert world.propose(world.provider, GetTask(run.task)).countersignature == b""


def test_a_price_is_not_checked_where_none_was_known() -> None:
    result = _cheated(World(), "price", False)
    assert result.receipt is not None and decode_receipt(result.receipt.payload).price_micro == PRICE + 1


def test_replayed_is_what_the_caller_sees_and_not_what_the_provider_says() -> None:
    """A provider whose calls all were of before would cost no budget."""
    assert not _cheated(World(), "price", True).replayed
    assert not _cheated(World(), "price", True, key="k").replayed
    assert _cheated(World(), "price of another task", True, key="k").replayed


def _serve(world: World, peer: object, protocol: str, body: bytes) -> bytes:
    world.flows += 1
    inbound = Inbound(peer, protocol, body, world.now + 10)  # type: ignore[arg-type]
    world.provider.post("flows", StartFlow(world.flows, protocol, inbound, world.now + 10, "outside"))
    value = world.result(world.flows)
    assert isinstance(value, bytes)
    return value


def test_only_the_own_organisation_speaks_for_others() -> None:
    world = World()
    request = TaskRequest(TaskId("t-1"), AGENT, "pay", cbor.encode({}), "", 1000, 5, None, behalf=CALLER)
    with pytest.raises(Refused, match="not-on-behalf"):
        _serve(world, STRANGER, wire.TASK, encode_request(request))
    assert decode_reply(_serve(world, SECOND, wire.TASK, encode_request(request))).status == "completed"


def test_receipts_of_strangers_and_forgers() -> None:
    world = World()
    world.caller.machines["receipts"] = outbox.ReceiptOutbox()  # nobody takes them: they stay unsent
    result = world.call("read")
    good = SimulatedSigner(world.simulated, CALLER.node).sign(caller_domain(GENESIS), result.receipt.payload)  # type: ignore[union-attr]
    wrong_domain = SimulatedSigner(world.simulated, CALLER.node).sign(Domain(GENESIS, PROTOCOL), result.receipt.payload)  # type: ignore[union-attr]
    with pytest.raises(Refused, match="task-unknown"):
        _serve(world, STRANGER, PROTOCOL, outbox.encode_receipts([(result.task, good)], behalf=None))
    with pytest.raises(Refused, match="bad-signature"):
        _serve(world, CALLER, PROTOCOL, outbox.encode_receipts([(result.task, wrong_domain)], behalf=None))
    assert world.propose(world.provider, GetTask(result.task)).countersignature == b""
    signatures = [(result.task, good), (TaskId("t-forgotten"), good)]
    for recorded in (1, 0):
        answer = _serve(world, CALLER, PROTOCOL, outbox.encode_receipts(signatures, behalf=None))
        assert outbox.decode_received(answer) == outbox.Received(recorded)
    assert world.propose(world.provider, GetTask(result.task)).countersignature == good


def test_receipts_are_sent_again() -> None:
    world = World()
    flow = world.begin_call("read")
    world.run(until=lambda: flow in world.ended)
    world.provider.crash()
    world.run(seconds=3)
    world.provider.start()
    world.run(seconds=120)
    assert world.propose(world.provider, GetTask(world.result(flow).task)).countersignature
    assert world.caller.machines["receipts"].statistics() == {"waiting": 0, "dropped": 0}  # type: ignore[attr-defined]


def test_a_task_of_before_is_not_asked_twice() -> None:
    world = World()
    assert isinstance(world.propose(world.provider, GetTask(world.call("read").task)), Ended)
    flow = world.begin_call("slow", timeout_s=60.0, task=TaskId("t-abc"))
    world.run(until=lambda: len(world.executions) == 2)
    assert isinstance(world.propose(world.provider, GetTask(TaskId("t-abc"))), Running)
    with pytest.raises(Refused, match="task-exists"):
        world.call("read", task=TaskId("t-abc"), node=world.nodes[STRANGER.node])
    assert world.result(flow).status == "completed"


# -- quarantine ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", [AGENT, BETA, PROVIDER.node, ACME, CALLER.node])
@pytest.mark.parametrize("knows", ["caller", "provider"])
def test_no_call_goes_to_or_comes_from_what_is_in_quarantine(subject: str, knows: str) -> None:
    world = World()
    node = world.caller if knows == "caller" else world.provider
    node.quarantine.add(subject)
    with pytest.raises(Refused, match=subject) as refused:
        world.call("pay")
    assert (refused.value.name, refused.value.outcome, world.executions) == ("quarantined", "not_done", [])
    node.quarantine.clear()
    assert world.call("pay").status == "completed", "once it is lifted"


def test_another_node_of_the_organisation_is_called_instead_of_one_in_quarantine() -> None:
    world = World()
    world.caller.quarantine.add(SECOND.node)
    assert world.call("pay", providers=(SECOND.node, PROVIDER.node)).status == "completed"
    world.caller.quarantine.add(PROVIDER.node)
    with pytest.raises(Refused, match="is in quarantine"):
        world.call("pay", providers=(SECOND.node, PROVIDER.node))


def test_calls_that_another_node_passes_on_are_refused_by_the_leader() -> None:
    world = World()
    world.provider.quarantine.add(ACME)
    with pytest.raises(Refused, match="its calls are refused"):
        world.call("pay", providers=(SECOND.node,))


def test_a_request_that_comes_again_after_a_quarantine_hears_what_became_of_the_first() -> None:
    world = World()
    done = world.call("pay")
    world.run()
    world.provider.quarantine.add(AGENT)
    again = world.call("pay", task=done.task)
    assert (again.status, again.task, len(world.executions)) == ("completed", done.task, 1), "not that nothing was done"
    with pytest.raises(Refused, match="is in quarantine"):
        world.call("pay", task=done.task, node=world.nodes[STRANGER.node])


def test_how_a_task_ended_that_was_begun_before_a_quarantine_is_told_all_the_same() -> None:
    world = World()
    flow = world.begin_call("slow")
    world.run(lambda: bool(world.executions))
    for node in world.nodes.values():
        node.quarantine |= {AGENT, ACME}
    ended = world.result(world.caller.begin("call-off", world.requests[flow]))
    assert (ended.status, ended.heard) == ("cancelled", True)
