"""Elections: PreVote, votes, and who gets one (Raft, sections 5.2 and 5.4.1; thesis, sections 4.2.3 and 9.6)."""

from meshos.consensus.raft import replication, roles
from meshos.consensus.raft.messages import PreVote, PreVoteReply, Vote, VoteReply
from meshos.consensus.raft.quorum import jointly_won
from meshos.consensus.raft.state import RaftState
from meshos.ids import NodeId


def time_out(s: RaftState) -> None:
    """The election timeout has passed."""
    if not s.promotable:
        roles.become_follower(s, s.term, None)  # a learner cannot do anything about it, but knows of no leader any more
        return
    roles.become_precandidate(s)
    ask(s)
    _count_prevotes(s)


def stand(s: RaftState, *, transferred: bool) -> None:
    """Ask for votes in the next term."""
    roles.become_candidate(s, transferred=transferred)
    ask(s)


def ask(s: RaftState) -> None:
    """Ask all who have not answered; again and again, since a question or its answer may be lost (Raft, section 5.1)."""
    message: PreVote | Vote = PreVote(s.term + 1, s.log.last, s.log.last_term)
    if s.role == "candidate":
        message = Vote(s.term, s.log.last, s.log.last_term, s.transferred)
    for voter in sorted(s.members.voters | s.members.outgoing):
        if voter != s.node and voter not in s.votes:
            s.send(voter, message)
    s.ask_due = s.now + s.config.heartbeat_s


def suspect(s: RaftState, node: NodeId) -> None:
    """The link to ``node`` broke. If it leads, ask soon whether the others miss it too."""
    if s.role == "follower" and s.leader == node:
        s.lost_leader = True
        s.election_due = min(s.election_due, s.now + s.config.suspicion_s * s.rng.random())


def heed(s: RaftState, message: PreVote | Vote) -> bool:
    """Whether somebody who asks is listened to at all: not while there is a leader, unless that leader wants it so."""
    return (type(message) is Vote and message.transfer) or not roles.holds_on(s)


def asked_beforehand(s: RaftState, candidate: NodeId, message: PreVote) -> None:
    """Say what one would do; nothing changes here by that."""
    granted = message.term > s.term and s.log.up_to_date(message.last_index, message.last_term)
    s.send(candidate, PreVoteReply(message.term if granted else s.term, granted))


def asked(s: RaftState, candidate: NodeId, message: Vote) -> None:
    """One vote a term, to whose log holds all that may be committed (section 5.4.1)."""
    free = s.vote == candidate or (s.vote is None and s.leader is None)
    granted = free and s.log.up_to_date(message.last_index, message.last_term)
    if granted:
        s.vote = candidate
        roles.await_election(s)
    s.send(candidate, VoteReply(s.term, granted))


def answered_beforehand(s: RaftState, voter: NodeId, message: PreVoteReply) -> None:
    """Somebody would vote for this node, or would not."""
    if s.role == "precandidate":
        s.votes.setdefault(voter, message.granted)
        _count_prevotes(s)


def _count_prevotes(s: RaftState) -> None:
    result = jointly_won(s.members.halves, s.votes)
    if result:
        stand(s, transferred=False)
    elif result is False:
        roles.become_follower(s, s.term, None)


def answered(s: RaftState, voter: NodeId, message: VoteReply) -> None:
    """Somebody voted for this node, or did not."""
    if s.role == "candidate":
        s.votes.setdefault(voter, message.granted)
        _count_votes(s)


def own_vote_stored(s: RaftState) -> None:
    """This node's vote is on its disk, and counts."""
    if s.role == "candidate":
        s.votes[s.node] = True
        _count_votes(s)


def _count_votes(s: RaftState) -> None:
    result = jointly_won(s.members.halves, s.votes)
    if result:
        roles.become_leader(s)
        replication.send_all(s)
    elif result is False:
        roles.become_follower(s, s.term, None)
