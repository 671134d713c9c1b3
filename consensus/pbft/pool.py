"""Requests that wait to be ordered: each once, oldest first, bounded in all and for each node that brings them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from meshos.consensus.pbft.limits import MAX_POOL_BYTES, MAX_POOL_REQUESTS, MAX_POOL_SHARE
from meshos.errors import busy
from meshos.ids import NodeId


@dataclass(slots=True)
class Pending:
    """A request, who brought it, and since when it waits (seconds)."""

    hash: bytes
    request: bytes
    sender: NodeId
    since: float


class Pool:
    """A queue with a place for each hash."""

    def __init__(self) -> None:
        self._pending: dict[bytes, Pending] = {}  # oldest first
        self._bytes = 0
        self._of: dict[NodeId, list[int]] = {}  # requests and bytes of each node

    def __len__(self) -> int:
        return len(self._pending)

    def __contains__(self, request_hash: bytes) -> bool:
        return request_hash in self._pending

    def __iter__(self) -> Iterator[Pending]:
        return iter(list(self._pending.values()))

    def add(self, pending: Pending) -> None:
        """Take it in, unless it is there; raises Refused ``busy``."""
        if pending.hash in self._pending:
            return
        size = len(pending.request)
        count, held = self._of.get(pending.sender, (0, 0))
        if len(self._pending) >= MAX_POOL_REQUESTS or self._bytes + size > MAX_POOL_BYTES:
            raise busy("the pool of requests that wait to be ordered")
        if count >= MAX_POOL_REQUESTS // MAX_POOL_SHARE or held + size > MAX_POOL_BYTES // MAX_POOL_SHARE:
            raise busy(f"the share of {pending.sender} in the pool of requests")
        self._pending[pending.hash] = pending
        self._bytes += size
        self._of[pending.sender] = [count + 1, held + size]

    def remove(self, hashes: Iterable[bytes]) -> None:
        """Let those go that are in it."""
        for name in hashes:
            pending = self._pending.pop(name, None)
            if pending is None:
                continue
            size = len(pending.request)
            self._bytes -= size
            share = self._of[pending.sender]
            share[0] -= 1
            share[1] -= size
            if not share[0]:
                del self._of[pending.sender]

    def oldest(self) -> Pending | None:
        """The one that waits longest."""
        return next(iter(self._pending.values()), None)

    def older_than(self, since: float, most: int) -> list[Pending]:
        """At most ``most`` that wait since before ``since``, oldest first."""
        found: list[Pending] = []
        for pending in self._pending.values():
            if pending.since > since or len(found) >= most:
                break
            found.append(pending)
        return found
