"""Telling pieces of a text: what the sentence model makes of each word, beside the one vector that it makes of the whole.

One vector says what a sentence is about and blurs what is in it. So the words are kept too, and a question is compared with a text
piece by piece: each piece of the question finds the piece of the text that is nearest to it, and these are averaged by how rare
their words are (late interaction, Khattab and Zaharia 2020). Of a text's pieces only the signs are kept, 48 bytes each: on the
development questions that ranked as well as the numbers themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshos.storage.index.limits import PIECES
from meshos.storage.index.words import FUNCTION_WORDS

PIECE_NUMBERS = 384
PIECE_BYTES = PIECE_NUMBERS // 8
COLUMNS = 4
"""Pieces of a question are compared in multiples of this: a matrix product with seven columns takes 1.7 times one with eight."""

Floats = NDArray[np.float32]
Signs = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Reading:
    """What the sentence model makes of a text.

    ``vector`` has length 1. ``pieces`` has a row for each of the first ``PIECES`` telling pieces, ``words`` the lower-case word that each
    belongs to.
    """

    vector: Floats
    pieces: Floats
    words: tuple[str, ...]

    def signs(self) -> bytes:
        """What is kept of the pieces, 48 bytes each."""
        return np.packbits(self.pieces > 0, axis=1).tobytes()


def telling(words: Sequence[str]) -> list[int]:
    """Which pieces count, by the words they belong to: no function words, no punctuation; but all if nothing else is there."""
    rows = [row for row, word in enumerate(words) if word not in FUNCTION_WORDS and any(map(str.isalnum, word))]
    return (rows or list(range(len(words))))[:PIECES]


def unpacked(signs: bytes) -> Signs:
    """Rows of 48 bytes."""
    return np.frombuffer(signs, np.uint8).reshape(-1, PIECE_BYTES)


def alike(one: bytes, other: bytes) -> float:
    """The share of equal signs of two texts' pieces; 0 if they have not equally many."""
    if len(one) != len(other):
        return 0.0
    if not one:
        return 1.0
    unequal = np.frombuffer(one, np.uint8) ^ np.frombuffer(other, np.uint8)
    return 1 - int(np.unpackbits(unequal).sum()) / (8 * len(one))


def nearness(asked: Floats, weights: Floats, texts: Sequence[Signs]) -> Floats:
    """For each of ``texts`` how near it comes to a question, up to 1: the mean over the question's pieces (``asked``, rows of length 1) of
    the cosine with the nearest piece of the text. A text without pieces, and any for a question without, gets 0.
    """
    return nearness_of(asked, weights, b"".join(map(bytes, texts)), [len(signs) for signs in texts])


def nearness_of(asked: Floats, weights: Floats, signs: bytes, sizes: Sequence[int]) -> Floats:
    """As ``nearness``, of texts whose pieces' signs lie end to end, ``sizes`` of them each."""
    pieces = np.array(sizes, np.int64)
    result = np.zeros(len(pieces), np.float32)
    having = pieces > 0
    if not having.any() or not len(asked) or not weights.sum():
        return result
    bits = np.unpackbits(unpacked(signs), axis=1).astype(np.float32)
    turned = np.zeros((PIECE_NUMBERS, -(-len(asked) // COLUMNS) * COLUMNS), np.float32)
    turned[:, : len(asked)] = 2 * asked.T
    # a sign is 2 * bit - 1, and a row of signs has the length of the square root of their number
    nearest = np.maximum.reduceat(bits @ turned, (np.cumsum(pieces) - pieces)[having], axis=0)[:, : len(asked)]
    cosines = (nearest - asked.sum(axis=1)) / np.float32(PIECE_NUMBERS**0.5)
    result[having] = cosines @ (weights / weights.sum())
    return result
