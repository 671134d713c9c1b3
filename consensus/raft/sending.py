"""A leader's states on their way to followers that need what the log has no longer (Raft, section 7).

A transfer holds a snapshot of the Store and sends it as a chain of chunks, in the order of the keys. A few chunks are under way and in
memory; each answer frees one and makes the next, so the memory is bounded whatever the size of the state. What is not answered is sent
again; a follower that was restarted says from where on. A transfer without news for long ends, and so do all when the leader ceases to
lead.
"""

import hashlib
from collections import deque
from collections.abc import Iterator

from meshos import cbor
from meshos.consensus.raft.config import Config
from meshos.consensus.raft.limits import CHUNK_FRAME_BYTES
from meshos.consensus.raft.messages import Chunk, ChunkReply
from meshos.ids import NodeId
from meshos.storage.store import Snapshot

CHAIN = bytes(32)
"""The chain before the first chunk."""

ITEM_BYTES = 24
"""What stands around a key and a value, at most."""


def link(chain: bytes, data: bytes) -> bytes:
    """The chain after ``data``."""
    return hashlib.sha256(chain + data).digest()


def pieces(snapshot: Snapshot, prefix: bytes, size: int) -> Iterator[tuple[bytes, bool]]:
    """The state under ``prefix`` in chunks of about ``size`` bytes, each with whether it is the last.

    A chunk is the CBOR list of [key, value, more]; ``more``: the value goes on in the next chunk, which begins with the same key.
    """
    items: list[list[object]] = []
    held = 0
    for key, value in snapshot.scan(prefix):
        name = key[len(prefix) :]
        while True:
            room = size - held - len(name) - ITEM_BYTES
            if items and room < len(value):
                yield cbor.encode(items), False
                items, held = [], 0
                continue
            piece, value = value[:room], value[room:]
            items.append([name, piece, bool(value)])
            held += len(name) + len(piece) + ITEM_BYTES
            if not value:
                break
    yield cbor.encode(items), True


class Transfer:
    """One state for one follower."""

    def __init__(self, snapshot: Snapshot, prefix: bytes, index: int, at_term: int, config: Config, now: float) -> None:
        self.index, self.at_term = index, at_term
        self._snapshot = snapshot
        self._config = config
        self._pieces = pieces(snapshot, prefix, config.chunk_bytes - CHUNK_FRAME_BYTES)
        self._chain = CHAIN
        self._made = 0
        self._window: deque[Chunk] = deque()  # sent and not answered
        self._over = False
        self.news_at = self.sent_at = now

    def fill(self, now: float, term: int) -> list[Chunk]:
        """The chunks that may be sent now."""
        made = []
        while not self._over and len(self._window) < self._config.chunks_inflight:
            data, self._over = next(self._pieces)
            self._chain = link(self._chain, data)
            made.append(Chunk(term, self.index, self.at_term, self._made, self._over, self._chain, data))
            self._window.append(made[-1])
            self._made += 1
            self.sent_at = now
        return made

    def answered(self, now: float, number: int) -> bool:
        """The follower has all before ``number``; False if it lacks what is not held any more, so that the transfer has failed."""
        first = self._window[0].number if self._window else self._made
        if number < first or number > self._made:
            return False
        if number > first:
            self.news_at = now
        while self._window and self._window[0].number < number:
            self._window.popleft()
        return True

    def again(self, now: float) -> list[Chunk]:
        """What was not answered."""
        self.sent_at = now
        return list(self._window)

    def close(self) -> None:
        """Let the snapshot go."""
        self._snapshot.close()


class Sender:
    """The transfers of a leader."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._of: dict[NodeId, Transfer] = {}

    def __len__(self) -> int:
        return len(self._of)

    @property
    def room(self) -> bool:
        """Whether one more may begin."""
        return len(self._of) < self._config.transfers

    def begin(self, now: float, term: int, to: NodeId, transfer: Transfer) -> list[Chunk]:
        """A state for ``to``."""
        self._of[to] = transfer
        return transfer.fill(now, term)

    def answered(self, now: float, term: int, node: NodeId, reply: ChunkReply) -> tuple[int | None, list[Chunk]]:
        """What ``node`` said: (how its transfer ended: at which index, or 0 if it failed; None while it goes on), and what to send."""
        transfer = self._of.get(node)
        if transfer is None or reply.index != transfer.index:
            return None, []
        if reply.done:
            return self._end(node, transfer.index), []
        if not transfer.answered(now, reply.number):
            return self._end(node, 0), []
        return None, transfer.fill(now, term)

    def tick(self, now: float) -> tuple[list[NodeId], list[tuple[NodeId, Chunk]]]:
        """Whose transfers have failed for want of news, and what to send again."""
        failed = [node for node, transfer in self._of.items() if now - transfer.news_at >= self._config.proposal_s]
        for node in failed:
            self._end(node, 0)
        late = [(node, transfer) for node, transfer in self._of.items() if now - transfer.sent_at >= self._config.retry_s]
        return failed, [(node, chunk) for node, transfer in late for chunk in transfer.again(now)]

    def _end(self, node: NodeId, index: int) -> int:
        self._of.pop(node).close()
        return index

    def keep_only(self, nodes: set[NodeId]) -> None:
        """End the transfers of all others."""
        for node in [node for node in self._of if node not in nodes]:
            self._end(node, 0)

    def lowest(self) -> int | None:
        """The lowest index of a state under way: the log from there on is still needed."""
        return min((transfer.index for transfer in self._of.values()), default=None)

    def deadline(self) -> float:
        """When ``tick`` is due."""
        config = self._config
        due = [min(transfer.news_at + config.proposal_s, transfer.sent_at + config.retry_s) for transfer in self._of.values()]
        return min(due, default=float("inf"))
