"""The machine ``relay``: who is granted what, what tokens are good for, and that the tables stay in bounds whatever members send."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from meshos import cbor
from meshos.effects import Cast, Completed, Err, Heard, Ok, Tell, Tick
from meshos.errors import Refused
from meshos.flow import Propose
from meshos.flow_machine import Abandon, Perform
from meshos.ids import NodeId, OrgDid, Peer
from meshos.protocols.relay import limits
from meshos.protocols.relay.events import MACHINE, Answer, Answered, Came, Carried, EndLeg, Gone, Grant, Join, Seek
from meshos.protocols.relay.machine import Relay
from meshos.protocols.relay.policy import USUAL, Bandwidth, Policy
from meshos.protocols.relay.wire import (
    CAST,
    REASONS,
    Called,
    Declined,
    Denied,
    Granted,
    Here,
    Meet,
    Message,
    Met,
    Show,
    Want,
    decode,
    encode,
)

ORGS = [OrgDid(f"did:mesh:enterprise:{name}") for name in ("alpha", "beta", "gamma")]
PEERS = [Peer(NodeId(f"node-{number}"), ORGS[number % 3]) for number in range(8)]
ME, A, B, C = PEERS[2], PEERS[0], PEERS[1], PEERS[3]


class World:
    """One relay, its clock, and who is linked to it."""

    def __init__(self, policy: Policy = USUAL) -> None:
        self.linked = {peer.node: peer for peer in PEERS if peer is not ME}
        self.relay = Relay(ME, policy, self.linked.get, random.Random(1))
        self.now = 100.0

    def step(self, event: object) -> list[object]:
        return self.relay.step(self.now, event)

    def hear(self, peer: Peer, message: Message) -> list[object]:
        return self.step(Heard(peer, CAST, encode(message)))

    def later(self, seconds: float) -> list[object]:
        self.now += seconds
        due = self.relay.deadline()
        return self.step(Tick()) if due is not None and due <= self.now else []

    def grant(self, caller: Peer = A, to: Peer = B) -> bytes:
        """The token for ``caller``."""
        (granted,) = said(self.hear(caller, Want(1, to.node)))
        assert isinstance(granted, Granted)
        return granted.token

    def call(self, leg: int, caller: Peer = A, to: Peer = B) -> bytes:
        """The caller has come on ``leg``: the token for ``to``."""
        (called,) = said(self.step(Came(leg, caller, self.grant(caller, to))))
        assert called == Called(called.token, caller.node)  # type: ignore[union-attr]
        return called.token  # type: ignore[union-attr]

    def figure(self, name: str) -> float:
        return self.relay.statistics().get(name, 0)


def said(effects: list[object]) -> list[Message]:
    return [decode(effect.body) for effect in effects if isinstance(effect, Cast)]


# -- the relay ---------------------------------------------------------------------------------------------------------


def test_both_come_with_their_tokens_and_are_joined() -> None:
    world = World()
    token = world.call(1)
    assert world.step(Came(2, B, token)) == [Join(1, 2, A.org)]
    assert world.figure("pairs_joined") == 1
    assert world.step(Gone(1)) == [EndLeg(2, "relay-ended")] and world.step(Gone(2)) == []
    assert world.figure("pairs") == 0 and world.relay.deadline() is None


def test_a_token_is_good_once_for_seconds_and_from_one_member() -> None:
    world = World()
    token = world.grant()
    refused = [EndLeg(7, "relay-token")]
    assert world.step(Came(7, C, token)) == refused, "stolen"
    assert world.step(Came(7, B, token)) == refused, "the other side's is another"
    assert world.step(Came(7, A, bytes(16))) == refused, "forged"
    assert said(world.step(Came(1, A, token))), "and A's is still good"
    assert world.step(Came(7, A, token)) == refused, "replayed"
    late = world.grant(C)
    world.later(limits.GRANT_S)
    assert world.step(Came(7, C, late)) == refused


@pytest.mark.parametrize("how", ["nobody comes", "declined", "unlinked"])
def test_a_caller_that_waits_in_vain_is_told_why(how: str) -> None:
    world = World()
    if how == "unlinked":
        token = world.grant()
        del world.linked[B.node]
        assert world.step(Came(1, A, token)) == [EndLeg(1, "relay-unlinked")]
    else:
        token = world.call(1)
        assert world.hear(C, Declined(token, "relay-declined")) == [], "it is not C that was called"
        effects = world.hear(B, Declined(token, "relay-declined")) if how == "declined" else world.later(limits.CALL_S)
        assert effects == [EndLeg(1, "relay-declined" if how == "declined" else "relay-unanswered")]
    assert world.figure("pairs") == 0


@pytest.mark.parametrize(
    ("policy", "caller", "to", "reason"),
    [
        (Policy(serve=False), A, B.node, "relay-off"),
        (Policy(own_only=True), A, B.node, "relay-off"),
        (USUAL, A, A.node, "relay-to-itself"),
        (USUAL, A, ME.node, "relay-to-itself"),
        (USUAL, A, NodeId("nobody"), "relay-unlinked"),
    ],
)
def test_what_is_not_relayed_is_refused_by_name(policy: Policy, caller: Peer, to: NodeId, reason: str) -> None:
    world = World(policy)
    assert said(world.hear(caller, Want(9, to))) == [Denied(9, reason)]
    assert world.figure("pairs") == 0 and world.figure(f"refused_{reason}") == 1


def test_own_only_relays_where_either_is_its_own() -> None:
    world = World(Policy(own_only=True))
    assert world.grant(PEERS[5], B) and world.grant(B, PEERS[5])


def test_a_member_has_so_many_pairs_and_others_have_theirs() -> None:
    world = World()
    for number in range(limits.PAIRS_PER_CALLER):
        world.grant(A, (B, PEERS[4])[number % 2])
    assert said(world.hear(A, Want(1, C.node))) == [Denied(1, "relay-full")]
    assert world.grant(C, A), "another member of another organisation"
    world.later(limits.GRANT_S)
    assert world.grant(A, B), "what was not used is free again"


def test_others_cannot_use_up_a_member_that_is_called() -> None:
    world = World()
    callers = [peer for peer in PEERS if peer not in (ME, B)]
    answers = [said(world.hear(caller, Want(1, B.node)))[0] for caller in callers for _ in range(5)]
    assert sum(isinstance(answer, Granted) for answer in answers) == len(ORGS) * limits.UNJOINED_PER_ORG_AND_CALLED
    assert world.grant(B, C), "it is as free to call as before"


def test_an_organisation_has_half() -> None:
    world = World()
    crowd = [Peer(NodeId(f"crowd-{number}"), A.org) for number in range(limits.PAIRS)]
    targets = [Peer(NodeId(f"target-{number}"), C.org) for number in range(limits.PAIRS)]
    world.linked.update({peer.node: peer for peer in (*crowd, *targets)})
    answers = [said(world.hear(one, Want(1, other.node)))[0] for one, other in zip(crowd, targets, strict=True)]
    assert sum(isinstance(answer, Granted) for answer in answers) == limits.PAIRS_PER_ORG
    assert isinstance(said(world.hear(B, Want(1, C.node)))[0], Granted)


def test_a_pair_that_carries_nothing_ends_and_the_oldest_does_in_any_case() -> None:
    world = World()
    world.step(Came(2, B, world.call(1)))
    for _ in range(3):
        assert world.later(limits.IDLE_S - 1) == []
        world.step(Carried(2))
    assert sorted(map(str, world.later(limits.IDLE_S))) == sorted(map(str, [EndLeg(1, "relay-ended"), EndLeg(2, "relay-ended")]))
    world.step(Came(4, B, world.call(3)))
    ended: list[object] = []
    for _ in range(int(limits.LIFE_S // limits.CARRIED_S)):
        ended += world.later(limits.CARRIED_S)
        world.step(Carried(3))
    assert len(ended) == 2 and world.figure("pairs") == 0


# -- the two that are relayed ------------------------------------------------------------------------------------------


def seek(world: World, op: int, *candidates: Peer, to: Peer = B) -> list[object]:
    return world.step(Perform(op, Propose(Seek(to.node, tuple(peer.node for peer in candidates)), to=MACHINE), world.now + 5, "outside"))


def ended(effects: list[object]) -> object:
    (tell,) = [effect for effect in effects if isinstance(effect, Tell)]
    assert isinstance(tell.event, Completed)
    return tell.event.outcome


def test_all_candidates_are_asked_at_once_and_the_first_that_grants_is_taken() -> None:
    world = World()
    casts = [effect for effect in seek(world, 5, A, C, PEERS[4], PEERS[5], PEERS[6]) if isinstance(effect, Cast)]
    assert [cast.to for cast in casts] == [A.node, C.node, PEERS[4].node] and decode(casts[0].body) == Want(1, B.node)
    (next_one,) = world.hear(A, Denied(1, "relay-unlinked"))
    assert isinstance(next_one, Cast) and next_one.to == PEERS[5].node
    assert said(world.hear(PEERS[6], Granted(1, bytes(16)))) == [Declined(bytes(16), "relay-declined")], "it was not asked"
    assert ended(world.hear(C, Granted(1, b"t" * 16))) == Ok(Grant(C.node, b"t" * 16))
    assert said(world.hear(PEERS[4], Granted(1, bytes(16)))) == [Declined(bytes(16), "relay-declined")], "it is given back"
    assert world.figure("searches") == 0


def test_a_search_ends_with_why_not() -> None:
    world = World()
    outcome = ended(seek(world, 5, B, ME))
    assert isinstance(outcome, Err) and outcome.error.name == "no-relay" and outcome.error.outcome == "not_done"
    seek(world, 6, A, C)
    world.hear(A, Denied(1, "relay-off"))
    outcome = ended(world.hear(C, Denied(1, "relay-unlinked")))
    assert isinstance(outcome, Err) and REASONS["relay-off"] in outcome.error.detail
    seek(world, 7, A)
    outcome = ended(world.later(limits.SEEK_S))
    assert isinstance(outcome, Err) and "nobody answered" in outcome.error.detail
    seek(world, 8, A)
    assert world.step(Abandon(8, Propose(Seek(B.node, ()), to=MACHINE), "outside")) == [] and world.relay.deadline() is None


def test_a_relay_cannot_have_a_node_dial_without_end() -> None:
    world = World()
    effects = [effect for number in range(100) for effect in world.hear(A, Called(number.to_bytes(16, "big"), B.node))]
    answers = [effect for effect in effects if isinstance(effect, Answer)]
    assert answers == [Answer(A.node, number.to_bytes(16, "big"), B.node) for number in range(limits.ANSWERS_PER_RELAY)]
    assert said(effects)[0] == Declined(limits.ANSWERS_PER_RELAY.to_bytes(16, "big"), "relay-declined")
    assert world.hear(A, Called(b"x" * 16, ME.node)) == world.hear(A, Called(b"x" * 16, A.node)) == [], "that is nobody who could call"
    assert world.step(Answered(bytes(16), True)) == []
    assert said(world.step(Answered((1).to_bytes(16, "big"), False))) == [Declined((1).to_bytes(16, "big"), "relay-declined")]
    assert [effect for effect in world.hear(C, Called(b"c" * 16, B.node)) if isinstance(effect, Answer)], "another relay"


# -- messages and figures ----------------------------------------------------------------------------------------------

NODES = st.text(st.characters(codec="ascii"), min_size=1, max_size=64).map(NodeId)
REFS = st.integers(0, 2**63 - 1)
TOKENS = st.binary(min_size=16, max_size=16)
WHY = st.sampled_from(sorted(REASONS))
HOSTS = st.ip_addresses().filter(lambda ip: not (ip.is_multicast or ip.is_unspecified or str(ip) == "255.255.255.255")).map(str)
ADDRESSES = st.tuples(HOSTS, st.integers(1, 65535))
MESSAGES = st.one_of(
    st.builds(Want, REFS, NODES),
    st.builds(Granted, REFS, TOKENS),
    st.builds(Denied, REFS, WHY),
    st.builds(Called, TOKENS, NODES),
    st.builds(Declined, TOKENS, WHY),
    st.builds(Meet, NODES),
    st.builds(Show, TOKENS, NODES),
    st.builds(Met, NODES, ADDRESSES, ADDRESSES),
    st.builds(Here, TOKENS, ADDRESSES, ADDRESSES),
)


@settings(deadline=None)
@given(MESSAGES)
def test_what_is_encoded_is_decoded(message: Message) -> None:
    assert decode(encode(message)) == message and len(encode(message)) <= limits.MESSAGE_BYTES


@pytest.mark.parametrize(
    "address", [["10.0.0.1", 0], ["10.0.0.1", True], ["010.0.0.1", 1], ["a.example", 1], ["224.0.0.1", 1], ["::", 1], []]
)
def test_what_no_datagram_could_come_from_is_no_address(address: list[object]) -> None:
    with pytest.raises(Refused):
        decode(cbor.encode([8, bytes(16), ["10.0.0.1", 1], address]))  # type: ignore[list-item]


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=400), MESSAGES.map(encode).flatmap(lambda body: st.binary(max_size=8).map(lambda more: body + more))))
def test_bytes_that_are_no_message_are_refused_and_counted(body: bytes) -> None:
    world = World()
    try:
        decode(body)
    except Refused:
        assert world.step(Heard(A, CAST, body)) == [] and world.figure("bad_messages") == 1


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 100_000), st.floats(0, 0.2)), max_size=60), st.integers(16_384, 10_000_000))
def test_no_more_than_the_bandwidth_goes_in_all_and_half_of_it_for_one_organisation(
    pieces: list[tuple[int, int, float]], rate: int
) -> None:
    bandwidth, now, sent = Bandwidth(rate), 0.0, Counter[int]()
    last: dict[int, float] = {}
    for org, size, pause_s in pieces:
        now += pause_s
        at = now + bandwidth.wait(now, ORGS[org], size)
        sent[org] += size
        assert at >= last.get(org, 0.0) - 1e-6, "pieces keep their order"
        last[org] = at
        assert sum(sent.values()) <= (max(last.values()) + limits.BURST_S) * rate + 1
        assert sent[org] <= (at + limits.BURST_S) * rate / 2 + 1


class Anything(RuleBasedStateMachine):
    """Whatever members say, and whichever legs come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.tokens: dict[bytes, Peer] = {}
        self.used: set[bytes] = set()
        self.legs: dict[int, Peer] = {}
        self.joined: dict[int, int] = {}
        self.number = 0

    def take(self, effects: list[object]) -> None:
        for effect in effects:
            if isinstance(effect, Cast):
                message = decode(effect.body)
                if isinstance(message, Granted | Called):
                    assert message.token not in self.tokens, "every token is new"
                    self.tokens[message.token] = self.world.linked.get(effect.to) or Peer(effect.to, ORGS[0])
            elif isinstance(effect, Join):
                assert effect.first in self.legs and effect.second in self.legs
                assert not {effect.first, effect.second} & {*self.joined, *self.joined.values()}
                assert self.legs[effect.first] != self.legs[effect.second]
                self.joined[effect.first], self.joined[effect.second] = effect.second, effect.first
            elif isinstance(effect, EndLeg):
                assert self.legs.pop(effect.leg, None) is not None, "it is closed once"
                self.joined.pop(effect.leg, None)
                self.world.step(Gone(effect.leg))

    @rule(caller=st.sampled_from(PEERS), to=st.sampled_from(PEERS))
    def want(self, caller: Peer, to: Peer) -> None:
        if caller.node in self.world.linked:
            self.take(self.world.hear(caller, Want(1, to.node)))

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), thief=st.one_of(st.none(), st.sampled_from(PEERS)))
    def come(self, data: st.DataObject, thief: Peer | None) -> None:
        token = data.draw(st.sampled_from(list(self.tokens)))
        who = thief or self.tokens[token]
        self.number += 1
        self.legs[self.number] = who
        effects = self.world.step(Came(self.number, who, token))
        good = not any(isinstance(effect, EndLeg) and effect.reason == "relay-token" for effect in effects)
        assert not (good and (token in self.used or who.node != self.tokens[token].node))
        if good:
            self.used.add(token)
        self.take(effects)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), peer=st.sampled_from(PEERS))
    def decline(self, data: st.DataObject, peer: Peer) -> None:
        self.take(self.world.hear(peer, Declined(data.draw(st.sampled_from(list(self.tokens))), "relay-declined")))

    @precondition(lambda self: self.legs)
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        leg = data.draw(st.sampled_from(list(self.legs)))
        del self.legs[leg]
        self.joined.pop(leg, None)
        self.take(self.world.step(Gone(leg)))

    @precondition(lambda self: self.legs)
    @rule(data=st.data())
    def use(self, data: st.DataObject) -> None:
        self.take(self.world.step(Carried(data.draw(st.sampled_from(list(self.legs))))))

    @rule(peer=st.sampled_from(PEERS))
    def unlink(self, peer: Peer) -> None:
        if self.world.linked.pop(peer.node, None) is None and peer is not ME:
            self.world.linked[peer.node] = peer

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds: float) -> None:
        self.take(self.world.later(seconds))

    @invariant()
    def within_bounds(self) -> None:
        carrying = self.world.relay.carrying
        pairs = list(carrying._pairs.values())
        callers, calleds = Counter(pair.caller.node for pair in pairs), Counter(pair.called.node for pair in pairs)
        assert (carrying._callers, carrying._calleds) == (callers, calleds)
        assert max(callers.values(), default=0) <= limits.PAIRS_PER_CALLER
        assert max(calleds.values(), default=0) <= limits.PAIRS_PER_CALLED
        both = Counter((pair.caller.org, pair.called.node) for pair in pairs)
        unjoined = Counter((pair.caller.org, pair.called.node) for pair in pairs if not pair.joined)
        assert (carrying._both, carrying._unjoined) == (both, unjoined)
        assert max(both.values(), default=0) <= limits.PAIRS_PER_ORG_AND_CALLED
        assert max(unjoined.values(), default=0) <= limits.UNJOINED_PER_ORG_AND_CALLED
        assert set(carrying._tokens.values()) == {number for number, pair in carrying._pairs.items() if pair.token}
        assert len(carrying._legs) <= 2 * len(pairs) and set(carrying._legs) <= set(self.legs)
        assert (self.world.relay.deadline() is None) == (not pairs)


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
