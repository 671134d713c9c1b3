"""The directory's messages: there and back, and what a stranger may not send."""

from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos import cbor
from meshos.errors import Refused
from meshos.ids import AgentId
from meshos.protocols.directory import limits, wire
from meshos.protocols.directory.commands import Item, Items

ids = st.text("0123456789abcdef", min_size=16, max_size=16).map(lambda hexes: AgentId("a-" + hexes))
items = st.builds(Item, ids, st.integers(0, 2**53), st.binary(min_size=16, max_size=16))
places = st.sets(st.integers(0, limits.PLACES), max_size=32).map(lambda found: tuple(sorted(found)))
layouts = st.just(b"") | st.binary(min_size=limits.LAYOUT_BYTES, max_size=limits.LAYOUT_BYTES)
requests = (
    st.builds(wire.AskDigest, layouts, places, st.binary(min_size=16, max_size=16))
    | st.builds(wire.AskItems, layouts, places, st.just("") | ids)
    | st.builds(wire.AskEntries, st.lists(ids, max_size=64).map(tuple))
    | st.builds(wire.AskVersions, st.lists(ids, max_size=64).map(tuple))
    | st.builds(lambda name, there: wire.AskSummaries(name, there, (b"12345678",) * len(there)), layouts, places)
)


@given(requests)
@settings(max_examples=60, deadline=None)
def test_requests_come_back(request: wire.Request) -> None:
    assert wire.decode_request(wire.encode_request(request)) == request


@given(st.lists(items, max_size=20, unique_by=lambda item: item.id), st.booleans())
@settings(max_examples=60, deadline=None)
def test_lists_and_announcements_come_back(found: list[Item], more: bool) -> None:
    listed = Items(tuple(sorted(found, key=lambda item: item.id)), more and bool(found))
    assert wire.decode_items(wire.encode_items(listed)) == listed
    assert wire.decode_hint(wire.encode_hint(found)) == tuple(found)
    news = wire.News(b"n" * limits.LAYOUT_BYTES, tuple(range(len(found))))
    assert wire.decode_hint(wire.encode_news(news)) == news


def test_digests_and_entries_come_back() -> None:
    assert wire.decode_digests(wire.encode_digests(None, (3, 4)), 256) == (None, (3, 4))
    assert wire.decode_digests(wire.encode_digests(bytes(range(16)) * 256), 256) == ([bytes(range(16))] * 256, ())
    assert wire.decode_entries(wire.encode_entries([b"a", b"b"])) == (b"a", b"b")
    assert wire.decode_versions(wire.encode_versions([0, 7], [True, False]), 2) == ((0, 7), (True, False))


ID = "a-0123456789abcdef"


@pytest.mark.parametrize(
    "value",
    [
        None,
        ["digest", b"", b"", b"short"],
        ["digest"],
        ["digest", b"l", b"\0\1", bytes(16)],
        ["digest", b"", b"\0", bytes(16)],
        ["digest", b"", bytes(2 * limits.PLACES + 2), bytes(16)],
        ["items", b"", b"\0\3\0\2", ""],
        ["items", b"", b"\0\1\0\1", ""],
        ["items", b"", [1], ""],
        ["items", b"x" * 15, b"\0\1", ""],
        ["items", b"", b"\0\1", "a" * 19],
        ["entries", [ID] * 65],
        ["entries", ["a-xyz"]],
        ["versions", [ID] * 65],
        ["versions", [7]],
        ["entries", [7]],
        ["summaries", b"", b"\0\1", b"1234567"],
        ["summaries", b"", b"\0\1\0\2", b"12345678"],
        ["else", b""],
    ],
)
def test_a_request_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(Refused, match="bad-message"):
        wire.decode_request(cbor.encode(value))


@pytest.mark.parametrize(
    "value",
    [
        [False, [[ID, 1, b"x" * 15]]],
        [False, [[ID, -1, b"x" * 16]]],
        [False, [[ID, True, b"x" * 16]]],
        [False, [[ID, 1, b"x" * 16]] * 2],
        [True, []],
        [False, [[ID, 1, b"x" * 16]] * (limits.ITEMS_A_PAGE + 1)],
        7,
    ],
)
def test_a_list_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(Refused, match="bad-message"):
        wire.decode_items(cbor.encode(value))


def test_other_answers_that_are_none_are_refused() -> None:
    for answer in (b"x" * 100, [b"x" * 100, b""], [b"x" * 16, b"\0"], [None, b"\0\1\0\1"], [bytes(32), b""], [None]):
        with pytest.raises(Refused, match="bad-message"):
            wire.decode_digests(cbor.encode(answer), 1)
    with pytest.raises(Refused, match="bad-message"):
        wire.decode_entries(cbor.encode([b"x"] * (limits.IDS_A_PAGE + 1)))
    with pytest.raises(Refused, match="bad-message"):
        wire.decode_entries(cbor.encode(["x"]))
    for versions in ([1, 2], [True], [-1], [2**53 + 1], ["1"]):
        with pytest.raises(Refused, match="bad-message"):
            wire.decode_versions(cbor.encode([versions, [True]]), 1)
    for answer in (None, [[1], [1]], [[1], []], [[1]], [1, True]):
        with pytest.raises(Refused, match="bad-message"):
            wire.decode_versions(cbor.encode(answer), 1)
    for summaries in (None, ["x"], [b""] * (limits.PLACES + 1)):
        with pytest.raises(Refused, match="bad-message"):
            wire.decode_summaries(cbor.encode(summaries))
    with pytest.raises(Refused, match="bad-message"):
        wire.decode_hint(cbor.encode([[ID, 1, b"x" * 16]] * (limits.HINT_ITEMS + 1)))
    for news in (
        ["news", b"short", b""],
        ["news", bytes(16), b"x"],
        ["news", bytes(16), bytes(4)],
        ["news", bytes(16)],
        ["olds", bytes(16), b""],
    ):
        with pytest.raises(Refused, match="bad-message"):
            wire.decode_hint(cbor.encode(news))


@given(st.binary(max_size=80))
@settings(max_examples=100, deadline=None)
def test_garbage_is_refused_by_name(data: bytes) -> None:
    for decode in (wire.decode_request, wire.decode_items, wire.decode_hint, wire.decode_entries, partial(wire.decode_digests, places=1)):
        try:
            decode(data)
        except Refused as error:
            assert error.name in ("bad-message", "bad-encoding", "too-large")
