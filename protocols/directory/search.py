"""From a question to agents: whoever may know is asked, what they found is ranked, and said to be partial where it is.

While the directory is whole this node knows itself. In cells it asks their holders (``asking``).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from meshos.errors import BadInput
from meshos.ids import AgentId
from meshos.protocols.directory import filters, limits, paging, weighing
from meshos.protocols.directory.asking import Gathered, confirmed, gather
from meshos.protocols.directory.cells.routing import Chart
from meshos.protocols.directory.filters import UNFILTERED, Filters
from meshos.protocols.directory.matching import forged, matches
from meshos.protocols.directory.paging import Page, Rank
from meshos.protocols.directory.parts import Measured, Parts
from meshos.protocols.directory.record import AgentRecord, Sealed
from meshos.protocols.directory.related import record_of
from meshos.protocols.directory.shelf import Match
from meshos.protocols.directory.tally import Tally, tally
from meshos.protocols.directory.totalling import total
from meshos.protocols.directory.weighing import NOTHING, Weigh
from meshos.protocols.directory.why import reasons


@dataclass(frozen=True, slots=True)
class DiscoverRequest:
    """A question in plain words, or the agent that others are to be like; how many answers are wanted, what they must fulfil, and how what
    is measured of them counts.

    ``facets``: whether all that fulfil the filters are to be counted. ``cursor`` is what an answer gave for its next page. ``after`` is the
    rank that it names: what ranks after that is wanted.
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


async def discover(parts: Parts, request: DiscoverRequest) -> DiscoverAnswer:
    """Answer a question. Raises BadInput ``bad-query``, ``bad-did`` or ``bad-cursor``, Refused ``no-such-agent`` if nobody knows the agent
    that others are to be like, or Failed ``model-missing`` if no cell could answer for that reason."""
    check(request)
    name = paging.name_of(request.query, request.related, request.filters, request.weigh)
    page = paging.FIRST if request.cursor is None else paging.page_of(request.cursor, name)
    room = min(request.limit, limits.FOUND - page.shown)
    asked = replace(request, limit=room + 1, after=page.after)  # one more tells whether there is a next page
    answer = await (_of_this_node(parts, asked) if _chart(parts) is None else _of_holders(parts, asked))
    shown, counted, cursor = page.shown + room, None, None
    if request.facets:
        chart = _chart(parts)
        counted, missing = (await tally(parts, request.filters), 0) if chart is None else await total(parts, chart, request.filters)
        answer = replace(answer, cells_missing=max(answer.cells_missing, missing))
    if len(answer.agents) > room and shown < limits.FOUND:
        last = answer.agents[room - 1]
        cursor = paging.cursor(name, Page(paging.rank(last.score, last.record.agent_id), shown))
    return replace(answer, agents=answer.agents[:room], cursor=cursor, facets=counted)


def _chart(parts: Parts) -> Chart | None:
    """Of the cells by which the directory is laid now; None: it is whole, or nothing was heard of them yet."""
    return parts.charted.chart if parts.charted.layout == parts.layout.name else None


async def _of_this_node(parts: Parts, request: DiscoverRequest) -> DiscoverAnswer:
    """While the directory is whole, this node holds it all; while it does not know how the directory is laid, it does not say so."""
    whole = parts.laid and parts.layout.codebook is None
    return DiscoverAnswer(tuple(await _held_here(parts, request)), 1, 0 if whole else 1)


async def _of_holders(parts: Parts, request: DiscoverRequest) -> DiscoverAnswer:
    subject, left_out = await _subject(parts, request)
    chart = _chart(parts)
    if chart is None:  # meanwhile it is laid otherwise
        return await _of_this_node(parts, request)
    gathered = await gather(parts, chart, subject, request.filters, full=request.limit, left_out=left_out)
    order = _in_order(parts, request, gathered, gathered.briefs)
    fitting: list[Match] = []
    while order and len(fitting) < request.limit:
        some, order = order[: request.limit - len(fitting)], order[request.limit - len(fitting) :]
        sure = await confirmed(parts, gathered, some)
        fitting += [replace(sure[agent], score=gathered.briefs[agent][0].score) for agent in some if agent in sure]
        again = [agent for agent in some if agent not in sure and gathered.disproved(agent)]
        if again:
            order = _in_order(parts, request, gathered, [*order, *again])
    return DiscoverAnswer(tuple(_ranked(parts, request, fitting)), gathered.asked, gathered.missing)


def _in_order(parts: Parts, request: DiscoverRequest, gathered: Gathered, agents: Iterable[AgentId]) -> list[AgentId]:
    """Those of ``agents`` that come after what was shown before, by what their holders say of them."""
    ranks: dict[AgentId, Rank] = {}
    for agent in agents:
        brief = gathered.briefs[agent][0]
        ranks[agent] = paging.rank(_score(request, brief.score, parts.measures(agent), brief.price), agent)
    return sorted((agent for agent in ranks if request.after is None or ranks[agent] > request.after), key=ranks.__getitem__)


async def _subject(parts: Parts, request: DiscoverRequest) -> tuple[str | AgentRecord, str]:
    """What is asked for, and who is left out of the answer."""
    if request.related is None:
        return request.query, ""
    return await record_of(parts, request.related), request.related


async def discover_here(parts: Parts, request: DiscoverRequest) -> Sequence[Found]:
    """What this node holds itself that fits. Raises BadInput ``bad-query``, Refused ``no-such-agent``, Failed ``model-missing``."""
    check(request)
    return await _held_here(parts, request)


async def _held_here(parts: Parts, request: DiscoverRequest) -> Sequence[Found]:
    """Of the FOUND that rank highest. A record that ranks high for the first time has its vector checked before."""
    subject, left_out = await _subject(parts, request)
    ranked = _ranked(parts, request, await matches(parts, subject, request.filters, frozenset({left_out}) if left_out else frozenset()))
    wrong = await forged(parts, [found.sealed for found in ranked[: limits.RANKS_HIGH]])
    good = [found for found in ranked if found.sealed.digest not in wrong]
    if request.after is not None:
        good = [found for found in good if paging.rank(found.score, found.record.agent_id) > request.after]
    return good[: request.limit]


def _ranked(parts: Parts, request: DiscoverRequest, fitting: Sequence[Match]) -> list[Found]:
    """The matches as they are shown, weighed as the caller wants it, in the order of their ranks."""
    found = [_found(request, match, parts.measures(match.record.agent_id)) for match in fitting]
    return sorted(found, key=lambda one: paging.rank(one.score, one.record.agent_id))


def _found(request: DiscoverRequest, match: Match, measured: Measured) -> Found:
    score = _score(request, match.score, measured, match.record.profile.per_query)
    return Found(match.sealed, match.record, measured, score, reasons(match, request.filters, request.weigh, measured))


def _score(request: DiscoverRequest, fit: float, measured: Measured, per_query_micro: int) -> float:
    return round(weighing.weighed(fit, request.weigh, measured, per_query_micro), 4)


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
