"""Timers of a machine: one per key, set, moved and called off in logarithmic time, the order of ties being that of setting."""

import heapq
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Timers(Generic[K]):
    """Called-off entries stay in the heap until they are due or outnumber the rest."""

    __slots__ = ("_at", "_heap", "_sequence")

    def __init__(self) -> None:
        self._at: dict[K, tuple[float, int, K]] = {}  # the entry of the heap that counts
        self._heap: list[tuple[float, int, K]] = []
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._at)

    def set(self, key: K, when: float) -> None:
        """Wake ``key`` at ``when``, and not when it was to be woken before."""
        self._sequence += 1
        self._at[key] = entry = (when, self._sequence, key)
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 2 * len(self._at) + 64:
            self._heap = list(self._at.values())
            heapq.heapify(self._heap)

    def cancel(self, key: K) -> None:
        """Do not wake ``key``."""
        self._at.pop(key, None)

    def due(self, now: float) -> Iterator[K]:
        """The keys to be woken, earliest first, each with its timer taken away."""
        while self._heap and self._heap[0][0] <= now:
            entry = heapq.heappop(self._heap)
            key = entry[2]
            if self._at.get(key) is entry:
                del self._at[key]
                yield key

    def deadline(self) -> float | None:
        """When the earliest is due."""
        heap = self._heap
        while heap:
            first = heap[0]
            if self._at.get(first[2]) is first:
                return first[0]
            heapq.heappop(heap)
        return None
