"""What the API says of room in the directory, from a ledger in which something is rented; and what is sent to rent it."""

from types import SimpleNamespace
from typing import Any

import pytest

from meshos.consensus.ledger.limits import DAY_MS, MAX_RENT_DAYS
from meshos.consensus.ledger.motions import Configure
from meshos.consensus.ledger.rents import Rent
from meshos.errors import BadInput, MeshError, Refused
from meshos.node.api.shapes import RoomQuote
from meshos.node.facade.renting import RoomDesk
from meshos.node.kernel.ledger import directory_caps
from meshos.protocols.directory.holdings import uncapped
from meshos.protocols.ledger.slots import Concluded
from tests.ledger.books import Books, did
from tests.ledger.test_orgs import carried

PRICE = 300
ALPHA, BETA = did("alpha"), did("beta")


class Desk:
    """Has done what it was sent."""

    def __init__(self) -> None:
        self.sent: list[object] = []

    async def send(self, body: object, key: str, timeout_s: float) -> Concluded:
        self.sent.append(body)
        return Concluded(b"r", bytes(32), "committed", "", 7)


def window(books: Books) -> Any:
    return SimpleNamespace(restoring=False, height=books.height, time_ms=books.time_ms, get=books.state.get, scan=books.state.scan)


def rooms(books: Books, desk: Any = None, later_ms: int = 0) -> RoomDesk:
    return RoomDesk(ALPHA, window(books), desk or Desk(), lambda org: 9 if org == ALPHA else 0, lambda: (books.time_ms + later_ms) / 1000)


@pytest.fixture
def books() -> Books:
    books = Books()
    carried(books, Configure((("directory-free-records", 5), ("directory-record-price", PRICE))))
    books.block(later_ms=DAY_MS - books.time_ms % DAY_MS)
    today = books.time_ms // DAY_MS
    for records, days in ((7, 10), (2, 30)):
        books.do("alpha-1", Rent(records, today + days - 1, 10_000))
    return books


async def test_room_tells_what_is_free_rented_and_held_and_until_when(books: Books) -> None:
    day = books.time_ms - books.time_ms % DAY_MS
    said = await rooms(books).room(ALPHA)
    assert (said["room"], said["free"], said["held"], said["price_micro"]) == (12, 5, 9, PRICE)
    assert said["rented"] == [{"records": 7, "until_ms": day + 10 * DAY_MS}, {"records": 2, "until_ms": day + 30 * DAY_MS}]
    with pytest.raises(Refused, match="no-such-org"):
        await rooms(books).room(did("nobody"))
    other = await rooms(books).room(BETA)
    assert (other["room"], other["rented"], other["held"]) == (5, [], 0)
    free = await rooms(Books()).room(ALPHA)
    assert free["room"] is None
    with pytest.raises(BadInput, match="bad-did"):
        await rooms(books).room("alpha")


async def test_a_quote_is_of_the_day_that_it_is_though_the_ledger_stands_still(books: Books) -> None:
    today = books.time_ms // DAY_MS
    assert await rooms(books).quote(7, 10) == RoomQuote(7, today + 9, 0), "that is paid for"
    assert await rooms(books).quote(8, 10) == RoomQuote(8, today + 9, PRICE // 3)
    assert await rooms(books, later_ms=5 * DAY_MS).quote(8, 5) == RoomQuote(8, today + 9, PRICE // 6)
    assert await rooms(books, later_ms=-5 * DAY_MS).quote(8, 10) == RoomQuote(8, today + 9, PRICE // 3), "a clock behind the ledger's"
    with pytest.raises(Refused, match="rent-out-of-bounds") as caught:
        await rooms(books).quote(1, MAX_RENT_DAYS + 1)
    assert caught.value.hint
    with pytest.raises(Refused, match="rent-not-needed"):
        await rooms(Books()).quote(1, 1)


async def test_what_is_sent_names_the_day_and_the_sum_of_the_quote(books: Books) -> None:
    desk = Desk()
    quote = await rooms(books, desk).quote(8, 10)
    done = await rooms(books, desk).rent(quote, "key", 3.0)
    assert desk.sent == [Rent(8, quote.day, PRICE // 3)] and (done["outcome"], done["paid_micro"], done["height"]) == ("committed", 100, 7)
    paid = await rooms(books, desk).rent(await rooms(books).quote(7, 10), "other", 3.0)
    assert len(desk.sent) == 1 and (paid["outcome"], paid["txId"]) == ("unchanged", None)


async def test_a_rent_tells_what_there_is_room_for_after_it(books: Books) -> None:
    class Ledger(Desk):
        async def send(self, body: object, key: str, timeout_s: float) -> Concluded:
            assert isinstance(body, Rent)
            books.do("alpha-1", body)
            return await super().send(body, key, timeout_s)

    day = books.time_ms - books.time_ms % DAY_MS
    desk = rooms(books, Ledger())
    longer = await desk.rent(await desk.quote(3, 30), "longer", 3.0)
    steps = [{"records": 7, "until_ms": day + 10 * DAY_MS}, {"records": 3, "until_ms": day + 30 * DAY_MS}]
    assert (longer["room"], longer["added"], longer["free"], longer["rented"]) == (12, 0, 5, steps)
    more = await desk.rent(await desk.quote(9, 10), "more", 3.0)
    assert (more["room"], more["added"]) == (14, 2)
    same = await desk.rent(await desk.quote(9, 10), "same", 3.0)
    assert (same["outcome"], same["room"], same["added"]) == ("unchanged", 14, 0)


async def test_while_a_state_is_fetched_nothing_is_said_and_nothing_is_held_back(books: Books) -> None:
    fetching = window(books)
    fetching.restoring = True
    asked: Any = Desk()
    desk = RoomDesk(ALPHA, fetching, asked, lambda _: 0)
    for question in (desk.room(ALPHA), desk.quote(1, 1)):
        with pytest.raises(MeshError, match="state-incomplete"):
            await question
    assert directory_caps(fetching, ALPHA) == uncapped(ALPHA)


def test_a_directory_takes_in_what_the_ledger_says_now(books: Books) -> None:
    assert directory_caps(window(books), ALPHA)[2] == 12 and directory_caps(window(books), BETA)[2] == 5
    books.block(later_ms=10 * DAY_MS)
    assert directory_caps(window(books), ALPHA)[2] == 7
    assert directory_caps(window(Books()), ALPHA) == (20_000, 10_000, None)
