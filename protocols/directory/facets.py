"""The facets of a record: what it is picked and counted by, as short texts such as ``capability image-analysis`` or ``region us-east-1``.

A facet is its kind, a space, and what the owner says in folded case; no kind has a space in it, so that no two facets can be mistaken.
"""

from collections.abc import Iterable

from meshos.protocols.directory.record import AgentRecord

CAPABILITY, CERTIFICATION, REGION, ORG = "capability", "certification", "region", "org"
"""The kinds."""


def facets_of(record: AgentRecord) -> tuple[str, ...]:
    """Those of a record, each once. One that names no region has the facet of the empty region."""
    profile = record.profile
    found = [
        *named(CAPABILITY, profile.capabilities),
        *named(CERTIFICATION, profile.certifications),
        *named(REGION, (profile.region,)),
        *named(ORG, (record.mesh_id,)),
    ]
    return tuple(dict.fromkeys(found))


def named(kind: str, entries: Iterable[str]) -> list[str]:
    """The facets of a kind for what an owner, or who asks, has written."""
    return [f"{kind} {entry.casefold()}" for entry in entries]


def values_of(kind: str, counted: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Of counted facets those of a kind, without its name. The empty region is none."""
    beginning = f"{kind} "
    return [(facet.removeprefix(beginning), count) for facet, count in counted if facet.startswith(beginning) and facet != beginning]
