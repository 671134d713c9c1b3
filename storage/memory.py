"""The Store port in memory, with a disk's faults, for simulations: the same seed gives the same losses.

What a simulated disk does is chosen by ``DiskFaults``, which may be exchanged while it runs. A driver in virtual time calls
``begin`` when a batch is handed to the disk and ``sync`` when the disk is done; ``write`` is both. ``crash`` is a kill with a
power cut: of what was begun and not synced, a random number of bytes reached the disk, and what of that is a whole batch survives,
judged by the same framing as the real log's. ``corrupt`` lets a value rot: its checksum tells whoever reads it.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from errno import EIO, ENOSPC
from random import Random
from typing import Literal, TypeAlias

from meshos.cbor import encode
from meshos.effects import Put, Write
from meshos.storage.disk import DiskFailed, disk_failed
from meshos.storage.framing import SALT_BYTES, frame, read_frames

_SALT = bytes(SALT_BYTES)

Reached: TypeAlias = Literal["none", "torn", "some", "all"]
"""What of the batches that were begun and not synced reached the disk: nothing, all but an end of the last, a part (a random one), all."""


@dataclass(frozen=True, slots=True)
class DiskFaults:
    """What this disk does wrong. ``capacity_bytes`` counts keys and values held; ``error_rate`` is the chance of a write to fail."""

    capacity_bytes: int | None = None
    error_rate: float = 0.0


class MemoryStore:
    """An ordered map with a disk's habits; deterministic in ``random``. Readers see what is durable (an Overlay shows the rest)."""

    def __init__(self, random: Random, faults: DiskFaults = DiskFaults()) -> None:
        self.faults = faults
        self._random = random
        self._map = _Map()
        self._begun: list[tuple[Write, ...]] = []
        self._failed: DiskFailed | None = None
        self._closed = False
        self._rotten: set[bytes] = set()

    def get(self, key: bytes) -> bytes | None:
        """See ``View.get``; raises DiskFailed ``store-corrupt`` for a value that rotted."""
        self._usable()
        if self._rotten and key in self._rotten:
            raise _corrupt(key)
        return self._map.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See ``View.scan``; shows what was there when it was called. Raises as ``get`` does."""
        self._usable()
        for key in self._rotten:
            if key.startswith(prefix):
                raise _corrupt(key)
        return self._map.scan(prefix)

    def corrupt(self) -> bytes | None:
        """Flip a byte of some durable value, and give its key; None where nothing is stored. Writing the key anew mends it."""
        key = self._map.any(self._random)
        if key is not None:
            self._rotten.add(key)
        return key

    def mend(self) -> None:
        """What rotted is readable again, as after a copy from a mirrored disk."""
        self._rotten.clear()

    def write(self, writes: Sequence[Write]) -> None:
        """See ``Store.write``: ``begin`` and ``sync`` at once."""
        self.begin(writes)
        self.sync()

    def begin(self, writes: Sequence[Write]) -> None:
        """Hand a batch to the disk, after those that were begun before; a crash may keep it or lose it."""
        self._usable()
        self._begun.append(tuple(writes))

    def sync(self) -> None:
        """What was begun is durable, or DiskFailed is raised: then the store is closed, and a crash may keep the batches or lose them."""
        self._usable()
        error = self._fault()
        if error is not None:
            self._failed = disk_failed(error, "memory")
            raise self._failed
        self._keep(len(self._begun))

    @property
    def begun(self) -> int:
        """Batches that were begun and are not durable yet."""
        return len(self._begun)

    def crash(self, reached_disk: Reached = "some") -> int:
        """End as by a power cut and be there again, as after a restart; gives how many batches that were not synced survived."""
        frames = [frame(_SALT, number, _encode(batch)) for number, batch in enumerate(self._begun)]
        image = b"".join(frames)
        last = len(frames[-1]) if frames else 0
        sizes = {"none": (0, 0), "torn": (len(image) - last, max(0, len(image) - 1)), "some": (0, len(image)), "all": (len(image),) * 2}
        reached = image[: self._random.randint(*sizes[reached_disk])]
        survived = sum(1 for _ in read_frames(_SALT, reached, 0))
        self._keep(survived)
        self._begun.clear()
        self._failed = None
        self._closed = False
        return survived

    def snapshot(self) -> "MemorySnapshot":
        """See ``Store.snapshot``."""
        self._usable()
        return MemorySnapshot(self._map.copy())

    def close(self) -> None:
        """See ``Store.close``."""
        self._closed = True

    def _usable(self) -> None:
        if self._failed is not None:
            raise self._failed
        if self._closed:
            raise ValueError("the store is closed")

    def _keep(self, batches: int) -> None:
        for batch in self._begun[:batches]:
            self._map.apply(batch)
            if self._rotten:
                self._rotten.difference_update(write.key for write in batch)
        del self._begun[:batches]

    def _fault(self) -> OSError | None:
        """What the disk does wrong with the batches that were begun, if anything."""
        if self.faults.error_rate and self._random.random() < self.faults.error_rate:
            return OSError(EIO, "Input/output error")
        capacity = self.faults.capacity_bytes
        if capacity is not None:
            grown = self._map.bytes + sum(_size(write) for batch in self._begun for write in batch)
            if grown > capacity:
                return OSError(ENOSPC, "No space left on device")
        return None


class MemorySnapshot:
    """A View that stands still."""

    def __init__(self, copied: "_Map") -> None:
        self._map = copied

    def get(self, key: bytes) -> bytes | None:
        """See ``View.get``."""
        return self._map.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See ``View.scan``."""
        return self._map.scan(prefix)

    def close(self) -> None:
        """See ``Snapshot.close``."""


class _Map:
    """Keys in order, and how many bytes they and their values take."""

    __slots__ = ("_keys", "_values", "bytes")

    def __init__(self) -> None:
        self.bytes = 0
        self._keys: list[bytes] = []
        self._values: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self._values.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        keys = self._keys
        after = _after(prefix)
        found = keys[bisect_left(keys, prefix) : len(keys) if after is None else bisect_left(keys, after)]
        return zip(found, [*map(self._values.__getitem__, found)], strict=True)

    def apply(self, batch: Sequence[Write]) -> None:
        for write in batch:
            old = self._values.pop(write.key, None)
            if old is not None:
                self.bytes -= len(write.key) + len(old)
            if isinstance(write, Put):
                self._values[write.key] = write.value
                self.bytes += len(write.key) + len(write.value)
                if old is None:
                    insort(self._keys, write.key)
            elif old is not None:
                del self._keys[bisect_left(self._keys, write.key)]

    def any(self, random: Random) -> bytes | None:
        return random.choice(self._keys) if self._keys else None

    def copy(self) -> "_Map":
        copied = _Map()
        copied.bytes, copied._keys, copied._values = self.bytes, self._keys.copy(), self._values.copy()
        return copied


def _corrupt(key: bytes) -> DiskFailed:
    return DiskFailed("store-corrupt", f"the value of {key[:40].hex()} does not match its checksum", hint="restore the folder from a copy")


def _after(prefix: bytes) -> bytes | None:
    """The first key that is after all that begin with ``prefix``; None if none is."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else None


def _size(write: Write) -> int:
    return len(write.key) + (len(write.value) if isinstance(write, Put) else 0)


def _encode(batch: Sequence[Write]) -> bytes:
    return encode([[write.key, write.value] if isinstance(write, Put) else [write.key] for write in batch])
