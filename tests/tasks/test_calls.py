"""Calls, end to end over the real Flows and machines: results, repetition, errors, forwarding."""

import hashlib
import re

import pytest

from meshos import cbor
from meshos.consensus.org.commands import Ended, GetOwed, GetTask, Running, WithdrawAgent
from meshos.crypto.simulated import SimulatedVerifier
from meshos.errors import BadInput, Broken, MeshError, Refused, Unreachable
from meshos.ids import NodeId, TaskId
from meshos.protocols.tasks import amounts
from meshos.protocols.tasks.receipt import caller_domain, decode_receipt, provider_domain, request_hash
from tests.tasks.driver import ACME, AGENT, CALLER, ECHO, GENESIS, PRICE, PROVIDER, SECOND, STRANGER, World


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


def test_a_task_of_before_is_not_asked_twice() -> None:
    world = World()
    assert isinstance(world.propose(world.provider, GetTask(world.call("read").task)), Ended)
    flow = world.begin_call("slow", timeout_s=60.0, task=TaskId("t-abc"))
    world.run(until=lambda: len(world.executions) == 2)
    assert isinstance(world.propose(world.provider, GetTask(TaskId("t-abc"))), Running)
    with pytest.raises(Refused, match="task-exists"):
        world.call("read", task=TaskId("t-abc"), node=world.nodes[STRANGER.node])
    assert world.result(flow).status == "completed"


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
