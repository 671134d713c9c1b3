"""Which cells a question is sent to: the nearest in meaning and in words that may hold what fulfils its conditions.

A cell's score estimates the best candidate that it holds: the codebook gives its nearness in meaning, its summary tells which of the
question's words it has. Cells are taken in this order until they hold a share of all records that may fulfil the conditions; a
cell that certainly holds none is passed over. What few records fulfil is so looked at in full, wherever they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshos.protocols.directory.cells import limits
from meshos.protocols.directory.cells.codebook import Codebook
from meshos.protocols.directory.cells.summary import Counts, Names, Summary, cost_step, name_of
from meshos.storage.index.facets import ANYTHING, Condition
from meshos.storage.index.question import Question

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Route:
    """The cells to ask, the best first, and how many records they hold; ``possible`` is the number of cells that may hold something."""

    cells: tuple[int, ...]
    records: int
    possible: int


@dataclass(frozen=True, slots=True)
class _Table:
    """Names of all summaries in one rising list, with the cell and the count of each."""

    names: Names
    cells: NDArray[np.int32]
    counts: Counts

    def counts_of(self, name: int, cells: int) -> Floats:
        """For each cell the count of a name."""
        begin, end = np.searchsorted(self.names, [name, name + 1])
        return np.bincount(self.cells[begin:end], self.counts[begin:end], cells).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Chart:
    """What one node knows of all cells at one moment; make one by ``chart``. ``records`` are those of each cell, by its summary or else
    by what the codebook was trained on; of a cell without a summary nothing is ruled out."""

    codebook: Codebook
    known: Mapping[int, Summary]
    records: Floats
    stems: _Table
    facets: _Table

    def route(self, question: Question, condition: Condition = ANYTHING) -> Route:
        """Where to ask. For worker threads: some 0.2 ms."""
        score = self.codebook.nearness(question.vector) + self._words(question)
        passing = self._passing(condition)
        possible = passing > 0
        order = np.argsort(-score, kind="stable")
        order = order[possible[order]]
        held = np.cumsum(passing[order])
        if condition == ANYTHING:  # no more than the share, but one cell in any case
            cells = order[held <= max(limits.SCANNED * self.records.sum(), held[:1].sum())][: limits.CELLS_ASKED]
        else:  # no less than the share
            cells = order[held - passing[order] < max(limits.SCANNED_FILTERED * self.records.sum(), limits.SCANNED_LEAST)]
        return Route(tuple(int(cell) for cell in cells), int(self.records[cells].sum()), int(possible.sum()))

    def possible(self, condition: Condition) -> tuple[int, ...]:
        """All cells that may hold something that fulfils ``condition``."""
        return tuple(np.flatnonzero(self._passing(condition) > 0).tolist())

    def _words(self, question: Question) -> Floats:
        cells = self.codebook.cells
        most = sum(term.rarity for term in question.terms)
        had = np.zeros(cells)
        for term in question.terms:
            had += term.rarity * (self.stems.counts_of(name_of(term.stem), cells) > 0)
        return had * (limits.WORDS_WEIGHT / most) if most else had

    def _passing(self, condition: Condition) -> Floats:
        """How many records of each cell are likely to fulfil the condition; 0 only where surely none does."""
        records = self.records
        if condition == ANYTHING:
            return records
        cells = self.codebook.cells
        unknown, omitted = np.ones(cells, np.bool_), np.zeros(cells)
        for cell, summary in self.known.items():
            unknown[cell], omitted[cell] = False, summary.omitted
        expected, most = records.copy(), records.copy()

        def narrow(fulfilling: Floats) -> None:
            np.minimum(most, fulfilling, out=most)
            np.multiply(expected, np.minimum(1, fulfilling / np.maximum(1, records)), out=expected)

        for group in condition.every:
            counts = [self.facets.counts_of(name_of(facet), cells) for facet in dict.fromkeys(group)]
            narrow(np.where(unknown, records, sum(np.where(count > 0, count, omitted) for count in counts)))
        for facet in condition.none:
            narrow(records - np.where(unknown, 0, self.facets.counts_of(name_of(facet), cells)))
        if condition.cost is not None:
            narrow(np.where(unknown, records, self._costing(condition.cost)))
        return np.where(most > 0, np.maximum(expected, 1e-3), 0)

    def _costing(self, cost: int) -> Floats:
        found = np.zeros(self.codebook.cells)
        for cell, summary in self.known.items():
            found[cell] = sum(summary.costs[: cost_step(cost) + 1])
        return found


def chart(codebook: Codebook, known: Mapping[int, Summary]) -> Chart:
    """What the summaries in ``known`` (by cell) tell. For worker threads: 10 ms for a few hundred cells."""
    records: Floats = np.bincount(codebook.cell_of, codebook.weights, codebook.cells).astype(np.float64)
    most = limits.CROWDED * max(1.0, float(np.median([one.records for one in known.values()]))) if known else 0.0
    for cell, summary in known.items():
        records[cell] = min(summary.records, max(most, records[cell]))  # one that claims to hold everything draws no question to itself
    stems = [(one.cell, one.stems, np.ones(len(one.stems), np.uint32)) for one in known.values()]
    return Chart(codebook, known, records, _table(stems), _table([(one.cell, one.facets, one.counts) for one in known.values()]))


def _table(parts: Sequence[tuple[int, Names, Counts]]) -> _Table:
    if not parts:
        return _Table(np.zeros(0, np.uint32), np.zeros(0, np.int32), np.zeros(0, np.uint32))
    names = np.concatenate([names for _, names, _ in parts])
    cells = np.repeat(np.array([cell for cell, _, _ in parts], np.int32), [len(names) for _, names, _ in parts])
    counts = np.concatenate([counts for _, _, counts in parts])
    order = np.argsort(names, kind="stable")
    return _Table(names[order], cells[order], counts[order])
