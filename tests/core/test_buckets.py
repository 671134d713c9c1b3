"""Token buckets: what they hold, what they gain, what they owe; and whose bucket an address is."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshos.buckets import Bucket, Buckets, block_of


def test_a_bucket_empties_and_fills_for_each_alone() -> None:
    buckets = Buckets(a_second=2.0, most=3, remembered=10)
    assert [buckets.of("a").take(0.0) for _ in range(5)] == [True, True, True, False, False]
    assert buckets.of("b").take(0.0)
    assert [buckets.of("a").take(0.5) for _ in range(2)] == [True, False]
    assert [buckets.of("a").take(100.0) for _ in range(4)] == [True, True, True, False], "never more than it holds"


def test_so_many_are_remembered_and_who_was_quiet_longest_is_forgotten() -> None:
    buckets = Buckets(a_second=0.0, most=1, remembered=2)
    assert buckets.of("a").take(0.0) and buckets.of("b").take(1.0) and not buckets.of("a").take(2.0)
    assert buckets.of("c").take(3.0) and len(buckets) == 2
    assert not buckets.of("a").take(4.0) and buckets.of("b").take(5.0)


def test_what_is_spent_beyond_is_a_debt_that_is_paid_before_anything_else() -> None:
    bucket = Bucket(10.0, 5)
    assert bucket.spend(0.0, 5) == 0.0 and bucket.spend(0.0, 2) == pytest.approx(0.2)
    assert not bucket.take(0.2) and bucket.lacks_s(0.2) == pytest.approx(0.1)
    assert bucket.take(0.31)


def test_what_was_full_while_nothing_happened_has_saved_nothing_more() -> None:
    bucket = Bucket(10.0, 5)
    assert bucket.take(0.0)
    assert bucket.spend(1_000.0, 6) == pytest.approx(0.1)


def test_a_refusal_takes_nothing_and_what_is_given_back_is_there_up_to_what_it_holds() -> None:
    bucket = Bucket(1.0, 2)
    assert not bucket.take(0.0, 3) and bucket.take(0.0, 2) and not bucket.take(0.0)
    bucket.give_back(5)
    assert bucket.level(0.0) == 2


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    bucket = Bucket(1.0, 1)
    assert bucket.take(10.0) and not bucket.take(5.0) and not bucket.take(10.0) and bucket.take(11.0)


def test_one_that_gains_nothing_is_waited_for_in_vain_and_one_without_a_bound_never() -> None:
    empty, endless = Bucket(0.0, 0), Bucket(0.0, math.inf)
    assert empty.lacks_s(1.0) == math.inf
    assert all(endless.take(float(now), 1 << 40) for now in range(3)) and endless.spend(4.0, 1 << 40) == 0.0


@given(st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 5), st.booleans()), max_size=100))
def test_nobody_takes_more_than_what_is_held_and_what_came_in(acts: list[tuple[float, int, bool]]) -> None:
    bucket, now, took = Bucket(4.0, 10), 0.0, 0.0
    for pause, cost, waits in acts:
        now += pause
        if waits:
            now += bucket.spend(now, cost)
            took += cost
        elif bucket.take(now, cost):
            took += cost
    assert took <= 10 + 4.0 * now + 1e-6


@pytest.mark.parametrize(
    ("address", "block"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("what", "unknown"),
    ],
)
def test_who_has_64_bits_of_ipv6_is_one(address: str, block: str) -> None:
    assert block_of(address) == block
