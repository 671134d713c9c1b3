"""The scenario "ledger": whole nodes that pay and decide; its bookkeeper finds nothing in the product, and each way to break it."""

import pytest

from meshos.simulations.ledger.mutations import MUTATIONS
from meshos.simulations.mutations import Mutation, must_find
from meshos.simulations.run import run
from meshos.simulations.scenarios import scenario_named


@pytest.mark.parametrize(("seed", "lies"), [(3, 0), (16, 1)])
def test_a_mesh_that_pays_and_decides_keeps_its_books_also_where_a_validator_lies(seed: int, lies: int) -> None:
    report = run(scenario_named("ledger"), seed, until_s=70)
    assert (report.verdict, report.message) == ("ok", "")
    assert report.visited.get("validators of whole nodes lie", 0) == lies
    figures = report.figures
    assert figures["transfers told"] > 50 and figures["decisions ended"] > 3 and figures["redeemed micro"] > 0
    assert (figures["agents committed to"], figures["of them withdrawn"]) == (8, 4) and figures["quarantines on one word"] > 0


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.name for mutation in MUTATIONS])
def test_broken_books_are_found(mutation: Mutation) -> None:
    must_find(mutation, scenario_named("ledger"), range(1, 5))
