"""Expulsion: the others end the membership of an organisation, and nobody loses by it what was their own."""

import pytest

from meshos.consensus.ledger.accounts import ACCOUNTS, Account, Transfer
from meshos.consensus.ledger.expelling import Expel
from meshos.consensus.ledger.keys import KEYS, RETIRED, ROOT
from meshos.consensus.ledger.members import COORDINATORS, ORGS
from meshos.consensus.ledger.motions import MOTIONS, Admit, Configure, Move, Vote, motion_id, read_subject
from meshos.consensus.ledger.parameters import DISPUTE_MS
from meshos.consensus.ledger.seats import SEATS
from meshos.consensus.ledger.tabs import TABS, CloseTab, OpenTab, tab_id
from meshos.errors import Refused
from tests.ledger.books import FUNDS, Books, did, genesis


@pytest.fixture
def books() -> Books:
    return Books()


def expelled(books: Books, name: str, by: str = "alpha", votes: tuple[str, ...] = ("beta", "gamma")) -> None:
    id_ = motion_id(books.do(f"{by}-1", Move(Expel(did(name)))))
    for other in votes:
        books.do(f"{other}-1", Vote(id_, True))


def test_who_is_expelled_is_a_member_no_longer_and_the_others_decide_on(books: Books) -> None:
    expelled(books, "delta")
    org, seats = ORGS.read(books.state, did("delta")), SEATS.read(books.state, b"")
    assert org is not None and org.left_ms and not org.nodes and not org.humans
    assert seats is not None and did("delta") not in {entry.org for entry in seats.entries}
    assert did("delta") not in (COORDINATORS.read(books.state, b"") or ())
    assert ACCOUNTS.read(books.state, did("delta")) == Account(FUNDS, False)
    for key in ("delta-root", "delta-1", "delta-1-votes", "delta-ada"):
        found = KEYS.read(books.state, key)
        assert found is not None and found.role == RETIRED
    books.skipped(books.request("delta-1", Transfer(did("alpha"), 1)), "unknown-signer")
    books.do("alpha-1", Move(Configure((("dispute-ms", 20_000),))))


def test_it_takes_a_quorum_and_who_it_is_about_may_vote_against_it(books: Books) -> None:
    id_ = motion_id(books.do("alpha-1", Move(Expel(did("delta")))))
    books.do("delta-1", Vote(id_, False))
    books.do("beta-1", Vote(id_, True))
    assert MOTIONS.read(books.state, id_) is not None
    books.do("gamma-1", Vote(id_, False))
    assert MOTIONS.read(books.state, id_) is None
    org = ORGS.read(books.state, did("delta"))
    assert org is not None and not org.left_ms


def test_who_is_no_member_cannot_be_expelled(books: Books) -> None:
    books.refused("alpha-1", Move(Expel(did("zeta"))), "not-a-member")
    expelled(books, "delta")
    books.refused("alpha-1", Move(Expel(did("delta"))), "not-a-member")


def test_no_more_are_expelled_before_a_checkpoint_than_the_others_can_do_without(books: Books) -> None:
    expelled(books, "delta")
    id_ = motion_id(books.do("alpha-1", Move(Expel(did("gamma")))))
    books.refused("beta-1", Vote(id_, True), "seat-needed")


def test_what_it_signed_is_redeemed_and_the_rest_stays_its_own(books: Books) -> None:
    tab = tab_id(books.do("delta-1", OpenTab(did("beta"), 1_000)))
    expelled(books, "delta")
    books.do("beta-1", books.redemption(tab, "delta-1", 400))
    books.do("beta-1", CloseTab(tab))
    assert books.balance("beta") == FUNDS + 400
    assert ACCOUNTS.read(books.state, did("delta")) == Account(FUNDS - 400, False)


def test_what_it_set_aside_comes_back_also_where_its_provider_was_expelled_or_does_nothing() -> None:
    books = Books(genesis(7))
    gone, idle = (tab_id(books.do("delta-1", OpenTab(did(provider), 1_000))) for provider in ("gamma", "beta"))
    other = tab_id(books.do("gamma-1", OpenTab(did("delta"), 500)))
    expelled(books, "delta", votes=("beta", "epsilon", "zeta", "eta"))
    expelled(books, "gamma", votes=("beta", "epsilon", "zeta"))
    for tab in (gone, idle, other):
        books.do("alpha-1", CloseTab(tab))
    books.refused("zeta-1", CloseTab(idle), "tab-closing")
    books.do("beta-1", books.redemption(idle, "delta-1", 400))  # its window is there for it all the same
    books.block(later_ms=2 * DISPUTE_MS)
    assert not any(TABS.read(books.state, tab) for tab in (gone, idle, other))
    assert ACCOUNTS.read(books.state, did("delta")) == Account(FUNDS - 400, False)
    assert ACCOUNTS.read(books.state, did("gamma")) == Account(FUNDS, False)


def test_the_tabs_of_who_has_come_back_are_its_own_again(books: Books) -> None:
    tab = tab_id(books.do("delta-1", OpenTab(did("beta"), 1_000)))
    expelled(books, "delta")
    back = Admit(did("delta"), "delta-new", b"0", books.agrees("delta-new", did("delta"), ROOT))
    books.do("beta-1", Vote(motion_id(books.do("alpha-1", Move(back))), True))
    books.refused("alpha-1", CloseTab(tab), "not-your-tab")
    books.do("delta-new", CloseTab(tab))
    books.block(later_ms=2 * DISPUTE_MS)
    assert ACCOUNTS.read(books.state, did("delta")) == Account(FUNDS, True)


def test_it_comes_back_by_another_motion_only(books: Books) -> None:
    expelled(books, "delta")
    back = Admit(did("delta"), "delta-new", b"0", books.agrees("delta-new", did("delta"), ROOT))
    id_ = motion_id(books.do("alpha-1", Move(back)))
    books.do("beta-1", Vote(id_, True))  # of three that are left, two are a quorum
    org = ORGS.read(books.state, did("delta"))
    assert org is not None and (org.root, org.left_ms) == ("delta-new", 0)
    assert ACCOUNTS.read(books.state, did("delta")) == Account(FUNDS, True)


def test_what_expels_nobody_is_malformed() -> None:
    assert read_subject(["expel", did("delta")]) == Expel(did("delta"))
    for value in (["expel"], ["expel", 7], ["expel", ""], ["expel", did("delta"), True]):
        with pytest.raises(Refused) as caught:
            read_subject(value)  # type: ignore[arg-type]
        assert caught.value.name == "transaction-malformed"
