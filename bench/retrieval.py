"""How well agents are found, on frozen questions over the real cards; `mesh bench discovery` reports it.

Quality is the mean reciprocal rank of the first right card among the first ten (MRR@10) on the frozen questions of
`tests/directory/questions.jsonl`, beside rankings that anybody could build. The bar is on the better of two, both over name and
description: BM25 (k1 1.2, b .75), and the sentence model alone. Two stricter ones are shown besides: BM25 over our stems, and the
sentence model on the text that our records are made of. The ratio's interval is a paired bootstrap over the questions.
"""

import json
import math
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meshos.errors import BadInput
from meshos.node.runtime.embedding.minilm import MiniLM
from meshos.protocols.directory.limits import DESCRIPTION_CHARS
from meshos.protocols.directory.profile import Profile
from meshos.storage.index.index import Index
from meshos.storage.index.question import ask, spelled
from meshos.storage.index.segment import Document
from meshos.storage.index.words import stem, words

TOP = 10
RESAMPLES = 10_000
BAR = 1.08

LABELS = {
    "ours": "words, meaning and pieces",
    "bm25": "BM25",
    "bm25_stems": "BM25 over stems",
    "minilm": "MiniLM alone",
    "minilm_our_text": "MiniLM on our own text",
}

BAR_AGAINST = ("bm25", "minilm")

Floats = NDArray[np.float64]
Ranker = Callable[[str], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Question:
    """A frozen question, and the names of the cards that answer it."""

    text: str
    style: str
    relevant: frozenset[str]


def checkout() -> Path:
    """The folder that holds the tests, and with them the questions."""
    return Path(__file__).resolve().parents[1]


def data_folder() -> Path | None:
    """Where the real cards lie: `MESHOS_DATA`, or `../shared/data` beside the checkout; None if nowhere."""
    named = os.environ.get("MESHOS_DATA")
    folder = Path(named) if named else checkout().parent / "shared" / "data"
    return folder if (folder / "agents" / "servers.jsonl").is_file() else None


def read_cards(folder: Path) -> dict[str, str]:
    """Name and description of every card; the first of a name counts."""
    cards: dict[str, str] = {}
    with (folder / "agents" / "servers.jsonl").open(encoding="utf-8") as file:
        for line in file:
            entry = json.loads(line)
            cards.setdefault(entry["name"], entry["description"])
    return cards


def read_tools(folder: Path) -> dict[str, str]:
    """Name and description of every tool, by its package, three of which are longer than a record takes; the first of a name counts."""
    tools: dict[str, str] = {}
    with (folder / "agents" / "tools.jsonl").open(encoding="utf-8") as file:
        for line in file:
            entry = json.loads(line)
            tools.setdefault(f"{entry['package']}/{entry['tool']}", entry["description"][:DESCRIPTION_CHARS])
    return tools


def tools() -> dict[str, str]:
    """Those of the real tools; nothing where they are not to be found (``material`` says so)."""
    folder = data_folder()
    return {} if folder is None else read_tools(folder)


def read_questions(path: Path) -> list[Question]:
    """The frozen questions."""
    lines = path.read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    return [Question(entry["question"], entry["style"], frozenset(entry["relevant"])) for entry in entries]


def reciprocal_ranks(questions: Sequence[Question], rank: Ranker) -> Floats:
    """For each question 1 / the place of the first right card, 0 if it is not among the first ten."""
    found = []
    for question in questions:
        places = [place for place, name in enumerate(rank(question.text)[:TOP], 1) if name in question.relevant]
        found.append(1 / places[0] if places else 0.0)
    return np.array(found)


def bm25(cards: dict[str, str], split: Callable[[str], list[str]], k1: float = 1.2, b: float = 0.75) -> Ranker:
    """BM25 by the book (Robertson and Zaragoza 2009), written apart from the index that it is compared with."""
    names = list(cards)
    counts = [Counter(split(f"{name} {text}")) for name, text in cards.items()]
    lengths = np.array([count.total() for count in counts])
    norm = k1 * (1 - b + b * lengths / lengths.mean())
    holders: dict[str, list[int]] = {}
    for row, count in enumerate(counts):
        for word in count:
            holders.setdefault(word, []).append(row)

    def rank(question: str) -> list[str]:
        scores = np.zeros(len(names))
        for word in set(split(question)) & holders.keys():
            rows = np.array(holders[word])
            often = np.array([counts[row][word] for row in rows])
            rarity = math.log(1 + (len(names) - len(rows) + 0.5) / (len(rows) + 0.5))
            scores[rows] += rarity * often * (k1 + 1) / (often + norm[rows])
        return [names[row] for row in np.argsort(-scores, kind="stable")[:TOP]]

    return rank


def interval(ours: Floats, theirs: Floats, seed: int = 1) -> tuple[float, float]:
    """The 95 % interval of the ratio of two means over the same questions (paired bootstrap, Efron 1979)."""
    random = np.random.default_rng(seed)
    picks = random.integers(0, len(ours), (RESAMPLES, len(ours)))
    ratios = ours[picks].mean(axis=1) / np.maximum(theirs[picks].mean(axis=1), 1e-9)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Quality:
    """MRR@10 by the rankings of LABELS; ``ratios`` has ours over each of the others, and the ends of its 95 % interval."""

    questions: int
    cards: int
    mrr: dict[str, float]
    by_style: dict[str, dict[str, float]]
    ratios: dict[str, tuple[float, float, float]]

    def better(self) -> str:
        """The better of the two that the bar is on."""
        return max(BAR_AGAINST, key=lambda name: self.mrr[name])

    def met(self) -> bool:
        """Whether ours is BAR times the better of the two, and surely better than it."""
        ratio, low, _ = self.ratios[self.better()]
        return ratio >= BAR and low > 1


def quality(
    cards: dict[str, str], questions: Sequence[Question], model: MiniLM, index: Index, vectors: dict[str, NDArray[np.float32]]
) -> Quality:
    """Rank the cards for every question in all ways."""
    names = list(cards)
    snapshot = index.snapshot()

    def ours(question: str) -> list[str]:
        mended = spelled(question, model.knows, snapshot)
        return [hit.key for hit in snapshot.search(ask(mended, model.read([mended])[0], snapshot), TOP)]

    def meaning(dense: NDArray[np.float32]) -> Ranker:
        return lambda question: [names[row] for row in np.argsort(-(dense @ model.embed([question])[0]), kind="stable")[:TOP]]

    ranks = {
        "ours": reciprocal_ranks(questions, ours),
        "bm25": reciprocal_ranks(questions, bm25(cards, lambda text: re.findall(r"\w+", text.lower()))),
        "bm25_stems": reciprocal_ranks(questions, bm25(cards, lambda text: [stem(word) for word in words(text)])),
        "minilm": reciprocal_ranks(questions, meaning(vectors["name first"])),
        "minilm_our_text": reciprocal_ranks(questions, meaning(vectors["ours"])),
    }
    styles = {style: np.array([question.style == style for question in questions]) for style in sorted({one.style for one in questions})}
    return Quality(
        questions=len(questions),
        cards=len(cards),
        mrr={name: float(values.mean()) for name, values in ranks.items()},
        by_style={style: {name: float(values[at].mean()) for name, values in ranks.items()} for style, at in styles.items()},
        ratios={name: _ratio(ranks["ours"], theirs) for name, theirs in ranks.items() if name != "ours"},
    )


def _ratio(ours: Floats, theirs: Floats) -> tuple[float, float, float]:
    """The ratio of the means, and the ends of its interval."""
    return float(ours.mean() / max(theirs.mean(), 1e-9)), *interval(ours, theirs)


def times_ms(questions: Sequence[Question], model: MiniLM, index: Index) -> tuple[list[float], list[float]]:
    """Milliseconds of the sentence model, and from each question to its ranking with it, one question at a time."""
    snapshot = index.snapshot()
    read, ranked = [], []
    for question in questions:
        start = time.perf_counter()
        mended = spelled(question.text, model.knows, snapshot)
        began = time.perf_counter()
        vectors = model.read([mended])[0]
        read.append(1e3 * (time.perf_counter() - began))
        snapshot.search(ask(mended, vectors, snapshot), TOP)
        ranked.append(1e3 * (time.perf_counter() - start))
    return read, ranked


@dataclass(frozen=True, slots=True)
class Material:
    """The real cards, by name, and the frozen questions."""

    cards: dict[str, str]
    questions: list[Question]


def material() -> Material:
    """Raises BadInput ``no-cards`` where the real cards or the questions are not to be found."""
    folder = data_folder()
    frozen = checkout() / "tests" / "directory" / "questions.jsonl"
    if folder is None or not frozen.is_file():
        raise BadInput(
            "no-cards",
            "the real cards (agents/servers.jsonl) or the frozen questions (tests/directory/questions.jsonl) are not here",
            hint="run it in a checkout, and set MESHOS_DATA to the folder that holds agents/",
        )
    return Material(read_cards(folder), read_questions(frozen))


@dataclass(frozen=True, slots=True)
class Found:
    """All figures of one run."""

    quality: Quality
    embedding_ms: float
    """Of one card."""
    read_ms: list[float]
    """Of the sentence model, for each question."""
    times_ms: list[float]


def measure(given: Material) -> Found:
    """Embed all cards, index them, ask all questions."""
    cards, questions = given.cards, given.questions
    model = MiniLM()
    start = time.perf_counter()
    texts = [Profile(name, text).text() for name, text in cards.items()]
    read = model.read(texts)
    embedding_ms = 1e3 * (time.perf_counter() - start) / len(cards)
    index = Index()
    index.update([Document(name, text, one.vector, None, one.signs()) for name, text, one in zip(cards, texts, read, strict=True)])
    vectors = {
        "ours": np.stack([one.vector for one in read]),
        "name first": model.embed([f"{name}. {text}" for name, text in cards.items()]),
    }
    times_ms(questions[:20], model, index)
    return Found(quality(cards, questions, model, index, vectors), embedding_ms, *times_ms(questions, model, index))
