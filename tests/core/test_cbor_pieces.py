"""Large values in pieces: the same bytes as in one."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos import cbor, cbor_pieces
from meshos.errors import Refused

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | TEXT | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(TEXT, inner, max_size=12),
    max_leaves=25,
)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cbor_pieces, "PIECE", 5)
    monkeypatch.setattr(cbor_pieces, "FEW", 8)


@settings(max_examples=150, deadline=None)
@given(VALUES)
def test_the_same_bytes_as_in_one(value: object) -> None:
    assert cbor_pieces.encode(value) == cbor.encode(value)


@pytest.mark.parametrize("size", [0, 1, 23, 24, 255, 256, 65_535, 65_536])
@pytest.mark.parametrize("character", ["x", "é", "日", "🙂"])
def test_texts_and_bytes_of_every_width(size: int, character: str) -> None:
    for value in (character * size, (character * size).encode(), {"result": character * size}, [character * size]):
        assert cbor_pieces.encode(value) == cbor.encode(value)


def test_a_head_of_eight_bytes() -> None:
    assert cbor_pieces._head(3, 1 << 32) == b"\x7b" + (1 << 32).to_bytes(8, "big")


@pytest.mark.parametrize("value", ["\ud800" * 20, {"a": ["x\udfff" * 9]}, [object()], {"deep": object()}])
def test_what_cannot_be_encoded_is_refused_as_in_one(value: object) -> None:
    with pytest.raises(Exception) as one:  # whatever it is, it must be the same
        cbor.encode(value)
    with pytest.raises(type(one.value)):
        cbor_pieces.encode(value)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=30), max_size=5))
def test_joined_and_copied(parts: list[bytes]) -> None:
    whole = b"".join(parts)
    assert cbor_pieces.joined(parts) == whole
    for start in (0, 1, 7):
        assert cbor_pieces.copied(memoryview(whole)[start:]) == whole[start:]


def whole(tree: object) -> object:
    """With every large text and byte string put together again."""
    if isinstance(tree, cbor_pieces.Large):
        return "".join(tree.texts(3)) if tree.is_text else bytes(tree.data)
    if isinstance(tree, list):
        return [whole(inner) for inner in tree]
    if isinstance(tree, dict):
        return {key: whole(inner) for key, inner in tree.items()}
    return tree


def read(data: bytes) -> object:
    return whole(cbor_pieces.decode(data, max_bytes=10_000))


@settings(max_examples=150, deadline=None)
@given(VALUES)
def test_what_was_written_is_read(value: object) -> None:
    data = cbor.encode(value)
    assert read(data) == cbor.decode(data, max_bytes=10_000)
    for end in {0, 1, len(data) // 2, len(data) - 1} - {len(data)}:
        with pytest.raises(Refused, match="bad-encoding"):
            cbor_pieces.decode(data[:end], max_bytes=10_000)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40) | VALUES.map(cbor.encode).flatmap(lambda data: st.permutations(data).map(bytes)))
def test_any_bytes_are_taken_or_refused_as_in_one(data: bytes) -> None:
    try:
        expected: object = cbor.decode(data, max_bytes=10_000)
    except Refused as error:
        with pytest.raises(Refused, match=error.name):
            cbor_pieces.decode(data, max_bytes=10_000)
    else:
        assert repr(read(data)) == repr(expected)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x78\x06abcdef\x00",  # and something behind it
        b"\x79\x00\x06abcdef",  # a length longer than it must be
        b"\x7f\x66abcdef\xff",  # of no stated length
        b"\x66abc\xff\xffd",  # no UTF-8
        b"\x66abcde\xc3",  # cut off in a character
        b"\x7b\xff\xff\xff\xff\xff\xff\xff\xffabcdef",
        b"\xa2\x61b\x66abcdef\x61a\x66abcdef",  # keys out of order
        b"\xa2\x61a\x66abcdef\x61a\x66abcdef",  # a key twice
        b"\xa1\x01\x66abcdef",  # a key that is no text
        b"\xa1\x66abcde\xff\x01",
        b"\x81",
        b"\xc0\x66abcdef",  # a tag
        b"\x9f\x66abcdef\xff",
    ],
)
def test_large_values_that_are_none(data: bytes) -> None:
    with pytest.raises(Refused, match="bad-encoding"):
        cbor_pieces.decode(data, max_bytes=10_000)
    with pytest.raises(Refused, match="bad-encoding"):
        cbor.decode(data, max_bytes=10_000)


@pytest.mark.parametrize("number", [2**64, -(2**64) - 1, 2**200, 10**5000], ids=["above", "below", "long", "longer"])
def test_integers_that_need_a_tag_are_none(number: int) -> None:
    values: tuple[object, ...] = (
        number,
        {"x": number},
        [0, number],
        {"x": [[[number]]]},
        {"x": {"y": {"z": number}}},
        [*range(20), number],
    )
    for data in map(cbor.encode, values):
        with pytest.raises(Refused, match="bad-encoding"):
            cbor.decode(data, max_bytes=10_000)
        with pytest.raises(Refused, match="bad-encoding"):
            cbor_pieces.decode(data, max_bytes=10_000)


@pytest.mark.parametrize("number", [2**64 - 1, -(2**64)])
def test_the_largest_integers(number: int) -> None:
    for value in (number, {"x": number}, [number], [True, [[[number]]]]):
        assert read(cbor.encode(value)) == cbor.decode(cbor.encode(value), max_bytes=100) == value


@pytest.mark.parametrize("innermost", [0, "long enough to be large", b"long enough to be large", [], {}, [1] * 9])
@pytest.mark.parametrize("in_maps", [True, False])
def test_as_deep_as_in_one(innermost: object, in_maps: bool) -> None:
    taken = set()
    value = innermost
    for depth in range(1, cbor.MAX_DEPTH + 4):
        value = {"x": value} if in_maps else [value]
        data = cbor.encode(value)
        try:
            cbor.decode(data, max_bytes=10_000)
        except Refused:
            with pytest.raises(Refused, match="bad-encoding"):
                cbor_pieces.decode(data, max_bytes=10_000)
        else:
            assert read(data) == value
            taken.add(depth)
    assert cbor.MAX_DEPTH - 1 in taken and cbor.MAX_DEPTH + 1 not in taken


def test_too_large() -> None:
    with pytest.raises(Refused, match="too-large"):
        cbor_pieces.decode(bytes(11), max_bytes=10)


@pytest.mark.parametrize("size", [0, 1, 5, 6, 7, 100])
def test_base64_of_a_byte_string(size: int) -> None:
    data = bytes(range(size))
    large = cbor_pieces.Large(False, memoryview(data))
    assert "".join(large.texts(7)) == base64.b64encode(data).decode()
