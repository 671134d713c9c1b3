"""Raft in the simulator: a few seeds, and (slow) every mutation found within 200 of them."""

import pytest

from meshos.simulations.mutations import Mutation, must_find
from meshos.simulations.raft.mutations import MUTATIONS
from meshos.simulations.raft.scenario import SCENARIO
from meshos.simulations.run import run

FOUND = {
    1: "a read was answered from a View that did not show yet what the same step had applied",
    9: "nobody could be elected: the only complete log was that of a leader that had removed itself",
    69: "a disk that failed within a command was taken for the command's answer, and the states parted",
}
"""What seeds of this scenario found, and is mended."""


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_is_violated(seed: int) -> None:
    report = run(SCENARIO, seed)
    assert (report.verdict, report.message) == ("ok", "")
    assert report.figures["acknowledged"] > 20, "a group that answers nothing violates nothing either"


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.name for mutation in MUTATIONS])
def test_a_broken_raft_is_found_within_200_seeds(mutation: Mutation) -> None:
    must_find(mutation, SCENARIO, range(1, 201), processes=None)
