"""What one node of a group knows, and the few things that every part of Raft does with it.

The rules stand beside this by subject: ``roles.py`` (who is what, and since when), ``election.py``, ``replication.py``, ``reading.py``,
``changing.py`` (members, transfer of leadership). ``raft.py`` brings them messages and time.
"""

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from meshos.consensus.raft.config import Config
from meshos.consensus.raft.entries import CONFIGURATION, Entry
from meshos.consensus.raft.log import Log
from meshos.consensus.raft.membership import Configuration, decode_configuration
from meshos.consensus.raft.messages import Chunk, ChunkReply, RaftMessage
from meshos.consensus.raft.progress import Progress
from meshos.ids import NodeId

Role: TypeAlias = Literal["follower", "precandidate", "candidate", "leader"]
Letter: TypeAlias = tuple[NodeId, RaftMessage]
"""To whom, and what."""

NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class HardState:
    """What a node must not forget, or it could vote twice in a term (Raft, figure 2: persistent state)."""

    term: int = 0
    vote: NodeId | None = None


@dataclass(frozen=True, slots=True)
class ReadReady:
    """Once everything up to ``index`` is applied, the state shows all that was acknowledged before the read ``number`` was asked for."""

    number: int
    index: int


@dataclass(slots=True)
class Pending:
    """What the node has to do for Raft: filled by the rules, emptied by ``Raft.ready``."""

    ahead: list[Letter] = field(default_factory=list)
    after: list[Letter] = field(default_factory=list)
    reads: list[ReadReady] = field(default_factory=list)
    lost_reads: list[int] = field(default_factory=list)
    chunks: list[tuple[NodeId, Chunk]] = field(default_factory=list)
    chunk_replies: list[tuple[NodeId, ChunkReply]] = field(default_factory=list)


class RaftState:
    """One node's Raft."""

    def __init__(
        self,
        node: NodeId,
        config: Config,
        log: Log,
        hard: HardState,
        configuration: Configuration,
        applied: int,
        rng: random.Random,
        now: float,
    ) -> None:
        self.node = node
        self.config = config
        self.log = log
        self.rng = rng
        self.now = now

        self.term, self.vote = hard.term, hard.vote
        self.saved = hard  # what of these two has been given to be written
        self.commit = max(applied, log.base)
        self.role: Role = "follower"
        self.leader: NodeId | None = None

        # (index, configuration) of those that may be in force: the newest in the log is, the first is that of the commit index or before.
        self.configurations: list[tuple[int, Configuration]] = [(applied, configuration)]
        self.remember_configurations(log.entries(applied + 1, log.last, log.bytes + 1))

        # follower and candidates
        self.heard_at = -NEVER  # when the leader was last heard
        self.lost_leader = False  # its link broke since
        self.election_due = now
        self.votes: dict[NodeId, bool] = {}
        self.ask_due = NEVER  # when a candidate asks again those who did not answer
        self.transferred = False  # elected because the leader asked for it

        # leader
        self.progress: dict[NodeId, Progress] = {}  # of the others
        self.stored = log.last  # the log is on this node's own disk up to here
        self.unstored_since: float | None = None
        self.heartbeat_due = NEVER
        self.quorum_due = NEVER  # when to look whether a quorum was heard
        self.notice_due = NEVER  # when a commit index is told to whom no append told it
        self.begun_at = 0  # the index of the entry with which it began its term
        self.transfer_to: NodeId | None = None
        self.transfer_due = NEVER
        self.round = 0
        self.reads_waiting: list[tuple[NodeId, int]] = []
        self.reads_asked: deque[tuple[int, int, list[tuple[NodeId, int]]]] = deque()  # (round, index, who asked under which number)

        self.gathered = False  # entries or reads wait for ``Raft.flush``
        self.pending = Pending()

    # -- configuration -----------------------------------------------------------------------------------------------

    @property
    def members(self) -> Configuration:
        """The configuration in force: the newest in the log, committed or not (thesis, section 4.1)."""
        return self.configurations[-1][1]

    def remember_configurations(self, entries: list[Entry] | tuple[Entry, ...]) -> bool:
        """Those of ``entries`` that carry a configuration count from now on; whether there was one."""
        found = [(entry.index, decode_configuration(entry.data)) for entry in entries if entry.kind == CONFIGURATION]
        self.configurations += found
        return bool(found)

    def forget_configurations(self, index: int) -> None:
        """The entries from ``index`` on are gone, and with them their configurations."""
        while len(self.configurations) > 1 and self.configurations[-1][0] >= index:
            self.configurations.pop()

    def settle_configurations(self) -> None:
        """Drop those that can never be in force again, since a newer one is committed."""
        while len(self.configurations) > 1 and self.configurations[1][0] <= self.commit:
            self.configurations.pop(0)

    @property
    def promotable(self) -> bool:
        """Whether this node may be elected: also where its newest configuration gives it no vote, until that is committed, since it may
        be the only one whose log is complete enough (thesis, section 4.2.2)."""
        return any(configuration.votes(self.node) for _, configuration in self.configurations)

    @property
    def alone(self) -> bool:
        """Whether this node is the only voter: its own word is a quorum."""
        members = self.members
        return members.voters == {self.node} and members.outgoing <= {self.node}

    # -- sending -----------------------------------------------------------------------------------------------------

    def send(self, to: NodeId, message: RaftMessage) -> None:
        """Once everything that was decided up to now is on disk."""
        self.pending.after.append((to, message))

    def send_ahead(self, to: NodeId, message: RaftMessage) -> None:
        """At once: it promises nothing of this node's disk (thesis, section 10.2.1)."""
        self.pending.ahead.append((to, message))
