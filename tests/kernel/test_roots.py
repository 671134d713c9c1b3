"""When a node looks at the organisations' roots again: after what may have changed them, and after nothing else."""

from typing import cast

from meshos.consensus.ledger.accounts import Transfer
from meshos.consensus.ledger.keys import ROOT
from meshos.consensus.ledger.limits import MAX_AUDIT
from meshos.consensus.ledger.motions import Admit, Move, Vote, motion_id
from meshos.consensus.ledger.orgs import Leave, RotateRoot
from meshos.consensus.ledger.people import Pause
from meshos.node.kernel.roots import Roots
from meshos.protocols.ledger.port import LedgerView
from tests.kernel.test_news import Window
from tests.ledger.books import Books, did


def test_only_what_may_change_a_root_is_a_reason_to_look() -> None:
    books = Books()
    roots = Roots(cast(LedgerView, Window(books)))
    assert not roots.moved() and roots.read() is None, "there is no ledger yet"
    books.do("alpha-1", Transfer(did("beta"), 1))
    assert roots.moved() and set(roots.read() or {}) == {did(name) for name in ("alpha", "beta", "gamma", "delta")}
    books.do("alpha-1", Transfer(did("beta"), 1))
    books.do("alpha-ada", Pause(60_000, "why"))
    assert not roots.moved(), "a payment and a pause are none"
    books.do("delta-root", RotateRoot(did("delta"), "delta-next", b"another", books.agrees("delta-next", did("delta"), ROOT)))
    assert roots.moved() and not roots.moved()
    assert (roots.read() or {})[did("delta")] == ("delta-next", b"another")


def test_an_admission_counts_when_it_is_carried_and_a_departure_at_once() -> None:
    books = Books()
    roots = Roots(cast(LedgerView, Window(books)))
    admission = Admit(did("zeta"), "zeta-root", b"0certificate", books.agrees("zeta-root", did("zeta"), ROOT))
    id_ = motion_id(books.do("alpha-1", Move(admission)))
    books.do("beta-1", Vote(id_, True))
    assert roots.moved() and did("zeta") not in (roots.read() or {})
    books.do("gamma-1", Vote(id_, True))
    assert roots.moved() and (roots.read() or {})[did("zeta")] == ("zeta-root", b"0certificate")
    books.do("zeta-root", Leave(None))
    assert roots.moved() and did("zeta") not in (roots.read() or {})


def test_where_the_trail_has_been_written_over_since_it_looks() -> None:
    books = Books()
    window = Window(books)
    roots = Roots(cast(LedgerView, window))
    books.do("alpha-1", Transfer(did("beta"), 1))
    assert roots.moved()
    get = books.state.get
    window.get = lambda key: b"\x81" + (b"\x19" + (MAX_AUDIT + 1).to_bytes(2, "big")) if key == b"audited" else get(key)
    assert roots.moved()
