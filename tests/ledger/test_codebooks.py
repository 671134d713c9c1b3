"""Codebooks: in force once a quorum has endorsed the same one; who may bring one; and what is refused."""

import pytest

from meshos.consensus.ledger.codebooks import CODEBOOKS, Codebooks, Endorse
from meshos.errors import Refused
from tests.ledger.books import Books, did, genesis
from tests.ledger.test_orgs import add_node

ONE, OTHER = b"1" * 32, b"2" * 32


@pytest.fixture
def books() -> Books:
    return Books()


def now(books: Books) -> Codebooks:
    found = CODEBOOKS.read(books.state, b"")
    assert isinstance(found, Codebooks)
    return found


def test_a_codebook_is_in_force_once_a_quorum_has_endorsed_the_same_one(books: Books) -> None:
    books.do("alpha-1", Endorse(1, ONE))
    books.do("beta-1", Endorse(1, ONE))
    assert (now(books).version, now(books).name) == (0, b"") and len(now(books).endorsed) == 2
    books.do("gamma-1", Endorse(1, ONE))
    assert (now(books).version, now(books).name, now(books).endorsed) == (1, ONE, ()) and now(books).height > 0
    books.refused("delta-1", Endorse(1, ONE), "other-version")
    books.do("alpha-1", Endorse(2, OTHER))
    assert now(books).name == ONE, "the one in force stays until the next is"


def test_a_later_word_takes_the_place_of_the_earlier_and_different_ones_do_not_add_up(books: Books) -> None:
    books.do("alpha-1", Endorse(1, ONE))
    books.do("beta-1", Endorse(1, OTHER))
    books.do("alpha-1", Endorse(1, OTHER))
    assert now(books).endorsed == ((did("alpha"), OTHER), (did("beta"), OTHER)) and now(books).version == 0


def test_who_is_no_coordinator_brings_none_while_there_are_any_with_a_vote() -> None:
    books = Books(genesis(4, coordinators=2))
    books.refused("gamma-1", Endorse(1, ONE), "not-a-trainer")
    books.do("alpha-1", Endorse(1, ONE))
    books.do("gamma-1", Endorse(1, ONE))
    nobody = Books(genesis(4, coordinators=0))
    nobody.do("gamma-1", Endorse(1, ONE))


def test_who_does_not_speak_for_its_organisation_endorses_nothing(books: Books) -> None:
    books.do("alpha-root", add_node(books, "alpha", "alpha-2"))
    books.refused("alpha-2", Endorse(1, ONE), "no-voice")


@pytest.mark.parametrize("fields", [None, [], [0, ONE], [1, ONE[:-1]], [1, "1" * 32], [True, ONE], [1, ONE, 1]])
def test_what_is_no_endorsement_is_refused(fields: object) -> None:
    with pytest.raises(Refused, match="transaction-malformed"):
        Endorse.read(fields)  # type: ignore[arg-type]
