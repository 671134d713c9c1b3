"""What some hundred bytes of a stranger may not cost: shared values that stand for billions, keys that collide, memory."""

import struct
import tracemalloc
from collections.abc import Callable

import cbor2
import pytest

from meshos import cbor, cbor_pieces
from meshos.consensus.org import codec
from meshos.errors import MeshError, Refused
from meshos.protocols.rpc import frames, messages


def shared(depth: int, fan: int, index: int = 0) -> bytes:
    """Nested lists of ``fan`` entries, all but the first of which are references (tags 28 and 29) to the first."""
    if not depth:
        return b"\xd8\x1c\x81\x00"
    return b"\xd8\x1c" + bytes([0x80 | fan]) + shared(depth - 1, fan, index + 1) + (b"\xd8\x1d" + bytes([index + 1])) * (fan - 1)


READERS: list[Callable[[bytes], object]] = [
    lambda data: cbor.decode(data, max_bytes=4096),
    lambda data: cbor.loads(data, max_bytes=4096),
    lambda data: cbor_pieces.decode(data, max_bytes=4096),
    frames.read_hello,
    lambda data: messages.decode_message(data, b""),
    codec.decode,
]


@pytest.mark.parametrize("read", READERS)
def test_shared_values_are_refused_before_they_are_walked_through(read: Callable[[bytes], object]) -> None:
    for data in (shared(12, 10), b"\x82\x01" + shared(12, 10)):  # of 10 to the 12th values
        with pytest.raises(MeshError):
            read(data)


@pytest.mark.parametrize("tag", [*range(70), 100, 256, 258, 260, 261, 1004, 43000, 55799, 2**32])
def test_no_tag_is_read(tag: int) -> None:
    for data in (cbor2.dumps(cbor2.CBORTag(tag, 0)), cbor2.dumps([cbor2.CBORTag(tag, b"")]), cbor2.dumps({"key": cbor2.CBORTag(tag, [])})):
        with pytest.raises(Refused) as caught:
            cbor.decode(data, max_bytes=100)
        assert "tag" in repr(caught.value.__cause__), "and not only since it is not canonical"


def test_memory_is_bounded_by_what_came() -> None:
    text = b"\xd8\x1c" + cbor2.dumps(b"x" * 8_000)
    data = b"\x9a" + struct.pack(">I", 20_001) + text + b"\xd8\x1d\x00" * 20_000
    tracemalloc.start()
    try:
        with pytest.raises(Refused):
            cbor.decode(data, max_bytes=512 << 10)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_key_that_is_not_text_ends_the_reading_of_its_map() -> None:
    data = b"\xb9" + struct.pack(">H", 1_000) + b"".join(cbor2.dumps(number) + b"\0" for number in range(1_000))
    with pytest.raises(Refused) as caught:
        cbor.decode(data, max_bytes=8 << 10)
    assert isinstance(caught.value.__cause__, cbor2.CBORDecodeError), "by cbor2, and not once all were in the map"


@pytest.mark.parametrize("depth", [0, 1, 2, 16, 17, 40, 64])
def test_values_are_read_as_deep_as_is_said_and_no_deeper(depth: int) -> None:
    value: object = 0
    for _ in range(depth):
        value = [value]
    data = cbor.encode(value)
    assert cbor.decode(data, max_bytes=100, max_depth=depth) == value
    with pytest.raises(Refused):
        cbor.decode(cbor.encode([value]), max_bytes=100, max_depth=depth)
