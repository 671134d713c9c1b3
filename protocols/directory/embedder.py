"""The sentence model as the directory sees it: a name, and a function from texts to vectors that worker threads may call."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from meshos.protocols.directory.vector import DENSE, hashed


class Embedder(Protocol):
    """What makes vectors. A node has MiniLM (node/runtime/embedding), the simulator ``HashedEmbedder``."""

    @property
    def name(self) -> str:
        """The model's name, which stands in every record and in genesis."""
        ...

    @property
    def loaded(self) -> bool:
        """Whether ``embed`` answers at once; the first call may otherwise take seconds on a busy machine."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row of 384 numbers and length 1 for each text; raises Failed ``model-missing`` or ``model-broken``."""
        ...

    def knows(self, word: str) -> bool:
        """Whether a lower-case word is known to be one, and so not misspelt."""
        ...


class HashedEmbedder:
    """Hashed words in the place of a model: for simulations, where meaning does not matter and time does. Deterministic."""

    name = "hashed-words"
    loaded = True

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See ``Embedder``; a text without words gets the first unit vector."""
        rows = np.zeros((len(texts), DENSE), np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[:] = hashed(text)
            if not row.any():
                row[0] = 1
        return rows

    def knows(self, word: str) -> bool:
        """No word: it has no dictionary."""
        return False
