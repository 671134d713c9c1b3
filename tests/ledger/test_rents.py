"""Rents of room for records: what is paid is the difference, to nobody, by whoever wants the room, and ends with its last day."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.consensus.ledger import state
from meshos.consensus.ledger.accounts import TOTALS, Totals
from meshos.consensus.ledger.agenda import pending_deadline
from meshos.consensus.ledger.limits import DAY_MS, MAX_AMOUNT, MAX_RENT_DAYS, RENT_DAYS
from meshos.consensus.ledger.motions import Configure
from meshos.consensus.ledger.orgs import Leave
from meshos.consensus.ledger.packing import unpack
from meshos.consensus.ledger.parameters import ALL_FREE, PARAMETERS, SPECS, Parameters, changed, from_genesis
from meshos.consensus.ledger.rents import RENTS, Rent, Steps, rent, rented, room
from meshos.consensus.ledger.results import COMMITTED, REFUSED
from meshos.errors import Refused
from tests.ledger.books import FUNDS, Books, did, genesis
from tests.ledger.test_orgs import carried

FREE, PRICE = 5, 300
"""Ten millionths for a record and day."""
A_DAY = PRICE // RENT_DAYS


@pytest.fixture
def books() -> Books:
    """At the beginning of a day, with a price."""
    books = Books()
    carried(books, Configure((("directory-free-records", FREE), ("directory-record-price", PRICE))))
    books.block(later_ms=DAY_MS - books.time_ms % DAY_MS)
    return books


def today(books: Books) -> int:
    return books.time_ms // DAY_MS


def room_of(books: Books, name: str = "alpha") -> int | None:
    return room(books.state, did(name), books.time_ms)


def steps(books: Books) -> Steps:
    return RENTS.read(books.state, did("alpha")) or ()


def paid(books: Books, records: int, days: int, most: int = MAX_AMOUNT) -> int:
    """What alpha has paid for room until the end of the last of ``days``, counted from today."""
    before = books.balance("alpha")
    books.do("alpha-1", Rent(records, today(books) + days - 1, most))
    return before - books.balance("alpha")


def test_without_a_price_room_is_not_limited_and_cannot_be_rented() -> None:
    books = Books()
    assert room_of(books) is None
    books.refused("alpha-1", Rent(10, books.time_ms // DAY_MS + 1, 1_000), "rent-not-needed")
    carried(books, Configure((("directory-free-records", FREE),)))
    assert room_of(books) is None, "nothing is rented where nothing is paid"
    carried(books, Configure((("directory-free-records", ALL_FREE), ("directory-record-price", PRICE))))
    assert room_of(books) is None, "all that it may have is free"


def test_thirty_days_cost_the_price_and_end_with_the_last_of_them(books: Books) -> None:
    assert (room_of(books), room_of(books, "nobody")) == (FREE, FREE)
    assert paid(books, 7, RENT_DAYS) == 7 * PRICE and (room_of(books), room_of(books, "beta")) == (FREE + 7, FREE)
    books.block(later_ms=RENT_DAYS * DAY_MS - books.time_ms % DAY_MS - 1)
    assert room_of(books) == FREE + 7 and steps(books)
    assert pending_deadline(books.state) == books.time_ms + 1, "a block comes for the end, though nobody sends anything"
    books.block(later_ms=1)
    assert room_of(books) == FREE and not steps(books), "nothing of it stays in the state"


def test_the_same_rent_again_costs_nothing_and_changes_nothing(books: Books) -> None:
    paid(books, 7, 30)
    before = steps(books)
    assert paid(books, 7, 30) == paid(books, 6, 30) == paid(books, 7, 29) == 0 and steps(books) == before
    assert paid(books, 7, 30, most=1) == 0, "nor does it need to be allowed anything"


def test_more_records_cost_the_difference_for_the_days_that_are_left(books: Books) -> None:
    paid(books, 7, 30)
    books.block(later_ms=10 * DAY_MS)
    assert paid(books, 12, 20) == 5 * 20 * A_DAY and room_of(books) == FREE + 12
    assert steps(books) == ((12, today(books) + 19),)


def test_a_renewal_before_the_end_extends_it(books: Books) -> None:
    paid(books, 7, 30)
    books.block(later_ms=25 * DAY_MS)
    assert paid(books, 7, 30) == 7 * 25 * A_DAY
    books.block(later_ms=29 * DAY_MS)
    assert room_of(books) == FREE + 7
    books.block(later_ms=DAY_MS)
    assert room_of(books) == FREE


def test_fewer_records_come_after_what_was_paid_for_and_nothing_is_refunded(books: Books) -> None:
    paid(books, 7, 10)
    assert paid(books, 2, 30) == 2 * 20 * A_DAY, "the first ten days are paid for"
    assert steps(books) == ((7, today(books) + 9), (2, today(books) + 29)) and room_of(books) == FREE + 7
    books.block(later_ms=10 * DAY_MS)
    assert (room_of(books), steps(books)) == (FREE + 2, ((2, today(books) + 19),))
    books.block(later_ms=20 * DAY_MS)
    assert room_of(books) == FREE


def test_what_is_paid_is_rounded_up_so_that_nothing_is_had_for_nothing(books: Books) -> None:
    carried(books, Configure((("directory-record-price", 1),)))
    assert paid(books, 1, 1) == 1 and paid(books, 2, 1) == 1 and paid(books, 2, 32) == 3, "62 thirtieths"


def test_the_money_goes_to_nobody(books: Books) -> None:
    before = TOTALS.read(books.state, b"")
    assert isinstance(before, Totals)
    micro = paid(books, 7, 30)
    moved = Totals(before.supply, before.accounts - micro, before.tabs, before.unissued + micro)
    assert TOTALS.read(books.state, b"") == moved
    assert [books.balance(name) for name in ("beta", "gamma", "delta")] == [FUNDS] * 3


def test_a_price_that_rose_meanwhile_is_not_paid(books: Books) -> None:
    order = Rent(7, today(books) + 29, 7 * PRICE)
    carried(books, Configure((("directory-record-price", PRICE + 1),)))
    books.refused("alpha-1", order, "rent-dearer")


def test_who_has_not_the_money_gets_no_room(books: Books) -> None:
    carried(books, Configure((("directory-record-price", FUNDS),)))
    books.refused("alpha-1", Rent(2, today(books) + 29, MAX_AMOUNT), "insufficient-funds")
    assert room_of(books) == FREE and paid(books, 1, 30) == FUNDS


def test_rents_are_bounded_in_records_and_days(books: Books) -> None:
    carried(books, Configure((("directory-max-records-per-org", FREE + 10),)))
    first, last = today(books), today(books) + MAX_RENT_DAYS - 1
    for records, day in ((11, first), (1, first - 1), (1, last + 1), (2**53 - 1, last)):
        books.refused("alpha-1", Rent(records, day, MAX_AMOUNT), "rent-out-of-bounds")
    books.do("alpha-root", Rent(10, last, MAX_AMOUNT))
    assert steps(books) == ((10, last),)


def test_a_rent_has_a_step_for_each_day_at_most() -> None:
    now = changed(from_genesis(genesis()), {"directory-free-records": 0, "directory-record-price": 1})
    held: Steps = ()
    for number in range(MAX_RENT_DAYS):
        held, _ = rent(now, held, 1_000 - number, 20_000 + number, 20_000 * DAY_MS)
    assert len(held) == MAX_RENT_DAYS and RENTS.decode(RENTS.encode(held)) == held
    assert len(rent(now, held, 5_000, 20_000 + 40, 20_000 * DAY_MS)[0]) == MAX_RENT_DAYS - 40


def test_the_dearest_rent_is_more_than_anybody_can_pay_and_overflows_nothing() -> None:
    dearest = {"directory-free-records": 0, "directory-max-records": ALL_FREE, "directory-max-records-per-org": ALL_FREE}
    now = changed(from_genesis(genesis()), {**dearest, "directory-record-price": SPECS["directory-record-price"].most})
    _, micro = rent(now, (), ALL_FREE, 20_000 + MAX_RENT_DAYS - 1, 20_000 * DAY_MS)
    assert micro > MAX_AMOUNT and micro * RENT_DAYS < 2**63, "what other languages compute it in"


def test_a_rent_has_ended_when_its_time_is_over_also_where_no_block_has_carried_that_out(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "DUE_PER_BLOCK", 1)
    for name in ("alpha", "beta"):
        books.do(f"{name}-1", Rent(7, today(books), MAX_AMOUNT))
    again = books.request("beta-1", Rent(4, today(books) + 1, MAX_AMOUNT), expires_ms=books.time_ms + DAY_MS)
    assert [result.outcome for result in books.block([again], later_ms=DAY_MS)] == [COMMITTED]
    assert (room_of(books), room_of(books, "beta")) == (FREE, FREE + 4) and not steps(books)
    assert books.balance("beta") == FUNDS - (7 + 4) * A_DAY, "what was over counted for nothing"


def test_who_has_left_takes_its_rent_along_until_it_ends(books: Books) -> None:
    paid(books, 7, 30)
    books.do("alpha-root", Leave(did("beta")))
    assert steps(books)
    books.skipped(books.request("alpha-1", Rent(8, today(books), 100)), "unknown-signer")
    books.block(later_ms=30 * DAY_MS)
    assert not steps(books)


def test_people_rent_nothing(books: Books) -> None:
    books.skipped(books.request("alpha-ada", Rent(1, today(books), 100)), "signer-not-allowed")


def test_two_rents_in_a_block_pay_once(books: Books) -> None:
    order, before = Rent(7, today(books) + 29, MAX_AMOUNT), books.balance("alpha")
    results = books.block([books.request("alpha-1", order), books.request("alpha-root", order)])
    assert [result.outcome for result in results] == [COMMITTED] * 2 and before - books.balance("alpha") == 7 * PRICE
    dear = Rent(9, today(books) + 29, 1)
    assert [result.outcome for result in books.block([books.request("alpha-1", dear)])] == [REFUSED]


@pytest.mark.parametrize(
    "fields", [None, [], [0, 1, 1], [True, 1, 1], [1, -1, 1], [1, 2**53, 1], [2**53, 1, 1], [1.0, 1, 1], ["1", 1, 1], [1, 1], [1, 1, 1, 1]]
)
def test_what_is_no_rent_is_refused(fields: object) -> None:
    with pytest.raises(Refused, match="transaction-malformed"):
        Rent.read(fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("most", [0, -1, True, 2**53, None])
def test_a_rent_says_what_it_pays_at_most(most: object) -> None:
    with pytest.raises(Refused, match="amount-out-of-bounds"):
        Rent.read([1, 1, most])  # type: ignore[list-item]


# -- whatever is rented in whatever order ------------------------------------------------------------------------------

orders = st.lists(st.tuples(st.integers(1, 9), st.integers(0, MAX_RENT_DAYS - 1), st.integers(0, 40)), max_size=12)


def of(price: int) -> Parameters:
    return changed(from_genesis(genesis()), {"directory-free-records": 0, "directory-record-price": price})


@settings(max_examples=300, deadline=None)
@given(orders, st.integers(1, 1_000))
def test_each_day_is_paid_for_once_and_never_less_than_it_costs(all_: list[tuple[int, int, int]], price: int) -> None:
    """Beside what rents do, day by day: a table of the highest that was asked for on each."""
    now, held, day, total = of(price), (), 20_000, 0
    wanted: dict[int, int] = {}
    for records, ahead, later in all_:
        day += later
        after, micro = rent(now, held, records, day + ahead, day * DAY_MS)
        added = 0
        for one in range(day, day + ahead + 1):
            added += max(0, records - wanted.get(one, 0))
            wanted[one] = max(records, wanted.get(one, 0))
        assert added * price <= micro * RENT_DAYS < added * price + RENT_DAYS
        held, total = after, total + micro
        assert [rented(held, one * DAY_MS) for one in range(day, day + MAX_RENT_DAYS)] == [
            wanted.get(one, 0) for one in range(day, day + MAX_RENT_DAYS)
        ]
        assert list(held) == sorted(held, key=lambda step: (step[1], -step[0])) and len({last for _, last in held}) == len(held)


def test_a_ledger_from_before_there_were_rents_is_read_as_it_was_meant_and_written_as_it_was() -> None:
    fresh = from_genesis(genesis())
    _, values, _ = unpack(PARAMETERS.encode(fresh))
    assert len(values) == 12, "as many as there were at first"
    assert PARAMETERS.decode(PARAMETERS.encode(fresh)) == fresh
    assert (fresh["directory-free-records"], fresh["directory-record-price"]) == (ALL_FREE, 0)
