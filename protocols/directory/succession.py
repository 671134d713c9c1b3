"""How a codebook comes to be followed by another, where what is published has changed: trained by one, judged by each, as the first was.

A codebook is left in force for ``WATCH_ROUNDS``. Then whoever is to train looks whether it is worn by what the holders say of their cells,
and again after as many rounds. What they say may be wrong, so that nothing is made from it: the trainer draws records from the whole
mesh (``sampling``), and only if these say the same it trains on them and endorses what it has made. Every other organisation that has a
candidate before it draws records itself and judges by these (``cells.wear``): a codebook that is pointless, or worse, is endorsed by nobody
else. It too judges one in ``WATCH_ROUNDS``, so that no trainer keeps the mesh busy; what has not come into force by then is judged again.
"""

from functools import partial

from meshos.flow import Compute
from meshos.protocols.directory import limits
from meshos.protocols.directory.cells import limits as bounds
from meshos.protocols.directory.cells.codebook import Codebook
from meshos.protocols.directory.cells.training import train
from meshos.protocols.directory.cells.wear import succeeds, worn
from meshos.protocols.directory.cutting import bring
from meshos.protocols.directory.parts import Agreed, Parts, Watch
from meshos.protocols.directory.sampling import Sample, sample


async def succeed(parts: Parts) -> None:
    """Say whether this node would endorse a codebook in the place of the present one (``Parts.endorses``), if it is time to look."""
    agreed = None if parts.agreed is None else parts.agreed()
    if agreed is None or agreed.restoring or not agreed.in_cells or not agreed.version or not agreed.speaks:
        return
    watch, present = parts.watch, parts.layout.codebook
    if watch.version != agreed.version:
        parts.watch, parts.endorses = Watch(agreed.version), None
        return
    watch.rounds += 1
    laid = parts.layout.name == agreed.name[: limits.LAYOUT_BYTES] and parts.former is None
    if watch.rounds < limits.WATCH_ROUNDS or present is None or not laid:
        return
    waiting = _waiting(parts, agreed)
    wears = agreed.trains and _wears(parts)
    if waiting or agreed.trains:
        watch.rounds, watch.looks = 0, watch.looks + 1
    if waiting or wears:
        parts.endorses = await _endorsed(parts, agreed, present, waiting[:1], wears)


def _waiting(parts: Parts, agreed: Agreed) -> list[bytes]:
    """The names of those that others have endorsed and that this node has not refused."""
    made = parts.endorses[1] if agreed.trains and parts.endorses is not None else None
    names = [name for name in agreed.endorsed if name != made and name not in parts.refused_codebooks and name in parts.codebooks]
    return [name for name in names if parts.codebooks[name].version == agreed.version + 1]


def _wears(parts: Parts) -> bool:
    """Whether the present codebook is worn by what the holders say, as far as almost all of them have said it."""
    charted, chart = parts.charted, parts.charted.chart
    if parts.unsure or chart is None or charted.layout != parts.layout.name or len(charted.told) < bounds.REACHED * chart.codebook.cells:
        return False
    return worn(chart.records, float(chart.records.sum()))


async def _endorsed(parts: Parts, agreed: Agreed, present: Codebook, waiting: list[bytes], wears: bool) -> tuple[int, bytes] | None:
    judged = max([present.cells, *(parts.codebooks[name].cells for name in waiting)]) * bounds.JUDGED_A_CELL
    drawn = await sample(parts, bounds.SUCCESSOR_RECORDS if wears else max(bounds.CELLS_FROM, judged), parts.watch.looks)
    if drawn is None or len(drawn.texts) < bounds.CELLS_FROM:
        return None  # too little was reached, or too little is left to judge by
    if agreed.trains and parts.endorses is not None:  # the others follow what it brings: it changes that for nothing less than a bad one
        brought = parts.codebooks.get(parts.endorses[1])
        if (
            brought is not None
            and brought.version == present.version + 1
            and await Compute(partial(_good, parts, present, brought, drawn), cost_s=2.0)
        ):
            return parts.endorses
    for name in waiting:
        if await Compute(partial(_good, parts, present, parts.codebooks[name], drawn), cost_s=2.0):
            return agreed.version + 1, name
        parts.refused_codebooks.add(name)
    if not wears:
        return None
    made: Codebook | None = await Compute(partial(_trained, parts, present, drawn), cost_s=10.0)
    return None if made is None else await bring(parts, agreed, made)


def _good(parts: Parts, present: Codebook, successor: Codebook, drawn: Sample) -> bool:
    named = successor.model == parts.checker.embedder.name
    return named and succeeds(present, successor, drawn.vectors, drawn.placed_by, drawn.records)


def _trained(parts: Parts, present: Codebook, drawn: Sample) -> Codebook | None:
    """The next codebook; None where it would not be better by what was drawn."""
    version = present.version + 1
    made = train(version, parts.checker.embedder.name, drawn.vectors, drawn.texts, seed=version)
    return made if _good(parts, present, made, drawn) else None
