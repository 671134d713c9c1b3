"""What a cell's holders tell of it to those who ask questions: enough to know whether asking is worth while.

A summary names the stems that occur in the cell and counts its facets and prices; of many it keeps the most telling. Names are the first
32 bits of a hash: a question about something else meets one by chance once in a million, and is sent to a cell too many then.
"""

import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshos import cbor
from meshos.errors import Refused
from meshos.protocols.directory.cells import limits
from meshos.protocols.directory.cells.codebook import Vocabulary
from meshos.storage.index.segment import Document
from meshos.storage.index.words import FUNCTION_WORDS, stem, words

Names = NDArray[np.uint32]
Counts = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Summary:
    """Of ``cell``: its number of ``records``, the names of ``stems`` (rising) and of ``facets`` (rising) with ``counts``, the largest count
    ``omitted`` of a facet that is not named, and how many records are in each step of ``costs``."""

    cell: int
    records: int
    stems: Names
    facets: Names
    counts: Counts
    omitted: int
    costs: tuple[int, ...]


def name_of(text: str) -> int:
    """The 32 bits that stand for a stem or a facet. Who makes two collide gains what writing the other word would."""
    return zlib.crc32(text.encode())


def cost_step(cost: int) -> int:
    """The step of a price (millionths of a MESH): 0 for nothing, then one for each factor of eight."""
    return min(limits.COSTS - 1, (cost.bit_length() + 2) // 3)


def summarise(cell: int, documents: Iterable[Document], vocabulary: Vocabulary) -> Summary:
    """The summary of a cell that holds these. For worker threads: 0.1 ms a document."""
    records, stems, facets, costs = 0, set[str](), Counter[str](), [0] * limits.COSTS
    for document in documents:
        records += 1
        stems.update(_telling(document.text, vocabulary))
        facets.update(set(document.facets))
        costs[cost_step(document.cost)] += 1
    rarest = sorted(stems, key=lambda term: (vocabulary.having(term), term))[: limits.SUMMARY_WORDS]
    common = sorted(facets.items(), key=lambda item: (-item[1], item[0]))
    counted = Counter[int]()
    for facet, count in common[: limits.SUMMARY_FACETS]:
        counted[name_of(facet)] += count
    named = sorted(counted)
    omitted = common[limits.SUMMARY_FACETS][1] if len(common) > limits.SUMMARY_FACETS else 0
    return Summary(
        cell,
        records,
        np.unique(np.array([name_of(term) for term in rarest], np.uint32)),
        np.array(named, np.uint32),
        np.array([counted[name] for name in named], np.uint32),
        omitted,
        tuple(costs),
    )


def _telling(text: str, vocabulary: Vocabulary) -> Sequence[str]:
    """The rarest stems of a text, so many that nobody has a cell asked about everything by one long list of words."""
    found = {stem(word) for word in words(text) if word not in FUNCTION_WORDS}
    return sorted(found, key=lambda term: (vocabulary.having(term), term))[: limits.SUMMARY_WORDS_A_RECORD]


def encode(summary: Summary) -> bytes:
    """A summary's bytes."""
    names, facets, counts = (part.astype("<u4").tobytes() for part in (summary.stems, summary.facets, summary.counts))
    return cbor.encode([summary.cell, summary.records, names, facets, counts, summary.omitted, list(summary.costs)])


def decode(data: bytes) -> Summary:
    """The summary in ``data``; raises Refused ``too-large``, ``bad-encoding`` or ``bad-message``."""
    match cbor.decode(data, max_bytes=limits.SUMMARY_BYTES):
        case [int() as cell, int() as records, bytes() as stems, bytes() as facets, bytes() as counts, int() as omitted, list() as costs]:
            steps = tuple(step for step in costs if isinstance(step, int) and 0 <= step <= records)
            names = [_names(stems, limits.SUMMARY_WORDS), _names(facets, limits.SUMMARY_FACETS)]
            found = np.frombuffer(counts, "<u4") if len(counts) == len(facets) else np.zeros(0, np.uint32)
            numbers = 0 <= cell < limits.CELLS[1] and 0 <= omitted <= records <= limits.CELL_RECORDS
            if numbers and len(found) == len(names[1]) and (found <= records).all() and len(steps) == limits.COSTS == len(costs):
                return Summary(cell, records, names[0], names[1], found.astype(np.uint32), omitted, steps)
    raise _bad()


def _names(data: bytes, most: int) -> Names:
    if len(data) % 4 or len(data) > 4 * most:
        raise _bad()
    names = np.frombuffer(data, "<u4").astype(np.uint32)
    if len(names) > 1 and not (names[1:] > names[:-1]).all():
        raise _bad()
    return names


def _bad() -> Refused:
    return Refused("bad-message", "the summary of a cell cannot be read")
