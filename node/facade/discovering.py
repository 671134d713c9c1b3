"""A search, between the API and the directory: what is asked, and what was found."""

from meshos.ids import AgentId
from meshos.node.api import shapes
from meshos.node.facade import views
from meshos.protocols.directory.filters import Exclude, Filters
from meshos.protocols.directory.search import DiscoverAnswer, DiscoverRequest
from meshos.protocols.directory.tally import Tally
from meshos.protocols.directory.weighing import Weigh


def request_of(query: shapes.DiscoverQuery, related: AgentId | None) -> DiscoverRequest:
    """What the directory is asked; ``related`` is the whole id of the agent that others are to be like."""
    out, weigh = query.exclude, query.weigh
    filters = Filters(
        query.min_trust,
        query.max_trust,
        query.certifications,
        query.capabilities,
        query.region,
        query.max_latency_ms,
        query.max_price_micro,
        Exclude(out.capabilities, out.certifications, out.regions, out.organisations),
    )
    weights = Weigh(weigh.trust, weigh.latency, weigh.price)
    return DiscoverRequest(query.query, query.limit, filters, weights, related, query.facets, query.cursor, collapse=query.collapse)


def discovered(answer: DiscoverAnswer, *, embeddings: bool) -> shapes.Discovered:
    """What the API shows."""
    agents = tuple(
        shapes.Found(
            views.agent_view(found.sealed, found.record, found.measured, embeddings=embeddings),
            found.score,
            found.matched,
            found.alike,
            found.alike_count,
        )
        for found in answer.agents
    )
    facets = None if answer.facets is None else _counted(answer.facets)
    return shapes.Discovered(agents, answer.cells_asked, answer.cells_missing, answer.cursor, facets)


def _counted(tally: Tally) -> shapes.Counted:
    return shapes.Counted(tally.records, tally.capabilities, tally.certifications, tally.regions)
