"""Which cells a question is sent to: the nearest in meaning and in words that may hold what fulfils its conditions.

A cell's score estimates the best candidate that it holds: the codebook gives its nearness in meaning, its summaries tell which of the
question's words it has. Cells are taken in this order until they hold a share of all records that may fulfil the conditions; a
cell that certainly holds none is passed over. What few records fulfil is so looked at in full, wherever they are.

What a cell holds is told by its holders, each in a *voice* of its own, and one of them may lie in two directions. To hide a cell it leaves
out words, facets or records: so a cell is passed over only if all voices rule it out, and they are two, unless nobody else could tell. To
draw questions it claims words, facets or records that are not there: so the middle one of what is told counts (of two the lower, and of
words half of what only one tells), and what only one claims uses up none of a route's share, and pushes no other cell out of it.

Of a cell nobody may have told yet, as when a node has just started. It may have any word, and is asked beside the others.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshos.protocols.directory.cells import limits
from meshos.protocols.directory.cells.codebook import Codebook
from meshos.protocols.directory.cells.summary import Counts, Names, Summary, cost_step, name_of
from meshos.storage.index.facets import ANYTHING, Condition
from meshos.storage.index.question import Question
from meshos.storage.index.words import stem

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

LITTLE = 1e-3
"""What a cell counts for that is asked though hardly anything is expected of it."""

VOICES = 2
"""So many must rule a cell out."""


@dataclass(frozen=True, slots=True)
class Route:
    """The cells to ask, the best first, and how many records they hold; ``possible`` is the number of cells that may hold something,
    ``untold`` that of those which are not asked though nobody has told of them."""

    cells: tuple[int, ...]
    records: int
    possible: int
    untold: int = 0


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
class Voice:
    """What one holder of each cell tells: its summaries by cell, and all their names. ``records`` are those of each cell, 0 where it is
    silent, as it is of cells that are not ``heard``."""

    known: Mapping[int, Summary]
    heard: Mask
    records: Floats
    stems: _Table
    facets: _Table

    def words(self, question: Question) -> Floats:
        """For each cell the share of the question's rarity that it has; NaN where the voice is silent."""
        cells = len(self.heard)
        most = sum(term.rarity for term in question.terms)
        had = np.zeros(cells)
        for term in question.terms:
            had += term.rarity * (self.stems.counts_of(name_of(term.stem), cells) > 0)
        return np.where(self.heard, had / most if most else had, np.nan)

    def passing(self, condition: Condition) -> Floats:
        """How many records of each cell are likely to fulfil the condition; 0 only where it rules that out, NaN where it is silent."""
        records, cells = self.records, len(self.heard)
        omitted = np.zeros(cells)
        for cell, summary in self.known.items():
            omitted[cell] = summary.omitted
        expected, most = records.copy(), records.copy()

        def narrow(fulfilling: Floats) -> None:
            np.minimum(most, fulfilling, out=most)
            np.multiply(expected, np.minimum(1, fulfilling / np.maximum(1, records)), out=expected)

        for group in condition.every:
            counts = [self.facets.counts_of(name_of(facet), cells) for facet in dict.fromkeys(group)]
            narrow(sum((np.where(count > 0, count, omitted) for count in counts), np.zeros(cells)))
        for facet in condition.none:
            narrow(records - self.facets.counts_of(name_of(facet), cells))
        if condition.cost is not None:
            narrow(self._costing(condition.cost))
        return np.where(self.heard, np.where(most > 0, np.maximum(expected, LITTLE), 0), np.nan)

    def _costing(self, cost: int) -> Floats:
        found = np.zeros(len(self.heard))
        for cell, summary in self.known.items():
            found[cell] = sum(summary.costs[: cost_step(cost) + 1])
        return found


@dataclass(frozen=True, slots=True)
class Chart:
    """What one node knows of all cells at one moment; make one by ``chart``. ``records`` are those of each cell as its holders tell, or
    else those that the codebook was trained on; ``told`` are the former alone. ``sure`` are the cells of which one voice is enough."""

    codebook: Codebook
    voices: tuple[Voice, ...]
    records: Floats
    told: Floats
    sure: Mask

    def route(self, question: Question, condition: Condition = ANYTHING) -> Route:
        """Where to ask. For worker threads: some 0.2 ms, and twice that for each further voice."""
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
        untold = order[~self._heard()[order]]
        untold = untold[~np.isin(untold, cells)]
        cells = np.concatenate([cells, untold[: limits.UNTOLD_ASKED]])
        left = max(0, len(untold) - limits.UNTOLD_ASKED)
        return Route(tuple(cells.tolist()), int(self.records[cells].sum()), int(possible.sum()), left)

    def has(self, word: str) -> bool:
        """Whether some record has a word like this: so many voices say so of one cell as it takes to believe it."""
        name, cells = name_of(stem(word)), self.codebook.cells
        said = sum((voice.stems.counts_of(name, cells) > 0 for voice in self.voices), np.zeros(cells, np.int64))
        return bool((said >= np.where(self.sure, 1, VOICES)).any())

    def _heard(self) -> Mask:
        """The cells of which somebody has told."""
        heard = np.zeros(self.codebook.cells, np.bool_)
        for voice in self.voices:
            heard |= voice.heard
        return heard

    def possible(self, condition: Condition) -> tuple[int, ...]:
        """All cells that may hold something that fulfils ``condition``."""
        return tuple(np.flatnonzero(self._passing(condition) > 0).tolist())

    def promised(self, cells: Sequence[int]) -> int:
        """How many records these cells hold, by what is told of them; of those that nobody has told of, none are."""
        return int(self.told[list(cells)].sum())

    def _words(self, question: Question) -> Floats:
        if not self.voices:
            return np.zeros(self.codebook.cells)
        low, high = _middle(np.stack([voice.words(question) for voice in self.voices]))
        return np.nan_to_num((low + high) / 2) * limits.WORDS_WEIGHT

    def _passing(self, condition: Condition) -> Floats:
        """How many records of each cell are likely to fulfil the condition; 0 only where surely none does."""
        if not self.voices:
            return self.records
        said = np.stack([voice.passing(condition) for voice in self.voices])
        heard = sum(voice.heard.astype(np.int64) for voice in self.voices)
        possible = (np.nan_to_num(said) > 0).any(axis=0) | (heard < np.where(self.sure, 1, VOICES))
        likely = np.where(heard > 0, np.nan_to_num(_middle(said)[0]), self.records)
        return np.where(possible, np.maximum(likely, LITTLE), 0)


def _middle(said: Floats) -> tuple[Floats, Floats]:
    """The lower and the upper middle one of each column, without what is NaN; NaN where nothing is said."""
    ordered = np.sort(said, axis=0)  # what is NaN comes last
    count = (~np.isnan(said)).sum(axis=0)
    low, high = np.maximum(0, (count - 1) // 2), np.minimum(count // 2, len(said) - 1)
    return np.take_along_axis(ordered, low[None], axis=0)[0], np.take_along_axis(ordered, high[None], axis=0)[0]


def chart(codebook: Codebook, *told: Mapping[int, Summary], sure: Iterable[int] | None = None) -> Chart:
    """What the summaries in ``told`` (a voice each, by cell) tell. ``sure``: the cells of which one voice is enough, None for all. For
    worker threads: 10 ms a voice for a few hundred cells."""
    trained: Floats = np.bincount(codebook.cell_of, codebook.weights, codebook.cells).astype(np.float64)
    claimed = [one.records for known in told for one in known.values()]
    most = limits.CROWDED * max(1.0, float(np.median(claimed))) if claimed else 0.0
    voices = tuple(_voice(known, np.maximum(most, trained)) for known in told)  # who claims to hold everything draws nothing to itself
    enough = np.ones(codebook.cells, np.bool_)
    if sure is not None:
        enough[:] = False
        enough[list(sure)] = True
    if not voices:
        return Chart(codebook, voices, trained, np.zeros(codebook.cells), enough)
    some = np.stack([np.where(voice.records > 0, voice.records, np.nan) for voice in voices])  # none only if all say none
    heard = np.any([voice.heard for voice in voices], axis=0)
    believed = np.nan_to_num(_middle(some)[0])
    return Chart(codebook, voices, np.where(heard, believed, trained), believed, enough)


def _voice(known: Mapping[int, Summary], most: Floats) -> Voice:
    heard, records = np.zeros(len(most), np.bool_), np.zeros(len(most))
    for cell, summary in known.items():
        heard[cell], records[cell] = True, min(summary.records, most[cell])
    stems = [(one.cell, one.stems, np.ones(len(one.stems), np.uint32)) for one in known.values()]
    return Voice(known, heard, records, _table(stems), _table([(one.cell, one.facets, one.counts) for one in known.values()]))


def _table(parts: Sequence[tuple[int, Names, Counts]]) -> _Table:
    if not parts:
        return _Table(np.zeros(0, np.uint32), np.zeros(0, np.int32), np.zeros(0, np.uint32))
    names = np.concatenate([names for _, names, _ in parts])
    cells = np.repeat(np.array([cell for cell, _, _ in parts], np.int32), [len(names) for _, names, _ in parts])
    counts = np.concatenate([counts for _, _, counts in parts])
    order = np.argsort(names, kind="stable")
    return _Table(names[order], cells[order], counts[order])
