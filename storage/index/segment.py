"""A segment: some documents, never changed once it is built, so that any number of threads may read it.

Its words are kept as an inverted file: for each stem, the rows it occurs in and how often, one slice of two flat arrays. Rows lie in the
order of their first cells, so that a question to a few cells reads a few stretches of each array (``scores.py``).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, compress
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from meshos.storage.index.limits import WORDS_READ
from meshos.storage.index.words import stem, words

Floats = NDArray[np.float32]
Rows = NDArray[np.int32]
Counts = NDArray[np.uint16]
"""How often a word stands in a text, of which ``WORDS_READ`` words count."""
Mask = NDArray[np.bool_]
Name = TypeVar("Name", int, str)
Kept = TypeVar("Kept")


assert WORDS_READ < 1 << 16


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

    ``facets`` has the rows of each facet, rising, and ``cells`` those of each cell; ``homes`` is the first cell of each row, -1 if it is in
    none, and rises. ``hashes`` are those of the keys, as this process computes them, and ``by_hash`` puts them in order.
    ``pieces`` are those of the documents: whoever holds these holds no copy here.
    """

    keys: tuple[str, ...]
    tags: tuple[object, ...]
    pieces: tuple[bytes, ...]
    dense: Floats
    lengths: Floats
    stems: dict[str, int]
    starts: NDArray[np.int64]
    rows: Rows
    counts: Counts
    spellings: dict[str, int]
    facets: dict[str, Rows]
    cells: dict[int, Rows]
    costs: NDArray[np.int64]
    homes: Rows
    hashes: NDArray[np.int64]
    by_hash: Rows

    def __len__(self) -> int:
        return len(self.keys)

    def postings(self, wanted: str) -> tuple[Rows, Counts] | None:
        """In which rows a stem occurs, rising, and how often; None if in none."""
        number = self.stems.get(wanted)
        if number is None or self.starts[number] == self.starts[number + 1]:  # a merge keeps the stems of what is dead
            return None
        part = slice(self.starts[number], self.starts[number + 1])
        return (self.rows[part], self.counts[part]) if part.start < part.stop else None

    def rows_of(self, keys: Sequence[str]) -> list[int]:
        """The rows of those of ``keys`` that are here; each is in one at most."""
        wanted = np.array([hash(key) for key in keys], np.int64)
        begins = self.hashes.searchsorted(wanted, sorter=self.by_hash)
        found = []
        for number in np.flatnonzero(self.hashes[self.by_hash.take(begins, mode="clip")] == wanted).tolist():
            at = int(begins[number])
            while at < len(self) and self.hashes[self.by_hash[at]] == wanted[number]:
                if self.keys[self.by_hash[at]] == keys[number]:
                    found.append(int(self.by_hash[at]))
                at += 1
        return found


def build(documents: Sequence[Document]) -> Segment:
    """The segment of ``documents``: in their order, within a cell."""
    documents = sorted(documents, key=_home)
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
        tuple(document.pieces for document in documents),
        np.stack([document.dense for document in documents]).astype(np.float32, copy=False),
        lengths,
        stems,
        np.array(terms, np.int64),
        np.array(rows, np.int32),
        np.array(counts, np.uint16),
        dict(spellings),
        _rows_by([document.facets for document in documents]),
        _rows_by([document.cells for document in documents]),
        np.array([document.cost for document in documents], np.int64),
        np.array([_home(document) for document in documents], np.int32),
    )


def merge(parts: Sequence[tuple[Segment, Mask]]) -> Segment:
    """One segment of the rows that are alive in ``parts``.

    Spellings of dead rows stay until nothing of their segment is left: they only ever suggest a word.
    """
    homes = np.concatenate([segment.homes[alive] for segment, alive in parts])
    order = np.argsort(homes, kind="stable")
    moved = _moved(parts, order)
    stems: dict[str, int] = {}
    spellings: Counter[str] = Counter()
    terms, rows, counts = [], [], []
    dense = np.empty((len(order), parts[0][0].dense.shape[1]), np.float32)
    for (segment, alive), to in zip(parts, moved, strict=True):
        number = np.array([stems.setdefault(word, len(stems)) for word in segment.stems], np.int64)
        term_of = np.repeat(number, np.diff(segment.starts))
        kept = alive[segment.rows]
        terms.append(term_of[kept])
        rows.append(to[segment.rows[kept]])
        counts.append(segment.counts[kept])
        spellings.update(segment.spellings)
        living = slice(None) if alive.all() else alive  # vectors are most of a segment: no copy but the one
        dense[to[living]] = segment.dense[living]
    return _sorted(
        _ordered([(segment.keys, alive) for segment, alive in parts], order),
        _ordered([(segment.tags, alive) for segment, alive in parts], order),
        _ordered([(segment.pieces, alive) for segment, alive in parts], order),
        dense,
        np.concatenate([segment.lengths[alive] for segment, alive in parts])[order],
        stems,
        np.concatenate(terms),
        np.concatenate(rows),
        np.concatenate(counts),
        dict(spellings),
        _rows_moved([(segment.facets, alive) for segment, alive in parts], moved),
        _rows_moved([(segment.cells, alive) for segment, alive in parts], moved),
        np.concatenate([segment.costs[alive] for segment, alive in parts])[order],
        homes[order],
    )


def _home(document: Document) -> int:
    return document.cells[0] if document.cells else -1


def _moved(parts: Sequence[tuple[Segment, Mask]], order: NDArray[np.intp]) -> list[Rows]:
    """For each row of each part, where it comes to lie when the living ones, end to end, are put in ``order``."""
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    found, start = [], 0
    for _, alive in parts:
        found.append(place[np.cumsum(alive) - 1 + start])
        start += int(alive.sum())
    return found


def _ordered(parts: Sequence[tuple[tuple[Kept, ...], Mask]], order: NDArray[np.intp]) -> tuple[Kept, ...]:
    living = list(chain.from_iterable(compress(some, alive.tolist()) for some, alive in parts))
    return tuple([living[at] for at in order.tolist()])


def _rows_by(names: Sequence[Sequence[Name]]) -> dict[Name, Rows]:
    """The rows of each name; ``names`` has those of each row."""
    found: dict[Name, list[int]] = {}
    for row, some in enumerate(names):
        for name in dict.fromkeys(some):
            found.setdefault(name, []).append(row)
    return {name: np.array(rows, np.int32) for name, rows in found.items()}


def _rows_moved(parts: Sequence[tuple[dict[Name, Rows], Mask]], moved: Sequence[Rows]) -> dict[Name, Rows]:
    """The rows of each name once those alive in ``parts`` are ``moved``."""
    found: dict[Name, list[Rows]] = {}
    for (rows, alive), to in zip(parts, moved, strict=True):
        for name, having in rows.items():
            living = to[having[alive[having]]]
            if len(living):
                found.setdefault(name, []).append(living)
    return {name: np.sort(np.concatenate(some)) for name, some in found.items()}


def _sorted(
    keys: tuple[str, ...],
    tags: tuple[object, ...],
    pieces: tuple[bytes, ...],
    dense: Floats,
    lengths: Floats,
    stems: dict[str, int],
    terms: NDArray[np.int64],
    rows: Rows,
    counts: Counts,
    spellings: dict[str, int],
    facets: dict[str, Rows],
    cells: dict[int, Rows],
    costs: NDArray[np.int64],
    homes: Rows,
) -> Segment:
    """The segment whose postings are given in any order."""
    order = np.argsort(terms * len(keys) + rows)
    starts = np.zeros(len(stems) + 1, np.int64)
    np.cumsum(np.bincount(terms, minlength=len(stems)), out=starts[1:])
    hashes = np.array([hash(key) for key in keys], np.int64)
    by_hash = np.argsort(hashes).astype(np.int32)
    inverted = stems, starts, rows[order], counts[order]
    return Segment(keys, tags, pieces, dense, lengths, *inverted, spellings, facets, cells, costs, homes, hashes, by_hash)
