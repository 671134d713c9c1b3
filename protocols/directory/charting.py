"""How a node comes to know what is in cells that others hold: it asks their holders for the summaries that are new since it last asked."""

import hashlib
from collections.abc import Mapping
from functools import partial

from meshos.errors import MeshError
from meshos.flow import Ask, Compute, Gather, Propose, successes
from meshos.ids import NodeId
from meshos.protocols.directory import limits
from meshos.protocols.directory.cells import summary as summaries
from meshos.protocols.directory.cells.codebook import Codebook
from meshos.protocols.directory.cells.layout import Layout
from meshos.protocols.directory.cells.routing import chart
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
    answers = await Gather(*(_asked(layout, node, cells, charted) for node, cells in asked.items()))
    news = [(data, summaries.decode(data)) for data in own.values()] + [pair for told in successes(answers) for pair in told]
    fresh = [(data, one) for data, one in news if charted.names.get(one.cell) != name_of(data)]
    if (fresh or charted.chart is None) and charted is parts.charted:
        charted.known.update((one.cell, one) for _, one in fresh)
        charted.names.update((one.cell, name_of(data)) for data, one in fresh)
        charted.chart = await Compute(partial(chart, layout.codebook, dict(charted.known)), cost_s=0.01)
    return len(fresh)


def _whom(parts: Parts, layout: Layout, turn: int) -> dict[NodeId, Places]:
    """Of whom which cells are asked now: each that is not held here, of a holder that is alive and whose turn it is."""
    assert layout.codebook is not None
    alive, mine = frozenset(parts.peers()), frozenset(layout.mine)
    wanted: dict[NodeId, list[int]] = {}
    for cell in range(layout.codebook.cells):
        nodes = [node for node in layout.holders[cell] if node in alive]
        if cell not in mine and nodes:
            wanted.setdefault(nodes[(turn + cell) % len(nodes)], []).append(cell)
    order = sorted(wanted)
    begin = turn * limits.SUMMARIES_FROM % max(1, len(order))
    return {node: tuple(wanted[node]) for node in (order[begin:] + order[:begin])[: limits.SUMMARIES_FROM]}


async def _asked(layout: Layout, node: NodeId, cells: Places, charted: Charted) -> list[tuple[bytes, Summary]]:
    known = tuple(charted.names.get(cell, bytes(limits.SUMMARY_NAME_BYTES)) for cell in cells)
    body = encode_request(AskSummaries(layout.name, cells, known))
    try:
        found = decode_summaries(await Ask(node, PROTOCOL, body, limits.SYNC_TIMEOUT_S, retries=0))
        read = [(data, summaries.decode(data)) for data in found]
    except MeshError:
        return []  # it is away, or has not heard of this layout yet: it is asked again in its turn
    return [(data, one) for data, one in read if one.cell in frozenset(cells)]
