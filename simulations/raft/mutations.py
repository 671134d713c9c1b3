"""How Raft may be broken, one rule at a time: each of these must be found by the scenario ``raft``."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from meshos.consensus.raft import changing, election, membership, quorum, reading, replication
from meshos.consensus.raft import messages as m
from meshos.consensus.raft.entries import Entry
from meshos.consensus.raft.membership import Change, Configuration
from meshos.consensus.raft.raft import Raft, Ready
from meshos.consensus.raft.replica import Replica
from meshos.consensus.raft.sessions import Sessions
from meshos.consensus.raft.state import HardState, RaftState
from meshos.effects import Persist, WriteBack
from meshos.ids import NodeId
from meshos.simulations.mutations import Mutation, replaced


@contextmanager
def quorum_one_less() -> Iterator[None]:
    """Two quorums need not have a voter in common."""
    whole = quorum.majority
    with replaced(quorum, "majority", lambda voters: max(1, whole(voters) - 1)):
        yield


@contextmanager
def entries_are_not_synced() -> Iterator[None]:
    """What must be on disk is only written back: an fsync is skipped."""
    effects_of = Replica._effects

    def broken(self: Replica, now: float) -> list[object]:
        return [WriteBack(effect.writes) if type(effect) is Persist else effect for effect in effects_of(self, now)]

    with replaced(Replica, "_effects", broken):
        yield


@contextmanager
def the_vote_is_not_persisted() -> Iterator[None]:
    """The term is, the vote is not: after a crash it is given again."""
    ready_of = Raft.ready

    def broken(self: Raft) -> Ready:
        s = self.state
        if s.term == s.saved.term:
            s.saved = HardState(s.term, s.vote)
            return ready_of(self)
        vote, s.vote = s.vote, None
        ready = ready_of(self)
        s.vote = vote
        s.saved = HardState(s.term, vote)
        return ready

    with replaced(Raft, "ready", broken):
        yield


@contextmanager
def old_terms_are_heard() -> Iterator[None]:
    """A message of an earlier term counts as one of this term."""

    def broken(self: Raft, sender: NodeId, message: m.RaftMessage) -> None:
        if (type(message) is m.Append or type(message) is m.Heartbeat) and self.role != "leader":
            self._handle(sender, message)

    with replaced(Raft, "_answer_old_term", broken):
        yield


@contextmanager
def old_entries_are_committed_by_counting() -> Iterator[None]:
    """Raft, figure 8: an entry of an earlier term is committed as soon as a majority has it."""

    def broken(s: RaftState) -> None:
        at = {node: progress.match for node, progress in s.progress.items()}
        at[s.node] = s.stored
        index = quorum.jointly_agreed(s.members.halves, at)
        if index > s.commit:
            replication.commit(s, index)
            s.gathered = s.gathered or bool(s.reads_waiting)
            s.notice_due = min(s.notice_due, s.now + s.config.notice_s)

    with replaced(replication, "commit_agreed", broken):
        yield


@contextmanager
def reads_ask_nobody() -> Iterator[None]:
    """A leader answers reads without knowing that it still leads."""
    with replaced(RaftState, "alone", property(lambda self: True)):
        yield


@contextmanager
def reads_do_not_wait_for_the_term() -> Iterator[None]:
    """A new leader answers reads from a commit index that may lie before what was acknowledged (thesis, section 6.4, step 1)."""

    def broken(s: RaftState) -> None:
        s.begun_at = 0
        begin(s)

    begin = reading.begin_round
    with replaced(reading, "begin_round", broken):
        yield


@contextmanager
def proposals_are_not_deduplicated() -> Iterator[None]:
    """What is sent again is applied again."""
    with replaced(Sessions, "applied", lambda self, node, session, number: False):
        yield


@contextmanager
def voters_are_exchanged_at_once() -> Iterator[None]:
    """Any change of voters is made in one step, without a joint configuration."""

    def broken(now: Configuration, changes: Sequence[Change]) -> Configuration:
        return membership._target(now, changes)

    with replaced(changing, "changed", broken):
        yield


@contextmanager
def conflicts_are_kept() -> Iterator[None]:
    """A follower appends what its log does not reach to, and leaves what conflicts."""
    take = replication._take

    def broken(s: RaftState, entries: tuple[Entry, ...]) -> None:
        beyond = tuple(entry for entry in entries if entry.index > s.log.last)
        if beyond:
            take(s, beyond)

    with replaced(replication, "_take", broken):
        yield


@contextmanager
def logs_are_not_compared() -> Iterator[None]:
    """Everybody gets a vote, whatever its log lacks (Raft, section 5.4.1)."""
    from meshos.consensus.raft.log import Log

    with replaced(Log, "up_to_date", lambda self, last_index, last_term: True):
        yield


@contextmanager
def votes_are_given_twice() -> Iterator[None]:
    """A vote is free again as soon as somebody else asks."""

    def broken(s: RaftState, candidate: NodeId, message: m.Vote) -> None:
        s.vote, s.leader = None, None
        asked(s, candidate, message)

    asked = election.asked
    with replaced(election, "asked", broken):
        yield


MUTATIONS = (
    Mutation("quorum-one-less", "a majority is one vote short", quorum_one_less, "safety", nodes=3),
    Mutation("entries-not-synced", "an fsync is skipped", entries_are_not_synced, "safety", nodes=3),
    Mutation("vote-not-persisted", "a vote is forgotten by a crash", the_vote_is_not_persisted, "safety", nodes=3),
    Mutation("old-terms-heard", "the term of a message is not checked", old_terms_are_heard, nodes=3),
    Mutation(
        "old-entries-counted", "entries of old terms are committed by counting", old_entries_are_committed_by_counting, "safety", nodes=3
    ),
    Mutation("reads-ask-nobody", "reads are answered without a quorum", reads_ask_nobody, "safety", "not linearizable", nodes=3),
    Mutation("reads-of-a-new-leader", "reads do not wait for an entry of the term", reads_do_not_wait_for_the_term, "safety", nodes=3),
    Mutation("dedup-off", "a proposal that is sent again is applied again", proposals_are_not_deduplicated, "safety", nodes=3),
    Mutation("no-joint-consensus", "voters are exchanged in one step", voters_are_exchanged_at_once, "safety"),
    Mutation("conflicts-kept", "a follower does not truncate what conflicts", conflicts_are_kept, nodes=3),
    Mutation("logs-not-compared", "votes do not look at the candidate's log", logs_are_not_compared, "safety", nodes=3),
    Mutation("votes-given-twice", "two votes in a term", votes_are_given_twice, "safety", nodes=3),
)
