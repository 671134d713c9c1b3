"""The square over QUIC: who begins a connection can be reached, proves a libp2p key, and keeps to its windows."""

from typing import Any

import pytest
import trio
from libp2p.crypto.ed25519 import Ed25519PrivateKey, create_new_key_pair
from libp2p.crypto.keys import KeyPair

from meshos.errors import MeshError
from meshos.node.runtime.square import asking, limits
from meshos.node.runtime.square.quic_core import Core, configuration
from meshos.node.runtime.square.quic_muxed import QuicMuxed
from meshos.node.runtime.square.square import Square
from meshos.protocols.square import wire
from meshos.protocols.square.answering import Asker, Protocol
from meshos.protocols.square.budget import Rate, Rates
from tests.links.quic_stranger import ByHand
from tests.square.hosts import ECHO, echo, empty, ended, host, only_quic, opened, port, square, still_serves, stranger
from tests.square.mesh import MESH_KNOWN, answering

ASK = wire.encode_request({"n": 1})
KEYS = create_new_key_pair()


async def udp(of: Square) -> trio.socket.SocketType:
    raw = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    await raw.connect(("127.0.0.1", port(of)))
    return raw


@pytest.mark.parametrize(
    "said", [b"", b"x", b"\x00" * 1200, b"\xff" * 1200, b"\x40" + bytes(40), b"\xc0\x00\x00\x00\x01\x08" + bytes(1194)]
)
async def test_datagrams_that_begin_nothing_are_dropped(said: bytes, nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    await still_serves(of, quic=True)
    raw = await udp(of)
    for _ in range(3):
        await raw.send(said)
    await still_serves(of, quic=True)  # the socket gives its datagrams in their order, so those were read before
    raw.close()
    assert host(of).statistics()["came"] == 2 and of.statistics()["restarts"] == 0


async def test_a_connection_is_begun_only_by_who_can_be_reached_at_its_address(nursery: trio.Nursery) -> None:
    of = await opened(nursery, square(Rates(Rate(1, 99), Rate(1, 99), Rate(1, 99))))
    raw = await udp(of)
    core = Core(configuration(create_new_key_pair(), client=True))
    core.connect(("127.0.0.1", port(of)), trio.current_time())
    ((initial, _), *_) = core.datagrams_to_send(trio.current_time())
    for _ in range(50):
        await raw.send(initial)
    retry = await raw.recv(2000)
    assert retry[0] & 0xF0 == 0xF0, "each is answered with a Retry, and nothing is paid or kept for it"
    assert host(of).table.came == 0 and of._answering.budget.statistics()["addresses_counted"] == 0
    raw.close()


async def test_who_stops_in_the_middle_of_a_handshake_is_not_waited_for(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    of = await opened(nursery)
    await still_serves(of)
    monkeypatch.setattr(limits, "HANDSHAKE_S", 0.3)
    core = Core(configuration(create_new_key_pair(), client=True))
    core.connect(("127.0.0.1", port(of)), trio.current_time())
    raw = await udp(of)
    for _ in range(2):  # the first datagram, and the one that answers the Retry
        for data, _to in core.datagrams_to_send(trio.current_time()):
            await raw.send(data)
        core.receive_datagram(await raw.recv(2000), ("127.0.0.1", port(of)), trio.current_time())
    await ended(of, "square-slow-handshake")
    raw.close()
    await empty(of)


async def test_a_quic_client_without_a_libp2p_certificate_is_refused(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    of = await opened(nursery)
    bare = configuration(create_new_key_pair(), client=True)
    bare.certificate = bare.private_key = None
    monkeypatch.setattr(asking, "configuration", lambda keys, client: bare)
    with pytest.raises(MeshError):
        async with stranger(of, quic=True) as somebody:
            await somebody.ask(ECHO, ASK)
    await ended(of, "square-bad-handshake")
    await empty(of)


async def test_a_certificate_signed_by_another_key_is_refused(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    class Impostor(Ed25519PrivateKey):
        """Signs with its own key and shows another's."""

        def get_public_key(self) -> Any:
            return KEYS.public_key

    of = await opened(nursery)
    liar = Impostor(Ed25519PrivateKey.new().impl)
    forged = configuration(KeyPair(liar, KEYS.public_key), client=True)
    monkeypatch.setattr(asking, "configuration", lambda keys, client: forged)
    with pytest.raises(MeshError):
        async with stranger(of, quic=True) as somebody:
            await somebody.ask(ECHO, ASK)
    await ended(of, "square-bad-handshake")
    await empty(of)


async def test_who_sends_without_being_read_is_cut_off(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Protocol("/test/slow/1", 1, _never, timeout_s=60)
    of = await opened(nursery, square(answers=answering(MESH_KNOWN, [slow, Protocol(ECHO, 1, echo)])))
    with pytest.raises(MeshError):
        async with stranger(of, quic=True) as asking:
            stream = await asking.open("/test/slow/1")
            await stream.write(wire.frame(ASK))
            core: Any = asking._muxed.core  # type: ignore[union-attr]
            core._remote_max_data = 1 << 40  # a peer that ignores the window it was given
            core._streams[stream._muxed.number].max_stream_data_remote = 1 << 40  # type: ignore[attr-defined]
            await stream.write(bytes(4 << 20))
            await asking.ask(ECHO, ASK)
    await empty(of)
    assert not host(of).table.ended["square-flood"], "aioquic itself has ended it, by FLOW_CONTROL_ERROR"
    await still_serves(of, quic=True)


async def test_who_is_within_its_windows_and_beyond_our_backlog_is_cut_off(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """The windows of all streams together are larger than what is kept of one connection."""
    slow = Protocol("/test/slow/1", 1, _never, timeout_s=60)
    of = await opened(nursery, square(answers=answering(MESH_KNOWN, [slow, Protocol(ECHO, 1, echo)])))
    with pytest.raises(MeshError):
        async with stranger(of, quic=True) as asking:
            monkeypatch.setattr(limits, "BACKLOG_BYTES", 128 * limits.KIB)
            for _ in range(4):
                stream = await asking.open("/test/slow/1")
                await stream.write(wire.frame(ASK) + bytes(60 * limits.KIB))
            await ended(of, "square-flood")  # what was asked meanwhile might overtake what is still under way, and be answered
            await asking.ask(ECHO, ASK)
    await empty(of)
    await still_serves(of, quic=True)


async def test_who_opens_more_streams_at_once_than_are_taken_is_cut_off(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    of = await opened(nursery)
    await still_serves(of, quic=True)
    await empty(of)
    monkeypatch.setattr(limits, "STREAMS", 4)  # of the list of those that wait; the configured limit of QUIC is that of before
    monkeypatch.setattr(QuicMuxed, "accept_stream", lambda self: trio.sleep_forever())
    somebody = ByHand(Core(configuration(create_new_key_pair(), client=True)), port(of))
    await somebody.until(lambda: somebody.quic._handshake_confirmed)
    only_quic(of).core._local_max_streams_bidi.value = 32
    somebody.quic._remote_max_streams_bidi = 32
    for _ in range(6):
        somebody.quic.send_stream_data(somebody.quic.get_next_available_stream_id(), b"x")
    await somebody.send()
    await ended(of, "square-flood")
    await empty(of)


async def _never(fields: wire.Fields, asker: Asker) -> object:
    await trio.sleep_forever()
