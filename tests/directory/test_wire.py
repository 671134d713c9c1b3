"""The directory's messages: there and back, and what a stranger may not send."""

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
buckets = st.sets(st.integers(0, 255), max_size=32).map(lambda found: tuple(sorted(found)))
requests = (
    st.builds(wire.AskDigest, st.binary(min_size=16, max_size=16))
    | st.builds(wire.AskItems, buckets, st.just("") | ids)
    | st.builds(wire.AskEntries, st.lists(ids, max_size=64).map(tuple))
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


def test_digests_and_entries_come_back() -> None:
    assert wire.decode_digests(wire.encode_digests(None)) is None
    assert wire.decode_digests(wire.encode_digests(bytes(range(16)) * 256)) == [bytes(range(16))] * 256
    assert wire.decode_entries(wire.encode_entries([b"a", b"b"])) == (b"a", b"b")


ID = "a-0123456789abcdef"


@pytest.mark.parametrize(
    "value",
    [
        None,
        ["digest", b"short"],
        ["digest"],
        ["items", [256], ""],
        ["items", [3, 2], ""],
        ["items", [1, 1], ""],
        ["items", ["1"], ""],
        ["items", [True], ""],
        ["items", [1], "a" * 19],
        ["entries", [ID] * 65],
        ["entries", ["a-xyz"]],
        ["entries", [7]],
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
    with pytest.raises(Refused, match="bad-message"):
        wire.decode_digests(cbor.encode(b"x" * 100))
    with pytest.raises(Refused, match="bad-message"):
        wire.decode_entries(cbor.encode([b"x"] * (limits.IDS_A_PAGE + 1)))
    with pytest.raises(Refused, match="bad-message"):
        wire.decode_entries(cbor.encode(["x"]))
    with pytest.raises(Refused, match="bad-message"):
        wire.decode_hint(cbor.encode([[ID, 1, b"x" * 16]] * (limits.HINT_ITEMS + 1)))


@given(st.binary(max_size=80))
@settings(max_examples=100, deadline=None)
def test_garbage_is_refused_by_name(data: bytes) -> None:
    for decode in (wire.decode_request, wire.decode_items, wire.decode_hint, wire.decode_entries, wire.decode_digests):
        try:
            decode(data)
        except Refused as error:
            assert error.name in ("bad-message", "bad-encoding", "too-large")
