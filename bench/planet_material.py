"""What ``mesh bench planet`` works with: the real cards as records of fifty organisations, the frozen questions, and real distances."""

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshos.bench import retrieval
from meshos.errors import BadInput
from meshos.ids import AgentId, NodeId
from meshos.node.runtime.embedding.minilm import MODEL, MiniLM
from meshos.protocols.directory.cells.codebook import Codebook
from meshos.protocols.directory.cells.layout import Layout
from meshos.protocols.directory.cells.query import rounded
from meshos.protocols.directory.cells.routing import chart
from meshos.protocols.directory.cells.summary import Summary, summarise
from meshos.protocols.directory.cells.training import train
from meshos.protocols.directory.facets import facets_of
from meshos.protocols.directory.limits import DESCRIPTION_CHARS
from meshos.protocols.directory.profile import Profile
from meshos.protocols.directory.record import AgentRecord, Sealed, described
from meshos.simulations.directory.mesh import Laid, node_name, org_name, signed
from meshos.simulations.directory.readings import Readings
from meshos.storage.index.index import Index
from meshos.storage.index.question import ask, spelled
from meshos.storage.index.segment import Document
from meshos.storage.index.words import words

TOP = 10
OWNERS = 50
SHORT_RECORDS, SHORT_QUESTIONS = 400, 24
PUBLISHED_MS = 1_700_000_000_000
OLD_PRICE, PRICE = 10, 20
"""What every agent cost in its first version, and costs now."""
WIDEST_S = 30.0
"""No way of the matrix is longer; a larger number would be in another unit."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ways:
    """How far nodes are from one another: the site of each, and seconds there and back between sites."""

    rtt_s: Floats
    site_of: dict[NodeId, int]

    def way_s(self, source: NodeId, target: NodeId) -> float:
        """One way."""
        return float(self.rtt_s[self.site_of[source], self.site_of[target]]) / 2


@dataclass(frozen=True, slots=True)
class Material:
    """``exact`` has for each question the newest versions of its ten best, in one ranking over all records, by their digests; ``former``
    each agent's first version, which is out of date."""

    laid: list[Laid]
    former: dict[AgentId, Sealed]
    codebook: Codebook
    summaries: list[Summary]
    readings: Readings
    questions: list[str]
    exact: list[frozenset[bytes]]


def ways(nodes: int, seed: int) -> Ways:
    """Each node at a random site of PlanetLab's matrix; two at one site have no distance. Raises BadInput ``no-cards`` without it."""
    folder = retrieval.data_folder()
    file = None if folder is None else folder / "latency" / "PlanetLabData_1"
    if file is None or not file.is_file():
        raise BadInput("no-cards", "the round-trip times (latency/PlanetLabData_1) are not here", hint="set MESHOS_DATA to their folder")
    rtt_s = np.loadtxt(file) / 1000
    assert rtt_s.ndim == 2 and rtt_s.shape[0] == rtt_s.shape[1] and (rtt_s >= 0).all() and rtt_s.max() < WIDEST_S
    dice = random.Random(f"{seed}/sites")
    return Ways(rtt_s, {node_name(number): dice.randrange(len(rtt_s)) for number in range(nodes)})


def material(seed: int, nodes: int, *, short: bool) -> Material:
    """Read, embed, sign and rank everything; half a minute for all cards."""
    given, folder = retrieval.material(), retrieval.data_folder()
    assert folder is not None
    cards = {**retrieval.read_tools(folder), **given.cards}
    names = list(cards)[:: len(cards) // SHORT_RECORDS] if short else list(cards)
    questions = [one.text for one in given.questions][:: len(given.questions) // SHORT_QUESTIONS if short else 1]
    model = MiniLM()
    profiles = [Profile(name, cards[name][:DESCRIPTION_CHARS], per_query=PRICE) for name in names]
    texts = [profile.text() for profile in profiles]
    read = model.read(texts)
    codebook = train(1, MODEL, np.stack([one.vector for one in read]), texts, seed)
    owners = min(OWNERS, nodes)
    records, former = list[Sealed](), dict[AgentId, Sealed]()
    for at, (profile, reading) in enumerate(zip(profiles, read, strict=True)):
        owner = at % owners
        old = described(org_name(owner), dataclasses.replace(profile, per_query=OLD_PRICE), 1, PUBLISHED_MS, MODEL, reading)
        former[old.agent_id] = signed(old, node_name(owner))
        records.append(signed(described(org_name(owner), profile, 2, PUBLISHED_MS, MODEL, reading), node_name(owner)))
    documents, summaries, laid = _placed(records, codebook)
    told = chart(codebook, dict(enumerate(summaries)))
    mended = [spelled(text, lambda word: model.knows(word) or told.has(word), codebook.vocabulary) for text in questions]
    bare = [spelled(text, model.knows, codebook.vocabulary) for text in questions]  # who has heard of few cells corrects more
    asked = list(dict.fromkeys((*questions, *mended, *bare)))
    known = {**dict(zip(texts, read, strict=True)), **dict(zip(asked, model.read(asked), strict=True))}
    readings = Readings(MODEL, known, frozenset(word for text in questions for word in words(text) if model.knows(word)))
    return Material(laid, former, codebook, summaries, readings, questions, _exact(documents, mended, readings, codebook))


def _placed(records: Sequence[Sealed], codebook: Codebook) -> tuple[list[Document], list[Summary], list[Laid]]:
    """Each record in its one cell and in the place of its id: none of them has former vectors, as only the price has changed."""
    layout = Layout(node_name(0), b"", codebook)
    places = layout.places_of([sealed.entry for sealed in records])
    documents = [_document(sealed, there[0]) for sealed, there in zip(records, places, strict=True)]
    held: list[list[Document]] = [[] for _ in range(codebook.cells)]
    for document in documents:
        held[document.cells[0]].append(document)
    summaries = [summarise(cell, some, codebook.vocabulary) for cell, some in enumerate(held)]
    return documents, summaries, [Laid(sealed, there) for sealed, there in zip(records, places, strict=True)]


def _document(sealed: Sealed, home: int) -> Document:
    record = sealed.entry
    assert isinstance(record, AgentRecord)
    facets, cost = facets_of(record), record.profile.per_query
    return Document(
        record.agent_id,
        record.profile.text(),
        record.meaning(),
        sealed,
        record.pieces,
        facets,
        cost,
        (home,),
    )


def _exact(documents: Sequence[Document], mended: Sequence[str], readings: Readings, codebook: Codebook) -> list[frozenset[bytes]]:
    """The ten best of all records, words weighed as every asker weighs them, equal scores in the order that an answer has."""
    index = Index()
    index.update(documents)
    found = []
    for text in mended:
        hits = index.snapshot().search(rounded(ask(text, readings.known[text], codebook.vocabulary)), 2 * TOP)
        best = sorted(hits, key=lambda hit: (-hit.score, hit.key))[:TOP]
        found.append(frozenset(hit.tag.digest for hit in best if isinstance(hit.tag, Sealed)))
    return found
