"""Vectors that are computed again: those that are not of their text have their records removed."""

from meshos.flow import Compute, Propose
from meshos.protocols.directory.commands import MACHINE, Judge, item_of
from meshos.protocols.directory.parts import Parts
from meshos.protocols.directory.record import Sealed


async def judge(parts: Parts, records: tuple[Sealed, ...]) -> frozenset[bytes]:
    """Check the vectors of ``records`` and have those that do not fit removed; their digests. Raises Failed ``model-missing``."""
    if not records:
        return frozenset()
    wrong: frozenset[bytes] = await Compute(lambda: parts.checker.misfits(records), cost_s=0.015 * len(records))
    good = tuple(item_of(sealed) for sealed in records if sealed.digest not in wrong)
    bad = tuple(item_of(sealed) for sealed in records if sealed.digest in wrong)
    await Propose(Judge(good, bad), MACHINE)
    return wrong
