"""How directories become alike: each node pulls what it lacks, and is told at once when there is something new.

A *round* with a peer compares roots (one message, when nothing differs), then the digests of the places that both hold, then lists those
that differ, then fetches what is missing or newer, page by page. Only pulled entries are merged, and only after their signatures held,
so that nobody can push anything (Demers et al. 1987, section 1.3: pull converges faster once most have an update). An
*announcement* names what a node has just published; who lacks it pulls it from the announcer. A lost one costs nothing but the time
until the next round.
"""

from collections.abc import Mapping, Sequence, Set
from functools import partial

from meshos.flow import Ask, Compute, Gather, Propose, Sleep
from meshos.ids import NodeId
from meshos.protocols.directory import limits
from meshos.protocols.directory.arranging import place_some
from meshos.protocols.directory.cells.layout import Layout
from meshos.protocols.directory.charting import note_news, tell_summaries
from meshos.protocols.directory.commands import (
    MACHINE,
    Digest,
    Find,
    Held,
    Item,
    Items,
    Places,
    Read,
    ReadDigest,
    ReadItems,
    ReadPlacesOf,
    Want,
    Wanted,
)
from meshos.protocols.directory.cutting import tell_codebook
from meshos.protocols.directory.fetching import fetch, items_of
from meshos.protocols.directory.parts import Parts
from meshos.protocols.directory.record import PROTOCOL, parse
from meshos.protocols.directory.wire import (
    HINT,
    AskCodebook,
    AskDigest,
    AskEntries,
    AskItems,
    AskSummaries,
    AskVersions,
    News,
    Request,
    decode_digests,
    decode_hint,
    decode_request,
    encode_digests,
    encode_entries,
    encode_hint,
    encode_items,
    encode_news,
    encode_part,
    encode_request,
    encode_versions,
)
from meshos.protocols.rpc.events import Inbound


async def serve(parts: Parts, inbound: Inbound) -> bytes:
    """The service ``/meshos/directory/1``. Raises Refused ``bad-message`` or ``other-layout``."""
    match decode_request(inbound.body):
        case AskDigest(layout, places, root):
            parts.check_layout(layout)
            digest: Digest = await Propose(ReadDigest(places), MACHINE)
            sure = frozenset(parts.sure_of(places) if parts.layout.codebook is not None or parts.holds_all() else ())
            unsure = tuple(place for place in places if place not in sure)
            return encode_digests(None if digest.root == root else digest.places, unsure)
        case AskItems(layout, places, after):
            parts.check_layout(layout)
            items: Items = await Propose(ReadItems(places, after), MACHINE)
            return encode_items(items)
        case AskSummaries(layout) as asked:
            parts.check_layout(layout)
            return await tell_summaries(parts, asked)
        case AskCodebook() as asked:
            return encode_part(*await tell_codebook(asked))
        case AskEntries(ids):
            entries: tuple[bytes, ...] = await Propose(Read(ids, limits.PAGE_BYTES), MACHINE)
            return encode_entries(entries)
        case AskVersions(ids):
            held: tuple[Held | None, ...] = await Propose(Find(ids, brief=True), MACHINE)
            there = [parts.layout.place_of_id(agent) for agent in ids]
            sure = frozenset(parts.sure_of([place for place in there if place is not None]))
            return encode_versions([0 if one is None else one.version for one in held], [place in sure for place in there])


async def hinted(parts: Parts, inbound: Inbound) -> bytes:
    """The service ``/meshos/directory-hint/1``: fetch what was announced, if it is news. Of what is new elsewhere the node asks by itself.

    One at a time for each peer, or its announcements could fill the table of Flows: one that comes meanwhile is answered at once, and a
    round follows for it.
    """
    announced, peer = decode_hint(inbound.body), inbound.peer.node
    if isinstance(announced, News):
        parts.check_layout(announced.layout)
        note_news(parts, announced.cells)
        return b""
    if peer in parts.hinted_by:
        parts.hinted_by[peer] = True
        return b""
    parts.hinted_by[peer] = not announced
    try:
        if announced:
            wanted: Wanted = await Propose(Want(announced), MACHINE)
            await fetch(parts, peer, wanted.ids, wanted.suspected, limits.PAGES_A_ROUND)
        while parts.hinted_by[peer]:
            parts.hinted_by[peer] = False
            await sync_with(parts, peer, parts.layout.mine)
    finally:
        del parts.hinted_by[peer]
    return b""


async def tell(parts: Parts, items: tuple[Item, ...]) -> None:
    """Announce what this node has published, to whoever is to hold it. Whom it does not reach learns of it in a round."""
    peers = sorted(parts.peers())
    if parts.layout.codebook is None:
        body = encode_hint(items if len(items) <= limits.HINT_ITEMS else ())
        await Gather(*(Ask(peer, HINT, body, limits.HINT_TIMEOUT_S, retries=0) for peer in peers[: limits.HINT_PEERS]), each=True)
        return
    while await place_some(parts):
        pass  # what this node has published waits for its places
    places: tuple[Places, ...] = await Propose(ReadPlacesOf(tuple(item.id for item in items)), MACHINE)
    nodes = [{node for place in there for node in parts.layout.holders[place]} for there in places]
    for before, them in zip(await _held_before(parts, items), nodes, strict=True):
        them |= before
    to: dict[NodeId, list[Item]] = {}
    for item, them in zip(items, nodes, strict=True):
        for node in them:
            to.setdefault(node, []).append(item)
    await _spread(parts, peers, to, {place for there in places for place in there})


async def _spread(parts: Parts, peers: Sequence[NodeId], to: Mapping[NodeId, Sequence[Item]], places: Set[int]) -> None:
    """Announce to each what it is to hold; when all have it, or one of them has kept the others waiting, tell all where it is."""
    waiting = True

    async def to_holders() -> None:
        nonlocal waiting
        await Gather(*(_announce(peer, to[peer]) for peer in peers if peer in to), each=True)
        waiting = False

    async def early() -> None:
        await Sleep(limits.NEWS_AFTER_S)
        if waiting:
            await _tell_all(parts, peers, places)

    await Gather(to_holders(), early(), each=True)
    await _tell_all(parts, peers, places)


async def _tell_all(parts: Parts, peers: Sequence[NodeId], places: Set[int]) -> None:
    """Have everybody, this node too, ask the holders of what is new about it, so that questions about it are sent there. Of many peers
    some are told, others each time."""
    layout = parts.layout
    cells = tuple(sorted(place for place in places if layout.codebook is not None and place < layout.codebook.cells))
    note_news(parts, cells)
    first = sum(cells) % max(1, len(peers))
    some = (*peers[first:], *peers[:first])[: limits.HINT_PEERS]
    for start in range(0, len(cells), limits.NEWS_CELLS):
        body = encode_news(News(layout.name, cells[start : start + limits.NEWS_CELLS]))
        await Gather(*(Ask(peer, HINT, body, limits.HINT_TIMEOUT_S, retries=0) for peer in some), each=True)


async def _held_before(parts: Parts, items: Sequence[Item]) -> list[set[NodeId]]:
    """Of each, who held it by the former codebook, and still answers for it."""
    former = parts.former
    if former is None:
        return [set() for _ in items]
    pages = [await Propose[tuple[bytes, ...]](Read((item.id,), limits.RECORD_BYTES), MACHINE) for item in items]
    places: list[Places] = await Compute(partial(_placed_by, former.layout, pages), cost_s=0.0005 * len(pages))
    return [{node for place in there for node in former.layout.holders[place]} for there in places]


def _placed_by(layout: Layout, pages: Sequence[tuple[bytes, ...]]) -> list[Places]:
    return [place for page in pages for place in (layout.places_of([parse(data).entry for data in page]) or [()])]


async def _announce(peer: NodeId, items: Sequence[Item]) -> None:
    """Page by page: the peer answers one when it has fetched what it wanted of it."""
    for start in range(0, len(items), limits.HINT_ITEMS):
        await Ask(peer, HINT, encode_hint(items[start : start + limits.HINT_ITEMS]), limits.HINT_TIMEOUT_S, retries=0)


async def sync_with(parts: Parts, peer: NodeId, places: Places) -> int:
    """One round with ``peer`` over these places; how many entries it brought. Raises what asking raises. One at a time with a peer."""
    if peer in parts.busy_with or not places:
        return 0
    parts.busy_with.add(peer)
    try:
        return await _round(parts, peer, places)
    finally:
        parts.busy_with.discard(peer)


async def _round(parts: Parts, peer: NodeId, places: Places) -> int:
    layout = parts.layout
    mine: Digest = await Propose(ReadDigest(places), MACHINE)
    theirs, unsure = decode_digests(await _ask(peer, AskDigest(layout.name, places, mine.root)), len(places))
    pages, news, size = limits.PAGES_A_ROUND, 0, limits.DIGEST_BYTES
    digests = () if theirs is None else zip(places, theirs, strict=True)
    differ = [place for at, (place, digest) in enumerate(digests) if digest != mine.places[at * size : (at + 1) * size]]
    for start in range(0, len(differ), limits.PLACES_ASKED):
        asked, after, more = tuple(differ[start : start + limits.PLACES_ASKED]), "", True
        while more and pages > 0:
            listed = await items_of(peer, layout, asked, after)
            more, after, pages = listed.more, listed.items[-1].id if listed.items else "", pages - 1
            wanted: Wanted = await Propose(Want(listed.items), MACHINE)
            used, found = await fetch(parts, peer, wanted.ids, wanted.suspected, pages)
            pages, news = pages - used, news + found
    if pages > 0 and layout is parts.layout:
        _compared(parts, peer, places, frozenset(unsure))
    return news


def _compared(parts: Parts, peer: NodeId, places: Places, unsure: frozenset[int]) -> None:
    if parts.layout.codebook is None:
        parts.compared.add(peer)
        others = parts.others()
        parts.caught_up |= not unsure or (others is not None and others <= parts.compared)
    if parts.former is not None and places == parts.layout.mine:
        parts.former.unheard.discard(peer)
    for place in places:
        if place in parts.unsure:
            with_ = parts.unsure[place] | {peer}
            parts.unsure[place] = with_
            if place not in unsure or with_.issuperset(set(parts.layout.holders[place]) - {parts.node}):
                del parts.unsure[place]


async def _ask(peer: NodeId, request: Request) -> bytes:
    return await Ask(peer, PROTOCOL, encode_request(request), limits.SYNC_TIMEOUT_S, retries=1)
