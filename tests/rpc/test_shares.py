"""What an organisation may use of a node that serves it, however many nodes of its own it asks from."""

import random

import pytest

from meshos.effects import Err
from meshos.ids import NodeId, OrgDid, Peer
from meshos.protocols.rpc import limits
from meshos.protocols.rpc.events import MessageReceived, Reply, Request, SendMessage
from meshos.protocols.rpc.machine import Rpc
from tests.rpc.network import Network
from tests.rpc.test_machine import BIG, ECHO, SLOW, World


def from_org(network: Network, org: str, number: int, protocol: str, body: bytes = b"x") -> float:
    """A request of one more node of ``org`` comes to b; how many run there now."""
    peer = Peer(NodeId(f"{org}-{number}"), OrgDid(f"did:mesh:enterprise:{org}"))
    network.step("b", "rpc", MessageReceived(peer, Request(number.to_bytes(16, "big"), protocol, body, 1000)))
    running = network.nodes["b"].machines["rpc"].statistics()["running"]
    assert isinstance(running, int)
    return running


def test_an_organisation_with_many_nodes_leaves_room_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshos.protocols.rpc.serving.SERVED", 10)
    network = Network("b", World().services)
    taken = [[from_org(network, org, number, SLOW) for number in range(20)][-1] for org in ("x", "y", "z")]
    assert taken == [5, 5 + 3, 5 + 3 + 1], "each at most as many as are left for all others"
    network.run(2.0)
    serving = network.nodes["b"].machines["rpc"]._serving
    assert not serving._of_org and not serving._of_peer and serving._bytes == 0
    assert from_org(network, "x", 99, SLOW) == 1, "and when they have ended there is room again"


def test_the_bodies_of_an_organisation_leave_room_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshos.protocols.rpc.serving.SERVED_BYTES", 10_000)
    network = Network("b", World().services)
    assert [from_org(network, "x", number, SLOW, bytes(1000)) for number in range(8)][-1] == 5
    assert from_org(network, "y", 1, SLOW, bytes(5000)) == 6
    assert from_org(network, "z", 1, SLOW, bytes(1)) == 6, "until it is full"


def test_an_organisation_with_many_nodes_cannot_make_others_be_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshos.protocols.rpc.records.RECORDS", 10)
    world = World()
    network = Network("b", world.services)
    from_org(network, "y", 1, ECHO, b"once")
    for number in range(50):
        from_org(network, "x", number, ECHO)
    from_org(network, "y", 1, ECHO, b"once")
    assert world.runs[b"once"] == 1 and network.nodes["b"].machines["rpc"].statistics()["records"] == 10
    network.run(30.0)
    records = network.nodes["b"].machines["rpc"]._serving.records
    assert len(records) == 0 and not records._of_org


def test_the_requests_of_a_protocol_are_bounded_in_size() -> None:
    def anybody(peer: Peer) -> bool:
        return True

    work = limits.BODY_BYTES["work"]
    peer = Peer(NodeId("a"), OrgDid("did:mesh:enterprise:org-a"))
    allowed = {ECHO: anybody, BIG: anybody}
    cases: list[tuple[dict[str, int] | None, str, int, bool]] = [
        ({BIG: 2 * work}, ECHO, work, True),
        ({BIG: 2 * work}, ECHO, work + 1, False),
        ({BIG: 2 * work}, BIG, 2 * work, True),
        ({BIG: 2 * work}, BIG, 2 * work + 1, False),
        ({ECHO: 10}, ECHO, 11, False),
        (None, ECHO, 2 * work, True),
    ]
    for bodies, protocol, size, fits in cases:
        rpc = Rpc(peer, allowed, random.Random(1), bodies)
        other = Peer(NodeId("b"), OrgDid("did:mesh:enterprise:org-b"))
        (effect,) = rpc.step(0.0, MessageReceived(other, Request(bytes(16), protocol, bytes(size), 1000)))
        if fits:
            assert not isinstance(effect, SendMessage) and rpc.statistics()["running"] == 1
        else:
            assert isinstance(effect, SendMessage) and isinstance(effect.message, Reply) and isinstance(effect.message.outcome, Err)
            error = effect.message.outcome.error
            assert (error.name, error.outcome, rpc.statistics()["running"]) == ("request-too-large", "not_done", 0)
