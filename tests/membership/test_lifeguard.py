"""The machine, step by step, in the words of Lifeguard (Dadgar et al. 2017): a node that doubts itself, and suspicions that last longer."""

import pytest

from meshos.ids import NodeId
from meshos.presets import LAN
from meshos.protocols.membership import events as ev
from meshos.protocols.membership.statements import Kind
from meshos.protocols.membership.suspicion import shortest_s, timeout_s
from tests.membership.lone import ME, met, silence, told


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
