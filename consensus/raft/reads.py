"""This node's questions, from being asked to being answered from a state that is new enough.

Questions that come together make one group, with one number, for which the leader names an index (``reading.py``). A question changes
nothing, so it may be asked of every new leader again, and always ends as not done.
"""

from dataclasses import dataclass

from meshos.consensus.raft.config import Config
from meshos.consensus.raft.limits import MAX_WAITING_READS
from meshos.consensus.raft.proposals import Asker
from meshos.errors import busy


@dataclass(slots=True)
class Question:
    """What ``asker`` wants to know, and until when."""

    asker: Asker
    question: object
    until: float


@dataclass(slots=True)
class _Asked:
    questions: list[Question]
    sent: int
    again: float


class Reads:
    """Those that wait."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._count = 0
        self._last = 0
        self._gathered: list[Question] = []
        self._asked: dict[int, _Asked] = {}
        self._ready: list[tuple[int, list[Question]]] = []  # (index, …): answered once it is applied

    def __len__(self) -> int:
        return self._count

    def begin(self, now: float, asker: Asker, question: object) -> None:
        """One more; raises Refused ``busy``."""
        if self._count >= MAX_WAITING_READS:
            raise busy("the table of reads that wait")
        self._count += 1
        self._gathered.append(Question(asker, question, now + self._config.proposal_s))

    @property
    def gathered(self) -> bool:
        """Whether some were not asked of anybody yet."""
        return bool(self._gathered)

    def to_ask(self, now: float, term: int) -> list[int]:
        """The numbers of the groups that the leader of ``term`` is to be asked about now."""
        if self._gathered:
            self._last += 1
            self._asked[self._last] = _Asked(self._gathered, 0, 0.0)
            self._gathered = []
        due = [number for number, asked in self._asked.items() if asked.sent != term or asked.again <= now]
        for number in due:
            self._asked[number].sent, self._asked[number].again = term, now + self._config.retry_s
        return due

    def lost(self, numbers: list[int]) -> None:
        """Nobody will say anything about these."""
        for number in numbers:
            if number in self._asked:
                self._asked[number].sent = 0

    def index_known(self, number: int, index: int) -> None:
        """The group ``number`` is answered from ``index`` on."""
        asked = self._asked.pop(number, None)
        if asked is not None:
            self._ready.append((index, asked.questions))

    def ready(self, applied: int) -> bool:
        """Whether some can be answered."""
        return bool(self._ready) and any(index <= applied for index, _ in self._ready)

    def take_ready(self, applied: int) -> list[Question]:
        """Those that can be answered now."""
        if not self._ready:
            return []
        found = [question for index, questions in self._ready if index <= applied for question in questions]
        self._ready = [(index, questions) for index, questions in self._ready if index > applied]
        self._count -= len(found)
        return found

    def take_expired(self, now: float) -> list[Question]:
        """Those whose time is over."""
        if not self._count:
            return []
        found: list[Question] = []
        lists = [self._gathered, *(asked.questions for asked in self._asked.values()), *(questions for _, questions in self._ready)]
        for questions in lists:
            late = [question for question in questions if question.until <= now]
            found += late
            questions[:] = [question for question in questions if question.until > now]
        self._asked = {number: asked for number, asked in self._asked.items() if asked.questions}
        self._count -= len(found)
        return found

    def retry_at(self) -> float:
        """When the oldest group is to be asked about again."""
        return next((asked.again for asked in self._asked.values()), float("inf"))

    def deadline(self) -> float:
        """When the time of the oldest is over."""
        lists = [self._gathered, *(asked.questions for asked in self._asked.values()), *(questions for _, questions in self._ready)]
        return min([questions[0].until for questions in lists if questions], default=float("inf"))
