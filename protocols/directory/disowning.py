"""The Flow that lets go of what revoked nodes have signed, after a revocation list has come and at the start.

Such an entry is forgotten, not marked: what its organisation signs anew counts whatever version the revoked node had given it. A node
that has not heard of the revocation yet may offer it again; it is refused then, by its certificate.
"""

from functools import partial

from meshos.flow import Compute, Propose
from meshos.ids import OrgDid
from meshos.protocols.directory import limits
from meshos.protocols.directory.commands import MACHINE, Disown, Item, Items, Read, ReadItems, ReadPlaces
from meshos.protocols.directory.parts import Parts


async def disown(parts: Parts, orgs: frozenset[OrgDid]) -> int:
    """Look at all entries of ``orgs``, a few at a time; how many went."""
    gone = 0
    places: tuple[int, ...] = await Propose(ReadPlaces(), MACHINE)
    for place in places:
        after, more = "", True
        while more:
            listed: Items = await Propose(ReadItems((place,), after), MACHINE)
            more = listed.more
            for start in range(0, len(listed.items), limits.DISOWNED_AT_ONCE):
                some = listed.items[start : start + limits.DISOWNED_AT_ONCE]
                gone += await _disown_some(parts, orgs, some)
            after = listed.items[-1].id if listed.items else after
    return gone


async def _disown_some(parts: Parts, orgs: frozenset[OrgDid], items: tuple[Item, ...]) -> int:
    ids = tuple(item.id for item in items)
    entries: tuple[bytes, ...] = await Propose(Read(ids, len(ids) * limits.RECORD_BYTES), MACHINE)
    revoked: tuple[Item, ...] = await Compute(partial(parts.checker.revoked, entries, orgs), cost_s=0.0003 * len(entries))
    if revoked:
        await Propose(Disown(revoked), MACHINE)
    return len(revoked)
