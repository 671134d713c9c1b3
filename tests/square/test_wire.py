"""Frames, requests and answers: what was written is read, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshos.errors import BadInput, MeshError, Refused, Unreachable
from meshos.protocols.square import wire
from meshos.protocols.square.limits import ANSWER_BYTES, REFUSAL_CHARS

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2**63) | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


def refusal(act: object, *arguments: object) -> str:
    with pytest.raises(MeshError) as caught:
        act(*arguments)  # type: ignore[operator]
    return caught.value.name


@given(st.integers(0, 2**28 - 1))
def test_a_length_is_read_as_it_was_written_and_not_before_it_is_whole(length: int) -> None:
    head = wire.frame(b"x" * 0)[:0] + _head(length)
    for size in range(len(head)):
        assert wire.length_of(head[:size], 2**28) is None
    assert wire.length_of(head + b"what follows", 2**28) == wire.Length(length, len(head))


def _head(length: int) -> bytes:
    if length < 4096:
        return wire.frame(bytes(length))[: -length or None]
    head = bytearray()
    while length >= 0x80:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*head, length])


@given(st.binary(max_size=300))
def test_a_frame_is_its_length_and_its_bytes(payload: bytes) -> None:
    framed = wire.frame(payload)
    length = wire.length_of(framed, 300)
    assert length is not None and framed[length.size :] == payload and length.bytes == len(payload)


def test_a_length_above_what_is_read_is_refused_before_a_byte_of_the_frame_comes() -> None:
    assert refusal(wire.length_of, _head(4097), 4096) == "square-too-large"


@pytest.mark.parametrize("head", [b"\x80\x00", b"\x81\x80\x00", b"\xff\xff\xff\xff", b"\x80\x80\x80\x80\x01"])
def test_a_length_that_is_not_in_its_shortest_form_or_has_no_end_is_refused(head: bytes) -> None:
    assert refusal(wire.length_of, head, 4096) == "square-bad-frame"


@given(st.dictionaries(st.text(max_size=8), PLAIN, max_size=4))
def test_a_request_is_read_as_it_was_written(fields: dict[str, object]) -> None:
    assert wire.decode_request(wire.encode_request(fields), 1 << 20) == fields


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"", "bad-encoding"),
        (b"\x80", "square-bad-request"),
        (b"\xa1\x01\x02", "bad-encoding"),
        (b"\xa0\x00", "bad-encoding"),
        (b"\xbf\xff", "bad-encoding"),
        (b"\xa1aa" + b"\x81" * 9 + b"\x01", "bad-encoding"),
        (b"\xa1aaY\xff\xff", "bad-encoding"),
        (bytes(4097), "too-large"),
    ],
)
def test_what_is_no_request_is_refused_by_name(data: bytes, name: str) -> None:
    assert refusal(wire.decode_request, data, 4096) == name


@pytest.mark.parametrize("value", [True, -1, 11, 1.0, "1", b"1", [1], None])
def test_a_number_is_a_whole_number_in_range(value: object) -> None:
    assert refusal(wire.number, {"n": value}, "n", 10) == "square-bad-request"


@pytest.mark.parametrize("value", ["", "x" * 11, b"x", 1, None])
def test_a_text_is_a_text_in_range(value: object) -> None:
    assert refusal(wire.text, {"t": value}, "t", 10) == "square-bad-request"


def test_an_unknown_key_is_said_and_not_passed_over() -> None:
    assert refusal(wire.known_only, {"querry": "x"}, "query") == "square-bad-request"


@given(PLAIN)
def test_an_answer_is_read_as_it_was_written(value: object) -> None:
    assert wire.decode_answer(wire.encode_answer(value)) == value


def test_an_answer_that_is_too_large_is_refused_where_it_is_made() -> None:
    assert refusal(wire.encode_answer, bytes(ANSWER_BYTES)) == "square-answer-too-large"


@pytest.mark.parametrize("kind", [Refused, BadInput, Unreachable])
def test_a_refusal_comes_out_as_what_it_was(kind: type[MeshError]) -> None:
    with pytest.raises(kind) as caught:
        wire.decode_answer(wire.encode_refusal(kind("no-such-did", "x" * 1000, hint="look again")))
    assert caught.value.name == "no-such-did" and caught.value.hint == "look again" and len(caught.value.detail) < REFUSAL_CHARS + 20


@pytest.mark.parametrize(
    "data",
    [
        b"\x82\xf4\x84cFoocnopaaab",  # a class that there is not
        b"\x82\xf4\x84gRefusedcA Baaab",  # a name that is none
        b"\x81\xf5",
        b"\xf5",
        b"\x82\x01\x01",
    ],
)
def test_what_is_neither_answer_nor_refusal_is_refused(data: bytes) -> None:
    assert refusal(wire.decode_answer, data) == "square-bad-answer"
