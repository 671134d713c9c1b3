"""Reads that see all that was acknowledged before, without an entry in the log (thesis, section 6.4).

The leader notes its commit index and begins a *round*: its number rides on appends and heartbeats and comes back in the replies. When
those of a quorum have come back, nobody else can have led when the round began, and the state at the noted index, or a
later one, answers every read of that round. Reads that come while messages are being gathered share one round.

A leader's commit index is only known to be the group's once an entry of its own term is committed (section 6.4, step 1); until then reads
wait.
"""

from meshos.consensus.raft import replication
from meshos.consensus.raft.limits import MAX_WAITING_READS
from meshos.consensus.raft.messages import ReadIndexReply
from meshos.consensus.raft.quorum import jointly_agreed
from meshos.consensus.raft.state import RaftState, ReadReady
from meshos.ids import NodeId


def ask(s: RaftState, node: NodeId, number: int) -> bool:
    """``node`` (this one, or a follower) wants to read; whether there is room."""
    if len(s.reads_waiting) >= MAX_WAITING_READS or len(s.reads_asked) >= MAX_WAITING_READS:
        return False
    s.reads_waiting.append((node, number))
    s.gathered = True
    if s.alone and s.commit >= s.begun_at:
        waiting, s.reads_waiting = s.reads_waiting, []
        _answer(s, s.commit, waiting)
    return True


def begin_round(s: RaftState) -> None:
    """Ask who still follows, for all reads that wait; appends that are sent after this carry it too."""
    if not s.reads_waiting or s.commit < s.begun_at:
        return
    waiting, s.reads_waiting = s.reads_waiting, []
    if s.alone:
        _answer(s, s.commit, waiting)
        return
    s.round += 1
    s.reads_asked.append((s.round, s.commit, waiting))
    for node in s.progress:
        if s.members.votes(node):
            replication.send_heartbeat(s, node)


def confirmed(s: RaftState, node: NodeId, round_: int) -> None:
    """``node`` followed this leader when ``round_`` was under way."""
    progress = s.progress[node]
    progress.round = max(progress.round, round_)
    if not s.reads_asked:
        return
    at = {other: known.round for other, known in s.progress.items()} | {s.node: s.round}
    reached = jointly_agreed(s.members.halves, at)
    while s.reads_asked and s.reads_asked[0][0] <= reached:
        _, index, requests = s.reads_asked.popleft()
        _answer(s, index, requests)


def _answer(s: RaftState, index: int, requests: list[tuple[NodeId, int]]) -> None:
    for node, number in requests:
        if node == s.node:
            s.pending.reads.append(ReadReady(number, index))
            continue
        s.send_ahead(node, ReadIndexReply(s.term, number, index))
        progress = s.progress.get(node)
        if progress is not None and progress.commit < index and progress.pace == "replicate":
            replication.send_append(s, node, progress, 0)  # it waits for this index
