"""The table of what a node holds: one entry for each agent, in 256 buckets, with digests by which two tables are compared.

Which of two entries of an agent stays is decided alike everywhere, whatever came first: the higher version; of equal versions a mark
before a tombstone before a record, then the larger digest. So tables merge in any order to the same.

A *mark* remembers a version that has lapsed or was refused, so that it is not fetched again from a node that received it later. Marks
take no part in digests: they are nobody else's business.
"""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from meshos.errors import Refused
from meshos.ids import AgentId, OrgDid
from meshos.protocols.directory import limits
from meshos.protocols.directory.commands import Item

Kind = Literal["record", "tombstone", "mark"]

_ORDER: dict[Kind, int] = {"record": 0, "tombstone": 1, "mark": 2}


@dataclass(slots=True)
class Holding:
    """One entry, without its bytes: those are in the Store. ``since`` and ``expires`` are times of this machine."""

    id: AgentId
    org: OrgDid
    kind: Kind
    version: int
    digest: bytes
    since: float
    expires: float
    checked: bool
    own: bool

    def rank(self) -> tuple[int, int, bytes]:
        """The larger one stays."""
        return self.version, _ORDER[self.kind], self.digest


def bucket_of(agent: AgentId) -> int:
    """An agent's bucket: the first byte of the hash in its id."""
    return int(agent[2:4], 16)


Caps: TypeAlias = Callable[[], tuple[int, int]]
"""How many records the mesh wants held, in all and of one organisation. No node holds more than its own limits."""

Lifetime: TypeAlias = Callable[[], float]
"""How many seconds the mesh wants a record to live."""


def uncapped() -> tuple[int, int]:
    """What a mesh that says nothing wants."""
    return limits.TOTAL_RECORDS, limits.ORG_RECORDS


def a_day() -> float:
    """How long a record lives in a mesh that says nothing."""
    return limits.TTL_S


class Holdings:
    """See the module's text."""

    def __init__(self, caps: Caps = uncapped) -> None:
        self._caps = caps
        self._buckets: list[dict[AgentId, Holding]] = [{} for _ in range(limits.BUCKETS)]
        self._digests: list[bytes | None] = [None] * limits.BUCKETS
        self._root: bytes | None = None
        self._records: Counter[OrgDid] = Counter()
        self._entries: Counter[OrgDid] = Counter()
        self._own: dict[AgentId, Holding] = {}
        self.records = 0

    def own_records(self) -> list[Holding]:
        """The records that this node has signed itself, longest held first."""
        return list(self._own.values())

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

    def check_room(self, org: OrgDid, kind: Kind, held: Holding | None) -> None:
        """Return if an entry of ``org`` fits in place of ``held``; raises Refused ``org-full`` or ``directory-full``."""
        if held is None and self._entries[org] >= limits.ORG_ENTRIES:
            raise Refused("org-full", f"{org} has {limits.ORG_ENTRIES} records and withdrawn ones here", hint="wait until the latter lapse")
        if kind != "record" or (held is not None and held.kind == "record"):
            return
        most, of_one = (min(pair) for pair in zip(self._caps(), uncapped(), strict=True))
        if self._records[org] >= of_one:
            raise Refused("org-full", f"{org} has {self._records[org]} records here, and may have no more", hint="withdraw some")
        if self.records >= most and self._records[org] >= limits.ORG_SURE:
            raise Refused("directory-full", f"the directory holds {self.records} records", hint="try again when others have lapsed")

    def put(self, holding: Holding) -> None:
        """Hold this, in place of what was held of the agent."""
        self.drop(holding.id)
        self._buckets[bucket_of(holding.id)][holding.id] = holding
        self._entries[holding.org] += 1
        if holding.kind == "record":
            self._records[holding.org] += 1
            self.records += 1
            if holding.own:
                self._own[holding.id] = holding
        self._touch(holding)

    def drop(self, agent: AgentId) -> None:
        """Hold nothing of an agent."""
        holding = self._buckets[bucket_of(agent)].pop(agent, None)
        if holding is None:
            return
        self._entries[holding.org] -= 1
        if holding.kind == "record":
            self._records[holding.org] -= 1
            self.records -= 1
            self._own.pop(agent, None)
        for counter in (self._entries, self._records):
            if not counter[holding.org]:
                del counter[holding.org]
        self._touch(holding)

    def digests(self) -> tuple[bytes, list[bytes]]:
        """The root, and the digest of each bucket: hashes over the sorted entries, so that nobody can make two tables look alike."""
        if self._root is None:
            for number, digest in enumerate(self._digests):
                if digest is None:
                    self._digests[number] = self._digest(number)
            self._root = _hash(b"".join(digest or b"" for digest in self._digests))
        return self._root, [digest or b"" for digest in self._digests]

    def items(self, buckets: tuple[int, ...], after: str, most: int) -> tuple[tuple[Item, ...], bool]:
        """Up to ``most`` records and tombstones of the (rising) ``buckets`` in the order of their ids, and whether there are more."""
        found: list[Item] = []
        for number in buckets:
            for agent in sorted(self._buckets[number]):
                holding = self._buckets[number][agent]
                if agent <= after or holding.kind == "mark":
                    continue
                if len(found) == most:
                    return tuple(found), True
                found.append(Item(agent, holding.version, holding.digest))
        return tuple(found), False

    def _digest(self, number: int) -> bytes:
        bucket = self._buckets[number]
        return _hash(b"".join(agent.encode() + bucket[agent].digest for agent in sorted(bucket) if bucket[agent].kind != "mark"))

    def _touch(self, holding: Holding) -> None:
        self._digests[bucket_of(holding.id)] = None
        self._root = None


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=limits.BUCKET_DIGEST_BYTES, person=b"meshos/bucket/1").digest()
