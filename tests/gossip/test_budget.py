"""What a member can do to a node by gossip: its own budget, and its organisation's; the others are heard as before.

A real socket, real boxes and real signatures; time stands still, so that no bucket fills again unless a test says so.
"""

import random
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing

from meshos.crypto.boxes import Boxes
from meshos.crypto.keys import SigningKey, node_id
from meshos.crypto.signing import Claim, Ed25519Verifier, sign
from meshos.ids import NodeId, OrgDid, Peer
from meshos.node.runtime.gossip import Gossip
from meshos.presets import LAN
from meshos.protocols.membership import codec, limits
from meshos.protocols.membership.budget import GossipBudget
from meshos.protocols.membership.codec import encode_datagram
from meshos.protocols.membership.commands import Certified
from meshos.protocols.membership.events import DatagramReceived, Message, PeerProved, Ping
from meshos.protocols.membership.events import Gossip as News
from meshos.protocols.membership.machine import Membership, domain
from meshos.protocols.membership.statements import Kind, NodeFacts
from meshos.storage.memory import MemoryStore

HASH = b"g" * 32
OWN, BAD, GOOD = (OrgDid(f"did:mesh:enterprise:{name}") for name in ("own", "bad", "good"))
NODE_BURST, ORG_BURST = int(limits.DATAGRAMS_OF_NODE[1]), int(limits.DATAGRAMS_OF_ORG[1])
CHECKS_BURST = int(limits.CHECKS_OF_NODE[1])


class CountingVerifier(Ed25519Verifier):
    """Verifies, and counts what it was asked for."""

    def __init__(self) -> None:
        self.checked = 0

    def verify_many(self, claims: Sequence[Claim]) -> list[bool]:
        self.checked += len(claims)
        return super().verify_many(claims)


@dataclass
class Sender:
    """Another node, with a socket of its own."""

    org: OrgDid
    key: SigningKey
    boxes: Boxes
    to: NodeId
    address: tuple[str, int]
    own: socket.socket = field(default_factory=lambda: socket.socket(type=socket.SOCK_DGRAM))

    @property
    def peer(self) -> Peer:
        return Peer(node_id(self.key.public), self.org)

    def send(self, message: Message) -> None:
        self.own.sendto(self.boxes.seal(self.to, encode_datagram(message)), self.address)

    def lies(self, number: int) -> tuple[bytes, ...]:
        """News that nobody signed: each costs whoever hears it a signature check, and can be made up without end."""
        me = self.peer.node
        made = [codec.statement(codec.word_payload(Kind.SUSPECT, self.to, 10**9 + number * 100 + i, me), bytes(64)) for i in range(4)]
        return tuple(said.blob for said in made)

    def news(self, incarnation: int) -> tuple[bytes, ...]:
        """It is alive."""
        facts = NodeFacts(self.org, "name", "127.0.0.1:1", "127.0.0.1:2")
        payload = codec.alive_payload(self.peer.node, incarnation, 0, facts)
        return (codec.statement(payload, sign(self.key, domain(HASH), payload)).blob,)


class Node:
    """The node that is flooded: its socket and its machine."""

    def __init__(self) -> None:
        self.key = SigningKey.generate()
        self.me = node_id(self.key.public)
        facts = NodeFacts(OWN, "me", "127.0.0.1:3", "127.0.0.1:4")
        mine = Certified(self.me, OWN, b"certificate")
        store, rng = MemoryStore(random.Random(1)), random.Random(1)
        self.membership = Membership(mine, facts, domain=domain(HASH), timing=LAN, seeds=[], rng=rng, view=store)
        self.verifier = CountingVerifier()
        self.heard: list[DatagramReceived] = []
        self.senders: list[Sender] = []
        self.gossip = Gossip(Boxes(self.key, HASH), self.membership, self.verifier, self.heard.append, lambda node: False)
        self.gossip.open("127.0.0.1", 0)
        assert self.gossip._socket is not None
        self.address = self.gossip._socket.getsockname()

    def met(self, org: OrgDid) -> Sender:
        """A node of ``org`` whose certificate was checked."""
        key = SigningKey.generate()
        sender = Sender(org, key, Boxes(key, HASH), self.me, self.address)
        self.senders.append(sender)
        self.membership.step(0.0, PeerProved(sender.peer, b"certificate of " + sender.peer.node.encode()))
        return sender

    async def receive(self, sender: Sender, count: int, messages: Sequence[Message] = (Ping(1),)) -> int:
        """``sender`` sends so many datagrams, a few at a time, so that the kernel loses none; gives how many of them were heard."""
        before = len(self.heard)
        for at in range(count):
            sender.send(messages[at % len(messages)])
            if at % 32 == 31 or at == count - 1:
                await self._until_read()
        return len(self.heard) - before

    async def _until_read(self) -> None:
        assert self.gossip._socket is not None
        for _ in range(1000):
            await trio.lowlevel.checkpoint()
            try:
                self.gossip._socket.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                return
        raise AssertionError("the node reads no more")

    def count(self, name: str) -> int:
        return self.gossip.statistics().get(name, 0)


@pytest.fixture
async def node(nursery: trio.Nursery) -> AsyncIterator[Node]:
    """A test also takes ``mock_clock``, by which time stands still."""
    node = Node()
    await nursery.start(node.gossip.run)
    yield node
    for sender in node.senders:
        sender.own.close()


async def test_a_node_that_floods_silences_itself_alone(node: Node, mock_clock: trio.testing.MockClock) -> None:
    bad, other, good = node.met(BAD), node.met(BAD), node.met(GOOD)
    assert await node.receive(bad, NODE_BURST + 200) == NODE_BURST
    assert node.count("over_budget") == 200
    assert await node.receive(other, 10) == await node.receive(good, 10) == 10
    mock_clock.jump(0.5)
    assert await node.receive(bad, 200) == limits.DATAGRAMS_OF_NODE[0] / 2, "heard again as time goes by"


async def test_an_organisation_that_floods_from_many_nodes_silences_itself_alone(node: Node, mock_clock: trio.testing.MockClock) -> None:
    heard = [await node.receive(node.met(BAD), NODE_BURST) for _ in range(4)]
    assert sum(heard) == ORG_BURST and heard[-1] == 0
    assert await node.receive(node.met(GOOD), NODE_BURST) == NODE_BURST


async def test_lies_are_checked_within_a_budget_and_others_news_still_count(node: Node, mock_clock: trio.testing.MockClock) -> None:
    bad, good = node.met(BAD), node.met(GOOD)
    count = CHECKS_BURST // 4 + 100
    assert await node.receive(bad, count, [News(bad.lies(number)) for number in range(count)]) == count, "it lives: that is proved"
    assert node.verifier.checked == CHECKS_BURST
    assert node.count("over_budget_checks") == 100
    assert all(event.verified == () for event in node.heard)
    assert await node.receive(bad, 1, [News(bad.news(5))]) == 1 and node.heard[-1].verified == (), "its true news have to wait too"
    assert await node.receive(good, 1, [News(good.news(5))]) == 1
    assert [said.signer for said in node.heard[-1].verified] == [good.peer.node]


async def test_who_only_claims_to_be_somebody_does_not_spend_his_budget(node: Node, mock_clock: trio.testing.MockClock) -> None:
    good = node.met(GOOD)
    honest = good.boxes.seal(node.me, encode_datagram(Ping(1)))
    for _ in range(NODE_BURST // 32):
        for _ in range(32):
            good.own.sendto(honest[:-1] + bytes([honest[-1] ^ 1]), node.address)
        await node._until_read()
    assert node.count("refused_bad-datagram") == NODE_BURST // 32 * 32
    assert await node.receive(good, NODE_BURST) == NODE_BURST


def test_what_is_remembered_of_senders_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CREDENTIALS", 3)
    budget = GossipBudget()
    for number in range(10):
        assert budget.datagram(Peer(NodeId(f"n{number}"), GOOD), 0.0)
    assert len(budget._datagrams._of_node) == 3


def test_a_refusal_takes_nothing() -> None:
    budget, sender = GossipBudget(), Peer(NodeId("n"), BAD)
    assert budget.checks(sender, CHECKS_BURST - 1, 0.0)
    assert not budget.checks(sender, 2, 0.0) and budget.checks(sender, 1, 0.0)
    assert budget.statistics() == {"over_budget": 0, "over_budget_checks": 1}


async def test_a_bug_that_a_datagram_meets_ends_that_datagram_alone(
    node: Node, mock_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    del mock_clock
    bad, good = node.met(BAD), node.met(GOOD)
    organisation_of = node.membership.organisation_of

    def buggy(sender: NodeId) -> OrgDid | None:
        if sender == bad.peer.node:
            raise KeyError("a bug")
        return organisation_of(sender)

    monkeypatch.setattr(node.membership, "organisation_of", buggy)
    assert await node.receive(bad, 3) == 0 and await node.receive(good, 3) == 3
    assert node.count("bugs") == 3
    assert [(record.message, record.exc_info is not None) for record in caplog.records] == [("bug", True)] * 3
