"""A record's vector, and its hashed half.

A record's vector has 768 numbers: 384 of the sentence model, and 384 of *hashed words* (feature hashing, Weinberger et al.
2009): each word and each run of three letters in it adds +1 or -1 at a place that a hash chooses. Either half has length 1.
The second half catches what a sentence model blurs (names, misspelt words), and anybody can compute it from the text, so that it is
never sent and cannot be forged.
"""

import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from meshos.protocols.directory.limits import WORDS_CACHED
from meshos.storage.index.words import words

DENSE = 384
HASHED = 384
DIMENSION = DENSE + HASHED

SCALE = 512
"""A vector's numbers times this, rounded, are the whole numbers that placement computes with. Beyond +-127 they are cut: a unit vector of
384 numbers has some .05 each."""

Vector = NDArray[np.float32]


def hashed(text: str) -> Vector:
    """The hashed half for ``text``: 384 numbers of length 1, or all zero for a text without words."""
    total = np.zeros(HASHED, np.float32)
    for word in words(text):
        places, signs = _features(word)
        np.add.at(total, places, signs)
    np.copysign(np.sqrt(np.abs(total)), total, out=total)  # the tenth time a word occurs says less than the first
    length = np.linalg.norm(total)
    return total / length if length else total


def whole(dense: Vector, text: str) -> Vector:
    """The 768 numbers of a record: the model's half as given (length 1), the hashed half of ``text``."""
    return np.concatenate([dense, hashed(text)])


def whole_bytes(dense: bytes) -> bytes:
    """The 384 whole numbers (one byte each, -127 to 127) by which a record with this half (16-bit floats) is placed: alike everywhere."""
    numbers = np.frombuffer(dense, "<f2").astype(np.float32) * np.float32(SCALE)
    found: bytes = np.clip(np.rint(numbers), -127, 127).astype(np.int8).tobytes()
    return found


def similarity(one: Vector, other: Vector) -> float:
    """The cosine of the angle between two vectors, 0 if either is zero."""
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / lengths if lengths else 0.0


@lru_cache(maxsize=WORDS_CACHED)
def _features(word: str) -> tuple[NDArray[np.intp], Vector]:
    """Where a word and its runs of three letters go. crc32: the same on every machine, and quick; nothing rests on its strength."""
    framed = f"<{word}>"
    parts: Sequence[str] = [word, *(framed[start : start + 3] for start in range(len(framed) - 2))]
    codes = [zlib.crc32(part.encode()) for part in parts]
    places = np.array([code % HASHED for code in codes], np.intp)
    signs = np.array([1.0 if code & 0x80000000 else -1.0 for code in codes], np.float32)
    signs[0] *= len(parts) ** 0.5  # the whole word weighs as much as its pieces together
    return places, signs
