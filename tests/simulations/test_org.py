"""Organisations of several nodes in the simulator: seeds that once found something, a few more, and every mutation found."""

import pytest

from meshos.simulations.mutations import Mutation, must_find
from meshos.simulations.org.mutations import MUTATIONS
from meshos.simulations.org.scenario import SCENARIO
from meshos.simulations.run import run

FOUND = {
    8: "a leader that stepped down before it had sent what it gathered asked for its turn for ever",
}
"""What seeds of this scenario found, and is mended."""


@pytest.mark.parametrize("seed", [*FOUND, 1])
def test_nothing_is_violated(seed: int) -> None:
    report = run(SCENARIO, seed)
    assert (report.verdict, report.message) == ("ok", "")
    assert report.figures["calls completed"] > 10 and report.figures["operations checked"] > 30
    assert report.figures["commands checked"] > 200 and not report.figures["states undecided"]


@pytest.mark.parametrize("name", ["leads-are-forgotten", "receipts-are-miscounted"])
def test_a_state_that_loses_or_answers_what_it_must_not_is_found(name: str) -> None:
    mutation = next(mutation for mutation in MUTATIONS if mutation.name == name)
    assert mutation.shows_in(run(mutation.in_(SCENARIO), 2, until_s=45))


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.name for mutation in MUTATIONS])
def test_a_broken_product_is_found_within_200_seeds(mutation: Mutation) -> None:
    must_find(mutation, SCENARIO, range(1, 201), processes=None)
