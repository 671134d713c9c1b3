"""Raft, figure 3: what must hold at every moment, told by whoever watches the nodes."""

import hashlib

from meshos.consensus.raft.entries import Entry
from meshos.consensus.raft.raft import Raft
from meshos.ids import NodeId
from meshos.simulations.world import Violation


def unsafe(message: str) -> Violation:
    """What must never happen has happened."""
    return Violation("safety", message)


class Laws:
    """Election safety, leader append-only, log matching, leader completeness, state machine safety, and a commit index that only grows."""

    def __init__(self) -> None:
        self.leaders: dict[int, tuple[NodeId, int]] = {}  # of each term: who, in which of its lives
        self.committed: dict[int, int] = {}  # index -> term
        self.highest = 0  # what is committed anywhere
        self._entries: dict[tuple[int, int], tuple[bytes, int]] = {}  # (index, term) -> hash of the entry, term of the one before
        self._commits: dict[NodeId, tuple[int, int]] = {}  # life, commit index
        self._led: dict[NodeId, tuple[int, int, int]] = {}  # while it leads: life, term, last index

    def look(self, node: NodeId, life: int, raft: Raft) -> None:
        """After a step of ``node`` in its ``life``."""
        if raft.role == "leader":
            self._leads(node, life, raft)
        else:
            self._led.pop(node, None)
        self._commits_grow(node, life, raft)

    def appended(self, node: NodeId, raft: Raft, entry: Entry) -> None:
        """``node`` writes ``entry``. Logs in which an entry has the same index and term are the same up to there (log matching)."""
        before = raft.log.term(entry.index - 1)
        digest = hashlib.sha256(entry.raw).digest()
        known = self._entries.setdefault((entry.index, entry.term), (digest, -1 if before is None else before))
        if known[0] != digest:
            raise unsafe(f"{node} has another entry {entry.index} of term {entry.term} than an earlier log")
        if before is not None and known[1] not in (-1, before):
            raise unsafe(f"before entry {entry.index} of term {entry.term} {node} has one of term {before}, another log {known[1]}")

    def read(self, node: NodeId, index: int, wanted: int) -> None:
        """``node`` answers a read from ``index`` on, which was asked for when ``wanted`` was committed (thesis, section 6.4)."""
        if index < wanted:
            raise unsafe(f"{node} answers a read from entry {index} on, and {wanted} was committed when it was asked")

    def _leads(self, node: NodeId, life: int, raft: Raft) -> None:
        leader = self.leaders.setdefault(raft.term, (node, life))
        if leader != (node, life):
            raise unsafe(f"{node} leads in term {raft.term}, in which {leader[0]} led (in another life, if it is the same)")
        led = self._led.get(node)
        if led is None or led[:2] != (life, raft.term):
            self._must_be_complete(node, raft)
        elif raft.log.last < led[2]:
            raise unsafe(f"{node} leads in term {raft.term} and takes back entries beyond {raft.log.last}")
        self._led[node] = (life, raft.term, raft.log.last)

    def _must_be_complete(self, node: NodeId, raft: Raft) -> None:
        index = self.highest
        if index > raft.log.base and raft.log.term(index) != self.committed[index]:
            raise unsafe(f"{node} leads in term {raft.term} without the committed entry {index} of term {self.committed[index]}")

    def _commits_grow(self, node: NodeId, life: int, raft: Raft) -> None:
        lived, commit = self._commits.get(node, (0, 0))
        if lived != life:
            commit = 0
        if raft.commit < commit:
            raise unsafe(f"{node} takes its commit index back from {commit} to {raft.commit}")
        if raft.commit == commit:
            return
        for index in range(max(commit, raft.log.base) + 1, raft.commit + 1):
            term = raft.log.term(index)
            assert term is not None
            known = self.committed.setdefault(index, term)
            if known != term:
                raise unsafe(f"{node} commits entry {index} of term {term}, where another of term {known} was committed")
        if raft.commit in self.committed:
            self.highest = max(self.highest, raft.commit)
        self._commits[node] = (life, raft.commit)
