"""What a node has and does not hold: its own records, for whose holders it answers, and what it held until members came or went.

Every minute it looks whether holders have it all, and tells those that lack something, who then fetch it; what they have in a newer version
it fetches itself. Once ``HANDED_TO`` of a place's holders (or all, where there are fewer) have had everything, what is not its own may go.
"""

from collections import Counter
from collections.abc import Iterable

from meshos.errors import MeshError, Refused
from meshos.flow import Ask, Propose
from meshos.ids import NodeId
from meshos.protocols.directory import limits
from meshos.protocols.directory.cells.layout import Layout
from meshos.protocols.directory.commands import MACHINE, Item, Items, Places, ReadItems, ReadPlaces, Release, Want, Wanted
from meshos.protocols.directory.fetching import fetch, items_of
from meshos.protocols.directory.parts import Parts
from meshos.protocols.directory.wire import HINT, encode_hint


async def hand_over(parts: Parts, turn: int) -> int:
    """Look after up to ``HANDED_PLACES`` places, others with each ``turn``; how many entries were let go of."""
    layout = parts.layout
    if layout.codebook is None:
        return 0
    places: Places = await Propose(ReadPlaces(), MACHINE)
    mine = frozenset(layout.mine)
    strange = [place for place in places if place not in mine]
    begin = turn * limits.HANDED_PLACES % max(1, len(strange))
    some = tuple(sorted((strange[begin:] + strange[:begin])[: limits.HANDED_PLACES]))
    sure: Counter[int] = Counter()
    for holder in sorted(_holders(layout, some)):
        sure.update(await _looked_after(parts, layout, holder, tuple(place for place in some if holder in layout.holders[place])))
    needed = {place: min(limits.HANDED_TO, len(layout.holders[place])) for place in some}
    handed = frozenset(place for place in some if 0 < needed[place] <= sure[place])
    if not handed or parts.layout is not layout or parts.former is not None:
        return 0  # by the former codebook this node still answers with all that it has
    kept = tuple(sorted({*layout.mine, *(place for place in strange if place not in handed)}))
    gone: int = await Propose(Release(layout.name, kept), MACHINE)
    return gone


def _holders(layout: Layout, places: Iterable[int]) -> set[NodeId]:
    return {node for place in places for node in layout.holders[place]} - {layout.me}


async def _looked_after(parts: Parts, layout: Layout, holder: NodeId, places: Places) -> list[int]:
    """The places of which ``holder`` has all that this node has; it is told of the rest. No place, where it does not answer."""
    try:
        sure = []
        for start in range(0, len(places), limits.PLACES_ASKED):
            asked = places[start : start + limits.PLACES_ASKED]
            theirs = {item.id: item.version for item in await _listed(layout, holder, asked)}
            for place in asked:
                mine = await _mine(place)
                lacking = [item for item in mine if theirs.get(item.id, -1) < item.version]
                newer = [item.id for item in mine if theirs.get(item.id, -1) > item.version]
                if newer:  # another node of the owner has changed it, or taken it away: this one must not bring it back
                    wanted: Wanted = await Propose(Want(()), MACHINE)
                    await fetch(parts, holder, newer, wanted.suspected, limits.PAGES_A_ROUND)
                for at in range(0, len(lacking), limits.HINT_ITEMS):
                    hint = encode_hint(lacking[at : at + limits.HINT_ITEMS])
                    await Ask(holder, HINT, hint, limits.HINT_TIMEOUT_S, retries=0)
                if not lacking:
                    sure.append(place)
        return sure
    except MeshError:
        return []  # it is looked at again in a minute


async def _listed(layout: Layout, holder: NodeId, places: Places) -> list[Item]:
    found: list[Item] = []
    after, more, pages = "", True, 0
    while more and pages < limits.PAGES_LISTED:
        items = await items_of(holder, layout, places, after)
        pages += 1
        if items.items and items.items[0].id <= after:
            raise Refused("bad-message", "a holder lists again what it has listed before")
        found += items.items
        more, after = items.more, found[-1].id if found else after
    return found


async def _mine(place: int) -> list[Item]:
    found: list[Item] = []
    after, more = "", True
    while more:
        items: Items = await Propose(ReadItems((place,), after), MACHINE)
        found += items.items
        more, after = items.more, found[-1].id if found else after
    return found
