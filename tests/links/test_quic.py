"""The QUIC path: who gets a link over it, and what strangers can send to its port."""

import errno
import logging
import os
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
import trio
from aioquic.tls import Epoch
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.node.runtime.links import limits, quic, quic_admission, quic_endpoint
from meshos.node.runtime.links.quic_core import Core
from meshos.node.runtime.links.quic_endpoint import Endpoint
from meshos.node.runtime.links.quic_link import HANDSHAKE_TOO_LONG, LARGEST_BYTES, TOO_MANY_FRAMES
from meshos.node.runtime.links.quic_socket import TRAIN_BYTES, TRAIN_DATAGRAMS, Address, UdpSocket, trains
from meshos.node.runtime.quic.limits import CRYPTO_BYTES, DATAGRAM_BYTES, DATAGRAMS, FRAMES
from tests.links.mesh import ALPHA, BETA, Mesh, Node, until
from tests.links.quic_stranger import CREDENTIALS, Stranger, count, crypto, listening, still_serves


@pytest.fixture(autouse=True)
def over_quic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mesh, "kind", "quic")


# -- strangers -------------------------------------------------------------------------------------------------------


async def test_a_client_without_a_certificate_is_refused(nursery: trio.Nursery) -> None:
    mesh, server = await listening(nursery)
    stranger = Stranger(server, None)
    await stranger.until(lambda: stranger.completed)
    stranger.quic.send_stream_data(0, b"anything")
    await stranger.until(lambda: stranger.close)
    assert count(server, "refused_no-certificate") == 1 and not count(server, "accepted")
    await still_serves(mesh, server, nursery)
    nursery.cancel_scope.cancel()


async def test_who_speaks_first_of_another_protocol_is_refused(nursery: trio.Nursery) -> None:
    mesh, server = await listening(nursery)
    stranger = Stranger(server, mesh.credentials(), alpn_protocols=["h3"])
    await stranger.until(lambda: stranger.close)
    assert stranger.close is not None and stranger.close.error_code == 0x100 + 120  # no_application_protocol
    assert count(server, "refused_no-common-version") == 1
    await still_serves(mesh, server, nursery)
    nursery.cancel_scope.cancel()


async def test_a_refused_client_that_opens_no_stream_reads_the_reason_in_the_close(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshos.node.runtime.links.quic_link.LINGER_S", 0.05)
    mesh, server = await listening(nursery)
    stranger = Stranger(server, mesh.credentials(ALPHA, signed_by=mesh.orgs[BETA]))
    await stranger.until(lambda: stranger.close)
    assert stranger.close is not None and stranger.close.reason_phrase.startswith("wrong-org-root: ")
    await still_serves(mesh, server, nursery)
    nursery.cancel_scope.cancel()


async def test_a_handshake_that_is_never_ended_is_cut_and_counted(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quic, "HANDSHAKE_S", 0.1)
    mesh, server = await listening(nursery)
    stranger = Stranger(server, mesh.credentials())
    await stranger.send()
    await until(lambda: count(server, "unauthenticated") == 1)
    await until(lambda: count(server, "refused_handshake-timeout") == 1)
    assert count(server, "unauthenticated") == 0
    await until(lambda: count(server, "connections") == 0)
    monkeypatch.setattr(quic, "HANDSHAKE_S", 5.0)
    await still_serves(mesh, server, nursery)
    nursery.cancel_scope.cancel()


async def test_a_silent_address_is_sent_at_most_three_times_what_it_sent(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9000, section 8.1."""
    monkeypatch.setattr(quic, "HANDSHAKE_S", 1.0)
    mesh, server = await listening(nursery)
    stranger = Stranger(server, mesh.credentials())
    await stranger.send()
    received = 0
    with trio.move_on_after(1.5):  # timeouts repeat what was sent, as far as they may
        while True:
            received += len(await stranger.socket.recv(65_535))
    assert 0 < received <= 3 * stranger.bytes_out
    nursery.cancel_scope.cancel()


async def test_a_flood_of_forged_addresses_keeps_nobody_out_and_nothing_in_memory(nursery: trio.Nursery) -> None:
    mesh, server = await listening(nursery)
    for _ in range(100):  # none of them ever answers
        await Stranger(server, mesh.credentials()).send()
    await until(lambda: count(server, "retries") == 100 - limits.QUIC_RETRY_ABOVE)
    assert count(server, "unauthenticated") == limits.QUIC_RETRY_ABOVE and count(server, "connections") == limits.QUIC_RETRY_ABOVE
    await still_serves(mesh, server, nursery)
    nursery.cancel_scope.cancel()


async def test_an_address_that_answers_has_a_bound_of_its_own(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quic_admission, "UNAUTHENTICATED_PER_ADDRESS", 3)
    monkeypatch.setattr(quic_admission, "QUIC_RETRY_ABOVE", 1)
    mesh, server = await listening(nursery)
    for number in range(5):
        stranger = Stranger(server, mesh.credentials())
        await stranger.send()
        if number:
            assert await stranger.receive(), "a retry"
            await stranger.send()
    await until(lambda: count(server, "refused_too_many") == 2)
    assert count(server, "unauthenticated") == 3
    nursery.cancel_scope.cancel()


async def test_handshakes_of_all_strangers_together_have_a_rate(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quic_admission, "QUIC_HANDSHAKES_BURST", 2)
    monkeypatch.setattr(quic_admission, "QUIC_HANDSHAKES_PER_S", 1e-6)
    mesh, server = await listening(nursery)
    for _ in range(4):
        await Stranger(server, mesh.credentials()).send()
    await until(lambda: count(server, "refused_too_often") == 2)
    nursery.cancel_scope.cancel()


async def test_a_token_that_is_not_ours_or_of_another_address_is_refused(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quic_admission, "QUIC_RETRY_ABOVE", 0)
    mesh, server = await listening(nursery)
    forger = Stranger(server, mesh.credentials(), token=b"t" * 60)
    await forger.send()
    await until(lambda: count(server, "refused_bad-retry-token") == 1)
    thief, honest = Stranger(server, mesh.credentials()), Stranger(server, mesh.credentials())
    await honest.send()
    assert await honest.receive()
    for data, address in honest.quic.datagrams_to_send(trio.current_time()):
        await thief.socket.sendto(data, address)
    await until(lambda: count(server, "refused_bad-retry-token") == 2)
    assert not count(server, "connections")
    nursery.cancel_scope.cancel()


async def test_a_peer_opens_no_second_stream_when_the_first_is_over(nursery: trio.Nursery) -> None:
    mesh, server = await listening(nursery)
    stranger = Stranger(server, mesh.credentials())
    await stranger.until(lambda: stranger.completed)
    (link,) = server.path._endpoint.links  # type: ignore[union-attr]
    link.core._local_max_streams_bidi.value = 2  # as aioquic does when a stream of the peer's is over
    stranger.quic._remote_max_streams_bidi = 2
    stranger.quic.send_stream_data(4, b"\x00")
    await stranger.until(lambda: stranger.close)
    assert stranger.close is not None and stranger.close.error_code == 0x4  # STREAM_LIMIT_ERROR
    await still_serves(mesh, server, nursery)
    nursery.cancel_scope.cancel()


async def test_a_handshake_beyond_any_size_is_refused_before_it_is_buffered(nursery: trio.Nursery) -> None:
    mesh, server = await listening(nursery)
    stranger = Stranger(server, mesh.credentials())
    stream = next(iter(stranger.quic._crypto_streams.values()))
    stream.sender._buffer_start = stream.sender._buffer_stop = 0
    stream.sender._pending._RangeSet__ranges.clear()  # type: ignore[attr-defined]
    stream.sender.write(b"\x01" + (1 << 20).to_bytes(3, "big") + bytes(3 * CRYPTO_BYTES))  # a hello of 1 MiB
    stranger.quic._loss._cc.congestion_window = 1 << 20
    await stranger.until(lambda: stranger.close)
    assert stranger.close is not None and stranger.close.error_code == 0xD  # CRYPTO_BUFFER_EXCEEDED
    await still_serves(mesh, server, nursery)
    nursery.cancel_scope.cancel()


async def test_a_packet_full_of_frames_is_not_a_handshake(nursery: trio.Nursery) -> None:
    """The keys of a first packet are public (RFC 9001, section 5.2): whoever made it may have filled it."""
    mesh, server = await listening(nursery)
    stranger = Stranger(server, mesh.credentials())
    await stranger.raw(crypto(0, b"\x01") + b"\x01" * 2 * FRAMES, Epoch.INITIAL)
    await until(lambda: count(server, f"refused_{HANDSHAKE_TOO_LONG.name}") == 1)
    assert count(server, "unauthenticated") == 0
    await still_serves(mesh, server, nursery)
    nursery.cancel_scope.cancel()


async def test_a_handshake_of_too_many_datagrams_is_cut_off(nursery: trio.Nursery) -> None:
    mesh, server = await listening(nursery)
    stranger = Stranger(server, mesh.credentials())
    await stranger.raw(crypto(0, b"\x01"), Epoch.INITIAL)
    await until(lambda: count(server, "unauthenticated") == 1)
    for _ in range(DATAGRAMS):
        await stranger.raw(b"\x01", Epoch.INITIAL)
        await trio.sleep(0)
    await until(lambda: count(server, f"refused_{HANDSHAKE_TOO_LONG.name}") == 1)
    assert count(server, "unauthenticated") == 0
    await still_serves(mesh, server, nursery)
    nursery.cancel_scope.cancel()


async def test_a_beginning_larger_than_any_path_carries_is_dropped(nursery: trio.Nursery) -> None:
    mesh, server = await listening(nursery)
    stranger = Stranger(server, mesh.credentials())
    await stranger.raw(crypto(0, b"\x01") + bytes(DATAGRAM_BYTES), Epoch.INITIAL, 2 * DATAGRAM_BYTES)
    await until(lambda: count(server, "refused_not-quic") == 1)
    assert not count(server, "connections")
    await still_serves(mesh, server, nursery)
    nursery.cancel_scope.cancel()


async def test_a_member_may_open_one_stream(nursery: trio.Nursery) -> None:
    mesh, server = await listening(nursery)
    stranger = Stranger(server, mesh.credentials())
    await stranger.until(lambda: stranger.completed)
    stranger.quic._remote_max_streams_uni = 1  # as if it had been allowed to
    stranger.quic.send_stream_data(2, b"x")
    await stranger.until(lambda: stranger.close)
    assert stranger.close is not None and stranger.close.error_code == 0x4  # STREAM_LIMIT_ERROR
    await still_serves(mesh, server, nursery)
    nursery.cancel_scope.cancel()


async def member(mesh: Mesh, server: Node) -> Stranger:
    """Somebody of the mesh, whom the server has let in, and who says nothing yet."""
    stranger = Stranger(server, mesh.credentials(BETA))
    before = count(server, "accepted")
    await stranger.until(lambda: count(server, "accepted") > before)
    return stranger


async def test_a_datagram_full_of_frames_is_the_end_of_its_link(nursery: trio.Nursery) -> None:
    mesh, server = await listening(nursery)
    stranger = await member(mesh, server)
    await stranger.raw(b"\x01" * (limits.QUIC_FRAMES_A_DATAGRAM + 1))
    await until(lambda: server.links.statistics().get(f"refused_{TOO_MANY_FRAMES.name}") == 1)
    await stranger.until(lambda: stranger.close)
    await still_serves(mesh, server, nursery)
    nursery.cancel_scope.cancel()


async def test_frames_beyond_the_usual_have_a_rate_for_all_nodes_of_an_organisation(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quic_endpoint, "QUIC_FRAMES_BURST", 250)
    monkeypatch.setattr(quic_endpoint, "QUIC_FRAMES_PER_S", 0.0)
    mesh, server = await listening(nursery)
    first, second = await member(mesh, server), await member(mesh, server)
    for each in (first, second):
        await each.raw(b"\x01" * 200)
    await second.until(lambda: second.close)
    assert second.close is not None and second.close.reason_phrase.startswith(TOO_MANY_FRAMES.name) and first.close is None
    other = mesh.node(BETA)
    await other.start(nursery)
    assert await other.ask(server.id, "/test/echo/1", b"fine") == b"fine", "who sends none is not concerned"
    nursery.cancel_scope.cancel()


async def test_a_datagram_larger_than_any_is_lost_before_it_is_opened(nursery: trio.Nursery) -> None:
    mesh, server = await listening(nursery)
    stranger = await member(mesh, server)
    (link,) = server.path._endpoint.links  # type: ignore[union-attr]
    space = link.core._spaces[Epoch.ONE_RTT]
    before = space.expected_packet_number
    (data,) = stranger.packet(b"\x01" + bytes(LARGEST_BYTES), largest=LARGEST_BYTES + 200)
    await stranger.socket.sendto(data, stranger.server)
    await stranger.raw(b"\x01\x01\x01")
    await until(lambda: link.core.frames_of_last == 3)
    assert space.expected_packet_number == before + 2 and space.ack_queue.bounds().stop == before + 2
    assert before not in space.ack_queue and link.core.ended is None
    nursery.cancel_scope.cancel()


async def test_other_tasks_have_their_turn_whatever_a_batch_holds(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, server = await listening(nursery)
    stranger = await member(mesh, server)
    handled, turns = 0, [0]
    receive = Core.receive_datagram

    def counted(core: Core, data: bytes, address: object, now: float) -> None:
        nonlocal handled
        receive(core, data, address, now)
        handled += core.frames_of_last

    class Turns(trio.abc.Instrument):
        def after_io_wait(self, timeout: float) -> None:
            turns.append(handled)

    monkeypatch.setattr(Core, "receive_datagram", counted)
    trio.lowlevel.add_instrument(instrument := Turns())
    for _ in range(40):  # all of them before the server has its turn
        for data in stranger.packet(b"\x01" * 200):
            stranger.socket._sock.sendto(data, stranger.server)
    await until(lambda: handled >= 40 * 200)
    trio.lowlevel.remove_instrument(instrument)
    most = max(after - before for before, after in pairwise(turns))
    assert most <= limits.QUIC_FRAMES_A_TURN + 200
    nursery.cancel_scope.cancel()


# -- bytes that are none -----------------------------------------------------------------------------------------------


class _Taker:
    """An endpoint without a socket, and a path that takes whoever comes."""

    def __init__(self) -> None:
        self.path = quic.QuicPath(CREDENTIALS, "127.0.0.1", 0, lambda node: None)
        self.path._accept = lambda link: None
        self.endpoint: Endpoint = self.path._endpoint

    def give(self, data: bytes, address: Address = ("127.0.0.1", 9999)) -> None:
        link = self.endpoint._by_id.get(data[6 : 6 + data[5]]) if len(data) > 6 and data[0] & 0x80 else None
        if link is None:
            self.endpoint._unknown(data, address)
        elif self.endpoint._gave(link, data, address, trio.current_time()):
            self.endpoint._after(link, trio.current_time())


def first_datagram() -> bytes:
    """What an honest client begins with."""
    configuration = quic._configured(CREDENTIALS, client=True)
    core = Core(configuration, lambda identifier: bytes(16))
    core.connect(("127.0.0.1", 1), 0.0)
    return core.datagrams_to_send(0.0)[0][0]


@given(
    data=st.one_of(st.binary(max_size=1500), st.binary(min_size=1200, max_size=1300).map(lambda tail: b"\xc0\x00\x00\x00\x01\x08" + tail))
)
@settings(max_examples=200, deadline=None)
def test_garbage_is_dropped_by_name_and_never_raises(data: bytes) -> None:
    async def main() -> None:
        taker = _Taker()
        taker.give(data)
        counts = {**taker.path._counts, **taker.endpoint.counts}
        assert not counts.get("bugs") and sum(counts.values()) + len(taker.endpoint.links) >= 1

    trio.run(main)


@given(changes=st.lists(st.tuples(st.integers(0, 1199), st.integers(1, 255)), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_a_damaged_beginning_never_raises(changes: list[tuple[int, int]]) -> None:
    async def main() -> None:
        taker = _Taker()
        damaged = bytearray(first_datagram())
        for at, bits in changes:
            damaged[at] ^= bits
        taker.give(bytes(damaged))
        taker.give(bytes(damaged[:600]))
        assert not taker.endpoint.counts["bugs"] and not taker.path._counts["bugs"]

    trio.run(main)


async def test_a_thousand_datagrams_of_noise_cost_no_line_in_the_log(nursery: trio.Nursery, caplog: pytest.LogCaptureFixture) -> None:
    mesh, server = await listening(nursery)
    with caplog.at_level(logging.DEBUG, logger="meshos"), trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as noisy:
        for number in range(1000):
            await noisy.sendto(os.urandom(20 + number % 1400), ("127.0.0.1", server.path.port))
            await trio.sleep(0)
        await until(lambda: count(server, "datagrams_in") == 1000)
        assert not caplog.records and not count(server, "connections") and not count(server, "bugs")
        assert count(server, "resets_out") <= limits.QUIC_RESETS_PER_S + 50, "echoes of noise are few"
    await still_serves(mesh, server, nursery)
    nursery.cancel_scope.cancel()


@given(sizes=st.lists(st.integers(1, 20_000), max_size=200))
def test_trains_are_what_the_kernel_can_cut(sizes: list[int]) -> None:
    datagrams = [bytes(size) for size in sizes]
    made = trains(datagrams)
    assert [data for train in made for data in train] == datagrams
    for train in made:
        assert len({len(data) for data in train[:-1]}) <= 1 and len(train[-1]) <= len(train[0])
        assert len(train) <= TRAIN_DATAGRAMS and sum(map(len, train)) <= TRAIN_BYTES


def test_an_error_that_only_waits_in_its_queue_is_read_and_wakes_nobody_again() -> None:
    """As what routers say of hosts and networks out of reach does: epoll went on to say that there is something to read."""
    nobody = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    nobody.bind(("127.0.0.1", 0))
    there = nobody.getsockname()
    nobody.close()
    udp = UdpSocket("127.0.0.1", 0)
    try:
        watch = select.poll()
        watch.register(udp.raw, select.POLLIN)
        udp.raw.sendto(b"x", there)
        assert watch.poll(5_000) == [(udp.raw.fileno(), select.POLLERR)]
        assert udp.raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED  # takes the error, not what waits
        assert watch.poll(0) == [(udp.raw.fileno(), select.POLLERR)]
        assert udp.receive() == ([], [there])
        assert watch.poll(0) == []
    finally:
        udp.close()


@contextmanager
def bound() -> Iterator[UdpSocket]:
    udp = UdpSocket("127.0.0.1", 0)
    try:
        yield udp
    finally:
        udp.close()


def test_an_address_that_cannot_be_sent_to_costs_no_segmentation() -> None:
    with bound() as udp, bound() as other:
        if not udp.gso:
            pytest.skip("this kernel has no segmentation offload")
        udp.send([(b"one", ("127.0.0.1", 0)), (b"two", ("127.0.0.1", 0))])
        assert udp.gso and udp.dropped == 2
        udp.send([(b"one", ("127.0.0.1", other.port)), (b"two", ("127.0.0.1", other.port))])
        select.select([other.raw], [], [], 5)
        assert [data for data, _ in other.receive()[0]] == [b"one", b"two"] and udp.dropped == 2


class Card:
    """A socket whose card cannot cut trains, and that hears from port 0."""

    def __init__(self, *came: tuple[bytes, tuple[str, int]]) -> None:
        self.sent: list[bytes] = []
        self._came = list(came)

    def sendmsg(self, *_: object) -> None:
        raise OSError(errno.EINVAL, "no segmentation")

    def sendto(self, data: bytes, address: tuple[str, int]) -> None:
        self.sent.append(data)

    def recvmsg(self, *_: int) -> tuple[bytes, list[object], int, tuple[str, int]]:
        if not self._came:
            raise BlockingIOError
        data, source = self._came.pop(0)
        return data, [], 0, source


def test_where_the_card_cannot_cut_trains_datagrams_go_one_by_one() -> None:
    with bound() as udp:
        there, udp.raw, udp.gso = udp.raw, Card(), True  # type: ignore[assignment]
        udp.send([(b"one", ("127.0.0.1", 9)), (b"two", ("127.0.0.1", 9))])
        assert (udp.raw.sent, udp.gso, udp.dropped) == ([b"one", b"two"], False, 0)  # type: ignore[attr-defined]
        udp.raw = there


def test_what_comes_from_port_0_is_dropped() -> None:
    """Nobody can be answered there."""
    with bound() as udp:
        there, udp.raw = udp.raw, Card((b"zero", ("127.0.0.1", 0)), (b"nine", ("127.0.0.1", 9)))  # type: ignore[assignment]
        assert udp.receive() == ([(b"nine", ("127.0.0.1", 9))], [])
        udp.raw = there
