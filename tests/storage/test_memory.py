"""The simulated disk: deterministic, loses only what was not synced, and whole batches only."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.effects import Delete, Put, Write
from meshos.storage.disk import DiskFailed
from meshos.storage.memory import DiskFaults, MemoryStore, Reached

KEYS = st.binary(min_size=0, max_size=2)
WRITES = st.one_of(st.builds(Put, KEYS, st.binary(max_size=3)), st.builds(Delete, KEYS))
BATCHES = st.lists(st.lists(WRITES, max_size=4), max_size=8)


def _after(batches: list[list[Write]]) -> list[tuple[bytes, bytes]]:
    expected: dict[bytes, bytes] = {}
    for batch in batches:
        for write in batch:
            if isinstance(write, Put):
                expected[write.key] = write.value
            else:
                expected.pop(write.key, None)
    return sorted(expected.items())


@settings(max_examples=100, deadline=None)
@given(BATCHES, BATCHES, st.integers())
def test_a_crash_keeps_the_synced_and_a_prefix_of_the_rest(synced: list[list[Write]], begun: list[list[Write]], seed: int) -> None:
    store, same = MemoryStore(Random(seed)), MemoryStore(Random(seed))
    for twin in (store, same):
        for batch in synced:
            twin.write(batch)
        for batch in begun:
            twin.begin(batch)
        assert list(twin.scan(b"")) == _after(synced)
    survived = store.crash()
    assert same.crash() == survived
    assert list(store.scan(b"")) == list(same.scan(b"")) == _after(synced + begun[:survived])
    assert [pair for pair in store.scan(b"") if pair[0][:1] == b"\0"] == list(store.scan(b"\0"))


def test_crashes_lose_and_keep() -> None:
    """Over many seeds each number of survivors is seen: the fault is really there."""
    seen = set()
    for seed in range(60):
        store = MemoryStore(Random(seed))
        for number in range(3):
            store.begin([Put(b"%d" % number, b"value")])
        seen.add(store.crash())
    assert seen == {0, 1, 2}  # the tear is before the last byte of the last batch, or exactly at its end, which is rare


def test_a_full_disk_closes_the_store() -> None:
    store = MemoryStore(Random(0), DiskFaults(capacity_bytes=30))
    store.write([Put(b"k", b"0123456789")])
    store.write([Put(b"k", b"9876543210"), Delete(b"none")])
    with pytest.raises(DiskFailed, match="disk-full"):
        store.write([Put(b"l", b"0123456789" * 2)])
    with pytest.raises(DiskFailed, match="disk-full"):
        store.get(b"k")
    store.faults = DiskFaults()
    store.crash()
    assert store.get(b"k") == b"9876543210"


def test_an_error_of_the_disk_leaves_the_batch_unknown() -> None:
    kept = set()
    for seed in range(40):
        store = MemoryStore(Random(seed), DiskFaults(error_rate=1.0))
        store.begin([Put(b"a", b"")])
        store.begin([Put(b"b", b"")])
        with pytest.raises(DiskFailed, match="disk-failed"):
            store.sync()
        with pytest.raises(DiskFailed):
            store.begin([])
        store.crash()
        kept.add(tuple(key for key, _ in store.scan(b"")))
    assert kept >= {(), (b"a",)}


def test_snapshot_stands_still_and_closed_is_closed() -> None:
    store = MemoryStore(Random(0))
    store.write([Put(b"a", b"0")])
    snapshot = store.snapshot()
    store.write([Delete(b"a")])
    assert list(snapshot.scan(b"")) == [(b"a", b"0")]
    assert snapshot.get(b"a") == b"0"
    snapshot.close()
    store.close()
    with pytest.raises(ValueError, match="closed"):
        store.get(b"a")


@pytest.mark.parametrize(("reached", "kept"), [("none", {0}), ("torn", {2}), ("some", {0, 1, 2, 3}), ("all", {3})])
def test_a_crash_keeps_what_it_is_told_of_what_was_not_synced(reached: Reached, kept: set[int]) -> None:
    survived = set()
    for seed in range(600):
        store = MemoryStore(Random(seed))
        for number in range(3):
            store.begin([Put(b"%d" % number, b"")])
        survived.add(store.crash(reached))
        assert store.begun == 0
    assert survived == kept, "a torn end is all but the last batch, which is found to be torn"


def test_what_rotted_is_found_by_whoever_reads_it_and_mended_by_writing_it_anew() -> None:
    store = MemoryStore(Random(0))
    assert store.corrupt() is None, "there is nothing to rot"
    store.write([Put(b"a1", b"0"), Put(b"b1", b"0")])
    key = store.corrupt()
    assert key is not None
    other = b"b1" if key == b"a1" else b"a1"
    for read in (lambda: store.get(key), lambda: store.scan(key[:1]), lambda: store.scan(b"")):
        with pytest.raises(DiskFailed, match="store-corrupt"):
            read()
    assert store.get(other) == b"0" and list(store.scan(other)) == [(other, b"0")]
    store.write([Put(key, b"1")])
    assert store.get(key) == b"1"
    store.corrupt()
    store.mend()
    assert len(list(store.scan(b""))) == 2
