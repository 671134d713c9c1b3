"""The Raft of one node: messages and time in, what to write, send and apply out.

Theory of operation. A call (``receive``, ``tick``, ``propose``, ``stored`` and so on) changes the state; ``ready`` then takes what the
node has to do for it:

1. write ``writes`` (term, vote, entries) as one batch;
2. send ``ahead`` at once, beside the writing: appends, heartbeats and the like of a leader, which promise nothing of its own disk;
3. send ``after`` only once the batch is on disk: votes, and answers to appends. Then call ``stored`` with ``saved``, through which
   this node counts its own vote, and itself among those that have the leader's entries;
4. apply the entries up to ``commit`` in their order. This may run ahead of the own disk, if what is applied reaches the disk after them.

``flush`` is called once for many calls: it sends what was proposed since, so that entries and reads of the moment share messages.

Term rules (Raft, section 5.1) are here, before anything else is looked at. Who asks for a vote is not listened to while there is a leader
(thesis, section 4.2.3): not even its term counts. A leader of an old term, or whoever asks beforehand in one, is answered with the
current term, so that a node which the others do not listen to finds back.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from meshos import cbor
from meshos.consensus.raft import changing, election, reading, replication, roles
from meshos.consensus.raft import messages as m
from meshos.consensus.raft.config import Config
from meshos.consensus.raft.entries import COMMANDS, Entry, is_number, make_entry
from meshos.consensus.raft.keys import HARD
from meshos.consensus.raft.limits import MAX_NODE_CHARS
from meshos.consensus.raft.log import Log
from meshos.consensus.raft.membership import Change, Configuration
from meshos.consensus.raft.progress import Progress
from meshos.consensus.raft.state import NEVER, HardState, Pending, RaftState, ReadReady, Role
from meshos.effects import Put, Write
from meshos.errors import Broken
from meshos.ids import NodeId
from meshos.storage.store import View


@dataclass(frozen=True, slots=True)
class Saved:
    """What is on disk once the writes of a Ready are: the term, and the log up to ``index``, whose entry is of ``at_term``."""

    term: int
    index: int
    at_term: int


@dataclass(slots=True)
class Ready:
    """What the node has to do; see the module's text."""

    writes: list[Write]
    saved: Saved | None
    pending: Pending
    commit: int


class Raft:
    """See the module's text. ``view`` holds the log and the hard state; ``configuration`` and ``applied`` come with the state."""

    def __init__(
        self,
        node: NodeId,
        view: View,
        config: Config,
        *,
        configuration: Configuration,
        applied: int,
        rng: random.Random,
        now: float,
    ) -> None:
        """Raises Broken ``raft-log-broken`` for a Store that is not as Raft left it."""
        log = Log(view, cached_bytes=config.cached_bytes)
        if not log.base <= applied <= log.last:
            raise Broken("raft-log-broken", f"the state is at {applied}, the log spans {log.base} to {log.last}")
        self.state = RaftState(node, config, log, read_hard(view), configuration, applied, rng, now)
        roles.await_election(self.state)
        if self.state.alone:
            self.state.election_due = now  # nobody else could lead

    # -- what is asked of it -----------------------------------------------------------------------------------------

    def receive(self, now: float, sender: NodeId, message: m.RaftMessage) -> None:
        """``sender`` says ``message``."""
        s = self.state
        s.now = now
        if message.term > s.term:
            if not self._meet_higher_term(sender, message):
                return
        elif message.term < s.term:
            self._answer_old_term(sender, message)
            return
        self._handle(sender, message)

    def tick(self, now: float) -> None:
        """Do what is due."""
        s = self.state
        s.now = now
        if s.role == "leader":
            self._tick_leader(now)
        elif s.election_due <= now:
            election.time_out(s)
        elif s.ask_due <= now:
            election.ask(s)

    def _tick_leader(self, now: float) -> None:
        s = self.state
        if changing.mind_disk(s):
            return
        if s.quorum_due <= now and not replication.hear_quorum(s):
            return
        if s.transfer_due <= now:
            changing.give_up_transfer(s)
        if s.heartbeat_due <= now:
            replication.beat(s)
        if s.notice_due <= now:
            replication.notice(s)

    def propose(self, now: float, data: bytes) -> int:
        """Append an entry with ``data``; only a leader that does not hand over may be asked. Gives its index."""
        s = self.state
        s.now = now
        assert self.accepts
        index = s.log.last + 1
        s.log.append([make_entry(index, s.term, COMMANDS, data)])
        s.gathered = True
        return index

    def change(self, now: float, changes: Sequence[Change]) -> int:
        """See ``changing.change``; asked of the leader only."""
        self.state.now = now
        assert self.accepts
        return changing.change(self.state, changes)

    def transfer(self, now: float, to: NodeId) -> None:
        """See ``changing.transfer``; asked of the leader only."""
        self.state.now = now
        assert self.role == "leader"
        changing.transfer(self.state, to)

    def read(self, now: float, number: int) -> bool:
        """This node, the leader, wants to read; False where too many do already."""
        self.state.now = now
        assert self.role == "leader"
        return reading.ask(self.state, self.state.node, number)

    def suspect(self, now: float, node: NodeId) -> None:
        """The link to ``node`` broke."""
        self.state.now = now
        election.suspect(self.state, node)

    def stored(self, now: float, saved: Saved) -> None:
        """What ``ready`` gave to be written is on disk."""
        s = self.state
        s.now = now
        if s.role == "leader":
            changing.mind_disk(s)
        if s.unstored_since is not None and saved.index >= s.log.last:
            s.unstored_since = None
        elif s.unstored_since is not None:
            s.unstored_since = now
        if s.log.matches(saved.index, saved.at_term):
            s.stored = max(s.stored, saved.index)
        if saved.term != s.term:
            return
        election.own_vote_stored(s)
        if s.role == "leader":
            replication.commit_agreed(s)
            changing.go_on(s)

    def flush(self, now: float) -> None:
        """Send what has been gathered: entries to whom they are lacking, and the question who still follows, for the reads that wait."""
        s = self.state
        s.now = now
        s.gathered = False
        if s.role == "leader":
            reading.begin_round(s)
            replication.send_all(s)

    def announce(self, now: float, node: NodeId) -> None:
        """See ``changing.announce_commit``."""
        self.state.now = now
        if self.role == "leader":
            changing.announce_commit(self.state, node)

    # -- states on their way to followers, and from the leader ---------------------------------------------------------

    def wanting(self) -> list[NodeId]:
        """Followers that need a state, since the log has no longer what they lack, and are not being sent one."""
        return [node for node, progress in self.state.progress.items() if progress.pace == "snapshot" and not progress.snapshot]

    def state_begun(self, node: NodeId, index: int) -> None:
        """A state at ``index`` is on its way to ``node``."""
        self.state.progress[node].await_state(index)

    def state_ended(self, now: float, node: NodeId, index: int) -> None:
        """``node`` has the state at ``index``, or (0) will not get it: look anew at what it lacks."""
        s = self.state
        s.now = now
        progress = s.progress.get(node)
        if progress is None or progress.pace != "snapshot":
            return
        if index:
            progress.agreed(index)
            progress.replicate()
            replication.send_entries(s, node, progress)
        else:
            progress.probe()
            progress.next = progress.match + 1

    def restore(self, now: float, index: int, term: int, configuration: Configuration) -> list[Write]:
        """A state at ``index`` has taken this node's place of its own: the log begins after it. Gives what has to be written for that."""
        s = self.state
        s.now = now
        assert index > s.commit and s.role != "leader"
        writes = s.log.restart(index, term)
        s.stored = s.commit = index
        s.configurations = [(index, configuration)]
        return writes

    def has(self, index: int, term: int) -> bool:
        """Whether the log has that entry, so that a state at it is not needed; then it is committed."""
        if self.state.log.matches(index, term):
            replication.commit(self.state, index)
        return index <= self.state.commit

    # -- what it says ------------------------------------------------------------------------------------------------

    def ready(self) -> Ready:
        """What has to be done now; see the module's text. Each thing is given once."""
        s = self.state
        writes = s.log.take_writes()
        if (s.term, s.vote) != (s.saved.term, s.saved.vote):
            s.saved = HardState(s.term, s.vote)
            writes.append(write_hard(s.saved))
        saved = None
        if writes:
            saved = Saved(s.term, s.log.last, s.log.last_term)
            if s.unstored_since is None:
                s.unstored_since = s.now
        pending, s.pending = s.pending, Pending()
        return Ready(writes, saved, pending, s.commit)

    def deadline(self) -> float:
        """When ``tick`` is due."""
        s = self.state
        if s.role == "leader":
            if s.members.members == {s.node}:  # nobody to speak to, and nobody who could lead instead: an idle node sleeps
                return s.transfer_due
            return min(s.heartbeat_due, s.quorum_due, s.notice_due, s.transfer_due)
        if s.promotable:
            return min(s.election_due, s.ask_due)
        return s.election_due if s.leader is not None else NEVER

    @property
    def role(self) -> Role:
        """What this node is."""
        return self.state.role

    @property
    def term(self) -> int:
        """The current term."""
        return self.state.term

    @property
    def leader(self) -> NodeId | None:
        """Who leads, as far as this node knows."""
        return self.state.leader

    @property
    def commit(self) -> int:
        """Everything up to this index is decided."""
        return self.state.commit

    @property
    def members(self) -> Configuration:
        """The configuration in force here."""
        return self.state.members

    @property
    def accepts(self) -> bool:
        """Whether this node takes proposals: it leads, and hands over to nobody."""
        return self.state.role == "leader" and self.state.transfer_to is None

    @property
    def gathered(self) -> bool:
        """Whether ``flush`` is to be called."""
        return self.state.gathered

    @property
    def established(self) -> bool:
        """Whether this node leads and knows all that was ever decided: an entry of its own term is committed."""
        return self.state.role == "leader" and self.state.commit >= self.state.begun_at

    @property
    def settled(self) -> bool:
        """Whether the configuration in force is committed."""
        return self.state.configurations[-1][0] <= self.state.commit

    @property
    def log(self) -> Log:
        """The log, to read from."""
        return self.state.log

    def entries(self, low: int, high: int, max_bytes: int) -> list[Entry]:
        """See ``Log.entries``."""
        return self.state.log.entries(low, high, max_bytes)

    # -- messages ----------------------------------------------------------------------------------------------------

    def _meet_higher_term(self, sender: NodeId, message: m.RaftMessage) -> bool:
        """A higher term makes everybody a follower (Raft, section 5.1), but for questions; whether the message is looked at."""
        s = self.state
        kind = type(message)
        if kind is m.PreVote or kind is m.Vote:
            assert isinstance(message, m.PreVote | m.Vote)
            if not election.heed(s, message):
                return False
        if kind is m.PreVote or (kind is m.PreVoteReply and message.granted):  # type: ignore[union-attr]
            return True  # terms that nobody has begun yet
        roles.become_follower(s, message.term, sender if kind in m.FROM_LEADER else None)
        return True

    def _answer_old_term(self, sender: NodeId, message: m.RaftMessage) -> None:
        s = self.state
        kind = type(message)
        if kind in m.FROM_LEADER:
            s.send(sender, m.AppendReply(s.term, 0, False, 0, 0, 0))
        elif kind is m.PreVote:
            s.send(sender, m.PreVoteReply(s.term, False))
        elif kind is m.Vote:
            s.send(sender, m.VoteReply(s.term, False))

    def _handle(self, sender: NodeId, message: m.RaftMessage) -> None:
        s = self.state
        kind = type(message)
        if kind in m.FROM_LEADER:
            self._hear_leader(sender, message)
        elif kind is m.PreVote:
            assert isinstance(message, m.PreVote)
            if message.term > s.term or election.heed(s, message):
                election.asked_beforehand(s, sender, message)
        elif kind is m.Vote:
            assert isinstance(message, m.Vote)
            election.asked(s, sender, message)
        elif kind is m.PreVoteReply:
            assert isinstance(message, m.PreVoteReply)
            if message.term == s.term + message.granted:  # else it was asked for in an earlier term
                election.answered_beforehand(s, sender, message)
        elif kind is m.VoteReply:
            assert isinstance(message, m.VoteReply)
            election.answered(s, sender, message)
        elif kind is m.ReadIndexReply:
            assert isinstance(message, m.ReadIndexReply)
            s.pending.reads.append(ReadReady(message.number, message.index))
        elif s.role == "leader":
            self._hear_follower(sender, message)

    def _hear_leader(self, sender: NodeId, message: m.RaftMessage) -> None:
        s = self.state
        if s.role == "leader":
            raise Broken("raft-two-leaders", f"{sender} leads in term {s.term}, and so does {s.node}")
        if s.leader != sender or s.role != "follower":
            roles.become_follower(s, s.term, sender)
        roles.hear_leader(s)
        if isinstance(message, m.Append):
            replication.take_append(s, sender, message)
        elif isinstance(message, m.Heartbeat):
            replication.take_heartbeat(s, sender, message)
        elif isinstance(message, m.Chunk):
            s.pending.chunks.append((sender, message))
        elif s.promotable:
            election.stand(s, transferred=True)

    def _hear_follower(self, sender: NodeId, message: m.RaftMessage) -> None:
        s = self.state
        progress: Progress | None = s.progress.get(sender)
        if progress is None:
            return  # no member (any more)
        progress.active = True
        if isinstance(message, m.AppendReply):
            replication.append_answered(s, sender, message)
            reading.confirmed(s, sender, message.round)
            if s.transfer_to == sender:
                changing.hand_over(s, sender)
            changing.go_on(s)
        elif isinstance(message, m.HeartbeatReply):
            replication.heartbeat_answered(s, sender)
            reading.confirmed(s, sender, message.round)
        elif isinstance(message, m.ReadIndex):
            reading.ask(s, sender, message.number)
        elif isinstance(message, m.ChunkReply):
            s.pending.chunk_replies.append((sender, message))


def read_hard(view: View) -> HardState:
    """Term and vote as they lie on the disk; raises Broken ``raft-log-broken``."""
    raw = view.get(HARD)
    if raw is None:
        return HardState()
    value = cbor.decode(raw, max_bytes=MAX_NODE_CHARS + 64)
    if type(value) is list and len(value) == 2:
        term, vote = value
        if is_number(term) and (vote is None or type(vote) is str):
            assert isinstance(term, int)
            return HardState(term, None if vote is None else NodeId(vote))
    raise Broken("raft-log-broken", "the term and vote of this node cannot be read")


def write_hard(hard: HardState) -> Put:
    """Term and vote as they lie on the disk."""
    return Put(HARD, cbor.encode([hard.term, hard.vote]))
