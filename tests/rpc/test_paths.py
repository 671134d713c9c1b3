"""Which path carries: at once away from one that does not answer, slowly to one that is better, and never back and forth."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshos.protocols.rpc.limits import BETTER, BETTER_S, NEXT_PATH_S, STALL_MIN_S, STALL_ROUND_TRIPS
from meshos.protocols.rpc.paths import Choice, Measured

TCP, QUIC, RELAY = "tcp", "quic", "relay"
ORDER = (TCP, QUIC, RELAY)
FAST, SLOW = Measured(rtt_s=0.01), Measured(rtt_s=0.1)
STALLED = Measured(rtt_s=0.01, unanswered_s=STALL_MIN_S + 0.01)


def both(**measured: Measured) -> Choice:
    choice = Choice(ORDER)
    choice.up(TCP)
    choice.up(QUIC)
    choice.measure(0.0, measured)
    return choice


def test_the_first_carries_and_the_next_carries_on_where_it_ends() -> None:
    choice = both()
    assert (choice.current, choice.why) == (TCP, "first")
    choice.down(TCP)
    assert (choice.current, choice.why) == (QUIC, "ended")
    choice.up(TCP)
    assert choice.current == QUIC, "one that comes back has to be better first"
    choice.down(QUIC)
    choice.down(TCP)
    assert choice.current is None


def test_a_stalled_one_is_left_at_once() -> None:
    choice = both(tcp=FAST, quic=SLOW)
    assert choice.measure(0.1, {TCP: STALLED, QUIC: SLOW}) and (choice.current, choice.why) == (QUIC, "stalled")
    assert not choice.measure(0.2, {TCP: STALLED, QUIC: SLOW})


def test_one_that_is_far_away_is_given_three_round_trips() -> None:
    waiting = replace(SLOW, unanswered_s=STALL_ROUND_TRIPS * 0.1 - 0.01)
    choice = both(tcp=SLOW, quic=SLOW)
    assert not choice.measure(0.1, {TCP: waiting, QUIC: SLOW})
    assert choice.measure(0.1, {TCP: replace(waiting, unanswered_s=0.31), QUIC: SLOW})


def test_where_all_are_stalled_nothing_changes() -> None:
    choice = both()
    assert not choice.measure(0.1, {TCP: STALLED, QUIC: STALLED}) and choice.current == TCP
    assert not choice.told(QUIC), "not even where the other side does"


def test_a_better_one_carries_after_it_has_been_better_for_long_enough() -> None:
    choice = both(tcp=SLOW, quic=FAST)
    assert not choice.measure(BETTER_S - 0.1, {TCP: SLOW, QUIC: FAST})
    assert not choice.measure(BETTER_S - 0.05, {TCP: SLOW, QUIC: SLOW}), "once no better: it begins anew"
    assert not choice.measure(BETTER_S, {TCP: SLOW, QUIC: FAST})
    assert not choice.measure(2 * BETTER_S - 0.01, {TCP: SLOW, QUIC: FAST})
    assert choice.measure(2 * BETTER_S, {TCP: SLOW, QUIC: FAST}) and (choice.current, choice.why) == (QUIC, "better")


def test_losses_cost_what_it_takes_to_notice_them() -> None:
    lossy = replace(FAST, loss=0.1, recovery_s=0.3)
    choice = both(tcp=lossy, quic=FAST)
    assert choice.measure(BETTER_S, {TCP: lossy, QUIC: FAST}) and choice.current == QUIC


def test_where_it_is_all_the_same_the_first_in_the_order_carries_again() -> None:
    near = Measured(rtt_s=NEXT_PATH_S / 2)
    choice = both()
    choice.told(QUIC)
    for tick in range(10):
        choice.measure(tick * BETTER_S / 3, {TCP: near, QUIC: near})
    assert (choice.current, choice.why) == (TCP, "better")


def test_what_is_not_measured_yet_is_no_better_and_carries_where_it_must() -> None:
    choice = both(tcp=SLOW)
    assert not choice.measure(10.0, {TCP: SLOW}) and not choice.measure(20.0, {TCP: SLOW})
    assert choice.measure(21.0, {TCP: STALLED}) and choice.current == QUIC


def test_the_other_side_is_followed() -> None:
    choice = both(tcp=FAST, quic=FAST)
    assert not choice.told(TCP) and not choice.told(RELAY)
    assert choice.told(QUIC) and (choice.current, choice.why) == (QUIC, "told")


def test_a_connection_of_its_own_goes_over_what_answers() -> None:
    choice = both(tcp=STALLED, quic=FAST)
    assert choice.ranked() == [QUIC, TCP, RELAY]
    assert both().ranked() == [TCP, QUIC, RELAY]


MEASURED = st.builds(
    Measured,
    rtt_s=st.one_of(st.none(), st.floats(0.0, 1.0)),
    loss=st.floats(0.0, 1.0),
    recovery_s=st.floats(0.0, 1.0),
    unanswered_s=st.one_of(st.just(0.0), st.floats(0.0, 5.0)),
)
PATH = st.sampled_from(ORDER)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("up"), PATH),
        st.tuples(st.just("down"), PATH),
        st.tuples(st.just("told"), PATH),
        st.tuples(st.just("measure"), st.fixed_dictionaries(dict.fromkeys(ORDER, MEASURED))),
    ),
    max_size=60,
)


@given(STEPS)
def test_whatever_happens_one_that_is_up_carries(steps: list[tuple[str, object]]) -> None:
    choice, up, now = Choice(ORDER), set(), 0.0
    for what, argument in steps:
        now += 0.3
        before = choice.current
        if isinstance(argument, dict):
            changed = choice.measure(now, argument)
            assert changed == (choice.current != before)
            if choice.current is not None and argument[choice.current].stalled:
                assert all(argument[path].stalled for path in up) and not changed
        elif isinstance(argument, str):
            getattr(choice, what)(argument)
            up = up | {argument} if what == "up" else up - {argument} if what == "down" else up
            if what == "up":
                assert before is None or choice.current == before
            if what == "down" and argument != before:
                assert choice.current == before
        assert (choice.current in up) if up else choice.current is None


@given(st.lists(st.fixed_dictionaries(dict.fromkeys(ORDER, MEASURED)), min_size=1, max_size=80), st.floats(0.01, 1.0))
def test_a_change_for_the_better_was_one_all_the_time(looks: list[dict[str, Measured]], every_s: float) -> None:
    choice = Choice(ORDER)
    for path in ORDER:
        choice.up(path)
    history: list[tuple[float, str, dict[str, Measured]]] = []
    for number, look in enumerate(looks):
        now, before = number * every_s, choice.current
        assert before is not None
        history.append((now, before, look))
        if choice.measure(now, look) and choice.why == "better":
            assert choice.current is not None
            since = [each for each in history if each[0] >= now - BETTER_S]
            assert history[0][0] <= now - BETTER_S
            for _, carrying, measured in since:
                assert carrying == before and not measured[carrying].stalled and not measured[choice.current].stalled
                handicap = {path: place * NEXT_PATH_S for place, path in enumerate(ORDER)}
                cost = {path: measured[path].cost_s + handicap[path] for path in ORDER}
                assert cost[choice.current] < BETTER * cost[carrying]


@given(st.fixed_dictionaries(dict.fromkeys(ORDER, MEASURED)), PATH)
def test_where_nothing_changes_it_settles(look: dict[str, Measured], told: str) -> None:
    choice = Choice(ORDER)
    for path in ORDER:
        choice.up(path)
    choice.told(told)
    changes = sum(choice.measure(tick * 0.5, look) for tick in range(100))
    assert changes <= 2, "away from one that is stalled, then to the best"


@pytest.mark.parametrize("rtt_s", [None, 0.0, 0.001, 0.3])
def test_nothing_waits_and_nothing_is_stalled(rtt_s: float | None) -> None:
    assert not Measured(rtt_s=rtt_s, loss=1.0, recovery_s=9.0).stalled
