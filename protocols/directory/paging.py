"""Where an answer goes on: ranks that are the same each time, and the cursor that names one.

Theory of operation. Agents are ranked by their score in ten-thousandths, and those of equal score by id: a rank depends on nothing else.
A cursor holds the last rank that was shown; the next page begins with the first agent that ranks after it. So while nothing changes
no agent comes twice and none is left out, and if something changes in between, nothing that still ranks as high as what was shown comes
again. Only the FOUND that rank highest are paged: it is among these that the order is exact. Agents that are alike stand under the best of
them: on which page that is depends on what ranks before it alone, so that this holds of them, too.

A cursor is the base64url, without padding, of canonical CBOR [name of the question, score, agent's id, how many were shown]. It is not
signed: it opens nothing that the same question without it would not show.
"""

import base64
import binascii
import hashlib
from dataclasses import astuple, dataclass
from typing import TypeAlias

from meshos import cbor
from meshos.errors import BadInput, Refused
from meshos.ids import AgentId
from meshos.protocols.directory import limits
from meshos.protocols.directory.filters import Filters
from meshos.protocols.directory.related import AGENT_ID
from meshos.protocols.directory.weighing import Weigh

SCORES = 10_000
"""Scores are told apart to so many parts of one."""

Rank: TypeAlias = tuple[int, AgentId]
"""Rising along an answer: the score in ten-thousandths, negative, and the agent's id."""

_NAME_BYTES = 16


@dataclass(frozen=True, slots=True)
class Page:
    """Where a page begins: ``after`` this rank (None: at the first), ``shown`` agents having been shown on the pages before."""

    after: Rank | None = None
    shown: int = 0


FIRST = Page()


def rank(score: float, agent: AgentId) -> Rank:
    """The rank of an agent with this score (0..1)."""
    return -round(score * SCORES), agent


def name_of(query: str, related: AgentId | None, filters: Filters, weigh: Weigh, *, collapse: bool = True) -> bytes:
    """16 bytes that name a question; how many answers are wanted has no part in it."""
    said = cbor.encode([query, related, astuple(filters), astuple(weigh), collapse])
    return hashlib.blake2b(said, digest_size=_NAME_BYTES, person=b"meshos/page/1").digest()


def cursor(name: bytes, page: Page) -> str:
    """The text that stands for ``page`` of the question ``name``; ``page`` is not the first."""
    assert page.after is not None
    score, agent = page.after
    return base64.urlsafe_b64encode(cbor.encode([name, -score, agent, page.shown])).rstrip(b"=").decode()


def page_of(text: str, name: bytes) -> Page:
    """The page that a cursor of the question ``name`` stands for; raises BadInput ``bad-cursor``."""
    if len(text) > limits.CURSOR_CHARS:
        raise _bad("it is too long")
    try:
        value = cbor.decode(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True), max_bytes=limits.CURSOR_CHARS)
    except (binascii.Error, ValueError, Refused) as error:
        raise _bad("it is not as an answer had it") from error
    match value:
        case [bytes() as asked, int() as score, str() as agent, int() as shown] if _whole(score, shown) and AGENT_ID.fullmatch(agent):
            if asked != name:
                raise _bad("it belongs to another question, or to other filters, weights or `collapse` (--all)")
            return Page((-score, AgentId(agent)), shown)
    raise _bad("it is not as an answer had it")


def _whole(score: int, shown: int) -> bool:
    return not isinstance(score, bool) and not isinstance(shown, bool) and 0 <= score <= SCORES and 1 <= shown < limits.FOUND


def _bad(why: str) -> BadInput:
    return BadInput("bad-cursor", f"this cursor leads nowhere: {why}", hint="repeat the question without a cursor, from its first page")
