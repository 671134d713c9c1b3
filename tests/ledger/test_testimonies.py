"""Testimonies: a node holds nothing once f + 1 organisations say that it lies, for a term; fewer can do nothing; and what is refused."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.consensus.ledger import queries, tree
from meshos.consensus.ledger.limits import DAY_MS, DISCHARGE_MS, MAX_TESTIMONIES, TESTIMONY_MS
from meshos.consensus.ledger.orgs import Leave, RemoveNode
from meshos.consensus.ledger.results import COMMITTED
from meshos.consensus.ledger.seats import SEATS, Seats
from meshos.consensus.ledger.testimonies import (
    DISCHARGES,
    FORGED,
    OMITTED,
    REASONS,
    STALE,
    TESTIMONIES,
    Discharge,
    discharged,
    said_by,
)
from meshos.consensus.ledger.testimonies import Testify as Accuse  # pytest takes what begins with Test for its own
from meshos.errors import Refused
from tests.ledger.books import NAMES, Books, did, genesis
from tests.ledger.test_orgs import add_node

ANSWER = b"a" * 32


@pytest.fixture
def books() -> Books:
    return Books()


def lies(node: str, reason: str = OMITTED) -> Accuse:
    return Accuse(node, reason, ANSWER)


def trail(books: Books) -> list[tuple[str, str, str, str]]:
    return [(one.by, one.what, one.subject, one.why) for one in queries.audit(books.state, 9)]


def test_f_plus_one_organisations_discharge_a_node_for_a_term_and_the_trail_says_who_and_why(books: Books) -> None:
    books.do("alpha-1", lies("delta-1", STALE))
    assert discharged(books.state) == frozenset() and said_by(books.state, did("alpha"), books.time_ms)[0].node == "delta-1"
    books.do("beta-1", lies("delta-1", FORGED))
    until_ms = books.time_ms + DISCHARGE_MS
    assert books.read(DISCHARGES, "delta-1") == Discharge(until_ms, ((did("alpha"), STALE), (did("beta"), FORGED)))
    assert trail(books) == [
        (did("beta"), "discharged", "delta-1", "2 organisations say: forged, stale"),
        (did("beta"), "testified", "delta-1", FORGED),
        (did("alpha"), "testified", "delta-1", STALE),
    ]
    assert said_by(books.state, did("alpha"), books.time_ms) == (), "it is used up"
    books.refused("gamma-1", lies("delta-1"), "already-testified")
    books.block(later_ms=DISCHARGE_MS - 2_001)
    assert discharged(books.state) == {"delta-1"}
    assert not books.ledger.wants_block(books.store, books.time_ms) and books.ledger.wants_block(books.store, until_ms)
    books.block(later_ms=until_ms - books.time_ms)
    assert discharged(books.state) == frozenset() and trail(books)[0] == ("", "holds-again", "delta-1", "")
    books.do("gamma-1", lies("delta-1"))
    assert discharged(books.state) == frozenset(), "it takes as many new ones"


def test_of_seven_organisations_two_can_have_nobody_discharged_and_the_third_does_it() -> None:
    books = Books(genesis(7))
    books.do("alpha-1", lies("delta-1"))
    books.do("beta-1", lies("delta-1"))
    books.refused("beta-1", lies("delta-1", FORGED), "already-testified")
    assert discharged(books.state) == frozenset()
    books.do("gamma-1", lies("delta-1"))
    assert discharged(books.state) == {"delta-1"}


def test_of_three_organisations_one_alone_discharges_nobody() -> None:
    books = Books(genesis(3))
    books.do("alpha-1", lies("gamma-1"))
    assert discharged(books.state) == frozenset()
    books.do("beta-1", lies("gamma-1"))
    assert discharged(books.state) == {"gamma-1"}


def test_what_was_said_more_than_a_day_before_counts_no_more_and_is_forgotten(books: Books) -> None:
    books.do("alpha-1", lies("delta-1"))
    books.block(later_ms=TESTIMONY_MS)
    assert len(said_by(books.state, did("alpha"), books.time_ms)) == 1
    books.do("beta-1", lies("delta-1"))
    assert discharged(books.state) == frozenset() and books.read(TESTIMONIES, did("alpha")) is None
    books.do("alpha-1", lies("delta-1"))
    assert discharged(books.state) == {"delta-1"}


def test_whose_vote_does_not_count_has_its_word_not_counted_either(books: Books) -> None:
    seats = SEATS.read(books.state, b"")
    assert seats is not None and seats.entries[0].org == did("alpha")
    without = Seats((replace(seats.entries[0], suspended=True), *seats.entries[1:]))
    books.store.write(tree.update(books.store, {SEATS.key(b""): SEATS.encode(without)})[1])
    books.do("alpha-1", lies("delta-1"))
    books.do("beta-1", lies("delta-1"))
    assert discharged(books.state) == frozenset()
    books.do("gamma-1", lies("delta-1"))
    found = books.read(DISCHARGES, "delta-1")
    assert isinstance(found, Discharge) and [org for org, _ in found.said] == [did("beta"), did("gamma")]


def test_who_may_not_testify_and_about_whom_nobody_may(books: Books) -> None:
    books.do("alpha-root", add_node(books, "alpha", "alpha-2"))
    books.refused("alpha-2", lies("delta-1"), "no-voice")
    books.refused("alpha-1", lies("alpha-2"), "own-node")
    for nobody in ("stranger", "beta-root", "beta-1-votes", "beta-ada"):
        books.refused("alpha-1", lies(nobody), "holder-unknown")
    books.skipped(books.request("alpha-root", lies("delta-1")), "signer-not-allowed")
    books.skipped(books.request("alpha-ada", lies("delta-1")), "signer-not-allowed")


def test_a_node_that_was_removed_is_nobodys_to_testify_about_and_makes_room_for_others(books: Books) -> None:
    for number in range(2, MAX_TESTIMONIES + 3):
        books.do("delta-root", add_node(books, "delta", f"delta-{number}"))
    for number in range(2, MAX_TESTIMONIES + 2):
        books.do("alpha-1", lies(f"delta-{number}"))
    last = f"delta-{MAX_TESTIMONIES + 2}"
    books.refused("alpha-1", lies(last), "testimonies-full")
    books.do("delta-root", RemoveNode("delta-2"))
    books.refused("beta-1", lies("delta-2"), "holder-unknown")
    books.do("alpha-1", lies(last))
    assert "delta-2" not in {one.node for one in said_by(books.state, did("alpha"), books.time_ms)}
    books.block(later_ms=TESTIMONY_MS + 1)
    books.do("alpha-1", lies("beta-1"))


def test_a_term_goes_on_while_the_node_is_removed_and_its_organisation_gone(books: Books) -> None:
    books.do("delta-root", add_node(books, "delta", "delta-2"))
    books.do("alpha-1", lies("delta-2"))
    books.do("beta-1", lies("delta-2"))
    books.do("delta-root", Leave(None))
    books.block(later_ms=2 * DAY_MS)
    assert discharged(books.state) == {"delta-2"}
    books.block(later_ms=DISCHARGE_MS)
    assert discharged(books.state) == frozenset()


said = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES), st.sampled_from(REASONS), st.sampled_from((1, TESTIMONY_MS // 3)))
)


@given(said)
@settings(max_examples=60, deadline=None)
def test_whatever_is_said_nobody_is_discharged_of_whom_fewer_than_f_plus_one_have_spoken_within_a_day(
    given_said: list[tuple[str, str, str, int]],
) -> None:
    books, heard = Books(genesis(7)), dict[tuple[str, str], int]()
    for by, about, reason, later_ms in given_said:
        before = discharged(books.state)
        books.block(later_ms=later_ms)
        result = books.run(f"{by}-1", lies(f"{about}-1", reason))
        if result.outcome == COMMITTED:
            assert by != about
            heard[by, about] = books.time_ms
        for node in discharged(books.state) - before:
            speaking = Counter(whom for (_, whom), at in heard.items() if books.time_ms - at <= TESTIMONY_MS)
            assert node == f"{about}-1" and speaking[about] == 3
            heard = {pair: at for pair, at in heard.items() if pair[1] != about}
    assert all(len(rows) <= MAX_TESTIMONIES for key, value in books.state.scan(TESTIMONIES.prefix) for rows in [TESTIMONIES.decode(value)])


@pytest.mark.parametrize(
    "fields", [None, [], ["n", OMITTED], ["n", "slow", ANSWER], ["", STALE, ANSWER], ["n", STALE, b"short"], [1, STALE, ANSWER]]
)
def test_what_is_no_testimony_is_refused(fields: object) -> None:
    with pytest.raises(Refused, match="transaction-malformed"):
        Accuse.read(fields)  # type: ignore[arg-type]
