"""Frames: what is written is read, and what a torn or flipped byte leaves is none."""

from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.storage.framing import HEAD_BYTES, frame, read_frame, read_frames


def test_what_looks_like_a_frame_of_another_file_is_none() -> None:
    inner = frame(b"a" * 16, 1, b"payload")
    data = frame(b"b" * 16, 0, inner)
    assert read_frame(b"b" * 16, data, HEAD_BYTES) is None
    assert read_frame(b"a" * 16, data, HEAD_BYTES) is not None


def test_frames_are_read_up_to_the_first_that_is_torn() -> None:
    salt = b"s" * 16
    data = b"".join(frame(salt, number, bytes([number]) * number) for number in range(4))
    for end in range(len(data)):
        found = list(read_frames(salt, data[:end], 0))
        assert [one.sequence for one in found] == list(range(len(found)))
        assert all(one.payload == bytes([number]) * number for number, one in enumerate(found))
        assert not found or found[-1].end <= end
    assert len(list(read_frames(salt, data, 0))) == 4


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 2**64 - 1), st.integers(0, 400), st.integers(0, 7))
def test_no_flipped_bit_passes(payload: bytes, sequence: int, at: int, bit: int) -> None:
    salt = b"s" * 16
    data = bytearray(frame(salt, sequence, payload))
    found = read_frame(salt, bytes(data), 0)
    assert found is not None
    assert (found.sequence, found.payload, found.end) == (sequence, payload, len(data))
    data[at % len(data)] ^= 1 << bit
    assert read_frame(salt, bytes(data), 0) is None
