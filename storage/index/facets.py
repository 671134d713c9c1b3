"""What documents are picked by before anything is ranked: the facets that each has, and its cost.

A facet is a short text such as ``region us-east-1``; which there are is the caller's business. Rows with a facet are found like rows
with a word, and so are those of a cell, so that a condition that few documents fulfil makes a question cheaper instead of dearer.
What fulfils a condition can be counted by facets, too.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from meshos.storage.index.segment import Segment

Name = TypeVar("Name", int, str)
Rows = NDArray[np.int32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Condition:
    """Which documents count: those that are in one of ``cells`` (None: anywhere), have a facet of each group of ``every`` and none of
    ``none``, and cost at most ``cost``.
    """

    cells: tuple[int, ...] | None = None
    every: tuple[tuple[str, ...], ...] = ()
    none: tuple[str, ...] = ()
    cost: int | None = None


ANYTHING = Condition()


def picked(segment: Segment, alive: Mask, condition: Condition) -> Rows:
    """The living rows of ``segment`` that fulfil ``condition``, rising."""
    if condition is ANYTHING:
        return np.flatnonzero(alive).astype(np.int32)
    groups = [_with_any(segment.facets, group) for group in condition.every]
    if condition.cells is not None:
        groups.append(_with_any(segment.cells, condition.cells))
    rows: Rows | None = None
    for found in sorted(groups, key=len):
        rows = found if rows is None else np.intersect1d(rows, found, assume_unique=True)
    rows = np.flatnonzero(alive).astype(np.int32) if rows is None else rows[alive[rows]]
    if condition.none:
        rows = np.setdiff1d(rows, _with_any(segment.facets, condition.none), assume_unique=True)
    return rows if condition.cost is None else rows[segment.costs[rows] <= condition.cost]


@dataclass(frozen=True, slots=True)
class Fulfilling:
    """The documents that fulfil a condition: some rows of each segment, rising."""

    parts: tuple[tuple[Segment, Rows], ...]

    def __len__(self) -> int:
        return sum(len(rows) for _, rows in self.parts)

    def tags(self) -> list[object]:
        """Theirs, in the order of the rows."""
        return [segment.tags[row] for segment, rows in self.parts for row in rows]

    def where(self, keep: Callable[[object], bool]) -> "Fulfilling":
        """Those of them whose tag ``keep`` accepts."""
        kept = [(segment, np.array([keep(segment.tags[row]) for row in rows], np.bool_)) for segment, rows in self.parts]
        return Fulfilling(tuple((segment, rows[mask]) for (segment, mask), (_, rows) in zip(kept, self.parts, strict=True)))

    def counts(self) -> Counter[str]:
        """How many of them have each facet; only facets that one has."""
        found = Counter[str]()
        for segment, rows in self.parts:
            if not segment.facets or not len(rows):
                continue
            counted = np.zeros(len(segment), np.int64)
            counted[rows] = 1
            ends = np.cumsum([len(having) for having in segment.facets.values()])
            sums = np.concatenate([[0], np.cumsum(counted[np.concatenate([*segment.facets.values()])])])[[0, *ends]]
            found.update({facet: int(count) for facet, count in zip(segment.facets, np.diff(sums), strict=True) if count})
        return found


def _with_any(rows: Mapping[Name, Rows], names: Sequence[Name]) -> Rows:
    """The rows under at least one of these, rising, each once."""
    found = [rows[name] for name in names if name in rows]
    if len(found) <= 1:
        return found[0] if found else np.zeros(0, np.int32)
    together = np.sort(np.concatenate(found))
    first: Mask = np.concatenate([[True], together[1:] != together[:-1]])
    return together[first]
