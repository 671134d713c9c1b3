"""Who is what: the changes between follower, candidates and leader (Raft, figure 4), and the times that go with them.

follower --election timeout--> precandidate --quorum would vote--> candidate --quorum voted--> leader
any      --a higher term, or a leader of its own----------------------------------------------> follower
"""

from meshos.consensus.raft.entries import COMMANDS, make_entry
from meshos.consensus.raft.progress import Progress
from meshos.consensus.raft.state import NEVER, RaftState
from meshos.ids import NodeId


def become_follower(s: RaftState, term: int, leader: NodeId | None) -> None:
    """Follow ``leader`` (or nobody yet) in ``term``."""
    _leave_role(s)
    if term != s.term:
        s.term, s.vote = term, None
    s.role, s.leader = "follower", leader
    if leader is not None:
        hear_leader(s)
    else:
        await_election(s)


def become_precandidate(s: RaftState) -> None:
    """Ask first (thesis, section 9.6). Neither term nor vote changes."""
    _leave_role(s)
    s.role, s.leader = "precandidate", None
    s.votes = {s.node: True}
    await_election(s)


def become_candidate(s: RaftState, *, transferred: bool) -> None:
    """Stand in the next term. The own vote counts once it is on disk, like any other (``election.stored``)."""
    _leave_role(s)
    s.role, s.leader = "candidate", None
    s.term, s.vote = s.term + 1, s.node
    s.votes = {}
    s.transferred = transferred
    await_election(s)


def become_leader(s: RaftState) -> None:
    """Lead, beginning with an entry of the new term: through it the entries of earlier terms become committed (Raft, section 5.4.2)."""
    assert s.role == "candidate"
    s.role, s.leader = "leader", s.node
    s.election_due = NEVER
    s.heartbeat_due = s.now  # at once: it is what ends the others' candidacies
    s.quorum_due = s.now + s.config.election_s
    s.transfer_to, s.transfer_due = None, NEVER
    s.progress = {}
    follow_members(s)
    s.begun_at = s.log.last + 1
    s.log.append([make_entry(s.begun_at, s.term, COMMANDS, b"")])


def follow_members(s: RaftState) -> None:
    """A leader keeps a Progress of each other member; of one that is being removed until that is committed, so that it hears of it."""
    members = frozenset().union(*(configuration.members for _, configuration in s.configurations))
    for gone in [node for node in s.progress if node not in members]:
        del s.progress[gone]
    for node in sorted(members):
        if node != s.node and node not in s.progress:
            s.progress[node] = Progress(s.log.last + 1, active=True)


def _leave_role(s: RaftState) -> None:
    s.votes = {}
    s.ask_due = NEVER
    s.transferred = False
    if s.role != "leader":
        return
    s.heartbeat_due = s.quorum_due = s.notice_due = s.transfer_due = NEVER
    s.transfer_to = None
    s.progress = {}
    asked = [request for _, _, requests in s.reads_asked for request in requests]
    s.pending.lost_reads += [number for node, number in (*asked, *s.reads_waiting) if node == s.node]
    s.reads_asked.clear()
    s.reads_waiting.clear()
    s.gathered = False  # nobody is sent it any more


def hear_leader(s: RaftState) -> None:
    """The leader is alive."""
    s.heard_at = s.now
    s.lost_leader = False
    await_election(s)


def await_election(s: RaftState) -> None:
    """Draw a new election timeout (Raft, section 5.2: randomised, so that split votes are rare)."""
    s.election_due = s.now + s.config.election_s * (1 + s.rng.random())


def holds_on(s: RaftState) -> bool:
    """Whether there is a leader as far as this node knows, so that nobody needs its vote (thesis, section 4.2.3)."""
    if s.role == "leader":
        return True
    return s.leader is not None and not s.lost_leader and s.now - s.heard_at < s.config.election_s
