"""A score taken apart: what a document gets for its meaning, for each word and for its pieces. The parts add up to what a search says."""

from dataclasses import dataclass, replace

import numpy as np

from meshos.storage.index.limits import NEARNESS_WEIGHT, RERANKED_LEXICAL_WEIGHT
from meshos.storage.index.pieces import PIECE_BYTES, nearness_of
from meshos.storage.index.question import Question
from meshos.storage.index.scores import lexical, meaning
from meshos.storage.index.segment import Document, build

TOTAL = 1 + NEARNESS_WEIGHT + RERANKED_LEXICAL_WEIGHT


@dataclass(frozen=True, slots=True)
class Word:
    """A telling word of the question: how rare it is, and its part of the score (0 where the document does not have it)."""

    word: str
    rarity: float
    part: float


@dataclass(frozen=True, slots=True)
class Apart:
    """``cosine`` and ``nearness`` are as measured, up to 1; ``meaning``, ``pieces`` and those of ``words`` are parts of a score."""

    cosine: float
    meaning: float
    nearness: float
    pieces: float
    words: tuple[Word, ...]

    @property
    def score(self) -> float:
        """The sum of all parts, 0..1."""
        return min(1.0, max(0.0, self.meaning + self.pieces + sum(word.part for word in self.words)))


def apart(document: Document, question: Question) -> Apart:
    """The score of ``document`` for ``question``, whatever else there is. For worker threads: a millisecond."""
    segment, rows = build([document]), np.zeros(1, np.int32)
    cosine = float(meaning(segment, rows, None, question.vector)[0])
    signs = len(document.pieces) // PIECE_BYTES
    near = float(nearness_of(question.pieces, question.weights, document.pieces, [signs])[0])
    most = sum(term.rarity for term in question.terms) or 1.0
    words = []
    for term in question.terms:
        share = float(lexical(segment, rows, None, replace(question, terms=(term,)))[0]) * term.rarity / most
        words.append(Word(term.word, term.rarity, share * RERANKED_LEXICAL_WEIGHT / TOTAL))
    return Apart(cosine, cosine / TOTAL, near, near * NEARNESS_WEIGHT / TOTAL, tuple(words))
