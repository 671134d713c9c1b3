"""The messages of ``/meshos/directory-tally/1``: how many records in some cells fulfil the filters, and have each facet."""

from collections.abc import Sequence
from dataclasses import dataclass

from meshos import cbor
from meshos.cbor import Value
from meshos.errors import Refused
from meshos.protocols.directory import limits
from meshos.protocols.directory.cells.limits import CELL_RECORDS, CELLS
from meshos.protocols.directory.cells.query import filters_in, filters_out
from meshos.protocols.directory.commands import Places
from meshos.protocols.directory.filters import Filters
from meshos.protocols.directory.tally import Counts, Tally
from meshos.protocols.directory.wire import decode_places, encode_places

TALLY = "/meshos/directory-tally/1"


@dataclass(frozen=True, slots=True)
class CellTally:
    """Count what fulfils ``filters`` in these cells of the layout."""

    layout: bytes
    cells: Places
    filters: Filters


def encode_tally(asked: CellTally) -> bytes:
    """A request's bytes."""
    return cbor.encode([asked.layout, encode_places(asked.cells), filters_out(asked.filters)])


def decode_tally(data: bytes) -> CellTally:
    """The request in ``data``; raises Refused ``too-large``, ``bad-encoding`` or ``bad-message``."""
    match cbor.decode(data, max_bytes=128 << 10):
        case [bytes() as layout, bytes() as cells, list() as filters] if len(layout) == limits.LAYOUT_BYTES:
            places = decode_places(cells)
            if places and places[-1] < CELLS[1]:
                return CellTally(layout, places, filters_in(filters))
    raise _bad()


def encode_counts(cells: Places, tally: Tally) -> bytes:
    """An answer's bytes: of which cells this is all, and what was counted there."""
    return cbor.encode(
        [encode_places(cells), tally.records, *(_out(part) for part in (tally.capabilities, tally.certifications, tally.regions))]
    )


def decode_counts(data: bytes) -> tuple[Places, Tally]:
    """The answer in ``data``; raises Refused ``too-large``, ``bad-encoding`` or ``bad-message``."""
    match cbor.decode(data, max_bytes=512 << 10):
        case [bytes() as cells, int() as records, list() as capabilities, list() as certifications, list() as regions]:
            places = decode_places(cells)
            if not isinstance(records, bool) and 0 <= records <= CELL_RECORDS * max(1, len(places)):
                return places, Tally(records, *(_in(part, records) for part in (capabilities, certifications, regions)))
    raise _bad()


def _out(counts: Counts) -> list[Value]:
    return [[value, count] for value, count in counts]


def _in(counts: Sequence[Value], records: int) -> Counts:
    found: list[tuple[str, int]] = []
    for entry in counts[: limits.FACETS_TOLD + 1]:
        match entry:
            case [str() as value, int() as count] if (
                len(value) <= limits.WORD_CHARS and not isinstance(count, bool) and 0 < count <= records
            ):
                found.append((value, count))
            case _:
                raise _bad()
    if len(found) > limits.FACETS_TOLD:
        raise _bad()
    return tuple(found)


def _bad() -> Refused:
    return Refused("bad-message", "counts of the directory, or a question for them, cannot be read")
