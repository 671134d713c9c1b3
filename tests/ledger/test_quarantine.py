"""Quarantines: what one coordinator may do alone it may not do again and again, and none in quarantine judges its own."""

import pytest

from meshos.consensus.ledger.actions import Quarantine
from meshos.consensus.ledger.approvals import APPROVE, EXECUTED, OPEN, REVERSE, Judge, Propose
from meshos.consensus.ledger.commitments import Commit
from meshos.consensus.ledger.motions import Configure, Move, Vote, motion_id
from meshos.consensus.ledger.quarantine import QUARANTINE
from meshos.ids import agent_id
from tests.ledger.books import Books, did, genesis
from tests.ledger.test_approvals import PEOPLE, TUNE, judge, proposed, quarantined, status


@pytest.fixture
def books() -> Books:
    return Books()


# -- on one coordinator's word -----------------------------------------------------------------------------------------


def agents(books: Books, *names: str, org: str = "beta") -> list[str]:
    for name in names:
        books.do(f"{org}-1", Commit(name, 1, bytes(32)))
    return [agent_id(did(org), name) for name in names]


def in_quarantine(books: Books, *subjects: str) -> list[bool]:
    return [QUARANTINE.read(books.state, subject) is not None for subject in subjects]


def test_one_coordinator_does_not_put_agents_under_quarantine_one_after_the_other(books: Books) -> None:
    """Each by itself has a risk of 20, below the threshold; all of them together are an organisation."""
    first, second, third = agents(books, "first", "second", "third")
    ids = [proposed(books, Quarantine(subject), by) for subject, by in ((first, "alpha"), (second, "alpha"), (third, "gamma"))]
    assert [status(books, id_) for id_ in ids] == [EXECUTED, OPEN, OPEN], "nor does another one"
    assert in_quarantine(books, first, second, third) == [True, False, False]
    judge(books, ids[1], APPROVE, "gamma-1", "delta-1")
    assert status(books, ids[1]) == EXECUTED
    assert status(books, proposed(books, Quarantine(third))) == OPEN, "what several decided has settled that one, not the first"


def test_several_confirm_what_one_has_put_under_quarantine_and_it_may_do_so_again(books: Books) -> None:
    first, second = agents(books, "first", "second")
    proposed(books, Quarantine(first))
    confirmed = proposed(books, Quarantine(first), by="gamma")
    assert status(books, confirmed) == OPEN
    judge(books, confirmed, APPROVE, "alpha-1", "delta-1")
    assert status(books, confirmed) == EXECUTED and in_quarantine(books, first) == [True]
    books.refused("alpha-1", Propose(Quarantine(first), "once more"), "already-quarantined")
    assert status(books, proposed(books, Quarantine(second))) == EXECUTED


def test_several_lift_what_one_has_put_under_quarantine_and_it_may_do_so_again(books: Books) -> None:
    first, second = agents(books, "first", "second")
    proposed(books, Quarantine(first))
    lifted = proposed(books, Quarantine(first, lift=True), by="beta")
    assert status(books, lifted) == OPEN
    judge(books, lifted, APPROVE, "gamma-1", "delta-1")
    assert in_quarantine(books, first) == [False]
    assert status(books, proposed(books, Quarantine(second))) == EXECUTED


def test_people_settle_it_too(books: Books) -> None:
    first, second = agents(books, "first", "second")
    judge(books, proposed(books, Quarantine(first)), REVERSE, *PEOPLE[:4])
    assert in_quarantine(books, first) == [False] and status(books, proposed(books, Quarantine(second))) == EXECUTED


def test_one_coordinator_does_not_let_out_one_after_the_other_either(books: Books) -> None:
    subjects = agents(books, "first", "second")
    proposed(books, Quarantine(subjects[0]))
    for subject in reversed(subjects):
        judge(books, proposed(books, Quarantine(subject)), APPROVE, "gamma-1", "delta-1")
    tuned = motion_id(books.do("alpha-1", Move(Configure((("risk-threshold", 30),)))))
    for name in ("beta", "gamma"):
        books.do(f"{name}-1", Vote(tuned, True))
    lifts = [proposed(books, Quarantine(subject, lift=True)) for subject in subjects]
    assert [status(books, id_) for id_ in lifts] == [EXECUTED, OPEN], "each has a risk of 30, and the second adds to the first"
    assert status(books, proposed(books, Quarantine(subjects[0]))) == EXECUTED, "back to what several have decided"
    assert status(books, proposed(books, Quarantine(subjects[1], lift=True))) == EXECUTED


# -- coordinators in quarantine ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", [did("delta"), "delta-1"])
def test_a_coordinator_in_quarantine_neither_judges_its_own_nor_proposes_anything(books: Books, subject: str) -> None:
    judge(books, proposed(books, Quarantine(subject)), APPROVE, "beta-1", "gamma-1")
    assert in_quarantine(books, subject) == [True]
    for key in ("delta-1", "delta-root"):
        books.refused(key, Propose(Quarantine(subject, lift=True), "it was a mistake"), "quarantined")
    lift = proposed(books, Quarantine(subject, lift=True), by="alpha")
    books.refused("delta-1", Judge(lift, APPROVE, "me"), "quarantined")
    judge(books, lift, APPROVE, "beta-1")
    assert status(books, lift) == OPEN, "two have approved, and a third that may is needed"
    judge(books, lift, APPROVE, "gamma-1")
    assert in_quarantine(books, subject) == [False]
    assert status(books, proposed(books, TUNE, by="delta")) == OPEN, "it proposes again"


def test_what_it_approved_before_does_not_count_while_it_is_in_quarantine() -> None:
    books = Books(genesis(5))
    tune = proposed(books, TUNE, by="delta")
    judge(books, tune, APPROVE, "alpha-1")
    judge(books, proposed(books), APPROVE, "beta-1", "gamma-1")
    judge(books, tune, APPROVE, "beta-1")
    assert (status(books, tune), quarantined(books)) == (OPEN, True), "delta's approval is none now"
    judge(books, tune, APPROVE, "epsilon-1")
    assert status(books, tune) == EXECUTED


def test_people_of_an_organisation_in_quarantine_keep_their_word(books: Books) -> None:
    judge(books, proposed(books), APPROVE, "beta-1", "gamma-1")
    judge(books, proposed(books, Quarantine(did("delta"), lift=True)), APPROVE, "delta-ada", *PEOPLE[:3])
    assert not quarantined(books)
