"""A segment: some documents, never changed once it is built, so that any number of threads may read it.

Its words are kept as an inverted file: for each stem, the rows it occurs in and how often, one slice of two flat arrays.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from meshos.storage.index.pieces import Signs, unpacked
from meshos.storage.index.words import stem, words

Floats = NDArray[np.float32]
Rows = NDArray[np.int32]
Mask = NDArray[np.bool_]
Name = TypeVar("Name", int, str)


@dataclass(frozen=True, slots=True)
class Document:
    """What is indexed under ``key``: its words, its vector (of length 1), anything that filters want to look at, its pieces' signs, the
    facets that it is picked by, its cost, and the numbers of the cells that it is in."""

    key: str
    text: str
    dense: Floats
    tag: object = None
    pieces: bytes = b""
    facets: tuple[str, ...] = ()
    cost: int = 0
    cells: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Segment:
    """See the module's text. Slice ``starts[t]:starts[t + 1]`` of ``rows`` and ``counts`` belongs to stem ``t = stems[stem]``.

    ``facets`` has the rows of each facet, rising, and ``cells`` those of each cell.
    """

    keys: tuple[str, ...]
    tags: tuple[object, ...]
    pieces: tuple[Signs, ...]
    dense: Floats
    lengths: Floats
    stems: dict[str, int]
    starts: NDArray[np.int64]
    rows: Rows
    counts: Floats
    spellings: dict[str, int]
    facets: dict[str, Rows]
    cells: dict[int, Rows]
    costs: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.keys)

    def postings(self, wanted: str) -> tuple[Rows, Floats] | None:
        """In which rows a stem occurs, and how often; None if in none."""
        number = self.stems.get(wanted)
        if number is None:
            return None
        part = slice(self.starts[number], self.starts[number + 1])
        return (self.rows[part], self.counts[part]) if part.start < part.stop else None


def build(documents: Sequence[Document]) -> Segment:
    """The segment of ``documents``, in their order."""
    stems: dict[str, int] = {}
    spellings: Counter[str] = Counter()
    lengths = np.zeros(len(documents), np.float32)
    terms: list[int] = []
    rows: list[int] = []
    counts: list[int] = []
    for row, document in enumerate(documents):
        spelled = words(document.text)
        spellings.update(set(spelled))
        lengths[row] = len(spelled)
        for word, count in Counter(map(stem, spelled)).items():
            terms.append(stems.setdefault(word, len(stems)))
            rows.append(row)
            counts.append(count)
    return _sorted(
        tuple(document.key for document in documents),
        tuple(document.tag for document in documents),
        tuple(unpacked(document.pieces) for document in documents),
        np.stack([document.dense for document in documents]).astype(np.float32, copy=False),
        lengths,
        stems,
        np.array(terms, np.int64),
        np.array(rows, np.int32),
        np.array(counts, np.float32),
        dict(spellings),
        _rows_by([document.facets for document in documents]),
        _rows_by([document.cells for document in documents]),
        np.array([document.cost for document in documents], np.int64),
    )


def merge(parts: Sequence[tuple[Segment, Mask]]) -> Segment:
    """One segment of the rows that are alive in ``parts``.

    Spellings of dead rows stay until nothing of their segment is left: they only ever suggest a word.
    """
    stems: dict[str, int] = {}
    spellings: Counter[str] = Counter()
    terms, rows, counts, start = [], [], [], 0
    for segment, alive in parts:
        number = np.array([stems.setdefault(word, len(stems)) for word in segment.stems], np.int64)
        term_of = np.repeat(np.arange(len(segment.stems)), np.diff(segment.starts))
        kept = alive[segment.rows]
        moved = (np.cumsum(alive) - 1 + start).astype(np.int32)
        terms.append(number[term_of[kept]])
        rows.append(moved[segment.rows[kept]])
        counts.append(segment.counts[kept])
        spellings.update(segment.spellings)
        start += int(alive.sum())
    return _sorted(
        tuple(key for segment, alive in parts for key, lives in zip(segment.keys, alive, strict=True) if lives),
        tuple(tag for segment, alive in parts for tag, lives in zip(segment.tags, alive, strict=True) if lives),
        tuple(pieces for segment, alive in parts for pieces, lives in zip(segment.pieces, alive, strict=True) if lives),
        np.concatenate([segment.dense[alive] for segment, alive in parts]),
        np.concatenate([segment.lengths[alive] for segment, alive in parts]),
        stems,
        np.concatenate(terms),
        np.concatenate(rows),
        np.concatenate(counts),
        dict(spellings),
        _rows_moved([(segment.facets, alive) for segment, alive in parts]),
        _rows_moved([(segment.cells, alive) for segment, alive in parts]),
        np.concatenate([segment.costs[alive] for segment, alive in parts]),
    )


def _rows_by(names: Sequence[Sequence[Name]]) -> dict[Name, Rows]:
    """The rows of each name; ``names`` has those of each row."""
    found: dict[Name, list[int]] = {}
    for row, some in enumerate(names):
        for name in dict.fromkeys(some):
            found.setdefault(name, []).append(row)
    return {name: np.array(rows, np.int32) for name, rows in found.items()}


def _rows_moved(parts: Sequence[tuple[dict[Name, Rows], Mask]]) -> dict[Name, Rows]:
    """The rows of each name once those alive in ``parts`` are laid end to end."""
    found: dict[Name, list[Rows]] = {}
    start = 0
    for rows, alive in parts:
        moved = (np.cumsum(alive) - 1 + start).astype(np.int32)
        for name, having in rows.items():
            living = moved[having[alive[having]]]
            if len(living):
                found.setdefault(name, []).append(living)
        start += int(alive.sum())
    return {name: np.concatenate(some) for name, some in found.items()}


def _sorted(
    keys: tuple[str, ...],
    tags: tuple[object, ...],
    pieces: tuple[Signs, ...],
    dense: Floats,
    lengths: Floats,
    stems: dict[str, int],
    terms: NDArray[np.int64],
    rows: Rows,
    counts: Floats,
    spellings: dict[str, int],
    facets: dict[str, Rows],
    cells: dict[int, Rows],
    costs: NDArray[np.int64],
) -> Segment:
    """The segment whose postings are given in any order."""
    order = np.argsort(terms, kind="stable")
    starts = np.zeros(len(stems) + 1, np.int64)
    np.cumsum(np.bincount(terms, minlength=len(stems)), out=starts[1:])
    return Segment(keys, tags, pieces, dense, lengths, stems, starts, rows[order], counts[order], spellings, facets, cells, costs)
