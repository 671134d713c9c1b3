"""Who belongs to a group, and how that changes: thesis, chapter 4, and the majorities of section 4.3 as properties."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshos.consensus.raft.config import LAN
from meshos.consensus.raft.limits import MAX_MEMBERS
from meshos.consensus.raft.membership import Change, Configuration, changed, decode_configuration, encode_configuration, left
from meshos.consensus.raft.quorum import jointly_agreed, jointly_won, majority
from meshos.errors import BadInput, MeshError, Refused
from meshos.ids import NodeId
from tests.raft.cluster import Cluster

N1, N2, N3, N4, N5 = (NodeId(f"n{number}") for number in range(1, 6))
IDS = [NodeId(f"n{number}") for number in range(1, 8)]
NODES = st.frozensets(st.sampled_from(IDS), max_size=5)
VOTERS = st.frozensets(st.sampled_from(IDS), min_size=1, max_size=5)


def configuration(*voters: NodeId, learners: tuple[NodeId, ...] = ()) -> Configuration:
    return Configuration(frozenset(voters), learners=frozenset(learners))


# -- majorities -------------------------------------------------------------------------------------------------------------


@given(VOTERS, NODES, st.dictionaries(st.sampled_from(IDS), st.integers(0, 9)))
def test_what_is_agreed_is_what_a_majority_of_each_half_has_reached(
    one: frozenset[NodeId], other: frozenset[NodeId], at: Mapping[NodeId, int]
) -> None:
    """By the definition, number by number."""

    def reached(number: int) -> bool:
        return all(2 * sum(at.get(voter, 0) >= number for voter in half) > len(half) for half in (one, other) if half)

    assert jointly_agreed((one, other), at) == max(number for number in range(10) if reached(number))


@given(VOTERS, NODES, st.dictionaries(st.sampled_from(IDS), st.booleans()))
def test_an_election_is_won_by_a_majority_of_each_half(
    one: frozenset[NodeId], other: frozenset[NodeId], votes: Mapping[NodeId, bool]
) -> None:
    halves = [half for half in (one, other) if half]
    yes = all(2 * sum(votes.get(voter) is True for voter in half) > len(half) for half in halves)
    possible = all(2 * sum(votes.get(voter) is not False for voter in half) > len(half) for half in halves)
    assert jointly_won((one, other), votes) == (True if yes else None if possible else False)


@given(VOTERS, VOTERS, st.data())
def test_any_quorum_of_a_joint_configuration_meets_every_quorum_of_both_halves(
    one: frozenset[NodeId], other: frozenset[NodeId], data: st.DataObject
) -> None:
    """Thesis, section 4.3: so there is no point at which two majorities decide for themselves."""
    joint = data.draw(st.frozensets(st.sampled_from(sorted(one | other))))
    half = data.draw(st.sampled_from([one, other]))
    some = data.draw(st.frozensets(st.sampled_from(sorted(half))))
    if jointly_won((one, other), dict.fromkeys(joint, True)) and len(some) >= majority(len(half)):
        assert joint & some


def test_where_nobody_votes_nothing_is_won_and_nothing_agreed() -> None:
    assert jointly_won((frozenset(), frozenset()), {N1: True}) is False
    assert jointly_agreed((frozenset(), frozenset()), {N1: 5}) == 0


# -- changes, as values -------------------------------------------------------------------------------------------------------


CHANGES = st.lists(
    st.builds(Change, st.sampled_from(["voter", "learner", "removed"]), st.sampled_from(IDS)),
    max_size=4,
    unique_by=lambda change: change.node,
)


@given(VOTERS, NODES, CHANGES)
def test_a_change_is_made_at_once_or_through_a_joint_configuration(
    voters: frozenset[NodeId], learners: frozenset[NodeId], changes: list[Change]
) -> None:
    """Thesis, section 4.1: at most one voter more or less at once, else two majorities could be apart (figure 4.2)."""
    before = Configuration(voters, learners=learners - voters)
    try:
        after = changed(before, changes)
    except MeshError as error:
        assert error.name == "bad-membership"
        return
    end = left(after) if after.joint else after
    for change in changes:
        assert (change.node in end.voters, change.node in end.learners) == (change.to == "voter", change.to == "learner")
    assert decode_configuration(encode_configuration(after)) == after
    if after.joint:
        assert after.outgoing == voters and len(voters ^ after.voters) > 1
    else:
        assert len(voters ^ after.voters) <= 1


@pytest.mark.parametrize(
    "changes",
    [
        (),
        (Change("removed", N1), Change("voter", N1)),
        (Change("removed", N1), Change("removed", N2)),
        (Change("voter", N1),),
        (Change("removed", N5),),
        (Change("voter", NodeId("")),),
        (Change("voter", NodeId("x" * 200)),),
        tuple(Change("learner", NodeId(f"x{number}")) for number in range(MAX_MEMBERS)),
    ],
)
def test_changes_that_make_no_sense_are_refused(changes: tuple[Change, ...]) -> None:
    with pytest.raises(BadInput) as caught:
        changed(configuration(N1, N2), changes)
    assert caught.value.name == "bad-membership"


def test_a_configuration_that_says_two_things_of_a_node_is_refused() -> None:
    for bad in (
        Configuration(),
        Configuration(frozenset({N1}), learners=frozenset({N1})),
        Configuration(frozenset({N1}), demoted=frozenset({N2})),
        Configuration(frozenset({N1}), frozenset({N1}), demoted=frozenset({N1})),
    ):
        with pytest.raises(Refused):
            decode_configuration(encode_configuration(bad))


# -- changes, in a group --------------------------------------------------------------------------------------------------------


def begin(cluster: Cluster, leader: str, *changes: Change) -> int:
    index = cluster[leader].change(cluster.now, changes)
    cluster.flush(leader)
    return index


def test_a_configuration_is_in_force_as_soon_as_it_is_in_the_log() -> None:
    """Section 4.1: a server always uses the latest one in its log, committed or not, and goes back with the log."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    cluster.add("n4", empty=True)
    cluster.isolate("n1", "n2")
    begin(cluster, "n1", Change("voter", N4))
    cluster.settle()
    assert N4 in cluster[N1].members.voters and N4 in cluster[N2].members.voters
    assert cluster[N1].commit == 2, "two of four are no majority"
    cluster[N2].state.commit = 2
    cluster.heal()
    cluster.isolate("n1", "n2", "n4")
    cluster.cut.clear()
    cluster.isolate("n1")
    cluster.elect("n2")
    assert cluster[N2].members.voters == {N1, N2, N3, N4}


def test_a_truncated_configuration_is_in_force_no_more() -> None:
    """Section 4.1."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    cluster.isolate("n1")
    begin(cluster, "n1", Change("removed", N3))
    assert cluster[N1].members.voters == {N1, N2}
    cluster.pass_time(5)
    (leader,) = cluster.leaders()
    assert leader != N1
    cluster.propose(leader, b"x")
    cluster.settle()
    cluster.heal()
    cluster.pass_time(2)
    assert cluster[N1].members.voters == {N1, N2, N3} and cluster.log("n1") == cluster.log("n2")


def test_a_new_leader_changes_nothing_before_it_has_committed_in_its_term() -> None:
    """The bug of single-server changes found in 2015 (section 4.1 as corrected): without this two leaders may each change one server."""
    cluster = Cluster(["n1", "n2", "n3", "n4"])
    cluster.time_out("n1")
    while cluster[N1].role != "leader":
        cluster.deliver_one()
    with pytest.raises(Refused) as caught:
        begin(cluster, "n1", Change("removed", N4))
    assert caught.value.name == "membership-changing"
    cluster.settle()
    begin(cluster, "n1", Change("removed", N4))


def test_one_change_at_a_time() -> None:
    """Section 4.1."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    cluster.isolate("n1")
    begin(cluster, "n1", Change("removed", N3))
    with pytest.raises(Refused) as caught:
        begin(cluster, "n1", Change("removed", N2))
    assert caught.value.name == "membership-changing"


def test_a_joint_configuration_needs_both_majorities_to_commit_and_is_left_by_itself() -> None:
    """Section 4.3."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    for name in ("n4", "n5"):
        cluster.add(name, empty=True)
    for name in ("n4", "n5"):  # they follow before they vote
        begin(cluster, "n1", Change("learner", NodeId(name)))
        cluster.settle()
        progress = cluster[N1].state.progress[NodeId(name)]
        cluster.servers[NodeId(name)] = cluster.add(name)
        progress.probe()
        progress.next = 2
        cluster.pass_time(1)
    cluster.isolate("n1", "n4", "n5")
    index = begin(cluster, "n1", Change("voter", N4), Change("voter", N5), Change("removed", N2), Change("removed", N3))
    assert cluster[N1].members.halves == ({N1, N4, N5}, {N1, N2, N3})
    cluster.settle()
    assert cluster[N1].commit < index, "n1, n4 and n5 are a majority of the new voters only"
    cluster.heal()
    cluster.pass_time(0.3)
    assert cluster[N1].members == configuration(N1, N4, N5) and cluster[N1].settled
    assert set(cluster[N1].state.progress) == {N4, N5}


def test_an_election_in_a_joint_configuration_needs_both_majorities() -> None:
    """Section 4.3."""
    cluster = Cluster(["n1", "n2", "n3"])
    joint = Configuration(frozenset({N1, N4, N5}), frozenset({N1, N2, N3}))
    for server in cluster.servers.values():
        server.raft.state.configurations = [(1, joint)]
    cluster.time_out("n1")
    cluster.settle()
    assert cluster[N1].role == "precandidate", "n2 and n3 would vote for it, n4 and n5 are not there"


def test_a_removed_leader_leads_until_its_removal_is_committed_without_counting_itself() -> None:
    """Section 4.2.2."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    cluster.cut.add((N1, N3))
    index = begin(cluster, "n1", Change("removed", N1))
    cluster.settle()
    assert cluster[N1].role == "leader" and cluster[N1].commit < index, "n2 alone is no majority of n2 and n3"
    cluster.cut.clear()
    cluster.pass_time(0.3)
    assert cluster[N1].role == "follower"
    assert cluster[N2].role == "leader" or cluster[N3].role == "leader"
    cluster.pass_time(10)
    assert cluster[N1].role == "follower", "it does not stand: it has no vote"


def test_a_removed_server_may_still_be_needed_as_a_leader() -> None:
    """Section 4.2.2: n1 alone has the entry that removes it; nobody else can be elected before it has spread that."""
    cluster = Cluster(["n1", "n2"])
    cluster.elect("n1")
    cluster.isolate("n1")
    begin(cluster, "n1", Change("removed", N1))
    cluster.pass_time(3)
    cluster.heal()
    cluster.pass_time(5)
    assert cluster.leaders() == [N2] and cluster[N2].members == configuration(N2)


def test_a_removed_server_disturbs_nobody() -> None:
    """Section 4.2.3: it hears no heartbeats any more, does not know why, and asks for votes."""
    cluster = Cluster(["n1", "n2", "n3", "n4"])
    cluster.elect("n1")
    cluster.isolate("n4")
    begin(cluster, "n1", Change("removed", N4))
    cluster.settle()
    cluster.heal()
    cluster.pass_time(30)
    assert cluster[N4].members.votes(N4), "so it believes"
    assert cluster[N1].role == "leader" and {cluster[name].term for name in cluster.servers} == {1}


def test_a_removed_server_hears_of_it_and_rests() -> None:
    """It is sent the entry that removes it, and that this is committed; without a vote it does not stand."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    begin(cluster, "n1", Change("removed", N3))
    cluster.settle()
    assert cluster[N3].members == configuration(N1, N2) and cluster[N3].settled
    assert N3 not in cluster[N1].state.progress
    cluster.pass_time(30)
    assert cluster[N3].role == "follower"


def test_learners_follow_and_do_not_count() -> None:
    """Section 4.2.1."""
    cluster = Cluster(["n1", "n2", "n3"], learners=["n4", "n5"])
    cluster.elect("n1")
    cluster.cut |= {(N1, N2), (N1, N3)}
    index = cluster.propose("n1", b"x")
    cluster.settle()
    assert cluster.log("n4") == cluster.log("n1") and cluster[N1].commit == index - 1
    cluster.isolate("n4")
    cluster.pass_time(10)
    assert cluster[N4].role == "follower", "a learner does not stand"


def test_a_learner_that_is_far_behind_is_not_given_a_vote() -> None:
    """Section 4.2.1: it would hold up every commit that needs it."""
    cluster = Cluster(["n1"], learners=["n2"], config=replace(LAN, keep_entries=16))
    cluster.elect("n1")
    cluster.isolate("n2")
    for _ in range(10):
        cluster.propose("n1")
    with pytest.raises(Refused) as caught:
        begin(cluster, "n1", Change("voter", N2))
    assert caught.value.name == "learner-behind"
    cluster.heal()
    cluster.pass_time(1)
    begin(cluster, "n1", Change("voter", N2))
    cluster.settle()
    assert cluster[N1].members == configuration(N1, N2)
