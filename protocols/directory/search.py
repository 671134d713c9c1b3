"""From a question to agents: whoever may know is asked, what they found is ranked, and said to be partial where it is.

While the directory is whole this node knows itself. In cells it asks their holders (``asking``).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from meshos.errors import BadInput
from meshos.flow import Compute
from meshos.ids import AgentId
from meshos.protocols.directory import filters, limits, paging, weighing
from meshos.protocols.directory.asking import Gathered, confirmed, gather
from meshos.protocols.directory.cells.routing import Chart
from meshos.protocols.directory.collapsing import grouped
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

    ``facets``: whether all that fulfil the filters are to be counted. ``collapse``: agents of an organisation that are alike are shown as
    one. ``cursor`` is what an answer gave for its next page. ``after`` is the rank that it names: what ranks after that is wanted, when
    so many were ``shown``.
    """

    query: str = ""
    limit: int = 10
    filters: Filters = UNFILTERED
    weigh: Weigh = NOTHING
    related: AgentId | None = None
    facets: bool = False
    cursor: str | None = None
    after: Rank | None = None
    shown: int = 0
    collapse: bool = True


@dataclass(frozen=True, slots=True)
class Found:
    """A record that fits, with what the mesh measured of it; ``matched`` says why in a few words each. ``alike`` are some of the
    ``alike_count`` agents that it stands for (``collapsing``); holders are believed how many there are beyond those that they name.
    """

    sealed: Sealed
    record: AgentRecord
    measured: Measured
    score: float
    matched: tuple[str, ...]
    alike: tuple[AgentId, ...] = ()
    alike_count: int = 0


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
        """Whether somebody has answered for every cell that may know."""
        return self.cells_missing == 0


async def discover(parts: Parts, request: DiscoverRequest) -> DiscoverAnswer:
    """Answer a question. Raises BadInput ``bad-query``, ``bad-did`` or ``bad-cursor``, Refused ``no-such-agent`` if nobody knows the agent
    that others are to be like, or Failed ``model-missing`` if no cell could answer for that reason."""
    check(request)
    name = paging.name_of(request.query, request.related, request.filters, request.weigh, collapse=request.collapse)
    page = paging.FIRST if request.cursor is None else paging.page_of(request.cursor, name)
    room = min(request.limit, limits.FOUND - page.shown)
    asked = replace(request, limit=room + 1, after=page.after, shown=page.shown)  # one more tells whether there is a next page
    answer = await (_of_this_node(parts, asked) if _chart(parts) is None else _of_holders(parts, asked))
    shown, counted, cursor = page.shown + room, None, None
    if request.facets:
        chart = _chart(parts)
        counted, missing = (await tally(parts, request.filters), 0) if chart is None else await total(parts, chart, request.filters)
        answer = replace(answer, cells_missing=max(answer.cells_missing, missing))
    if len(answer.agents) > room and shown < limits.FOUND:
        last = answer.agents[room - 1]
        cursor = paging.cursor(name, Page(_rank(last), shown))
    return replace(answer, agents=answer.agents[:room], cursor=cursor, facets=counted)


def _chart(parts: Parts) -> Chart | None:
    """Of the cells by which the directory is laid now; None: it is whole, or nothing was heard of them yet."""
    return parts.charted.chart if parts.charted.layout == parts.layout.name else None


async def _of_this_node(parts: Parts, request: DiscoverRequest) -> DiscoverAnswer:
    """While the directory is whole, this node holds it all, once it is sure that it has missed nothing since it started."""
    whole = parts.holds_all()
    return DiscoverAnswer(tuple(await _held_here(parts, request)), 1, 0 if whole else 1)


async def _of_holders(parts: Parts, request: DiscoverRequest) -> DiscoverAnswer:
    subject, left_out = await _subject(parts, request)
    chart = _chart(parts)
    if chart is None:  # meanwhile it is laid otherwise
        return await _of_this_node(parts, request)
    full = min(limits.FOUND, request.shown + request.limit) if request.collapse else request.limit
    gathered = await gather(parts, chart, subject, request.filters, full=full, left_out=left_out, collapse=request.collapse)
    order, wanted = _in_order(parts, request, gathered, gathered.briefs), full
    fitting: list[Match] = []
    found: list[Found] = []
    while order and len(fitting) < limits.COLLAPSED and (len(found) < request.limit or order[0] < _rank(found[request.limit - 1])):
        some, order = [agent for _, agent in order[:wanted]], order[wanted:]
        sure = await confirmed(parts, gathered, some)
        briefs = {agent: gathered.briefs[agent][0] for agent in some if agent in sure}
        fitting += [replace(sure[agent], score=brief.score, behind=brief.behind) for agent, brief in briefs.items()]
        again = [agent for agent in some if agent not in sure and gathered.disproved(agent)]
        order = sorted([*order, *_in_order(parts, request, gathered, again)])
        found = await _shown(request, _ranked(parts, request, fitting))
        wanted = max(request.limit - len(found), limits.COLLAPSED_AT_ONCE if request.collapse else 1)
    return DiscoverAnswer(tuple(found[: request.limit]), gathered.asked, gathered.missing)


def _in_order(parts: Parts, request: DiscoverRequest, gathered: Gathered, agents: Iterable[AgentId]) -> list[Rank]:
    """The ranks of ``agents`` by what their holders say of them; without those that were shown before, unless others may stand under
    these."""
    ranks: list[Rank] = []
    for agent in agents:
        brief = gathered.briefs[agent][0]
        fit = brief.score
        score = round(fit, 4) if request.weigh == NOTHING else _score(request, fit, parts.measures(agent), brief.price)
        ranks.append(paging.rank(score, agent))
    after = None if request.collapse else request.after
    return sorted(rank for rank in ranks if after is None or rank > after)


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
    out = frozenset({left_out}) if left_out else frozenset[str]()
    ranked = _ranked(parts, request, await matches(parts, subject, request.filters, out, collapse=request.collapse))
    wrong = await forged(parts, [found.sealed for found in ranked[: limits.RANKS_HIGH]])
    good = await _shown(request, [found for found in ranked if found.sealed.digest not in wrong])
    return good[: request.limit]


async def _shown(request: DiscoverRequest, ranked: list[Found]) -> list[Found]:
    """What is shown of ``ranked`` after what was shown before: those that are alike as one, if that is wanted."""
    if request.collapse and ranked:
        groups = await Compute[list[list[int]]](partial(grouped, [found.record for found in ranked]), cost_s=0.0005)
        ranked = [_as_one([ranked[place] for place in group]) for group in groups]
    after = request.after
    return [found for found in ranked if after is None or _rank(found) > after]


def _rank(found: Found) -> Rank:
    return paging.rank(found.score, found.record.agent_id)


def _as_one(group: Sequence[Found]) -> Found:
    """The first of ``group``, which stands for all."""
    first, *others = group
    count = len(others) + sum(found.alike_count for found in group)
    return replace(first, alike=tuple(found.record.agent_id for found in others[: limits.ALIKE_SHOWN]), alike_count=count)


def _ranked(parts: Parts, request: DiscoverRequest, fitting: Sequence[Match]) -> list[Found]:
    """The matches as they are shown, weighed as the caller wants it, in the order of their ranks."""
    found = [_found(request, match, parts.measures(match.record.agent_id)) for match in fitting]
    return sorted(found, key=_rank)


def _found(request: DiscoverRequest, match: Match, measured: Measured) -> Found:
    score = _score(request, match.score, measured, match.record.profile.per_query)
    why = reasons(match, request.filters, request.weigh, measured)
    return Found(match.sealed, match.record, measured, score, why, alike_count=match.behind)


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
    if not (filters.is_text(request.query) and filters.is_text(request.related or "")):
        raise BadInput("bad-query", "the question has half of a surrogate pair in it", hint=filters.WHOLE)
    if not 1 <= request.limit <= limits.FOUND:
        raise BadInput("bad-query", f"the limit is {request.limit}, not from 1 to {limits.FOUND}")
