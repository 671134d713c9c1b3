"""Calls from a node, over the real host and scheduler of Flows: when they are told as ended, as what, and what they leave in the purse."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
import trio
import trio.testing

from meshos.consensus.org.commands import Status
from meshos.effects import Sign
from meshos.errors import MeshError, Refused, Unreachable
from meshos.flow import Port, Sleep
from meshos.flow_machine import Flows
from meshos.ids import AgentId, NodeId, OrgDid, Peer, TaskId
from meshos.node.api.keys import Key
from meshos.node.api.shapes import Caller
from meshos.node.facade import tasks as tasks_module
from meshos.node.facade.calling import Call, Calling
from meshos.node.facade.measuring import Measurements
from meshos.node.facade.metrics import Metrics
from meshos.node.kernel.asking import CALL, CALLED_OFF
from meshos.node.runtime.host import Host
from meshos.protocols.tasks.call import CallRequest, TaskResult
from meshos.protocols.tasks.receipt import Receipt, SignedReceipt

PRICE = 7
ME, PROVIDER = Peer(NodeId("n-me"), OrgDid("did:mesh:enterprise:me")), Peer(NodeId("n-p"), OrgDid("did:mesh:enterprise:p"))
AGENT = AgentId("a-1")
Word = Callable[[CallRequest], TaskResult]


class Asked:
    """A port's work: until the provider has something to say."""


def result(asked: CallRequest, status: Status, *, receipt: bool = True, heard: bool = True, value: bytes | None = None) -> TaskResult:
    """What the Flows "call" and "call-off" give."""
    price = PRICE if status == "completed" else 0
    payload = Receipt(asked.task, ME, PROVIDER, asked.agent, bytes(32), status, bytes(32), 0, price, 5).payload()
    signed = SignedReceipt(payload, b"s", b"c") if receipt else None
    return TaskResult(asked.task, asked.agent, status, value, None, signed, 1, 2, False, "", heard)


def says(status: Status, *, receipt: bool = True, heard: bool = True) -> Word:
    return lambda asked: result(asked, status, receipt=receipt, heard=heard)


def raises(error: MeshError) -> Word:
    def word(asked: CallRequest) -> TaskResult:
        raise error

    return word


@dataclass
class Node:
    """The part of a node that makes calls; what the provider says is the test's to choose."""

    calling: Calling
    nursery: trio.Nursery
    purse: Key
    answer: Word
    word: Word
    answers_after_s: float = 0.0
    may_say: trio.Event = field(default_factory=trio.Event)  # what became of a task that was called off
    began: trio.Event = field(default_factory=trio.Event)

    def call(self, number: int = 1) -> Call:
        asked = CallRequest(TaskId(f"t-{number}"), AGENT, (PROVIDER.node,), PROVIDER.org, "tool", b"\xa0", 600.0, price_micro=PRICE)
        caller = Caller("key", "name", "caller", None, 7, self.purse)
        return Call(asked, "Agent", caller, PRICE, trio.current_time())

    @property
    def money(self) -> tuple[int, int]:
        return self.purse.held_micro, self.purse.spent_micro


async def never_signs(sign: Sign) -> bytes:
    raise AssertionError("nothing here is signed")


@asynccontextmanager
async def a_node() -> AsyncIterator[Node]:
    nodes: list[Node] = []

    async def call(asked: CallRequest) -> TaskResult:
        nodes[0].began.set()
        await Sleep(nodes[0].answers_after_s)
        return nodes[0].answer(asked)

    async def call_off(asked: CallRequest) -> TaskResult:
        await Port[None](Asked())
        return nodes[0].word(asked)

    async def wait_for_word(effect: Asked) -> None:
        await nodes[0].may_say.wait()

    async with trio.open_nursery() as nursery:
        host = Host(
            {"flows": Flows({CALL: call, CALLED_OFF: call_off}, limit=10)},
            stores={},
            handlers={},
            ports={Asked: wait_for_word},
            sign=never_signs,
        )
        calling = Calling(host, nursery, Measurements(), Metrics({}), lambda _: None)
        purse = Key("key", "name", "caller", b"", 100)
        nodes.append(Node(calling, nursery, purse, says("completed"), says("cancelled", receipt=False)))
        await nursery.start(host.run)
        yield nodes[0]
        nursery.cancel_scope.cancel()


async def test_a_call_that_is_answered_costs_what_its_receipt_says() -> None:
    async with a_node() as node:
        view = await node.calling.wait_made(node.call(1))
        assert (view.status, view.cost_micro, node.money) == ("completed", PRICE, (0, PRICE))
        node.answer = says("failed")
        assert (await node.calling.wait_made(node.call(2))).status == "failed"
        assert node.money == (0, PRICE)
        assert node.calling.tasks.find(TaskId("t-1")) == view


@pytest.mark.parametrize(
    ("word", "status", "spent"),
    [
        (says("cancelled", receipt=False), "cancelled", 0),
        (says("expired", receipt=False), "expired", 0),
        (says("failed"), "failed", 0),
        (says("completed"), "completed", PRICE),
        (says("completed", receipt=False), "completed", PRICE),  # its large result crossed the cancel
        (says("outcome_unknown", receipt=False), "outcome_unknown", 0),  # the provider's own word: it will not ask for anything
        (says("outcome_unknown", receipt=False, heard=False), "outcome_unknown", PRICE),
        (raises(Refused("receipt-invalid", "forged", outcome="done")), "failed", PRICE),
        (raises(Unreachable("deadline-exceeded", "the flow took too long")), "outcome_unknown", PRICE),
    ],
)
@pytest.mark.parametrize("how", ["by its id", "its client left", "by its id, nobody waited for it"])
async def test_called_off_it_ends_as_the_provider_says(word: Word, status: str, spent: int, how: str) -> None:
    async with a_node() as node:
        node.word, node.answers_after_s = word, 600.0
        waiting = trio.CancelScope()
        seen: list[object] = []

        async def wait() -> None:
            with waiting:
                seen.append((await node.calling.wait_made(node.call())).status)

        if how == "by its id, nobody waited for it":
            node.calling.make(node.call())
        else:
            node.nursery.start_soon(wait)
        await node.began.wait()
        assert node.money == (PRICE, 0)
        if how == "its client left":
            waiting.cancel()
            await trio.testing.wait_all_tasks_blocked()
            found = node.calling.tasks.find(TaskId("t-1"))
            assert found is not None and found.status == "running", "until the provider has said something"
            assert node.money == (PRICE, 0)
        node.may_say.set()
        view = await node.calling.tasks.cancel(TaskId("t-1"))
        assert (view.status, node.money) == (status, (0, spent))
        assert node.calling.tasks.find(TaskId("t-1")) == view
        await trio.testing.wait_all_tasks_blocked()
        assert seen == ([status] if how == "by its id" else [])
        assert node.calling.tasks.statistics()["running"] == 0


async def test_called_off_twice_it_is_asked_for_once() -> None:
    async with a_node() as node:
        node.answers_after_s = 600.0
        asked: list[TaskId] = []

        def word(request: CallRequest) -> TaskResult:
            asked.append(request.task)
            return result(request, "cancelled", receipt=False)

        node.word = word
        node.may_say.set()
        node.calling.make(node.call())
        await node.began.wait()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(node.calling.tasks.cancel, TaskId("t-1"))
        assert asked == ["t-1"]


@pytest.mark.parametrize(
    ("error", "spent"),
    [
        (Refused("busy", "full"), 0),
        (Refused("result-not-kept", "done before", outcome="done"), 0),
        (Refused("receipt-invalid", "forged", outcome="done"), PRICE),
        (Unreachable("deadline-exceeded", "the flow took too long"), PRICE),
        (Unreachable("peer-unreachable", "no link", outcome="not_done"), 0),
    ],
)
async def test_a_call_without_a_result_costs_its_price_unless_it_was_surely_not_done(error: MeshError, spent: int) -> None:
    async with a_node() as node:
        node.answer = raises(error)
        with pytest.raises(MeshError, match=error.name):
            await node.calling.wait_made(node.call())
        assert node.money == (0, spent)
        node.calling.make(node.call(2))
        with trio.fail_after(5):
            while (found := node.calling.tasks.find(TaskId("t-2"))) is None or found.status == "running":
                await trio.testing.wait_all_tasks_blocked()
        assert found.error is not None and found.error.name == error.name
        assert found.status == ("outcome_unknown" if error.outcome == "unknown" else "failed")


async def test_a_call_that_repeats_an_earlier_one_costs_nothing() -> None:
    async with a_node() as node:
        node.answer = lambda asked: replace(result(asked, "completed"), replayed=True)
        assert (await node.calling.wait_made(node.call())).status == "completed"
        assert node.money == (0, 0)


async def test_an_agent_that_is_told_of_and_not_served() -> None:
    async with a_node() as node:
        node.answer = raises(Refused("agent-unknown", "no such agent runs here"))
        with pytest.raises(Refused, match="agent-not-served"):
            await node.calling.wait_made(node.call())


async def test_a_provider_that_is_not_reached_has_its_name() -> None:
    async with a_node() as node:
        cut_off = Unreachable("peer-unreachable", f"{PROVIDER.node} does not answer at h:1", outcome="not_done")
        node.answer = raises(cut_off)
        with pytest.raises(Unreachable) as unnamed:
            await node.calling.wait_made(node.call())
        assert unnamed.value.detail == f"{PROVIDER.node} does not answer at h:1; nothing was done"
        node.calling._name_of = lambda known: "beta-1" if known == PROVIDER.node else ""
        with pytest.raises(Unreachable) as caught:
            await node.calling.wait_made(node.call(2))
        assert (caught.value.name, caught.value.outcome) == ("peer-unreachable", "not_done")
        assert caught.value.detail == "p's node beta-1 does not answer at h:1; nothing was done"
        assert "mesh members" in caught.value.hint and "mesh testnet start beta-1" in caught.value.hint


async def test_the_table_is_full_and_the_purse_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks_module, "RUNNING", 1)
    async with a_node() as node:
        node.answers_after_s = 600.0
        node.calling.make(node.call(1))
        with pytest.raises(Refused, match="busy"):
            await node.calling.wait_made(node.call(2))
        assert node.money == (PRICE, 0)
        node.purse.budget_micro = PRICE
        with pytest.raises(Refused, match="budget-exceeded"):
            node.calling.make(node.call(3))
        assert node.calling.tasks.statistics()["running"] == 1


async def test_what_is_kept_of_ended_tasks_is_bounded_and_the_newest_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks_module, "ENDED_BYTES", 100)
    async with a_node() as node:
        sizes = {1: 60, 2: 60, 3: 1000}
        for number, size in sizes.items():
            node.answer = lambda asked, size=size: result(asked, "completed", value=bytes(size))  # type: ignore[misc]
            await node.calling.wait_made(node.call(number))
        tasks = node.calling.tasks
        assert [tasks.find(TaskId(f"t-{number}")) is not None for number in sizes] == [False, False, True]
        assert tasks.statistics() == {"running": 0, "kept": 1, "kept_bytes": 1000}
