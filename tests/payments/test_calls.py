"""Calls that are paid for, over whole nodes: the tab opens by itself, vouchers go along, the provider is paid (issue 3, 5.)."""

from typing import Any

import pytest

from meshos import cbor
from meshos.consensus.ledger.tabs import OpenTab, TopUpTab
from meshos.crypto.simulated import SimulatedSigner
from meshos.effects import Err, Ok
from meshos.flow_machine import StartFlow
from meshos.ids import NodeId, Peer
from meshos.node.kernel.core import OUTSIDE
from meshos.protocols.payments.budget import Budget
from meshos.protocols.payments.commands import EARNING, PAYING, Earning, ListEarnings, ListTabs, TabStatus
from meshos.protocols.payments.voucher import Voucher, voucher_domain
from meshos.protocols.rpc.events import Inbound
from meshos.protocols.tasks import outbox
from meshos.protocols.tasks.call import TaskResult
from meshos.protocols.tasks.receipt import PROTOCOL
from tests.payments.chain import ALPHA, BETA, FUNDS
from tests.payments.mesh import CALLERS, CREDIT, ORG, PRICE, PROVIDERS, Mesh

CALLER, OTHER = CALLERS
PROVIDER = PROVIDERS[0]


def begin(seed: int = 1, **how: Any) -> Mesh:
    mesh = Mesh(seed, **how)
    mesh.agents.slow = 0.0
    return mesh


def result(mesh: Mesh, number: int) -> TaskResult:
    outcome = mesh.ended[number]
    assert isinstance(outcome, Ok) and isinstance(outcome.value, TaskResult), outcome
    return outcome.value


def tab(mesh: Mesh, node: NodeId = CALLER) -> TabStatus:
    (found,) = mesh.propose(node, ListTabs(), PAYING)
    return found


def earning(mesh: Mesh, provider: NodeId = PROVIDER) -> Earning:
    (found,) = mesh.propose(provider, ListEarnings(), EARNING)
    return found


def test_the_first_call_opens_a_tab_and_its_price_reaches_the_provider() -> None:
    mesh = begin()
    number = mesh.call()
    mesh.run(0.5)
    assert result(mesh, number).status == "completed", "no ledger round on the way"
    mesh.run(9.5)
    found = tab(mesh)
    assert (found.owed, found.signed, found.acknowledged, found.spent) == (PRICE,) * 4
    assert earning(mesh) == Earning(ALPHA, PRICE, 0, 0)
    assert mesh.balance(BETA) == FUNDS + PRICE
    assert mesh.balance(ALPHA) == FUNDS - found.reserved


def test_each_node_pays_on_a_tab_of_its_own_for_each_provider() -> None:
    mesh = begin()
    for node in CALLERS:
        for provider in PROVIDERS:
            mesh.call(node, provider)
    mesh.run(10.0)
    assert len([body for body in mesh.chain.opened() if isinstance(body, OpenTab)]) == 4
    assert [mesh.balance(ORG[provider]) for provider in PROVIDERS] == [FUNDS + 2 * PRICE] * 2


def test_many_calls_are_paid_by_few_vouchers_and_top_the_tab_up() -> None:
    mesh = begin()
    for _ in range(60):
        mesh.call()
        mesh.run(0.1)
    mesh.run(10.0)
    assert mesh.balance(BETA) == FUNDS + 60 * PRICE
    assert 0 < len([body for body in mesh.chain.opened() if isinstance(body, TopUpTab)]) < 6
    assert len(mesh.chain.redeemed()) < 12


def test_a_burst_is_slowed_to_what_vouchers_cover_and_none_of_it_is_refused() -> None:
    mesh = begin()
    mesh.call()
    mesh.run(5.0)
    numbers = [mesh.call() for _ in range(3 * CREDIT // PRICE)]
    mesh.run(10.0)
    assert {result(mesh, number).status for number in numbers} == {"completed"}
    assert mesh.balance(BETA) == FUNDS + (len(numbers) + 1) * PRICE


def test_what_costs_nothing_opens_no_tab() -> None:
    mesh = begin(price=0)
    number = mesh.call()
    mesh.run(5.0)
    assert result(mesh, number).status == "completed"
    assert not mesh.chain.opened() and mesh.propose(CALLER, ListTabs(), PAYING) == ()


def test_an_organisation_pays_nothing_to_itself() -> None:
    mesh = begin()
    number = mesh.call(PROVIDER, PROVIDER)
    mesh.run(5.0)
    assert result(mesh, number).status == "completed"
    assert not mesh.chain.opened() and mesh.propose(PROVIDER, ListEarnings(), EARNING) == ()


def test_a_repeated_call_is_paid_once() -> None:
    mesh = begin()
    numbers = []
    for _ in range(3):
        numbers.append(mesh.call(key="k"))
        mesh.run(3.0)
    assert [result(mesh, number).replayed for number in numbers] == [False, True, True]
    assert mesh.balance(BETA) == FUNDS + PRICE and tab(mesh).promised == 0


def test_a_task_that_failed_costs_nothing() -> None:
    mesh = begin()
    mesh.agents.slow = 1.0
    number = mesh.call(timeout_s=0.4)
    mesh.run(60.0)
    assert result(mesh, number).status == "expired"
    assert mesh.balance(BETA) == FUNDS and tab(mesh).owed == 0


def test_where_the_ledger_is_out_of_reach_calls_go_on_within_the_credit_and_are_paid_later() -> None:
    mesh = begin()
    mesh.chain.down = True
    numbers = []
    for _ in range(CREDIT // PRICE + 2):
        numbers.append(mesh.call())
        mesh.run(1.0)
    done, refused = numbers[: CREDIT // PRICE], numbers[CREDIT // PRICE :]
    assert {result(mesh, number).status for number in done} == {"completed"}
    for number in refused:
        problem = result(mesh, number).problem
        assert problem is not None and (problem.name, problem.outcome) == ("unpaid", "not_done")
    mesh.chain.down = False
    mesh.run(30.0)
    assert mesh.balance(BETA) == FUNDS + CREDIT
    again = mesh.call()
    mesh.run(2.0)
    assert result(mesh, again).status == "completed"


def test_a_node_spends_no_more_than_its_limit() -> None:
    mesh = begin(budget=Budget(3 * PRICE, 3 * PRICE))
    numbers = [mesh.call() for _ in range(4)]
    mesh.run(10.0)
    outcomes = [mesh.ended[number] for number in numbers]
    assert [outcome.error.name for outcome in outcomes if isinstance(outcome, Err)] == ["over-limit"]
    assert mesh.balance(BETA) == FUNDS + 3 * PRICE
    assert sum(body.micro for body in mesh.chain.opened()) <= 3 * PRICE, "nor sets more aside"


def test_a_provider_asks_no_more_than_the_caller_knows() -> None:
    mesh = begin(price=2 * PRICE)
    number = mesh.call(price_micro=PRICE)
    mesh.run(10.0)
    problem = result(mesh, number).problem
    assert problem is not None and problem.name == "over-budget"
    assert mesh.balance(BETA) == FUNDS and tab(mesh).promised == 0


# -- what is lost on the way -------------------------------------------------------------------------------------------


def test_a_call_that_its_caller_left_is_paid_all_the_same() -> None:
    mesh = begin()
    number = mesh.call()
    mesh.world.network.faults.partition([[CALLER], [PROVIDER]])
    mesh.run(0.01)
    mesh.world.network.faults.heal()
    for delay in (0.02, 0.1, 0.2):
        other = mesh.call()
        mesh.run(delay)
        mesh.cancel(CALLER, other)
    mesh.run(120.0)
    assert number in mesh.ended
    owed = sum(ended.owed_micro for ended in mesh.completed(PROVIDER).values())
    assert mesh.balance(BETA) == FUNDS + owed and earning(mesh).unpaid == 0


def test_a_caller_that_dies_pays_after_its_restart() -> None:
    mesh = begin(2)
    mesh.call()
    mesh.run(3.0)
    mesh.agents.slow = 1.0
    mesh.call(timeout_s=30.0)
    mesh.run(1.0)
    mesh.world.nodes[CALLER].crash()
    mesh.run(12.0)
    mesh.world.nodes[CALLER].start()
    mesh.run(20.0)
    owed = sum(ended.owed_micro for ended in mesh.completed(PROVIDER).values())
    assert owed == 2 * PRICE and mesh.balance(BETA) == FUNDS + owed


def test_a_voucher_that_was_acknowledged_outlives_both_sides() -> None:
    mesh = begin()
    mesh.call()
    while not tab(mesh).acknowledged:
        mesh.run(0.05)
    mesh.world.nodes[PROVIDER].crash()
    mesh.world.nodes[CALLER].crash()
    assert mesh.balance(BETA) == FUNDS
    mesh.world.nodes[PROVIDER].start()
    mesh.run(10.0)
    assert mesh.balance(BETA) == FUNDS + PRICE


def test_a_provider_that_was_away_gets_its_voucher_when_it_is_back() -> None:
    mesh = begin()
    mesh.chain.down = True  # so that there is no tab when the receipt is delivered
    mesh.call()
    mesh.run(2.0)
    mesh.world.nodes[PROVIDER].crash()
    mesh.chain.down = False
    mesh.run(30.0)
    mesh.world.nodes[PROVIDER].start()
    mesh.run(60.0)
    assert mesh.balance(BETA) == FUNDS + PRICE


def test_another_node_of_the_organisation_takes_vouchers_too() -> None:
    mesh = begin()
    mesh.propose(CALLER, mesh.agent(CALLER))  # alpha-1 holds its organisation's state, alpha-2 passes on
    number = mesh.call(PROVIDER, OTHER)
    mesh.run(10.0)
    assert result(mesh, number).status == "completed"
    assert mesh.balance(ALPHA) == FUNDS + PRICE
    mesh.call(PROVIDER, OTHER)
    mesh.run(0.5)
    mesh.world.network.faults.partition([[PROVIDER], [CALLER]])  # the holder itself is out of reach
    mesh.run(120.0)
    assert mesh.balance(ALPHA) == FUNDS + 2 * PRICE


# -- bad input ---------------------------------------------------------------------------------------------------------


def serve(mesh: Mesh, peer: NodeId, body: bytes) -> Any:
    """What the provider's service answers to ``body`` from ``peer``."""
    node = mesh.world.nodes[PROVIDER]
    inbound = Inbound(Peer(peer, ORG[peer]), PROTOCOL, body, node.now() + 5.0)
    mesh.numbers += 1
    node.deliver("flows", StartFlow(mesh.numbers, PROTOCOL, inbound, node.now() + 5.0, OUTSIDE))
    mesh.run(1.0)
    return mesh.ended[mesh.numbers]


def voucher(mesh: Mesh, signer: NodeId, micro: int) -> Voucher:
    tab_ = tab(mesh).tab
    signature = SimulatedSigner(mesh.keys, signer).sign(voucher_domain(mesh.chain.genesis.hash), cbor.encode([tab_, micro]))
    return Voucher(tab_, micro, signature)


def test_forged_replayed_and_stolen_vouchers_cover_nothing() -> None:
    mesh = begin()
    mesh.call()
    mesh.run(10.0)
    good = voucher(mesh, CALLER, PRICE)
    for peer, given, name in (
        (CALLER, voucher(mesh, OTHER, 5 * PRICE), "bad-signature"),
        (CALLER, Voucher(good.tab, PRICE + 1, good.signature), "bad-signature"),
        (CALLER, Voucher(b"x" * 32, PRICE, good.signature), "bad-signature"),
        (OTHER, good, "bad-signature"),
    ):
        outcome = serve(mesh, peer, outbox.encode_receipts([], behalf=None, voucher=given))
        assert isinstance(outcome, Err) and outcome.error.name == name
    stolen = voucher(mesh, OTHER, 5 * PRICE)  # signed by its sender, on another's tab
    outcome = serve(mesh, OTHER, outbox.encode_receipts([], behalf=None, voucher=stolen))
    assert isinstance(outcome, Ok) and outbox.decode_received(outcome.value).refused == "not-your-tab"
    outcome = serve(mesh, CALLER, outbox.encode_receipts([], behalf=None, voucher=voucher(mesh, CALLER, 10**9)))
    assert isinstance(outcome, Ok) and outbox.decode_received(outcome.value).refused == "voucher-above-reserve"
    outcome = serve(mesh, CALLER, outbox.encode_receipts([], behalf=None, voucher=good))
    assert isinstance(outcome, Ok) and outbox.decode_received(outcome.value) == outbox.Received(0, PRICE), "the same again is not more"
    assert mesh.balance(BETA) == FUNDS + PRICE


@pytest.mark.parametrize("value", [[], [b"t" * 32, 1], [b"t" * 31, 1, b"s" * 64], [b"t" * 32, 0, b"s" * 64], [b"t" * 32, 1, b"s"], 7])
def test_what_is_no_voucher_is_refused(value: object) -> None:
    mesh = begin()
    outcome = serve(mesh, CALLER, cbor.encode({"behalf": None, "receipts": [], "voucher": value}))
    assert isinstance(outcome, Err) and outcome.error.name == "bad-message"
