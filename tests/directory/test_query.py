"""The messages of a search in cells: there and back, and what a stranger may not send."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos import cbor
from meshos.cbor import Value
from meshos.errors import BadInput, Refused
from meshos.ids import AgentId
from meshos.protocols.directory import limits
from meshos.protocols.directory.cells.counting import CellTally, decode_counts, decode_tally, encode_counts, encode_tally
from meshos.protocols.directory.cells.query import (
    Brief,
    CellAnswer,
    CellSearch,
    decode_answer,
    decode_search,
    encode_answer,
    encode_search,
    rounded,
)
from meshos.protocols.directory.filters import Exclude, Filters, check
from meshos.protocols.directory.tally import Tally
from meshos.storage.index.index import Index
from meshos.storage.index.question import Question, ask
from meshos.storage.index.segment import Document
from tests.directory.world import EMBEDDER

INDEX = Index()
(READ,) = EMBEDDER.read(["tells the time in any city"])
INDEX.update([Document("k", "tells the time in any city", READ.vector, None, READ.signs())])
ID = "a-0123456789abcdef"


def question(text: str = "what time is it in the city") -> Question:
    return ask(text, EMBEDDER.read([text])[0], INDEX.snapshot())


texts = st.lists(st.text("abc ", max_size=9), max_size=3).map(tuple)
bounds = st.none() | st.floats(0, 1e6, width=32)
prices = st.none() | st.integers(0, 2**50)
filters = st.builds(Filters, bounds, bounds, texts, texts, st.none() | st.just("eu"), bounds, prices, st.builds(Exclude, texts, texts))
searches = st.builds(
    CellSearch,
    st.binary(min_size=16, max_size=16),
    st.sets(st.integers(0, 1023), min_size=1, max_size=9).map(lambda found: tuple(sorted(found))),
    st.sampled_from(["time", "tell me the city", "?", "ruritania"]).map(question).map(rounded),
    filters,
    st.integers(0, 100),
    st.just("") | st.just(ID),
    st.booleans(),
)
counts = st.integers(0, 2**53)
behind = st.integers(0, limits.ORG_RECORDS)
briefs = st.builds(Brief, st.just(AgentId(ID)), counts, st.binary(min_size=16, max_size=16), st.floats(0, 1), counts, behind)


@given(searches)
@settings(max_examples=60, deadline=None)
def test_a_search_comes_back(search: CellSearch) -> None:
    again = decode_search(encode_search(search))
    assert (again.layout, again.cells, again.filters, again.full, again.left_out, again.collapse) == (
        search.layout,
        search.cells,
        search.filters,
        search.full,
        search.left_out,
        search.collapse,
    )
    assert again.question.terms == search.question.terms and encode_search(again) == encode_search(search)
    hits = [INDEX.snapshot().search(asked, 1)[0].score for asked in (search.question, again.question)]
    assert hits[0] == hits[1]


@given(st.lists(briefs, max_size=5), st.lists(st.binary(max_size=5), max_size=5))
@settings(max_examples=60, deadline=None)
def test_an_answer_comes_back(found: list[Brief], sealed: list[bytes]) -> None:
    answer = CellAnswer((1, 5), tuple(found), tuple(sealed[: len(found)]))
    assert decode_answer(encode_answer(answer)) == answer


def test_rounding_hardly_moves_a_score() -> None:
    for text in ("time of day", "which city", "tells"):
        exact = INDEX.snapshot().search(question(text), 1)[0].score
        assert INDEX.snapshot().search(rounded(question(text)), 1)[0].score == pytest.approx(exact, abs=2e-3)


GOOD = cbor.decode(encode_search(CellSearch(bytes(16), (1, 2), question(), Filters(), 3)), max_bytes=1 << 20)
assert isinstance(GOOD, list)
QUESTION = GOOD[2]
assert isinstance(QUESTION, list)


def _with(place: int, value: Value) -> Value:
    assert isinstance(GOOD, list)
    return [*GOOD[:place], value, *GOOD[place + 1 :]]


def _asking(place: int, value: Value) -> Value:
    assert isinstance(QUESTION, list)
    return _with(2, [*QUESTION[:place], value, *QUESTION[place + 1 :]])


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        _with(0, b"short"),
        _with(1, b""),
        _with(1, b"\0\2\0\1"),
        _with(1, b"\4\0"),
        _with(2, None),
        _with(3, []),
        _with(3, [[], [], None, None, [None, None], [[], [], [], []]]),
        _with(3, [[], [], None, None, [None, None, float("nan")], [[], [], [], []]]),
        _with(3, [["x"] * 65, [], None, None, [None, None, None], [[], [], [], []]]),
        _with(3, [["x" * 201], [], None, None, [None, None, None], [[], [], [], []]]),
        _with(3, [[], [], None, None, [None, None, None], [[], [], []]]),
        _with(4, 101),
        _with(4, -1),
        _with(5, "nobody"),
        _with(6, 1),
        _asking(0, [["stem", "word", 1.0]] * 65),
        _asking(0, [["s" * 41, "word", 1.0]]),
        _asking(0, [["stem", "word", float("inf")]]),
        _asking(0, [["stem", "word", -1.0]]),
        _asking(0, [["stem", "word"]]),
        _asking(1, 0.0),
        _asking(1, float("nan")),
        _asking(2, b"x" * 767),
        _asking(3, b"x" * 5),
        _asking(4, [1.0] * 97),
    ],
)
def test_a_search_that_breaks_a_rule_is_refused(value: Value) -> None:
    with pytest.raises(Refused) as caught:
        decode_search(cbor.encode(value))
    assert caught.value.name == "bad-message"


def test_filters_are_checked_before_anything_is_searched() -> None:
    search = decode_search(cbor.encode(_with(3, [[], [], None, -5, [None, None, None], [[], [], [], []]])))
    with pytest.raises(BadInput):
        check(search.filters)


def _row(version: int = 1, score: float = 0.5, price: int = 0, behind: int = 0) -> bytes:
    return bytes(8 + 16) + struct.pack(">QdQI", version, score, price, behind)


def test_what_the_others_of_these_are_bent_from_is_an_answer() -> None:
    found = decode_answer(cbor.encode([b"", _row(7, 0.25, 3, 2), []])).found
    assert found == (Brief(AgentId("a-0000000000000000"), 7, bytes(16), 0.25, 3, 2),)
    assert len(decode_answer(cbor.encode([b"", _row() * limits.FOUND, []])).found) == limits.FOUND


@pytest.mark.parametrize(
    "value",
    [
        None,
        [b"\0", b"", []],
        [b"", [], []],
        [b"", b"", [b"x"]],
        [b"", _row(), ["x"]],
        [b"", _row()[:-1], []],
        [b"", _row(version=limits.MAX_NUMBER + 1), []],
        [b"", _row(score=1.5), []],
        [b"", _row(score=-0.1), []],
        [b"", _row(score=float("nan")), []],
        [b"", _row(price=limits.MAX_NUMBER + 1), []],
        [b"", _row(behind=limits.ORG_RECORDS + 1), []],
        [b"", _row() * (limits.FOUND + 1), []],
    ],
)
def test_an_answer_that_breaks_a_rule_is_refused(value: Value) -> None:
    with pytest.raises(Refused) as caught:
        decode_answer(cbor.encode(value))
    assert caught.value.name == "bad-message"


@given(st.binary(max_size=80))
@settings(max_examples=100, deadline=None)
def test_garbage_is_refused_by_name(data: bytes) -> None:
    for decode in (decode_search, decode_answer):
        with pytest.raises(Refused):
            decode(data)


def test_a_question_without_pieces_or_words_comes_back() -> None:
    empty = Question((), 1.0, np.eye(1, 384, dtype=np.float32)[0], np.zeros((0, 384), np.float32), np.zeros(0, np.float32))
    assert len(rounded(empty).pieces) == 0


def test_counts_come_back_and_what_is_none_is_refused() -> None:
    tally = Tally(3, (("chess", 2), ("time", 1)), (), (("eu", 3),))
    assert decode_counts(encode_counts((1, 5), tally)) == ((1, 5), tally)
    asked = CellTally(bytes(16), (1, 5), Filters(capabilities=("chess",)))
    assert decode_tally(encode_tally(asked)) == asked
    for value in (None, [b"", 1, [], [], []], [bytes(16), b"", []], [bytes(15), b"\0\1", []], [bytes(16), b"\4\0", []]):
        with pytest.raises(Refused):
            decode_tally(cbor.encode(value))
    many: list[Value] = [[f"v{number}", 1] for number in range(limits.FACETS_TOLD + 1)]
    for counts in (None, [["x"]], [["x", 0]], [["x", 4]], [["x", True]], [["x" * 65, 1]], many):
        with pytest.raises(Refused):
            decode_counts(cbor.encode([b"\0\1", 3, counts, [], []]))
