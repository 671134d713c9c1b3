"""What a node holds itself that fits: searched off the event loop, without what is in quarantine, and with vectors that are of their text.

What is in quarantine (an agent, its organisation, the node that publishes it) is not found. Records are held all the same: once it is
lifted they are there.
"""

from collections.abc import Callable, Sequence
from functools import partial

from meshos.errors import Failed
from meshos.flow import Compute, Propose
from meshos.protocols.directory import limits
from meshos.protocols.directory.commands import MACHINE, Find, Held, Places
from meshos.protocols.directory.filters import Filters, acceptor, condition_of
from meshos.protocols.directory.judging import judge
from meshos.protocols.directory.parts import Parts
from meshos.protocols.directory.record import AgentRecord, Sealed
from meshos.protocols.directory.shelf import Match
from meshos.storage.index.question import Question


async def matches(
    parts: Parts,
    asked: str | AgentRecord | Question,
    filters: Filters,
    left_out: frozenset[str],
    cells: Places | None = None,
    *,
    collapse: bool = True,
) -> list[Match]:
    """Up to FOUND that fit and are not in quarantine nor ``left_out``, the best first; of these ``cells`` only, if they are given.
    ``collapse``: of near-equal ones of an organisation only a few, so that others have room. The ledger is read between the searches, which
    worker threads do. Raises Failed ``model-missing``.
    """
    keep, condition, out = acceptor(parts.measures, filters), condition_of(filters, cells), left_out
    found: list[Match] = []
    for _ in range(limits.BARRED_ROUNDS):
        accepts = _without(out, keep)
        search = partial(parts.shelf.search, asked, limits.FOUND, accepts, condition, collapse=collapse, not_by=out)
        found = await Compute(search, cost_s=0.015)
        barred = {match.record.agent_id: _barred(parts, match) for match in found}
        found = [match for match in found if barred[match.record.agent_id] is None]
        more = {name for name in barred.values() if name is not None}
        if not more:
            break
        out |= more
    return found


def _barred(parts: Parts, match: Match) -> str | None:
    """Who is to be left out, so that the agent is not found: its organisation, itself, or all that its node has signed."""
    record = match.record
    return parts.barred(record.mesh_id, record.agent_id, match.sealed.signer)


def _without(out: frozenset[str], keep: Callable[[AgentRecord], bool] | None) -> Callable[[AgentRecord], bool] | None:
    if not out:
        return keep
    return lambda record: record.mesh_id not in out and record.agent_id not in out and (keep is None or keep(record))


async def forged(parts: Parts, records: Sequence[Sealed]) -> frozenset[bytes]:
    """The digests of those of ``records`` whose vectors turn out not to be of their text; each is checked once."""
    found: tuple[Held | None, ...] = await Propose(Find(tuple(sealed.entry.agent_id for sealed in records), brief=True), MACHINE)
    doubtful = tuple(sealed for sealed, held in zip(records, found, strict=True) if held is not None and not held.checked)
    try:
        return await judge(parts, doubtful)
    except Failed:
        return frozenset()  # a model that was there a moment ago is gone; the search will say so
