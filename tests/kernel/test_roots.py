"""When a node looks at the organisations' roots again: after what may have changed them, and after nothing else."""

from dataclasses import replace
from typing import cast

import pytest

from meshos.consensus.ledger.accounts import Transfer
from meshos.consensus.ledger.keys import ROOT
from meshos.consensus.ledger.limits import MAX_AUDIT
from meshos.consensus.ledger.motions import Admit, Move, Vote, motion_id
from meshos.consensus.ledger.orgs import Leave, RotateRoot
from meshos.consensus.ledger.people import Pause
from meshos.consensus.ledger.queries import seats
from meshos.consensus.ledger.seats import Seat
from meshos.consensus.pbft.limits import CHECKPOINT_INTERVAL
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.ids import NodeId, OrgDid
from meshos.node.kernel.roots import Roots
from meshos.protocols.ledger.port import LedgerView
from tests.kernel.test_news import Window
from tests.ledger.books import Books, did


class Deciding:
    """Who decides the next block of ``books``; others from the next boundary on."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.now = seats(books.state).validators()

    def __call__(self) -> ValidatorSet:
        return self.now

    def boundary(self) -> None:
        self.now = replace(seats(self.books.state).validators(), epoch=self.now.epoch + 1)


def roots_of(books: Books, window: Window | None = None) -> tuple[Roots, Deciding]:
    deciding = Deciding(books)
    return Roots(cast(LedgerView, window or Window(books)), deciding), deciding


def read(roots: Roots) -> tuple[dict[str, tuple[str, bytes]], dict[OrgDid, NodeId]]:
    found = roots.read()
    assert found is not None
    return dict(found.roots), dict(found.leaving)


def test_only_what_may_change_a_root_is_a_reason_to_look() -> None:
    books = Books()
    roots, _ = roots_of(books)
    assert not roots.moved() and roots.read() is None, "there is no ledger yet"
    books.do("alpha-1", Transfer(did("beta"), 1))
    assert roots.moved() and set(read(roots)[0]) == {did(name) for name in ("alpha", "beta", "gamma", "delta")}
    books.do("alpha-1", Transfer(did("beta"), 1))
    books.do("alpha-ada", Pause(60_000, "why"))
    assert not roots.moved(), "a payment and a pause are none"
    books.do("delta-root", RotateRoot(did("delta"), "delta-next", b"another", books.agrees("delta-next", did("delta"), ROOT)))
    assert roots.moved() and read(roots)[0][did("delta")] == ("delta-next", b"another") and not roots.moved()


def test_an_admission_counts_when_it_is_carried_and_a_departure_at_once() -> None:
    books = Books()
    roots, _ = roots_of(books)
    admission = Admit(did("zeta"), "zeta-root", b"0certificate", books.agrees("zeta-root", did("zeta"), ROOT))
    id_ = motion_id(books.do("alpha-1", Move(admission)))
    books.do("beta-1", Vote(id_, True))
    assert roots.moved() and did("zeta") not in read(roots)[0]
    books.do("gamma-1", Vote(id_, True))
    assert roots.moved() and read(roots)[0][did("zeta")] == ("zeta-root", b"0certificate")
    books.do("zeta-root", Leave(None))
    assert roots.moved() and did("zeta") not in read(roots)[0]


def test_where_the_trail_has_been_written_over_since_it_looks() -> None:
    books = Books()
    window = Window(books)
    roots, _ = roots_of(books, window)
    books.do("alpha-1", Transfer(did("beta"), 1))
    assert roots.moved() and roots.read() and not roots.moved()
    get = books.state.get
    window.get = lambda key: b"\x81" + (b"\x19" + (MAX_AUDIT + 1).to_bytes(2, "big")) if key == b"audited" else get(key)
    assert roots.moved()


def test_who_leaves_is_believed_at_the_node_that_votes_until_its_vote_ends() -> None:
    books = Books()
    roots, deciding = roots_of(books)
    books.block(later_ms=1)
    assert roots.moved() and read(roots)[1] == {}
    books.do("delta-root", Leave(None))
    assert roots.moved()
    found, leaving = read(roots)
    assert found[did("delta")] == ("delta-root", b"0certificate") and leaving == {did("delta"): "delta-1"}
    assert not roots.moved()
    deciding.boundary()
    assert roots.moved()
    found, leaving = read(roots)
    assert did("delta") not in found and leaving == {} and not roots.moved()


def test_who_only_gives_its_seat_up_stays_a_member_and_who_comes_back_before_the_boundary_is_one() -> None:
    books = Books()
    roots, _ = roots_of(books)
    books.do("alpha-root", Seat(did("alpha"), None, 0))
    assert did("alpha") in read(roots)[0] and read(roots)[1] == {}
    books.block(later_ms=1)
    while books.height % CHECKPOINT_INTERVAL:
        books.block(later_ms=1)
    books.do("delta-root", Leave(None))
    back = Admit(did("delta"), "delta-new", b"0new", books.agrees("delta-new", did("delta"), ROOT))
    id_ = motion_id(books.do("beta-1", Move(back)))
    books.do("gamma-1", Vote(id_, True))
    assert read(roots)[0][did("delta")] == ("delta-new", b"0new") and read(roots)[1] == {}, "the root that it has now, and no other"


def test_a_change_that_could_not_be_read_is_read_later(monkeypatch: pytest.MonkeyPatch) -> None:
    books = Books()
    roots, _ = roots_of(books)
    books.do("alpha-1", Transfer(did("beta"), 1))
    assert roots.moved() and read(roots)
    books.do("delta-root", RotateRoot(did("delta"), "delta-next", b"another", books.agrees("delta-next", did("delta"), ROOT)))
    assert roots.moved()
    with monkeypatch.context() as patched:
        patched.setattr(Window, "height", 0)  # a state begins to be laid down
        assert roots.read() is None and not roots.moved()
    assert roots.moved() and read(roots)[0][did("delta")] == ("delta-next", b"another") and not roots.moved()
