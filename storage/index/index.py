"""The index: documents come and go in one thread, questions are asked in others, and neither waits for the other.

Theory of operation. The index is a short list of segments that never change, and for each a mask of the rows still alive.
An update builds a new small segment and new masks, merges neighbours of like size (so that n documents lie in some log n
segments; O'Neil et al. 1996), and then replaces the snapshot by one assignment. A question reads the snapshot it began with.

Ranking is exact: every row that a question concerns gets both scores. Of 5,600 rows of 384 numbers that takes .8 ms, less than the sentence
model needs for the question, and a filter costs no recall. An approximate graph (hnswlib) would pay for more than 10,000 rows of a cell, at
the price of some of the best and of twice the memory, and is not used; see docs/decisions/0031.

*Meaning* is the cosine with the question's vector. *Words* is BM25 over stems, divided by the most that this very question could
reach (Bruch et al. 2023, "theoretical" normalisation): so a question of which no card has the telling words is decided by
meaning, which dividing by the best score found would not allow. Words that every question has ("what", "my") are rare in cards, hence would
weigh most; they are left out. The best by both are then compared with the question *piece by piece* (``pieces.py``), and ranked
by all three.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from meshos.storage.index import crowds
from meshos.storage.index.facets import ANYTHING, Condition, Fulfilling, picked
from meshos.storage.index.limits import DEAD_SHARE, LEXICAL_WEIGHT, MERGE_RATIO, NEARNESS_WEIGHT, RERANKED, RERANKED_LEXICAL_WEIGHT
from meshos.storage.index.pieces import PIECE_BYTES, nearness_of
from meshos.storage.index.question import Question
from meshos.storage.index.scores import lexical as lexical_of
from meshos.storage.index.scores import meaning as meaning_of
from meshos.storage.index.scores import stretches
from meshos.storage.index.segment import Document, Floats, Mask, Rows, Segment, build, merge

Part = tuple[Segment, Mask]


@dataclass(frozen=True, slots=True)
class Hit:
    """A document that fits. ``score`` is in 0..1 and falls along the ranking; ``words`` are the question's that it has; ``behind`` says
    how many near-equal ones were left out behind it."""

    key: str
    tag: object
    score: float
    meaning: float
    words: tuple[str, ...]
    behind: int = 0


@dataclass(frozen=True, slots=True)
class Candidates:
    """Some rows of a segment, rising, and what they score against a question in meaning and words."""

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
        self,
        question: Question,
        limit: int,
        keep: Callable[[object], bool] | None = None,
        condition: Condition = ANYTHING,
        crowd: Callable[[object], str] | None = None,
    ) -> list[Hit]:
        """The ``limit`` best of the documents that fulfil ``condition`` and whose tag ``keep`` accepts, best first. ``crowd`` names a
        facet of a tag: near-equal documents that share it make room for others (``crowds``).
        """
        found = [self.candidates(question, part, condition) for part in self.parts]
        if not any(len(one.rows) for one in found):
            return []
        meaning, lexical = np.concatenate([one.meaning for one in found]), np.concatenate([one.lexical for one in found])
        scores = np.concatenate([scored(one) for one in found])
        rows = np.concatenate([one.rows for one in found])
        part_of = np.repeat(np.arange(len(found)), [len(one.rows) for one in found])

        def accepts(place: int) -> bool:
            return keep is None or keep(self.parts[part_of[place]][0].tags[rows[place]])

        best_by = partial(best_places, most=max(limit, RERANKED), accepts=None if keep is None else accepts)
        chosen, behind = best_by(scores), dict[int, int]()
        if crowd is not None:
            chosen, behind = crowds.with_room(scores, chosen, best_by, self._among(found, rows, part_of, crowd))
        meaning, lexical, rows, part_of = meaning[chosen], lexical[chosen], rows[chosen], part_of[chosen]
        texts = [self.parts[part][0].pieces[row] for part, row in zip(part_of.tolist(), rows.tolist(), strict=True)]
        near = nearness_of(question.pieces, question.weights, b"".join(texts), [len(signs) // PIECE_BYTES for signs in texts])
        fused = meaning + np.float32(NEARNESS_WEIGHT) * near + np.float32(RERANKED_LEXICAL_WEIGHT) * lexical
        best = np.argsort(-fused, kind="stable")[:limit]
        had = self._had(question, part_of[best], rows[best])
        hits: list[Hit] = []
        for place, of_place in zip(best.tolist(), had, strict=True):
            segment, row = self.parts[part_of[place]][0], int(rows[place])
            score = min(1.0, max(0.0, float(fused[place]) / (1 + NEARNESS_WEIGHT + RERANKED_LEXICAL_WEIGHT)))
            close, more = max(0.0, float(meaning[place])), behind.get(int(chosen[place]), 0)
            hits.append(Hit(segment.keys[row], segment.tags[row], round(score, 4), round(close, 4), of_place, more))
        return hits

    def _among(
        self, found: Sequence[Candidates], rows: Rows, part_of: NDArray[np.intp], crowd: Callable[[object], str]
    ) -> crowds.Candidates:
        """The candidates as ``crowds`` looks at them: their places are those of ``rows``, part after part."""
        starts = np.cumsum([0, *(len(one.rows) for one in found)])

        def facet(place: int) -> str:
            return crowd(self.parts[part_of[place]][0].tags[rows[place]])

        def having(name: str) -> crowds.Places:
            places = []
            for one, (segment, _), start in zip(found, self.parts, starts, strict=False):
                held = segment.facets.get(name)
                if held is not None and len(one.rows):
                    at = one.rows.searchsorted(held)
                    places.append(start + at[one.rows.take(at, mode="clip") == held])
            return np.concatenate(places) if places else np.zeros(0, np.intp)

        def vectors(places: crowds.Places) -> Floats:
            some = np.empty((len(places), self.parts[0][0].dense.shape[1]), np.float32)
            for part in np.unique(part_of[places]).tolist():
                here = part_of[places] == part
                some[here] = self.parts[part][0].dense[rows[places[here]]]
            return some

        return crowds.Candidates(facet, having, vectors)

    def fulfilling(self, condition: Condition = ANYTHING) -> Fulfilling:
        """All documents that fulfil ``condition``."""
        return Fulfilling(tuple((segment, picked(segment, alive, condition)) for segment, alive in self.parts))

    def _had(self, question: Question, part_of: NDArray[np.intp], rows: Rows) -> list[tuple[str, ...]]:
        """Which of the question's words each of these rows has."""
        found: list[list[str]] = [[] for _ in rows]
        for part in np.unique(part_of).tolist():
            here = np.flatnonzero(part_of == part)
            for term in question.terms:
                held = self.parts[part][0].postings(term.stem)
                if held is not None:
                    at = held[0].searchsorted(rows[here])
                    for number in here[held[0].take(at, mode="clip") == rows[here]].tolist():
                        found[number].append(term.word)
        return [tuple(some) for some in found]

    def candidates(self, question: Question, part: Part, condition: Condition = ANYTHING) -> Candidates:
        """The rows of ``part`` that fulfil ``condition``, with their cosine with the question's vector and their BM25 score as a share
        (0..1) of the most that any text could reach for this question."""
        segment, alive = part
        rows = picked(segment, alive, condition)
        held = stretches(rows)
        return Candidates(rows, meaning_of(segment, rows, held, question.vector), lexical_of(segment, rows, held, question))


def scored(found: Candidates) -> Floats:
    """By what the RERANKED are chosen that are compared piece by piece."""
    scores: Floats = found.meaning + np.float32(LEXICAL_WEIGHT) * found.lexical
    return scores


def best_places(scores: Floats, most: int, accepts: Callable[[int], bool] | None) -> NDArray[np.intp]:
    """The ``most`` best places that ``accepts`` takes, best first; of equal ones the first. What scores minus infinity is out."""
    falling = -scores
    if accepts is None and len(scores) > most:
        places = np.flatnonzero(~(falling > np.partition(falling, most - 1)[most - 1]))
        best = places[np.argsort(falling[places], kind="stable")[:most]]
    else:
        best = np.argsort(falling, kind="stable")
    best = best[falling[best] != np.inf]
    return best if accepts is None else np.array([*islice(filter(accepts, best.tolist()), most)], np.intp)


class Index:
    """The index of one node. ``update`` may be called from any thread; those that do wait for one another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._snapshot = _snapshot(())

    def snapshot(self) -> Snapshot:
        """What is indexed now."""
        return self._snapshot

    def tag(self, key: str) -> object:
        """What was indexed with the document of this key; None for nothing."""
        for segment, alive in self._snapshot.parts:
            for row in segment.rows_of([key]):
                if alive[row]:
                    return segment.tags[row]
        return None

    def update(self, put: Sequence[Document], drop: Sequence[str] = ()) -> None:
        """Take out ``drop``, then take in ``put`` (the last of a key counts, and replaces what was there)."""
        with self._lock:
            fresh = {document.key: document for document in put}
            parts = _without(self._snapshot.parts, [*{**fresh, **dict.fromkeys(drop)}])
            if fresh:
                segment = build([*fresh.values()])
                parts.append((segment, np.ones(len(segment), np.bool_)))
            self._snapshot = _snapshot(tuple(_tidied(parts)))


def _without(parts: Sequence[Part], keys: Sequence[str]) -> list[Part]:
    """The parts with the rows of ``keys`` marked dead, in copies of their masks."""
    left: list[Part] = []
    for segment, alive in parts:
        rows = segment.rows_of(keys)
        if alive[rows].any():
            alive = alive.copy()
            alive[rows] = False
        left.append((segment, alive))
    return left


def _tidied(parts: list[Part]) -> list[Part]:
    """Empty parts are gone, neighbours of like size are merged, half-dead ones written anew."""
    kept: list[Part] = []
    for part in parts:
        living = int(part[1].sum())
        if not living:
            continue
        if living < (1 - DEAD_SHARE) * len(part[0]):
            part = _merged([part])
        while kept and int(kept[-1][1].sum()) < MERGE_RATIO * len(part[0]):
            part = _merged([kept.pop(), part])
        kept.append(part)
    return kept


def _merged(parts: Sequence[Part]) -> Part:
    segment = merge(parts)
    return segment, np.ones(len(segment), np.bool_)


def _snapshot(parts: tuple[Part, ...]) -> Snapshot:
    size = sum(int(alive.sum()) for _, alive in parts)
    length = sum(float(segment.lengths[alive].sum()) for segment, alive in parts)
    return Snapshot(parts, size, max(1.0, length / size if size else 1.0))
