"""The machine, step by step, in the words of the papers: SWIM (Das et al. 2002), Lifeguard (Dadgar et al. 2017), DESIGN.md."""

import random
from dataclasses import replace

import pytest

from meshos.effects import Completed, Err, Ok, Persist, Sign, Tell
from meshos.errors import Refused, Unreachable
from meshos.flow import Ask
from meshos.flow_machine import Perform
from meshos.ids import NodeId, Peer
from meshos.presets import FAST, LAN, PRESETS
from meshos.protocols.membership import codec, limits
from meshos.protocols.membership import events as ev
from meshos.protocols.membership.commands import Certified
from meshos.protocols.membership.machine import Membership
from meshos.protocols.membership.piggyback import Piggyback
from meshos.protocols.membership.ring import Ring
from meshos.protocols.membership.statements import Kind
from meshos.protocols.membership.suspicion import shortest_s, timeout_s
from meshos.storage.memory import MemoryStore
from tests.membership.lone import ME, Lone, describe
from tests.membership.mesh import DOMAIN, facts, org


def met(*, orgs: tuple[int, ...] = (1, 2, 3, 4), signs: bool = True) -> tuple[Lone, list[NodeId]]:
    """A machine that has begun, and knows a node of each of these organisations."""
    lone = Lone(signs=signs)
    lone.step(ev.Started())
    lone.sign()
    return lone, [lone.meet(f"p{number}", of) for number, of in enumerate(orgs)]


def silence(lone: Lone, subject: NodeId, seconds: float) -> list[object]:
    """Time passes in which everybody answers but ``subject``, whom nobody reaches."""
    everything: list[object] = []
    end = lone.now + seconds
    effects: list[object] = list(lone.out)
    while True:
        while effects:
            everything += effects
            answers: list[object] = []
            for sent in effects:
                if isinstance(sent, ev.SendDatagram) and sent.to != subject:
                    if isinstance(sent.message, ev.Ping):
                        answers += lone.hear(sent.to, message=ev.Ack(sent.message.sequence))
                    elif isinstance(sent.message, ev.PingRequest):
                        answers += lone.hear(sent.to, message=ev.Nack(sent.message.sequence))
            effects = answers
        due = lone.machine.deadline()
        if due is None or due > end:
            break
        effects = lone.until(max(due, lone.now))
    lone.now = end
    return everything


def told(effects: list[object]) -> set[str]:
    """What was said on datagrams."""
    sent = [effect for effect in effects if isinstance(effect, ev.SendDatagram)]
    return {describe(codec.decode_statement(blob)) for each in sent for blob in each.message.updates}


# -- SWIM ------------------------------------------------------------------------------------------------------------


def test_swim_3_1_a_ping_is_acked_under_its_number_to_the_signed_address() -> None:
    lone, (a, *_) = met()
    lone.until(30)
    lone.step(ev.DatagramReceived(a, "forged:666", ev.Ping(77)))
    (ack,) = lone.sent(ev.Ack)
    assert (ack.to, ack.address, ack.message.sequence) == (a, "p0:1", 77)  # type: ignore[union-attr]


def test_swim_3_1_without_an_ack_k_others_are_asked_and_the_link_is_tried_before_anybody_is_suspected() -> None:
    lone, _ = met()
    effects = lone.until(2.05)
    ping = lone.sent(ev.Ping, effects)[0]
    asked = [sent for sent in lone.sent(ev.PingRequest, effects) if sent.message.target == ping.to]  # type: ignore[union-attr]
    assert len(asked) == LAN.indirect_probes and len({sent.to for sent in asked}) == 3 and ping.to not in {s.to for s in asked}
    performed = [effect.event for effect in effects if isinstance(effect, Tell) and isinstance(effect.event, Perform)]
    (over_link,) = [event.operation for event in performed if isinstance(event.operation, Ask)][:1]
    assert over_link.to == ping.to and over_link.protocol == "/meshos/probe/1"
    assert lone.state(ping.to) == ("alive", True)


@pytest.mark.parametrize("way", ["direct", "indirect", "link"])
def test_swim_3_1_any_of_the_three_ways_saves_from_suspicion(way: str) -> None:
    lone, _ = met()
    effects = lone.until(1.5)
    ping = lone.sent(ev.Ping, effects)[0]
    sequence = ping.message.sequence  # type: ignore[union-attr]
    effects += lone.until(2.05)
    if way == "direct":
        lone.hear(ping.to, message=ev.Ack(sequence))
    elif way == "indirect":
        helper = next(sent.to for sent in lone.sent(ev.PingRequest, effects) if sent.message.sequence == sequence)  # type: ignore[union-attr]
        lone.hear(helper, message=ev.Ack(sequence))
    else:
        op = next(effect.event.op for effect in effects if isinstance(effect, Tell) and isinstance(effect.event, Perform))
        lone.step(Completed(op, Ok(b"")))
    lone.until(2.55)
    assert lone.state(ping.to) == ("alive", True)


def test_a_link_that_fails_is_no_evidence_by_itself() -> None:
    lone, _ = met()
    effects = lone.until(2.05)
    ping = lone.sent(ev.Ping, effects)[0]
    op = next(effect.event.op for effect in effects if isinstance(effect, Tell) and isinstance(effect.event, Perform))
    lone.step(Completed(op, Err(Unreachable("link-lost", "gone"))))
    assert lone.state(ping.to)[0] == "alive"
    lone.hear(ping.to, message=ev.Ack(ping.message.sequence))  # type: ignore[union-attr]
    lone.until(2.55)
    assert lone.state(ping.to)[0] == "alive"


def test_an_ack_of_somebody_else_saves_nobody() -> None:
    lone, nodes = met()
    ping = lone.sent(ev.Ping, lone.until(1.5))[0]
    other = next(node for node in nodes if node != ping.to)
    lone.hear(other, message=ev.Ack(ping.message.sequence))  # type: ignore[union-attr]
    silence(lone, ping.to, 2)
    assert lone.state(ping.to)[0] == "suspect"


def test_swim_4_2_a_suspect_is_signed_and_gossiped_and_runs_out() -> None:
    lone, (a, *_) = met()
    lone.step(ev.LinkLost(a))
    effects = silence(lone, a, 1.5)
    assert lone.state(a) == ("suspect", True)
    assert "p0 suspect 1 by me" in told(effects)
    silence(lone, a, LAN.suspicion_mult * LAN.suspicion_max_mult + 1)
    assert lone.state(a) == ("suspect", False), "alone it makes a member unroutable, not dead"


def test_swim_4_2_a_higher_incarnation_refutes_an_equal_one_does_not() -> None:
    lone, (a, b, *_) = met()
    lone.hear(b, lone.word(Kind.SUSPECT, a, 1, b))
    assert lone.state(a)[0] == "suspect"
    lone.hear(a, lone.alive(a, 1))
    assert lone.state(a)[0] == "suspect"
    lone.hear(a, lone.alive(a, 2))
    assert lone.state(a)[0] == "alive"
    lone.hear(b, lone.word(Kind.DEAD, a, 1, b))
    assert lone.state(a)[0] == "alive"


def test_swim_4_3_each_is_probed_once_a_round_and_new_ones_come_in_at_random() -> None:
    lone, _ = met(orgs=tuple(range(1, 13)))
    ring: Ring = lone.machine._table.ring
    for _ in range(20):
        ring._next = len(ring)
        assert sorted(member.node for member in (ring.next() for _ in range(12)) if member) == sorted(f"p{n}" for n in range(12))
    ring._next = 6
    turn = [member.node for member in ring.members[6:]]
    ring.remove(ring.members[2])
    assert sorted(member.node for member in (ring.next() for _ in range(6)) if member) == sorted(turn), "nobody loses a turn"
    assert all(ring.members[member.place] is member for member in ring.members)


# -- Lifeguard -------------------------------------------------------------------------------------------------------


def test_lifeguard_4_1_missing_nacks_make_a_node_doubt_itself_and_acks_restore_it() -> None:
    lone, (a, *_) = met()
    silence(lone, a, 0.1)
    lone.step(ev.LinkLost(a))
    lone.until(1.01 + lone.now)  # nobody answers, not even with nacks
    assert lone.machine.statistics()["health_score"] >= 1
    before = lone.machine.statistics()["probes"]
    silence(lone, NodeId("nobody"), 30)
    assert lone.machine.statistics()["health_score"] == 0 and lone.machine.statistics()["probes"] > before


def test_lifeguard_4_1_with_nacks_the_blame_is_not_here() -> None:
    lone, (a, *_) = met()
    lone.step(ev.LinkLost(a))
    silence(lone, a, 1.2)
    assert lone.state(a)[0] == "suspect" and lone.machine.statistics()["health_score"] == 0


def test_lifeguard_4_1_a_helper_that_gets_no_ack_says_so_in_time() -> None:
    lone, (a, b, *_) = met()
    lone.hear(a, message=ev.PingRequest(5, b))
    (ping,) = lone.sent(ev.Ping)
    assert ping.to == b
    began = lone.now
    effects = lone.until(began + (LAN.probe_interval_s - LAN.probe_timeout_s) * LAN.nack_share + 0.001)
    assert [(sent.to, sent.message.sequence) for sent in lone.sent(ev.Nack, effects)] == [(a, 5)]  # type: ignore[union-attr]


def test_a_helper_passes_an_ack_on_only_of_the_one_it_pinged() -> None:
    lone, (a, b, c, _) = met()
    lone.hear(a, message=ev.PingRequest(5, b))
    (ping,) = lone.sent(ev.Ping)
    assert not lone.sent(ev.Ack, lone.hear(c, message=ev.Ack(ping.message.sequence)))  # type: ignore[union-attr]
    (ack,) = lone.sent(ev.Ack, lone.hear(b, message=ev.Ack(ping.message.sequence)))  # type: ignore[union-attr]
    assert (ack.to, ack.message.sequence) == (a, 5)  # type: ignore[union-attr]


def test_a_helper_that_knows_nothing_of_the_target_says_so_at_once() -> None:
    lone, (a, *_) = met()
    lone.hear(a, message=ev.PingRequest(5, NodeId("unknown")))
    assert [sent.to for sent in lone.sent(ev.Nack)] == [a] and not lone.sent(ev.Ping)


def test_lifeguard_4_2_confirmations_shorten_a_suspicion_the_first_the_most() -> None:
    lasts = [timeout_s(LAN, 8, confirmations, 2) for confirmations in range(4)]
    assert lasts[0] == LAN.suspicion_max_mult * shortest_s(LAN, 8) and lasts[2] == lasts[3] == shortest_s(LAN, 8) == 3.0
    assert lasts[0] - lasts[1] > lasts[1] - lasts[2]
    assert timeout_s(LAN, 8, 0, 0) == shortest_s(LAN, 8) and shortest_s(LAN, 1000) == pytest.approx(9.0)


def test_lifeguard_4_2_a_confirmed_suspicion_runs_out_early() -> None:
    lone, (a, b, c, _) = met()
    lone.step(ev.LinkLost(a))
    silence(lone, a, 1.2)
    for accuser in (b, c):
        lone.hear(accuser, lone.word(Kind.SUSPECT, a, 1, accuser))
    silence(lone, a, shortest_s(LAN, 5) + 0.1)
    assert lone.state(a) == ("suspect", False)


def test_lifeguard_4_3_a_suspect_learns_of_it_from_every_ping_also_when_it_is_no_news_any_more() -> None:
    lone, (a, b, *_) = met()
    lone.hear(b, lone.word(Kind.SUSPECT, a, 1, b))
    silence(lone, NodeId("nobody"), 30)
    assert lone.machine.statistics()["queued"] == 0
    effects = silence(lone, NodeId("nobody"), 30)
    pings = [sent for sent in lone.sent(ev.Ping, effects) if sent.to == a]
    assert pings and all(told([ping]) == {"p0 suspect 1 by p1"} for ping in pings)
    lone.hear(a, message=ev.Ping(9))
    assert told(list(lone.sent(ev.Ack))) == {"p0 suspect 1 by p1"}


def test_one_that_pings_with_an_old_suspicion_is_answered_with_the_newest_incarnation() -> None:
    lone, (a, b, *_) = met()
    lone.hear(b, lone.word(Kind.SUSPECT, ME, 1, b))
    silence(lone, NodeId("nobody"), 30)
    lone.hear(a, message=ev.Ping(9, (lone.word(Kind.SUSPECT, ME, 1, a).blob,)))
    assert told(list(lone.sent(ev.Ack))) == {"me alive 2"}
    lone.hear(a, message=ev.Ping(9))
    assert told(list(lone.sent(ev.Ack))) == set()


# -- incarnations ----------------------------------------------------------------------------------------------------


def test_an_incarnation_is_written_before_it_is_signed_and_signed_before_it_is_told() -> None:
    lone, (a, *_) = met(signs=False)
    effects = lone.hear(a, lone.word(Kind.SUSPECT, ME, 1, a))
    kinds = [type(effect) for effect in effects]
    assert kinds.index(Persist) < kinds.index(Sign) and lone.written == [1, 2] and lone.machine.incarnation == 2
    assert "me alive 2" not in told(lone.until(5))
    lone.sign()
    assert "me alive 2" in told(lone.until(6))


def test_late_signatures_do_no_harm() -> None:
    lone, (a, b, *_) = met(signs=False)
    lone.hear(a, lone.word(Kind.SUSPECT, ME, 1, a))
    lone.hear(b, lone.word(Kind.DEAD, ME, 1, b))
    assert lone.written == [1, 2], "one refutation answers both"
    lone.unsigned.reverse()
    lone.sign()
    view = lone.machine.member(ME)
    assert view is not None and view.incarnation == 2 and not view.accusations


def test_a_node_whose_disk_forgot_rises_above_what_it_once_signed() -> None:
    lone, (a, *_) = met()
    lone.hear(a, lone.alive(ME, 40))
    assert lone.machine.incarnation == 41 and lone.written[-1] == 41
    lone.hear(a, lone.left(ME, 50))
    assert lone.machine.incarnation == 51 and lone.state(ME)[0] == "alive"


def test_nobody_can_use_up_a_nodes_incarnations() -> None:
    lone, (a, *_) = met()
    lone.hear(a, lone.word(Kind.DEAD, ME, limits.NUMBER - 1, a))
    assert lone.machine.incarnation == 1 and lone.state(ME)[0] == "alive"


def test_one_that_accuses_without_end_is_answered_slowly() -> None:
    lone, (a, *_) = met()
    for _ in range(100):
        lone.hear(a, lone.word(Kind.SUSPECT, ME, lone.machine.incarnation, a))
        lone.until(lone.now + 0.05)
    assert lone.machine.incarnation <= 1 + limits.REFUTATIONS + 5 / shortest_s(LAN, 5) + 1
    lone.until(lone.now + 10)
    view = lone.machine.member(ME)
    assert view is not None and not view.accusations, "answered in the end"


# -- who is dead -----------------------------------------------------------------------------------------------------


def test_two_organisations_make_a_member_dead_one_does_not_however_many_nodes_it_has() -> None:
    lone, (a, b1, b2, c) = met(orgs=(1, 2, 2, 3))
    for accuser in (b1, b2):
        lone.hear(accuser, lone.word(Kind.DEAD, a, 1, accuser))
    assert lone.state(a) == ("suspect", True)
    lone.hear(c, lone.word(Kind.DEAD, a, 1, c))
    assert lone.state(a) == ("dead", False)
    lone.hear(a, lone.alive(a, 2))
    assert lone.state(a) == ("alive", True)


def test_where_no_two_others_are_reachable_ones_own_word_is_enough_but_not_a_strangers() -> None:
    lone, (a, a2) = met(orgs=(1, 1))
    b = lone.meet("b", 1)
    lone.hear(a2, lone.word(Kind.DEAD, b, 1, a2))
    assert lone.state(b)[0] == "dead", "its own organisation may bury it"
    other, (x,) = met(orgs=(1,))
    y = other.meet("y", 0)
    other.hear(x, other.word(Kind.DEAD, y, 1, x))
    assert other.state(y)[0] == "suspect", "the only other organisation may not"
    other.step(ev.LinkLost(x))
    silence(other, x, 10)
    assert other.state(x)[0] == "dead", "this node's own word is enough for it"
    del a


def test_words_alone_never_make_a_member_unroutable_here() -> None:
    lone, (a, b, *_) = met(orgs=(1, 2, 3, 4))
    lone.hear(b, lone.word(Kind.DEAD, a, 1, b))
    silence(lone, NodeId("nobody"), 60)
    assert lone.state(a) == ("suspect", True)


def test_left_is_the_subjects_own_word() -> None:
    lone, (a, *_) = met()
    lone.hear(a, lone.left(a, 1))
    assert lone.state(a) == ("left", False)
    lone.hear(a, lone.alive(a, 2))
    assert lone.state(a) == ("alive", True)


def test_the_dead_are_forgotten_in_time_and_old_news_does_not_bring_them_back() -> None:
    lone, (a, b, c, _) = met()
    for accuser in (b, c):
        lone.hear(accuser, lone.word(Kind.DEAD, a, 1, accuser))
    silence(lone, a, LAN.dead_kept_s - 5)
    assert lone.state(a)[0] == "dead"
    silence(lone, a, 10)
    assert lone.machine.member(a) is None
    lone.hear(b, lone.alive(a, 1))
    assert lone.machine.member(a) is None
    lone.hear(b, lone.alive(a, 2))
    assert lone.state(a)[0] == "alive"


def test_an_expelled_node_is_forgotten_and_not_believed_again() -> None:
    lone, (a, b, *_) = met()
    lone.step(ev.Expelled(a))
    assert lone.machine.member(a) is None and not lone.machine.admitted(a)
    lone.hear(b, lone.alive(a, 9), lone.word(Kind.DEAD, b, 1, a))
    assert lone.machine.member(a) is None and lone.state(b)[0] == "alive"


def test_an_expelled_node_comes_back_with_another_certificate_only() -> None:
    lone, (a, b, *_) = met()
    (before,) = [one for one in lone.machine.certificates() if one.node == a]
    lone.step(ev.Expelled(a))
    peer = Peer(a, before.org)
    lone.step(ev.PeerProved(peer, before.certificate))
    assert not lone.machine.admitted(a) and lone.machine.expelled() == (before,)
    lone.step(ev.PeerProved(peer, before.certificate + b"anew"))
    lone.hear(b, lone.alive(a, 1))
    assert lone.state(a)[0] == "alive" and lone.machine.expelled() == (), "it never left: what it said last counts"


def test_a_node_shows_the_certificate_that_it_has_now() -> None:
    lone, _ = met()
    (own,) = [one for one in lone.machine.certificates() if one.node == lone.machine.members()[0].node_id]
    lone.step(ev.Recertified(b"anew"))
    assert replace(own, certificate=b"anew") in lone.machine.certificates() and own not in lone.machine.certificates()


def test_a_node_that_the_newest_list_does_not_name_is_taken_back_as_it_is() -> None:
    lone, (a, b, *_) = met()
    (before,) = [one for one in lone.machine.certificates() if one.node == a]
    said = lone.alive(a, 9)
    lone.hear(b, said)
    lone.step(ev.Expelled(a))
    lone.step(ev.Pardoned(a))
    lone.step(ev.PeerProved(Peer(a, before.org), before.certificate))
    lone.hear(b, said)
    assert lone.state(a)[0] == "alive"


# -- the edge --------------------------------------------------------------------------------------------------------


def test_a_stranger_is_not_answered() -> None:
    lone, _ = met()
    assert not lone.machine.admitted(NodeId("stranger"))
    assert lone.step(ev.DatagramReceived(NodeId("stranger"), "s:1", ev.Ping(1))) == []


def test_only_news_is_verified() -> None:
    lone, (a, b, *_) = met()
    known, news, stale = lone.alive(a, 1), lone.alive(a, 5), lone.word(Kind.SUSPECT, a, 0, b)
    message = ev.Gossip((known.blob, news.blob, stale.blob))
    assert [said.blob for said in lone.machine.updates_to_verify(message)] == [news.blob]
    assert lone.machine.news(news) and not lone.machine.news(known)
    with pytest.raises(Refused, match="bad-encoding"):
        lone.machine.updates_to_verify(ev.Gossip((b"\xff",)))


def test_garbage_that_was_let_through_changes_nothing() -> None:
    lone, (a, *_) = met()
    lone.hear(a, message=ev.Ping(3, (b"garbage",)))
    assert len(lone.sent(ev.Ack)) == 1


def test_what_cannot_be_judged_is_a_reason_to_sync_with_its_sender() -> None:
    lone, (a, *_) = met()
    stranger = NodeId("s")
    lone.org[stranger] = org(7)
    lone.lines.clear()
    lone.hear(a, lone.alive(stranger, 1))
    lone.until(lone.now + 20)
    assert lone.machine.member(stranger) is None and any(line.endswith("sync") for line in lone.lines)


def test_facts_that_nobody_would_take_are_refused_at_the_start() -> None:
    for wrong in (replace(facts(ME, org(0)), name="n" * 200), replace(facts(ME, org(0)), org=org(1))):
        with pytest.raises(Refused, match="bad-statement"):
            Membership(
                Certified(ME, org(0), b""),
                wrong,
                domain=DOMAIN,
                timing=LAN,
                seeds=[],
                rng=random.Random(1),
                view=MemoryStore(random.Random(1)),
            )


# -- time ------------------------------------------------------------------------------------------------------------


def test_time_in_which_this_node_did_not_run_counts_against_nobody() -> None:
    lone, (a, b, *_) = met()
    lone.step(ev.LinkLost(a))
    silence(lone, a, 1.2)
    assert lone.state(a)[0] == "suspect"
    lone.now += 60.0  # stopped for a minute, then the datagrams that waited in the socket
    lone.hear(a, lone.alive(a, 2))
    lone.until(lone.now + 0.01)
    assert lone.state(a) == ("alive", True) and lone.state(b) == ("alive", True)
    assert lone.machine.statistics()["late"] == 1


def test_load_is_told_at_intervals_and_addresses_at_once() -> None:
    lone, _ = met()
    lone.until(20)
    now = facts(ME, org(0))
    revisions = []
    for load in range(1, 50):
        lone.step(ev.FactsChanged(replace(now, load_permille=load)))
        lone.until(lone.now + 0.2)
        revisions.append(lone.machine.member(ME))
    assert 2 <= lone.machine._voice._revision <= 3
    lone.step(ev.FactsChanged(replace(now, link="elsewhere:9")))
    view = lone.machine.member(ME)
    assert view is not None and view.facts.link == "elsewhere:9"


def test_leaving_is_told_and_then_over() -> None:
    lone, _ = met()
    lone.step(ev.Leave())
    effects = lone.until(lone.now + LAN.leave_s + 0.1)
    assert "me left 1" in told(effects) and Tell("kernel", ev.LeaveCompleted()) in effects
    assert not lone.sent(ev.Ping, lone.until(lone.now + 30))


def test_a_transcript_of_a_death(pytestconfig: pytest.Config) -> None:
    del pytestconfig
    lone, (a, b, c, _) = met()
    silence(lone, NodeId("nobody"), 5)
    lone.lines.clear()
    lone.step(ev.LinkLost(a))
    silence(lone, a, 1.05)
    for accuser in (b, c):
        lone.hear(accuser, lone.word(Kind.SUSPECT, a, 1, accuser))
    silence(lone, a, 3.0)
    lone.hear(b, lone.word(Kind.DEAD, a, 1, b))
    story = [line.split(maxsplit=1)[1] for line in lone.lines if "p0" in line and " to " not in line]
    assert story == [
        "Sign p0 suspect 1 by me",
        "p0 is suspect (1)",
        "p0 is suspect (1)",
        "p0 is suspect (1)",
        "p0 is suspect (1)",
        "Sign p0 dead 1 by me",
        "p0 is suspect, unroutable (1)",
        "p0 is suspect, unroutable (1)",
        "p0 is dead, unroutable (1)",
    ]


# -- piggyback -------------------------------------------------------------------------------------------------------


def test_swim_4_1_news_is_sent_a_logarithm_of_times_least_sent_first() -> None:
    queue = Piggyback(3)
    queue.resize(99)
    assert queue.limit == 6
    for number in range(4):
        queue.put(number, bytes([number]) * 300)
    sent: list[int] = []
    while len(queue):
        sent += [blob[0] for blob in queue.take(640)]
    assert [sent.count(number) for number in range(4)] == [6] * 4 and sorted(sent[:4]) == [0, 1, 2, 3]


def test_neither_class_of_news_starves_the_other() -> None:
    queue = Piggyback(100)
    for number in range(500):
        queue.put(("word", number), b"m%03d" % number * 45)
        queue.put(("fact", number), b"u%03d" % number * 62, user=True)
    taken = queue.take(1040)
    membership, user = (sum(blob[:1] == mark for blob in taken) for mark in (b"m", b"u"))
    assert membership >= 3 and user >= 1 and sum(len(blob) + 3 for blob in taken) <= 1040


def test_the_queue_is_bounded_and_newer_takes_the_place_of_older() -> None:
    queue = Piggyback(4)
    for number in range(limits.QUEUE + 100):
        queue.put(number, b"x%d" % number)
    assert len(queue) == limits.QUEUE
    queue.put(limits.QUEUE, b"newer")
    assert len(queue) == limits.QUEUE and b"newer" in queue.take(100)


def test_every_preset_keeps_its_relations_and_a_broken_one_is_refused() -> None:
    assert set(PRESETS) == {"lan", "wan", "local", "fast"}
    with pytest.raises(ValueError, match="probe_timeout_s"):
        replace(FAST, probe_timeout_s=1.0)
    with pytest.raises(ValueError, match="sync_gap_s"):
        replace(LAN, sync_gap_s=100.0)


def test_a_peer_is_who_its_link_proved() -> None:
    lone = Lone()
    lone.step(ev.PeerProved(Peer(NodeId("z"), org(5)), b"der"))
    assert lone.machine.admitted(NodeId("z"))
