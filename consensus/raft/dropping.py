"""States that are no use any more, and are deleted a little at a time."""

from meshos.consensus.raft.keys import GARBAGE, garbage_key, garbage_of, generation_prefix
from meshos.consensus.raft.limits import DROP_PAUSE_S, DROPPED_PER_STEP
from meshos.effects import Delete, Put, Write
from meshos.storage.store import View

NEVER = float("inf")


class Dropping:
    """Those that are left to delete."""

    def __init__(self, view: View, now: float) -> None:
        """As they lie in ``view``."""
        self._view = view
        self._numbers = [garbage_of(key) for key, _ in view.scan(GARBAGE)]
        self.highest = max(self._numbers, default=0)
        self._due = now if self._numbers else NEVER

    def add(self, now: float, number: int) -> Put:
        """Delete the state ``number`` from now on; what has to be written for that."""
        self._numbers.append(number)
        self.highest = max(self.highest, number)
        self._due = min(self._due, now + DROP_PAUSE_S)
        return Put(garbage_key(number), b"")

    def deadline(self) -> float:
        """When ``tick`` is due."""
        return self._due

    def tick(self, now: float) -> list[Write]:
        """Delete some more."""
        if now < self._due:
            return []
        number = self._numbers[0]
        writes: list[Write] = []
        for key, _ in self._view.scan(generation_prefix(number)):
            writes.append(Delete(key))
            if len(writes) == DROPPED_PER_STEP:
                break
        else:
            writes.append(Delete(garbage_key(number)))
            self._numbers.pop(0)
        self._due = now + DROP_PAUSE_S if self._numbers else NEVER
        return writes
