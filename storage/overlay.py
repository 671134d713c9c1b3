"""A View with the batches that are still on their way to the disk laid over it.

A driver gives each machine an Overlay of its Store. What a machine says it persists is laid over at once, so that its next
step reads its own writes; a batch is settled once the disk has it. The View below must show a settled batch by then, and may
show it earlier: the same keys are shadowed by the same values until then.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from meshos.effects import Put, Write
from meshos.errors import busy
from meshos.storage.limits import MAX_PENDING_BATCHES
from meshos.storage.store import LiveView, Snapshot, View

Keys = dict[bytes, list[bytes | None]]


class Overlay:
    """``view`` as it will be once every pending batch is written."""

    __slots__ = ("_batches", "_pending", "_view")

    def __init__(self, view: View) -> None:
        self._view = view
        self._batches: deque[tuple[Write, ...]] = deque()
        # Every pending value of a key, oldest first (None: deleted). The last one is what is read; the first goes when its batch settles.
        self._pending: Keys = {}

    def lay(self, writes: Sequence[Write]) -> None:
        """Show ``writes`` from now on, as one batch after those that are pending; raises Refused ``busy`` when too many are."""
        if len(self._batches) >= MAX_PENDING_BATCHES:
            raise busy("the queue of writes on their way to the disk")
        batch = tuple(writes)
        self._batches.append(batch)
        for write in batch:
            value = write.value if isinstance(write, Put) else None
            self._pending.setdefault(write.key, []).append(value)

    def settle(self, n: int) -> None:
        """The ``n`` oldest batches are on disk: the View below shows them."""
        if n > len(self._batches):
            raise ValueError(f"{n} batches settled, {len(self._batches)} are pending")
        for _ in range(n):
            for write in self._batches.popleft():
                values = self._pending[write.key]
                values.pop(0)
                if not values:
                    del self._pending[write.key]

    @property
    def pending(self) -> int:
        """Batches laid and not yet settled."""
        return len(self._batches)

    def get(self, key: bytes) -> bytes | None:
        """See ``View.get``."""
        values = self._pending.get(key)
        return self._view.get(key) if values is None else values[-1]

    def snapshot(self) -> "OverlaySnapshot":
        """All of this View as it is now, the pending batches included; close it when done. Raises TypeError over a View that stands
        still."""
        if not isinstance(self._view, LiveView):
            raise TypeError(f"no snapshot is taken of {type(self._view).__name__}")
        return OverlaySnapshot(self._view.snapshot(), {key: values[-1] for key, values in self._pending.items()})

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See ``View.scan``; what is laid or settled while the scan runs does not change it."""
        laid = {key: values[-1] for key, values in self._pending.items() if key.startswith(prefix)}
        below = self._view.scan(prefix)
        return merge(below, laid) if laid else below


class OverlaySnapshot:
    """An Overlay as it was at one moment, whatever has reached the disk since."""

    __slots__ = ("_below", "_laid")

    def __init__(self, below: Snapshot, laid: dict[bytes, bytes | None]) -> None:
        self._below = below
        self._laid = laid

    def get(self, key: bytes) -> bytes | None:
        """See ``View.get``."""
        return self._laid[key] if key in self._laid else self._below.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See ``View.scan``."""
        laid = {key: value for key, value in self._laid.items() if key.startswith(prefix)}
        below = self._below.scan(prefix)
        return merge(below, laid) if laid else below

    def close(self) -> None:
        """See ``Snapshot.close``."""
        self._below.close()


def merge(below: Iterable[tuple[bytes, bytes]], laid: dict[bytes, bytes | None]) -> Iterator[tuple[bytes, bytes]]:
    """``below`` with ``laid`` over it, in the order of the keys."""
    above = deque(sorted(laid))
    for key, value in below:
        while above and above[0] < key:
            yield from _present(above.popleft(), laid)
        if above and above[0] == key:
            yield from _present(above.popleft(), laid)
        else:
            yield key, value
    while above:
        yield from _present(above.popleft(), laid)


def _present(key: bytes, laid: dict[bytes, bytes | None]) -> Iterator[tuple[bytes, bytes]]:
    value = laid[key]
    if value is not None:
        yield key, value
