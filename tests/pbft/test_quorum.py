"""f, q and what they promise (Castro & Liskov 1999, sections 3 and 4.2; DESIGN.md, "Quorums")."""

import pytest

from meshos.consensus.pbft.limits import MAX_VALIDATORS
from meshos.consensus.pbft.quorum import faults, quorum, weak_quorum

SIZES = range(1, MAX_VALIDATORS + 1)


@pytest.mark.parametrize("n", SIZES)
def test_two_quorums_have_an_honest_validator_in_common(n: int) -> None:
    assert 2 * quorum(n) - n >= faults(n) + 1


@pytest.mark.parametrize("n", SIZES)
def test_the_honest_alone_are_a_quorum(n: int) -> None:
    assert n - faults(n) >= quorum(n)


@pytest.mark.parametrize("n", SIZES)
def test_one_vote_fewer_would_not_be_enough(n: int) -> None:
    assert 2 * (quorum(n) - 1) - n < faults(n) + 1


@pytest.mark.parametrize("n", SIZES)
def test_those_who_answer_a_restarted_validator_include_one_who_voted_with_it(n: int) -> None:
    """``witness.py``: of the n - 1 others, q - 1 that voted and q - 1 that answer share more than the f - 1 other liars."""
    assert 2 * (quorum(n) - 1) - (n - 1) >= faults(n)


@pytest.mark.parametrize(
    ("n", "f", "q"), [(1, 0, 1), (2, 0, 2), (3, 0, 2), (4, 1, 3), (5, 1, 4), (6, 1, 4), (7, 2, 5), (10, 3, 7), (100, 33, 67)]
)
def test_by_hand(n: int, f: int, q: int) -> None:
    assert (faults(n), quorum(n), weak_quorum(n)) == (f, q, f + 1)


def test_nobody_is_no_quorum() -> None:
    with pytest.raises(ValueError, match="somebody"):
        faults(0)
