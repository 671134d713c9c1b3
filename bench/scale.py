"""How long a search takes among 100,000 and among a million records, over sixteen holders that each have some of the cells.

All holders are in this process, so what is timed is all the work there is: choosing cells, choosing a holder for each, each holder's own
search, and merging what they find. On a network holders work side by side, but answers travel, which ``mesh bench discovery`` times.
Not in the figure is the sentence model's reading of the question.

Records are made of the real cards: each takes a card's text and pieces, and a vector whose cosine with the card's is ``COSINE``, by noise
from a seed. So each card has near copies that a question finds together, more of them the more records there are.
"""

import ctypes
import gc
import os
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from meshos.bench.cells import SEED, TOP, as_asked, material
from meshos.bench.machine import rss_mib
from meshos.bench.report import Report, Row, percentile, row
from meshos.node.runtime.embedding.minilm import MODEL, MiniLM
from meshos.protocols.directory.cells.codebook import Codebook, whole_numbers
from meshos.protocols.directory.cells.routing import Chart, Route, chart
from meshos.protocols.directory.cells.summary import Summary, encode, summarise
from meshos.protocols.directory.cells.training import train
from meshos.protocols.directory.vector import DENSE, Vector, whole_bytes
from meshos.storage.index.facets import Condition
from meshos.storage.index.index import Hit, Index
from meshos.storage.index.pieces import Reading
from meshos.storage.index.question import Question
from meshos.storage.index.segment import Document

HOLDERS = 16
COSINE = 0.9
BATCH = 1_000
"""Records that a holder takes in at once."""
STRIDE = 5
"""From a cell's holder to the next: prime to their number, so that three are three."""
CHUNK = 50_000
"""Records whose vectors are made at once."""
THREADS = 2
ROUNDS = 3
"""How often each question is asked."""

Dense = NDArray[np.float16]
Pick = dict[int, tuple[int, ...]]
"""The cells that each holder is asked for."""


@dataclass(frozen=True, slots=True)
class Size:
    """So many ``records``, each cell at so many holders (``copies``), and the bar on the 95th percentile of a search."""

    records: int
    copies: int
    bar_ms: float


SIZES = (Size(100_000, 3, 30.0), Size(1_000_000, 1, 60.0))
SHORT = Size(3_000, 3, 30.0)

assert all(size.copies <= HOLDERS for size in (*SIZES, SHORT))


@dataclass(frozen=True, slots=True)
class Cards:
    """The real cards that records are made of: ``read`` is what the sentence model makes of each of ``texts``."""

    names: list[str]
    texts: list[str]
    read: list[Reading]


@dataclass(frozen=True, slots=True)
class Mesh:
    """The holders' indexes, and what an asker knows: the ``chart``, and the holders of each cell."""

    size: Size
    indexes: list[Index]
    chart: Chart
    holders: list[tuple[int, ...]]


def measure(report: Report, *, short: bool) -> None:
    """100,000 records thrice, then a million once; a short run has few records, and no bar."""
    names, texts, asked = material(short)
    model = MiniLM()
    cards = Cards(names, texts, model.read(texts))
    codebook: Codebook | None = None
    for size in (SHORT,) if short else SIZES:
        dense = _vectors(cards, size.records)
        if codebook is None:  # that of a million would have as many cells, and be trained on as many
            began = time.perf_counter()
            vectors = dense.astype(np.float32)
            codebook = train(1, MODEL, vectors, [texts[row % len(texts)] for row in range(size.records)], SEED)
            report.rows.append(Row(f"training on {size.records:,} records, {codebook.cells} cells", time.perf_counter() - began, "s"))
            del vectors
        questions = [as_asked(question, model, codebook) for question in asked]
        mesh = _built(cards, dense, codebook, size, report)
        del dense
        _searches(mesh, questions, report, short=short)
        del mesh
    report.notes += [
        f"questions are the {len(asked)} frozen ones; reading one with the sentence model, some 10 ms, is not part of a search",
        f"all {HOLDERS} holders are in this process; bytes of a record are those that the process grew by in memory, indexes alone",
    ]


def _vectors(cards: Cards, records: int) -> Dense:
    """The vectors of so many records, as they are signed: record r has that of card r modulo their number, with noise."""
    real = np.stack([one.vector for one in cards.read])
    dense = np.empty((records, DENSE), np.float16)
    for number, start in enumerate(range(0, records, CHUNK)):
        rows = np.arange(start, min(records, start + CHUNK))
        base = real[rows % len(real)]
        noise = np.random.default_rng((SEED, number)).standard_normal(base.shape, np.float32)
        noise -= base * (noise * base).sum(axis=1, keepdims=True)
        noise *= np.float32((1 - COSINE**2) ** 0.5) / np.linalg.norm(noise, axis=1, keepdims=True)
        dense[rows] = np.float32(COSINE) * base + noise
    return dense


def _built(cards: Cards, dense: Dense, codebook: Codebook, size: Size, report: Report) -> Mesh:
    """Place the records, and have every holder take in those of its cells."""
    what = f"{size.records:,} records"
    began = time.perf_counter()
    homes = _placed(codebook, dense)
    report.rows.append(Row(f"placing {what}", time.perf_counter() - began, "s"))
    known = _summaries(cards, homes, codebook)
    holders = [_holders_of(cell, size.copies) for cell in range(codebook.cells)]
    held = [np.array([holder in some for some in holders], np.bool_) for holder in range(HOLDERS)]
    _give_back()
    before, began = _rss(), time.perf_counter()
    indexes = [_index(cards, dense, homes, np.flatnonzero(mine[homes])) for mine in held]
    built_s = time.perf_counter() - began
    grown = _rss() - before
    _give_back()
    kept = _rss() - before
    copies = size.records * size.copies
    sizes = np.bincount(homes, minlength=codebook.cells)
    report.rows += [
        Row(f"building the indexes, {what} at {size.copies} holders each", built_s, "s"),
        Row("records that all holders take in, a second", copies / built_s, ""),
        Row("bytes a record at a holder", kept / copies, "B", note=f"{grown / copies:.0f} with what the allocator has free after building"),
        Row("all summaries of cells", sum(len(encode(summary)) for summary in known.values()) / 1024, "KiB"),
        row("records of a cell", [float(count) for count in sizes], "", note=f"{sizes.max():,} in the largest"),
    ]
    return Mesh(size, indexes, chart(codebook, known), holders)


def _placed(codebook: Codebook, dense: Dense) -> NDArray[np.int32]:
    def place(start: int) -> NDArray[np.int32]:
        return codebook.place(whole_numbers([whole_bytes(dense[start : start + CHUNK].tobytes())]))

    with ThreadPoolExecutor(THREADS) as pool:
        return np.concatenate([*pool.map(place, range(0, len(dense), CHUNK))])


def _summaries(cards: Cards, homes: NDArray[np.int32], codebook: Codebook) -> dict[int, Summary]:
    """The summary of each cell. A card's near copies have its words, so each card that a cell has is read once."""
    nothing = np.zeros(DENSE, np.float32)
    pairs = np.unique(homes.astype(np.int64) * len(cards.texts) + np.arange(len(homes)) % len(cards.texts))
    cells, rows = np.divmod(pairs, len(cards.texts))
    known: dict[int, Summary] = {}
    for cell, records in enumerate(np.bincount(homes, minlength=codebook.cells).tolist()):
        some = rows[np.searchsorted(cells, cell) : np.searchsorted(cells, cell + 1)]
        summary = summarise(cell, [Document("", cards.texts[at], nothing) for at in some], codebook.vocabulary)
        known[cell] = replace(summary, records=records, costs=(records, *summary.costs[1:]))
    return known


def _holders_of(cell: int, copies: int) -> tuple[int, ...]:
    first = zlib.crc32(b"%d" % cell)
    return tuple((first + STRIDE * copy) % HOLDERS for copy in range(copies))


def _index(cards: Cards, dense: Dense, homes: NDArray[np.int32], rows: NDArray[np.intp]) -> Index:
    index = Index()
    signs = [one.signs() for one in cards.read]
    for start in range(0, len(rows), BATCH):
        index.update([_document(cards, signs, dense, homes, int(at)) for at in rows[start : start + BATCH]])
    return index


def _document(cards: Cards, signs: Sequence[bytes], dense: Dense, homes: NDArray[np.int32], at: int) -> Document:
    """The record with a vector and pieces of its own, as one has that comes over a network."""
    card = at % len(cards.texts)
    vector: Vector = dense[at].astype(np.float32)
    vector /= np.linalg.norm(vector)
    pieces = bytes(bytearray(signs[card]))
    return Document(f"{cards.names[card]}/{at}", cards.texts[card], vector, None, pieces, cells=(int(homes[at]),))


def _give_back() -> None:
    """What is free in this process goes back to the system, where the C library can (glibc)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _rss() -> float:
    return rss_mib(os.getpid()) * 2**20


def _searches(mesh: Mesh, questions: Sequence[Question], report: Report, *, short: bool) -> None:
    """One holder after another, and in a few threads: the better of the two is held to the bar."""
    picks = [_spread(mesh.chart.route(question), mesh.holders) for question in questions]
    with ThreadPoolExecutor(THREADS) as pool:
        ways: dict[str, Callable[[Question], list[Hit]]] = {
            "one holder after another": lambda question: _search(mesh, question, map),
            f"holders in {THREADS} threads": lambda question: _search(mesh, question, pool.map),
        }
        times = {way: _times_ms(search, questions) for way, search in ways.items()}
    best = min(times, key=lambda way: percentile(times[way], 0.95))
    bar = mesh.size.bar_ms
    report.rows.append(
        row(
            f"a search among {mesh.size.records:,} records",
            times[best],
            "ms",
            bar=f"p95 <= {bar:g} ms",
            met=None if short else percentile(times[best], 0.95) <= bar,
            note=f"{best}, the better of two ways",
        )
    )
    report.rows += [row(f"the same, {way}", times[way], "ms") for way in times if way != best]
    report.rows += [
        row("one holder's part of it", _parts_ms(mesh, questions, picks), "ms"),
        row(f"cells asked, of {len(mesh.holders)}", [float(sum(map(len, pick.values()))) for pick in picks], ""),
        row(f"holders asked, of {HOLDERS}", [float(len(pick)) for pick in picks], ""),
    ]
    if mesh.size.copies > 1:  # the smaller one: a million are searched in full no faster than is bearable
        recall = _recall(mesh, questions)
        report.rows.append(Row("recall@10 against asking for all cells", float(np.mean(recall)), "", count=len(recall)))


def _spread(route: Route, holders: Sequence[tuple[int, ...]]) -> Pick:
    """For each cell one holder: of those that have it the one that is asked for the fewest so far."""
    asked: dict[int, list[int]] = {}
    for cell in route.cells:
        asked.setdefault(min(holders[cell], key=lambda holder: len(asked.get(holder, ()))), []).append(cell)
    return {holder: tuple(cells) for holder, cells in asked.items()}


Mapping = Callable[[Callable[[tuple[int, tuple[int, ...]]], list[Hit]], Iterable[tuple[int, tuple[int, ...]]]], Iterable[list[Hit]]]


def _search(mesh: Mesh, question: Question, mapped: Mapping) -> list[Hit]:
    return _merged(mesh, question, _spread(mesh.chart.route(question), mesh.holders), mapped)


def _merged(mesh: Mesh, question: Question, pick: Pick, mapped: Mapping) -> list[Hit]:
    """The ten best of what all holders find in the cells that each is asked for."""

    def ask(one: tuple[int, tuple[int, ...]]) -> list[Hit]:
        holder, cells = one
        return mesh.indexes[holder].snapshot().search(question, TOP, condition=Condition(cells=cells))

    hits = [hit for found in mapped(ask, pick.items()) for hit in found]
    return sorted(hits, key=lambda hit: -hit.score)[:TOP]


def _times_ms(search: Callable[[Question], list[Hit]], questions: Sequence[Question]) -> list[float]:
    taken = []
    for question in questions[:20]:
        search(question)
    for question in [*questions] * ROUNDS:
        began = time.perf_counter()
        search(question)
        taken.append(1e3 * (time.perf_counter() - began))
    return taken


def _parts_ms(mesh: Mesh, questions: Sequence[Question], picks: Sequence[Pick]) -> list[float]:
    taken = []
    for question, pick in zip(questions, picks, strict=True):
        for holder, cells in pick.items():
            began = time.perf_counter()
            mesh.indexes[holder].snapshot().search(question, TOP, condition=Condition(cells=cells))
            taken.append(1e3 * (time.perf_counter() - began))
    return taken


def _recall(mesh: Mesh, questions: Sequence[Question]) -> list[float]:
    """Of the ten best among all cells, the share that is found in those that a question is sent to."""
    everywhere = _spread(Route(tuple(range(len(mesh.holders))), mesh.size.records, len(mesh.holders)), mesh.holders)
    found = []
    for question in questions:
        exact = {hit.key for hit in _merged(mesh, question, everywhere, map)}
        found.append(len(exact & {hit.key for hit in _search(mesh, question, map)}) / len(exact))
    return found
