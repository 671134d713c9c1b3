"""What must hold in a group at every moment, checked from outside on every step of every node (Raft, figure 3), and what in the end."""

import hashlib

from meshos import cbor
from meshos.consensus.raft.entries import Entry, read_entry
from meshos.consensus.raft.keys import BASE, LOG, log_key
from meshos.consensus.raft.quorum import majority
from meshos.consensus.raft.raft import Raft
from meshos.effects import Persist, Put
from meshos.ids import NodeId
from meshos.simulations.raft.group import MACHINE, Group
from meshos.simulations.raft.work import members_alive
from meshos.simulations.world import SimNode, Violation, World
from meshos.storage.memory import MemoryStore


def _unsafe(message: str) -> Violation:
    return Violation("safety", message)


class RaftChecker:
    """Election safety, leader append-only, log matching, leader completeness, state machine safety, and a commit index that only grows."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self.figures: dict[str, float] = {"terms led": 0, "entries committed": 0}
        self._leaders: dict[int, tuple[NodeId, int]] = {}  # of each term: who, in which of its lives
        self._entries: dict[tuple[int, int], tuple[bytes, int]] = {}  # (index, term) -> hash of the entry, term of the one before
        self._committed: dict[int, int] = {}  # index -> term
        self._highest = 0
        self._commits: dict[NodeId, tuple[int, int]] = {}  # life, commit index
        self._led_last: dict[NodeId, tuple[int, int]] = {}  # while it leads: term, last index

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """See ``Checker``."""
        if machine != MACHINE:
            return
        raft = self._group.replica(node.name).raft
        for effect in effects:
            if type(effect) is Persist:
                for write in effect.writes:
                    if type(write) is Put and write.key.startswith(LOG):
                        self._appended(node, raft, read_entry(write.value))
        if raft.role == "leader":
            self._leads(node, raft)
        else:
            self._led_last.pop(node.name, None)
        self._commits_grow(node, raft)

    def _leads(self, node: SimNode, raft: Raft) -> None:
        """At most one leader in a term (election safety), with every committed entry in its log (leader completeness), none of which it
        ever takes back (leader append-only)."""
        leader = self._leaders.setdefault(raft.term, (node.name, node.epoch))
        if leader != (node.name, node.epoch):
            raise _unsafe(f"{node.name} leads in term {raft.term}, in which {leader[0]} led (in another life, if it is the same)")
        term, last = self._led_last.get(node.name, (0, 0))
        if term != raft.term:
            self.figures["terms led"] = len(self._leaders)
            self._must_be_complete(node, raft)
        elif raft.log.last < last:
            raise _unsafe(f"{node.name} leads in term {term} and takes back entries beyond {raft.log.last}")
        self._led_last[node.name] = (raft.term, raft.log.last)

    def _must_be_complete(self, node: SimNode, raft: Raft) -> None:
        index, log = self._highest, raft.log
        if index > log.base and log.term(index) != self._committed[index]:
            raise _unsafe(f"{node.name} leads in term {raft.term} without the committed entry {index} of term {self._committed[index]}")

    def _appended(self, node: SimNode, raft: Raft, entry: Entry) -> None:
        """Logs in which an entry has the same index and term are the same up to there (log matching)."""
        before = raft.log.term(entry.index - 1)
        known = self._entries.setdefault((entry.index, entry.term), (hashlib.sha256(entry.raw).digest(), -1 if before is None else before))
        if known[0] != hashlib.sha256(entry.raw).digest():
            raise _unsafe(f"{node.name} has another entry {entry.index} of term {entry.term} than an earlier log")
        if before is not None and known[1] not in (-1, before):
            raise _unsafe(f"before entry {entry.index} of term {entry.term} {node.name} has one of term {before}, another log {known[1]}")

    def _commits_grow(self, node: SimNode, raft: Raft) -> None:
        """What is committed at an index is the same everywhere and for ever (state machine safety)."""
        life, commit = self._commits.get(node.name, (0, 0))
        if life != node.epoch:
            commit = 0
        if raft.commit < commit:
            raise _unsafe(f"{node.name} takes its commit index back from {commit} to {raft.commit}")
        if raft.commit == commit:
            return
        for index in range(max(commit, raft.log.base) + 1, raft.commit + 1):
            term = raft.log.term(index)
            assert term is not None
            known = self._committed.setdefault(index, term)
            if known != term:
                raise _unsafe(f"{node.name} commits entry {index} of term {term}, where another of term {known} was committed")
        self._highest = max(self._highest, raft.commit if raft.commit in self._committed else 0)
        self._commits[node.name] = (node.epoch, raft.commit)
        self.figures["entries committed"] = self._highest

    def finish(self, world: World) -> None:
        """See ``Checker``: every member has the same state in the end, as far as the leader's."""
        leader = self._group.leader()
        if leader is None:
            raise Violation("stuck", "nobody leads in the end")
        wanted = self._group.replica(leader)
        state = list(wanted.view().scan(b""))
        for node in members_alive(self._group):
            replica = self._group.replica(node)
            if replica.applied != wanted.applied:
                raise Violation("stuck", f"{node} is at {replica.applied}, the leader {leader} at {wanted.applied}")
            if list(replica.view().scan(b"")) != state:
                raise _unsafe(f"{node} and {leader} have other states after the same {replica.applied} entries")


class DurabilityChecker:
    """What a leader commits is on the disks of a majority, at that moment: so it survives whatever a minority loses."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._commits: dict[NodeId, tuple[int, int]] = {}

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """See ``Checker``."""
        if machine != MACHINE:
            return
        raft = self._group.replica(node.name).raft
        known = (raft.term, raft.commit)
        if raft.role != "leader" or self._commits.get(node.name) == known:
            return
        self._commits[node.name] = known
        if raft.established:
            for half in raft.members.halves:
                holders = [voter for voter in sorted(half) if self._has(voter, raft.commit)]
                if half and len(holders) < majority(len(half)):
                    raise _unsafe(f"{node.name} commits entry {raft.commit}, which only {holders} of {sorted(half)} have on disk")

    def _has(self, node: NodeId, index: int) -> bool:
        store = self._group.world.nodes[node].stores[MACHINE]
        return on_disk(store, index)

    def finish(self, world: World) -> None:
        """See ``Checker``."""


def on_disk(store: MemoryStore, index: int) -> bool:
    """Whether a log that holds entry ``index``, or a state that stands for it, would survive a crash."""
    if store.get(log_key(index)) is not None:
        return True
    raw = store.get(BASE)
    base = cbor.decode(raw, max_bytes=64) if raw is not None else [0]
    assert isinstance(base, list) and isinstance(base[0], int)
    return base[0] >= index
