"""How a node goes from one codebook to the next while questions go on: for a while it reads by both.

As soon as the next codebook is in force each node lays anew what it has, and holds other places, of which it has little. So whatever it had
stays with it, and questions by the former codebook it answers with all that it has, wherever that lies now: who asks goes to the holders
by either. Of its places it is sure only once it has compared them with every node that held something before and is alive, as any of these
may have what lies there now. The change is over for a node once it has done so and a holder of each cell has told the same by a summary.
"""

from collections.abc import Sequence
from functools import partial

from meshos.flow import Compute
from meshos.ids import NodeId
from meshos.protocols.directory import limits
from meshos.protocols.directory.cells.codebook import Codebook
from meshos.protocols.directory.cells.layout import Layout
from meshos.protocols.directory.cells.routing import Chart, chart
from meshos.protocols.directory.parts import Charted, Former, Parts


async def drawn_for(parts: Parts, ought: Layout) -> tuple[Former, Chart] | None:
    """What a node needs that goes from cells to others: how it lay before, and a chart of the new cells, of which nothing was heard yet.
    None: it comes from the whole or goes there, or its cells stay.
    """
    before = parts.layout
    if before.codebook is None or ought.codebook is None or before.name == ought.name:
        return None
    known = parts.charted.chart if parts.charted.layout == before.name else None
    former = known or await _unheard_of(before.codebook)
    unheard = {node for nodes in before.holders for node in nodes} - {parts.node}
    return Former(before, former, unheard, limits.TRANSITION_ROUNDS), await _unheard_of(ought.codebook)


async def _unheard_of(codebook: Codebook) -> Chart:
    drawn: Chart = await Compute(partial(chart, codebook, {}), cost_s=0.01)
    return drawn


def switch(parts: Parts, layout: Layout, drawn: tuple[Former, Chart] | None) -> None:
    """Lie by ``layout`` from now on."""
    if drawn is not None:
        parts.former, parts.charted = drawn[0], Charted(layout.name, chart=drawn[1])
    elif layout.codebook is None:
        parts.former = None
    parts.layout = layout


def unheard(parts: Parts) -> list[NodeId]:
    """The nodes to compare all places with in this round."""
    left = set[NodeId]() if parts.former is None else parts.former.unheard & set(parts.peers())
    return sorted(left, key=lambda node: (parts.distance_s(node), node))[: limits.HEARD_AT_ONCE]


def pass_round(parts: Parts, asked: Sequence[NodeId]) -> None:
    """One more round has passed, in which these were to be compared with: forget how it lay before, once nothing is missing any more, or it
    has taken too long. Who is there and does not answer, again and again, keeps nobody from being sure of what all others have.
    """
    former, codebook = parts.former, parts.layout.codebook
    if former is None or codebook is None:
        return
    former.tries.update(node for node in asked if node in former.unheard)
    former.unheard -= {node for node, tries in former.tries.items() if tries >= limits.HEARD_TRIES}
    if not unheard(parts) and len(parts.charted.told) == codebook.cells:
        former.rounds = min(former.rounds, limits.LINGERING_ROUNDS)
    former.rounds -= 1
    if former.rounds <= 0:
        parts.former = None
