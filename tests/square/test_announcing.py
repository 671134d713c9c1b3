"""Announcements: those who listen hear what is new, signed by the node; what strangers publish goes nowhere, and costs them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import libp2p
import pytest
import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb.rpc_pb2 import RPC, Message
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.validators import signature_validator
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from meshos.consensus.ledger import light_client
from meshos.crypto import base58
from meshos.crypto.signing import Ed25519Verifier
from meshos.errors import MeshError, Refused
from meshos.node.runtime.square import announcing, limits
from meshos.node.runtime.square.upgrade import identity
from meshos.protocols.square import announcements, wire
from tests.square import hosts
from tests.square.hosts import HEADS, ROUTES, empty, ended, host, opened, still_serves, stranger
from tests.square.mesh import GENESIS, ME, MESH_KNOWN, answering, mesh

MESHSUB = "/meshsub/1.1.0"
SQUARE = answering(MESH_KNOWN)
SUBSCRIBE = wire.frame(RPC(subscriptions=[RPC.SubOpts(subscribe=True, topicid=HEADS)]).SerializeToString())


@pytest.fixture(autouse=True)
def news(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What the square has to tell; it looks for it often."""
    monkeypatch.setattr(announcing, "ANNOUNCE_S", 0.05)
    said = {HEADS: b"first"}
    monkeypatch.setattr(hosts, "NEWS", said)
    return said


@asynccontextmanager
async def gossiping(addresses: tuple[str, ...], at: int = 0) -> AsyncIterator[Any]:
    """py-libp2p's own gossipsub, connected and subscribed to heads."""
    theirs = libp2p.new_host(enable_quic=bool(at))
    gossip = GossipSub([TProtocol(MESHSUB)], 3, 2, 4)
    pubsub = Pubsub(theirs, gossip)
    async with theirs.run([]), background_trio_service(pubsub), background_trio_service(gossip):
        await pubsub.wait_until_ready()
        subscription = await pubsub.subscribe(HEADS)
        await theirs.connect(info_from_p2p_addr(Multiaddr(addresses[at])))
        yield subscription
        await theirs.close()


async def test_who_listens_with_a_plain_libp2p_program_hears_what_is_new(nursery: trio.Nursery, news: dict[str, bytes]) -> None:
    of = await opened(nursery)
    async with gossiping(of.addresses) as subscription:
        with trio.fail_after(10):
            first = await subscription.get()
            assert first.data == b"first" and signature_validator(first)
            assert first.from_id == base58.decode(ME.node)
            news[HEADS] = b"second"
            assert (await subscription.get()).data == b"second"
    await empty(of)


async def speaks(client: Any) -> Any:
    """A stream on which a stranger gossips; what comes back is not taken."""
    return await client.open(MESHSUB)


@pytest.mark.parametrize(("said", "name"), [(b"\xff\xff\xff", "square-bad-gossip"), (bytes(announcing.RPC_BYTES + 1), "square-too-large")])
async def test_what_is_no_gossip_ends_the_stream(said: bytes, name: str, nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    async with stranger(of) as client:
        stream = await speaks(client)
        await stream.write(wire.frame(said))
        await ended(of, name)
    await empty(of)


async def test_a_stranger_that_publishes_loses_its_stream_and_nobody_hears_it(nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    async with gossiping(of.addresses) as subscription, stranger(of) as client:
        with trio.fail_after(10):
            await subscription.get()
        stream = await speaks(client)
        spam = RPC(publish=[Message(from_id=b"me", data=b"buy this", topicIDs=[HEADS])]).SerializeToString()
        with pytest.raises(MeshError):
            for _ in range(40):
                await stream.write(wire.frame(spam))
                await trio.sleep(0.005)
        await ended(of, "square-unwanted-message")
        with trio.move_on_after(0.2):
            raise AssertionError((await subscription.get()).data)
    await still_serves(of)


def test_what_a_peer_passes_on_of_a_node_costs_it_nothing() -> None:
    announcer: Any = announcing.Announcer.__new__(announcing.Announcer)
    announcer._news, announcer._is_node = lambda: {HEADS: b""}, ROUTES.knows
    send, _ = trio.open_memory_channel[bytes](1)
    listener = announcing.Listener(send)
    passed = RPC(publish=[Message(from_id=ROUTES.nearest(b"x")[0].peer, data=b"a head", topicIDs=[HEADS])] * 100)
    announcer._take(passed.SerializeToString(), listener)
    assert listener.score == announcing.SCORE
    made_up = RPC(publish=[Message(from_id=b"\x00" * 38)] * (announcing.SCORE + 1))
    with pytest.raises(Refused) as caught:
        announcer._take(made_up.SerializeToString(), listener)
    assert caught.value.name == "square-unwanted-message"


async def test_there_is_room_for_so_many_listeners(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "LISTENERS", 1)
    of = await opened(nursery)
    async with gossiping(of.addresses) as subscription, stranger(of) as client:
        with trio.fail_after(10):
            await subscription.get()
        await speaks(client)
        await ended(of, "busy")
        assert host(of).statistics()["listeners"] == 1


async def test_a_peer_has_two_places_and_no_more(nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    async with stranger(of) as client:
        for _ in range(announcing.LISTENERS_A_PEER + 1):
            await speaks(client)
        await ended(of, "busy")
        assert host(of).statistics()["listeners"] == announcing.LISTENERS_A_PEER
    await empty(of)


async def test_an_address_has_a_part_of_the_places_however_many_peers_it_is(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "LISTENERS_AN_ADDRESS", 3)
    of = await opened(nursery)
    async with stranger(of) as first, stranger(of) as second:
        for client in (first, second, first, second):
            await speaks(client)
        await ended(of, "busy")
        assert host(of).statistics()["listeners"] == 3
    await empty(of)


async def test_who_listens_for_nothing_is_not_kept(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    of = await opened(nursery)
    async with stranger(of) as client:
        await (await speaks(client)).write(SUBSCRIBE)
        monkeypatch.setattr(limits, "STREAM_IDLE_S", 0.3)
        await (await speaks(client)).write(SUBSCRIBE.replace(b"heads", b"tails"))
        await until(lambda: host(of).statistics()["listeners"] == 2)
        await until(lambda: host(of).statistics()["listeners"] == 1)
        await trio.sleep(0.4)
        assert host(of).statistics()["listeners"] == 1, "who listens for something is"
    await empty(of)


async def until(condition: Any) -> None:
    with trio.fail_after(10):
        while not condition():
            await trio.sleep(0.01)


async def test_it_is_looked_for_news_as_often_however_many_come(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "ANNOUNCE_S", 600.0)
    of = await opened(nursery)
    async with stranger(of) as client:
        await client.open("/ipfs/ping/1.0.0")
        announcer: Any = next(work for work in host(of).background).__self__  # type: ignore[attr-defined]
        looked = 0

        def look() -> dict[str, bytes]:
            nonlocal looked
            looked += 1
            return {HEADS: b"first"}

        announcer._news = look
        for number in range(6):
            stream = await speaks(client)
            await stream.write(SUBSCRIBE)
            await until(lambda number=number: announcer.announced == 1 and any(one.topics for one in announcer._listeners))
            await stream.reset()
            await until(lambda: not announcer._listeners)
        assert looked == 1


def test_the_numbers_of_announcements_begin_anywhere_and_tell_nothing_of_a_key() -> None:
    own = identity(bytes(32))
    first, second = (announcing.Announcer(own, SQUARE, (), dict, lambda peer: False)._sequence >> 24 for _ in range(2))
    assert first != second and int.from_bytes(own.noise.noise_privkey.to_bytes()[:4], "big") not in (first, second)


async def test_who_does_not_take_announcements_misses_them_and_holds_nobody_up(nursery: trio.Nursery, news: dict[str, bytes]) -> None:
    of = await opened(nursery)
    async with stranger(of) as client:
        stream = await speaks(client)
        await stream.write(SUBSCRIBE)
        with trio.fail_after(10):
            while not host(of).statistics()["announcements_dropped"]:
                news[HEADS] = str(trio.current_time()).encode()
                await trio.sleep(0.02)
    await empty(of)


# -- what is announced -------------------------------------------------------------------------------------------------


def test_an_announced_head_proves_itself() -> None:
    head = mesh().known.head()
    assert head is not None
    said = announcements.read_head_announcement(announcements.of_head(head))
    light_client.check(light_client.begin(GENESIS), said, Ed25519Verifier())


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x82\x40\x00", b"\x82\x41a\x20", bytes(1 << 16)])
def test_what_announces_nothing_is_refused(data: bytes) -> None:
    for read in (announcements.read_head_announcement, announcements.read_directory_announcement):
        with pytest.raises(Refused):
            read(data)


def test_a_directory_is_announced_by_its_digest() -> None:
    assert announcements.read_directory_announcement(announcements.of_directory(bytes(16), 7)) == (bytes(16), 7)
