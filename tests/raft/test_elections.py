"""Who leads: Raft, sections 5.1, 5.2 and 5.4.1; Ongaro's thesis, sections 4.2.3, 6.2 and 9.6."""

import random
from collections.abc import Sequence

import pytest

from meshos.consensus.raft.config import LAN
from meshos.consensus.raft.membership import Change, Configuration
from meshos.consensus.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    PreVote,
    PreVoteReply,
    TimeoutNow,
    Vote,
    VoteReply,
)
from meshos.ids import NodeId
from tests.raft.cluster import Cluster, give

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")


def test_servers_start_as_followers() -> None:
    """Section 5.2."""
    cluster = Cluster(["n1", "n2", "n3"])
    assert [cluster[name].role for name in cluster.servers] == ["follower"] * 3 and not cluster.wire


def test_a_follower_that_hears_nobody_begins_an_election_in_the_next_term_with_its_own_vote() -> None:
    """Section 5.2: it increments its term, votes for itself, and asks all others in parallel."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.time_out("n1")
    for voter in (N2, N3):
        cluster[N1].receive(cluster.now, voter, PreVoteReply(1, True))
    cluster.wire.clear()
    cluster.take("n1")
    assert (cluster[N1].role, cluster[N1].term, cluster[N1].state.vote) == ("candidate", 1, N1)
    assert [(to, message) for _, to, message in cluster.wire] == [(to, Vote(1, 1, 1, False)) for to in (N2, N3)]


@pytest.mark.parametrize(
    ("size", "votes", "role"),
    [
        (1, [], "leader"),
        (3, [True], "leader"),
        (3, [False, True], "leader"),
        (3, [False, False], "follower"),
        (3, [], "candidate"),
        (5, [True], "candidate"),
        (5, [True, True], "leader"),
        (5, [True, False, False], "candidate"),
        (5, [False, False, False], "follower"),
    ],
)
def test_a_candidate_leads_once_a_majority_voted_for_it(size: int, votes: Sequence[bool], role: str) -> None:
    """Section 5.2."""
    names = [f"n{number}" for number in range(1, size + 1)]
    cluster = Cluster(names)
    cluster.time_out("n1")
    for name in names[1:]:
        cluster[N1].receive(cluster.now, NodeId(name), PreVoteReply(1, True))
    cluster.take("n1")
    for name, granted in zip(names[1:], votes, strict=False):
        cluster[N1].receive(cluster.now, NodeId(name), VoteReply(1, granted))
    assert cluster[N1].role == role


def test_a_vote_counts_once_however_often_it_comes() -> None:
    """Section 5.5: messages may come twice."""
    cluster = Cluster(["n1", "n2", "n3", "n4", "n5"])
    cluster.time_out("n1")
    for voter in (N2, N3):
        cluster[N1].receive(cluster.now, voter, PreVoteReply(1, True))
    cluster.take("n1")
    for _ in range(3):
        cluster[N1].receive(cluster.now, N2, VoteReply(1, True))
    assert cluster[N1].role == "candidate"


def test_each_server_votes_once_in_a_term_first_come_first_served() -> None:
    """Section 5.2; and over a restart, since the vote was on disk before it was sent."""
    cluster = Cluster(["n1", "n2", "n3"])
    for candidate, granted in ((N2, True), (N3, False), (N2, True)):
        cluster[N1].receive(cluster.now, candidate, Vote(1, 1, 1, False))
        cluster.take("n1")
        assert cluster.wire.pop() == (N1, candidate, VoteReply(1, granted))
    cluster.crash("n1")
    cluster[N1].receive(cluster.now, N3, Vote(1, 1, 1, False))
    cluster.take("n1")
    assert cluster.wire.pop() == (N1, N3, VoteReply(1, False))


def test_a_vote_is_on_disk_before_it_leaves() -> None:
    """Figure 2: updated on stable storage before responding."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.servers[N1].stalled = True
    cluster[N1].receive(cluster.now, N2, Vote(1, 1, 1, False))
    cluster.take("n1")
    assert not cluster.wire
    cluster.crash("n1")
    assert (cluster[N1].term, cluster[N1].state.vote) == (0, None), "nobody was told of that vote"


def test_a_candidate_counts_its_own_vote_only_once_it_is_on_disk() -> None:
    """The same rule for the voter that it is itself: a leader of one must not lead a term that it may forget."""
    cluster = Cluster(["n1"], learners=["n2"])
    cluster.servers[N1].stalled = True
    cluster.time_out("n1")
    assert cluster[N1].role == "candidate"
    cluster.sync("n1")
    assert cluster[N1].role == "leader"


@pytest.mark.parametrize(
    ("mine", "theirs", "granted"),
    [
        ([1], [1], True),
        ([1], [2], True),
        ([2], [1], False),
        ([1, 1], [1], False),
        ([1], [1, 1], True),
        ([1, 1, 1], [2], True),
        ([2], [1, 1, 1], False),
    ],
)
def test_a_voter_denies_its_vote_to_whose_log_is_less_up_to_date(mine: list[int], theirs: list[int], granted: bool) -> None:
    """Section 5.4.1: the later last term is more up to date, and with equal terms the longer log; the same beforehand."""
    cluster = Cluster(["n1", "n2"])
    give(cluster, "n1", mine)
    last_index, last_term = 1 + len(theirs), theirs[-1]
    cluster[N1].receive(cluster.now, N2, PreVote(4, last_index, last_term))
    cluster[N1].receive(cluster.now, N2, Vote(3, last_index, last_term, False))
    cluster.take("n1")
    assert [message for _, _, message in cluster.wire] == [PreVoteReply(4 if granted else max(mine), granted), VoteReply(3, granted)]


def test_a_higher_term_makes_a_follower_of_everybody() -> None:
    """Section 5.1."""
    for role in ("follower", "candidate", "leader"):
        cluster = Cluster(["n1", "n2", "n3"])
        if role == "candidate":
            cluster.time_out("n1")
            cluster[N1].receive(cluster.now, N2, PreVoteReply(1, True))
        elif role == "leader":
            cluster.elect("n1")
        cluster.take("n1")
        assert cluster[N1].role == role
        cluster[N1].receive(cluster.now, N2, Append(7, 1, 1, 1, 0, ()))
        assert (cluster[N1].role, cluster[N1].term, cluster[N1].leader) == ("follower", 7, N2)


def test_messages_of_an_old_term_are_rejected_and_their_sender_learns_the_current_one() -> None:
    """Section 5.1: a stale leader steps down."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    cluster[N2].receive(cluster.now, N3, Append(5, 1, 1, 1, 0, ()))
    before = cluster.log("n2")
    cluster.wire.clear()
    cluster[N2].receive(cluster.now, N1, Append(1, 1, 1, 1, 0, ()))
    assert cluster.log("n2") == before
    cluster.flush("n2")
    cluster.settle()
    assert cluster[N1].role == "follower" and cluster[N1].term == 5


def test_a_candidate_follows_a_leader_of_its_own_term() -> None:
    """Section 5.2, outcome (b) of an election."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.time_out("n1")
    cluster[N1].receive(cluster.now, N2, PreVoteReply(1, True))
    assert cluster[N1].role == "candidate"
    cluster[N1].receive(cluster.now, N2, Heartbeat(1, 1, 0))
    assert (cluster[N1].role, cluster[N1].leader) == ("follower", N2)


def test_election_timeouts_are_random_within_their_interval() -> None:
    """Section 5.2: split votes are rare because timeouts differ."""
    drawn = set()
    for seed in range(200):
        cluster = Cluster(["n1", "n2", "n3"], seed=seed)
        due = cluster[N1].deadline()
        assert LAN.election_s <= due < 2 * LAN.election_s
        drawn.add(round(due, 3))
    assert len(drawn) > 100


def test_split_votes_are_resolved_by_another_election() -> None:
    """Section 5.2, outcome (c)."""
    for seed in range(20):
        cluster = Cluster(["n1", "n2", "n3", "n4"], seed=seed)
        cluster.pass_time(5)
        assert len(cluster.leaders()) == 1


def test_a_leader_prevents_elections_by_heartbeats() -> None:
    """Section 5.2."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    for server in cluster.servers.values():
        server.raft.state.rng = random.Random(7)
    cluster.pass_time(60)
    assert [cluster[name].term for name in cluster.servers] == [1, 1, 1]


def test_a_partitioned_server_does_not_raise_its_term_nor_disturb_who_stayed() -> None:
    """Thesis, section 9.6 (PreVote)."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    cluster.isolate("n3")
    cluster.pass_time(30)
    assert cluster[N3].term == 1 and cluster[N3].role == "precandidate"
    cluster.heal()
    cluster.pass_time(5)
    assert (cluster[N1].role, cluster[N1].term, cluster[N3].leader) == ("leader", 1, N1)


def test_who_hears_a_leader_listens_to_no_candidate() -> None:
    """Thesis, section 4.2.3: not even to the candidate's term, or a server that was removed could depose leaders for ever."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    cluster[N2].receive(cluster.now, N3, Vote(9, 99, 9, False))
    cluster[N2].receive(cluster.now, N3, PreVote(9, 99, 9))
    cluster[N1].receive(cluster.now, N3, Vote(9, 99, 9, False))
    assert cluster[N2].term == cluster[N1].term == 1 and cluster[N1].role == "leader"
    cluster[N2].receive(cluster.now + LAN.election_s, N3, Vote(9, 99, 9, False))
    assert cluster[N2].term == 9, "after an election timeout without the leader it does"


def test_a_leader_without_a_quorum_steps_down() -> None:
    """Thesis, section 6.2 (CheckQuorum)."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    cluster.isolate("n1")
    cluster.pass_time(2 * LAN.election_s)
    assert cluster[N1].role != "leader"


def test_who_loses_the_link_to_the_leader_asks_at_once_and_is_heard_only_by_who_lost_it_too() -> None:
    """A hint of the network shortens an election without a new way to disturb one."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    cluster.pass_time(1)
    cluster[N2].suspect(cluster.now, N1)
    cluster.cut |= {(N1, N2)}
    cluster.pass_time(LAN.suspicion_s)
    assert cluster[N1].role == "leader" and cluster[N3].leader == N1, "n3 hears the leader"
    cluster.cut |= {(N1, N3), (N2, N1), (N3, N1)}
    cluster[N3].suspect(cluster.now, N1)
    cluster[N2].suspect(cluster.now, N1)
    cluster.pass_time(LAN.election_s)
    assert [name for name in cluster.leaders() if name != N1]


def test_leadership_is_handed_over_to_who_has_everything() -> None:
    """Thesis, section 3.10: new proposals wait, the target is brought up to date, and stands without waiting or asking beforehand."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    cluster.propose("n1")
    cluster[N1].transfer(cluster.now, N2)
    assert not cluster[N1].accepts
    cluster.flush("n1")
    cluster.settle()
    assert cluster.leaders() == [N2] and cluster[N2].term == 2


def test_a_hand_over_that_takes_an_election_timeout_is_given_up() -> None:
    """Thesis, section 3.10."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    cluster.isolate("n2")
    cluster.propose("n1")
    cluster[N1].transfer(cluster.now, N2)
    cluster.pass_time(LAN.election_s + LAN.heartbeat_s)
    assert cluster[N1].accepts and cluster[N1].role == "leader"


def test_a_leader_whose_disk_stalls_steps_aside() -> None:
    """It would hold up everybody whose messages wait for that disk; who has most stands at once."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    cluster.servers[N1].stalled = True
    cluster.propose("n1")
    cluster.settle()
    cluster.pass_time(LAN.election_s + 2 * LAN.heartbeat_s)
    assert cluster[N1].role == "follower" and cluster.leaders() and cluster.leaders() != [N1]


def test_no_two_leaders_in_one_term() -> None:
    """Section 5.2 (election safety): a second one is a bug of somebody, and stops this node."""
    from meshos.errors import Broken

    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    with pytest.raises(Broken) as caught:
        cluster[N1].receive(cluster.now, N2, Heartbeat(1, 1, 0))
    assert caught.value.name == "raft-two-leaders"


def test_a_request_to_stand_is_for_voters_only() -> None:
    cluster = Cluster(["n1"], learners=["n2"])
    cluster[N2].receive(cluster.now, N1, TimeoutNow(1))
    assert cluster[N2].role == "follower"


def test_answers_of_strangers_change_nothing() -> None:
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    commit = cluster[N1].commit
    cluster.isolate("n1")
    cluster.propose("n1")
    for stranger in ("x", "y"):
        cluster[N1].receive(cluster.now, NodeId(stranger), AppendReply(1, 0, True, 3, 0, 0))
    assert cluster[N1].commit == commit


def test_a_leader_that_steps_down_before_it_sent_what_it_gathered_has_nothing_to_send() -> None:
    """It used to ask for its turn again and again within one moment, since a follower never sends it."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    cluster[N1].propose(cluster.now, b"")
    assert cluster[N1].gathered
    cluster[N1].receive(cluster.now, N2, Heartbeat(cluster[N1].term + 1, 0, 0))
    assert cluster[N1].role == "follower" and not cluster[N1].gathered


def test_who_has_no_vote_knows_of_no_leader_once_it_hears_none() -> None:
    """It cannot be elected, but whoever asks it for the leader is not sent to one that is gone."""
    cluster = Cluster(["n1", "n2"])
    cluster.elect("n1")
    cluster.settle()
    cluster[N1].change(cluster.now, [Change("learner", N2)])
    cluster.settle()
    cluster.pass_time(1)
    assert cluster[N2].leader == N1 and cluster[N2].members == Configuration(frozenset({N1}), learners=frozenset({N2}))
    cluster.isolate("n1")
    cluster.pass_time(3)
    assert (cluster[N2].role, cluster[N2].leader) == ("follower", None)
    cluster.heal()
    cluster.pass_time(1)
    assert cluster[N2].leader == N1
