"""The sentence model as the directory sees it: a name, and a function from texts to readings that worker threads may call."""

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from meshos.protocols.directory.vector import DENSE, Vector, hashed
from meshos.storage.index.pieces import PIECE_BYTES, Reading, telling
from meshos.storage.index.words import words


class Embedder(Protocol):
    """What reads texts. A node has MiniLM (node/runtime/embedding), the simulator ``HashedEmbedder``."""

    @property
    def name(self) -> str:
        """The model's name, which stands in every record and in genesis."""
        ...

    @property
    def loaded(self) -> bool:
        """Whether ``read`` answers at once; the first call may otherwise take seconds on a busy machine."""
        ...

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """A vector of 384 numbers and the telling pieces of each text; raises Failed ``model-missing`` or ``model-broken``."""
        ...

    def knows(self, word: str) -> bool:
        """Whether a lower-case word is known to be one, and so not misspelt."""
        ...


class HashedEmbedder:
    """Hashed words in the place of a model: for simulations, where meaning does not matter and time does. Deterministic."""

    name = "hashed-words"
    loaded = True

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """See ``Embedder``; a text without words gets the first unit vector."""
        return [_hashed_reading(text) for text in texts]

    def knows(self, word: str) -> bool:
        """No word: it has no dictionary."""
        return False


def _hashed_reading(text: str) -> Reading:
    vector = hashed(text)
    if not vector.any():
        vector[0] = 1
    found = words(text)
    told = [found[row] for row in telling(found)]
    return Reading(vector, np.array([_hashed_piece(word) for word in told], np.float32).reshape(-1, DENSE), tuple(told))


def _hashed_piece(word: str) -> Vector:
    """384 signs that a hash of the word chooses: far from every other word's."""
    bits = np.unpackbits(np.frombuffer(hashlib.blake2b(word.encode(), digest_size=PIECE_BYTES).digest(), np.uint8))
    return 2 * bits.astype(np.float32) - 1
