"""Casts: who hears them, who does not, and that a lost one costs its sender nothing."""

import random

from meshos.effects import Cast, Heard, Tell
from meshos.ids import NodeId, OrgDid, Peer
from meshos.protocols.rpc import limits
from meshos.protocols.rpc.casting import Listener
from meshos.protocols.rpc.events import LinkDown, LinkUp, MessageReceived, Notice, NotSent, OpenLink, SendMessage
from meshos.protocols.rpc.machine import Rpc

ACME = OrgDid("did:mesh:enterprise:acme")
ME, MATE = Peer(NodeId("me"), ACME), Peer(NodeId("mate"), ACME)
STRANGER = Peer(NodeId("stranger"), OrgDid("did:mesh:enterprise:other"))
RAFT, OPEN = "/t/raft/1", "/t/open/1"


def rpc() -> Rpc:
    listeners = {RAFT: Listener("raft", lambda peer: peer.org == ACME), OPEN: Listener("open", lambda peer: True)}
    return Rpc(ME, {}, random.Random(1), listeners=listeners)


def linked() -> Rpc:
    machine = rpc()
    machine.step(0, LinkUp(MATE))
    return machine


def test_a_cast_is_one_message_and_nothing_is_remembered_of_it() -> None:
    machine = linked()
    assert machine.step(1, Cast(MATE.node, RAFT, b"append")) == [SendMessage(MATE.node, "control", Notice(RAFT, b"append"))]
    assert machine.deadline() is None and machine.statistics()["in_flight"] == 0


def test_a_cast_takes_the_lane_that_its_size_needs_and_none_beyond() -> None:
    machine = linked()
    control, work = limits.BODY_BYTES["control"], limits.BODY_BYTES["work"]
    lanes = [
        [effect.lane for effect in machine.step(1, Cast(MATE.node, RAFT, bytes(size))) if isinstance(effect, SendMessage)]
        for size in (0, control, control + 1, work, work + 1)
    ]
    assert lanes == [["control"], ["control"], ["work"], ["work"], []]
    assert machine.statistics()["casts_refused"] == 1


def test_without_a_link_a_cast_is_lost_and_a_link_is_asked_for_now_and_then() -> None:
    machine = rpc()
    cast = Cast(MATE.node, RAFT, b"x")
    assert machine.step(0, cast) == [OpenLink(MATE.node)]
    assert machine.step(limits.CAST_OPEN_AGAIN_S / 2, cast) == []
    machine.step(limits.CAST_OPEN_AGAIN_S / 2, LinkDown(MATE.node, "peer-unreachable"))
    assert machine.step(limits.CAST_OPEN_AGAIN_S * 0.9, cast) == [], "a peer that is away is not dialled at each heartbeat"
    assert machine.step(limits.CAST_OPEN_AGAIN_S, cast) == [OpenLink(MATE.node)]
    machine.step(1, LinkUp(MATE))
    machine.step(1, LinkDown(MATE.node, "link-lost"))
    assert machine.step(1, cast) == [OpenLink(MATE.node)], "a link that was there is wanted again at once"
    assert machine.statistics()["casts_unlinked"] == 5 and machine.statistics()["casts"] == 0


def test_what_comes_is_heard_by_the_machine_that_listens_with_who_said_it() -> None:
    received = MessageReceived(MATE, Notice(RAFT, b"vote"), "control")
    assert linked().step(1, received) == [Tell("raft", Heard(MATE, RAFT, b"vote"))]


def test_what_one_casts_to_oneself_is_heard_in_the_same_step() -> None:
    assert rpc().step(1, Cast(ME.node, RAFT, b"me")) == [Tell("raft", Heard(ME, RAFT, b"me"))]


def test_who_is_not_allowed_and_what_nobody_listens_to_is_counted_and_not_answered() -> None:
    machine = linked()
    machine.step(0, LinkUp(STRANGER))
    assert machine.step(1, MessageReceived(STRANGER, Notice(RAFT, b"vote for me"), "control")) == []
    assert machine.step(1, MessageReceived(MATE, Notice("/t/none/1", b""), "control")) == []
    counts = machine.statistics()
    assert (counts["heard"], counts["heard_not_allowed"], counts["heard_unknown"]) == (0, 1, 1)


def test_a_cast_that_did_not_go_out_is_counted_and_not_tried_again() -> None:
    machine = linked()
    assert machine.step(1, NotSent(MATE.node, Notice(RAFT, b"x"), "busy")) == []
    assert machine.statistics()["casts_not_sent"] == 1
