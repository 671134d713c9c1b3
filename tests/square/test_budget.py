"""Strangers cost what they are allowed to cost: each peer, each address, and all of them together."""

from hypothesis import given
from hypothesis import strategies as st

from meshos.errors import Refused
from meshos.protocols.square.budget import Budget, Rate, Rates

RATES = Rates(peer=Rate(5, 10), address=Rate(10, 30), all=Rate(20, 60))


def takes(budget: Budget, now: float, cost: int = 1, *, address: str = "192.0.2.1", peer: str = "p") -> bool:
    try:
        budget.take(now, cost, address=address, peer=peer)
    except Refused as refusal:
        assert refusal.name == "square-rate"
        return False
    return True


def test_what_was_saved_may_be_spent_at_once_and_then_what_comes_in() -> None:
    budget = Budget(RATES)
    assert [takes(budget, 0.0) for _ in range(11)] == [True] * 10 + [False]
    assert [takes(budget, 1.0) for _ in range(6)] == [True] * 5 + [False]


def test_keys_are_free_so_one_address_has_no_more_with_many_of_them() -> None:
    budget = Budget(RATES)
    assert sum(takes(budget, 0.0, peer=f"p{number}") for number in range(100)) == 30


def test_all_together_have_no_more_with_many_addresses() -> None:
    budget = Budget(RATES)
    assert sum(takes(budget, 0.0, address=f"198.51.100.{number}", peer=f"p{number}") for number in range(200)) == 60


def test_a_network_of_64_bits_is_one_address() -> None:
    budget = Budget(RATES)
    assert sum(takes(budget, 0.0, address=f"2001:db8::{number:x}", peer=f"p{number}") for number in range(100)) == 30
    assert takes(budget, 0.0, address="2001:db8:0:1::1", peer="another")


def test_a_refusal_costs_nothing() -> None:
    budget = Budget(RATES)
    assert takes(budget, 0.0, 10)
    assert not any(takes(budget, 0.0) for _ in range(100))
    assert takes(budget, 0.2), "a fifth of a second brings one token, whatever was refused meanwhile"


def test_what_is_known_later_is_a_debt_of_who_caused_it_and_of_all() -> None:
    budget = Budget(RATES)
    assert takes(budget, 0.0, 1)
    budget.spend(0.0, 19, address="192.0.2.1", peer="p")
    assert not takes(budget, 1.0) and not takes(budget, 2.0), "the peer owes ten tokens, and gains five a second"
    assert takes(budget, 2.3)
    assert sum(takes(budget, 2.3, address="192.0.2.2", peer=f"q{number}") for number in range(100)) == 30, "others are served"


def test_the_tables_do_not_grow_and_who_is_forgotten_is_still_bound_by_the_rest() -> None:
    budget = Budget(RATES, remembered=8)
    served = sum(takes(budget, 0.0, address=f"198.51.{number // 256}.{number % 256}", peer=f"p{number}") for number in range(10_000))
    figures = budget.statistics()
    assert served == 60 and figures["peers_counted"] == figures["addresses_counted"] == 8


@given(st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 5), st.integers(0, 3), st.integers(0, 3)), max_size=200))
def test_nobody_gets_more_than_what_is_saved_and_what_came_in(asked: list[tuple[float, int, int, int]]) -> None:
    budget, now, spent = Budget(RATES), 0.0, 0
    per_peer = dict.fromkeys(range(4), 0)
    for pause, cost, peer, address in asked:
        now += pause
        if takes(budget, now, cost, address=f"192.0.2.{address}", peer=f"p{peer}"):
            spent += cost
            per_peer[peer] += cost
    assert spent <= 60 + 20 * now + 1e-6
    assert all(each <= 10 + 5 * now + 1e-6 for each in per_peer.values())


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    budget = Budget(RATES)
    assert takes(budget, 10.0, 10) and not takes(budget, 5.0) and not takes(budget, 10.0)
