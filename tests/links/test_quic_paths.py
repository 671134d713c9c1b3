"""The QUIC path between members: windows, paths that change, and how links end."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from meshos.errors import MeshError, Unreachable
from meshos.node.runtime.links import channel, limits, quic
from meshos.node.runtime.links.quic_core import Core
from meshos.node.runtime.links.quic_size import candidates
from meshos.protocols.rpc.events import LinkDown, LinkUp, MessageReceived
from tests.links.mesh import BETA, Mesh, Node, until
from tests.links.quic_stranger import BIG, CREDENTIALS, ECHO, Router, count, echo, link_of, listening

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def over_quic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mesh, "kind", "quic")


# -- windows -----------------------------------------------------------------------------------------------------------


class Joined:
    """A client's and a server's core, with nothing in between but time."""

    def __init__(self) -> None:
        def token(identifier: bytes) -> bytes:
            return bytes(16)

        self.now = 0.0
        self.client = Core(quic._configured(CREDENTIALS, client=True), token)
        self.client.connect(("server", 1), self.now)
        first = self.client.datagrams_to_send(self.now)
        original = first[0][0][6 : 6 + first[0][0][5]]
        self.server = Core(quic._configured(CREDENTIALS, client=False), token, original_destination=original)
        for data, _ in first:
            self.server.receive_datagram(data, ("client", 1), self.now)
        self.exchange()
        assert self.client.confirmed and self.server.confirmed
        self.client.admit()
        self.server.admit()

    def exchange(self) -> None:
        """Until neither has anything to say; some time passes."""
        for _ in range(1000):
            self.now += 0.005
            moved = False
            for one, other, name in ((self.client, self.server, "client"), (self.server, self.client, "server")):
                timer = one.get_timer()
                if timer is not None and timer <= self.now:
                    one.handle_timer(self.now)
                for data, _ in one.datagrams_to_send(self.now):
                    other.receive_datagram(data, (name, 1), self.now)
                    moved = True
            if not moved and self.now % 0.1 < 0.005:
                return


def arrived(core: Core) -> int:
    """Bytes of the stream that the core has, read or not."""
    return 0 if core.stream is None else core.stream.receiver.highest_offset


def test_windows_open_as_data_is_read_and_not_as_it_arrives() -> None:
    joined = Joined()
    joined.client.write(bytes(3 * limits.QUIC_WINDOW_BYTES))
    joined.exchange()
    assert arrived(joined.server) == limits.QUIC_WINDOW_BYTES
    joined.exchange()
    assert arrived(joined.server) == limits.QUIC_WINDOW_BYTES, "time alone opens nothing"
    joined.server.consumed = limits.QUIC_WINDOW_BYTES // 2
    joined.exchange()
    assert arrived(joined.server) == limits.QUIC_WINDOW_BYTES * 3 // 2
    joined.server.consumed = limits.QUIC_WINDOW_BYTES * 3 // 2
    joined.exchange()
    assert arrived(joined.server) == limits.QUIC_WINDOW_BYTES * 5 // 2 and joined.server.ended is None


def test_who_sends_more_than_its_window_is_cut_off() -> None:
    joined = Joined()
    joined.client._remote_max_data = 1 << 40
    joined.client.write(bytes(3 * limits.QUIC_WINDOW_BYTES))
    assert joined.client.stream is not None
    joined.client.stream.max_stream_data_remote = 1 << 40
    joined.exchange()
    assert joined.server.ended is not None and joined.server.ended.error_code == 0x3  # FLOW_CONTROL_ERROR
    assert arrived(joined.server) <= limits.QUIC_WINDOW_BYTES


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
