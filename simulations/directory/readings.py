"""The sentence model as a table: a simulation of a thousand nodes with real texts runs no model, and is charged for one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from meshos.storage.index.pieces import Reading


@dataclass(frozen=True, slots=True)
class Readings:
    """An ``Embedder`` of those texts that the model has read before: what each became, and which words of the questions it knows."""

    name: str
    known: Mapping[str, Reading]
    words: frozenset[str]
    loaded: bool = True

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """See ``Embedder``; a text that was not read before is a mistake of the simulation (KeyError)."""
        return [self.known[text] for text in texts]

    def knows(self, word: str) -> bool:
        """See ``Embedder``."""
        return word in self.words
