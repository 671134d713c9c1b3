"""Weights of what is measured: the formula, its bounds, and what they do to an answer."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshos.errors import BadInput
from meshos.ids import AgentId, agent_id
from meshos.protocols.directory.parts import Measured
from meshos.protocols.directory.profile import Profile
from meshos.protocols.directory.search import DiscoverAnswer, DiscoverRequest
from meshos.protocols.directory.weighing import NOTHING, Weigh, check, weighed
from tests.directory.world import Mesh, org

weights = st.builds(Weigh, *(st.floats(0, 1) for _ in range(3)))
measured = st.builds(Measured, st.floats(0, 100), st.just(1), st.none(), st.none() | st.floats(0, 1e9))


@given(st.floats(0, 1), weights, measured, st.integers(0, 2**53))
def test_a_score_stays_between_0_and_1_and_is_the_fit_where_nothing_is_weighed(fit: float, weigh: Weigh, of: Measured, price: int) -> None:
    assert 0 <= weighed(fit, weigh, of, price) <= 1
    assert weighed(fit, NOTHING, of, price) == fit


@given(weights, measured, st.integers(0, 2**53), st.floats(0, 1), st.floats(0, 1))
def test_a_better_fit_and_better_measures_never_lower_a_score(weigh: Weigh, of: Measured, price: int, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert weighed(low, weigh, of, price) <= weighed(high, weigh, of, price)
    worse = Measured(of.trust_score / 2, 1, None, None if of.avg_latency_ms is None else 2 * of.avg_latency_ms + 1)
    assert weighed(low, weigh, worse, price + 1) <= weighed(low, weigh, of, price)


def test_the_formula() -> None:
    half = Weigh(trust=0.5)
    assert weighed(0.6, half, Measured(80.0), 0) == pytest.approx((0.6 + 0.5 * 0.8) / 1.5)
    assert weighed(0.6, Weigh(latency=1), Measured(avg_latency_ms=1500.0), 0) == pytest.approx((0.6 + 0.25) / 2)
    assert weighed(0.6, Weigh(price=1), Measured(), 3_000_000) == pytest.approx((0.6 + 0.25) / 2)
    assert weighed(0.6, Weigh(price=1), Measured(), 0) == pytest.approx((0.6 + 1) / 2)
    unmeasured, middle = Measured(), Measured(50.0, 9, None, 500.0)
    assert weighed(0.6, Weigh(1, 1, 0), unmeasured, 0) == weighed(0.6, Weigh(1, 1, 0), middle, 0) == pytest.approx((0.6 + 1) / 3)


@pytest.mark.parametrize("wrong", [Weigh(trust=-0.1), Weigh(latency=1.1), Weigh(price=math.nan), Weigh(price=math.inf)])
def test_weights_out_of_bounds_are_refused(wrong: Weigh) -> None:
    with pytest.raises(BadInput, match="bad-query"):
        check(wrong)


def names(answer: DiscoverAnswer) -> list[str]:
    scores = [one.score for one in answer.agents]
    assert scores == sorted(scores, reverse=True) and all(0 <= score <= 1 for score in scores)
    return [one.record.name for one in answer.agents]


def test_an_answer_is_ranked_as_the_caller_weighs_it_and_says_so() -> None:
    mesh = Mesh(41, nodes=1)
    mesh.publish(
        0,
        Profile("best", "Plays chess with people.", per_query=9_000_000),
        Profile("cheap", "Plays chess sometimes."),
        Profile("trusted", "Plays chess rarely and well.", per_query=9_000_000),
        Profile("quick", "Plays chess and draughts and go.", per_query=9_000_000),
    )
    told = {
        agent_id(org(0), "best"): Measured(20.0, 5, 1.0, 5000.0),
        agent_id(org(0), "trusted"): Measured(99.0, 5, 1.0, 5000.0),
        agent_id(org(0), "quick"): Measured(20.0, 5, 1.0, 20.0),
    }

    def measures(agent: AgentId) -> Measured:
        return told.get(agent, Measured(20.0, 5, 1.0, 5000.0))

    mesh.parts[mesh.ids[0]].measures = measures

    def asked(weigh: Weigh) -> DiscoverAnswer:
        return mesh.discover(0, DiscoverRequest("plays chess with people", weigh=weigh))

    assert names(asked(NOTHING))[0] == "best"
    for weigh, first, why in (
        (Weigh(trust=1), "trusted", "trust 99"),
        (Weigh(latency=1), "quick", "20 ms"),
        (Weigh(price=1), "cheap", "free"),
    ):
        answer = asked(weigh)
        assert names(answer)[0] == first and why in answer.agents[0].matched
    assert set(names(asked(Weigh(1, 1, 1)))) == {"best", "cheap", "trusted", "quick"}
    pages = [mesh.discover(0, DiscoverRequest("plays chess with people", 2, weigh=Weigh(trust=1)))]
    pages.append(mesh.discover(0, DiscoverRequest("plays chess with people", 2, weigh=Weigh(trust=1), cursor=pages[0].cursor)))
    assert [name for page in pages for name in names(page)] == names(asked(Weigh(trust=1)))
