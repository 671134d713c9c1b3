"""How a node comes to know what is in cells that others hold: it asks their holders for the summaries that are new since it last asked.

Of each cell it keeps what each of its holders last told, three at most, and draws its chart of all of them (``cells/routing``).
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial

from meshos.effects import Ok
from meshos.errors import MeshError
from meshos.flow import Ask, Compute, Gather, Propose, Sleep
from meshos.ids import NodeId
from meshos.protocols.directory import limits
from meshos.protocols.directory.cells import summary as summaries
from meshos.protocols.directory.cells.codebook import Codebook
from meshos.protocols.directory.cells.layout import Layout
from meshos.protocols.directory.cells.routing import VOICES, Chart, chart
from meshos.protocols.directory.cells.summary import Summary, summarise
from meshos.protocols.directory.commands import MACHINE, Digest, Places, ReadDigest
from meshos.protocols.directory.parts import Charted, Parts
from meshos.protocols.directory.record import PROTOCOL
from meshos.protocols.directory.shelf import Shelf
from meshos.protocols.directory.wire import AskSummaries, decode_summaries, encode_request, encode_summaries


async def tell_summaries(parts: Parts, asked: AskSummaries) -> bytes:
    """The answer to AskSummaries: those of the cells that this node holds and lacks nothing in, where the asker has another."""
    cells = parts.sure_of(asked.places)
    known = dict(zip(asked.places, asked.known, strict=True))
    mine = await _own(parts, cells)
    news, room = [], limits.ANSWER_BYTES
    for cell, data in mine.items():
        if name_of(data) != known[cell] and len(data) <= room:
            news.append(data)
            room -= len(data)
    return encode_summaries(news)


def name_of(data: bytes) -> bytes:
    """The 8 bytes by which a summary is known to be the same."""
    return hashlib.blake2b(data, digest_size=limits.SUMMARY_NAME_BYTES).digest()


async def _own(parts: Parts, cells: Places) -> Mapping[int, bytes]:
    """The encoded summaries of cells that this node holds; worked out anew where something changed since, by one who asks for all."""
    layout, charted = parts.layout, parts.charted
    if not cells or layout.codebook is None:
        return {}
    digest: Digest = await Propose(ReadDigest(cells), MACHINE)
    size = limits.DIGEST_BYTES
    digests = {cell: digest.places[at * size : (at + 1) * size] for at, cell in enumerate(cells)}
    while stale := [cell for cell in cells if charted.own.get(cell, (b"", b""))[0] != digests[cell]]:
        some = tuple(cell for cell in stale if cell not in charted.making)[: limits.PLACES_ASKED]
        if not some:  # somebody makes all that is left, maybe of what came later
            await _made(charted, stale)
            break
        charted.making.update(some)
        try:
            made = await Compute(partial(_summarised, parts.shelf, layout.codebook, some), cost_s=0.002 * len(some))
        finally:
            charted.making.difference_update(some)
        for cell, data in zip(some, made, strict=True):
            charted.own[cell] = digests[cell], data
    return {cell: charted.own[cell][1] for cell in cells if cell in charted.own}


async def _made(charted: Charted, cells: Sequence[int]) -> None:
    """Wait until nobody makes summaries of these any more."""
    while not charted.making.isdisjoint(cells):
        await Sleep(limits.MAKING_S)


def _summarised(shelf: Shelf, codebook: Codebook, cells: Places) -> list[bytes]:
    lying = shelf.lying_in(cells)
    return [summaries.encode(summarise(cell, there, codebook.vocabulary)) for cell, there in zip(cells, lying, strict=True)]


async def learn(parts: Parts, turn: int) -> int:
    """Ask some nodes, others with each ``turn``, for news of the cells that they hold, and draw the chart anew; how much was news."""
    layout = parts.layout
    if layout.codebook is None:
        return 0
    if parts.charted.layout != layout.name:
        parts.charted = Charted(layout.name)
    return await _hear(parts, layout, _whom(parts, layout, turn), limits.SYNC_TIMEOUT_S)


def note_news(parts: Parts, cells: Places) -> None:
    """There is something new in these cells: who holds them is asked about it, and own ones are looked at. While nothing was heard of the
    present cells yet a round will ask about all."""
    layout, charted = parts.layout, parts.charted
    if layout.codebook is not None and charted.layout == layout.name:
        alive, mine = frozenset(parts.peers()), frozenset(layout.mine)
        for cell in cells:
            if cell < layout.codebook.cells:
                charted.news[cell] = alive.intersection(layout.holders[cell] if cell not in mine else ())


async def follow(parts: Parts) -> None:
    """Never ends: ask about what is news as soon as it is, a few holders at a time and with a pause, whoever announces what."""
    while True:
        await Sleep(limits.NEWS_S)
        layout, charted = parts.layout, parts.charted
        if charted.news and layout.codebook is not None and charted.layout == layout.name:
            try:
                await _hear(parts, layout, _about(charted.news), limits.NEWS_WAIT_S)
            except MeshError:
                continue  # a round will ask again


def _about(news: dict[int, Set[NodeId]]) -> dict[NodeId, Places]:
    """Whom to ask now about which cells; who is left over is asked in a later turn, when it is the turn of these cells again."""
    asked: dict[NodeId, list[int]] = {}
    for cell in [*news]:
        for node in sorted(news[cell]):
            if node in asked or len(asked) < limits.SUMMARIES_FROM:
                asked.setdefault(node, []).append(cell)
        left = news[cell] - asked.keys()
        if left != news[cell] or not left:
            del news[cell]
            if left:
                news[cell] = left
    return {node: tuple(sorted(cells)) for node, cells in asked.items()}


def _holding(parts: Parts, layout: Layout) -> dict[NodeId, Places]:
    """Who is there and holds some of the cells that are not held here, and which."""
    assert layout.codebook is not None
    alive, mine = frozenset(parts.peers()), frozenset(layout.mine)
    holding: dict[NodeId, list[int]] = {}
    for cell in (cell for cell in range(layout.codebook.cells) if cell not in mine):
        for node in layout.holders[cell]:
            if node in alive:
                holding.setdefault(node, []).append(cell)
    return {node: tuple(some) for node, some in holding.items()}


async def _hear(parts: Parts, layout: Layout, asked: Mapping[NodeId, Places], timeout_s: float) -> int:
    """Ask these about these cells, look at own ones, and draw the chart anew if it is not as it was; how much was news."""
    charted, codebook = parts.charted, layout.codebook
    assert codebook is not None
    own = await _own(parts, parts.sure_of(tuple(cell for cell in layout.mine if cell < codebook.cells)))
    for cell, data in own.items():
        _take(charted, parts.node, cell, data)
    answers = await Gather(*(_asked(layout, node, cells, charted, timeout_s) for node, cells in asked.items()), each=True)
    if charted is not parts.charted:
        return 0  # the directory was laid anew meanwhile
    charted.changes += _forget(charted, parts.node, layout, own)
    await _draw(charted, codebook, partial(_sure, parts, layout, own))
    return sum(outcome.value for outcome in answers if isinstance(outcome, Ok))


async def _draw(charted: Charted, codebook: Codebook, sure: Callable[[], list[int]]) -> None:
    """Draw the chart, until it is of all that was told. Who draws it already sees to what has come meanwhile: an older one never stays."""
    if charted.drawing:
        return
    charted.drawing = True
    try:
        while charted.chart is None or charted.drawn != charted.changes:
            changes = charted.changes
            charted.chart = await Compute(partial(_drawn, codebook, _voices(charted), sure()), cost_s=0.01)
            charted.drawn = changes
    finally:
        charted.drawing = False


def _take(charted: Charted, node: NodeId, cell: int, data: bytes, one: Summary | None = None) -> bool:
    """Note what ``node`` tells of a cell (``one``: what ``data`` is, if it was read already); whether it is new."""
    name = name_of(data)
    if _known(charted, node, cell) == name:
        return False
    charted.told.setdefault(cell, {})[node] = name, one or summaries.decode(data)
    charted.changes += 1
    return True


def _known(charted: Charted, node: NodeId, cell: int) -> bytes:
    """The name of what ``node`` told last of a cell."""
    told = charted.told.get(cell, {})
    return told[node][0] if node in told else bytes(limits.SUMMARY_NAME_BYTES)


def _forget(charted: Charted, me: NodeId, layout: Layout, own: Mapping[int, bytes]) -> int:
    """What was told by those who hold a cell no more is forgotten once enough of those that hold it now have told something, and of own
    cells what others told; how many summaries went."""
    gone = 0
    for cell, told in charted.told.items():
        holders = (me,) if cell in own else layout.holders[cell]
        former = [node for node in told if node not in holders]
        lacking = 0 if cell in own else max(0, VOICES - (len(told) - len(former)))
        for node in former[: len(former) - lacking]:
            del told[node]
            gone += 1
    return gone


def _voices(charted: Charted) -> list[dict[int, Summary]]:
    """What was told of all cells, as many voices as some cell has: who speaks in which is no matter."""
    voices: list[dict[int, Summary]] = []
    for cell, told in charted.told.items():
        for at, (_, one) in enumerate(told.values()):
            if at == len(voices):
                voices.append({})
            voices[at][cell] = one
    return voices


def _sure(parts: Parts, layout: Layout, own: Mapping[int, bytes]) -> list[int]:
    """The cells of which one voice is enough: those held here, and those of which no two holders are alive."""
    assert layout.codebook is not None
    alive = frozenset(parts.peers()) | {parts.node}
    return [cell for cell in range(layout.codebook.cells) if cell in own or sum(node in alive for node in layout.holders[cell]) < VOICES]


def _drawn(codebook: Codebook, voices: Sequence[Mapping[int, Summary]], sure: Sequence[int]) -> Chart:
    return chart(codebook, *voices, sure=sure)


def _whom(parts: Parts, layout: Layout, turn: int) -> dict[NodeId, Places]:
    """Of whom which cells are asked now: holders one after another, some in each turn, each of all its cells that are not held here."""
    assert layout.codebook is not None
    holding = _holding(parts, layout)
    order = sorted(holding)
    count = min(limits.SUMMARIES_FROM, len(order))
    return {node: holding[node] for node in (order[place % len(order)] for place in range(turn * count, (turn + 1) * count))}


async def _asked(layout: Layout, node: NodeId, cells: Places, charted: Charted, timeout_s: float) -> int:
    """Ask ``node`` what is new in these cells, and note it as it comes; how much was news. If it has told something else meanwhile, that
    is newer."""
    known = {cell: _known(charted, node, cell) for cell in cells}
    body = encode_request(AskSummaries(layout.name, cells, tuple(known.values())))
    try:
        found = decode_summaries(await Ask(node, PROTOCOL, body, timeout_s, retries=0))
        read = [(data, summaries.decode(data)) for data in found]
    except MeshError:
        return 0  # it is away, or has not heard of this layout yet: it is asked again in its turn
    fresh = [(data, one) for data, one in read if one.cell in known and _known(charted, node, one.cell) == known[one.cell]]
    return sum(_take(charted, node, one.cell, data, one) for data, one in fresh)
