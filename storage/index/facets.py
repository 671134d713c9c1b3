"""What documents are picked by before anything is ranked: the facets that each has, and its cost.

A facet is a short text such as ``region us-east-1``; which there are is the caller's business. Rows with a facet are found like rows
with a word, so that a condition that few documents fulfil makes a question cheaper instead of dearer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshos.storage.index.segment import Segment

Rows = NDArray[np.int32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Condition:
    """Which documents count: those that have a facet of ``some`` (None: any document) and one of each group of ``every``, have none of
    ``none``, and cost at most ``cost``."""

    some: tuple[str, ...] | None = None
    every: tuple[tuple[str, ...], ...] = ()
    none: tuple[str, ...] = ()
    cost: int | None = None


ANYTHING = Condition()


def picked(segment: Segment, alive: Mask, condition: Condition) -> Rows:
    """The living rows of ``segment`` that fulfil ``condition``, rising."""
    if condition is ANYTHING:
        return np.flatnonzero(alive).astype(np.int32)
    groups = condition.every if condition.some is None else (condition.some, *condition.every)
    rows: Rows | None = None
    for found in sorted((_with_any(segment, group) for group in groups), key=len):
        rows = found if rows is None else np.intersect1d(rows, found, assume_unique=True)
    rows = np.flatnonzero(alive).astype(np.int32) if rows is None else rows[alive[rows]]
    if condition.none:
        rows = np.setdiff1d(rows, _with_any(segment, condition.none), assume_unique=True)
    return rows if condition.cost is None else rows[segment.costs[rows] <= condition.cost]


def _with_any(segment: Segment, facets: Sequence[str]) -> Rows:
    """The rows that have at least one of these, rising, each once."""
    found = [segment.facets[facet] for facet in facets if facet in segment.facets]
    if len(found) <= 1:
        return found[0] if found else np.zeros(0, np.int32)
    return np.unique(np.concatenate(found))
