"""Calls that are paid for, over whole nodes: the tab opens by itself, vouchers go along, the provider is paid (issue 3, 5.)."""

from meshos.effects import Ok
from meshos.protocols.payments.commands import EARNING, PAYING, ListEarnings, ListTabs
from meshos.protocols.tasks.call import TaskResult
from tests.payments.mesh import ALPHA, BETA, CALLERS, FUNDS, PRICE, PROVIDERS, Mesh


def test_the_first_call_opens_a_tab_and_its_price_reaches_the_provider() -> None:
    mesh = Mesh(1)
    mesh.agents.slow = 0.0
    number = mesh.call()
    mesh.run(10.0)
    outcome = mesh.ended[number]
    assert isinstance(outcome, Ok) and isinstance(outcome.value, TaskResult) and outcome.value.status == "completed", outcome
    (tab,) = mesh.propose(CALLERS[0], ListTabs(), PAYING)  # type: ignore[misc]
    print(tab)
    (earning,) = mesh.propose(PROVIDERS[0], ListEarnings(), EARNING)  # type: ignore[misc]
    print(earning)
    assert (tab.owed, tab.signed, tab.acknowledged) == (PRICE,) * 3
    assert mesh.balance(BETA) == FUNDS + PRICE
    assert mesh.balance(ALPHA) == FUNDS - tab.reserved
