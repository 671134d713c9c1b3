"""What is asked of the ledger, above all: never a false "failed"."""

import pytest

from meshos.consensus.ledger import queries, transaction
from meshos.consensus.ledger.accounts import Account, Transfer
from meshos.consensus.ledger.actions import Quarantine
from meshos.consensus.ledger.approvals import Propose, decision_id
from meshos.consensus.ledger.motions import Entitle, Move, motion_id
from meshos.consensus.ledger.people import Pause
from meshos.consensus.ledger.tabs import OpenTab, tab_id
from tests.ledger.books import FUNDS, Books, did

PAY = Transfer(did("beta"), 5)


@pytest.fixture
def books() -> Books:
    return Books()


def test_committed_refused_expired_or_unknown_yet(books: Books) -> None:
    paid, failed = books.request("alpha-root", PAY), books.request("beta-root", Transfer(did("alpha"), 2 * FUNDS))
    late, ahead = books.request("gamma-root", PAY), books.request("delta-root", PAY, nonce=1)
    results = books.block([paid, failed, ahead])

    def fate(request: bytes, known: bool = True) -> str:
        index = [paid, failed, ahead].index(request) if known and request != late else None
        return queries.fate(books.state, transaction.decode(request), None if index is None else results[index], books.time_ms)

    assert [fate(request) for request in (paid, failed, ahead, late)] == ["committed", "refused", "unknown", "unknown"]
    books.block(later_ms=60_000)
    assert fate(ahead) == fate(late) == "expired"
    assert fate(paid, known=False) == "unknown", "its nonce is used, by whom is not known here: that is no failure"


def test_a_transaction_can_be_committed_until_it_is_called_expired(books: Books) -> None:
    request = books.request("alpha-root", PAY, expires_ms=books.time_ms + 1_000)
    books.block(later_ms=999)
    assert queries.fate(books.state, transaction.decode(request), None, books.time_ms) == "unknown"
    assert books.block([request], later_ms=1)[0].final


def test_accounts_orgs_and_keys(books: Books) -> None:
    assert queries.account(books.state, did("alpha")) == Account(FUNDS) and queries.account(books.state, did("zeta")) is None
    assert [name for name, _ in queries.orgs(books.state)] == [did(name) for name in ("alpha", "beta", "delta", "gamma")]
    assert queries.org(books.state, did("zeta")) is None
    assert queries.roots(books.state)[did("beta")][1] == b"0certificate"
    books.do("alpha-root", PAY)
    assert (queries.next_nonce(books.state, "alpha-root"), queries.next_nonce(books.state, "stranger")) == (1, None)
    assert queries.seats(books.state).q == 3 and len(queries.coordinators(books.state)) == 4


def test_tabs(books: Books) -> None:
    id_ = tab_id(books.do("alpha-1", OpenTab(did("beta"), 5)))
    books.do("alpha-1", OpenTab(did("gamma"), 5))
    found = queries.tab_with(books.state, "alpha-1", did("beta"))
    assert found is not None and found[0] == id_ and found[1].reserved == 5
    assert queries.tab_with(books.state, "beta-1", did("alpha")) is None
    assert [name for name, _ in queries.tabs_for(books.state, did("beta"))] == [id_]


def test_what_waits_for_a_vote_or_a_person(books: Books) -> None:
    moved = motion_id(books.do("alpha-1", Move(Entitle(did("delta"), False))))
    assert [id_ for id_, _ in queries.motions(books.state)] == [moved]
    id_ = decision_id(books.genesis.hash, books.do("alpha-1", Propose(Quarantine(did("delta")), "because")))
    waiting = queries.open_decisions(books.state)
    assert [(one.id, one.needed, one.decision.risk) for one in waiting] == [(id_, 3, 90)]
    assert queries.decision(books.state, bytes(32)) is None
    assert queries.paused_until(books.state) == 0
    books.do("alpha-ada", Pause(1_000, "wait"))
    assert queries.paused_until(books.state) == books.time_ms + 1_000


def test_the_audit_trail_is_read_newest_first(books: Books) -> None:
    for _ in range(3):
        books.do("alpha-ada", Pause(1_000, "wait"))
    numbers = [entry.number for entry in queries.audit(books.state, 10)]
    assert numbers == [2, 1, 0]
    assert [entry.number for entry in queries.audit(books.state, 1, before=2)] == [1] and queries.audit(books.state, 5, before=0) == []
