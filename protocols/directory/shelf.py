"""The index of the directory: changes are laid down on the event loop, taken in by worker threads, searched by worker threads.

``changed`` costs a microsecond. Whoever searches takes in first what lies there, so that an answer never misses what was held when the
question came; the keeping Flow does it too, so that the first question after a thousand changes does not pay for them.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from meshos.protocols.directory.commands import IndexChanged
from meshos.protocols.directory.embedder import Embedder
from meshos.protocols.directory.facets import ORG, facets_of, named
from meshos.protocols.directory.record import AgentRecord, Sealed
from meshos.protocols.directory.vector import DENSE, Vector, whole_bytes
from meshos.storage.index.apart import Apart, apart
from meshos.storage.index.facets import ANYTHING, Condition, Fulfilling
from meshos.storage.index.index import Hit, Index, scored
from meshos.storage.index.question import Question, Statistics, ask, resembling, spelled
from meshos.storage.index.segment import Document


@dataclass(frozen=True, slots=True)
class Match:
    """A record that fits: how well (0..1), how near in meaning (0..1), the words of the question that it has, and how many near-equal ones
    of its organisation were left out ``behind`` it."""

    sealed: Sealed
    record: AgentRecord
    score: float
    meaning: float
    words: tuple[str, ...]
    behind: int = 0


class Shelf:
    """See the module's text."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._index = Index()
        self._guard = threading.Lock()
        self._taking = threading.Lock()
        self._waiting: dict[str, tuple[Sealed | None, int] | None] = {}
        self.searches = 0

    def changed(self, change: IndexChanged) -> None:
        """The handler of the effect ``IndexChanged``."""
        with self._guard:
            self._waiting.update(dict.fromkeys(change.drop))
            for sealed, home in zip(change.put, change.homes, strict=True):
                self._waiting[sealed.entry.agent_id] = sealed, home
            for agent, home in change.moved:
                waits = self._waiting.get(agent)
                self._waiting[agent] = None if waits is None else waits[0], home

    def behind(self) -> bool:
        """Whether something waits to be taken in."""
        return bool(self._waiting)

    def catch_up(self) -> None:
        """Take in all that waits (a worker thread; 0.2 ms a record)."""
        with self._taking:
            with self._guard:
                waiting, self._waiting = self._waiting, {}
            if waiting:
                changed = {key: (one[0] or self._index.tag(key), one[1]) for key, one in waiting.items() if one is not None}
                put = [_document(key, tag, home) for key, (tag, home) in changed.items() if tag is not None]
                self._index.update(put, [key for key, one in waiting.items() if one is None])

    def search(
        self,
        asked: str | AgentRecord | Question,
        limit: int,
        keep: Callable[[AgentRecord], bool] | None,
        condition: Condition = ANYTHING,
        *,
        collapse: bool = False,
        not_by: frozenset[str] = frozenset(),
    ) -> list[Match]:
        """The best records for a question (read already, or not), or those most like a record, of all that fulfil ``condition`` and that
        ``keep`` accepts, if none of the nodes ``not_by`` has signed them. ``collapse``: of near-equal ones of an organisation only a few.

        For a worker thread: the model's 10 ms, which a record does not need, and some 3. Raises Failed ``model-missing``.
        """
        self.searches += 1
        self.catch_up()
        snapshot = self._index.snapshot()
        accepts = None if keep is None and not not_by else lambda tag: _signer(tag) not in not_by and (keep is None or keep(_record(tag)))
        hits = snapshot.search(self.question(asked, snapshot), limit, accepts, condition, _owner if collapse else None)
        return [_match(hit) for hit in hits]

    def fulfilling(self, keep: Callable[[AgentRecord], bool] | None, condition: Condition = ANYTHING) -> Fulfilling:
        """All records that fulfil ``condition`` and that ``keep`` accepts (a worker thread)."""
        self.catch_up()
        found = self._index.snapshot().fulfilling(condition)
        return found if keep is None else found.where(lambda tag: keep(_record(tag)))

    def question(
        self, asked: str | AgentRecord | Question, statistics: Statistics, known: Callable[[str], bool] = lambda _: False
    ) -> Question:
        """What is asked, its words weighed by ``statistics`` (a worker thread); one that is ``known`` is no misspelt one."""
        if isinstance(asked, Question):
            return asked
        if isinstance(asked, AgentRecord):
            return resembling(asked.profile.text(), asked.meaning(), asked.pieces, statistics)
        mended = spelled(asked, lambda word: self._embedder.knows(word) or known(word), statistics)
        return ask(mended, self._embedder.read([mended])[0], statistics)

    def statistics(self) -> Statistics:
        """By what words are weighed where this node holds all (a worker thread)."""
        self.catch_up()
        return self._index.snapshot()

    def apart(self, question: Question, record: AgentRecord) -> Apart:
        """What the score of a record for a question is made of, wherever it is held (a worker thread; a millisecond)."""
        return apart(_described(record.agent_id, record, None, 0), question)

    def fulfils(self, sealed: Sealed, condition: Condition) -> bool:
        """Whether a record fulfils ``condition``, wherever it is held (a worker thread; a millisecond)."""
        index = Index()
        index.update([_document(sealed.entry.agent_id, sealed, 0)])
        return len(index.snapshot().fulfilling(condition)) == 1

    def lying_in(self, cells: Sequence[int]) -> list[list[Document]]:
        """What can be found in each of these cells, to summarise it (a worker thread; .1 ms a record)."""
        self.catch_up()
        snapshot = self._index.snapshot()
        return [[_document(_record(tag).agent_id, tag, cell) for tag in snapshot.fulfilling(Condition((cell,))).tags()] for cell in cells]

    def everything(self) -> tuple[Vector, list[str], list[bytes]]:
        """The vectors of all that can be found, a row each, their texts, and the whole numbers that place them (a worker thread)."""
        self.catch_up()
        records = [_record(tag) for tag in self._index.snapshot().fulfilling().tags()]
        vectors = np.stack([record.meaning() for record in records]) if records else np.zeros((0, DENSE), np.float32)
        return vectors, [record.profile.text() for record in records], [whole_bytes(record.dense) for record in records]

    def size(self) -> int:
        """How many records can be found."""
        return self._index.snapshot().size


def matching(records: Sequence[Sealed], question: Question, condition: Condition) -> list[Match]:
    """Those of ``records`` that fulfil ``condition``, scored as any index would (a worker thread; .3 ms a record)."""
    index = Index()
    index.update([_document(sealed.entry.agent_id, sealed, 0) for sealed in records])
    return [_match(hit) for hit in index.snapshot().search(question, len(records), condition=condition)]


def candidacy(sealed: Sealed, question: Question) -> float:
    """By what a record is chosen, or not, to be compared piece by piece, wherever it is held (a worker thread; a millisecond)."""
    index = Index()
    index.update([_document(sealed.entry.agent_id, sealed, 0)])
    (part,) = index.snapshot().parts
    return float(scored(index.snapshot().candidates(question, part))[0])


def _document(key: str, tag: object, home: int) -> Document:
    return _described(key, _record(tag), tag, home)


def _described(key: str, record: AgentRecord, tag: object, home: int) -> Document:
    facets, cost = facets_of(record), record.profile.per_query
    return Document(key, record.profile.text(), record.meaning(), tag, record.pieces, facets, cost, (home,))


def _record(tag: object) -> AgentRecord:
    assert isinstance(tag, Sealed) and isinstance(tag.entry, AgentRecord)
    return tag.entry


def _signer(tag: object) -> str:
    assert isinstance(tag, Sealed)
    return tag.signer


def _owner(tag: object) -> str:
    """The facet that the records of an organisation share."""
    return named(ORG, (_record(tag).mesh_id,))[0]


def _match(hit: Hit) -> Match:
    assert isinstance(hit.tag, Sealed)
    return Match(hit.tag, _record(hit.tag), hit.score, hit.meaning, hit.words, hit.behind)
