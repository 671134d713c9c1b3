"""How entries get from the leader's log into the others', and when they are committed (Raft, sections 5.3 and 5.4)."""

from meshos.consensus.raft import roles
from meshos.consensus.raft.entries import Entry
from meshos.consensus.raft.limits import MAX_ENTRIES
from meshos.consensus.raft.messages import Append, AppendReply, Heartbeat, HeartbeatReply
from meshos.consensus.raft.progress import Progress
from meshos.consensus.raft.quorum import jointly_agreed
from meshos.consensus.raft.state import NEVER, RaftState
from meshos.errors import Broken
from meshos.ids import NodeId

# -- the leader sends --------------------------------------------------------------------------------------------------


def send_all(s: RaftState) -> None:
    """To each follower what it lacks, as far as its flow control lets it."""
    for node, progress in s.progress.items():
        send_entries(s, node, progress)


def send_entries(s: RaftState, node: NodeId, progress: Progress) -> None:
    """Everything that ``node`` lacks and may be sent now."""
    while progress.next <= s.log.last and not progress.full(s.config):
        if not send_append(s, node, progress, s.config.append_bytes):
            return


def send_append(s: RaftState, node: NodeId, progress: Progress, max_bytes: int) -> bool:
    """One append, with entries up to ``max_bytes`` (none if 0); False where the log has no longer what it takes: then a state is wanted."""
    prev = progress.next - 1
    prev_term = s.log.term(prev)
    if prev_term is None:
        if progress.active:  # who is not there needs none yet
            progress.await_state(0)
            s.gathered = True
        return False
    entries: tuple[Entry, ...] = ()
    if max_bytes and progress.next <= s.log.last:
        entries = tuple(s.log.entries(progress.next, min(s.log.last, prev + MAX_ENTRIES), max_bytes))
    s.send_ahead(node, Append(s.term, prev, prev_term, s.commit, s.round, entries))
    progress.commit = max(progress.commit, min(s.commit, prev + len(entries)))
    if entries:
        progress.sent(entries[-1].index, sum([len(entry.raw) for entry in entries]))
    elif progress.pace == "probe":
        progress.probed = True
    return True


def beat(s: RaftState) -> None:
    """Heartbeats to all. They say nothing of the log, so that one that overtakes an append does no harm."""
    for node in s.progress:
        send_heartbeat(s, node)
    s.heartbeat_due = s.now + s.config.heartbeat_s


def send_heartbeat(s: RaftState, node: NodeId) -> None:
    """The commit index in it is at most what the follower has: beyond that it may still hold entries that conflict."""
    progress = s.progress[node]
    commit = min(s.commit, progress.match)
    progress.commit = max(progress.commit, commit)
    s.send_ahead(node, Heartbeat(s.term, commit, s.round))


def notice(s: RaftState) -> None:
    """Tell the commit index to those that no append told it."""
    s.notice_due = NEVER
    for node, progress in s.progress.items():
        if progress.pace == "replicate" and progress.commit < s.commit and progress.match >= progress.commit:
            send_append(s, node, progress, 0)


# -- followers take ----------------------------------------------------------------------------------------------------


def take_append(s: RaftState, leader: NodeId, message: Append) -> None:
    """Append what agrees, refuse what does not, and say so once it is on disk."""
    index, log = message.prev_index, s.log
    if index < s.commit:  # an old one: what is committed here agrees with every leader
        s.send(leader, AppendReply(s.term, message.round, True, s.commit, 0, 0))
        return
    if not log.matches(index, message.prev_term):
        hint = min(index, log.last)
        hint_index, hint_term = last_possible(s, hint, message.prev_term)
        s.send(leader, AppendReply(s.term, message.round, False, index, hint_index, hint_term))
        return
    last = index + len(message.entries)
    for place, entry in enumerate(message.entries):
        if not log.matches(entry.index, entry.term):
            _take(s, message.entries[place:])
            break
    commit(s, min(message.commit, last))
    s.send(leader, AppendReply(s.term, message.round, True, last, 0, 0))


def _take(s: RaftState, entries: tuple[Entry, ...]) -> None:
    """From here on the log is the leader's: what conflicts goes (section 5.3), unless it were committed, which would be a bug of ours."""
    first = entries[0].index
    if first <= s.commit:
        raise Broken("raft-log-broken", f"entry {first} conflicts with the leader's, and {s.commit} is committed")
    if first <= s.log.last:
        s.log.truncate(first)
        s.forget_configurations(first)
        s.stored = min(s.stored, first - 1)
    s.log.append(entries)
    s.remember_configurations(entries)


def last_possible(s: RaftState, index: int, term: int) -> tuple[int, int]:
    """The last entry up to ``index`` whose term is at most ``term``: no later one can agree with a log that has ``term`` there (the
    search by terms at the end of section 5.3)."""
    while index > s.log.base:
        found = s.log.term(index)
        if found is None or found <= term:
            break
        index -= 1
    return index, s.log.term(index) or 0


def take_heartbeat(s: RaftState, leader: NodeId, message: Heartbeat) -> None:
    """Still there."""
    commit(s, min(message.commit, s.log.last))
    s.send(leader, HeartbeatReply(s.term, message.round))


# -- the leader hears --------------------------------------------------------------------------------------------------


def append_answered(s: RaftState, node: NodeId, message: AppendReply) -> None:
    """A follower has taken entries, or lacks something before them."""
    progress = s.progress[node]
    if not message.ok:
        hint, _ = last_possible(s, min(message.hint_index, s.log.last), message.hint_term)
        if progress.refused(message.index, hint):
            send_append(s, node, progress, s.config.append_bytes)
        return
    if message.index > s.log.last:
        raise Broken("raft-log-broken", f"{node} agrees up to {message.index}, and this leader's log ends at {s.log.last}")
    news = progress.agreed(message.index)
    if progress.pace == "snapshot":
        if progress.match < max(progress.snapshot, s.log.base):
            return
        progress.replicate()
    elif progress.pace == "probe" and progress.match == message.index:
        progress.replicate()
    if news:
        commit_agreed(s)
    send_entries(s, node, progress)


def heartbeat_answered(s: RaftState, node: NodeId) -> None:
    """A follower is there. If an append to it may have been lost, the next one finds out."""
    progress = s.progress[node]
    progress.probed = False
    if progress.pace != "snapshot" and progress.match < s.log.last:
        progress.make_room()  # for one append, which finds out, even if the window is full
        send_append(s, node, progress, s.config.append_bytes)


# -- commitment --------------------------------------------------------------------------------------------------------


def commit_agreed(s: RaftState) -> None:
    """Commit what a quorum has on disk, counting only entries of the own term; those before come with them (section 5.4.2)."""
    at = {node: progress.match for node, progress in s.progress.items()}
    at[s.node] = s.stored
    index = jointly_agreed(s.members.halves, at)
    if index > s.commit and s.log.term(index) == s.term:
        commit(s, index)
        s.gathered = s.gathered or bool(s.reads_waiting)
        s.notice_due = min(s.notice_due, s.now + s.config.notice_s)


def commit(s: RaftState, index: int) -> None:
    """Everything up to ``index`` is decided for good."""
    if index > s.commit:
        s.commit = index
        s.settle_configurations()


def hear_quorum(s: RaftState) -> bool:
    """Step down where no quorum was heard for an election timeout (thesis, section 6.2). Whether one was."""
    s.quorum_due = s.now + s.config.election_s
    heard = {node: int(progress.active) for node, progress in s.progress.items()} | {s.node: 1}
    for progress in s.progress.values():
        progress.active = False
    if jointly_agreed(s.members.halves, heard):
        return True
    roles.become_follower(s, s.term, None)
    return False
