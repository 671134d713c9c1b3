"""An Overlay reads as a dict to which every laid batch was applied, whenever the batches reach the disk."""

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.effects import Delete, Put, Write
from meshos.errors import Refused
from meshos.storage.limits import MAX_PENDING_BATCHES
from meshos.storage.memory import MemoryStore
from meshos.storage.overlay import Overlay

KEYS = st.binary(min_size=0, max_size=2).map(lambda key: bytes(byte % 3 for byte in key))
WRITES = st.one_of(st.builds(Put, KEYS, st.binary(max_size=2)), st.builds(Delete, KEYS))
STEPS = st.lists(st.one_of(st.lists(WRITES, max_size=4), st.integers(1, 3)), max_size=25)


@settings(max_examples=200, deadline=None)
@given(STEPS, st.booleans())
def test_like_a_dict(steps: Sequence[list[Write] | int], early: bool) -> None:
    """A number settles that many batches; ``early`` writes below at once, as a worker thread may, and settles later."""
    store = MemoryStore(Random(0))
    overlay = Overlay(store)
    expected: dict[bytes, bytes] = {}
    waiting: list[list[Write]] = []
    for step in steps:
        if isinstance(step, int):
            done = waiting[:step]
            for batch in done:
                if not early:
                    store.write(batch)
            overlay.settle(len(done))
            waiting = waiting[step:]
        else:
            overlay.lay(step)
            waiting.append(step)
            if early:
                store.write(step)
            for write in step:
                if isinstance(write, Put):
                    expected[write.key] = write.value
                else:
                    expected.pop(write.key, None)
        assert overlay.pending == len(waiting)
        for prefix in (b"", b"\0", b"\1", b"\1\2"):
            assert list(overlay.scan(prefix)) == sorted((key, value) for key, value in expected.items() if key.startswith(prefix))
        for key in (b"", b"\0", b"\1", b"\2\2"):
            assert overlay.get(key) == expected.get(key)


def test_a_scan_is_not_changed_by_what_comes_after() -> None:
    store = MemoryStore(Random(0))
    store.write([Put(b"a", b"0")])
    overlay = Overlay(store)
    overlay.lay([Put(b"b", b"1")])
    scan = overlay.scan(b"")
    overlay.lay([Delete(b"a"), Put(b"c", b"2")])
    assert list(scan) == [(b"a", b"0"), (b"b", b"1")]


def test_bounds() -> None:
    overlay = Overlay(MemoryStore(Random(0)))
    for _ in range(MAX_PENDING_BATCHES):
        overlay.lay([Put(b"k", b"v")])
    with pytest.raises(Refused, match="busy"):
        overlay.lay([])
    with pytest.raises(ValueError, match="settled"):
        overlay.settle(MAX_PENDING_BATCHES + 1)
    overlay.settle(MAX_PENDING_BATCHES)
    assert overlay.get(b"k") is None


@settings(max_examples=100, deadline=None)
@given(STEPS, STEPS)
def test_a_snapshot_stands_still(before: Sequence[list[Write] | int], after: Sequence[list[Write] | int]) -> None:
    """What is pending when it is taken is in it, and stays in it, whenever that reaches the disk."""
    store = MemoryStore(Random(0))
    overlay = Overlay(store)

    def go(steps: Sequence[list[Write] | int]) -> None:
        for step in steps:
            if isinstance(step, list):
                overlay.lay(step)
                store.begin(step)
            else:
                store.sync()
                overlay.settle(overlay.pending)

    go(before)
    expected = list(overlay.scan(b""))
    snapshot = overlay.snapshot()
    go(after)
    assert list(snapshot.scan(b"")) == expected
    for key in (b"", b"\0", b"\1", b"\2\2"):
        assert snapshot.get(key) == dict(expected).get(key)
    snapshot.close()


def test_no_snapshot_of_what_stands_still() -> None:
    with pytest.raises(TypeError, match="no snapshot"):
        Overlay(MemoryStore(Random(0)).snapshot()).snapshot()
