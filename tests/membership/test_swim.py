"""The machine, step by step, in the words of SWIM (Das et al. 2002): who is probed, who is suspected, and what refutes it."""

import pytest

from meshos.effects import Completed, Err, Ok, Tell
from meshos.errors import Unreachable
from meshos.flow import Ask
from meshos.flow_machine import Perform
from meshos.presets import LAN
from meshos.protocols.membership import events as ev
from meshos.protocols.membership.ring import Ring
from meshos.protocols.membership.statements import Kind
from tests.membership.lone import met, silence, told


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
