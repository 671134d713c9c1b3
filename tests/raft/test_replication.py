"""What is in the logs, and when it is committed: Raft, sections 5.3, 5.4 and 5.5; thesis, section 10.2.1."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from meshos.consensus.raft.config import LAN
from meshos.consensus.raft.entries import COMMANDS, make_entry
from meshos.consensus.raft.limits import ORDERED_BYTES
from meshos.consensus.raft.messages import Append, AppendReply, Heartbeat
from meshos.errors import Broken
from meshos.ids import NodeId
from tests.raft.cluster import Cluster, give

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")


def test_a_leader_begins_its_term_with_an_entry_of_it() -> None:
    """Section 8 (and thesis, section 6.4): through it, what earlier leaders left becomes committed."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    assert cluster.log("n1") == [(1, b"")] and cluster[N1].commit == 2


def test_an_entry_is_committed_once_a_majority_has_it_and_the_others_learn_that() -> None:
    """Section 5.3: the leader keeps track of the highest index, and includes it in what it sends."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    cluster.isolate("n3")
    index = cluster.propose("n1", b"x")
    assert cluster[N1].commit == index - 1, "one of three is no majority"
    cluster.settle()
    assert cluster[N1].commit == index
    cluster.heal()
    cluster.pass_time(1)
    assert [cluster[name].commit for name in cluster.servers] == [index] * 3
    assert all(cluster.log(name) == [(1, b""), (1, b"x")] for name in cluster.servers)


def test_without_a_majority_nothing_is_committed() -> None:
    cluster = Cluster(["n1", "n2", "n3", "n4", "n5"])
    cluster.elect("n1")
    cluster.cut |= {(N1, NodeId(name)) for name in ("n3", "n4", "n5")}
    index = cluster.propose("n1", b"x")
    cluster.settle()
    assert cluster[N1].commit == index - 1


def test_followers_refuse_entries_that_do_not_follow_what_they_have() -> None:
    """Section 5.3: the consistency check of AppendEntries. The refusal names the last place where the logs may agree."""
    cluster = Cluster(["n1", "n2", "n3"])
    give(cluster, "n1", [1, 1, 2])
    log = cluster.log("n1")
    for index, term, hint in ((9, 2, (4, 2)), (4, 3, (4, 2)), (4, 1, (3, 1))):
        cluster[N1].receive(cluster.now, N2, Append(5, index, term, 1, 0, (make_entry(index + 1, 5, COMMANDS, b""),)))
        cluster.take("n1")
        assert cluster.wire.pop()[2] == AppendReply(5, 0, False, index, *hint)
    assert cluster.log("n1") == log


@pytest.mark.parametrize(
    ("theirs", "index", "term", "sent", "left"),
    [
        ([1, 2, 3, 3], 5, 3, [], [1, 2, 3, 3]),
        ([1, 2, 3, 3], 5, 3, [4], [1, 2, 3, 3, 4]),
        ([1, 2, 3, 3], 2, 1, [3], [1, 3]),
        ([1, 2, 3, 3], 2, 1, [2], [1, 2, 3, 3]),
        ([1, 2, 3, 3], 1, 1, [1, 2], [1, 2, 3, 3]),
        ([1, 2, 3, 3], 1, 1, [4, 4], [4, 4]),
    ],
)
def test_conflicting_entries_are_replaced_and_no_others(
    theirs: list[int], index: int, term: int, sent: Sequence[int], left: list[int]
) -> None:
    """Section 5.3; figure 2, AppendEntries 3 and 4: an old append takes nothing away that it does not conflict with."""
    cluster = Cluster(["n1", "n2", "n3"])
    give(cluster, "n1", theirs)
    entries = tuple(
        make_entry(index + place, term_, COMMANDS, b"%d.%d" % (term_, index + place - 1)) for place, term_ in enumerate(sent, 1)
    )
    cluster[N1].receive(cluster.now, N2, Append(9, index, term, 1, 0, entries))
    cluster.take("n1")
    assert [term for term, _ in cluster.log("n1")] == left
    cluster.crash("n1")
    assert [term for term, _ in cluster.log("n1")] == left, "on the disk too"


@pytest.mark.parametrize(
    "terms",
    [
        [1, 1, 1, 4, 4, 5, 5, 6, 6],
        [1, 1, 1, 4],
        [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        [1, 1, 1, 4, 4, 4, 4],
        [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ],
)
def test_a_new_leader_brings_every_log_into_line(terms: list[int]) -> None:
    """Section 5.3, figure 7: (a) to (f) beside a leader of term 8."""
    cluster = Cluster(["n1", "n2", "n3"])
    give(cluster, "n1", [1, 1, 1, 4, 4, 5, 5, 6, 6, 6])
    give(cluster, "n3", [1, 1, 1, 4, 4, 5, 5, 6, 6, 6])
    give(cluster, "n2", terms)
    cluster[N1].state.term = 7
    cluster.isolate("n2")
    cluster.elect("n1")
    assert cluster[N1].term == 8
    cluster.heal()
    cluster.propose("n1", b"x")
    cluster.pass_time(1)
    assert cluster.log("n2") == cluster.log("n1") and cluster[N2].commit == cluster[N1].commit


def test_only_entries_of_the_leaders_term_are_committed_by_counting() -> None:
    """Section 5.4.2, figure 8: (c) an entry of term 2 on a majority is not committed by a leader of term 4; (e) it is with one of 4."""
    cluster = Cluster(["n1", "n2", "n3"])
    give(cluster, "n1", [1, 2])
    give(cluster, "n2", [1])
    give(cluster, "n3", [1])
    cluster[N1].state.term = 3
    cluster.time_out("n1")
    while cluster[N1].role != "leader":
        cluster.deliver_one()
    cluster.wire.clear()
    assert cluster.log("n1")[-1] == (4, b"")
    cluster[N1].receive(cluster.now, N2, AppendReply(4, 0, True, 3, 0, 0))
    assert cluster[N1].commit == 1, "the entry of term 2 is on n1 and n2, a majority"
    cluster[N1].receive(cluster.now, N2, AppendReply(4, 0, True, 4, 0, 0))
    assert cluster[N1].commit == 4


def test_an_append_that_comes_twice_changes_nothing() -> None:
    """Section 5.5."""
    cluster = Cluster(["n1", "n2", "n3"])
    append = Append(1, 1, 1, 1, 0, (make_entry(2, 1, COMMANDS, b"x"),))
    for _ in range(3):
        cluster[N1].receive(cluster.now, N2, append)
        cluster.take("n1")
        assert cluster.wire.pop()[2] == AppendReply(1, 0, True, 2, 0, 0)
    assert cluster.log("n1") == [(1, b"x")]


def test_what_is_committed_is_never_taken_back() -> None:
    """Section 5.4.3: a leader that wants it is broken, and so nothing is believed of it."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    cluster.propose("n1", b"x")
    cluster.pass_time(1)
    old = Append(9, 1, 1, 3, 0, (make_entry(2, 9, COMMANDS, b"other"),))
    cluster[N2].receive(cluster.now, N3, old)
    assert cluster.log("n2") == [(1, b""), (1, b"x")], "below the commit index nothing is looked at"
    cluster[N2].state.commit = 2
    with pytest.raises(Broken):
        from meshos.consensus.raft.replication import _take

        _take(cluster[N2].state, (make_entry(2, 9, COMMANDS, b"other"),))


def test_a_heartbeat_commits_nothing_that_the_follower_may_hold_otherwise() -> None:
    """The commit index in it is at most what the follower agreed to."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    cluster.isolate("n3")
    cluster.propose("n1", b"x")
    cluster.settle()
    cluster.now += LAN.heartbeat_s
    cluster[N1].tick(cluster.now)
    cluster.take("n1")
    commits = {to: message.commit for _, to, message in cluster.wire if isinstance(message, Heartbeat)}
    assert commits == {N2: 3, N3: 2}


# -- persistence before sending -------------------------------------------------------------------------------------------


def test_a_follower_answers_once_the_entries_are_on_its_disk() -> None:
    """Figure 2; section 5.3."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    cluster.servers[N2].stalled = cluster.servers[N3].stalled = True
    index = cluster.propose("n1", b"x")
    cluster.settle()
    assert cluster[N1].commit == index - 1
    cluster.crash("n2")
    assert cluster.log("n2") == [(1, b"")], "nobody counted on what it lost"
    cluster.sync("n3")
    cluster.settle()
    assert cluster[N1].commit == index


def test_a_leader_sends_beside_its_own_disk_and_counts_itself_once_it_has_written() -> None:
    """Thesis, section 10.2.1: the entry may even be committed before the leader has it on disk."""
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    cluster.servers[N1].stalled = True
    index = cluster.propose("n1", b"x")
    cluster.cut.add((N1, N3))
    cluster.settle()
    assert cluster[N1].commit == index - 1, "n2 alone has it on disk"
    cluster.sync("n1")
    assert cluster[N1].commit == index
    cluster.cut.clear()
    index = cluster.propose("n1", b"y")
    cluster.settle()
    assert cluster[N1].commit == index, "n2 and n3 have it"
    assert cluster[N1].state.stored == index - 1


def test_a_leader_of_one_commits_with_one_sync() -> None:
    """A group of one needs nobody."""
    cluster = Cluster(["n1"])
    cluster.elect("n1")
    server = cluster.servers[N1]
    server.stalled = True
    index = cluster.propose("n1", b"x")
    assert len(server.saved) == 1 and cluster[N1].commit == index - 1
    cluster.sync("n1")
    assert cluster[N1].commit == index and not cluster.wire


# -- flow control ---------------------------------------------------------------------------------------------------------


def test_appends_are_pipelined_up_to_a_window() -> None:
    """Thesis, section 10.2.1; a follower that is slow is not sent more than it can hold."""
    cluster = Cluster(["n1", "n2"], config=replace(LAN, inflight_messages=4, append_bytes=64))
    cluster.elect("n1")
    cluster.wire.clear()
    for number in range(10):
        cluster.propose("n1", b"%d" % number)
    assert len(cluster.wire) == 4
    cluster.deliver_one()
    cluster.wire.rotate(-3)
    assert isinstance(cluster.wire[0][2], AppendReply)
    cluster.wire.rotate(3)
    cluster.settle()
    assert cluster.log("n2") == cluster.log("n1")


def test_appends_in_flight_are_bounded_in_bytes() -> None:
    cluster = Cluster(["n1", "n2"], config=replace(LAN, append_bytes=1000, inflight_bytes=2500))
    cluster.elect("n1")
    for _ in range(10):
        cluster.propose("n1", bytes(900))
    assert len(cluster.wire) == 3


def test_nothing_is_sent_that_would_overtake_a_large_append() -> None:
    """It travels on a slower lane; what came before it would be refused, and both be sent again."""
    cluster = Cluster(["n1", "n2"])
    cluster.elect("n1")
    cluster.propose("n1", bytes(ORDERED_BYTES))
    cluster.propose("n1", b"x")
    assert len(cluster.wire) == 1
    cluster.settle()
    assert cluster.log("n2") == cluster.log("n1")


def test_a_follower_that_was_away_is_probed_with_one_append_at_a_time() -> None:
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    cluster.isolate("n3")
    cluster.pass_time(1)
    for _ in range(5):
        cluster.propose("n1")
        cluster.settle()
    cluster[N1].state.progress[N3].probe()
    for _ in range(5):
        cluster.propose("n1")
    assert sum(isinstance(message, Append) for _, to, message in cluster.wire if to == N3) == 1
    cluster.heal()
    cluster.pass_time(1)
    assert cluster.log("n3") == cluster.log("n1")


def test_an_append_that_was_lost_is_sent_again_at_the_next_heartbeat() -> None:
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    index = cluster.propose("n1", b"x")
    cluster.wire.clear()
    cluster.pass_time(2 * LAN.heartbeat_s)
    assert cluster[N1].commit == index


def test_the_commit_index_is_told_soon_where_no_append_tells_it() -> None:
    cluster = Cluster(["n1", "n2", "n3"])
    cluster.elect("n1")
    cluster.pass_time(LAN.heartbeat_s * 1.5)
    index = cluster.propose("n1", b"x")
    cluster.settle()
    assert cluster[N2].commit == index - 1
    cluster.pass_time(LAN.notice_s)
    assert cluster[N2].commit == cluster[N3].commit == index
