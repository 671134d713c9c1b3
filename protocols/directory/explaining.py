"""Why an agent has its score for a question: the parts of it, what it passes and fails, where it ranks, and whether its cell was asked.

The question is asked once more as the caller asked it; the agent's record comes by its id, wherever it lies. What is said of its parts is
computed here from the signed record, in the words' weights by which the question was asked.
"""

from dataclasses import dataclass, replace
from functools import partial

from meshos.errors import Refused
from meshos.flow import Compute
from meshos.ids import AgentId
from meshos.protocols.directory import limits, weighing
from meshos.protocols.directory.cells.query import rounded
from meshos.protocols.directory.cells.routing import Chart
from meshos.protocols.directory.collapsing import grouped
from meshos.protocols.directory.filters import Exclude, Filters, acceptor, condition_of
from meshos.protocols.directory.lookup import lookup
from meshos.protocols.directory.parts import Measured, Parts
from meshos.protocols.directory.record import AgentRecord, Sealed
from meshos.protocols.directory.related import AGENT_ID
from meshos.protocols.directory.search import DiscoverAnswer, DiscoverRequest, discover
from meshos.protocols.tasks.amounts import mesh
from meshos.storage.index.apart import Apart


@dataclass(frozen=True, slots=True)
class ScoreAsked:
    """The agent, and a question in plain words with its filters and weights; its limit and pages do not matter."""

    agent: AgentId
    request: DiscoverRequest


@dataclass(frozen=True, slots=True)
class Condition:
    """A filter in words, and whether the agent fulfils it."""

    text: str
    fulfilled: bool


@dataclass(frozen=True, slots=True)
class Explained:
    """``fit`` is the sum of the ``parts``, ``score`` what it is weighed to. ``rank`` is from 1, None if it is not among the FOUND that are
    shown; ``under`` is the agent that it is alike to and shown under; ``barred`` is who is in quarantine, so that it is not found.

    ``cell`` is None where the directory is whole; ``asked`` says whether it was asked for this question.
    """

    record: AgentRecord
    measured: Measured
    parts: Apart
    fit: float
    score: float
    conditions: tuple[Condition, ...]
    rank: int | None
    under: AgentId | None
    barred: str | None
    cell: int | None
    asked: bool
    answer: DiscoverAnswer

    @property
    def passes(self) -> bool:
        """Whether it fulfils all that was asked for."""
        return all(one.fulfilled for one in self.conditions)


async def explain(parts: Parts, asked: ScoreAsked) -> Explained:
    """Raises Refused ``no-such-agent``, and what ``discover`` raises."""
    request = replace(asked.request, limit=limits.FOUND, cursor=None, facets=False)
    chart = parts.charted.chart if parts.charted.layout == parts.layout.name else None
    answer = await discover(parts, request)
    sealed = await lookup(parts, asked.agent) if AGENT_ID.fullmatch(asked.agent) else None
    if sealed is None or not isinstance(sealed.entry, AgentRecord):
        raise Refused("no-such-agent", f"no agent {asked.agent[:80]!r} is known to this node", hint="look for it with `mesh discover`")
    record = sealed.entry
    shown = next((at for at, found in enumerate(answer.agents) if found.record.agent_id == asked.agent), None)
    if shown is not None:  # in the version that was shown
        sealed, record = answer.agents[shown].sealed, answer.agents[shown].record
    measured = parts.measures(asked.agent) if shown is None else answer.agents[shown].measured
    apart, cell, route = await Compute[tuple[Apart, int | None, bool]](partial(_computed, parts, chart, request, record), cost_s=0.013)
    conditions = await Compute[tuple[Condition, ...]](partial(_conditions, parts, request.filters, sealed), cost_s=0.001)
    under = await Compute[AgentId | None](partial(_under, answer, record), cost_s=0.001) if shown is None else None
    fit = round(apart.score, 4)
    score = round(weighing.weighed(fit, request.weigh, measured, record.profile.per_query), 4)
    return Explained(
        record,
        measured,
        apart,
        fit,
        score if shown is None else answer.agents[shown].score,
        conditions,
        None if shown is None else shown + 1,
        under,
        parts.barred(record.mesh_id, asked.agent, sealed.signer),
        cell,
        route,
        answer,
    )


def _computed(parts: Parts, chart: Chart | None, request: DiscoverRequest, record: AgentRecord) -> tuple[Apart, int | None, bool]:
    """The parts of its fit, its cell, and whether that is one of those asked."""
    if chart is None:
        return parts.shelf.apart(parts.shelf.question(request.query, parts.shelf.statistics()), record), None, True
    question = rounded(parts.shelf.question(request.query, chart.codebook.vocabulary, chart.has))
    cell = parts.layout.places_of([record])[0][0]
    return parts.shelf.apart(question, record), cell, cell in chart.route(question, condition_of(request.filters)).cells


def _under(answer: DiscoverAnswer, record: AgentRecord) -> AgentId | None:
    """The agent of an answer that ``record`` is alike to."""
    like = [found.record for found in answer.agents if found.record.mesh_id == record.mesh_id]
    return next((one.agent_id for one in like if len(grouped([one, record])) == 1), None)


def _conditions(parts: Parts, filters: Filters, sealed: Sealed) -> tuple[Condition, ...]:
    """Each condition of ``filters`` by itself, asked of the record as the index and a search would ask it."""
    assert isinstance(sealed.entry, AgentRecord)
    return tuple(Condition(text, _fulfils(parts, one, sealed, sealed.entry)) for text, one in each(filters))


def _fulfils(parts: Parts, one: Filters, sealed: Sealed, record: AgentRecord) -> bool:
    accepts = acceptor(parts.measures, one)
    return parts.shelf.fulfils(sealed, condition_of(one)) and (accepts is None or accepts(record))


def each(filters: Filters) -> list[tuple[str, Filters]]:
    """Every condition of ``filters`` alone, with what it says."""
    out = filters.exclude
    found = [(f"capability {one}", Filters(capabilities=(one,))) for one in filters.capabilities]
    found += [(f"certification {one}", Filters(certifications=(one,))) for one in filters.certifications]
    if filters.region is not None:
        found.append((f"in {filters.region}", Filters(region=filters.region)))
    if filters.max_price_micro is not None:
        found.append((f"at most {mesh(filters.max_price_micro)} MESH a query", Filters(max_price_micro=filters.max_price_micro)))
    if filters.max_latency_ms is not None:
        found.append((f"at most {filters.max_latency_ms:g} ms a call", Filters(max_latency_ms=filters.max_latency_ms)))
    if filters.trust_min is not None:
        found.append((f"trust {filters.trust_min:g} or more", Filters(trust_min=filters.trust_min)))
    if filters.trust_max is not None:
        found.append((f"trust {filters.trust_max:g} or less", Filters(trust_max=filters.trust_max)))
    found += [(f"without capability {one}", Filters(exclude=Exclude(capabilities=(one,)))) for one in out.capabilities]
    found += [(f"without certification {one}", Filters(exclude=Exclude(certifications=(one,)))) for one in out.certifications]
    found += [(f"not in {one}", Filters(exclude=Exclude(regions=(one,)))) for one in out.regions]
    return found + [(f"not of {one}", Filters(exclude=Exclude(organisations=(one,)))) for one in out.organisations]
