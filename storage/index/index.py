"""The index: documents come and go in one thread, questions are asked in others, and neither waits for the other.

Theory of operation. The index is a short list of segments that never change, and for each a mask of the rows still alive.
An update builds a new small segment and new masks, merges neighbours of like size (so that n documents lie in some log n
segments; O'Neil et al. 1996), and then replaces the snapshot by one assignment. A question reads the snapshot it began with.

Ranking is exact: every row gets both scores. With 10,000 rows of 384 numbers that is 2 to 3 ms, less than the sentence model needs for
the question, and a filter costs no recall. An approximate graph (hnswlib) pays from some 100,000 rows on and is not used.

*Meaning* is the cosine with the question's vector. *Words* is BM25 over stems, divided by the most that this very question could
reach (Bruch et al. 2023, "theoretical" normalisation): so a question of which no card has the telling words is decided by
meaning, which dividing by the best score found would not allow. Words that every question has ("what", "my") are rare in cards, hence would
weigh most; they are left out. The best by both are then compared with the question *piece by piece* (``pieces.py``), and ranked
by all three.
"""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from meshos.storage.index.limits import (
    DEAD_SHARE,
    K1,
    LEXICAL_WEIGHT,
    NEARNESS_WEIGHT,
    QUERY_WORDS,
    RERANKED,
    RERANKED_LEXICAL_WEIGHT,
    SPELLED_WORDS,
    B,
)
from meshos.storage.index.pieces import Reading, nearness
from meshos.storage.index.segment import Document, Floats, Mask, Segment, build, merge
from meshos.storage.index.words import FUNCTION_WORDS, corrected, stem, words

Part = tuple[Segment, Mask]


@dataclass(frozen=True, slots=True)
class Hit:
    """A document that fits. ``score`` is in 0..1 and falls along the ranking; ``words`` are the question's that it has."""

    key: str
    tag: object
    score: float
    meaning: float
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The index at one moment; never changes."""

    parts: tuple[Part, ...]
    size: int
    mean_length: float

    def spelled(self, query: str, known: Callable[[str], bool] = lambda word: False) -> str:
        """``query`` with misspelt words replaced by indexed ones a slip away: what to give to the sentence model and to ``search``.

        A word that is ``known`` to be one (or is in a document) stays as it is.
        """
        return corrected(query, self._count, known, most=SPELLED_WORDS)

    def search(self, query: str, read: Reading, limit: int, keep: Callable[[object], bool] | None = None) -> list[Hit]:
        """The ``limit`` best of the documents whose tag ``keep`` accepts, best first. ``read`` is the question as the model reads it."""
        if not self.size:
            return []
        meaning = self.meaning(read.vector)
        lexical = self.lexical(query)
        chosen = self._candidates(meaning + LEXICAL_WEIGHT * lexical, max(limit, RERANKED), keep)
        near = self._nearness(read, chosen)
        places = np.array([row for row, _, _ in chosen], np.int64)
        fused = meaning[places] + NEARNESS_WEIGHT * near + RERANKED_LEXICAL_WEIGHT * lexical[places]
        asked = _asked(query)
        hits: list[Hit] = []
        for place in np.argsort(-fused, kind="stable")[:limit]:
            row, segment, local = chosen[place]
            score = min(1.0, max(0.0, float(fused[place]) / (1 + NEARNESS_WEIGHT + RERANKED_LEXICAL_WEIGHT)))
            close = max(0.0, float(meaning[row]))
            had = tuple(word for term, word in asked.items() if _has(segment, term, local))
            hits.append(Hit(segment.keys[local], segment.tags[local], round(score, 4), round(close, 4), had))
        return hits

    def _candidates(self, fused: Floats, most: int, keep: Callable[[object], bool] | None) -> list[tuple[int, Segment, int]]:
        """The ``most`` best living rows that ``keep`` accepts, each with its segment and its place there."""
        rows = np.flatnonzero(np.concatenate([mask for _, mask in self.parts]))
        chosen: list[tuple[int, Segment, int]] = []
        for row in rows[np.argsort(-fused[rows], kind="stable")]:
            segment, local = self._at(int(row))
            if keep is None or keep(segment.tags[local]):
                chosen.append((int(row), segment, local))
                if len(chosen) == most:
                    break
        return chosen

    def _nearness(self, read: Reading, chosen: Sequence[tuple[int, Segment, int]]) -> Floats:
        """How near each of ``chosen`` comes to the question; a word of several pieces weighs as much as one of a single piece."""
        pieces = read.pieces / np.maximum(np.linalg.norm(read.pieces, axis=1, keepdims=True), np.float32(1e-9))
        weights = [self._rarity(stem(word)) / read.words.count(word) for word in read.words]
        return nearness(pieces, np.array(weights, np.float32), [segment.pieces[local] for _, segment, local in chosen])

    def meaning(self, dense: Floats) -> Floats:
        """For each row, dead ones too, the cosine with the question's vector."""
        return np.concatenate([segment.dense @ dense for segment, _ in self.parts])

    def lexical(self, query: str) -> Floats:
        """For each row, dead ones too, its BM25 score as a share (0..1) of the most that any text could reach for this question."""
        total = np.zeros(sum(len(segment) for segment, _ in self.parts), np.float32)
        most = 0.0
        for term in _asked(query):
            rarity = self._rarity(term)
            most += rarity * (K1 + 1)
            start = 0
            for segment, _ in self.parts:
                found = segment.postings(term)
                if found is not None:
                    rows, counts = found
                    length = K1 * (1 - B + B * segment.lengths[rows] / self.mean_length)
                    total[start + rows] += rarity * (K1 + 1) * counts / (counts + length)
                start += len(segment)
        return total / np.float32(most) if most else total

    def _rarity(self, term: str) -> float:
        """The inverse document frequency of a stem (Robertson and Zaragoza 2009, with Lucene's 1 + under the logarithm)."""
        found = [(segment.postings(term), alive) for segment, alive in self.parts]
        count = sum(int(alive[at[0]].sum()) for at, alive in found if at is not None)
        return math.log(1 + (self.size - count + 0.5) / (count + 0.5))

    def _count(self, word: str) -> int:
        return sum(segment.spellings.get(word, 0) for segment, _ in self.parts)

    def _at(self, row: int) -> tuple[Segment, int]:
        for segment, _ in self.parts:
            if row < len(segment):
                return segment, row
            row -= len(segment)
        raise IndexError(row)


class Index:
    """The index of one node. ``update`` may be called from any thread; those that do wait for one another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._where: dict[str, tuple[Segment, int]] = {}
        self._snapshot = _snapshot(())

    def snapshot(self) -> Snapshot:
        """What is indexed now."""
        return self._snapshot

    def update(self, put: Sequence[Document], drop: Sequence[str] = ()) -> None:
        """Take out ``drop``, then take in ``put`` (the last of a key counts, and replaces what was there)."""
        with self._lock:
            fresh = {document.key: document for document in put}
            parts = self._without([key for key in {**fresh, **dict.fromkeys(drop)} if key in self._where])
            if fresh:
                segment = build([*fresh.values()])
                parts.append((segment, np.ones(len(segment), np.bool_)))
                self._locate(segment)
            parts = self._tidied(parts)
            self._snapshot = _snapshot(tuple(parts))

    def _without(self, keys: Sequence[str]) -> list[Part]:
        """The parts with the rows of ``keys`` marked dead, in copies of their masks."""
        masks = {id(segment): mask for segment, mask in self._snapshot.parts}
        copied: set[int] = set()
        for key in keys:
            segment, row = self._where.pop(key)
            if id(segment) not in copied:
                copied.add(id(segment))
                masks[id(segment)] = masks[id(segment)].copy()
            masks[id(segment)][row] = False
        return [(segment, masks[id(segment)]) for segment, _ in self._snapshot.parts]

    def _tidied(self, parts: list[Part]) -> list[Part]:
        """Empty parts are gone, neighbours of like size are merged, half-dead ones written anew."""
        kept: list[Part] = []
        for part in parts:
            living = int(part[1].sum())
            if not living:
                continue
            if living < (1 - DEAD_SHARE) * len(part[0]):
                part = self._merged([part])
            while kept and int(kept[-1][1].sum()) < 2 * len(part[0]):
                part = self._merged([kept.pop(), part])
            kept.append(part)
        return kept

    def _merged(self, parts: Sequence[Part]) -> Part:
        segment = merge(parts)
        self._locate(segment)
        return segment, np.ones(len(segment), np.bool_)

    def _locate(self, segment: Segment) -> None:
        for row, key in enumerate(segment.keys):
            self._where[key] = (segment, row)


def _snapshot(parts: tuple[Part, ...]) -> Snapshot:
    size = sum(int(alive.sum()) for _, alive in parts)
    length = sum(float(segment.lengths[alive].sum()) for segment, alive in parts)
    return Snapshot(parts, size, max(1.0, length / size if size else 1.0))


def _asked(query: str) -> dict[str, str]:
    """The stems of a question's telling words, each with the first word it came from; of all its words if none is telling."""
    found = words(query)
    asked: dict[str, str] = {}
    for word in [word for word in found if word not in FUNCTION_WORDS] or found:
        if len(asked) == QUERY_WORDS:
            break
        asked.setdefault(stem(word), word)
    return asked


def _has(segment: Segment, term: str, row: int) -> bool:
    found = segment.postings(term)
    return found is not None and bool((found[0] == row).any())
