"""Records that stand for all that is published, drawn over the network: what the next codebook is made from and judged by.

They are drawn from the places by id, not from the cells: a hash has spread agents over them, so that a few of each place are an even
sample whatever the cells hold and whatever is said of them in summaries. Each place is asked of another of its holders each time; those
that this node is sure of it reads itself. Only what its owner has signed counts, and which of a place's records are taken is decided by
a secret of this node, so that nobody can name agents such that they are.
"""

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np

from meshos.effects import Ok
from meshos.errors import MeshError, Refused
from meshos.flow import Compute, Gather, Propose, Sleep
from meshos.ids import AgentId, NodeId
from meshos.protocols.directory import limits
from meshos.protocols.directory.cells.layout import Layout
from meshos.protocols.directory.cells.limits import ID_PLACES, REACHED
from meshos.protocols.directory.commands import MACHINE, Items, Read, ReadItems
from meshos.protocols.directory.fetching import entries_of, items_of
from meshos.protocols.directory.parts import Parts
from meshos.protocols.directory.record import AgentRecord, Sealed
from meshos.protocols.directory.vector import Vector, whole_bytes


@dataclass(frozen=True, slots=True)
class Sample:
    """``vectors`` (rows of length 1), ``texts`` and the whole numbers ``placed_by`` of the records drawn; ``records``: about so many are
    published."""

    vectors: Vector
    texts: list[str]
    placed_by: list[bytes]
    records: float


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Of one place: how many entries it lists, up to a page, what was taken of them, and how many of these were tombstones."""

    listed: int
    records: tuple[AgentRecord, ...]
    gone: int


async def sample(parts: Parts, most: int, turn: int) -> Sample | None:
    """About ``most`` records, or all where there are fewer, from holders that go by ``turn``; None where too few places were reached."""
    layout = parts.layout
    if layout.codebook is None:
        return None
    each, first = -(-most // ID_PLACES), layout.codebook.cells
    drawn, missed, late = list[_Drawn](), 0, set[NodeId]()
    for start in range(first, first + ID_PLACES, limits.DRAWN_AT_ONCE):
        places = range(start, min(start + limits.DRAWN_AT_ONCE, first + ID_PLACES))
        outcomes = await Gather(*(_drawn(parts, layout, place, each, turn, late) for place in places), each=True)
        found = [outcome.value for outcome in outcomes if isinstance(outcome, Ok) and outcome.value is not None]
        drawn, missed = drawn + found, missed + len(places) - len(found)
        if missed > (1 - REACHED) * ID_PLACES:
            return None
    together: Sample | None = await Compute(partial(_together, drawn), cost_s=0.1)
    return together


def _together(drawn: Sequence[_Drawn]) -> Sample | None:
    records = [record for one in drawn for record in one.records]
    if not records:
        return None
    share = len(records) / (len(records) + sum(one.gone for one in drawn))
    return Sample(
        np.stack([record.meaning() for record in records]),
        [record.profile.text() for record in records],
        [whole_bytes(record.dense) for record in records],
        share * ID_PLACES * median(one.listed for one in drawn),  # who lists too much or too little for its places moves it little
    )


async def _drawn(parts: Parts, layout: Layout, place: int, each: int, turn: int, late: set[NodeId]) -> _Drawn | None:
    """Of the first holder that hands over at least half of what was asked of what it lists, in good time; None: there is none. Those that
    are ``late`` once are asked last from then on, so that none holds up all that this node does by a record a request."""
    alive = frozenset(parts.peers())
    nodes = [parts.node] if parts.sure_of((place,)) else [node for node in layout.holders[place] if node in alive]
    begin = (zlib.crc32(parts.node.encode()) + turn + place) % max(1, len(nodes))
    for node in sorted(nodes[begin:] + nodes[:begin], key=late.__contains__):
        came, _ = await Gather(_drawn_from(parts, layout, node, place, each), Sleep(limits.DRAWN_S), need=1)
        if not isinstance(came, Ok):
            late.add(node)
        elif came.value is not None:
            found: _Drawn = came.value
            return found
    return None


async def _drawn_from(parts: Parts, layout: Layout, node: NodeId, place: int, each: int) -> _Drawn | None:
    try:
        items = await _items(parts, layout, node, place)
        if any(layout.place_of_id(item.id) != place for item in items.items):
            raise Refused("bad-message", "a holder lists agents that do not belong in the place")
        chosen = _chosen(parts.checker.secret, [item.id for item in items.items], each)
        entries = await _entries(parts, node, chosen)
    except MeshError:
        return None  # the next is asked
    if 2 * len(entries) < len(chosen):
        return None
    records = tuple(sealed.entry for sealed in entries if isinstance(sealed.entry, AgentRecord))
    return _Drawn(len(items.items), records, len(entries) - len(records))


def _chosen(secret: bytes, ids: Sequence[AgentId], each: int) -> list[AgentId]:
    return sorted(ids, key=lambda agent: hashlib.blake2b(agent.encode(), key=secret[:64], digest_size=8).digest())[:each]


async def _items(parts: Parts, layout: Layout, node: NodeId, place: int) -> Items:
    if node == parts.node:
        return await Propose(ReadItems((place,)), MACHINE)
    return await items_of(node, layout, (place,), retries=0)


async def _entries(parts: Parts, node: NodeId, wanted: Sequence[AgentId]) -> list[Sealed]:
    """Those of ``wanted`` that ``node`` hands over and that hold."""
    left, found = list(wanted), list[Sealed]()
    while left:
        batch, left = left[: limits.IDS_A_PAGE], left[limits.IDS_A_PAGE :]
        if node == parts.node:
            pages = await Propose[tuple[bytes, ...]](Read(tuple(batch), limits.PAGE_BYTES), MACHINE)
        else:
            pages = await entries_of(node, batch, limits.SYNC_TIMEOUT_S)
        signed: list[Sealed] = await Compute(partial(parts.checker.signed, pages), cost_s=0.0005 * len(pages))
        came = {sealed.entry.agent_id: sealed for sealed in signed if sealed.entry.agent_id in batch}
        found += came.values()
        if came:  # a page holds so many bytes; of what the node has not any more, and of what does not hold, nothing comes
            left = [agent for agent in batch if agent not in came] + left
    return found
