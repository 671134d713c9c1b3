"""Facets of a directory in cells: each cell that may hold what fulfils the filters is counted by one holder, and the counts are added up.

A holder tells its most frequent values only, so that a value that is rare in every holder's cells is counted too low, or left out.
"""

from collections import Counter

from meshos.effects import Ok
from meshos.errors import Refused
from meshos.flow import Ask, Gather
from meshos.ids import NodeId
from meshos.protocols.directory import limits
from meshos.protocols.directory.asking import Tried, note, plan
from meshos.protocols.directory.cells.counting import TALLY, CellTally, decode_counts, decode_tally, encode_counts, encode_tally
from meshos.protocols.directory.cells.routing import Chart
from meshos.protocols.directory.commands import Places
from meshos.protocols.directory.filters import Filters, check, condition_of
from meshos.protocols.directory.parts import Parts
from meshos.protocols.directory.tally import Counts, Tally, tally
from meshos.protocols.rpc.events import Inbound


async def total(parts: Parts, chart: Chart, filters: Filters) -> tuple[Tally, int]:
    """What fulfils ``filters`` in all cells, and of how many cells nobody could say it."""
    layout, tried = parts.layout, Tried()
    left = {*chart.possible(condition_of(filters))}
    parts_of: list[Tally] = []
    for _ in range(limits.WAVES):
        planned = plan(parts, layout, left, tried)
        asked = [_counted(parts, node, CellTally(layout.name, cells, filters)) for node, cells in planned.items()]
        for outcome in await Gather(*asked, each=True):
            if isinstance(outcome, Ok):
                cells, counted = outcome.value
                left -= set(cells)
                parts_of.append(counted)
        note(tried, planned)
        if not left:
            break
    records = sum(one.records for one in parts_of)
    kinds = [[one.capabilities for one in parts_of], [one.certifications for one in parts_of], [one.regions for one in parts_of]]
    return Tally(records, *(_sum(kind) for kind in kinds)), len(left)


def _sum(some: list[Counts]) -> Counts:
    added = Counter[str]()
    for counts in some:
        added.update(dict(counts))
    return tuple(sorted(added.items(), key=lambda item: (-item[1], item[0]))[: limits.FACETS_SHOWN])


async def _counted(parts: Parts, node: NodeId, asked: CellTally) -> tuple[Places, Tally]:
    if node == parts.node:
        return await _here(parts, asked)
    cells, counted = decode_counts(await Ask(node, TALLY, encode_tally(asked), limits.SEARCH_TIMEOUT_S, retries=0))
    if not set(cells) <= set(asked.cells):
        raise Refused("bad-message", "a holder counted cells that it was not asked for")
    return cells, counted


async def count(parts: Parts, inbound: Inbound) -> bytes:
    """The service ``/meshos/directory-tally/1``. Raises Refused ``bad-message`` or ``other-layout``, and what ``filters.check`` does."""
    asked = decode_tally(inbound.body)
    check(asked.filters)
    return encode_counts(*await _here(parts, asked))


async def _here(parts: Parts, asked: CellTally) -> tuple[Places, Tally]:
    parts.check_layout(asked.layout)
    cells = parts.sure_of(asked.cells)
    return cells, await tally(parts, asked.filters, cells, most=limits.FACETS_TOLD)
