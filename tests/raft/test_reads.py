"""Reads that see all that was acknowledged before: thesis, section 6.4."""

from meshos.consensus.raft.config import LAN
from meshos.consensus.raft.limits import MAX_WAITING_READS
from meshos.consensus.raft.messages import ReadIndex, ReadIndexReply
from meshos.ids import NodeId
from tests.raft.cluster import Cluster

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")


def read(cluster: Cluster, name: str, number: int) -> None:
    assert cluster[name].read(cluster.now, number)
    cluster.flush(name)


def test_a_read_is_answered_from_the_commit_index_once_a_quorum_still_follows() -> None:
    """Steps 2 and 3."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    index = cluster.propose("n1", b"x")
    cluster.settle()
    read(cluster, "n1", 7)
    assert not cluster.servers[N1].reads
    cluster.settle()
    assert cluster.servers[N1].reads == [(7, index)]


def test_a_leader_that_was_deposed_answers_no_read() -> None:
    """What section 6.4 is for: another leader may have acknowledged a write that this one knows nothing of."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    cluster.isolate("n1")
    read(cluster, "n1", 7)
    cluster.elect("n2")
    cluster.propose("n2", b"x")
    cluster.settle()
    assert cluster.servers[N1].reads == [] and cluster[N1].role == "leader"
    cluster.heal()
    cluster.pass_time(2)
    assert cluster.servers[N1].reads == []


def test_a_new_leader_answers_no_read_before_it_has_committed_in_its_term() -> None:
    """Step 1: only then is its commit index known to be the group's."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    index = cluster.propose("n1", b"x")
    cluster.settle()
    cluster.wire.clear()
    cluster.time_out("n2")
    while cluster[N2].role != "leader":
        cluster.deliver_one()
    assert cluster[N2].commit < index, "it has the entry, and does not know yet that it is committed"
    read(cluster, "n2", 7)
    assert not cluster.servers[N2].reads
    cluster.settle()
    ((number, at),) = cluster.servers[N2].reads
    assert number == 7 and at > index


def test_a_leader_of_one_answers_at_once() -> None:
    cluster = Cluster(["n1"], learners=["n2"])
    cluster.elect("n1")
    cluster.wire.clear()
    read(cluster, "n1", 7)
    assert cluster.servers[N1].reads == [(7, 2)]


def test_a_follower_reads_from_its_own_state_from_the_leaders_index_on() -> None:
    """The end of section 6.4."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    index = cluster.propose("n1", b"x")
    cluster.settle()
    cluster[N1].receive(cluster.now, N2, ReadIndex(1, 9))
    cluster.flush("n1")
    cluster.settle()
    assert cluster.servers[N2].reads == [(9, index)]
    assert cluster[N2].commit == index, "it was told the commit index with it"


def test_an_answer_of_an_earlier_term_is_not_taken() -> None:
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    cluster.elect("n2")
    cluster[N3].receive(cluster.now, N1, ReadIndexReply(1, 9, 1))
    cluster.take("n3")
    assert cluster.servers[N3].reads == []


def test_reads_that_come_together_share_a_round() -> None:
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    cluster.wire.clear()
    for number in range(100):
        assert cluster[N1].read(cluster.now, number)
    cluster.flush("n1")
    assert len(cluster.wire) == 2
    cluster.settle()
    assert [number for number, _ in cluster.servers[N1].reads] == list(range(100))


def test_a_learner_confirms_nothing() -> None:
    """It has no vote, so its word says nothing of who leads."""
    cluster = Cluster(["n1", "n2", "n3"], learners=["n4"])
    cluster.elect("n1")
    cluster.cut |= {(N1, N2), (N1, N3)}
    read(cluster, "n1", 7)
    cluster.settle()
    cluster.now += LAN.heartbeat_s
    cluster[N1].tick(cluster.now)
    cluster.take("n1")
    cluster.settle()
    assert cluster.servers[N1].reads == []


def test_reads_that_wait_are_bounded() -> None:
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    cluster.isolate("n1")
    for number in range(MAX_WAITING_READS):
        assert cluster[N1].read(cluster.now, number)
    assert not cluster[N1].read(cluster.now, MAX_WAITING_READS)
