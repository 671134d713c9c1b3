"""The agreement in a storm: it is safe, and each mutation is found at the first seed that finds it (``mesh sim mutants pbft-core``).

What seeds found meanwhile, and is mended: a validator on an old copy of its disk signed the promise again that stood on it.
"""

import pytest

from meshos.simulations.mutations import Mutation, must_find
from meshos.simulations.pbft import storm
from meshos.simulations.pbft.mutations import CORE
from meshos.simulations.run import run

FINDS = {
    "quorum-less-one": 1,
    "vote-not-persisted": 1,
    "skipped-fsync": 1,
    "missing-lock-check": 3,
    "lock-not-told": 3,
    "new-view-not-verified": 68,
    "dedup-off": 1,
    "unsigned-accepted": 2,
    "one-liar-too-many": 15,
    "state-root-unchecked": 2,
    "set-change-at-once": 1,
    "views-across-epochs": 87,
    "choice-forgotten": 102,
    "promise-not-binding": 2,
    "witness-not-asked": 7,
    "certificate-not-checked": 2,
    "chunk-not-checked": 19,
}
"""The first seed of 200 that finds each."""

NAMES = [mutation.name for mutation in CORE]


def test_nothing_is_violated_in_a_storm() -> None:
    blocks = epochs = 0.0
    for seed in range(1, 21):
        report = run(storm.SCENARIO, seed)
        assert (report.verdict, report.message) == ("ok", ""), f"seed {seed}"
        blocks, epochs = blocks + report.figures["blocks"], epochs + report.figures["epochs"]
    assert blocks > 60 and epochs > 5, "where nothing is decided nothing is violated either"


def test_nothing_is_violated_where_two_lie() -> None:
    blocks = 0.0
    for seed in range(5, 13):
        report = run(storm.SCENARIO, seed, nodes=8)
        assert (report.verdict, report.message) == ("ok", ""), f"seed {seed}"
        blocks += report.figures["blocks"]
    assert blocks > 2, "seven validators of which two lie seldom agree in a storm, but they do"


@pytest.mark.parametrize("mutation", CORE, ids=NAMES)
def test_a_broken_agreement_is_found(mutation: Mutation) -> None:
    must_find(mutation, storm.SCENARIO, [FINDS[mutation.name]])


@pytest.mark.slow
@pytest.mark.parametrize("mutation", CORE, ids=NAMES)
def test_a_broken_agreement_is_found_within_200_seeds(mutation: Mutation) -> None:
    done = must_find(mutation, storm.SCENARIO, range(1, 201), processes=None)
    assert done.seed == FINDS[mutation.name]
