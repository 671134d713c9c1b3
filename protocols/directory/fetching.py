"""Entries of another node by the ids of their agents: asked for, verified, and merged with what this node has."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from meshos.flow import Ask, Compute, Propose
from meshos.ids import AgentId, NodeId, OrgDid
from meshos.protocols.directory import limits
from meshos.protocols.directory.cells.layout import Layout
from meshos.protocols.directory.checking import Admitted
from meshos.protocols.directory.commands import MACHINE, Find, Held, Items, Judge, Merge, Merged, Places
from meshos.protocols.directory.parts import Parts
from meshos.protocols.directory.record import PROTOCOL
from meshos.protocols.directory.wire import AskEntries, AskItems, decode_entries, decode_items, encode_request


async def items_of(
    node: NodeId, layout: Layout, places: Places, after: AgentId | str = "", timeout_s: float = limits.SYNC_TIMEOUT_S, retries: int = 1
) -> Items:
    """What ``node`` lists in these places after an id; of one ordinary cell, all. Raises what asking does, and Refused ``bad-message``."""
    return decode_items(await Ask(node, PROTOCOL, encode_request(AskItems(layout.name, places, after)), timeout_s, retries))


async def entries_of(
    node: NodeId, ids: Sequence[AgentId], timeout_s: float = limits.SEARCH_TIMEOUT_S, retries: int = 0
) -> tuple[bytes, ...]:
    """What ``node`` has of these agents (``IDS_A_PAGE`` at most), as much as a page holds: nothing of it is checked yet. Raises what asking
    raises, and Refused ``bad-message``."""
    return decode_entries(await Ask(node, PROTOCOL, encode_request(AskEntries(tuple(ids))), timeout_s, retries))


@dataclass(frozen=True, slots=True)
class _Taken:
    admitted: Admitted
    places: tuple[Places, ...]


def _take(parts: Parts, layout: Layout, entries: Sequence[bytes], suspected: frozenset[OrgDid]) -> _Taken:
    admitted = parts.checker.admit(entries, suspected)
    return _Taken(admitted, tuple(layout.places_of([sealed.entry for sealed in admitted.entries])))


async def fetch(parts: Parts, peer: NodeId, ids: Sequence[AgentId], suspected: frozenset[OrgDid], pages: int) -> tuple[int, int]:
    """Pull these entries from ``peer``, verify and merge them, in at most ``pages`` requests; how many were used, and were news."""
    left, used, news = list(ids), 0, 0
    while left and used < pages:
        batch, left = left[: limits.IDS_A_PAGE], left[limits.IDS_A_PAGE :]
        entries = await entries_of(peer, batch, limits.SYNC_TIMEOUT_S, retries=1)
        used += 1
        layout = parts.layout
        taken: _Taken = await Compute(partial(_take, parts, layout, entries, suspected), cost_s=0.0003 * len(entries))
        admitted = taken.admitted
        out = (*admitted.cheats, *admitted.shunned)
        if out:  # before the rest of the page is merged: who has cheated too often is refused from here on
            orgs = tuple(sealed.entry.mesh_id for sealed in admitted.cheats)
            suspected = await Propose[frozenset[OrgDid]](Judge((), (), orgs, tuple(sealed.digest for sealed in out)), MACHINE)
        here: tuple[Held | None, ...] = await Propose(
            Find(tuple(sealed.entry.agent_id for sealed in admitted.entries), brief=True), MACHINE
        )
        ours = [at for at, places in enumerate(taken.places) if here[at] is not None or layout.holds(places)]
        kept = tuple(admitted.entries[at] for at in ours)
        merged: Merged = await Propose(Merge(kept, admitted.checked, layout.name, tuple(taken.places[at] for at in ours)), MACHINE)
        news += merged.news
        came = {sealed.entry.agent_id for sealed in (*admitted.entries, *out)}
        if came & set(batch):  # a page holds so many bytes; of what the peer has not any more, nothing comes
            left = [agent for agent in batch if agent not in came] + left
    return used, news
