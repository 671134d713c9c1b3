"""How entries come to lie as they ought to: by another codebook when the mesh has one, and what came without its places.

Everything is worked out first, and then taken over in one step, so that nothing is lost to questions between.
"""

from functools import partial

from meshos.flow import Compute, Propose
from meshos.ids import NodeId
from meshos.protocols.directory import limits
from meshos.protocols.directory.cells.layout import Layout
from meshos.protocols.directory.commands import (
    MACHINE,
    Arrange,
    Items,
    Place,
    Placed,
    Read,
    ReadArranged,
    ReadItems,
    ReadPlaces,
    ReadUnplaced,
)
from meshos.protocols.directory.parts import Parts
from meshos.protocols.directory.record import Sealed, parse
from meshos.protocols.directory.switching import drawn_for, switch


async def arrange(parts: Parts) -> None:
    """Have this node's layout be the one that it ought to be, by what it knows now."""
    ought = parts.layout if parts.seen is None else parts.seen()
    arranged: bytes = await Propose(ReadArranged(), MACHINE)
    if ought is parts.layout:
        parts.laid |= arranged == ought.name
        return  # nothing is new, or nothing can be known yet
    drawn = await drawn_for(parts, ought)
    if arranged != ought.name:
        placed = await _placed(ought) if ought.name else ()
        await Propose(Arrange(ought.name, placed), MACHINE)
    before = parts.layout
    held_all = before.codebook is None and arranged == before.name and parts.caught_up
    parts.unsure = {} if ought.codebook is None or held_all else _unsure(parts.unsure, before, ought)
    switch(parts, ought, drawn)
    parts.laid = True
    parts.caught_up &= ought.codebook is None


def _unsure(unsure: dict[int, frozenset[NodeId]], before: Layout, now: Layout) -> dict[int, frozenset[NodeId]]:
    """The places that this node holds since now, besides those that it was unsure of."""
    held = frozenset(before.mine) - unsure.keys() if before.name == now.name and before.codebook is not None else frozenset()
    return {place: unsure.get(place, frozenset()) for place in now.mine if place not in held}


def settle(parts: Parts) -> None:
    """Be sure of the places that no other node holds that is there, and of the whole if it was compared with all who are: what this one has
    is all that there is."""
    alive = frozenset(parts.peers())
    parts.caught_up |= parts.layout.codebook is None and bool(alive) and alive <= parts.compared
    for place in [place for place in parts.unsure if alive.isdisjoint(parts.layout.holders[place])]:
        del parts.unsure[place]


async def _placed(layout: Layout) -> tuple[Placed, ...]:
    """Where everything that lies somewhere here lies by ``layout``."""
    found: list[Placed] = []
    places: tuple[int, ...] = await Propose(ReadPlaces(), MACHINE)
    for start in range(0, len(places), limits.PLACES_ASKED):
        after, more = "", True
        while more:
            items: Items = await Propose(ReadItems(places[start : start + limits.PLACES_ASKED], after), MACHINE)
            more, after = items.more, items.items[-1].id if items.items else after
            ids = tuple(item.id for item in items.items)
            for at in range(0, len(ids), limits.DISOWNED_AT_ONCE):
                page: tuple[bytes, ...] = await Propose(
                    Read(ids[at : at + limits.DISOWNED_AT_ONCE], limits.DISOWNED_AT_ONCE * limits.RECORD_BYTES), MACHINE
                )
                found += await Compute(partial(_where, layout, page), cost_s=0.0005 * len(page))
    return tuple(found)


def _where(layout: Layout, page: tuple[bytes, ...]) -> list[Placed]:
    return _lying(layout, [parse(data) for data in page])


def _lying(layout: Layout, entries: list[Sealed]) -> list[Placed]:
    places = layout.places_of([sealed.entry for sealed in entries])
    return [Placed(sealed.entry.agent_id, sealed.digest, there) for sealed, there in zip(entries, places, strict=True)]


async def place_some(parts: Parts) -> int:
    """Place what is yet to be placed, a page of it; how many entries."""
    layout = parts.layout
    if layout.codebook is None:
        return 0
    waiting: tuple[Sealed, ...] = await Propose(ReadUnplaced(limits.IDS_A_PAGE), MACHINE)
    if not waiting:
        return 0
    placed: list[Placed] = await Compute(partial(_lying, layout, list(waiting)), cost_s=0.0001 * len(waiting))
    await Propose(Place(layout.name, tuple(placed)), MACHINE)
    return len(waiting)
