"""The machine's timers: a heap; one that was called off is dropped when it reaches the top."""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any, TypeAlias

Timer: TypeAlias = list[Any]
"""``[when, number, call, argument]``: a list, since it is compared by its first two and called off by clearing the third."""


class Timers:
    """``call(argument)`` is made once ``when`` has come and ``run`` is called."""

    __slots__ = ("_numbers", "heap")

    def __init__(self) -> None:
        self.heap: list[Timer] = []
        self._numbers = 0

    def set(self, when: float, call: Callable[[Any], None], argument: object = None) -> Timer:
        """A new timer."""
        self._numbers += 1
        timer = [when, self._numbers, call, argument]
        heappush(self.heap, timer)
        return timer

    def due(self) -> float | None:
        """When the earliest timer wants to run."""
        heap = self.heap
        while heap:
            if heap[0][2] is not None:
                when: float = heap[0][0]
                return when
            heappop(heap)
        return None

    def run(self, now: float) -> None:
        """Run what is due, in order; what it sets anew may be due at once."""
        heap = self.heap
        while heap and heap[0][0] <= now:
            _, _, call, argument = heappop(heap)
            if call is not None:
                call(argument)

    def shift(self, seconds: float) -> None:
        """Every timer runs this much later: as if time had stood still."""
        for timer in self.heap:
            timer[0] += seconds
        heapify(self.heap)


def call_off(timer: Timer | None) -> None:
    """It does not run any more."""
    if timer is not None:
        timer[2] = None
        timer[3] = None
