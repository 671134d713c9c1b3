"""Receipts: providers that cheat, strangers and forgers, and countersignatures that are sent again."""

from dataclasses import replace

import pytest

from meshos import cbor
from meshos.consensus.org.commands import Ended, GetTask
from meshos.crypto.signing import Domain
from meshos.crypto.simulated import SimulatedSigner
from meshos.errors import Refused
from meshos.flow_machine import StartFlow
from meshos.ids import NodeId, Peer, TaskId
from meshos.protocols.rpc.events import Inbound
from meshos.protocols.tasks import outbox, wire
from meshos.protocols.tasks.call import TaskResult
from meshos.protocols.tasks.receipt import PROTOCOL, caller_domain, decode_receipt, provider_domain
from meshos.protocols.tasks.wire import TaskRequest, decode_reply, encode_request
from tests.tasks.driver import ACME, AGENT, BETA, CALLER, GENESIS, PRICE, PROVIDER, SECOND, STRANGER, World


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
