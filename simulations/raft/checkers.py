"""What must hold in a group at every moment, checked from outside on every step of every node, and what in the end."""

from meshos.consensus.raft.entries import read_entry
from meshos.consensus.raft.keys import LOG, log_key
from meshos.consensus.raft.log import read_base
from meshos.consensus.raft.quorum import majority
from meshos.effects import Persist, Put
from meshos.ids import NodeId
from meshos.simulations.raft.group import MACHINE, Group
from meshos.simulations.raft.laws import Laws, unsafe
from meshos.simulations.raft.work import members_alive
from meshos.simulations.world import SimNode, Violation, World
from meshos.storage.memory import MemoryStore


class RaftChecker:
    """The laws of Raft at every step, and one state everywhere in the end."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._laws = Laws()
        self.figures: dict[str, float] = {"terms led": 0, "entries committed": 0}

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """See ``Checker``."""
        if machine != MACHINE:
            return
        raft = self._group.replica(node.name).raft
        for effect in effects:
            if type(effect) is Persist:
                for write in effect.writes:
                    if type(write) is Put and write.key.startswith(LOG):
                        self._laws.appended(node.name, raft, read_entry(write.value))
        self._laws.look(node.name, node.epoch, raft)

    def finish(self, world: World) -> None:
        """See ``Checker``: every member has the same state in the end, as far as the leader's."""
        self.figures = {"terms led": len(self._laws.leaders), "entries committed": self._laws.highest}
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
                raise unsafe(f"{node} and {leader} have other states after the same {replica.applied} entries")


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
                    raise unsafe(f"{node.name} commits entry {raft.commit}, which only {holders} of {sorted(half)} have on disk")

    def _has(self, node: NodeId, index: int) -> bool:
        store = self._group.world.nodes[node].stores[MACHINE]
        return on_disk(store, index)

    def finish(self, world: World) -> None:
        """See ``Checker``."""


def on_disk(store: MemoryStore, index: int) -> bool:
    """Whether a log that holds entry ``index``, or a state that stands for it, would survive a crash."""
    if store.get(log_key(index)) is not None:
        return True
    return read_base(store)[0] >= index
