"""What rows of a segment score against a question in meaning and in words, reading no more of the segment than it must.

A question to a few cells concerns a few *stretches* of a segment's rows, which lie in the order of their cells. Reading a stretch is
five to eight times as quick as collecting as many rows one by one, so rows that are near one another are read together with those
between them, and of the rows that have a word only those within the stretches are looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshos.storage.index.limits import K1, STRETCH_GAP, STRETCH_ROWS, STRETCHES, B
from meshos.storage.index.question import Question
from meshos.storage.index.segment import Counts, Floats, Rows, Segment


@dataclass(frozen=True, slots=True)
class Stretches:
    """Rows ``begins[n]`` to ``ends[n]`` (without it) of a segment, laid end to end: each from ``starts[n]`` on, ``size`` rows in all.
    ``places`` is where the wanted ones lie then, None if those are all."""

    begins: list[int]
    ends: list[int]
    starts: list[int]
    size: int
    places: NDArray[np.intp] | None


def stretches(rows: Rows) -> Stretches | None:
    """Those that hold ``rows`` (rising); None if there are so many that they do not pay."""
    gaps = (np.flatnonzero(rows[1:] - rows[:-1] > STRETCH_GAP) + 1).tolist()
    if STRETCH_ROWS * len(gaps) > len(rows) or not len(rows):
        return None
    return _between(rows, [0, *gaps], [*(gap - 1 for gap in gaps), -1])


def _between(rows: Rows, firsts: Sequence[int], lasts: Sequence[int]) -> Stretches:
    """The stretches from the ``firsts`` of ``rows`` to the ``lasts``."""
    begins, ends = rows[firsts].tolist(), (rows[lasts] + 1).tolist()
    starts, size = [], 0
    for begin, end in zip(begins, ends, strict=True):
        starts.append(size)
        size += end - begin
    if size == len(rows):
        return Stretches(begins, ends, starts, size, None)
    shifts = np.array(starts, np.intp) - begins
    return Stretches(begins, ends, starts, size, rows + shifts[np.searchsorted(begins, rows, side="right") - 1])


def meaning(segment: Segment, rows: Rows, held: Stretches | None, vector: Floats) -> Floats:
    """The cosine of each of ``rows`` with ``vector``."""
    if held is None:
        scattered: Floats = segment.dense[rows] @ vector
        return scattered
    near = np.empty(held.size, np.float32)
    for begin, end, start in zip(held.begins, held.ends, held.starts, strict=True):
        np.matmul(segment.dense[begin:end], vector, out=near[start : start + end - begin])
    return near if held.places is None else near[held.places]


def lexical(segment: Segment, rows: Rows, held: Stretches | None, question: Question) -> Floats:
    """The BM25 score of each of ``rows`` (Robertson and Zaragoza 2009, section 3.2) as a share (0..1) of the most that any text could reach
    for this question."""
    if not len(rows):
        return np.zeros(0, np.float32)
    if held is None or len(held.begins) > STRETCHES:
        held = _between(rows, [0], [-1])
    edges = np.array([held.begins, held.ends], np.int32)
    shifts = [start - begin for begin, start in zip(held.begins, held.starts, strict=True)]
    having, counts, places, rarities = list[Rows](), list[Counts](), list[Rows](), list[float]()
    for term in question.terms:
        found = segment.postings(term.stem)
        if found is None:
            continue
        for low, high, shift in zip(*found[0].searchsorted(edges).tolist(), shifts, strict=True):
            if low < high:
                having.append(found[0][low:high])
                counts.append(found[1][low:high])
                places.append(having[-1] + shift)
                rarities.append(term.rarity)
    scores = np.zeros(held.size, np.float32)
    if having:
        often = np.concatenate(counts)
        norm = K1 * (1 - B + B * segment.lengths[np.concatenate(having)] / question.mean_length)
        gained = np.repeat(rarities, [len(some) for some in having]) * (K1 + 1) * often / (often + norm)
        most = sum(term.rarity * (K1 + 1) for term in question.terms)
        scores = (np.bincount(np.concatenate(places), gained, held.size) / (most or 1)).astype(np.float32)
    return scores if held.places is None else scores[held.places]
