"""The machine ``relay`` on the way to a direct link: who is introduced to whom, and that nothing is sent to where was not named twice."""

import random

import pytest

from meshos.effects import Cast, Heard, Tick
from meshos.flow import Propose
from meshos.flow_machine import Perform
from meshos.ids import NodeId, OrgDid, Peer
from meshos.protocols.relay import limits
from meshos.protocols.relay.events import MACHINE, Came, EndLeg, Join, Punch, Relayed, Seek, ShowUp, Unrelayed
from meshos.protocols.relay.machine import Relay
from meshos.protocols.relay.policy import Policy
from meshos.protocols.relay.wire import CAST, Address, Called, Granted, Here, Meet, Message, Met, Show, decode, encode

R, A, B, C = (Peer(NodeId(f"node-{name}"), OrgDid("did:mesh:enterprise:alpha")) for name in "rabc")
AT_A, AT_B, ELSEWHERE = ("203.0.113.2", 4000), ("203.0.113.3", 5000), ("198.51.100.9", 53)


class Net:
    """A relay and its two members; casts are carried between them at once, but for those that ``change`` does away with."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.now = 10.0
        linked = {peer.node: peer for peer in (R, A, B, C)}
        self.machines = {peer: Relay(peer, policy or Policy(), linked.get, random.Random(peer.node)) for peer in (R, A, B)}
        self.done: dict[Peer, list[object]] = {R: [], A: [], B: []}
        self.sources: dict[Peer, Address | None] = {A: AT_A, B: AT_B}
        self.legs = 0

    def step(self, peer: Peer, event: object) -> None:
        for effect in self.machines[peer].step(self.now, event):
            self.done[peer].append(effect)
            if isinstance(effect, Cast):
                to = next(other for other in (R, A, B, C) if other.node == effect.to)
                self.carry(peer, to, decode(effect.body))
            elif isinstance(effect, ShowUp):
                self.come(peer, effect.token, self.sources[peer])

    def carry(self, sender: Peer, to: Peer, message: Message) -> None:
        if to in self.machines:
            self.step(to, Heard(sender, CAST, encode(message)))

    def come(self, peer: Peer, token: bytes, source: Address | None = None) -> int:
        self.legs += 1
        self.step(R, Came(self.legs, peer, token, source))
        return self.legs

    def relayed(self) -> None:
        """``a`` and ``b`` are joined by ``r``."""
        self.step(A, Perform(1, Propose(Seek(B.node, (R.node,)), to=MACHINE), self.now + 5, "outside"))
        (granted,) = [message for message in self.said(R) if isinstance(message, Granted)]
        self.come(A, granted.token)
        (called,) = [message for message in self.said(R) if isinstance(message, Called)]
        self.come(B, called.token)
        assert any(isinstance(effect, Join) for effect in self.done[R])
        self.step(A, Relayed(B.node, R.node, True))
        self.step(B, Relayed(A.node, R.node, False))

    def later(self, seconds: float) -> None:
        self.now += seconds
        for peer, machine in self.machines.items():
            due = machine.deadline()
            if due is not None and due <= self.now:
                self.step(peer, Tick())

    def said(self, peer: Peer) -> list[Message]:
        return [decode(effect.body) for effect in self.done[peer] if isinstance(effect, Cast)]

    def punches(self, peer: Peer) -> list[Punch]:
        return [effect for effect in self.done[peer] if isinstance(effect, Punch)]

    def figure(self, peer: Peer, name: str) -> float:
        return self.machines[peer].statistics().get(name, 0)


def test_both_are_told_where_the_other_comes_from_and_send_there() -> None:
    net = Net()
    net.relayed()
    net.later(limits.MEET_FIRST_S)
    (of_a,), (of_b,) = net.punches(A), net.punches(B)
    assert (of_a.node, of_a.address, of_a.dials) == (B.node, AT_B, True)
    assert (of_b.node, of_b.address, of_b.dials) == (A.node, AT_A, False), "one of them dials"
    assert (of_a.mine, of_a.theirs) == (of_b.theirs, of_b.mine) and of_a.mine != of_a.theirs
    codes = {of_a.mine, of_a.theirs}
    assert not codes & {getattr(message, "token", b"") for message in net.said(R)}, "the relay does not know by what they know each other"


def test_it_is_tried_a_few_times_more_and_more_seldom_and_not_after_the_link_is_direct() -> None:
    net = Net()
    net.relayed()
    for _ in range(200):
        net.later(10.0)
        net.step(R, Came(0, C, bytes(16)))  # so that its clock is looked at
    meets = [message for message in net.said(A) if isinstance(message, Meet)]
    assert len(meets) == limits.MEETINGS_PER_LINK and len(net.punches(B)) <= limits.MEETINGS_PER_LINK
    net.step(A, Relayed(B.node, R.node, True))
    net.step(A, Unrelayed(B.node))
    assert net.machines[A].deadline() is None


@pytest.mark.parametrize("who", [A, C])
def test_the_relay_introduces_only_those_that_it_joins(who: Peer) -> None:
    net = Net()
    if who is C:
        net.relayed()
    net.step(R, Heard(who, CAST, encode(Meet(B.node))))
    assert not [message for message in net.said(R) if isinstance(message, Show)] and net.figure(R, "meetings_refused") == 1


def test_only_the_two_can_show_themselves_and_only_over_udp() -> None:
    net = Net()
    net.relayed()
    net.sources = {A: AT_A, B: None}
    machine, shown = net.machines[R], len(net.done[R])
    net.step(R, Heard(A, CAST, encode(Meet(B.node))))
    shows = [message for message in net.said(R)[0:] if isinstance(message, Show)]
    assert len(shows) == 2 and not [message for message in net.said(R) if isinstance(message, Met)], "b came over TCP"
    net.now += limits.MEET_S
    machine.step(net.now, Tick())
    stolen = net.come(C, shows[0].token, ELSEWHERE)
    assert EndLeg(stolen, "relay-token") in net.done[R][shown:]


def punching(net: Net) -> None:
    """``b`` has shown itself at the relay, which has said nothing yet."""
    net.relayed()
    net.step(B, Heard(R, CAST, encode(Show(b"s" * 16, A.node))))


def test_an_address_that_the_relay_does_not_vouch_for_is_sent_nothing() -> None:
    net = Net()
    punching(net)
    net.step(B, Heard(A, CAST, encode(Here(b"c" * 16, ELSEWHERE, AT_B))))
    net.step(B, Heard(R, CAST, encode(Met(A.node, AT_B, AT_A))))
    assert not net.punches(B) and net.figure(B, "meetings_disagreed") == 1


def test_an_address_that_only_the_relay_names_is_sent_nothing() -> None:
    net = Net()
    punching(net)
    net.step(B, Heard(R, CAST, encode(Met(A.node, AT_B, ELSEWHERE))))
    assert not net.punches(B)
    net.step(B, Heard(A, CAST, encode(Here(b"c" * 16, AT_A, AT_B))))
    assert not net.punches(B) and net.figure(B, "meetings_disagreed") == 1


@pytest.mark.parametrize("sender", [C, A])
def test_who_does_not_relay_here_is_not_heard(sender: Peer) -> None:
    net = Net()
    net.relayed()
    net.step(B, Heard(sender, CAST, encode(Show(b"s" * 16, A.node))))
    net.step(B, Heard(sender, CAST, encode(Met(A.node, AT_B, ELSEWHERE))))
    net.step(B, Heard(sender, CAST, encode(Here(b"c" * 16, ELSEWHERE, AT_B))))
    assert not [effect for effect in net.done[B] if isinstance(effect, ShowUp | Punch)]
    assert net.figure(B, "shows_refused") == 1 and net.figure(B, "meetings_unexpected") == 2


def test_a_relay_cannot_have_a_node_show_itself_without_end_nor_send_to_its_own_machine() -> None:
    net = Net()
    net.relayed()
    for number in range(50):
        net.now += limits.MEET_S
        net.step(B, Heard(R, CAST, encode(Show(number.to_bytes(16, "big"), A.node))))
    assert len([effect for effect in net.done[B] if isinstance(effect, ShowUp)]) == limits.MEETINGS_PER_LINK
    net = Net()
    punching(net)
    net.step(B, Heard(R, CAST, encode(Met(A.node, AT_B, ("127.0.0.1", 8301)))))
    net.step(B, Heard(A, CAST, encode(Here(b"c" * 16, ("127.0.0.1", 8301), AT_B))))
    assert not net.punches(B)


def test_a_node_that_does_not_want_it_neither_asks_nor_shows_itself() -> None:
    net = Net(Policy(punch=False))
    net.relayed()
    assert net.machines[A].deadline() is None
    net.step(B, Heard(R, CAST, encode(Show(b"s" * 16, A.node))))
    assert not [effect for effect in net.done[B] if isinstance(effect, ShowUp)]
