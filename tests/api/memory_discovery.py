"""How a memory node finds agents: by shared words, with the filters, pages and counts of a real one."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from meshos.errors import BadInput
from meshos.node.api.shapes import AgentView, Counted, Discovered, DiscoverQuery, Found


def discovered(query: DiscoverQuery, hosted: Iterable[AgentView], like: AgentView | None, cells_missing: int) -> Discovered:
    """The agents of ``hosted`` that share a word with the question, or with ``like``. A cursor is the number of agents already shown."""
    asked = _words(query.query) if like is None else _of(like)
    fulfilling = [record for record in hosted if _fulfils(query, record) and record is not like]
    found = [Found(_shown(record, query), len(asked & _of(record)) / len(asked), _shared(asked, record)) for record in fulfilling]
    found = sorted((one for one in found if one.matched), key=lambda one: (-one.score, one.record.agent_id))
    found = _as_ones(found) if query.collapse else found
    begin = _place(query.cursor)
    end = begin + query.limit
    cursor = str(end) if end < len(found) else None
    return Discovered(tuple(found[begin:end]), 1, cells_missing, cursor, _counted(fulfilling) if query.facets else None)


def _as_ones(found: list[Found]) -> list[Found]:
    """Of an agent and what its organisation calls its copies ("chess copy 2") the best, with the same description."""
    groups: dict[tuple[str, ...], list[Found]] = {}
    for one in found:
        groups.setdefault((one.record.mesh_id, one.record.description, re.sub(r" copy \d+$", "", one.record.name)), []).append(one)
    return [
        replace(first, alike=tuple(other.record.agent_id for other in others[:4]), alike_count=len(others))
        for first, *others in groups.values()
    ]


def _place(cursor: str | None) -> int:
    if cursor is not None and not cursor.isdigit():
        raise BadInput("bad-cursor", "this cursor leads nowhere")
    return int(cursor or 0)


def _fulfils(query: DiscoverQuery, record: AgentView) -> bool:
    region, out = record.availability.region, query.exclude
    return (
        query.region in (None, region)
        and set(query.certifications) <= set(record.certifications)
        and set(query.capabilities) <= set(record.capabilities)
        and (query.max_price_micro is None or (record.pricing.per_query_micro or 0) <= query.max_price_micro)
        and (query.min_trust is None or record.trust_score >= query.min_trust)
        and not set(out.capabilities) & set(record.capabilities)
        and not set(out.certifications) & set(record.certifications)
        and region not in out.regions
        and record.mesh_id not in out.organisations
    )


def _shown(record: AgentView, query: DiscoverQuery) -> AgentView:
    return replace(record, embeddings=(0.0,) * 768) if query.embeddings else record


def _counted(records: list[AgentView]) -> Counted:
    kinds = [[entry for record in records for entry in getattr(record, kind)] for kind in ("capabilities", "certifications")]
    kinds.append([record.availability.region for record in records])
    return Counted(len(records), *(tuple(Counter(entries).most_common(20)) for entries in kinds))


def _shared(asked: set[str], record: AgentView) -> tuple[str, ...]:
    return tuple(sorted(asked & _of(record)))


def _of(record: AgentView) -> set[str]:
    return _words(f"{record.name} {record.description} {' '.join(record.capabilities)}")


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
