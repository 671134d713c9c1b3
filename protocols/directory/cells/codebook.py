"""The codebook: into which cell a record belongs, how near a question is to each, and how often words occur.

A cell is a set of *points* of the vector space (sub-centroids). A record belongs to the cell of the point that it is nearest to, after
the cell's *price* is taken off, by which training keeps full cells from filling further. All of it is computed in integers, so that
every node places a record alike, whatever its processor. A question's nearness to cells is a hint for the asker alone, and in floats.

A codebook is named by the hash of its bytes. It carries the statistics of words that all askers weigh a question with, so that the
scores of different cells compare (``storage/index/question.py``).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from meshos import cbor
from meshos.errors import Refused
from meshos.protocols.directory.cells import limits
from meshos.protocols.directory.limits import MODEL_CHARS
from meshos.protocols.directory.vector import DENSE, SCALE, Vector
from meshos.storage.index.limits import WORD_CHARS

Integers = NDArray[np.float32]
"""Whole numbers kept as 32-bit floats: products of those are exact below 2**24 (see limits), and quick."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Of the records that a codebook was trained on: how many, their words on average, in how many each stem and each word occurs.

    It is a ``storage.index.question.Statistics``.
    """

    size: int
    mean_length: float
    stems: dict[str, int]
    words: dict[str, int]

    def having(self, term: str) -> int:
        """In how many records a stem occurs; one that is not known is new or rare."""
        return self.stems.get(term, 0)

    def spelt(self, word: str) -> int:
        """In how many records this very word occurs."""
        return self.words.get(word, 0)


@dataclass(frozen=True, slots=True)
class Codebook:
    """``points`` (points x 384, int8) belong to the cells ``cell_of`` (rising); ``weights`` says how many records were nearest to each when
    it was trained, and ``prices`` what each cell costs. Make one by ``training.train`` or ``decode``.
    """

    version: int
    model: str
    cells: int
    points: NDArray[np.int8]
    cell_of: NDArray[np.int32]
    weights: NDArray[np.int32]
    prices: NDArray[np.int32]
    vocabulary: Vocabulary
    _turned: Integers = field(init=False, repr=False, compare=False)
    _starts: NDArray[np.intp] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_turned", np.ascontiguousarray(self.points.T.astype(np.float32)))
        object.__setattr__(self, "_starts", np.searchsorted(self.cell_of, np.arange(self.cells)))

    def place(self, vectors: Integers) -> NDArray[np.int32]:
        """The cell of each row of ``vectors``, which are ``whole_numbers``: the same on every machine. For worker threads."""
        prices = self.prices[self.cell_of].astype(np.float32)
        cells = np.empty(len(vectors), np.int32)
        for start in range(0, len(vectors), 4_096):
            near = vectors[start : start + 4_096] @ self._turned
            near -= prices
            cells[start : start + 4_096] = self.cell_of[near.argmax(axis=1)]
        return cells

    def nearness(self, question: Vector) -> Vector:
        """How near a question's vector (length 1) is to each cell: about the cosine with the nearest record there."""
        cosines = (np.rint(question * SCALE) @ self._turned) / np.float32(SCALE**2)
        cosines = np.minimum(cosines, 2)  # a codebook's points may be longer than those of records, and no number overflows for that
        mass = np.add.reduceat(np.exp(limits.SHARPNESS * (cosines - 1)) * self.weights, self._starts)
        near: Vector = (1 + np.log(np.maximum(mass, 1e-30)) / limits.SHARPNESS).astype(np.float32)
        return near


def whole_numbers(vectors: Sequence[bytes]) -> Integers:
    """Vectors as ``vector.whole_bytes`` gives them, a row each."""
    return np.frombuffer(b"".join(vectors), np.int8).astype(np.float32).reshape(-1, DENSE)


def encode(codebook: Codebook) -> bytes:
    """The bytes of a codebook: the same for equal ones."""
    vocabulary = codebook.vocabulary
    return cbor.encode(
        {
            "version": codebook.version,
            "model": codebook.model,
            "cells": codebook.cells,
            "points": codebook.points.tobytes(),
            "cellOf": codebook.cell_of.astype("<i4").tobytes(),
            "weights": codebook.weights.astype("<i4").tobytes(),
            "prices": codebook.prices.astype("<i4").tobytes(),
            "records": vocabulary.size,
            "wordsMilli": round(1000 * vocabulary.mean_length),
            "stems": dict(vocabulary.stems),
            "words": dict(vocabulary.words),
        }
    )


def name_of(data: bytes) -> bytes:
    """SHA-256 of an encoded codebook: its name."""
    return hashlib.sha256(b"meshos/codebook/1\0" + data).digest()


def decode(data: bytes) -> Codebook:
    """The codebook in ``data``; raises Refused ``too-large``, ``bad-encoding`` or ``bad-codebook``."""
    fields = cbor.decode(data, max_bytes=limits.CODEBOOK_BYTES)
    if not isinstance(fields, dict) or fields.keys() != _FIELDS:
        raise _bad("it has not the fields of one")
    version, cells, records, milli = (_number(fields[name]) for name in ("version", "cells", "records", "wordsMilli"))
    model = fields["model"]
    if not isinstance(model, str) or not 0 < len(model) <= MODEL_CHARS:
        raise _bad("it does not name its sentence model")
    if not limits.CELLS[0] <= cells <= limits.CELLS[1]:
        raise _bad(f"it has {cells} cells, not from {limits.CELLS[0]} to {limits.CELLS[1]}")
    cell_of, weights, prices = (_numbers(fields[name]) for name in ("cellOf", "weights", "prices"))
    points = fields["points"]
    if not isinstance(points, bytes) or len(points) != DENSE * len(cell_of) or not len(cell_of) == len(weights) or len(prices) != cells:
        raise _bad("its tables are not of like length")
    if len(cell_of) > cells * limits.SUBCENTROIDS[1] or not np.array_equal(np.unique(cell_of), np.arange(cells)):
        raise _bad("a cell has no point, or there are too many")
    if (np.diff(cell_of) < 0).any() or (weights < 1).any() or (np.abs(prices.astype(np.int64)) > SCALE**2).any():
        raise _bad("a table of it has numbers that cannot be")
    if not 1 <= milli <= 1000 * 2**20 or not 1 <= records <= 2**40:
        raise _bad("its statistics cannot be")
    vocabulary = Vocabulary(records, max(1.0, milli / 1000), _counts(fields["stems"], records), _counts(fields["words"], records))
    return Codebook(
        version, model, cells, np.frombuffer(points, np.int8).reshape(-1, DENSE), cell_of, weights, prices.astype(np.int32), vocabulary
    )


_FIELDS = frozenset(["version", "model", "cells", "points", "cellOf", "weights", "prices", "records", "wordsMilli", "stems", "words"])


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 2**53:
        raise _bad("a number of it is none")
    return value


def _numbers(value: object) -> NDArray[np.int32]:
    if not isinstance(value, bytes) or not value or len(value) % 4:
        raise _bad("a table of it is none")
    return np.frombuffer(value, "<i4").astype(np.int32)


def _counts(value: object, records: int) -> dict[str, int]:
    if not isinstance(value, dict) or len(value) > limits.VOCABULARY:
        raise _bad("its vocabulary is none, or too large")
    for word, count in value.items():
        if not isinstance(word, str) or len(word) > WORD_CHARS or not isinstance(count, int) or not 1 <= count <= records:
            raise _bad("a word of its vocabulary cannot be counted so")
    return value


def _bad(why: str) -> Refused:
    return Refused("bad-codebook", f"this codebook is not taken: {why}")
