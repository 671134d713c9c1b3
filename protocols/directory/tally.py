"""Facets in an answer: of all records here that fulfil its filters, how many have each capability, certification and region.

They are counted over everything, not only over what is shown, and do not depend on the question. What is in quarantine is not counted:
the ledger is asked for each record, so many in a step that nothing else waits.
"""

from collections import Counter
from dataclasses import dataclass
from functools import partial

from meshos.flow import Compute, Sleep
from meshos.protocols.directory import limits
from meshos.protocols.directory.commands import Places
from meshos.protocols.directory.facets import CAPABILITY, CERTIFICATION, REGION, values_of
from meshos.protocols.directory.filters import Filters, acceptor, condition_of
from meshos.protocols.directory.parts import Parts
from meshos.protocols.directory.record import AgentRecord, Sealed
from meshos.storage.index.facets import Fulfilling

Counts = tuple[tuple[str, int], ...]
"""(value in folded case, how many records have it): the most frequent first, of equal ones by value."""


@dataclass(frozen=True, slots=True)
class Tally:
    """``records`` fulfil the filters; of each kind at most FACETS_SHOWN values."""

    records: int
    capabilities: Counts
    certifications: Counts
    regions: Counts


async def tally(parts: Parts, filters: Filters, cells: Places | None = None, *, most: int = limits.FACETS_SHOWN) -> Tally:
    """Count what this node holds, in these ``cells`` only if they are given; of each kind the ``most`` frequent values."""
    keep = acceptor(parts.measures, filters)
    found: Fulfilling = await Compute(partial(parts.shelf.fulfilling, keep, condition_of(filters, cells)), cost_s=0.005)
    out = await _quarantined(parts, found)
    return await Compute(partial(_counted, found, out, most), cost_s=0.005)


async def _quarantined(parts: Parts, found: Fulfilling) -> frozenset[str]:
    """The ids of those that are in quarantine, themselves or by their organisation or node."""
    tags = await Compute(found.tags)
    known: dict[str, bool] = {}
    out: set[str] = set()
    for start in range(0, len(tags), limits.TALLIED_AT_ONCE):
        if start:
            await Sleep(0)
        for sealed in tags[start : start + limits.TALLIED_AT_ONCE]:
            assert isinstance(sealed, Sealed) and isinstance(sealed.entry, AgentRecord)
            owner = f"{sealed.entry.mesh_id} {sealed.signer}"
            if owner not in known:
                known[owner] = parts.barred(sealed.entry.mesh_id, sealed.signer) is not None
            agent = sealed.entry.agent_id
            if known[owner] or parts.barred(agent) is not None:
                out.add(agent)
    return frozenset(out)


def _counted(found: Fulfilling, out: frozenset[str], most: int) -> Tally:
    if out:
        found = found.where(lambda tag: isinstance(tag, Sealed) and tag.entry.agent_id not in out)
    counts = found.counts()
    return Tally(len(found), *(_most(kind, counts, most) for kind in (CAPABILITY, CERTIFICATION, REGION)))


def _most(kind: str, counts: Counter[str], most: int) -> Counts:
    values = sorted(values_of(kind, counts.items()), key=lambda item: (-item[1], item[0]))
    return tuple(values[:most])
