"""The ring on disk: what was written survives, what is too much goes, and a disk that is slow or gone stops nobody."""

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshos.errors import BadInput
from meshos.node.runtime.recorder import ring as ring_module
from meshos.node.runtime.recorder.entries import FORMAT, GAP, HEAD, KEY_BYTES, LIFE_BYTES, STEP, Entry, Gap, Head, Step
from meshos.node.runtime.recorder.limits import BATCH, PENDING, PENDING_BYTES
from meshos.node.runtime.recorder.reading import read
from meshos.node.runtime.recorder.ring import Ring, segments
from meshos.storage.framing import SALT_BYTES

PATIENCE_S = 20.0


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The writing thread gathers for a moment only."""
    monkeypatch.setattr(ring_module, "BATCH_S", 0.01)


def head(number: int = 0) -> list[object]:
    return [HEAD, FORMAT, "1", "n001", b"l" * LIFE_BYTES, number, 0.0, 0, b"k" * KEY_BYTES, ["org"], ["org"]]


def step(number: int, size: int = 0) -> list[object]:
    return [STEP, float(number), 0, 0, b"e" * size, 0, number, []]


def wait_until(what: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.005)


def steps(entries: Iterator[Entry]) -> list[int]:
    return [entry.hash for entry in entries if isinstance(entry, Step)]


def test_what_is_put_can_be_read_while_the_node_runs_and_after_it(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "ring")
    ring.begin()
    ring.put(head())
    for number in range(BATCH):
        assert ring.put(step(number))
    wait_until(lambda: ring.statistics()["bytes"] > 0)
    assert steps(read(tmp_path / "ring")) == list(range(BATCH))[: len(steps(read(tmp_path / "ring")))], "some, from the first on"
    ring.put(step(BATCH))
    ring.close()
    found = list(read(tmp_path / "ring"))
    assert isinstance(found[0], Head) and found[0].machines == ("org",) and steps(iter(found)) == list(range(BATCH + 1))
    (file,) = segments(tmp_path / "ring")
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700


def test_a_torn_end_is_cut_off_and_damage_ends_a_segment(tmp_path: Path) -> None:
    for number in range(2):
        ring = Ring(tmp_path)
        ring.begin()
        ring.put(head(number))
        ring.put(step(10 * number))
        ring.close()
    first, second = segments(tmp_path)
    whole = second.read_bytes()
    for cut in (1, len(whole) - SALT_BYTES - 1, len(whole) - 1, len(whole)):
        second.write_bytes(whole[: len(whole) - cut])
        assert steps(read(tmp_path)) == [0], cut
    second.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert steps(read(tmp_path)) == [0]
    assert first.exists()


def test_the_oldest_segments_go(tmp_path: Path) -> None:
    ring = Ring(tmp_path, ring_bytes=40_000, segment_bytes=10_000)
    for segment in range(12):
        ring.begin()
        ring.put(head(segment))
        for number in range(10):
            ring.put(step(100 * segment + number, 1000))
        wait_until(ring.wants_segment)
    ring.close()
    found = steps(read(tmp_path))
    assert sum(path.stat().st_size for path in segments(tmp_path)) <= 50_000
    assert found[-1] == 1109 and found == [100 * segment + number for segment in range(found[0] // 100, 12) for number in range(10)]
    assert len(found) >= 30


def test_a_segment_that_goes_while_the_others_are_read_is_no_damage(tmp_path: Path) -> None:
    for number in range(3):
        ring = Ring(tmp_path)
        ring.begin()
        ring.put(head(number))
        ring.put(step(number))
        ring.close()
    entries = read(tmp_path)
    assert isinstance(next(entries), Head)
    segments(tmp_path)[1].unlink()
    assert steps(entries) == [0, 2]


def test_a_slow_disk_costs_entries_and_never_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = threading.Event()
    write = os.write
    monkeypatch.setattr(ring_module.os, "write", lambda file, data: (slow.wait(PATIENCE_S), write(file, data))[1])
    ring = Ring(tmp_path)
    ring.begin()
    taken = [ring.put(step(number)) for number in range(-1, PENDING * 2)]
    assert not all(taken) and taken.index(False) >= PENDING - 1 and not any(taken[taken.index(False) :]), "no step after a hole"
    assert not ring.wants_segment(), "the disk has not caught up"
    large = Ring(tmp_path / "large")
    large.begin()
    fits = [large.put(step(number), PENDING_BYTES // 4) for number in range(9)]
    assert fits == [True] * 5 + [False] * 4, "nor may what waits be too much by its bytes"
    slow.set()
    large.close()
    wait_until(ring.wants_segment)
    assert ring.statistics()["dropped"] == taken.count(False)
    ring.begin()
    assert ring.put(head(2))
    ring.close()
    assert len(segments(tmp_path)) == 2


def test_a_failing_disk_stops_the_recording_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring_module, "RETRY_S", 0.0)
    write = os.write

    def full(file: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ring_module.os, "write", full)
    ring = Ring(tmp_path)
    ring.begin()
    ring.put(head())
    wait_until(lambda: ring.statistics()["disk_failures"] == 1)
    assert not ring.put(step(1))
    wait_until(ring.wants_segment)
    monkeypatch.setattr(ring_module.os, "write", write)
    ring.begin()
    assert ring.put(head(2)) and ring.put(step(2))
    ring.close()
    assert steps(read_good(tmp_path)) == [2]


def read_good(folder: Path) -> Iterator[Entry]:
    """Of a ring whose first segment has nothing in it."""
    assert segments(folder)[0].stat().st_size < SALT_BYTES + 1
    return read(folder)


def test_an_entry_that_cannot_be_encoded_becomes_a_gap_among_the_others(tmp_path: Path) -> None:
    ring = Ring(tmp_path)
    ring.begin()
    ring.put(head())
    ring.put(step(1))
    ring.put([STEP, 2.0, 0, 0, "half of a pair: \ud800", 0, 2, []])
    ring.put(step(3))
    ring.close()
    found = list(read(tmp_path))
    assert steps(iter(found)) == [1, 3]
    (gap,) = [entry for entry in found if isinstance(entry, Gap)]
    assert gap.machine == "org" and gap.now == 2.0


@pytest.mark.parametrize(
    "entry",
    [
        [STEP, 1.0, 0, 0, None, 0, 0, []],  # before the head
        [HEAD, FORMAT + 1, "1", "n001", b"l" * LIFE_BYTES, 0, 0.0, 0, b"k" * KEY_BYTES, ["org"], ["org"]],
        [HEAD, FORMAT, "1", "n001", b"l", 0, 0.0, 0, b"k" * KEY_BYTES, ["org"], ["org"]],
        [99],
        [],
    ],
)
def test_a_segment_that_no_recorder_wrote_is_refused(tmp_path: Path, entry: list[object]) -> None:
    ring = Ring(tmp_path)
    ring.begin()
    ring.put(entry or [GAP])
    ring.close()
    with pytest.raises(BadInput) as caught:
        list(read(tmp_path))
    assert caught.value.name == "bad-recording"


@pytest.mark.parametrize(
    "entry",
    [
        step(1)[:-1],
        [STEP, 1.0, 1, 0, None, 0, 0, []],  # a machine that the head does not name
        [STEP, "now", 0, 0, None, 0, 0, []],
        [STEP, 1.0, 0, 0, None, 0, 0, [[0, 0, "key", None]]],
        [STEP, 1.0, 0, 0, None, 0, 0, [[9]]],
        head(1),  # twice
    ],
)
def test_an_entry_of_another_shape_is_refused(tmp_path: Path, entry: list[object]) -> None:
    ring = Ring(tmp_path)
    ring.begin()
    ring.put(head())
    ring.put(entry)
    ring.close()
    with pytest.raises(BadInput) as caught:
        list(read(tmp_path))
    assert caught.value.name == "bad-recording"


def test_a_folder_without_a_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        list(read(tmp_path / "nothing"))
    assert caught.value.name == "no-recording"
