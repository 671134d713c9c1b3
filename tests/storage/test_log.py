"""The write-ahead log: what was acknowledged is there; a torn tail is cut off; damage is refused."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.errors import Broken, Failed, Refused
from meshos.storage.framing import HEAD_BYTES, MAGIC, SALT_BYTES, frame, good_frame_after, read_frame
from meshos.storage.limits import MAX_RECORD_BYTES
from meshos.storage.log import Log

SEGMENT = 4096


def _filled(folder: Path, batches: int = 60) -> list[list[bytes]]:
    log = Log(folder, segment_bytes=SEGMENT)
    written = [[b"%d" % number, b"x" * (number * 37 % 500)] for number in range(batches)]
    assert [log.append(batch) for batch in written] == list(range(batches))
    log.close()
    return written


def _read(folder: Path) -> list[list[bytes]]:
    log = Log(folder, segment_bytes=SEGMENT)
    found = [batch for _, batch in log.read(log.first)]
    assert log.next == log.first + len(found)
    log.close()
    return found


def _segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.log"))


def _frames_end(segment: Path) -> int:
    """Where the last frame of a segment ends."""
    data = segment.read_bytes()
    end = SALT_BYTES
    while (found := read_frame(data[:SALT_BYTES], data, end)) is not None:
        end = found.end
    return end


def test_written_read_and_gone_on(tmp_path: Path) -> None:
    written = _filled(tmp_path)
    assert len(_segments(tmp_path)) > 3
    assert _read(tmp_path) == written
    log = Log(tmp_path, segment_bytes=SEGMENT)
    assert log.append([b"more"]) == len(written)
    assert [number for number, _ in log.read(50)] == list(range(50, 61))
    log.close()
    assert _read(tmp_path) == [*written, [b"more"]]


def test_every_torn_tail_is_cut_off_cleanly(tmp_path: Path) -> None:
    """The last frame ends at any byte: all before it stays, and the log goes on."""
    written = _filled(tmp_path, 8)
    (segment,) = _segments(tmp_path)
    whole = segment.read_bytes()
    end = _frames_end(segment)
    last = whole.rindex(MAGIC, 0, end)
    for cut in range(last, end):
        segment.write_bytes(whole[:cut].ljust(len(whole), b"\0"))
        log = Log(tmp_path, segment_bytes=SEGMENT)
        assert log.next == 7
        assert log.cut_bytes == len(whole[last:cut].rstrip(b"\0"))
        assert log.append([b"after"]) == 7
        log.close()
        assert _read(tmp_path) == [*written[:7], [b"after"]]


def test_a_torn_tail_whose_pages_came_out_of_order(tmp_path: Path) -> None:
    written = _filled(tmp_path, 3)
    (segment,) = _segments(tmp_path)
    data = bytearray(segment.read_bytes())
    end = _frames_end(segment)
    data[end + 100 : end + 200] = b"\xa5" * 100  # the later page of a frame whose first never came
    segment.write_bytes(data)
    log = Log(tmp_path, segment_bytes=SEGMENT)
    assert (log.next, log.cut_bytes) == (3, 200)
    log.close()
    assert _read(tmp_path) == written


def test_damage_anywhere_before_the_last_batch_is_refused(tmp_path: Path) -> None:
    _filled(tmp_path)
    random = Random(7)
    segments = _segments(tmp_path)
    for _ in range(60):
        segment = random.choice(segments)
        whole = segment.read_bytes()
        end = _frames_end(segment)
        if segment == segments[-1]:
            end = whole.rindex(MAGIC, 0, end)
        at = random.randrange(0, end) if segment != segments[-1] else random.randrange(SALT_BYTES, end)
        damaged = bytearray(whole)
        damaged[at] ^= 1 << random.randrange(8)
        segment.write_bytes(damaged)
        with pytest.raises(Failed, match="log-corrupt"):
            Log(tmp_path, segment_bytes=SEGMENT)
        assert segment.read_bytes() == damaged, "a refusal changes nothing"
        segment.write_bytes(whole)
    _read(tmp_path)


def test_a_missing_or_shortened_segment_is_refused(tmp_path: Path) -> None:
    _filled(tmp_path)
    segments = _segments(tmp_path)
    data = segments[1].read_bytes()
    segments[1].unlink()
    with pytest.raises(Failed, match="log-corrupt"):
        Log(tmp_path, segment_bytes=SEGMENT)
    for left in (data[:10], data[: SALT_BYTES + 100]):
        segments[1].write_bytes(left)
        with pytest.raises(Failed, match="log-corrupt"):
            Log(tmp_path, segment_bytes=SEGMENT)
    segments[1].write_bytes(data)
    _read(tmp_path)


def test_a_segment_half_made_is_forgotten(tmp_path: Path) -> None:
    written = _filled(tmp_path)
    (tmp_path / "00000000000000000060.new").write_bytes(b"half")
    assert _read(tmp_path) == written
    assert not list(tmp_path.glob("*.new"))


def test_old_segments_are_given_back(tmp_path: Path) -> None:
    written = _filled(tmp_path)
    log = Log(tmp_path, segment_bytes=SEGMENT)
    before = len(_segments(tmp_path))
    log.drop_before(40)
    assert len(_segments(tmp_path)) < before
    assert 0 < log.first <= 40
    with pytest.raises(ValueError, match="was dropped"):
        next(log.read(0))
    first = log.first
    log.close()
    assert _read(tmp_path) == written[first:]


def test_second_open_is_refused(tmp_path: Path) -> None:
    log = Log(tmp_path)
    with pytest.raises(Refused, match="folder-in-use"):
        Log(tmp_path)
    log.append([b"the first goes on"])
    log.close()
    log.close()
    Log(tmp_path).close()


def test_a_batch_larger_than_a_segment_and_one_too_large(tmp_path: Path) -> None:
    log = Log(tmp_path, segment_bytes=SEGMENT)
    log.append([b"y" * 3 * SEGMENT])
    log.append([b"small"])
    with pytest.raises(Broken, match="store-limit"):
        log.append([bytes(MAX_RECORD_BYTES)])
    log.close()
    assert _read(tmp_path) == [[b"y" * 3 * SEGMENT], [b"small"]]


def test_what_looks_like_a_frame_of_another_log_is_none() -> None:
    inner = frame(b"a" * 16, 1, b"payload")
    data = frame(b"b" * 16, 0, inner)
    assert good_frame_after(b"b" * 16, data, 1) is None
    assert good_frame_after(b"a" * 16, data, 1) == HEAD_BYTES


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
