"""The square on a real socket: who is let in, who is refused, and that nothing of anybody stays."""

from collections.abc import Callable
from functools import partial
from typing import Any

import libp2p
import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from libp2p.security.secio import transport as secio
from libp2p.security.tls.transport import PROTOCOL_ID as TLS
from libp2p.security.tls.transport import TLSTransport
from libp2p.stream_muxer.mplex.mplex import MPLEX_PROTOCOL_ID, Mplex
from multiaddr import Multiaddr

from meshos.errors import MeshError, Refused, Unreachable
from meshos.node.runtime.square import limits
from meshos.node.runtime.square.asking import Where, dial, where
from meshos.node.runtime.square.following import Follower, describe_mesh
from meshos.node.runtime.square.square import Square
from meshos.protocols.square import describe, wire
from meshos.protocols.square.budget import Rate, Rates
from meshos.protocols.square.limits import REQUEST_BYTES
from tests.square.hosts import ECHO, empty, ended, host, opened, port, square, still_serves, stranger
from tests.square.mesh import ACCOUNT, DID, GENESIS, ME

ASK = wire.encode_request({"n": 1})


@pytest.fixture(params=["tcp", "quic"])
def quic(request: pytest.FixtureRequest) -> bool:
    """Over which of the two a stranger comes."""
    return bool(request.param == "quic")


async def test_a_stranger_who_knows_the_genesis_hash_alone_proves_what_the_ledger_says(nursery: trio.Nursery, quic: bool) -> None:
    async with stranger(await opened(nursery), quic=quic) as asking:
        assert (await describe_mesh(asking)).genesis == GENESIS.hash
        client = await Follower.begin(asking, GENESIS.hash)
        assert client.trusted.validators.epoch == 1 and client.head is not None
        assert (await client.prove(ACCOUNT)).value is not None
        assert (await client.resolve(DID))[0]["id"] == DID


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


# -- what goes wrong ---------------------------------------------------------------------------------------------------


async def raw(of: Square) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", port(of))


async def until_closed(stream: trio.SocketStream) -> None:
    with trio.fail_after(5):
        try:
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            return


async def test_who_says_nothing_is_not_waited_for(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    of = await opened(nursery)
    await still_serves(of)
    monkeypatch.setattr(limits, "HANDSHAKE_S", 0.2)
    async with await raw(of) as silent:
        await until_closed(silent)
    await ended(of, "square-slow-handshake")
    await empty(of)


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\n" + b"x" * 90, b"\xff" * 100, b"\x80\x00", b"\x01\x00", b"\x03ab\xff\n", b"\x05a\nbcd"]
)
async def test_who_speaks_another_protocol_is_hung_up_on(said: bytes, nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    async with await raw(of) as other:
        await other.send_all(said)
        await until_closed(other)
    await empty(of)
    assert host(of).table.ended.total() == 1
    await still_serves(of)


async def test_noise_that_is_none_ends_the_connection(nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    async with await raw(of) as other:
        await other.send_all(
            wire.frame(b"/multistream/1.0.0\n") + wire.frame(b"/noise\n") + b"\x00\x20" + bytes(32) + b"\x00\x40" + bytes(64)
        )
        await until_closed(other)
    await ended(of, "square-bad-handshake")
    await still_serves(of)


async def test_a_frame_that_comes_slowly_ends_its_stream(nursery: trio.Nursery, quic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    of = await opened(nursery)
    async with stranger(of, quic=quic) as asking:
        monkeypatch.setattr(limits, "REQUEST_S", 0.2)
        stream = await asking.open(ECHO)
        await stream.write(b"\x40")
        answer = await stream.frame(4096, idle_s=5, whole_s=5)
        assert answer is not None
        with pytest.raises(Refused) as caught:
            wire.decode_answer(answer)
        assert caught.value.name == "square-slow-frame"
        await ended(of, "square-slow-frame")
        monkeypatch.undo()
        assert await asking.ask(ECHO, ASK), "the connection goes on"


@pytest.mark.parametrize(
    ("sent", "name"), [(b"\xff\xff\xff\x7f", "square-too-large"), (b"\x81\xa0\x00", "square-bad-frame"), (b"\xff" * 8, "square-bad-frame")]
)
async def test_a_frame_too_large_or_without_an_end_is_refused_before_it_comes(
    sent: bytes, name: str, nursery: trio.Nursery, quic: bool
) -> None:
    of = await opened(nursery)
    async with stranger(of, quic=quic) as asking:
        stream = await asking.open(ECHO)
        await stream.write(sent)
        answer = await stream.frame(4096, idle_s=5, whole_s=5)
        assert answer is not None
        with pytest.raises(Refused) as caught:
            wire.decode_answer(answer)
        assert caught.value.name == name
        await ended(of, name)
    await empty(of)


async def test_a_request_that_cannot_be_read_is_refused_and_the_next_is_answered(nursery: trio.Nursery, quic: bool) -> None:
    async with stranger(await opened(nursery), quic=quic) as asking:
        for request, name in ((b"\xff\xff", "bad-encoding"), (b"\x80", "square-bad-request"), (bytes(REQUEST_BYTES), "bad-encoding")):
            with pytest.raises(Refused) as caught:
                await asking.ask(ECHO, request)
            assert caught.value.name == name


async def test_who_sends_without_reading_is_cut_off_before_it_costs_memory(nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    with pytest.raises(MeshError):
        async with stranger(of) as asking:
            stream = await asking.open(ECHO)
            muxed: Any = stream._muxed
            muxed.send_window = 1 << 30  # a peer that ignores the window it was given
            await stream.write(wire.frame(ASK) * 200_000)
            await asking.ask(ECHO, ASK)
    await ended(of, "square-flood")
    await empty(of)
    await still_serves(of)


async def test_a_connection_has_so_many_streams_and_no_more(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    of = await opened(nursery)
    async with stranger(of) as asking:
        for _ in range(limits.STREAMS):
            await asking.open(ECHO)
        with pytest.raises(Unreachable):
            await asking.open(ECHO)
        assert host(of).table.ended["square-too-many"] == 1
    await empty(of)


async def test_streams_that_have_ended_make_room_for_others(nursery: trio.Nursery, quic: bool) -> None:
    of = await opened(nursery)
    async with stranger(of, quic=quic) as client:
        for _ in range(3 * limits.STREAMS):
            stream = await client.open(ECHO)
            await stream.write(wire.frame(ASK))
            assert await stream.frame(4096, idle_s=5, whole_s=5) is not None
            await stream.close()
        (connection,) = host(of).table.connections
        assert connection.streams <= 1
    await empty(of)


async def test_a_peer_has_so_many_connections_and_no_more(nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    seed = b"s" * 32
    async with trio.open_nursery() as open_ones:
        for _ in range(limits.CONNECTIONS_A_PEER):
            await open_ones.start(partial(stays, of, seed))
        with pytest.raises(MeshError):
            async with stranger(of, seed) as one_more:
                await one_more.ask(ECHO, ASK)
        await ended(of, "square-too-many")
        await still_serves(of)
        open_ones.cancel_scope.cancel()
    await empty(of)


async def stays(of: Square, seed: bytes | None, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    async with stranger(of, seed) as asking:
        await asking.ask(ECHO, ASK)
        task_status.started()
        await trio.sleep_forever()


async def test_an_address_has_so_many_connections_and_no_more(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS_AN_ADDRESS", 2)
    of = await opened(nursery)
    async with trio.open_nursery() as open_ones:
        for _ in range(2):
            await open_ones.start(partial(stays, of, None))
        with pytest.raises(MeshError):
            async with stranger(of):
                raise AssertionError("it was let in")
        await ended(of, "square-too-many")
        open_ones.cancel_scope.cancel()
    await empty(of)


async def test_a_full_square_gives_the_place_of_the_one_that_was_quiet_longest(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS", 2)
    of = await opened(nursery)
    async with stranger(of), stranger(of):
        with pytest.raises(MeshError):
            async with stranger(of):
                raise AssertionError("it was let in, and nobody was quiet for long")
        await ended(of, "busy")
        monkeypatch.setattr(limits, "EVICTABLE_S", 0.0)
        await still_serves(of)
        assert host(of).table.ended["square-idle"] == 1


async def test_who_is_quiet_is_reaped_and_who_asks_is_not(nursery: trio.Nursery, quic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REAP_S", 0.05)
    of = await opened(nursery)
    async with stranger(of, quic=quic) as quiet:
        asking = await quiet.open(ECHO)
        await asking.close()
        monkeypatch.setattr(limits, "IDLE_S", 0.2)
        await ended(of, "square-idle")
    await empty(of)


async def test_strangers_have_the_tokens_that_they_have(nursery: trio.Nursery) -> None:
    of = await opened(nursery, square(Rates(Rate(1, 30), Rate(1, 60), Rate(1, 90))))
    async with stranger(of) as asking:
        with pytest.raises(Refused) as caught:
            for _ in range(40):
                await asking.ask(ECHO, ASK)
    assert caught.value.name == "square-rate" and "ask again in" in caught.value.hint


async def test_a_handshake_is_paid_for_before_anything_is_read(nursery: trio.Nursery) -> None:
    of = await opened(nursery, square(Rates(Rate(1, 99), Rate(1, 25), Rate(1, 99))))
    for _ in range(2):
        await still_serves_once(of)
    async with await raw(of) as third:
        await until_closed(third)
    assert host(of).table.ended["square-rate"] == 1 and host(of).table.came == 2


async def still_serves_once(of: Square) -> None:
    async with stranger(of):
        pass


async def test_an_error_inside_ends_the_square_and_it_begins_again(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RESTART_S", 0.05)
    monkeypatch.setattr(limits, "REAP_S", 0.01)
    of = await opened(nursery)
    await still_serves(of)

    def broken(now: float) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(host(of).table, "reap", broken)
    with trio.fail_after(15):
        while of.statistics()["restarts"] < 1 or not of.addresses:
            await trio.sleep(0.01)
    assert of.problem == ""
    await still_serves(of)


async def test_a_port_that_is_taken_is_said_and_tried_again(nursery: trio.Nursery) -> None:
    first = await opened(nursery)
    second = square()
    second._place = type(second._place)("127.0.0.1", port(first), "127.0.0.1", ME.node)
    nursery.start_soon(second.run)
    with trio.fail_after(5):
        while not second.problem:
            await trio.sleep(0.01)
    assert "cannot be had" in second.problem and second.addresses == ()


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
