"""The service ``/meshos/directory-search/1``: what fits a question in the cells of this node that it is asked for.

It answers for those cells only that it holds by its own reckoning and lacks nothing in. The asker goes to another holder for the rest.
While the directory goes from one codebook to the next it also says what it has of cells that it may lack something in, and, to who asks
by the codebook before, what it has at all: neither is all of a cell.
"""

from functools import partial

from meshos.protocols.directory import limits
from meshos.protocols.directory.cells.query import Brief, CellAnswer, CellSearch, decode_search, encode_answer
from meshos.protocols.directory.commands import Places
from meshos.protocols.directory.filters import check
from meshos.protocols.directory.matching import forged, matches
from meshos.protocols.directory.parts import Parts
from meshos.protocols.directory.shelf import Match
from meshos.protocols.rpc.events import Inbound


async def answer(parts: Parts, inbound: Inbound) -> bytes:
    """Raises Refused ``bad-message`` or ``other-layout``, and BadInput as ``filters.check`` does."""
    asked = decode_search(inbound.body)
    check(asked.filters)
    return encode_answer(await answered(parts, asked))


async def answered(parts: Parts, asked: CellSearch) -> CellAnswer:
    """The answer of this node. Raises Refused ``other-layout``."""
    cells, within = _looked_in(parts, asked)
    if within == ():
        return CellAnswer((), (), ())
    left_out = frozenset({asked.left_out}) if asked.left_out else frozenset[str]()
    search = partial(matches, parts, asked.question, asked.filters, left_out, within, collapse=asked.collapse)
    found = await search()
    wrong = await forged(parts, [match.sealed for match in found[: limits.RANKS_HIGH]])
    if any(match.behind for match in found if match.sealed.digest in wrong):
        found = await search()  # it is gone by now, and another stands for those that were behind it
    good = [match for match in found if match.sealed.digest not in wrong]
    return CellAnswer(cells, tuple(brief_of(match) for match in good), _within(good[: asked.full]))


def _looked_in(parts: Parts, asked: CellSearch) -> tuple[Places, Places | None]:
    """Of which cells this node can say all, and in which it looks; None: in whatever it has. Raises Refused ``other-layout``."""
    former = parts.former
    if former is not None and asked.layout == former.layout.name:
        return (), None
    parts.check_layout(asked.layout)
    cells = parts.sure_of(asked.cells)
    return cells, cells if former is None else asked.cells


def brief_of(match: Match) -> Brief:
    """What an answer says of a match."""
    record = match.record
    return Brief(record.agent_id, record.version, match.sealed.digest, match.score, record.profile.per_query, match.behind)


def _within(found: list[Match]) -> tuple[bytes, ...]:
    """The sealed records of the first, as many as one message carries."""
    sealed: list[bytes] = []
    room = limits.ANSWER_BYTES
    for match in found:
        data = match.sealed.to_bytes()
        room -= len(data)
        if room < 0:
            break
        sealed.append(data)
    return tuple(sealed)
