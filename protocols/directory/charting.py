"""How a node comes to know what is in cells that others hold: it asks their holders for the summaries that are new since it last asked.

Of each cell it keeps what each of its holders last told, three at most, and draws its chart of all of them (``cells/routing``).
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial

from meshos.effects import Ok
from meshos.errors import MeshError
from meshos.flow import Ask, Compute, Gather, Propose
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
    """The encoded summaries of cells that this node holds; worked out anew where something changed since."""
    layout, charted = parts.layout, parts.charted
    if not cells or layout.codebook is None:
        return {}
    digest: Digest = await Propose(ReadDigest(cells), MACHINE)
    size = limits.DIGEST_BYTES
    digests = {cell: digest.places[at * size : (at + 1) * size] for at, cell in enumerate(cells)}
    stale = tuple(cell for cell in cells if charted.own.get(cell, (b"", b""))[0] != digests[cell])
    for start in range(0, len(stale), limits.PLACES_ASKED):
        some = stale[start : start + limits.PLACES_ASKED]
        made = await Compute(partial(_summarised, parts.shelf, layout.codebook, some), cost_s=0.002 * len(some))
        for cell, data in zip(some, made, strict=True):
            charted.own[cell] = digests[cell], data
    return {cell: charted.own[cell][1] for cell in cells}


def _summarised(shelf: Shelf, codebook: Codebook, cells: Places) -> list[bytes]:
    lying = shelf.lying_in(cells)
    return [summaries.encode(summarise(cell, there, codebook.vocabulary)) for cell, there in zip(cells, lying, strict=True)]


async def learn(parts: Parts, turn: int) -> int:
    """Ask some nodes, others with each ``turn``, for news of the cells that they hold, and draw the chart anew; how many were news."""
    layout = parts.layout
    if layout.codebook is None:
        return 0
    if parts.charted.layout != layout.name:
        parts.charted = Charted(layout.name)
    charted = parts.charted
    mine = tuple(cell for cell in layout.mine if cell < layout.codebook.cells)
    own = await _own(parts, parts.sure_of(mine))
    asked = _whom(parts, layout, turn)
    answers = await Gather(*(_asked(layout, node, cells, charted) for node, cells in asked.items()), each=True)
    told = [(parts.node, [(data, summaries.decode(data)) for data in own.values()])]
    told += [(node, outcome.value) for node, outcome in zip(asked, answers, strict=True) if isinstance(outcome, Ok)]
    if charted is not parts.charted:
        return 0  # the directory was laid anew meanwhile
    fresh = sum(_take(charted, node, data, one) for node, some in told for data, one in some)
    gone = _forget(charted, parts.node, layout, own)
    if fresh or gone or charted.chart is None:
        voices, sure = _voices(charted), _sure(parts, layout, own)
        charted.chart = await Compute(partial(_drawn, layout.codebook, voices, sure), cost_s=0.01)
    return fresh


def _take(charted: Charted, node: NodeId, data: bytes, one: Summary) -> bool:
    """Note what ``node`` tells of a cell; whether it is new."""
    told, name = charted.told.setdefault(one.cell, {}), name_of(data)
    new = node not in told or told[node][0] != name
    told[node] = name, one
    return new


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
    """Of whom which cells are asked now. Holders are asked one after another, some in each turn; when all had their turn, each cell that is
    not held here was asked of one of its holders, and the next time round of another."""
    assert layout.codebook is not None
    alive, mine = frozenset(parts.peers()), frozenset(layout.mine)
    holding: dict[NodeId, list[tuple[int, int, int]]] = {}
    for cell in range(layout.codebook.cells):
        nodes = [node for node in layout.holders[cell] if node in alive]
        for at, node in enumerate(nodes if cell not in mine else ()):
            holding.setdefault(node, []).append((cell, at, len(nodes)))
    order = sorted(holding)
    count = min(limits.SUMMARIES_FROM, len(order))
    asked: dict[NodeId, Places] = {}
    for place in range(turn * count, (turn + 1) * count):
        node, lap = order[place % len(order)], place // len(order)
        asked[node] = tuple(cell for cell, at, of in holding[node] if (lap + cell) % of == at)
    return {node: cells for node, cells in asked.items() if cells}


async def _asked(layout: Layout, node: NodeId, cells: Places, charted: Charted) -> list[tuple[bytes, Summary]]:
    told = [charted.told.get(cell, {}) for cell in cells]
    known = tuple(one[node][0] if node in one else bytes(limits.SUMMARY_NAME_BYTES) for one in told)
    body = encode_request(AskSummaries(layout.name, cells, known))
    try:
        found = decode_summaries(await Ask(node, PROTOCOL, body, limits.SYNC_TIMEOUT_S, retries=0))
        read = [(data, summaries.decode(data)) for data in found]
    except MeshError:
        return []  # it is away, or has not heard of this layout yet: it is asked again in its turn
    return [(data, one) for data, one in read if one.cell in frozenset(cells)]
