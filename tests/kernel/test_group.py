"""Which nodes decide: 1, 3 or 5 of those that have everything, whoever joins, is removed, revoked or silent."""

from collections.abc import Set

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshos.consensus.raft.limits import MAX_MEMBERS
from meshos.consensus.raft.membership import Change, Configuration, changed, left
from meshos.ids import NodeId
from meshos.node.kernel.group import SIZES, next_change


def nodes(text: str) -> frozenset[NodeId]:
    """One node a letter."""
    return frozenset(map(NodeId, text))


def after(
    voters: str, learners: str = "", *, alive: str = "", behind: str = "", unwanted: str = "", leader: str = "a", leaves: str = ""
) -> tuple[str, str]:
    """Voters and learners once the next change is over; all that are alive have caught up, but those that are ``behind``."""
    now = Configuration(nodes(voters), learners=nodes(learners))
    up = nodes(alive or voters + learners)
    caught_up = up - nodes(behind)
    changes = next_change(now, leader=NodeId(leader), unwanted=nodes(unwanted), caught_up=caught_up, alive=up, leaves=nodes(leaves))
    target = settled(now, changes)
    return "".join(sorted(target.voters)), "".join(sorted(target.learners))


def settled(now: Configuration, changes: tuple[Change, ...]) -> Configuration:
    """``now`` after ``changes``, which Raft takes as they are."""
    if not changes:
        return now
    target = changed(now, changes)
    return left(target) if target.joint else target


@pytest.mark.parametrize(
    ("why", "before", "what", "then"),
    [
        ("a second node follows", ("a", ""), {"alive": "ab"}, ("a", "b")),
        ("two voters lose more than one alone", ("a", "b"), {}, ("a", "b")),
        ("a third makes three", ("a", "bc"), {}, ("abc", "")),
        ("not before it has caught up", ("a", "bc"), {"behind": "c"}, ("a", "bc")),
        ("nor while it is silent", ("a", "bc"), {"alive": "ab"}, ("a", "bc")),
        ("a fourth follows", ("abc", ""), {"alive": "abcd"}, ("abc", "d")),
        ("a fifth makes five", ("abc", "de"), {}, ("abcde", "")),
        ("a sixth and a seventh follow", ("abcde", ""), {"alive": "abcdefg"}, ("abcde", "fg")),
        ("who is silent keeps its vote", ("abc", "d"), {"alive": "acd"}, ("abc", "d")),
        ("a learner takes the place of who is removed", ("abc", "d"), {"unwanted": "b"}, ("acd", "")),
        ("where there is none, one decides", ("abc", ""), {"unwanted": "b"}, ("a", "c")),
        ("of five without one, three", ("abcde", ""), {"unwanted": "e"}, ("abc", "d")),
        ("and the silent one is the fourth", ("abcde", ""), {"unwanted": "e", "alive": "acde", "behind": "b"}, ("acd", "b")),
        ("the leader goes on deciding", ("abc", ""), {"unwanted": "a", "leader": "c"}, ("c", "b")),
        ("a leader that is removed makes room", ("abc", ""), {"unwanted": "a"}, ("b", "c")),
        ("a learner takes the place of the only one", ("a", "b"), {"unwanted": "a"}, ("b", "")),
        ("the last one stays", ("a", ""), {"unwanted": "a"}, ("a", "")),
        ("also where the other lacks something", ("a", "b"), {"unwanted": "a", "behind": "b"}, ("a", "b")),
        ("a leaf votes where without it the group would be smaller", ("a", "bc"), {"leaves": "c"}, ("abc", "")),
        ("not where there are others", ("a", "bcd"), {"leaves": "b"}, ("acd", "b")),
        ("it gives its vote to the next one", ("abc", "d"), {"leaves": "c"}, ("abd", "c")),
        ("not to one that lacks something", ("abc", "d"), {"leaves": "c", "behind": "d"}, ("abc", "d")),
        ("also where it leads", ("a", "b"), {"leaves": "a"}, ("b", "a")),
        ("one alone votes", ("a", ""), {"leaves": "a"}, ("a", "")),
        ("leaves among themselves are as any", ("a", "bc"), {"leaves": "abc"}, ("abc", "")),
        ("who is removed is not taken up again", ("a", "b"), {"unwanted": "b", "alive": "ab"}, ("a", "")),
    ],
)
def test_the_group_is_as_large_as_its_nodes_allow(why: str, before: tuple[str, str], what: dict[str, str], then: tuple[str, str]) -> None:
    assert after(*before, **what) == then, why


def test_nothing_is_changed_while_a_change_is_under_way() -> None:
    joint = Configuration(nodes("abc"), outgoing=nodes("a"))
    assert next_change(joint, leader=NodeId("a"), unwanted=nodes("b"), caught_up=nodes("abc"), alive=nodes("abcd")) == ()


LETTERS = "abcdefghijklmnopqrst"
SOME: st.SearchStrategy[Set[NodeId]] = st.frozensets(st.sampled_from(LETTERS).map(NodeId))


@given(st.data())
def test_whatever_happens_an_odd_number_votes_and_raft_takes_the_change(data: st.DataObject) -> None:
    """From one founder through any history of joining, lagging, removing; and at rest there is nothing left to do."""
    now, unwanted, leaves = Configuration(nodes("a")), frozenset[NodeId](), data.draw(SOME)
    for _ in range(data.draw(st.integers(1, 6))):
        alive, caught_up = data.draw(SOME), data.draw(SOME)
        unwanted |= data.draw(st.frozensets(st.sampled_from(LETTERS).map(NodeId), max_size=2))
        leader = data.draw(st.sampled_from(sorted(now.voters)))
        alive, caught_up = alive | {leader}, caught_up | {leader}
        before = now
        now = settled(now, next_change(now, leader=leader, unwanted=unwanted, caught_up=caught_up, alive=alive, leaves=leaves))
        assert len(now.voters) in SIZES and len(now.members) <= MAX_MEMBERS
        assert now.voters <= before.voters | (caught_up & alive), "a vote is for who has everything"
        assert leader in now.voters or leader in unwanted | leaves
        assert not now.learners & unwanted
    for _ in range(4):
        leader = leader if leader in now.voters else min(now.voters)
        now = settled(now, next_change(now, leader=leader, unwanted=unwanted, caught_up=caught_up, alive=alive, leaves=leaves))
    assert next_change(now, leader=leader, unwanted=unwanted, caught_up=caught_up, alive=alive, leaves=leaves) == (), "it comes to rest"
