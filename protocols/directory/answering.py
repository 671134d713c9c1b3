"""The service ``/meshos/directory-search/1``: what fits a question in the cells of this node that it is asked for.

It answers for those cells only that it holds by its own reckoning and lacks nothing in. The asker goes to another holder for the rest.
"""

from meshos.protocols.directory import limits
from meshos.protocols.directory.cells.query import Brief, CellAnswer, CellSearch, decode_search, encode_answer
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
    parts.check_layout(asked.layout)
    cells = parts.sure_of(asked.cells)
    if not cells:
        return CellAnswer((), (), ())
    left_out = frozenset({asked.left_out}) if asked.left_out else frozenset[str]()
    found = await matches(parts, asked.question, asked.filters, left_out, cells, collapse=asked.collapse)
    wrong = await forged(parts, [match.sealed for match in found[: limits.RANKS_HIGH]])
    good = [match for match in found if match.sealed.digest not in wrong]
    return CellAnswer(cells, tuple(brief_of(match) for match in good), _within(good[: asked.full]))


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
