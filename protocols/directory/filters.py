"""What an answer must fulfil, and how records are picked by it before anything is ranked.

Theory of operation. What an owner says of itself (capabilities, certifications, region, organisation) is among the facets of its record
(``facets.py``), the price is its cost. So a filter over these is a ``Condition`` of the index, and exact: whatever fulfils it is ranked,
and nothing else. What the mesh measures (trust, latency) changes without the record, and stays a predicate that each candidate is asked.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

from meshos.errors import BadInput
from meshos.ids import parse_org_did
from meshos.protocols.directory import limits
from meshos.protocols.directory.facets import CAPABILITY, CERTIFICATION, ORG, REGION, named
from meshos.protocols.directory.parts import Measures
from meshos.protocols.directory.record import AgentRecord
from meshos.storage.index.facets import ANYTHING, Condition


@dataclass(frozen=True, slots=True)
class Exclude:
    """What an agent in the answer must not have: one of these capabilities, certifications or regions, or one of these owners (DIDs)."""

    capabilities: tuple[str, ...] = ()
    certifications: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    organisations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Filters:
    """What an answer must fulfil; None and empty are no condition. Words are compared without regard to case.

    Of ``certifications`` and ``capabilities`` an agent must have all. Trust is 0..100, latency in milliseconds, the price of a query in
    millionths of a MESH.
    """

    trust_min: float | None = None
    trust_max: float | None = None
    certifications: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    region: str | None = None
    max_latency_ms: float | None = None
    max_price_micro: int | None = None
    exclude: Exclude = Exclude()


UNFILTERED = Filters()


WHOLE = "send whole characters, as UTF-8 has them"


def is_text(text: str) -> bool:
    """Whether it can be sent to others. JSON may hold half of a surrogate pair, which no UTF-8 has."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def check(filters: Filters) -> None:
    """Return if they are within their bounds; raises BadInput ``bad-query`` or ``bad-did``."""
    named = [(name, getattr(filters, name)) for name in ("certifications", "capabilities")]
    named += [(f"exclude.{field.name}", getattr(filters.exclude, field.name)) for field in fields(Exclude)]
    named += [("region", (filters.region,) if filters.region is not None else ())]
    for name, entries in named:
        if len(entries) > limits.FILTER_ENTRIES:
            raise BadInput("bad-query", f"the filter {name} has {len(entries)} entries, at most {limits.FILTER_ENTRIES} are read")
        if any(len(entry) > limits.FILTER_CHARS for entry in entries):
            raise BadInput("bad-query", f"an entry of the filter {name} has more than {limits.FILTER_CHARS} characters")
        if not all(map(is_text, entries)):
            raise BadInput("bad-query", f"an entry of the filter {name} has half of a surrogate pair in it", hint=WHOLE)
    if filters.max_price_micro is not None and not 0 <= filters.max_price_micro <= limits.FILTER_PRICE_MICRO:
        raise BadInput("bad-query", "the highest price is below zero or above every supply")
    for did in filters.exclude.organisations:
        try:
            parse_org_did(did)
        except ValueError as error:
            raise BadInput("bad-did", str(error), hint="`mesh members --json` has the DIDs of this mesh") from error


def condition_of(filters: Filters, cells: tuple[int, ...] | None = None) -> Condition:
    """What the index is asked for, in these ``cells`` only if they are given; ``ANYTHING`` itself where nothing is."""
    exclude = filters.exclude
    every = [*named(CAPABILITY, filters.capabilities), *named(CERTIFICATION, filters.certifications)]
    if filters.region is not None:
        every += named(REGION, (filters.region,))
    none = [
        *named(CAPABILITY, exclude.capabilities),
        *named(CERTIFICATION, exclude.certifications),
        *named(REGION, exclude.regions),
        *named(ORG, exclude.organisations),
    ]
    groups = tuple((facet,) for facet in dict.fromkeys(every))
    condition = Condition(cells, groups, tuple(dict.fromkeys(none)), filters.max_price_micro)
    return ANYTHING if condition == ANYTHING else condition


def acceptor(measures: Measures, filters: Filters) -> Callable[[AgentRecord], bool] | None:
    """Whether a record fulfils what is asked of its measures; None where nothing is. What was not measured yet fulfils no bound on it."""
    if filters.trust_min is None and filters.trust_max is None and filters.max_latency_ms is None:
        return None

    def accepts(record: AgentRecord) -> bool:
        measured = measures(record.agent_id)
        if filters.trust_min is not None and measured.trust_score < filters.trust_min:
            return False
        if filters.trust_max is not None and measured.trust_score > filters.trust_max:
            return False
        latency = measured.avg_latency_ms
        return filters.max_latency_ms is None or (latency is not None and latency <= filters.max_latency_ms)

    return accepts
