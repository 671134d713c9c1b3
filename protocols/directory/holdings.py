"""The table of what a node holds: one entry for each agent, in the places where it lies, with digests by which two tables are compared.

Which of two entries of an agent stays is decided alike everywhere, whatever came first: the higher version; of equal versions a mark
before a tombstone before a record, then the larger digest. So tables merge in any order to the same.

A *mark* remembers a version that has lapsed or was refused, so that it is not fetched again from a node that received it later. Marks
take no part in digests: they are nobody else's business.

Where an organisation has room for so many records by what it pays, it is for those whose ids come first; that too is alike in any order.
What is over it is not renewed, and lapses; until then nothing comes in beside it but in the place of another.
"""

import hashlib
import heapq
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from meshos.errors import Refused
from meshos.ids import AgentId, OrgDid
from meshos.protocols.directory import limits
from meshos.protocols.directory.commands import Item, Places

Kind = Literal["record", "tombstone", "mark"]

_ORDER: dict[Kind, int] = {"record": 0, "tombstone": 1, "mark": 2}


@dataclass(slots=True)
class Holding:
    """One entry, without its bytes: those are in the Store. ``since`` and ``expires`` are times of this machine.

    ``places`` are where it lies (``cells.layout``), a record's own cell first; none: that is to be worked out, and nobody is told of it.
    """

    id: AgentId
    org: OrgDid
    kind: Kind
    version: int
    digest: bytes
    since: float
    expires: float
    checked: bool
    own: bool
    places: Places = ()

    def rank(self) -> tuple[int, int, bytes]:
        """The larger one stays."""
        return self.version, _ORDER[self.kind], self.digest


def bucket_of(agent: AgentId) -> int:
    """An agent's bucket: the first byte of the hash in its id."""
    return int(agent[2:4], 16)


Caps: TypeAlias = Callable[[OrgDid], tuple[int, int, int | None]]
"""How many records the mesh wants held, in all and of one organisation; and for how many this one has room by what it pays (None: that is
not limited). No node holds more than its own limits."""

Lifetime: TypeAlias = Callable[[], float]
"""How many seconds the mesh wants a record to live."""


def uncapped(_: OrgDid) -> tuple[int, int, None]:
    """What a mesh that says nothing wants."""
    return limits.TOTAL_RECORDS, limits.ORG_RECORDS, None


def a_day() -> float:
    """How long a record lives in a mesh that says nothing."""
    return limits.TTL_S


class Holdings:
    """See the module's text."""

    def __init__(self, caps: Caps = uncapped) -> None:
        self._caps = caps
        self._buckets: list[dict[AgentId, Holding]] = [{} for _ in range(limits.BUCKETS)]
        self._places: dict[int, dict[AgentId, Holding]] = {}
        self._digests: dict[int, bytes] = {}
        self._records: dict[OrgDid, list[AgentId]] = {}  # the ids, rising
        self._entries: Counter[OrgDid] = Counter()
        self._own: dict[AgentId, Holding] = {}
        self.records = 0

    def own_records(self) -> list[Holding]:
        """The records that this node has signed itself and that its organisation has room for, longest held first."""
        own = list(self._own.values())
        over = frozenset(self._over(own[0].org)) if own else frozenset()
        return [holding for holding in own if holding.id not in over]

    def records_of(self, org: OrgDid) -> int:
        """How many records are held of an organisation."""
        return len(self._records.get(org, ()))

    def _over(self, org: OrgDid) -> list[AgentId]:
        """The records of an organisation that it has no room for."""
        room = self._caps(org)[2]
        return [] if room is None else self._records.get(org, [])[room:]

    def get(self, agent: AgentId) -> Holding | None:
        """What is held of an agent."""
        return self._buckets[bucket_of(agent)].get(agent)

    def records_beginning(self, prefix: str, most: int) -> list[AgentId]:
        """Up to ``most`` agents with a record whose ids begin so, in the order of their ids."""
        buckets = [self._buckets[bucket_of(AgentId(prefix))]] if len(prefix) >= 4 else self._buckets
        held = (holding for bucket in buckets for holding in bucket.items())
        return sorted(agent for agent, holding in held if holding.kind == "record" and agent.startswith(prefix))[:most]

    def __len__(self) -> int:
        return sum(self._entries.values())

    def all(self) -> Iterable[Holding]:
        """Everything, in no order."""
        return (holding for bucket in self._buckets for holding in bucket.values())

    def check_room(self, new: Holding, held: Holding | None) -> Holding | None:
        """Return if ``new`` fits in place of ``held``: the record that goes for it, if one does.

        Raises Refused ``org-full`` or ``directory-full``.
        What this node has signed itself takes no other's place: whoever publishes it hears that there is no room.
        """
        org = new.org
        if held is None and self._entries[org] >= limits.ORG_ENTRIES:
            raise Refused("org-full", f"{org} has {limits.ORG_ENTRIES} records and withdrawn ones here", hint="wait until the latter lapse")
        if new.kind != "record":
            return None
        is_held = held is not None and held.kind == "record"
        in_all, of_one, room = self._caps(org)
        there = self._records.get(org, [])
        if room is not None and (len(there) > room or (len(there) == room and not is_held)):
            if bisect_left(there, new.id) >= room or (new.own and not is_held):
                hint = "`mesh directory rent RECORDS` gets room for more; or withdraw some"
                raise Refused("org-full", f"{org} has {len(there)} records here, and room for {room}", hint=hint)
            return None if is_held else self.get(there[-1])
        if is_held:
            return None
        if len(there) >= min(of_one, limits.ORG_RECORDS):
            raise Refused("org-full", f"{org} has {len(there)} records here, and may have no more", hint="withdraw some")
        if self.records >= min(in_all, limits.TOTAL_RECORDS) and len(there) >= limits.ORG_SURE:
            raise Refused("directory-full", f"the directory holds {self.records} records", hint="try again when others have lapsed")
        return None

    def put(self, holding: Holding) -> None:
        """Hold this, in place of what was held of the agent."""
        self.drop(holding.id)
        self._buckets[bucket_of(holding.id)][holding.id] = holding
        for place in holding.places:
            self._places.setdefault(place, {})[holding.id] = holding
        self._entries[holding.org] += 1
        if holding.kind == "record":
            insort(self._records.setdefault(holding.org, []), holding.id)
            self.records += 1
            if holding.own:
                self._own[holding.id] = holding
        self._touch(holding)

    def lay(self, holding: Holding, places: Places) -> None:
        """It lies there from now on."""
        self._lift(holding)
        holding.places = places
        for place in places:
            self._places.setdefault(place, {})[holding.id] = holding
        self._touch(holding)

    def _lift(self, holding: Holding) -> None:
        self._touch(holding)
        for place in holding.places:
            there = self._places[place]
            del there[holding.id]
            if not there:
                del self._places[place]

    def drop(self, agent: AgentId) -> None:
        """Hold nothing of an agent."""
        holding = self._buckets[bucket_of(agent)].pop(agent, None)
        if holding is None:
            return
        self._lift(holding)
        self._entries[holding.org] -= 1
        if holding.kind == "record":
            there = self._records[holding.org]
            del there[bisect_left(there, agent)]
            self.records -= 1
            self._own.pop(agent, None)
            if not there:
                del self._records[holding.org]
        if not self._entries[holding.org]:
            del self._entries[holding.org]

    def places(self) -> list[int]:
        """Those in which something lies, rising."""
        return sorted(self._places)

    def lying_in(self, place: int) -> list[Holding]:
        """What lies in a place, in the order of the ids."""
        there = self._places.get(place, {})
        return [there[agent] for agent in sorted(there)]

    def digests(self, places: Sequence[int]) -> tuple[bytes, list[bytes]]:
        """A root of these places, and the digest of each: hashes over the sorted entries, so that nobody can make two tables look alike."""
        found = [self._digests.get(place) or self._digest(place) for place in places]
        return _hash(b"".join(found)), found

    def items(self, places: Sequence[int], after: str, most: int) -> tuple[tuple[Item, ...], bool]:
        """Up to ``most`` records and tombstones in these places in the order of their ids, and whether there are more."""
        lying = {
            agent: holding
            for place in places
            for agent, holding in self._places.get(place, {}).items()
            if agent > after and holding.kind != "mark"
        }
        first = heapq.nsmallest(most + 1, lying)
        return tuple(Item(agent, lying[agent].version, lying[agent].digest) for agent in first[:most]), len(first) > most

    def _digest(self, place: int) -> bytes:
        there = self._places.get(place, {})
        found = _hash(b"".join(agent.encode() + there[agent].digest for agent in sorted(there) if there[agent].kind != "mark"))
        self._digests[place] = found
        return found

    def _touch(self, holding: Holding) -> None:
        for place in holding.places:
            self._digests.pop(place, None)


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=limits.DIGEST_BYTES, person=b"meshos/bucket/1").digest()
