"""The QUIC path: who gets a link over it, what strangers can send to its port, and what becomes of a link whose path changes."""

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.errors import MeshError, Unreachable
from meshos.node.runtime.links import channel, limits, quic, quic_admission
from meshos.node.runtime.links.quic_core import Core
from meshos.node.runtime.links.quic_endpoint import Endpoint
from meshos.node.runtime.links.quic_link import QuicLink
from meshos.node.runtime.links.quic_size import candidates
from meshos.node.runtime.links.quic_socket import TRAIN_BYTES, TRAIN_DATAGRAMS, Address, trains
from meshos.protocols.rpc.events import Inbound, LinkDown, LinkUp, MessageReceived
from tests.links.mesh import ALPHA, BETA, Mesh, Node, until
from tests.links.quic_stranger import Router, Stranger

ECHO, BIG = "/test/echo/1", "/test/big/1"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def over_quic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mesh, "kind", "quic")


async def echo(request: Inbound) -> bytes:
    return request.body


async def big(request: Inbound) -> bytes:
    return bytes(int(request.body))


async def listening(nursery: trio.Nursery) -> tuple[Mesh, Node]:
    mesh = Mesh()
    node = mesh.node(services={ECHO: echo, BIG: big})
    await node.start(nursery)
    return mesh, node


async def still_serves(mesh: Mesh, server: Node, nursery: trio.Nursery) -> None:
    honest = mesh.node(BETA)
    await honest.start(nursery)
    assert await honest.ask(server.id, ECHO, b"fine") == b"fine"
    assert [event.peer for event in server.of(LinkUp)] == [honest.peer], "and it is the only one that got a link"


def count(server: Node, name: str) -> float:
    return server.links.statistics().get(f"path_quic_{name}", 0)


def link_of(node: Node) -> QuicLink:
    """Its one connection."""
    ((channel_,),) = (peer.channels for peer in node.links._peers.values())
    assert isinstance(channel_.connection, QuicLink)
    return channel_.connection


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


async def test_a_handshake_beyond_any_size_is_refused_before_it_is_buffered(nursery: trio.Nursery) -> None:
    mesh, server = await listening(nursery)
    stranger = Stranger(server, mesh.credentials())
    stream = next(iter(stranger.quic._crypto_streams.values()))
    stream.sender._buffer_start = stream.sender._buffer_stop = 0
    stream.sender._pending._RangeSet__ranges.clear()  # type: ignore[attr-defined]
    stream.sender.write(b"\x01" + (1 << 20).to_bytes(3, "big") + bytes(3 * limits.QUIC_CRYPTO_BYTES))  # a hello of 1 MiB
    stranger.quic._loss._cc.congestion_window = 1 << 20
    await stranger.until(lambda: stranger.close)
    assert stranger.close is not None and stranger.close.error_code == 0xD  # CRYPTO_BUFFER_EXCEEDED
    await still_serves(mesh, server, nursery)
    nursery.cancel_scope.cancel()


async def test_a_member_may_open_one_stream_and_send_no_more_than_its_window(nursery: trio.Nursery) -> None:
    mesh, server = await listening(nursery)
    stranger = Stranger(server, mesh.credentials())
    await stranger.until(lambda: stranger.completed)
    stranger.quic._remote_max_streams_uni = 1  # as if it had been allowed to
    stranger.quic.send_stream_data(2, b"x")
    await stranger.until(lambda: stranger.close)
    assert stranger.close is not None and stranger.close.error_code == 0x4  # STREAM_LIMIT_ERROR
    glutton = Stranger(server, mesh.credentials())
    await glutton.until(lambda: glutton.completed)
    glutton.quic._remote_max_data = glutton.quic._remote_max_stream_data_bidi_remote = 1 << 30
    glutton.quic._loss._cc.congestion_window = 1 << 30
    glutton.quic.send_stream_data(0, bytes(2 * limits.QUIC_WINDOW_BYTES))
    await glutton.until(lambda: glutton.close, timeout_s=20)
    assert glutton.close is not None and glutton.close.error_code in (0x3, 0, 1)  # FLOW_CONTROL_ERROR, unless it was closed before
    await still_serves(mesh, server, nursery)
    nursery.cancel_scope.cancel()


# -- bytes that are none -----------------------------------------------------------------------------------------------


CREDENTIALS = Mesh().credentials()


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


# -- back-pressure -----------------------------------------------------------------------------------------------------


async def test_what_nobody_reads_stays_with_the_sender(nursery: trio.Nursery) -> None:
    mesh, server = await listening(nursery)
    client = mesh.node(BETA)
    await client.start(nursery)
    await client.ask(server.id, ECHO, b"warm")
    server.full = True
    receiving, sending = link_of(server), link_of(client)
    answers: list[int] = []

    async def ask() -> None:
        answers.append(len(await client.ask(server.id, ECHO, bytes(15_000), timeout_s=20)))

    async with trio.open_nursery() as asking:
        for _ in range(400):
            asking.start_soon(ask)
        await until(lambda: sending.core.unsent > limits.QUIC_UNSENT_BYTES // 2 and client.links.states()[0].queued > 0)
        await trio.sleep(0.1)
        waiting = sum(map(len, receiving._received))
        assert 0 < waiting <= limits.QUIC_WINDOW_BYTES
        assert sending.core.unsent <= limits.QUIC_UNSENT_BYTES + limits.WRITE_BYTES
        server.full = False
    assert answers == [15_000] * 400
    nursery.cancel_scope.cancel()


# -- paths that change -------------------------------------------------------------------------------------------------


async def behind_a_router(nursery: trio.Nursery, largest: int = 65_535) -> tuple[Mesh, Node, Node, Router]:
    """A server, a client that reaches it through a router only, and the router."""
    mesh, server = await listening(nursery)
    router = Router(lambda: ("127.0.0.1", server.path.port), largest)
    await nursery.start(router.run)
    client = mesh.node(BETA)
    await client.start(nursery)
    client.path._address_of = lambda node: ("127.0.0.1", router.port)
    return mesh, server, client, router


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
async def test_a_link_survives_another_port_and_another_address_of_the_peer(host: str, nursery: trio.Nursery) -> None:
    _, server, client, router = await behind_a_router(nursery)
    for number in range(4):
        assert await client.ask(server.id, ECHO, b"%d" % number) == b"%d" % number
        before = link_of(server).core.address
        router.remap(host)
        assert await client.ask(server.id, ECHO, b"moved") == b"moved"
        assert len(await client.ask(server.id, BIG, b"900000")) == 900_000
        await until(lambda before=before: link_of(server).core.address != before and link_of(server).core._network_paths[0].is_validated)
    assert not client.of(LinkDown) and not server.of(LinkDown) and len(server.of(LinkUp)) == 1
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("largest", "found"), [(65_535, 16_000), (9_000, 8_900), (1_500, 1_452), (1_300, 1_200)])
async def test_datagrams_are_as_large_as_the_path_carries(
    largest: int, found: int, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshos.node.runtime.links.quic_size.PROBE_S", 0.01)
    _, server, client, _ = await behind_a_router(nursery, largest)
    assert await client.ask(server.id, ECHO, b"x") == b"x"
    sizes = candidates(("127.0.0.1", 1))
    assert sizes == (16_000, 8_900, 1_452)
    for node in (client, server):
        await until(lambda node=node: link_of(node).core.datagram_bytes == found)
    await trio.sleep(0.1)
    assert link_of(client).core.datagram_bytes == found
    assert len(await client.ask(server.id, BIG, b"900000")) == 900_000
    nursery.cancel_scope.cancel()


async def test_a_path_that_comes_to_carry_less_is_noticed(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshos.node.runtime.links.quic_size.PROBE_S", 0.01)
    _, server, client, router = await behind_a_router(nursery)
    await client.ask(server.id, ECHO, b"x")
    await until(lambda: link_of(client).core.datagram_bytes == link_of(server).core.datagram_bytes == 16_000)
    router.largest = 1_250
    assert await client.ask(server.id, ECHO, bytes(50_000), timeout_s=20) == bytes(50_000)
    assert link_of(client).core.datagram_bytes == 1_200 and not client.of(LinkDown)
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("here", "there", "to"), [("::1", "::1", "::1"), ("::", "127.0.0.1", "127.0.0.1"), ("127.0.0.1", "::", "localhost")]
)
async def test_ipv4_and_ipv6_and_names(here: str, there: str, to: str, nursery: trio.Nursery) -> None:
    mesh = Mesh()
    asker, asked = mesh.node(), mesh.node(BETA, services={ECHO: echo})
    asker.path._endpoint.host, asked.path._endpoint.host = here, there
    await asker.start(nursery)
    await asked.start(nursery)
    asker.path._address_of = lambda node: (to, asked.path.port)
    assert await asker.ask(asked.id, ECHO, b"x") == b"x"
    nursery.cancel_scope.cancel()


async def test_an_address_that_the_socket_cannot_reach_is_told_at_once(nursery: trio.Nursery) -> None:
    mesh, server = await listening(nursery)
    server.path._address_of = lambda node: ("::1", 1)
    with pytest.raises(Unreachable) as caught:
        await server.ask(mesh.node().id, ECHO, b"x")
    assert caught.value.name == "peer-unreachable"
    nursery.cancel_scope.cancel()


# -- ends --------------------------------------------------------------------------------------------------------------


async def test_a_peer_that_falls_silent_is_noticed(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "KEEPALIVE_S", 0.02)
    monkeypatch.setattr(channel, "SILENT_S", 0.2)
    _, server, client, router = await behind_a_router(nursery)
    await client.ask(server.id, ECHO, b"x")
    router.cut = True
    await until(lambda: server.of(LinkDown) and client.of(LinkDown))
    assert server.of(LinkDown)[0].reason == client.of(LinkDown)[0].reason == "link-silent"
    await until(lambda: not count(server, "connections") and not count(client, "connections"))
    nursery.cancel_scope.cancel()


async def test_a_close_that_was_lost_is_said_again(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "KEEPALIVE_S", 0.05)
    _, server, client, router = await behind_a_router(nursery)
    await client.ask(server.id, ECHO, b"x")
    router.cut = True
    client.links.set_cut(frozenset({server.id}))
    await until(lambda: client.of(LinkDown))
    await trio.sleep(0.05)
    router.cut = False
    await until(lambda: server.of(LinkDown), timeout_s=limits.SILENT_S / 2)  # long before its silence would tell
    assert server.of(LinkDown)[0].reason == "link-lost"
    nursery.cancel_scope.cancel()


def vanish(node: Node) -> None:
    """End ``node`` as SIGKILL does: without a word on the network."""
    node.path._endpoint._socket.close()  # type: ignore[union-attr]
    node.path._endpoint.links.clear()
    node.kill()


async def test_a_node_that_was_started_anew_tells_its_peers_that_it_has_forgotten_them(nursery: trio.Nursery) -> None:
    mesh, server = await listening(nursery)
    client = mesh.node(BETA)
    await client.start(nursery)
    await client.ask(server.id, ECHO, b"x")
    port, credentials = server.path.port, server.credentials
    await trio.sleep(0.05)
    vanish(server)
    await trio.sleep(0.05)
    reborn = mesh.node(credentials=credentials, services={ECHO: echo})
    reborn.path._endpoint.port = port
    await reborn.start(nursery)
    with pytest.raises(MeshError):
        await client.ask(server.id, ECHO, b"lost", timeout_s=5.0)
    assert client.of(LinkDown)[0].reason == "link-lost" and count(client, "resets_in") == 1
    assert await client.ask(server.id, ECHO, b"again") == b"again"
    nursery.cancel_scope.cancel()


async def test_a_reset_that_nobody_could_have_sent_changes_nothing(nursery: trio.Nursery) -> None:
    mesh, server = await listening(nursery)
    client = mesh.node(BETA)
    await client.start(nursery)
    await client.ask(server.id, ECHO, b"x")
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as forger:
        for _ in range(50):
            await forger.sendto(b"\x41" + os.urandom(60), ("127.0.0.1", client.path.port))
    await until(lambda: count(client, "datagrams_in") >= 50)
    assert await client.ask(server.id, ECHO, b"x") == b"x" and not client.of(LinkDown) and not count(client, "resets_in")
    nursery.cancel_scope.cancel()


CHILD = """
import json, sys, trio
from meshos.crypto.certificates import Trust
from meshos.crypto.keys import PublicKey, SigningKey
from meshos.node.runtime.links.tls import Credentials
from tests.links.mesh import BETA, MESH, Mesh

told = json.load(sys.stdin)
roots = {org: PublicKey(bytes.fromhex(key)) for org, key in told["roots"].items()}
me = Credentials(SigningKey(bytes.fromhex(told["seed"])), bytes.fromhex(told["certificate"]), MESH, Trust(MESH.hex()[:32], roots), ())

async def main():
    Mesh.kind = "quic"
    mesh = Mesh()
    mesh.address_of = lambda node: ("127.0.0.1", told["port"])
    async with trio.open_nursery() as nursery:
        node = mesh.node(BETA, credentials=me)
        await node.start(nursery)
        while True:
            await node.ask(told["to"], "/test/echo/1", b"x")

trio.run(main)
"""
"""The other side of the next test, in a process of its own: it asks, for ever."""


async def test_kill_9_of_the_other_side_is_noticed(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "KEEPALIVE_S", 0.05)
    monkeypatch.setattr(channel, "SILENT_S", 0.5)
    mesh, server = await listening(nursery)
    other = mesh.credentials(BETA)
    told = {
        "seed": other.key.seed().hex(),
        "certificate": other.certificate.hex(),
        "roots": {org.did: org.key.public.raw.hex() for org in mesh.orgs.values()},
        "port": server.path.port,
        "to": server.id,
    }
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", CHILD], cwd=ROOT, env=environment, stdin=subprocess.PIPE) as process:
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(told).encode())
            process.stdin.close()
            await until(lambda: server.of(MessageReceived), timeout_s=30)
        finally:
            process.send_signal(signal.SIGKILL)
    await until(lambda: server.of(LinkDown))
    assert server.of(LinkDown)[0].reason == "link-silent"
    await until(lambda: not count(server, "connections"))
    nursery.cancel_scope.cancel()
