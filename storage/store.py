"""The Store port: an ordered map of bytes to bytes with atomic, synced batches; LevelDB in a node, memory in a simulation.

Each machine has a Store of its own (its keys, its sync queue), and reads it through a ``View`` in which the writes of the
batch that is still on its way to the disk are already visible.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from meshos.effects import Write


class View(Protocol):
    """What a machine reads: synchronous and read-only."""

    def get(self, key: bytes) -> bytes | None:
        """The value under ``key``, or None."""
        ...

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All (key, value) whose key begins with ``prefix``, in the order of the keys."""
        ...


class Snapshot(View, Protocol):
    """A View that stands still while writing goes on (to send a state elsewhere, to check it)."""

    def close(self) -> None:
        """Let it go: held open it keeps old data on disk."""
        ...


@runtime_checkable
class LiveView(View, Protocol):
    """A View that changes, and of which a picture can be taken."""

    def snapshot(self) -> Snapshot:
        """All of this View as it is now."""
        ...


class Store(LiveView, Protocol):
    """What a driver writes."""

    def write(self, writes: Sequence[Write]) -> None:
        """All of ``writes`` or none, on disk when this returns (blocking: call it in a worker thread).

        Raises OSError; after one the store is closed, since after a failed sync nothing about the disk is known.
        """
        ...

    def close(self) -> None:
        """Release the folder. Closing twice is no error."""
        ...
