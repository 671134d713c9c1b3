"""The machine at its edge and in time: strangers and garbage, time in which it did not run, what it tells of itself."""

import random
from dataclasses import replace
from typing import TypeVar

import pytest

from meshos.effects import Err, Tell
from meshos.errors import MeshError, Refused, Unreachable
from meshos.flow_machine import FlowEnded, StartFlow
from meshos.ids import NodeId, Peer
from meshos.presets import FAST, LAN, PRESETS
from meshos.protocols.membership import events as ev
from meshos.protocols.membership.commands import Certified
from meshos.protocols.membership.machine import Membership
from meshos.protocols.membership.statements import Kind
from meshos.protocols.membership.syncing import Seed
from meshos.storage.memory import MemoryStore
from tests.membership.lone import ME, Lone, met, silence, told
from tests.membership.mesh import DOMAIN, facts, org

T = TypeVar("T")


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


def _sent(effects: list[object], kind: type[T]) -> list[T]:
    return [effect.event for effect in effects if isinstance(effect, Tell) and isinstance(effect.event, kind)]


def test_a_node_that_finds_nobody_says_why_once_for_each_seed_and_reason() -> None:
    lone = Lone(seeds=[Seed(NodeId("gone"), "192.0.2.1:1")])
    caused = lone.step(ev.Started())

    def told(error: MeshError) -> list[str]:
        """What is said when the next sync ends so."""
        nonlocal caused
        begun = _sent([*caused, *lone.until(lone.now + 30)], StartFlow)
        caused = lone.step(FlowEnded(begun[0].flow, Err(error)))
        return [failed.error.name for failed in _sent(caused, ev.SeedFailed)]

    assert told(Unreachable("not-connected", "no")) == ["not-connected"]
    assert told(Unreachable("not-connected", "still not")) == []
    assert told(Refused("stranger", "who are you")) == ["stranger"]
    assert told(Unreachable("not-connected", "once more")) == []


def test_a_peer_is_who_its_link_proved() -> None:
    lone = Lone()
    lone.step(ev.PeerProved(Peer(NodeId("z"), org(5)), b"der"))
    assert lone.machine.admitted(NodeId("z"))


# -- time --------------------------------------------------------------------------------------------------------------


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


def test_every_preset_keeps_its_relations_and_a_broken_one_is_refused() -> None:
    assert set(PRESETS) == {"lan", "wan", "local", "fast"}
    with pytest.raises(ValueError, match="probe_timeout_s"):
        replace(FAST, probe_timeout_s=1.0)
    with pytest.raises(ValueError, match="sync_gap_s"):
        replace(LAN, sync_gap_s=100.0)
