"""How many seats may change hands before a boundary, so that whoever stays can go on deciding (``seats.py``)."""

import pytest

from meshos.consensus.ledger.keys import ROOT
from meshos.consensus.ledger.motions import Admit, Move, Vote, motion_id
from meshos.consensus.ledger.orgs import Leave
from meshos.consensus.ledger.seats import SEATS
from meshos.consensus.pbft.limits import CHECKPOINT_INTERVAL, MAX_VALIDATORS
from meshos.consensus.pbft.quorum import faults, quorum
from tests.ledger.books import Books, did, genesis
from tests.ledger.test_orgs import add_node, seat, seated
from tests.ledger.test_validators import lie


def to_the_next_boundary(books: Books) -> None:
    """From the block after these the seats are in force."""
    while books.height % CHECKPOINT_INTERVAL != CHECKPOINT_INTERVAL - 1:
        books.block(later_ms=1)


@pytest.mark.parametrize(("count", "at_once"), [(2, 1), (3, 1), (4, 1), (5, 1), (7, 2)])
def test_as_many_leave_before_a_boundary_as_may_fail(count: int, at_once: int) -> None:
    books = Books(genesis(count))
    names = list(seated(books))
    for name in names[:at_once]:
        books.do(f"{name}-root", Leave(None))
    if at_once + 1 < count:
        books.refused(f"{names[at_once]}-root", Leave(None), "seat-needed")
        books.refused(f"{names[at_once]}-root", seat(books, names[at_once], None), "seat-needed")
        to_the_next_boundary(books)
        books.do(f"{names[at_once]}-root", Leave(None))
    else:
        books.refused(f"{names[at_once]}-root", Leave(None), "last-seat")


def test_those_who_stay_are_a_quorum_before_the_boundary_and_after_it() -> None:
    """Whatever those who go do, and those who come do not yet (of two, the one that stays needs the other until the boundary)."""
    for n in range(3, MAX_VALIDATORS + 1):
        for gone in range(max(1, faults(n)) + 1):
            stay = n - gone
            assert stay >= quorum(n)
            assert all(stay >= quorum(stay + new) for new in range(max(1, faults(stay)) + 1))


def test_who_gives_a_seat_up_and_takes_it_again_has_changed_nothing_for_the_others() -> None:
    books = Books()
    for _ in range(3):
        books.do("alpha-root", seat(books, "alpha", None))
        books.refused("beta-root", Leave(None), "seat-needed")
        books.do("alpha-root", seat(books, "alpha", "alpha-1"))
    books.do("beta-root", Leave(None))


def test_one_that_comes_and_goes_before_the_boundary_uses_up_nobodys_turn() -> None:
    books = Books()
    for name in ("zeta", "eta"):
        agrees = books.agrees(f"{name}-root", did(name), ROOT)
        id_ = motion_id(books.do("alpha-1", Move(Admit(did(name), f"{name}-root", b"0" + name.encode(), agrees))))
        for other in ("beta", "gamma"):
            books.do(f"{other}-1", Vote(id_, True))
        books.do(f"{name}-root", add_node(books, name, f"{name}-1"))
    books.do("zeta-root", seat(books, "zeta", "zeta-1"))
    books.refused("eta-root", seat(books, "eta", "eta-1"), "seats-full")
    books.do("zeta-root", seat(books, "zeta", None))
    books.do("eta-root", seat(books, "eta", "eta-1"))
    books.do("alpha-root", seat(books, "alpha", None))
    books.do("alpha-root", seat(books, "alpha", "alpha-1"))
    assert set(seated(books)) == {"alpha", "beta", "gamma", "delta", "eta"}


def test_nobody_leaves_only_votes_behind_that_do_not_count() -> None:
    books = Books()
    books.block([lie(books)])
    books.do("alpha-root", Leave(None))
    to_the_next_boundary(books)
    books.refused("gamma-root", Leave(None), "seat-needed")
    books.refused("delta-root", seat(books, "delta", None), "seat-needed")
    books.do("beta-root", Leave(None))  # the suspended one itself: without its seat fewer votes are enough
    to_the_next_boundary(books)
    books.do("gamma-root", Leave(None))
    found = SEATS.read(books.state, b"")
    assert found is not None and [entry.org for entry in found.entries] == [did("delta")]
