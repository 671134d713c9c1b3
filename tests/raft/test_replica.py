"""The Replica: proposals and reads on any node, outcomes that are true, states that are sent and received, who is told what."""

from dataclasses import replace

import pytest

from meshos.consensus.raft.config import LAN, Config
from meshos.consensus.raft.events import Fence, Followed, GetGroup, Group, Led, Stale, TransferLeadership
from meshos.consensus.raft.limits import MAX_COMMAND_BYTES, MAX_PROPOSALS
from meshos.consensus.raft.membership import Change, Configuration
from meshos.consensus.raft.replica import Replica, protocol_of
from meshos.effects import Ahead, Cast, Completed, Err, Heard, Ok, Persist, Tell, Tick, WriteBack
from meshos.flow import Propose
from meshos.flow_machine import Abandon, Perform
from meshos.ids import NodeId, OrgDid, Peer
from meshos.simulations.raft.group import GROUP, MACHINE, ORG, SMALL
from meshos.simulations.raft.registers import Read, Registers, Set
from meshos.simulations.world import SimNode
from tests.raft.nodes import Nodes

N1, N2, N3, N4, N5 = (NodeId(f"n00{number}") for number in range(1, 6))


# -- proposals and reads ----------------------------------------------------------------------------------------------------


def test_a_write_at_any_node_is_answered_there_and_read_everywhere() -> None:
    nodes = Nodes(3)
    for number, node in enumerate(nodes.group.ids, 1):
        assert nodes.set(node, "a", node) == number
        assert [nodes.read(other, "a") for other in nodes.group.ids] == [(node, number)] * 3


def test_a_group_of_one_decides_alone_and_at_once() -> None:
    nodes = Nodes(1, begin_s=0.1)
    assert nodes.set(N1, "a", "x") == 1 and nodes.read(N1, "a") == ("x", 1)


def test_one_proposal_of_a_leader_of_one_costs_one_sync() -> None:
    nodes = Nodes(1, begin_s=1.0)
    syncs = []
    nodes.watchers.append(lambda node, machine, event, effects: syncs.extend(effect for effect in effects if type(effect) is Persist))
    nodes.set(N1, "a", "x")
    assert len(syncs) == 1


def test_what_comes_together_is_one_entry_and_one_message_to_each_follower() -> None:
    nodes = Nodes(3)
    leader = nodes.leader
    last = nodes[leader].raft.log.last
    outcomes = [nodes.begin(leader, Set("a", str(number))) for number in range(50)]
    appended: list[Cast] = []

    def watch(node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        appended.extend(
            effect.effect for effect in effects if type(effect) is Ahead and type(effect.effect) is Cast and node.name == leader
        )

    nodes.watchers.append(watch)
    nodes.run(0.05)
    assert [outcome for (outcome,) in outcomes] == [Ok(number) for number in range(1, 51)]
    assert nodes[leader].raft.log.last <= last + 2, "the first goes alone, the others wait for its disk and go together"


def test_the_state_refuses_the_same_everywhere() -> None:
    nodes = Nodes(3)
    assert nodes.set(nodes.leader, "n" * 100, "x") == "bad-command"
    assert nodes.set(nodes.followers[0], "n" * 100, "x") == "bad-command"
    nodes.run(1)
    assert nodes.states() == [[], [], []]


def test_what_is_no_command_is_refused_before_it_is_sent() -> None:
    nodes = Nodes(3)
    last = nodes[nodes.leader].raft.log.last
    assert nodes.ask(nodes.leader, object()) == "unknown-command"
    assert nodes.set(nodes.leader, "a", "x", ballast=MAX_COMMAND_BYTES) == "too-large"
    assert nodes[nodes.leader].raft.log.last == last


def test_the_largest_command_is_replicated() -> None:
    nodes = Nodes(3)
    ballast = MAX_COMMAND_BYTES - 64
    assert nodes.set(nodes.followers[0], "a", "x", ballast=ballast) == 1
    nodes.run(1)
    assert len(set(map(repr, nodes.states()))) == 1


def test_proposals_in_flight_are_bounded() -> None:
    nodes = Nodes(3, config=replace(LAN, proposals=4))
    nodes.cut([nodes.leader], nodes.followers)
    outcomes = [nodes.begin(nodes.leader, Set("a", "x")) for _ in range(5)]
    nodes.run(0.01)
    assert [len(each) for each in outcomes] == [0, 0, 0, 0, 1]
    (refused,) = outcomes[4]
    assert isinstance(refused, Err) and refused.error.name == "busy" and refused.error.outcome == "not_done"
    assert LAN.proposals <= MAX_PROPOSALS


def test_without_a_leader_nothing_is_done_and_that_is_said() -> None:
    nodes = Nodes(3)
    follower = nodes.followers[0]
    for node in nodes.group.ids:
        if node != follower:
            nodes.crash(node)
    nodes.run(1)
    assert nodes.set(follower, "a", "x") == "no-leader"
    assert nodes.read(follower, "a") == "no-leader"


def test_an_outcome_that_is_lost_is_said_to_be_unknown_and_never_to_have_failed() -> None:
    nodes = Nodes(3)
    leader, followers = nodes.leader, nodes.followers
    nodes.cut([leader], followers)
    outcomes = nodes.begin(leader, Set("a", "x"))
    nodes.run(LAN.proposal_s + 1)
    (outcome,) = outcomes
    assert isinstance(outcome, Err) and (outcome.error.name, outcome.error.outcome) == ("proposal-unknown", "unknown")


def test_a_proposal_survives_its_leader_and_is_applied_once() -> None:
    """The proposer sends it again to the next leader, under the same number."""
    nodes = Nodes(3)
    leader, (proposer, other) = nodes.leader, nodes.followers
    outcomes = nodes.begin(proposer, Set("a", "x"))
    while nodes[other].raft.log.last < 3:
        nodes.run(0.0001)
    assert not outcomes, "the leader dies with the entry on its way"
    nodes.crash(leader)
    nodes.run(3)
    assert outcomes == [Ok(1)] and nodes.read(other, "a") == ("x", 1)


def test_a_forward_that_comes_twice_is_applied_once() -> None:
    nodes = Nodes(3)
    leader, follower = nodes.leader, nodes.followers[0]
    forwards: list[bytes] = []

    def watch(node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        if node.name == follower and machine == MACHINE:
            forwards.extend(effect.body for effect in effects if type(effect) is Cast and effect.body[:2] == b"\x84\r")

    nodes.watchers.append(watch)
    nodes.set(follower, "a", "x")
    assert forwards
    for _ in range(2):
        nodes.world.nodes[leader].deliver(MACHINE, Heard(Peer(follower, ORG), protocol_of(GROUP), forwards[0]))
        nodes.run(0.5)
    assert nodes.read(leader, "a") == ("x", 1)


def test_who_does_not_wait_any_more_is_not_answered_and_the_proposal_goes_on() -> None:
    nodes = Nodes(3)
    leader = nodes.leader
    outcomes = nodes.begin(leader, Set("a", "x"))
    op = max(nodes.group._waiting)
    nodes.world.nodes[leader].deliver(MACHINE, Abandon(op, Propose(Set("a", "x")), "outside"))
    nodes.run(1)
    assert outcomes == [] and nodes.read(leader, "a") == ("x", 1)


def test_time_in_the_group_never_goes_back() -> None:
    """Whatever the leaders' clocks say: a command's time is at least that of the one before."""
    nodes = Nodes(3)
    times = []
    for offset_s in (0.0, -5000.0, 3000.0, -5000.0):
        leader = nodes.leader
        nodes.world.nodes[leader].wall_offset_s = offset_s
        nodes.crash(leader)
        nodes.run(2)
        nodes.world.nodes[leader].start()
        nodes.run(1)
        nodes.set(nodes.leader, "a", "x")
        times.append(nodes[nodes.leader]._state.at_ms)
    assert times == sorted(times)


def test_a_stale_question_is_answered_from_the_own_state() -> None:
    nodes = Nodes(3)
    nodes.set(nodes.leader, "a", "x")
    nodes.run(1)
    lonely = nodes.followers[0]
    nodes.cut([lonely], [node for node in nodes.group.ids if node != lonely])
    assert nodes.ask(lonely, Stale(Read("a"))) == ("x", 1)


def test_nobody_is_elected_without_a_cause() -> None:
    nodes = Nodes(3)
    term = nodes[nodes.leader].raft.term
    for _ in range(60):
        nodes.begin(nodes.group.ids[0], Set("a", "x"))
        nodes.run(1)
    assert nodes[nodes.leader].raft.term == term


def test_a_group_whose_leader_died_goes_on_within_two_election_timeouts() -> None:
    """Faster where the links to it were seen to break than where it only fell silent."""
    for hint, most_s in ((True, 0.3), (False, 3 * LAN.election_s)):
        took = []
        for seed in range(1, 8):
            nodes = Nodes(3, seed=seed)
            leader, (follower, _) = nodes.leader, nodes.followers
            if hint:
                nodes.crash(leader)
            else:
                nodes.cut([leader], nodes.followers)
            began = nodes.world.now
            outcomes = nodes.begin(follower, Set("a", "x"))
            while not outcomes:
                nodes.run(0.005)
            took.append(nodes.world.now - began)
        assert sorted(took)[len(took) // 2] < most_s, took


# -- members, leaders, fences -----------------------------------------------------------------------------------------------------


def test_a_node_joins_a_group_of_one_and_a_third_after_it_and_the_first_leaves() -> None:
    """As an organisation grows: 1, 2, 3 nodes, and one is replaced."""
    nodes = Nodes(4, founders=1, config=SMALL)
    for number in range(30):
        nodes.set(N1, f"a{number % 5}", str(number), ballast=700)
    for node in (N2, N3):
        nodes.change(Change("learner", node))
        nodes.run(2)
        assert isinstance(nodes.change(Change("voter", node)), Configuration)
    assert nodes.change(Change("voter", N4), Change("removed", N1)) == Configuration(frozenset({N2, N3, N4}))
    nodes.crash(N1)
    nodes.run(3)
    assert nodes.read(N4, "a4") == ("29", 6)
    assert len(set(map(repr, nodes.states()))) == 1


def test_changes_and_transfers_are_asked_of_the_leader() -> None:
    nodes = Nodes(3)
    follower = nodes.followers[0]
    outcomes = nodes.begin(follower, TransferLeadership(follower))
    nodes.run(0.1)
    (outcome,) = outcomes
    assert isinstance(outcome, Err) and outcome.error.name == "not-leader" and nodes.leader in outcome.error.hint
    assert nodes.ask(nodes.leader, TransferLeadership(N5)) == "bad-transfer"
    assert nodes.ask(nodes.leader, TransferLeadership(follower)) is None
    nodes.run(0.5)
    assert nodes.leader == follower


def test_a_transfer_to_who_is_not_there_fails_and_the_leader_goes_on() -> None:
    nodes = Nodes(3)
    leader, follower = nodes.leader, nodes.followers[0]
    nodes.crash(follower)
    nodes.set(leader, "a", "x")
    assert nodes.ask(leader, TransferLeadership(follower)) == "transfer-failed"
    assert nodes.leader == leader and nodes.set(leader, "a", "y") == 2


def test_a_change_whose_outcome_is_lost_is_said_to_be_unknown() -> None:
    nodes = Nodes(4, founders=3)
    leader, followers = nodes.leader, nodes.followers
    nodes.cut([leader], [*followers, N4])
    outcomes = nodes.begin(leader, _change(Change("learner", N4)))
    nodes.run(5)
    (outcome,) = outcomes
    assert isinstance(outcome, Err) and outcome.error.outcome == "unknown"


def _change(*changes: Change) -> object:
    from meshos.consensus.raft.events import ChangeMembers

    return ChangeMembers(changes)


def test_the_group_as_a_node_sees_it() -> None:
    nodes = Nodes(3)
    leader = nodes.leader
    nodes.set(leader, "a", "x")
    nodes.run(1)
    group = nodes.ask(leader, GetGroup())
    assert isinstance(group, Group)
    assert (group.leader, group.leads, group.lags) == (leader, True, dict.fromkeys(nodes.followers, 0))
    assert group.commit == group.applied == group.last and group.members == Configuration(frozenset(nodes.group.ids))
    seen = nodes.ask(nodes.followers[0], GetGroup())
    assert isinstance(seen, Group) and (seen.leader, seen.leads, seen.lags) == (leader, False, {})


def lone(subscribers: tuple[str, ...] = ()) -> tuple[Replica, Nodes]:
    """A Replica of a group of three, driven by hand."""
    nodes = Nodes(3, begin_s=0.0)
    node = nodes.world.nodes[N1]
    made = Replica(
        "raft",
        GROUP,
        N1,
        Registers(),
        node.views[MACHINE],
        org=ORG,
        config=Config(),
        rng=node.rng,
        now=0.0,
        wall_ms=0,
        subscribers=subscribers,
    )
    return made, nodes


def test_subscribers_are_told_who_leads_and_the_leader_has_a_fence() -> None:
    nodes = Nodes(3, begin_s=0.0)
    told: dict[NodeId, list[object]] = {node: [] for node in nodes.group.ids}

    def watch(node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        told[node.name] += [effect.event for effect in effects if type(effect) is Tell and effect.machine == "flows"]

    for node in nodes.world.nodes.values():
        nodes[node.name]._standing._subscribers = ("flows",)
    for node in nodes.world.nodes.values():
        node.core._slots["flows"].machine.step = lambda now, event: []  # type: ignore[method-assign]
    nodes.watchers.append(watch)
    nodes.run(2)
    leader, term = nodes.leader, nodes[nodes.leader].raft.term
    assert told[leader][-1] == Led(GROUP, term)
    assert all(told[node][-1] == Followed(GROUP, term, leader) for node in nodes.followers)
    assert nodes[leader].fence == Fence(GROUP, term) and nodes[nodes.followers[0]].fence is None
    nodes.cut([leader], nodes.followers)
    nodes.run(2)
    assert told[leader][-1] == Followed(GROUP, term, None) and nodes[leader].fence is None
    assert [type(each) for each in told[nodes.leader]][-1] is Led and nodes[nodes.leader].raft.term > term


# -- what a stranger can do -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"\xff" * 100, bytes(2 << 20)])
def test_what_is_no_message_is_counted_and_changes_nothing(body: bytes) -> None:
    replica, _ = lone()
    replica.step(0.0, Tick())
    assert replica.step(0.1, Heard(Peer(N2, ORG), protocol_of(GROUP), body)) == []
    assert replica.refused == 1


def test_other_organisations_are_not_listened_to() -> None:
    """Not even to a vote in a higher term."""
    from meshos.consensus.raft import codec
    from meshos.consensus.raft.messages import Vote

    replica, _ = lone()
    replica.step(0.0, Tick())
    body = codec.encode(Vote(9, 99, 9, True))
    assert replica.step(0.1, Heard(Peer(N2, OrgDid("did:mesh:enterprise:other")), protocol_of(GROUP), body)) == []
    assert replica.step(0.1, Heard(Peer(N1, ORG), protocol_of(GROUP), body)) == [], "nor to who claims to be this node"
    assert replica.raft.term == 0 and replica.refused == 2
    assert replica.step(0.1, Heard(Peer(N2, ORG), protocol_of(GROUP), body)) != [] and replica.raft.term == 9


def test_events_that_are_none_are_a_bug() -> None:
    replica, _ = lone()
    with pytest.raises(TypeError):
        replica.step(0.0, object())


def test_the_number_of_this_life_is_on_disk_before_a_proposal_is_sent() -> None:
    """Or another life would use the same numbers for other proposals, and they would be taken for repeated ones."""
    replica, _ = lone()
    effects = replica.step(0.0, Perform(1, Propose(Set("a", "x")), None, "outside"))
    assert [type(effect) for effect in effects] == [Tell], "it is only noted"
    assert type(replica.step(0.0, Tick())[0]) is Persist
    assert not any(isinstance(effect, Completed) for effect in effects)


# -- states -----------------------------------------------------------------------------------------------------------------------


def filled(count: int, founders: int) -> Nodes:
    nodes = Nodes(count, founders=founders, config=SMALL)
    for number in range(40):
        nodes.set(N1, f"a{number % 10}", str(number), ballast=900)
    return nodes


def test_a_follower_that_fell_behind_the_log_is_sent_the_state() -> None:
    """Raft, section 7. In chunks, each on disk before the next is asked for."""
    nodes = filled(3, 3)
    follower = nodes.followers[0]
    nodes.crash(follower)
    for number in range(40):
        nodes.set(nodes.leader, f"b{number % 10}", str(number), ballast=900)
    assert nodes[nodes.leader].raft.log.base > 40
    chunks = []
    nodes.watchers.append(lambda node, machine, event, effects: chunks.extend(e for e in effects if type(e) is Cast and len(e.body) > 1500))
    nodes.restart(follower)
    nodes.run(3)
    assert len(chunks) >= 10 and max(len(chunk.body) for chunk in chunks) <= SMALL.chunk_bytes + 100
    assert len(set(map(repr, nodes.states()))) == 1 and nodes.read(follower, "b9") == ("39", 4)


def test_a_transfer_goes_on_after_a_restart_of_the_follower() -> None:
    nodes = filled(4, 3)
    sent: list[int] = []

    def watch(node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        if node.name == N4 and machine == MACHINE and nodes[N4]._states._receiver.partial is not None:
            sent.append(nodes[N4]._states._receiver.partial.number)

    nodes.watchers.append(watch)
    outcomes = nodes.begin(nodes.leader, _change(Change("learner", N4)))
    while not sent or sent[-1] < 5:
        nodes.run(0.0005)
    nodes.crash(N4)
    nodes.restart(N4)
    sent.clear()
    nodes.run(5)
    assert min(sent) >= 3, "what it had on disk is not sent again"
    assert outcomes and len(set(map(repr, nodes.states()))) == 1


def test_a_damaged_chunk_is_refused_and_the_transfer_begins_anew() -> None:
    """Each chunk is chained to those before it by its hash."""
    nodes = filled(4, 3)
    from meshos.consensus.raft import sending

    made = sending.pieces
    damaged = []

    def damage(snapshot: object, prefix: bytes, size: int) -> object:
        for place, (data, last) in enumerate(made(snapshot, prefix, size)):  # type: ignore[arg-type]
            yield data, last
            if place == 3 and not damaged:
                damaged.append(place)
                for transfer in nodes[nodes.leader]._states._sender._of.values():
                    transfer._chain = bytes(32)

    sending.pieces = damage  # type: ignore[assignment]
    try:
        nodes.begin(nodes.leader, _change(Change("learner", N4)))
        nodes.run(10)
    finally:
        sending.pieces = made
    assert damaged and nodes[N4].applied == nodes[nodes.leader].applied
    assert len(set(map(repr, nodes.states()))) == 1


def test_what_a_state_replaced_is_deleted() -> None:
    nodes = filled(3, 3)
    follower = nodes.followers[0]
    nodes.crash(follower)
    for number in range(40):
        nodes.set(nodes.leader, f"b{number % 10}", str(number), ballast=900)
    nodes.restart(follower)
    nodes.run(10)
    assert {key[:5] for key in nodes.store(follower) if key.startswith(b"g")} == {b"g\x00\x00\x00\x01"}
    assert not any(key.startswith((b"raft/garbage", b"raft/partial")) for key in nodes.store(follower))


def test_the_log_is_cut_and_stays_bounded() -> None:
    nodes = filled(3, 3)
    for _ in range(100):
        nodes.set(nodes.leader, "a", "x")
    nodes.run(1)
    for node in nodes.group.ids:
        log = nodes[node].raft.log
        assert log.last - log.base <= SMALL.keep_entries + SMALL.compact_entries + 1
        assert sum(key.startswith(b"raft/log/") for key in nodes.store(node)) <= SMALL.keep_entries + SMALL.compact_entries + 3


def test_applied_state_is_written_back_with_how_far_it_goes() -> None:
    """One WriteBack, so that a crash leaves both or neither; the log makes it again."""
    nodes = Nodes(3)
    seen = []

    def watch(node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        if machine == MACHINE:
            seen.extend(effect for effect in effects if type(effect) is WriteBack)

    nodes.watchers.append(watch)
    nodes.set(nodes.leader, "a", "x")
    applied = [effect for effect in seen if any(write.key.endswith(b"ua") for write in effect.writes)]
    assert applied and all(any(write.key.endswith(b"\x00m") for write in effect.writes) for effect in applied)


def test_everything_applied_survives_a_power_cut_of_all() -> None:
    nodes = Nodes(3)
    for number in range(20):
        nodes.set(nodes.leader, "a", str(number))
    for node in nodes.group.ids:
        nodes.crash(node)
    for node in nodes.group.ids:
        nodes.restart(node)
    nodes.run(3)
    assert nodes.read(N1, "a") == ("19", 20)
