"""A question as the index takes it: its telling words with their weights, its vector, and its pieces.

Whoever asks several indexes that each hold a part of all documents weighs the words once, by what is known of all of them, so that the
scores of different parts compare. A lone index is asked with its own ``Statistics``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from meshos.storage.index.limits import QUERY_WORDS, SPELLED_WORDS
from meshos.storage.index.pieces import PIECE_NUMBERS, Reading, unpacked
from meshos.storage.index.words import FUNCTION_WORDS, corrected, stem, words

Floats = NDArray[np.float32]


class Statistics(Protocol):
    """What is known of all documents, wherever they are held."""

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    @property
    def mean_length(self) -> float:
        """Their words on average, at least 1."""
        ...

    def having(self, term: str) -> int:
        """How many have a word of this stem."""
        ...

    def spelt(self, word: str) -> int:
        """How many have this very word."""
        ...


@dataclass(frozen=True, slots=True)
class Term:
    """A telling word of a question: its stem, the word it came from, and how rare the stem is."""

    stem: str
    word: str
    rarity: float


@dataclass(frozen=True, slots=True)
class Question:
    """``vector`` has length 1; ``pieces`` has rows of length 1, and ``weights`` says what each counts."""

    terms: tuple[Term, ...]
    mean_length: float
    vector: Floats
    pieces: Floats
    weights: Floats


def spelled(query: str, known: Callable[[str], bool], statistics: Statistics) -> str:
    """``query`` with misspelt words replaced by words of documents a slip away: what to give to the sentence model and to ``ask``.

    A word that is ``known`` to be one (or is in a document) stays as it is.
    """
    return corrected(query, statistics.spelt, known, most=SPELLED_WORDS)


def ask(query: str, read: Reading, statistics: Statistics) -> Question:
    """The question ``query``; ``read`` is what the sentence model makes of it."""
    pieces = read.pieces / np.maximum(np.linalg.norm(read.pieces, axis=1, keepdims=True), np.float32(1e-9))
    weights = [rarity(statistics, stem(word)) / read.words.count(word) for word in read.words]
    terms = tuple(Term(term, word, rarity(statistics, term)) for term, word in _asked(query).items())
    return Question(terms, statistics.mean_length, read.vector, pieces, np.array(weights, np.float32))


def resembling(text: str, vector: Floats, signs: bytes, statistics: Statistics) -> Question:
    """The question after texts like ``text``, of which the vector and the signs of its pieces are kept; no model is needed.

    Which word a piece belongs to is not kept, so that all pieces count alike. The rarest words come first.
    """
    bits = np.unpackbits(unpacked(signs), axis=1).astype(np.float32)
    pieces = (2 * bits - 1) / np.float32(PIECE_NUMBERS**0.5)
    terms = [Term(term, word, rarity(statistics, term)) for term, word in _asked(text).items()]
    terms.sort(key=lambda term: (-term.rarity, term.stem))
    return Question(tuple(terms), statistics.mean_length, vector, pieces, np.ones(len(pieces), np.float32))


def rarity(statistics: Statistics, term: str) -> float:
    """The inverse document frequency of a stem (Robertson and Zaragoza 2009, with Lucene's 1 + under the logarithm)."""
    count = min(statistics.having(term), statistics.size)  # statistics may be older than the word
    return math.log(1 + (statistics.size - count + 0.5) / (count + 0.5))


def _asked(query: str) -> dict[str, str]:
    """The stems of a question's telling words, each with the first word it came from; of all its words if none is telling."""
    found = words(query)
    asked: dict[str, str] = {}
    for word in [word for word in found if word not in FUNCTION_WORDS] or found:
        if len(asked) == QUERY_WORDS:
            break
        asked.setdefault(stem(word), word)
    return asked
