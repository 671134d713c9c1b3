"""Kademlia in the mesh's own name: the nearest nodes of the mesh are told, and nothing of a stranger is kept."""

from types import SimpleNamespace
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from multiaddr import Multiaddr

from meshos import cbor
from meshos.crypto import base58
from meshos.errors import MeshError, Refused, Unreachable
from meshos.ids import NodeId
from meshos.node.runtime.square import routing
from meshos.node.strangers import MeshRoutes, meeting_points
from meshos.protocols.square import wire
from meshos.protocols.square.routes import NEAREST, TOPIC, node_at, note_of, place, read_note, routes_of
from tests.square.hosts import ROUTES, empty, ended, opened, still_serves, stranger
from tests.square.mesh import GENESIS, ME

KAD = routing.protocol_of(GENESIS.hash)


def ask(**fields: object) -> Message:
    return Message.FromString(routing.answer(Message(**fields).SerializeToString(), ROUTES))


@given(st.binary(min_size=1, max_size=60))
def test_the_nearest_nodes_are_those_of_the_least_distance(key: bytes) -> None:
    found = ROUTES.nearest(key)
    distances = [place(route.peer) ^ place(key) for route in ROUTES.nearest(key, len(ROUTES))]
    assert len(found) == NEAREST and distances == sorted(distances)
    assert [route.peer for route in found] == [route.peer for route in ROUTES.nearest(key, len(ROUTES))[:NEAREST]]


def test_a_node_that_is_looked_for_comes_first_with_its_address() -> None:
    wanted = ROUTES.nearest(b"any")[7]
    said = ask(type=Message.FIND_NODE, key=wanted.peer)
    assert said.type == Message.FIND_NODE and said.closerPeers[0].id == wanted.peer
    assert [str(Multiaddr(address)) for address in said.closerPeers[0].addrs] == list(wanted.addresses)
    assert len(said.closerPeers) == NEAREST


@pytest.mark.parametrize("kind", [Message.GET_VALUE, Message.GET_PROVIDERS])
def test_who_looks_for_a_record_is_sent_on_and_gets_none(kind: int) -> None:
    said = ask(type=kind, key=b"some content")
    assert not said.HasField("record") and not said.providerPeers and len(said.closerPeers) == NEAREST


@pytest.mark.parametrize("kind", [Message.PUT_VALUE, Message.ADD_PROVIDER])
def test_nothing_is_kept_for_a_stranger(kind: int) -> None:
    with pytest.raises(Refused) as caught:
        ask(type=kind, key=b"key", record={"key": b"key", "value": b"v" * 100})
    assert caught.value.name == "square-not-kept"


@pytest.mark.parametrize(
    "request_", [b"\xff\xff", b"\x12\x7f", Message(type=Message.FIND_NODE).SerializeToString(), bytes([0x20, 4, 0x12, 0x81, 1, *[0] * 129])]
)
def test_what_is_no_question_is_refused(request_: bytes) -> None:
    with pytest.raises(Refused) as caught:
        routing.answer(request_, ROUTES)
    assert caught.value.name in ("square-bad-kademlia", "square-not-kept")


@given(st.binary(max_size=80))
def test_no_bytes_of_a_stranger_are_an_error(request_: bytes) -> None:
    try:
        routing.answer(request_, ROUTES)
    except Refused:
        return


async def test_a_stranger_finds_a_node_and_an_abuser_loses_the_stream(nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    async with stranger(of) as asking:
        stream = await asking.open(KAD)
        for _ in range(3):
            await stream.write(wire.frame(Message(type=Message.FIND_NODE, key=base58.decode(ME.node)).SerializeToString()))
            answer = await stream.frame(64 << 10, idle_s=5, whole_s=5)
            assert answer is not None and len(Message.FromString(answer).closerPeers) == NEAREST
        await stream.write(wire.frame(Message(type=Message.PUT_VALUE, key=b"k").SerializeToString()))
        with pytest.raises((MeshError, AssertionError)):
            assert await stream.frame(64 << 10, idle_s=5, whole_s=5) is not None
        await ended(of, "square-not-kept")
        flood = await asking.open(KAD)
        await flood.write(wire.frame(bytes(routing.MESSAGE_BYTES + 1)))
        await ended(of, "square-too-large")
    await empty(of)
    await still_serves(of)


async def test_the_dht_of_the_world_is_not_spoken(nursery: trio.Nursery) -> None:
    async with stranger(await opened(nursery)) as asking:
        with pytest.raises((Refused, Unreachable)) as caught:
            await asking.open("/ipfs/kad/1.0.0")
    assert caught.value.name == "square-unknown-protocol"


# -- what nodes say of themselves --------------------------------------------------------------------------------------


def test_a_node_says_where_it_is_without_its_id_and_without_addresses_that_nobody_can_dial() -> None:
    note = note_of([f"/ip4/192.0.2.1/tcp/8401/p2p/{ME.node}", f"/ip4/0.0.0.0/tcp/8401/p2p/{ME.node}"])
    assert read_note(ME.node, note) == ("/ip4/192.0.2.1/tcp/8401",)


def test_a_note_stays_small() -> None:
    assert len(note_of([f"/dns/{'x' * 200}.example/tcp/8401"] * 4)) <= 256


@pytest.mark.parametrize(
    "note", [b"", cbor.encode({}), cbor.encode([1]), cbor.encode(["/ip4/192.0.2.1/tcp/1"] * 5), cbor.encode(["http://x"]), bytes(300)]
)
def test_a_note_that_is_none_is_passed_over(note: bytes) -> None:
    assert len(routes_of([(ME.node, note)])) == 0


@pytest.mark.parametrize("place_", ["/ip4/999.1.1.1/tcp/8401", "/ip4/192.0.2.1/tcp/99999", "/ip4/192.0.2.1/tcp/0", "/ip6/1:2:3/tcp/1"])
def test_a_place_that_there_cannot_be_is_passed_over(place_: str) -> None:
    with pytest.raises(Refused) as caught:
        read_note(ME.node, note_of([place_]))
    assert caught.value.name == "square-bad-note"
    assert len(routes_of([(ME.node, note_of([place_]))])) == 0


@pytest.mark.parametrize("place_", ["/ip4/192.0.2.1/tcp/1", "/ip6/2001:db8::1/udp/65535/quic-v1", "/dns4/node.example/tcp/8401"])
def test_a_place_that_there_can_be_is_told(place_: str) -> None:
    (told,) = Message.FromString(_found([place_])).closerPeers
    assert [str(Multiaddr(address)) for address in told.addrs] == [place_]


@pytest.mark.parametrize("name", ["....", "a" * 253, "xn--a"])
def test_a_node_whose_name_cannot_be_written_harms_nobody_but_itself(name: str) -> None:
    said = Message.FromString(_found([f"/dns4/{name}/tcp/8401"], others=True))
    assert {peer.id for peer in said.closerPeers} == {route.peer for route in ROUTES.nearest(b"k", 3)}


def _found(places: list[str], *, others: bool = False) -> bytes:
    known = [(route.node, note_of(route.addresses)) for route in ROUTES.nearest(b"k", 3)] if others else []
    request = Message(type=Message.FIND_NODE, key=b"k").SerializeToString()
    return routing.answer(request, routes_of([(ME.node, cbor.encode(places)), *known]))


# -- meeting points of the genesis ---------------------------------------------------------------------------------------

MEETING = [f"/ip4/198.51.100.{place}/tcp/8401/p2p/{route.node}" for place, route in enumerate(ROUTES.nearest(b"any", 3))]


def test_while_few_nodes_are_known_those_that_the_genesis_names_are_told() -> None:
    found = routes_of([(ME.node, note_of(["/ip4/192.0.2.1/tcp/8401"]))], [*MEETING, MEETING[0].replace("tcp/8401", "udp/8401/quic-v1")])
    assert len(found) == 4
    asked = Message(type=Message.FIND_NODE, key=base58.decode(node_at(MEETING[0]))).SerializeToString()
    first = Message.FromString(routing.answer(asked, found)).closerPeers[0]
    assert [str(Multiaddr(address)) for address in first.addrs] == ["/ip4/198.51.100.0/tcp/8401", "/ip4/198.51.100.0/udp/8401/quic-v1"]


def test_a_node_is_where_it_says_itself_and_not_where_the_genesis_has_it() -> None:
    node = node_at(MEETING[0])
    (route,) = routes_of([(node, note_of(["/ip4/192.0.2.9/tcp/8401"]))], MEETING[:1]).nearest(b"any")
    assert route.addresses == ("/ip4/192.0.2.9/tcp/8401",)


def test_where_enough_nodes_are_known_the_genesis_names_none() -> None:
    notes = [(route.node, note_of(route.addresses)) for route in ROUTES.nearest(b"other", NEAREST + 3)]
    here = {node for node, _ in notes}
    found = routes_of(notes, [address for address in MEETING if node_at(address) not in here])
    assert {route.node for route in found.nearest(b"x", 100)} == here


async def test_a_meeting_point_that_is_known_to_be_gone_is_not_told() -> None:
    first, second, third = map(node_at, MEETING)
    members: list[Any] = [
        SimpleNamespace(node_id=ME.node, routable=False, notes=()),
        SimpleNamespace(node_id=first, routable=False, notes=()),
        SimpleNamespace(node_id=second, routable=True, notes=((TOPIC, note_of(["/ip4/192.0.2.9/tcp/8401"])),)),
    ]
    told = {route.node: route.addresses for route in MeshRoutes(lambda: members, ME.node, MEETING)().nearest(b"any")}
    assert told == {second: ("/ip4/192.0.2.9/tcp/8401",), third: ("/ip4/198.51.100.2/tcp/8401",)}


def test_a_meeting_point_on_its_own_machine_is_told_to_nobody_elsewhere() -> None:
    testnet = ["/ip4/127.0.0.1/tcp/8401", "/ip6/::1/tcp/8401", "/dns/localhost/tcp/8401", "/ip4/192.0.2.1/tcp/8401", "/dns/a.example/tcp/1"]
    assert meeting_points(testnet, "127.0.0.1") == tuple(testnet)
    assert meeting_points(testnet, "192.0.2.9") == tuple(testnet[3:])


def test_a_node_without_an_ed25519_id_is_passed_over() -> None:
    assert len(routes_of([(NodeId("n1"), note_of(["/ip4/192.0.2.1/tcp/8401"]))])) == 0
