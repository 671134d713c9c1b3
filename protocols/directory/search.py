"""From a question to agents: every cell that may know is asked, what they found is merged and ranked, and said to be partial where it is.

In this form there is one cell, and every node is in it, so that the asking node answers itself. ``Cell`` is the interface at which
the directory will be sharded: a question goes in, candidates come out, and merging does not care from where.

What is in quarantine (an agent, its organisation, the node that publishes it) is not found. Records are held all the same: once it is
lifted they are there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from meshos.effects import Ok, Outcome
from meshos.errors import BadInput, Failed
from meshos.flow import Compute, Flow, Gather, Propose
from meshos.ids import AgentId
from meshos.protocols.directory import filters, limits, paging, weighing
from meshos.protocols.directory.commands import MACHINE, Find, Held
from meshos.protocols.directory.filters import UNFILTERED, Filters, acceptor, condition_of
from meshos.protocols.directory.keeping import judge
from meshos.protocols.directory.paging import Page, Rank
from meshos.protocols.directory.parts import Measured, Parts
from meshos.protocols.directory.record import AgentRecord, Sealed
from meshos.protocols.directory.related import record_of
from meshos.protocols.directory.shelf import Match
from meshos.protocols.directory.tally import Tally, tally
from meshos.protocols.directory.weighing import NOTHING, Weigh
from meshos.protocols.directory.why import reasons


@dataclass(frozen=True, slots=True)
class DiscoverRequest:
    """A question in plain words, or the agent that others are to be like; how many answers are wanted, what they must fulfil, and how what
    is measured of them counts.

    ``facets``: whether all that fulfil the filters are to be counted. ``cursor`` is what an answer gave for its next page. ``after`` is the
    rank that it names: a cell gives what ranks after that.
    """

    query: str = ""
    limit: int = 10
    filters: Filters = UNFILTERED
    weigh: Weigh = NOTHING
    related: AgentId | None = None
    facets: bool = False
    cursor: str | None = None
    after: Rank | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A record that fits, with what the mesh measured of it; ``matched`` says why in a few words each."""

    sealed: Sealed
    record: AgentRecord
    measured: Measured
    score: float
    matched: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DiscoverAnswer:
    """The best first. ``cursor`` asks for the next page; None at the end."""

    agents: tuple[Found, ...]
    cells_asked: int
    cells_missing: int
    cursor: str | None = None
    facets: Tally | None = None

    @property
    def complete(self) -> bool:
        """Whether every cell that was asked has answered."""
        return self.cells_missing == 0


Cell: TypeAlias = Callable[[DiscoverRequest], Flow[Sequence[Found]]]
"""Gives its best candidates for a request, at most ``limit``."""


async def discover(parts: Parts, request: DiscoverRequest) -> DiscoverAnswer:
    """Answer a question. Raises BadInput ``bad-query``, ``bad-did`` or ``bad-cursor``, Refused ``no-such-agent`` if nobody knows the agent
    that others are to be like, or Failed ``model-missing`` if no cell could answer for that reason."""
    check(request)
    name = paging.name_of(request.query, request.related, request.filters, request.weigh)
    page = paging.FIRST if request.cursor is None else paging.page_of(request.cursor, name)
    room = min(request.limit, limits.FOUND - page.shown)

    async def here(asked: DiscoverRequest) -> Sequence[Found]:
        return await local_cell(parts, asked)

    answer = await ask_cells([here], replace(request, limit=room + 1, after=page.after))  # one more tells whether there is a next page
    shown, counted = page.shown + room, await tally(parts, request.filters) if request.facets else None
    cursor = None
    if len(answer.agents) > room and shown < limits.FOUND:
        last = answer.agents[room - 1]
        cursor = paging.cursor(name, Page(paging.rank(last.score, last.record.agent_id), shown))
    return replace(answer, agents=answer.agents[:room], cursor=cursor, facets=counted)


async def discover_here(parts: Parts, request: DiscoverRequest) -> Sequence[Found]:
    """What this node holds itself that fits. Raises BadInput ``bad-query``, Failed ``model-missing``."""
    check(request)
    return await local_cell(parts, request)


async def ask_cells(cells: Sequence[Cell], request: DiscoverRequest) -> DiscoverAnswer:
    """Ask all ``cells`` side by side, and merge what they found: of an agent that several know the highest version counts."""
    outcomes: list[Outcome[Sequence[Found]]] = await Gather(*(cell(request) for cell in cells), each=True)
    answers = [outcome.value for outcome in outcomes if isinstance(outcome, Ok)]
    if not answers:
        raise next(outcome.error for outcome in outcomes if not isinstance(outcome, Ok))
    best: dict[AgentId, Found] = {}
    for found in (found for answer in answers for found in answer):
        known = best.get(found.record.agent_id)
        if known is None or found.record.version > known.record.version:
            best[found.record.agent_id] = found
    ranked = sorted(best.values(), key=lambda found: paging.rank(found.score, found.record.agent_id))
    return DiscoverAnswer(tuple(ranked[: request.limit]), len(cells), len(cells) - len(answers))


async def local_cell(parts: Parts, request: DiscoverRequest) -> Sequence[Found]:
    """What this node holds that fits, of the FOUND that rank highest. A record that ranks high for the first time has its vector checked
    before. Raises Refused ``no-such-agent``."""
    ranked = _ranked(parts, request, await _matches(parts, request))
    wrong = await _check_high(parts, [found.sealed for found in ranked[: limits.RANKS_HIGH]])
    good = [found for found in ranked if found.sealed.digest not in wrong]
    if request.after is not None:
        good = [found for found in good if paging.rank(found.score, found.record.agent_id) > request.after]
    return good[: request.limit]


async def _matches(parts: Parts, request: DiscoverRequest) -> list[Match]:
    """What fits and is not in quarantine, the best first. The ledger is read between the searches, which worker threads do."""
    asked = request.query if request.related is None else await record_of(parts, request.related)
    keep, condition = acceptor(parts.measures, request.filters), condition_of(request.filters)
    out = frozenset[str]() if request.related is None else frozenset[str]({request.related})
    for _ in range(limits.BARRED_ROUNDS):
        accepts = _without(out, keep)
        matches = await Compute(partial(parts.shelf.search, asked, limits.FOUND, accepts, condition), cost_s=0.015)
        barred = {match.record.agent_id: _barred(parts, match) for match in matches}
        matches = [match for match in matches if barred[match.record.agent_id] is None]
        more = {name for name in barred.values() if name is not None}
        if not more:
            break
        out |= more
    return matches


def _ranked(parts: Parts, request: DiscoverRequest, matches: Sequence[Match]) -> list[Found]:
    """The matches as they are shown, weighed as the caller wants it, in the order of their ranks."""
    found = [_found(request, match, parts.measures(match.record.agent_id)) for match in matches]
    return sorted(found, key=lambda one: paging.rank(one.score, one.record.agent_id))


def _found(request: DiscoverRequest, match: Match, measured: Measured) -> Found:
    score = round(weighing.weighed(match.score, request.weigh, measured, match.record.profile.per_query), 4)
    return Found(match.sealed, match.record, measured, score, reasons(match, request.filters, request.weigh, measured))


def _barred(parts: Parts, match: Match) -> str | None:
    """Who is to be left out, so that the agent is not found: its organisation, or itself."""
    record = match.record
    found = parts.barred(record.mesh_id, record.agent_id, match.sealed.signer)
    return record.agent_id if found == match.sealed.signer else found


def _without(out: frozenset[str], keep: Callable[[AgentRecord], bool] | None) -> Callable[[AgentRecord], bool] | None:
    if not out:
        return keep
    return lambda record: record.mesh_id not in out and record.agent_id not in out and (keep is None or keep(record))


async def _check_high(parts: Parts, records: Sequence[Sealed]) -> frozenset[bytes]:
    """The digests of those of ``records`` whose vectors turn out not to be of their text."""
    found: tuple[Held | None, ...] = await Propose(Find(tuple(sealed.entry.agent_id for sealed in records), brief=True), MACHINE)
    doubtful = tuple(sealed for sealed, held in zip(records, found, strict=True) if held is not None and not held.checked)
    try:
        return await judge(parts, doubtful)
    except Failed:
        return frozenset()  # a model that was there a moment ago is gone; the search will say so


def check(request: DiscoverRequest) -> None:
    """Return if the request can be answered; raises BadInput ``bad-query`` or ``bad-did``."""
    filters.check(request.filters)
    weighing.check(request.weigh)
    if request.related is not None and request.query:
        raise BadInput("bad-query", "a question and an agent that others are to be like are two requests", hint="ask for one of them")
    if request.related is None and not request.query.strip():
        raise BadInput("bad-query", "the question is empty", hint='ask in plain words, as in "read a chest x-ray"')
    if len(request.query) > limits.QUERY_CHARS:
        raise BadInput("bad-query", f"the question has {len(request.query)} characters, at most {limits.QUERY_CHARS} are read")
    if not 1 <= request.limit <= limits.FOUND:
        raise BadInput("bad-query", f"the limit is {request.limit}, not from 1 to {limits.FOUND}")
