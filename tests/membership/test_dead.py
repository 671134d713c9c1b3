"""Who is dead, who has left, who is expelled: whose word counts for it, and who comes back."""

from dataclasses import replace

import pytest

from meshos.ids import NodeId, Peer
from meshos.presets import LAN
from meshos.protocols.membership import events as ev
from meshos.protocols.membership.statements import Kind
from tests.membership.lone import met, silence


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
