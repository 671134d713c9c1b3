"""What the mesh has of agents that their organisation is about to change: which version, and what lies where because of it.

While the directory is whole this node knows. In cells another node of the organisation may have published what this one does not hold, so
that it asks those who do: all holders of the place of each id that are there, as one of them may lag behind or lie.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from meshos.errors import MeshError, Refused
from meshos.flow import Ask, Compute, Gather, Propose, Sleep, successes
from meshos.ids import AgentId, NodeId
from meshos.protocols.directory import limits
from meshos.protocols.directory.commands import MACHINE, Find, Held
from meshos.protocols.directory.fetching import entries_of
from meshos.protocols.directory.lookup import holders_of
from meshos.protocols.directory.parts import Parts
from meshos.protocols.directory.record import PROTOCOL, Entry, Sealed
from meshos.protocols.directory.wire import AskVersions, decode_versions, encode_request


@dataclass(frozen=True, slots=True)
class Newest:
    """``version`` is 0 where nobody knows the agent. ``sealed`` is the newest record or tombstone, None where that has lapsed.

    ``sure``: this node holds the place of the id itself and lacks nothing there, or one who does has answered, or all have who may know.
    """

    version: int = 0
    sealed: Sealed | None = None
    sure: bool = True

    @property
    def entry(self) -> Entry | None:
        """What its owner said last, where anybody has it."""
        return None if self.sealed is None else self.sealed.entry


async def newest(parts: Parts, ids: Sequence[AgentId]) -> list[Newest]:
    """Of agents of this node's organisation; what no node of it has signed counts for nothing."""
    held: tuple[Held | None, ...] = await Propose(Find(tuple(ids)), MACHINE)
    known = {agent: Newest() if one is None else Newest(one.version, one.sealed) for agent, one in zip(ids, held, strict=True)}
    places = {agent: place for agent in known if (place := parts.layout.place_of_id(agent)) is not None}
    own = frozenset(parts.sure_of(tuple(places.values()))) if places else frozenset[int]()
    whom: dict[NodeId, list[AgentId]] = {}
    for agent, place in places.items():
        for node in holders_of(parts, agent) if place not in own else ():
            whom.setdefault(node, []).append(agent)
    told = successes(await Gather(*(_told(parts, node, some, known) for node, some in sorted(whom.items())))) if whom else []
    heard = {agent for agent, place in places.items() if place in own}
    heard |= {agent for one in told for agent in one if one[agent].sure}
    asked = Counter(agent for some in whom.values() for agent in some)
    heard |= {agent for agent, nodes in asked.items() if sum(agent in one for one in told) == nodes}
    for agent in places:
        known[agent] = _best([known[agent], *(one[agent] for one in told if agent in one)], sure=agent in heard)
    return [replace(known[agent], sure=known[agent].sure and parts.laid) for agent in ids]


def _best(said: Sequence[Newest], *, sure: bool) -> Newest:
    """The highest version, and the newest that is signed, which may be an older one."""
    shown = [one.sealed for one in said if one.sealed is not None]
    return Newest(max(one.version for one in said), max(shown, key=lambda sealed: sealed.entry.version, default=None), sure)


async def _told(parts: Parts, node: NodeId, ids: Sequence[AgentId], known: Mapping[AgentId, Newest]) -> dict[AgentId, Newest]:
    """What ``node`` knows of each that is newer than what is ``known``, and whether it is sure; nothing where it is too slow."""
    found: dict[AgentId, Newest] = {}
    await Gather(_tell(parts, node, ids, known, found), Sleep(limits.NEWEST_S), need=1)
    return found


async def _tell(parts: Parts, node: NodeId, ids: Sequence[AgentId], known: Mapping[AgentId, Newest], found: dict[AgentId, Newest]) -> None:
    try:
        for start in range(0, len(ids), limits.IDS_A_PAGE):
            some = tuple(ids[start : start + limits.IDS_A_PAGE])
            body = encode_request(AskVersions(some))
            versions, sure = decode_versions(await Ask(node, PROTOCOL, body, limits.SEARCH_TIMEOUT_S, retries=1), len(some))
            newer = tuple(agent for agent, version in zip(some, versions, strict=True) if version > known[agent].version)
            entries = await _entries(parts, node, newer) if newer else {}
            for agent, version, holds in zip(some, versions, sure, strict=True):
                sealed = entries.get(agent)
                found[agent] = Newest(_believed(version) if sealed is None else sealed.entry.version, sealed, holds)
    except MeshError:
        return  # it is away or talks nonsense: what it said before counts


def _believed(version: int) -> int:
    """A version that a holder shows nothing for: of a record that has lapsed, or a lie, which must not use up all numbers."""
    return version if version <= limits.CLAIMED_VERSIONS else 0


async def _entries(parts: Parts, node: NodeId, ids: tuple[AgentId, ...]) -> dict[AgentId, Sealed]:
    found: dict[AgentId, Sealed] = {}
    left = ids
    while left:
        page = await entries_of(node, left, retries=1)
        signed: list[Sealed] = await Compute(partial(parts.checker.signed, page), cost_s=0.0003 * len(page))
        own = (sealed for sealed in signed if sealed.entry.mesh_id == parts.org)
        came = {sealed.entry.agent_id: sealed for sealed in own if sealed.entry.agent_id in left}
        if not came:
            break  # it has only marks of the others, or sends what is not signed by us
        found |= came
        left = tuple(agent for agent in left if agent not in came)
    return found


def holders_away(name: str) -> Refused:
    """Nobody could be asked which version of an agent the mesh has."""
    told = f"nobody who would know which version of {name[:60]!r} the mesh has can be reached"
    return Refused("holders-away", told, hint="try again; `mesh status` tells who is there")
