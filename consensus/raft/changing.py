"""Changing who belongs to the group, and who leads it (thesis, chapter 4 and section 3.10)."""

from collections.abc import Sequence

from meshos.consensus.raft import replication, roles
from meshos.consensus.raft.entries import CONFIGURATION, make_entry
from meshos.consensus.raft.membership import Change, Configuration, changed, encode_configuration, left
from meshos.consensus.raft.messages import TimeoutNow
from meshos.consensus.raft.state import NEVER, RaftState
from meshos.errors import BadInput, Refused
from meshos.ids import NodeId


def change(s: RaftState, changes: Sequence[Change]) -> int:
    """Begin a change of members; gives the index of its entry.

    Raises BadInput ``bad-membership``, Refused ``membership-changing`` or ``learner-behind``.
    """
    if s.configurations[-1][0] > s.commit or s.commit < s.begun_at:
        raise Refused("membership-changing", "another change of the group's members is under way", hint="try again in a moment")
    target = changed(s.members, changes)
    for node in sorted((target.voters - s.members.voters) & s.members.learners):
        _must_keep_up(s, node)
    return _append(s, target)


def _must_keep_up(s: RaftState, node: NodeId) -> None:
    """A new voter that lacks much would hold up every commit that needs it (thesis, section 4.2.1)."""
    lag = s.log.last - s.progress[node].match
    if lag > s.config.keep_entries // 4 or s.progress[node].pace == "snapshot":
        raise Refused("learner-behind", f"{node} lacks {lag} entries of the group's log", hint="wait until it has caught up")


def _append(s: RaftState, configuration: Configuration) -> int:
    index = s.log.last + 1
    entry = make_entry(index, s.term, CONFIGURATION, encode_configuration(configuration))
    s.log.append([entry])
    s.remember_configurations([entry])
    roles.follow_members(s)
    s.gathered = True
    return index


def go_on(s: RaftState) -> None:
    """What follows from a configuration that is committed: leave a joint one, and step down where this node has no vote any more.

    The leader that is removed leads until then, without counting itself (thesis, section 4.2.2), and hands over.
    """
    index, members = s.configurations[-1]
    if index > s.commit:
        return
    if members.joint:
        if s.commit >= s.begun_at:
            _append(s, left(members))
        return
    for node in [node for node in s.progress if node not in members.members]:
        announce_commit(s, node)
        del s.progress[node]
    if not members.votes(s.node):
        step_aside(s)


def transfer(s: RaftState, to: NodeId) -> None:
    """Hand over to ``to`` once its log is complete; meanwhile nothing is proposed. Raises BadInput ``bad-transfer``."""
    if to == s.node or not s.members.votes(to):
        raise BadInput("bad-transfer", f"{to[:40]} is no other voter of this group")
    s.transfer_to = to
    s.transfer_due = s.now + s.config.election_s
    hand_over(s, to)


def hand_over(s: RaftState, to: NodeId) -> None:
    """Tell ``to`` to stand, if it has everything."""
    progress = s.progress.get(to)
    if s.transfer_to == to and progress is not None and progress.match == s.log.last and s.stored == s.log.last:
        s.send(to, TimeoutNow(s.term))


def give_up_transfer(s: RaftState) -> None:
    """It took an election timeout: go on leading (thesis, section 3.10)."""
    s.transfer_to, s.transfer_due = None, NEVER


def step_aside(s: RaftState) -> None:
    """Stop leading, and let the voter that has most stand at once."""
    able = [(progress.match, node) for node, progress in s.progress.items() if s.members.votes(node) and progress.active]
    if able:
        s.send_ahead(max(able)[1], TimeoutNow(s.term))
    roles.become_follower(s, s.term, None)


def mind_disk(s: RaftState) -> bool:
    """Step aside where the own disk does not answer: such a leader is as good as dead to those who wait for it. Whether that was so."""
    stalled = s.unstored_since is not None and s.now - s.unstored_since >= s.config.election_s and not s.alone
    if stalled:
        step_aside(s)
    return stalled


def announce_commit(s: RaftState, node: NodeId) -> None:
    """``node`` waits for what was just committed, or will hear of nothing any more: tell it at once."""
    progress = s.progress.get(node)
    if progress is not None and progress.pace == "replicate" and progress.commit < s.commit:
        replication.send_append(s, node, progress, 0)
