"""The recorded replies of the serving side: why a repeated request is answered, and not done twice.

A record is kept until its asker has no reason to repeat the id any more: until it says so by the floor of a later request,
else for its deadline and a grace, within bounds on number and bytes. When bytes are short, the oldest replies lose their
body but not their id: a repeated request then learns that it was done, and that the reply is gone. Only when there are
too many records is one forgotten altogether: the oldest of the organisation that has most, so that no other one, with however
many node ids, can make this node forget what it did for the rest.
"""

import heapq
from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeAlias

from meshos.effects import Err, Ok
from meshos.errors import Refused
from meshos.ids import NodeId, OrgDid
from meshos.protocols.rpc.events import Reply
from meshos.protocols.rpc.limits import BODY_BYTES, LARGE_RECORD_BYTES, RECORD_BYTES, RECORD_GRACE_S, RECORDS, RECORDS_PER_PEER

Key: TypeAlias = tuple[NodeId, bytes]
"""Who asked, and the id of the request: ids of different peers cannot meet."""


@dataclass(slots=True)
class _Record:
    reply: Reply
    until: float
    size: int
    number: int
    org: OrgDid


class _OfPeer:
    """What is remembered of one peer: the keys of its records, oldest first, and how far its present process has come."""

    __slots__ = ("counts", "floor", "heard_at", "keys", "process")

    def __init__(self) -> None:
        self.keys: OrderedDict[Key, None] = OrderedDict()
        self.process = b""
        self.floor = 0
        self.counts: list[int] = []  # a heap: the counts in the ids of this process that were recorded
        self.heard_at = 0.0


class Records:
    """Replies by (peer, id)."""

    def __init__(self) -> None:
        self._records: OrderedDict[Key, _Record] = OrderedDict()  # oldest first, here and below
        self._of_peer: dict[NodeId, _OfPeer] = {}
        self._of_org: dict[OrgDid, OrderedDict[Key, None]] = {}
        self._expiry: list[tuple[float, int, Key]] = []
        self._bodies: dict[bool, OrderedDict[Key, None]] = {False: OrderedDict(), True: OrderedDict()}  # by whether large
        self._bytes: dict[bool, int] = {False: 0, True: 0}
        self._number = 0

    def __len__(self) -> int:
        return len(self._records)

    def bytes(self) -> int:
        """The size of all bodies that are kept."""
        return sum(self._bytes.values())

    def get(self, key: Key) -> Reply | None:
        """The recorded reply, or None if this id was never answered or is forgotten."""
        record = self._records.get(key)
        return None if record is None else record.reply

    def put(self, key: Key, reply: Reply, until: float, org: OrgDid) -> None:
        """Keep ``reply``, to a node of ``org``, until ``until``; a reply that is already there stays."""
        if key in self._records:
            return
        mine = self._peer(key[0])
        if len(mine.keys) >= RECORDS_PER_PEER:
            self._drop(next(iter(mine.keys)))
        elif len(self._records) >= RECORDS:
            most = max(self._of_org, key=lambda each: len(self._of_org[each]))
            self._drop(next(iter(self._of_org[most])))
        size = len(reply.outcome.value) if isinstance(reply.outcome, Ok) else 0
        self._number += 1
        self._records[key] = _Record(reply, until, size, self._number, org)
        of_org = self._of_org.get(org)
        if of_org is None:
            of_org = self._of_org[org] = OrderedDict()
        of_org[key] = None
        mine.keys[key] = None
        mine.heard_at = max(mine.heard_at, until - RECORD_GRACE_S)
        if key[1][:-8] == mine.process:
            heapq.heappush(mine.counts, _count(key))
        heapq.heappush(self._expiry, (until, self._number, key))
        if len(self._expiry) > 2 * len(self._records) + 64:
            self._expiry = [(record.until, record.number, each) for each, record in self._records.items()]
            heapq.heapify(self._expiry)
        if size:
            self._keep_body(key, size)

    def release(self, key: Key) -> None:
        """Take the body of a record away: nobody waits for it, or there is no room."""
        record = self._records[key]
        if record.size:
            self._release(key, record)
            gone = Refused("reply-not-kept", "this was done, and its reply is no longer kept", outcome="done")
            record.reply = Reply(key[1], Err(gone))

    def settled(self, key: Key, floor: int, now: float) -> bool:
        """Whether the asker waits for this id no more. Its ``floor`` lets go of the records below."""
        mine = self._of_peer.get(key[0]) or self._peer(key[0])
        if now > mine.heard_at:
            mine.heard_at = now
        process = key[1][:-8]
        if process != mine.process:
            mine.process, mine.floor, mine.counts = process, 0, []
        if floor > mine.floor:
            mine.floor = floor
            while mine.counts and mine.counts[0] < floor:
                old = (key[0], process + heapq.heappop(mine.counts).to_bytes(8, "big"))
                if old in self._records:
                    self._drop(old)
        return _count(key) < mine.floor

    def remembers(self) -> bool:
        """Whether there is anything that a sweep will one day forget."""
        return bool(self._of_peer)

    def sweep(self, now: float) -> None:
        """Forget what has expired."""
        while self._expiry and self._expiry[0][0] <= now:
            _, number, key = heapq.heappop(self._expiry)
            record = self._records.get(key)
            if record is not None and record.number == number:
                self._drop(key)
        gone = [node for node, mine in self._of_peer.items() if not mine.keys and mine.heard_at + RECORD_GRACE_S <= now]
        for node in gone:
            del self._of_peer[node]

    def _peer(self, node: NodeId) -> _OfPeer:
        mine = self._of_peer.get(node)
        if mine is None:
            mine = self._of_peer[node] = _OfPeer()
        return mine

    def _keep_body(self, key: Key, size: int) -> None:
        large = size > BODY_BYTES["work"]
        limit = LARGE_RECORD_BYTES if large else RECORD_BYTES
        self._bodies[large][key] = None
        self._bytes[large] += size
        while self._bytes[large] > limit:
            self.release(next(iter(self._bodies[large])))

    def _release(self, key: Key, record: _Record) -> None:
        """The body of ``record`` does not count any more."""
        if record.size:
            large = record.size > BODY_BYTES["work"]
            del self._bodies[large][key]
            self._bytes[large] -= record.size
            record.size = 0

    def _drop(self, key: Key) -> None:
        record = self._records.pop(key)
        del self._of_peer[key[0]].keys[key]
        of_org = self._of_org[record.org]
        del of_org[key]
        if not of_org:
            del self._of_org[record.org]
        self._release(key, record)


def _count(key: Key) -> int:
    return int.from_bytes(key[1][-8:], "big")
