"""Whether a question finds in a few cells what it would find in all: on the real cards, servers and tools, with the frozen questions.

Everything is exact but the choice of cells: one index holds all records, each labelled with its cell, and a question is asked once of all
and once of the cells that it would be sent to. Recall is the share of the exact ten best that the second answer has. *Scanned* is the
share of all records that the asked cells hold. No network takes part; ``mesh bench discovery`` times that.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from meshos.bench import retrieval
from meshos.bench.report import Report, Row, row
from meshos.errors import BadInput
from meshos.node.runtime.embedding.minilm import MODEL, MiniLM
from meshos.protocols.directory.cells import codebook as codebooks
from meshos.protocols.directory.cells.codebook import Codebook
from meshos.protocols.directory.cells.routing import Chart, chart
from meshos.protocols.directory.cells.summary import encode, summarise
from meshos.protocols.directory.cells.training import sizes_for, train
from meshos.protocols.directory.profile import Profile
from meshos.protocols.directory.vector import whole_bytes
from meshos.storage.index.facets import ANYTHING, Condition
from meshos.storage.index.index import Index, Snapshot
from meshos.storage.index.pieces import Reading
from meshos.storage.index.question import Question, ask, spelled
from meshos.storage.index.segment import Document

TOP = 10
SEED = 20261127
RECALL_BAR, SCANNED_BAR, FILTERED_BAR, BALANCE_BAR = 0.95, 0.20, 0.99, 1.5
SELECTIVITIES = (50, 10, 1)
SIZES = ((64, 16), (128, 16), (512, 4))
"""Cells and points that are measured beside those that ``sizes_for`` chooses."""
SHORT = 600


@dataclass(frozen=True, slots=True)
class Cut:
    """All records in one index, cut into the cells of one codebook."""

    codebook: Codebook
    chart: Chart
    snapshot: Snapshot
    sizes: list[int]
    trained_s: float
    summary_bytes: int


@dataclass(frozen=True, slots=True)
class Asked:
    """For each question: recall of its ten best, the share of records in the asked cells, their number, and how long choosing them took."""

    recall: list[float]
    scanned: list[float]
    cells: list[int]
    routed_ms: list[float]


def measure(report: Report, *, short: bool) -> None:
    """Recall for what is looked at, without and with filters; a short run has few records, so it says nothing of recall."""
    names, texts, questions = material(short)
    model = MiniLM()
    read = model.read(texts)
    cut = _cut(names, texts, read, None)
    asked = [as_asked(question, model, cut.codebook, cut.chart.has) for question in questions]
    found = _ask(cut, asked, ANYTHING)
    balance = max(cut.sizes) / float(np.mean(cut.sizes))
    cells, points = cut.codebook.cells, len(cut.codebook.points)
    recall, scanned = float(np.mean(found.recall)), float(np.mean(found.scanned))
    report.rows += [
        Row(f"recall@10, {cells} cells", recall, "", count=len(asked), bar=f">= {RECALL_BAR:g}", met=_met(recall >= RECALL_BAR, short)),
        row("records scanned for it, share", found.scanned, "", bar=f"mean <= {SCANNED_BAR:g}", met=_met(scanned <= SCANNED_BAR, short)),
        row("cells asked for it", found.cells, ""),
        Row("copies of a record among the cells", 1.0, "", bar="<= 3", met=True),
        Row("largest cell over the mean", balance, "x", bar=f"<= {BALANCE_BAR:g}", met=balance <= BALANCE_BAR),
        Row("recall@10 of as many cells chosen at random", _by_chance(cut, asked, found.cells), "", count=len(asked)),
    ]
    for selectivity in SELECTIVITIES:
        filtered = _ask(cut, asked, Condition(every=((f"pick {selectivity}",),)))
        worth = float(np.mean(filtered.recall))
        report.rows += [
            Row(
                f"recall@10, a filter that {selectivity} % pass",
                worth,
                "",
                count=len(asked),
                bar=f">= {FILTERED_BAR:g}",
                met=_met(worth >= FILTERED_BAR, short),
            ),
            row(f"cells asked for it, of {cells}", filtered.cells, ""),
        ]
    for sizes in () if short else SIZES:
        other = _cut(names, texts, read, sizes)
        of_other = _ask(other, asked, ANYTHING)
        report.rows.append(
            Row(
                f"recall@10, {sizes[0]} cells of {sizes[1]} points",
                float(np.mean(of_other.recall)),
                "",
                note=f"{np.mean(of_other.cells):.0f} cells asked",
            )
        )
    report.rows += [
        row("choosing the cells of a question", found.routed_ms, "ms"),
        Row(f"training on {len(names)} records", cut.trained_s, "s"),
        Row(f"the codebook, {points} points", len(codebooks.encode(cut.codebook)) / 1024, "KiB"),
        Row("all summaries of cells", cut.summary_bytes / 1024, "KiB"),
    ]


def material(short: bool) -> tuple[list[str], list[str], list[str]]:
    """Names and texts of the real cards, and the frozen questions; of few cards in a short run. Raises BadInput ``no-cards``."""
    folder = retrieval.data_folder()
    given = retrieval.material()
    if folder is None:
        raise BadInput("no-cards", "the real cards are not here", hint="set MESHOS_DATA to the folder that holds agents/")
    cards = {**retrieval.read_tools(folder), **given.cards}
    chosen = list(cards)[:: len(cards) // SHORT] if short else list(cards)
    profiles = [Profile(name, cards[name]) for name in chosen]
    return chosen, [profile.text() for profile in profiles], [question.text for question in given.questions]


def _cut(names: Sequence[str], texts: Sequence[str], read: Sequence[Reading], sizes: tuple[int, int] | None) -> Cut:
    began = time.perf_counter()
    codebook = train(1, MODEL, np.stack([one.vector for one in read]), texts, SEED, sizes or sizes_for(len(names)))
    trained_s = time.perf_counter() - began
    homes = codebook.place(codebooks.whole_numbers([whole_bytes(one.vector.astype("<f2").tobytes()) for one in read]))
    random = np.random.default_rng(SEED)
    documents = [
        Document(name, text, one.vector, None, one.signs(), _picks(random), 0, (int(home),))
        for name, text, one, home in zip(names, texts, read, homes, strict=True)
    ]
    index = Index()
    index.update(documents)
    held: list[list[Document]] = [[] for _ in range(codebook.cells)]
    for document in documents:
        held[document.cells[0]].append(document)
    known = {cell: summarise(cell, some, codebook.vocabulary) for cell, some in enumerate(held)}
    size = sum(len(encode(summary)) for summary in known.values())
    return Cut(codebook, chart(codebook, known), index.snapshot(), [len(some) for some in held], trained_s, size)


def _picks(random: np.random.Generator) -> tuple[str, ...]:
    """Facets that so many per cent of the records have, at random."""
    return tuple(f"pick {selectivity}" for selectivity in SELECTIVITIES if random.random() < selectivity / 100)


def as_asked(text: str, model: MiniLM, codebook: Codebook, known: Callable[[str], bool] = lambda _: False) -> Question:
    """A question as it goes to all cells; ``known``: of which words these tell."""
    mended = spelled(text, lambda word: model.knows(word) or known(word), codebook.vocabulary)
    return ask(mended, model.read([mended])[0], codebook.vocabulary)


def _ask(cut: Cut, questions: Sequence[Question], condition: Condition) -> Asked:
    asked = Asked([], [], [], [])
    total = sum(cut.sizes)
    for question in questions:
        began = time.perf_counter()
        route = cut.chart.route(question, condition)
        asked.routed_ms.append(1e3 * (time.perf_counter() - began))
        asked.recall.append(_recall(cut.snapshot, question, condition, route.cells))
        asked.scanned.append(sum(cut.sizes[cell] for cell in route.cells) / total)
        asked.cells.append(len(route.cells))
    return asked


def _recall(snapshot: Snapshot, question: Question, condition: Condition, cells: tuple[int, ...]) -> float:
    exact = {hit.key for hit in snapshot.search(question, TOP, condition=condition)}
    there = Condition(cells, condition.every, condition.none, condition.cost)
    found = {hit.key for hit in snapshot.search(question, TOP, condition=there)}
    return len(exact & found) / len(exact) if exact else 1.0


def _by_chance(cut: Cut, questions: Sequence[Question], counts: Sequence[int]) -> float:
    random = np.random.default_rng(SEED)
    worth = []
    for question, count in zip(questions, counts, strict=True):
        cells = random.choice(cut.codebook.cells, count, replace=False)
        worth.append(_recall(cut.snapshot, question, ANYTHING, tuple(int(cell) for cell in cells)))
    return float(np.mean(worth))


def _met(met: bool, short: bool) -> bool | None:
    return None if short else met
