"""The record of one agent by its id: from what this node holds, or from those who hold the place of the id."""

from functools import partial

from meshos.errors import MeshError
from meshos.flow import Compute, Propose
from meshos.ids import AgentId, NodeId
from meshos.protocols.directory.commands import MACHINE, Find, Held
from meshos.protocols.directory.fetching import entries_of
from meshos.protocols.directory.parts import Parts
from meshos.protocols.directory.record import AgentRecord, Sealed


async def lookup(parts: Parts, agent: AgentId) -> Sealed | None:
    """The sealed record, its owner's signature checked; None if nobody who was reached has one. One holder after the other is asked."""
    (held,) = await Propose[tuple[Held | None, ...]](Find((agent,)), MACHINE)
    if held is not None and held.sealed is not None:
        return held.sealed if isinstance(held.sealed.entry, AgentRecord) else None
    place = parts.layout.place_of_id(agent)
    if place is None or parts.sure_of((place,)):
        return None
    for node in holders_of(parts, agent):
        found = await _asked(parts, node, agent)
        if found is not None:
            return found if isinstance(found.entry, AgentRecord) else None
    return None


def holders_of(parts: Parts, agent: AgentId) -> list[NodeId]:
    """Who may have it and is alive, the nearest first; those by the former codebook after those by this one."""
    layouts = [parts.layout] if parts.former is None else [parts.layout, parts.former.layout]
    alive, found = frozenset(parts.peers()), dict[NodeId, None]()
    for layout in layouts:
        place = layout.place_of_id(agent)
        nodes = alive.intersection(layout.holders[place]) if place is not None else frozenset[NodeId]()
        found |= dict.fromkeys(sorted(nodes, key=lambda node: (parts.distance_s(node), node)))
    return list(found)


async def _asked(parts: Parts, node: NodeId, agent: AgentId) -> Sealed | None:
    try:
        page = await entries_of(node, (agent,))
    except MeshError:
        return None  # the next holder is asked
    signed: list[Sealed] = await Compute(partial(parts.checker.signed, page[:1]), cost_s=0.0005)
    return next((sealed for sealed in signed if sealed.entry.agent_id == agent), None)
