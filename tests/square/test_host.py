"""The square on a real socket: who is let in, who is refused, and that nothing of anybody stays."""

import gc
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import libp2p
import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from libp2p.security.secio import transport as secio
from libp2p.security.tls.transport import PROTOCOL_ID as TLS
from libp2p.security.tls.transport import TLSTransport
from libp2p.stream_muxer.mplex.mplex import MPLEX_PROTOCOL_ID, Mplex
from multiaddr import Multiaddr

from meshos.errors import MeshError, Refused, Unreachable
from meshos.node.runtime.square import asking as square_asking
from meshos.node.runtime.square import following, opening, serving
from meshos.node.runtime.square.asking import dial
from meshos.node.runtime.square.following import Follower, describe_mesh
from meshos.node.runtime.square.places import Where, where
from meshos.node.runtime.square.square import Square
from meshos.node.runtime.square.streams import Stream
from meshos.protocols.square import describe, wire
from meshos.protocols.square import limits as protocol_limits
from meshos.protocols.square.answering import Asker
from meshos.protocols.square.budget import Rate, Rates
from tests.square.hosts import ECHO, empty, host, opened, port, square, still_serves, stranger
from tests.square.mesh import ACCOUNT, DID, GENESIS, ME

ASK = wire.encode_request({"n": 1})


async def test_a_stranger_who_knows_the_genesis_hash_alone_proves_what_the_ledger_says(nursery: trio.Nursery, quic: bool) -> None:
    async with stranger(await opened(nursery), quic=quic) as asking:
        assert (await describe_mesh(asking)).genesis == GENESIS.hash
        client = await Follower.begin(asking, GENESIS.hash)
        assert client.trusted.validators.epoch == 1 and client.head is not None
        assert (await client.prove(ACCOUNT)).value is not None
        assert (await client.resolve(DID))[0]["id"] == DID


async def test_who_needs_more_than_is_told_at_once_asks_again(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol_limits, "GENESIS_PIECE_BYTES", 300)
    monkeypatch.setattr(describe, "LEAST_PIECE_BYTES", 1)
    monkeypatch.setattr(following, "PAUSE_S", 0.1)
    of = await opened(nursery, square(Rates(Rate(40, 20), Rate(1_000, 1_000), Rate(1_000, 1_000))))
    async with stranger(of) as asking:
        assert (await Follower.begin(asking, GENESIS.hash)).head is not None
    assert of._answering.refused["square-rate"] > 0


async def test_streams_that_are_opened_at_once_are_different_ones(nursery: trio.Nursery, quic: bool) -> None:
    async with stranger(await opened(nursery), quic=quic) as asking:
        streams: list[Any] = [await asking._muxed.open_stream() for _ in range(3)]
        assert len({one.number if quic else one.stream_id for one in streams}) == 3


async def test_a_square_of_another_mesh_is_refused(nursery: trio.Nursery) -> None:
    async with stranger(await opened(nursery)) as asking:
        with pytest.raises(Refused) as caught:
            await Follower.begin(asking, bytes(32))
    assert caught.value.name == "wrong-genesis"


async def test_libp2p_is_loaded_for_the_first_stranger_only(nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    assert of._open is not None and of._open.host is None and of.visitors == 0
    await still_serves(of)
    assert of._open.host is not None


def test_where_a_square_is_said_to_be_is_read_without_libp2p() -> None:
    """A mistyped address costs no second of loading."""
    read = "import sys; from meshos.node.runtime.square.places import where; where('192.0.2.1:1'); print('libp2p' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_what_libp2p_brings_is_frozen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    did: list[str] = []
    monkeypatch.setattr(gc, "collect", lambda: did.append("collect"))
    monkeypatch.setattr(gc, "freeze", lambda: did.append("freeze"))
    monkeypatch.delitem(sys.modules, opening.__name__)
    of = square()
    for _ in range(3):
        assert of._load().__name__ == opening.__name__
    assert did == ["collect", "freeze"]


async def test_identify_tells_a_visitor_of_this_network_where_it_was_seen(nursery: trio.Nursery) -> None:
    """Its address has a zone, which is a name of this machine's own."""
    of = await opened(nursery)
    await still_serves(of)

    class Written:
        """A stream that is written to."""

        def __init__(self) -> None:
            self.data = b""

        async def write(self, data: bytes) -> None:
            self.data += data

    written: Any = Written()
    identify = host(of).handlers[serving.IDENTIFY]
    await identify(Stream(written), Asker("12D3KooWStranger", "fe80::1%eth0"))
    length = wire.length_of(written.data[:4], 4096)
    assert length is not None
    said = Identify.FromString(written.data[length.size :])
    assert str(Multiaddr(said.observed_addr)) == "/ip6/fe80::1/tcp/0"


async def test_requests_follow_one_another_on_a_stream(nursery: trio.Nursery, quic: bool) -> None:
    of = await opened(nursery)
    async with stranger(of, quic=quic) as asking:
        for number in range(20):
            answer = await asking.ask(ECHO, wire.encode_request({"n": number}))
            assert isinstance(answer, dict) and answer["fields"] == {"n": number} and answer["address"] == "127.0.0.1"
        assert host(of).statistics()["streams"] == 1
    await empty(of)


async def test_who_asks_is_who_proved_the_key(nursery: trio.Nursery, quic: bool) -> None:
    of = await opened(nursery)
    async with stranger(of, bytes(range(32)), quic=quic) as asking:
        answer = await asking.ask(ECHO, ASK)
        assert isinstance(answer, dict) and answer["peer"] == ME.node and asking.peer == ME.node


async def test_another_key_than_that_of_the_address_is_refused(nursery: trio.Nursery, quic: bool) -> None:
    of = await opened(nursery)
    other = "12D3KooWKo4sfm2UEsZFcFECzGhH7N79etMRSv8j3tLMqQ4eZB3L"
    with pytest.raises(Refused) as caught:
        async with dial(Where("127.0.0.1", port(of), other, quic)):
            raise AssertionError("it was let in")
    assert caught.value.name == "square-bad-handshake"


@pytest.mark.parametrize("protocol", ["/meshos/tasks/1", "/meshos/directory/1", "/meshos/pbft/1", "/meshos/membership/1", "x" * 250])
async def test_no_member_protocol_is_spoken(protocol: str, nursery: trio.Nursery, quic: bool) -> None:
    of = await opened(nursery)
    async with stranger(of, quic=quic) as asking:
        with pytest.raises(Refused) as caught:
            await asking.ask(protocol, ASK)
    assert caught.value.name == "square-unknown-protocol"
    await empty(of)


# -- plain py-libp2p ---------------------------------------------------------------------------------------------------


async def connected(of: Square, act: Callable[[Any, Any], Any] | None = None, *, at: int = 0, **options: Any) -> Any:
    """Have py-libp2p's own host dial the square."""
    theirs = libp2p.new_host(**options)
    info = info_from_p2p_addr(Multiaddr(of.addresses[at]))
    async with theirs.run([]):
        try:
            with trio.fail_after(8):
                await theirs.connect(info)
                return None if act is None else await act(theirs, info.peer_id)
        finally:
            await theirs.close()


async def test_a_plain_libp2p_program_is_served_and_told_who_this_is(nursery: trio.Nursery, quic: bool) -> None:
    async def act(theirs: Any, peer: Any) -> None:
        stream = await theirs.new_stream(peer, [TProtocol(ECHO)])
        await stream.write(wire.frame(ASK))
        answer = await stream.read(4096)
        assert b"fields" in answer
        ping = await theirs.new_stream(peer, [TProtocol("/ipfs/ping/1.0.0")])
        await ping.write(bytes(range(32)))
        assert await ping.read(32) == bytes(range(32))
        while not (protocols := theirs.get_peerstore().get_protocols(peer)):
            await trio.sleep(0.02)
        assert {ECHO, describe.NAME, "/ipfs/ping/1.0.0"} <= set(protocols)

    of = await opened(nursery)
    await connected(of, act, at=int(quic), enable_quic=quic)
    await empty(of)


KEYS = create_new_key_pair()


@pytest.mark.parametrize(
    ("name", "transport"),
    [
        (PLAINTEXT_PROTOCOL_ID, lambda: InsecureTransport(KEYS)),
        (secio.ID, lambda: secio.Transport(KEYS)),
        (TLS, lambda: TLSTransport(KEYS)),
    ],
)
async def test_nothing_but_noise_is_spoken(name: str, transport: Callable[[], Any], nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    with pytest.RaisesGroup(BaseLibp2pError, flatten_subgroups=True):
        await connected(of, key_pair=KEYS, sec_opt={TProtocol(name): transport()})
    await still_serves(of)
    await empty(of)
    assert set(host(of).table.ended) <= {"square-unknown-protocol", "square-stream-ended", "square-bad-handshake"}


async def test_nothing_but_yamux_is_spoken(nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    with pytest.RaisesGroup(BaseLibp2pError, flatten_subgroups=True):
        await connected(of, muxer_opt={TProtocol(MPLEX_PROTOCOL_ID): Mplex})
    await still_serves(of)


# -- addresses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1:8401", Where("127.0.0.1", 8401)),
        ("[::1]:8401", Where("::1", 8401)),
        ("/ip4/192.0.2.1/tcp/1", Where("192.0.2.1", 1)),
        (f"/dns4/mesh.example/tcp/8401/p2p/{ME.node}", Where("mesh.example", 8401, ME.node)),
        (f"/ip4/192.0.2.1/udp/8401/quic-v1/p2p/{ME.node}", Where("192.0.2.1", 8401, ME.node, quic=True)),
    ],
)
def test_an_address_names_a_place(text: str, found: Where) -> None:
    assert where(text) == found


@pytest.mark.parametrize(
    "text", ["", "x", "/ip4/1.2.3.4/udp/1", "/ip4/1.2.3.4/tcp/1/quic-v1", "/ip4/1.2.3.4/tcp/99999", "/ip4/1.2.3.4/tcp/1/p2p/QmFoo", "/ip4"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(MeshError) as caught:
        where(text)
    assert caught.value.name == "bad-square-address"


async def test_nobody_there_is_unreachable() -> None:
    with pytest.raises(Unreachable) as caught:
        async with dial(Where("127.0.0.1", 1)):
            raise AssertionError("somebody was there")
    assert caught.value.name == "square-unreachable"


async def test_what_goes_wrong_while_a_dial_is_called_off_is_no_error(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Where("127.0.0.1", port(await opened(nursery)), ME.node)
    connected = square_asking._connected

    async def fails(to: Where, own: object, within: trio.Nursery, excess: Callable[[str], None]) -> object:
        await connected(to, own, within, excess)  # type: ignore[arg-type]
        scope.cancel()
        raise Refused("square-bad-handshake", "at the same time")

    monkeypatch.setattr(square_asking, "_connected", fails)
    with trio.CancelScope() as scope:
        async with dial(place):
            pass
    assert scope.cancelled_caught
