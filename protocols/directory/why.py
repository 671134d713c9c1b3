"""Why an agent is in an answer, in a few words each."""

from meshos.protocols.directory.filters import Filters
from meshos.protocols.directory.parts import Measured
from meshos.protocols.directory.shelf import Match
from meshos.protocols.directory.weighing import Weigh
from meshos.protocols.tasks.amounts import mesh

WORDS_SHOWN = 4
TELLING_MEANING = 0.4
"""A nearness in meaning from which on it is a reason beside words."""


def reasons(match: Match, filters: Filters, weigh: Weigh, measured: Measured) -> tuple[str, ...]:
    """The words that it shares with the question, the filters that it fulfils, what it was weighed by, and how near it is in meaning."""
    found = [*match.words[:WORDS_SHOWN], *filters.capabilities, *filters.certifications]
    if filters.region is not None:
        found.append(f"in {filters.region}")
    if weigh.trust:
        found.append(f"trust {measured.trust_score:.0f}")
    if weigh.latency:
        found.append("latency unmeasured" if measured.avg_latency_ms is None else f"{measured.avg_latency_ms:.0f} ms")
    if weigh.price:
        found.append(f"{mesh(match.record.profile.per_query)} MESH" if match.record.profile.per_query else "free")
    if not match.words or match.meaning >= TELLING_MEANING:
        found.append(f"meaning {match.meaning:.2f}")
    return tuple(dict.fromkeys(found))
