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

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from meshos.storage.index.facets import ANYTHING, Condition, Fulfilling, picked
from meshos.storage.index.limits import DEAD_SHARE, K1, LEXICAL_WEIGHT, NEARNESS_WEIGHT, RERANKED, RERANKED_LEXICAL_WEIGHT, B
from meshos.storage.index.pieces import nearness
from meshos.storage.index.question import Question, Term
from meshos.storage.index.segment import Document, Floats, Mask, Rows, Segment, build, merge

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
class Candidates:
    """Some rows of one segment, and what they score against a question in meaning and words."""

    segment: Segment
    rows: Rows
    meaning: Floats
    lexical: Floats


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The index at one moment; never changes. It is the ``question.Statistics`` of its own documents."""

    parts: tuple[Part, ...]
    size: int
    mean_length: float

    def having(self, term: str) -> int:
        """How many documents have a word of this stem."""
        found = [(segment.postings(term), alive) for segment, alive in self.parts]
        return sum(int(alive[at[0]].sum()) for at, alive in found if at is not None)

    def spelt(self, word: str) -> int:
        """How many documents have this very word; those replaced or dropped lately may count."""
        return sum(segment.spellings.get(word, 0) for segment, _ in self.parts)

    def search(
        self, question: Question, limit: int, keep: Callable[[object], bool] | None = None, condition: Condition = ANYTHING
    ) -> list[Hit]:
        """The ``limit`` best of the documents that fulfil ``condition`` and whose tag ``keep`` accepts, best first."""
        found = [self.candidates(question, part, condition) for part in self.parts]
        chosen = _best(found, max(limit, RERANKED), keep)
        if not chosen:
            return []
        meaning = np.array([one.meaning[place] for one, place in chosen], np.float32)
        lexical = np.array([one.lexical[place] for one, place in chosen], np.float32)
        texts = [one.segment.pieces[one.rows[place]] for one, place in chosen]
        fused = meaning + NEARNESS_WEIGHT * nearness(question.pieces, question.weights, texts) + RERANKED_LEXICAL_WEIGHT * lexical
        hits: list[Hit] = []
        order = np.argsort(-fused, kind="stable")[:limit]
        places = [(chosen[place][0].segment, int(chosen[place][0].rows[chosen[place][1]])) for place in order]
        for place, (segment, row), had in zip(order, places, _words_had(question.terms, places), strict=True):
            score = min(1.0, max(0.0, float(fused[place]) / (1 + NEARNESS_WEIGHT + RERANKED_LEXICAL_WEIGHT)))
            close = max(0.0, float(meaning[place]))
            hits.append(Hit(segment.keys[row], segment.tags[row], round(score, 4), round(close, 4), had))
        return hits

    def fulfilling(self, condition: Condition = ANYTHING) -> Fulfilling:
        """All documents that fulfil ``condition``."""
        return Fulfilling(tuple((segment, picked(segment, alive, condition)) for segment, alive in self.parts))

    def candidates(self, question: Question, part: Part, condition: Condition = ANYTHING) -> Candidates:
        """The rows of ``part`` that fulfil ``condition``, with their cosine with the question's vector and their BM25 score as a share
        (0..1) of the most that any text could reach for this question."""
        segment, alive = part
        rows = picked(segment, alive, condition)
        few = 2 * len(rows) < len(segment)
        meaning = segment.dense[rows] @ question.vector if few else (segment.dense @ question.vector)[rows]
        lexical = np.zeros(len(segment), np.float32)
        most = sum(term.rarity * (K1 + 1) for term in question.terms)
        for term in question.terms:
            found = segment.postings(term.stem)
            if found is not None:
                having, counts = found
                length = K1 * (1 - B + B * segment.lengths[having] / question.mean_length)
                lexical[having] += term.rarity * (K1 + 1) * counts / (counts + length)
        return Candidates(segment, rows, meaning, lexical[rows] / np.float32(most or 1))


def _best(found: Sequence[Candidates], most: int, keep: Callable[[object], bool] | None) -> list[tuple[Candidates, int]]:
    """The ``most`` best places that ``keep`` accepts; of equal ones the first."""
    if not found:
        return []
    fused = np.concatenate([one.meaning + LEXICAL_WEIGHT * one.lexical for one in found])
    ends = np.cumsum([len(one.rows) for one in found])
    chosen: list[tuple[Candidates, int]] = []
    for place in np.argsort(-fused, kind="stable"):
        part = int(np.searchsorted(ends, place, side="right"))
        one, local = found[part], int(place - (ends[part - 1] if part else 0))
        if keep is None or keep(one.segment.tags[one.rows[local]]):
            chosen.append((one, local))
            if len(chosen) == most:
                break
    return chosen


class Index:
    """The index of one node. ``update`` may be called from any thread; those that do wait for one another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._where: dict[str, tuple[Segment, int]] = {}
        self._snapshot = _snapshot(())

    def snapshot(self) -> Snapshot:
        """What is indexed now."""
        return self._snapshot

    def tag(self, key: str) -> object:
        """What was indexed with the document of this key; None for nothing."""
        with self._lock:
            at = self._where.get(key)
            return None if at is None else at[0].tags[at[1]]

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


def _words_had(terms: Sequence[Term], places: Sequence[tuple[Segment, int]]) -> list[tuple[str, ...]]:
    """For each of ``places`` the words of ``terms`` that the document there has."""
    had: list[list[str]] = [[] for _ in places]
    for segment in {id(segment): segment for segment, _ in places}.values():
        of_it = [place for place, (found, _) in enumerate(places) if found is segment]
        rows = np.array([places[place][1] for place in of_it], np.int32)
        for term in terms:
            found = segment.postings(term.stem)
            if found is not None:
                having = found[0]  # rising
                at = np.minimum(np.searchsorted(having, rows), len(having) - 1)
                for place in np.flatnonzero(having[at] == rows):
                    had[of_it[place]].append(term.word)
    return [tuple(words) for words in had]
