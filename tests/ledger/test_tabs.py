"""Tabs: nobody redeems twice, more than was signed, more than was set aside, or after the close."""

from dataclasses import replace

import pytest

from meshos.consensus.ledger import transaction, tree
from meshos.consensus.ledger.agenda import pending_deadline
from meshos.consensus.ledger.limits import MAX_TABS
from meshos.consensus.ledger.members import ORGS
from meshos.consensus.ledger.orgs import Leave
from meshos.consensus.ledger.parameters import DISPUTE_MS
from meshos.consensus.ledger.results import COMMITTED, REFUSED, decode_result
from meshos.consensus.ledger.state import run
from meshos.consensus.ledger.tabs import PAIRS, TABS, CloseTab, OpenTab, RedeemTab, Tab, TopUpTab, tab_id, voucher
from tests.ledger.books import FUNDS, RECEIPTS, Books, did

CALLER, PROVIDER = "alpha-1", "beta-1"


@pytest.fixture
def books() -> Books:
    return Books()


def opened(books: Books, micro: int = 100) -> bytes:
    return tab_id(books.do(CALLER, OpenTab(did("beta"), micro)))


def entry(books: Books, tab: bytes) -> Tab | None:
    return TABS.read(books.state, tab)


def test_a_tab_sets_money_aside_and_pays_the_highest_voucher(books: Books) -> None:
    tab = opened(books)
    assert books.balance("alpha") == FUNDS - 100
    books.do(PROVIDER, books.redemption(tab, CALLER, 30))
    books.do("beta-root", books.redemption(tab, CALLER, 100))
    assert books.balance("beta") == FUNDS + 100
    assert entry(books, tab) == Tab(CALLER, did("alpha"), did("beta"), 100, 100, 0, RECEIPTS)


def test_nobody_redeems_twice(books: Books) -> None:
    tab = opened(books)
    books.do(PROVIDER, books.redemption(tab, CALLER, 30))
    books.refused(PROVIDER, books.redemption(tab, CALLER, 30), "voucher-redeemed")
    books.refused(PROVIDER, books.redemption(tab, CALLER, 29), "voucher-redeemed")
    same = [books.request(PROVIDER, books.redemption(tab, CALLER, 40), books.nonce(PROVIDER) + more) for more in (0, 1)]
    assert [result.outcome for result in books.block(same)] == [COMMITTED, REFUSED]
    assert books.balance("beta") == FUNDS + 40


def test_nobody_redeems_more_than_was_signed(books: Books) -> None:
    tab = opened(books)
    honest = books.redemption(tab, CALLER, 30)
    raised = RedeemTab(tab, CALLER, 31, RECEIPTS, honest.signature)
    assert books.holds(books.request(PROVIDER, honest)) and not books.holds(books.request(PROVIDER, raised))
    by_provider = RedeemTab(tab, CALLER, 31, RECEIPTS, books.redemption(tab, PROVIDER, 31).signature)
    assert not books.holds(books.request(PROVIDER, by_provider))


def test_a_voucher_of_another_key_does_not_count(books: Books) -> None:
    tab = opened(books)
    books.refused(PROVIDER, books.redemption(tab, PROVIDER, 30), "voucher-of-another")


def test_nobody_redeems_more_than_was_set_aside(books: Books) -> None:
    tab = opened(books)
    books.refused(PROVIDER, books.redemption(tab, CALLER, 101), "voucher-above-reserve")
    books.do(CALLER, TopUpTab(tab, 1))
    books.do(PROVIDER, books.redemption(tab, CALLER, 101))
    assert books.balance("beta") == FUNDS + 101 and books.balance("alpha") == FUNDS - 101


def test_only_the_provider_redeems(books: Books) -> None:
    tab = opened(books)
    books.refused("gamma-1", books.redemption(tab, CALLER, 30), "not-your-tab")
    books.refused(CALLER, books.redemption(tab, CALLER, 30), "not-your-tab")


def test_the_caller_closes_after_the_dispute_window(books: Books) -> None:
    tab = opened(books)
    books.do(CALLER, CloseTab(tab))
    closes_ms = books.time_ms + DISPUTE_MS
    assert pending_deadline(books.state) == closes_ms
    assert not books.ledger.wants_block(books.store, closes_ms - 1) and books.ledger.wants_block(books.store, closes_ms)
    books.refused(CALLER, TopUpTab(tab, 1), "tab-closing")
    books.refused(CALLER, CloseTab(tab), "tab-closing")
    books.do(PROVIDER, books.redemption(tab, CALLER, 30))
    books.block(later_ms=closes_ms - 1 - books.time_ms)
    assert entry(books, tab) is not None
    books.block(later_ms=1_000)
    assert entry(books, tab) is None and pending_deadline(books.state) is None
    assert books.balance("alpha") == FUNDS - 30 and books.balance("beta") == FUNDS + 30


def test_nobody_redeems_after_the_close(books: Books) -> None:
    tab = opened(books)
    books.do(CALLER, CloseTab(tab))
    late = books.request(PROVIDER, books.redemption(tab, CALLER, 50), expires_ms=books.time_ms + 2 * DISPUTE_MS)
    result = books.block([late], later_ms=DISPUTE_MS)[0]
    assert (result.outcome, result.name) == (REFUSED, "tab-not-open"), "not in the block in which its time is over"
    books.refused(PROVIDER, books.redemption(tab, CALLER, 50), "tab-not-open")
    assert books.balance("alpha") == FUNDS and books.balance("beta") == FUNDS


def test_a_voucher_does_not_outlive_its_tab(books: Books) -> None:
    first = opened(books)
    books.do(PROVIDER, CloseTab(first))
    second = opened(books)
    assert first != second
    old = books.redemption(first, CALLER, 50)
    books.refused(PROVIDER, old, "tab-not-open")
    assert not books.holds(books.request(PROVIDER, RedeemTab(second, CALLER, 50, RECEIPTS, old.signature)))


def test_the_provider_closes_at_once(books: Books) -> None:
    tab = opened(books)
    books.do(CALLER, CloseTab(tab))
    books.do(PROVIDER, books.redemption(tab, CALLER, 30))
    books.do(PROVIDER, CloseTab(tab))
    assert entry(books, tab) is None and books.balance("alpha") == FUNDS - 30
    books.block(later_ms=2 * DISPUTE_MS)
    assert books.balance("alpha") == FUNDS - 30, "what was on the agenda has gone with it"


def test_one_tab_for_a_caller_and_a_provider(books: Books) -> None:
    opened(books)
    books.refused(CALLER, OpenTab(did("beta"), 5), "tab-exists")
    books.do(CALLER, OpenTab(did("gamma"), 5))
    books.do("beta-1", OpenTab(did("alpha"), 5))


def test_whose_tab_it_is(books: Books) -> None:
    tab = opened(books)
    for stranger in ("gamma-1", "gamma-root"):
        books.refused(stranger, TopUpTab(tab, 1), "not-your-tab")
        books.refused(stranger, CloseTab(tab), "not-your-tab")
    books.do("alpha-root", TopUpTab(tab, 1))
    books.do("alpha-root", CloseTab(tab))


def test_what_cannot_be_set_aside(books: Books) -> None:
    books.refused(CALLER, OpenTab(did("beta"), FUNDS + 1), "insufficient-funds")
    books.refused(CALLER, OpenTab(did("nobody"), 1), "not-a-member")
    tab = opened(books)
    books.refused(CALLER, TopUpTab(tab, FUNDS), "insufficient-funds")
    books.refused(CALLER, TopUpTab(bytes(32), 1), "tab-not-open")


def test_an_organisation_has_a_bounded_number_of_tabs(books: Books) -> None:
    org = ORGS.read(books.state, did("alpha"))
    assert org is not None
    full = ORGS.encode(replace(org, tabs=MAX_TABS))
    books.store.write(tree.update(books.store, {ORGS.key(did("alpha")): full})[1])
    ran = run(books.state, 1, books.time_ms, [books.request(CALLER, OpenTab(did("beta"), 5))])
    assert decode_result(ran.results[0]).name == "busy"


def test_a_caller_leaves_only_when_its_tabs_are_closed(books: Books) -> None:
    tab = opened(books)
    books.refused("alpha-root", Leave(did("beta")), "tabs-open")
    books.do(PROVIDER, CloseTab(tab))
    books.do("alpha-root", Leave(did("beta")))
    assert books.balance("beta") == 2 * FUNDS


def test_a_provider_that_left_redeems_no_more_and_the_caller_gets_its_money_back(books: Books) -> None:
    tab = opened(books)
    books.do("beta-root", Leave(None))
    books.skipped(books.request(PROVIDER, books.redemption(tab, CALLER, 10)), "unknown-signer")
    books.do(CALLER, CloseTab(tab))
    books.block(later_ms=DISPUTE_MS)
    assert books.balance("alpha") == FUNDS and PAIRS.read(books.state, tab) is None


def test_a_voucher_is_for_its_phase_only(books: Books) -> None:
    tab = opened(books)
    as_transaction = books.sign(CALLER, transaction.domain(books.genesis.hash), voucher(tab, 30))
    assert not books.holds(books.request(PROVIDER, RedeemTab(tab, CALLER, 30, RECEIPTS, as_transaction)))
