"""Chance that can be had again, from any draw on."""

import random

import pytest

from meshos.node.runtime.recorder.drawing import Drawing

KEY = bytes(range(32))


def test_the_same_key_draws_the_same_and_another_does_not() -> None:
    first, second, other = Drawing(KEY), Drawing(KEY), Drawing(KEY[::-1])
    drawn = [first.random(), first.randbytes(16), first.sample(range(100), 5), first.uniform(1, 2), first.getrandbits(1000)]
    assert drawn == [second.random(), second.randbytes(16), second.sample(range(100), 5), second.uniform(1, 2), second.getrandbits(1000)]
    assert drawn[0] != other.random()


def test_a_replay_may_begin_at_any_draw() -> None:
    chance = Drawing(KEY)
    values = [(chance.drawn, chance.randbytes(8), chance.random()) for _ in range(20)]
    for drawn, bytes_, number in reversed(values):
        again = Drawing(KEY)
        again.drawn = drawn
        assert (again.randbytes(8), again.random()) == (bytes_, number)


def test_a_new_key_begins_anew() -> None:
    chance = Drawing(KEY)
    before = chance.random()
    chance.rekey(KEY[::-1])
    assert chance.drawn == 0 and chance.random() != before
    chance.rekey(KEY)
    assert chance.random() == before


def test_it_is_spread_as_chance_is() -> None:
    chance = Drawing(KEY)
    numbers = [chance.random() for _ in range(20_000)]
    assert all(0 <= number < 1 for number in numbers)
    tenths = [sum(number // 0.1 == tenth for number in numbers) for tenth in range(10)]
    assert max(tenths) < 2_300 and min(tenths) > 1_700
    bits = sum(chance.getrandbits(64).bit_count() for _ in range(2_000))
    assert abs(bits - 64_000) < 1_000
    assert sorted(random.Random(1).sample(range(9), 9)) == sorted(chance.sample(range(9), 9))
    assert chance.getrandbits(0) == 0 and chance.getrandbits(3) < 8


def test_it_has_no_other_state() -> None:
    with pytest.raises(NotImplementedError):
        Drawing(KEY).getstate()
