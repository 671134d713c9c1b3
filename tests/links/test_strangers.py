"""Who must not get a link, or must lose it: each is refused by name, and nothing else is disturbed."""

import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import NoReturn

import pytest
import trio

from meshos.crypto.certificates import describe
from meshos.crypto.keys import SigningKey
from meshos.errors import MeshError, Refused, Unreachable
from meshos.flow import Lane
from meshos.ids import Peer
from meshos.node.runtime.links import channel, tcp
from meshos.node.runtime.links.tls import Credentials, TlsStream, contexts
from meshos.protocols.rpc import frames, limits
from meshos.protocols.rpc.codec import LinkCodec
from meshos.protocols.rpc.events import Inbound, LinkDown, LinkUp, Message, MessageReceived, Request
from meshos.protocols.rpc.frames import FIRST, Hello
from meshos.protocols.rpc.partials import Partials
from tests.links.mesh import ALPHA, BETA, DAY_S, Mesh, Node, new_org, until

ECHO = "/test/echo/1"


async def echo(request: Inbound) -> bytes:
    return request.body


async def listening(nursery: trio.Nursery, mesh: Mesh | None = None) -> tuple[Mesh, Node]:
    mesh = mesh or Mesh()
    node = mesh.node(services={ECHO: echo})
    await node.start(nursery)
    return mesh, node


async def still_serves(mesh: Mesh, server: Node, nursery: trio.Nursery) -> None:
    """An honest node is served, whatever went before."""
    honest = mesh.node(BETA)
    await honest.start(nursery)
    assert await honest.ask(server.id, ECHO, b"fine") == b"fine"
    assert [event.peer for event in server.of(LinkUp)] == [honest.peer], "and it is the only one that got a link"
    assert all(event.peer == honest.peer for event in server.of(MessageReceived))


async def refused_dial(mesh: Mesh, server: Node, credentials: Credentials, nursery: trio.Nursery) -> MeshError:
    """What a node with these credentials hears when it asks the server."""
    client = mesh.node(credentials=credentials)
    await client.start(nursery)
    with pytest.raises(MeshError) as caught:
        await client.ask(server.id, ECHO, b"let me in", retries=2)
    assert caught.value.outcome == "not_done"
    assert len(client.of(LinkDown)) == 1 and client.of(LinkDown)[0].refused, "being refused, it does not try again"
    return caught.value


QUIC_NAMES = {
    "a false signature": "wrong-org-root",
    "not yet valid": "certificate-not-yet-valid",
    "unknown root": "wrong-org-root",
    "root of another organisation": "wrong-org-root",
}
"""Where OpenSSL has a name of its own for what ``verify_chain`` would say on the QUIC path."""


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("a false signature", "unknown-root"),
        ("expired", "certificate-expired"),
        ("not yet valid", "certificate-refused"),
        ("unknown root", "unknown-root"),
        ("root of another organisation", "wrong-org-root"),
        ("another mesh in the name", "wrong-mesh"),
        ("another genesis in the hello", "wrong-genesis"),
    ],
)
async def test_a_client_whose_papers_are_not_in_order(case: str, name: str, kind: str, nursery: trio.Nursery) -> None:
    name = QUIC_NAMES.get(case, name) if kind == "quic" else name
    mesh, server = await listening(nursery)
    stranger = Mesh()
    stranger.orgs = {**mesh.orgs, ALPHA: new_org(ALPHA)}
    other = Mesh(mesh=b"\x99" * 32)
    other.orgs = mesh.orgs
    credentials = {
        "a false signature": lambda: mesh.credentials(ALPHA, signed_by=mesh.orgs[BETA]),
        "expired": lambda: mesh.credentials(age_s=10 * DAY_S),
        "not yet valid": lambda: mesh.credentials(age_s=-10 * DAY_S),
        "unknown root": lambda: stranger.credentials(),
        "root of another organisation": lambda: mesh.credentials(ALPHA, forged_by=mesh.orgs[BETA]),
        "another mesh in the name": lambda: other.credentials(),
        "another genesis in the hello": lambda: replace(mesh.credentials(), mesh=b"\x99" * 32),
    }[case]()
    # The client believes the server, so that the server's word is what ends it.
    credentials = replace(credentials, trust=mesh.trust(), roots=tuple(org.root for org in mesh.orgs.values()))
    error = await refused_dial(mesh, server, credentials, nursery)
    assert error.name == name and isinstance(error, Refused)
    assert [key for key in server.links.statistics() if key.startswith(("refused_", f"path_{kind}_refused_"))]
    await still_serves(mesh, server, nursery)
    nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("kind")
async def test_a_revoked_client_is_refused_and_a_link_ends_when_its_certificate_is_revoked(nursery: trio.Nursery) -> None:
    mesh, server = await listening(nursery)
    client = mesh.node(BETA)
    await client.start(nursery)
    assert await client.ask(server.id, ECHO, b"before") == b"before"
    serial = describe(client.credentials.certificate).serial
    server.recredential(trust=mesh.revoking(BETA, [serial]))
    await until(lambda: client.of(LinkDown) and server.of(LinkDown))
    assert client.of(LinkDown)[0].reason == server.of(LinkDown)[0].reason == "certificate-revoked"
    with pytest.raises(Refused) as caught:
        await client.ask(server.id, ECHO, b"after")
    assert caught.value.name == "certificate-revoked" and caught.value.outcome == "not_done"
    nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("kind")
async def test_a_link_ends_when_its_certificate_has_ended(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshos.node.runtime.links.links.RECHECK_S", 0.02)
    mesh, server = await listening(nursery)
    client = mesh.node(BETA)
    await client.start(nursery)
    assert await client.ask(server.id, ECHO, b"today") == b"today"
    server.path._wall_clock = lambda: time.time() + 2 * DAY_S
    await until(lambda: server.of(LinkDown))
    assert server.of(LinkDown)[0].reason == "certificate-expired" and server.of(LinkDown)[0].refused
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("case", ["unknown root", "root of another organisation", "revoked", "another node"])
async def test_a_dialler_refuses_a_server_that_is_not_the_one_it_wanted(case: str, kind: str, nursery: trio.Nursery) -> None:
    mesh = Mesh()
    stranger = Mesh()
    stranger.orgs = {**mesh.orgs, ALPHA: new_org(ALPHA)}
    credentials = {
        "unknown root": lambda: stranger.credentials(),
        "root of another organisation": lambda: mesh.credentials(ALPHA, forged_by=mesh.orgs[BETA]),
        "revoked": lambda: mesh.credentials(),
        "another node": lambda: mesh.credentials(),
    }[case]()
    server = mesh.node(credentials=credentials, services={ECHO: echo})
    await server.start(nursery)
    client = mesh.node(BETA)
    await client.start(nursery)
    wanted = server.id
    if case == "revoked":
        client.recredential(trust=mesh.revoking(ALPHA, [describe(credentials.certificate).serial]))
    if case == "another node":
        wanted = mesh.node().id
        mesh.nodes[wanted] = server
    with pytest.raises(Refused) as caught:
        await client.ask(wanted, ECHO, b"secret")
    expected = {
        "unknown root": "unknown-root" if kind == "tcp" else "wrong-org-root",
        "root of another organisation": "wrong-org-root",
        "revoked": "certificate-revoked",
    }
    assert caught.value.name == expected.get(case, "node-mismatch")
    assert not server.of(MessageReceived) and not server.of(LinkUp), "nothing of the request left the client"
    nursery.cancel_scope.cancel()


async def test_a_certificate_for_another_key_cannot_even_be_used(nursery: trio.Nursery) -> None:
    mesh = Mesh()
    with pytest.raises(ssl.SSLError):
        contexts(mesh.credentials(certified_key=SigningKey.generate()))
    nursery.cancel_scope.cancel()


# -- bytes of strangers ----------------------------------------------------------------------------------------------


async def raw(server: Node) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", server.path.port)


async def counted(server: Node, name: str, times: int = 1) -> None:
    await until(lambda: server.links.statistics().get(name, 0) >= times)


async def test_plaintext_clients_are_refused(nursery: trio.Nursery) -> None:
    mesh, server = await listening(nursery)
    hello = frames.hello_frame(Hello(mesh.hash, mesh.node().id, b"b" * 16))
    for words in (b"GET / HTTP/1.1\r\n\r\n", hello, b"\x13/multistream/1.0.0\n"):
        stream = await raw(server)
        await stream.send_all(words * 10)
        with trio.fail_after(5):
            answer = await stream.receive_some(1000)
        assert answer[:1] in (b"", b"\x15"), "nothing but a TLS alert"
    await until(lambda: sum(v for k, v in server.links.statistics().items() if k.startswith("path_tcp_refused_")) == 3)
    await still_serves(mesh, server, nursery)
    nursery.cancel_scope.cancel()


async def test_tls_1_2_and_clients_without_a_certificate_are_refused(nursery: trio.Nursery) -> None:
    mesh, server = await listening(nursery)
    old, anonymous = contexts(mesh.credentials())[1], ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    anonymous.check_hostname, anonymous.verify_mode = False, ssl.CERT_NONE
    tls = TlsStream(await raw(server), old, server_side=False)
    with pytest.raises(Refused) as caught:
        await tls.handshake()
    assert caught.value.name == "tls-too-old"
    tls = TlsStream(await raw(server), anonymous, server_side=False)
    await tls.handshake()  # in TLS 1.3 the client has ended its part before the server looks for the certificate
    with pytest.raises(Refused) as caught:
        await tls.receive(1000)
    assert caught.value.name == "no-certificate"
    await counted(server, "path_tcp_refused_tls-too-old")
    await counted(server, "path_tcp_refused_no-certificate")
    await still_serves(mesh, server, nursery)
    nursery.cancel_scope.cancel()


async def test_a_handshake_that_drips_is_cut_and_too_many_are_closed_as_they_come(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "UNAUTHENTICATED_PER_ADDRESS", 3)
    mesh, server = await listening(nursery)
    held = [await raw(server) for _ in range(3)]
    for stream in held:
        await stream.send_all(b"\x16\x03\x01")
    await until(lambda: server.links.statistics()["path_tcp_unauthenticated"] == 3)
    fourth = await raw(server)
    assert await fourth.receive_some(10) == b""
    await counted(server, "path_tcp_refused_too_many")
    await held.pop().aclose()
    await until(lambda: server.links.statistics()["path_tcp_unauthenticated"] == 2)
    await still_serves(mesh, server, nursery)
    monkeypatch.setattr(tcp, "HANDSHAKE_S", 0.05)
    slow = await raw(server)
    await slow.send_all(b"\x16")
    with trio.fail_after(5):
        assert await slow.receive_some(10) == b""
    await counted(server, "path_tcp_refused_handshake-timeout")
    nursery.cancel_scope.cancel()


@asynccontextmanager
async def authenticated(mesh: Mesh, server: Node) -> AsyncIterator[tuple[TlsStream, LinkCodec, Hello]]:
    """A client of our own making, with good papers, before its hello."""
    credentials = mesh.credentials(BETA)
    tls = TlsStream(await raw(server), contexts(credentials)[1], server_side=False)
    await tls.handshake()
    hello = Hello(mesh.hash, describe(credentials.certificate).peer.node, b"b" * 16)
    codec = LinkCodec(hello, dialled=True, org=ALPHA, expect=server.id, partials=Partials())
    try:
        yield tls, codec, hello
    finally:
        await tls.close()


async def greeted(tls: TlsStream, codec: LinkCodec) -> None:
    await tls.send(codec.data_to_send(1 << 17))
    while codec.peer_hello is None:
        if not (data := await tls.receive(1 << 17)):
            raise Unreachable("link-lost", "closed without a hello")
        codec.receive(data)


async def last_words(tls: TlsStream, codec: LinkCodec) -> MeshError:
    """Why the server closes the connection."""
    with trio.fail_after(10), pytest.raises(MeshError) as caught:
        while data := await tls.receive(1 << 17):
            codec.receive(data)
        raise Unreachable("link-lost", "closed without a word")
    return caught.value


ODD = {
    "garbage": (b"\xff" * 100, "frame-too-large"),
    "an oversized frame": (frames.header(limits.FRAME_PAYLOAD_BYTES + 1, FIRST, "work", 0), "frame-too-large"),
    "an oversized message": (frames.header(60, FIRST, "work", 1) + (1 << 31).to_bytes(4, "big") + bytes(56), "message-too-large"),
    "an unknown kind": (frames.frame(99, b""), "bad-frame"),
    "a piece of nothing": (frames.header(3, frames.MORE, "work", 7) + b"abc", "frame-out-of-order"),
}


@pytest.mark.parametrize("case", ODD)
async def test_garbage_after_the_handshake_ends_the_connection_with_a_reason(case: str, nursery: trio.Nursery) -> None:
    data, name = ODD[case]
    mesh, server = await listening(nursery)
    async with authenticated(mesh, server) as (tls, codec, _):
        await greeted(tls, codec)
        codec.send("work", Request(b"i" * 16, ECHO, b"fine", 1000))
        await tls.send(codec.data_to_send(1 << 17) + data)
        assert (await last_words(tls, codec)).name == name
    await until(lambda: not server.links._peers)
    assert [event.reason for event in server.of(LinkDown)] == [name]
    assert not server.reports and not server.rpc.statistics()["running"]
    nursery.cancel_scope.cancel()


async def test_a_peer_names_no_line_of_the_metrics(nursery: trio.Nursery) -> None:
    mesh, server = await listening(nursery)
    for number in range(3):
        made_up = frames.refusal_frame(Refused(f"made-up-{number}", "out of the air"))
        async with authenticated(mesh, server) as (tls, _, _):
            await tls.send(made_up)
            await counted(server, "refused_other", number + 1)
        async with authenticated(mesh, server) as (tls, codec, _):
            await greeted(tls, codec)
            await tls.send(made_up)
            await counted(server, "ended_other", number + 1)
    assert not [name for name in server.links.statistics() if "made-up" in name]
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("changes", "name"), [({"node": "somebody-else"}, "node-mismatch"), ({"versions": (9,)}, "no-common-version")])
async def test_a_hello_that_lies_is_refused(changes: dict[str, object], name: str, nursery: trio.Nursery) -> None:
    mesh, server = await listening(nursery)
    async with authenticated(mesh, server) as (tls, codec, hello):
        await tls.send(frames.hello_frame(replace(hello, **changes)))  # type: ignore[arg-type]
        assert (await last_words(tls, codec)).name == name
    await still_serves(mesh, server, nursery)
    nursery.cancel_scope.cancel()


async def test_no_hello_at_all_is_cut(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "HANDSHAKE_S", 0.05)
    mesh, server = await listening(nursery)
    async with authenticated(mesh, server) as (tls, codec, _):
        assert (await last_words(tls, codec)).name == "link-lost"
    await counted(server, "refused_handshake-timeout")
    nursery.cancel_scope.cancel()


async def test_a_peer_that_falls_silent_is_noticed(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "KEEPALIVE_S", 0.02)
    monkeypatch.setattr(channel, "SILENT_S", 0.2)
    mesh, server = await listening(nursery)
    async with authenticated(mesh, server) as (tls, codec, _):
        await greeted(tls, codec)
        await until(lambda: server.of(LinkDown))
        assert server.of(LinkDown)[0].reason == "link-silent"
    nursery.cancel_scope.cancel()


async def test_a_peer_that_does_not_read_holds_bounded_memory_and_is_cut(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "KEEPALIVE_S", 0.02)
    monkeypatch.setattr(channel, "STALLED_S", 0.3)
    mesh, server = await listening(nursery)
    async with authenticated(mesh, server) as (tls, codec, _):
        tls.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        await greeted(tls, codec)
        for number in range(15):
            codec.send("work", Request(number.to_bytes(16, "big"), ECHO, bytes(900_000), 60_000))
        with suppress(MeshError):  # it asks on and on and reads no answer, until it is cut
            while not server.of(LinkDown):
                codec.ping(1)
                await tls.send(codec.data_to_send(1 << 17))
                await trio.sleep(0.001)
        await until(lambda: server.of(LinkDown))
        assert server.of(LinkDown)[0].reason == "link-stalled"
    await until(lambda: not server.links._peers)
    nursery.cancel_scope.cancel()


async def test_too_many_connections_of_one_peer(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshos.node.runtime.links.links.CONNECTIONS_ACCEPTED", 1)
    mesh, server = await listening(nursery)
    async with authenticated(mesh, server) as (tls, codec, _):
        await greeted(tls, codec)
        async with authenticated(mesh, server) as (second, other, _):
            assert (await last_words(second, other)).name == "link-lost"
        await counted(server, "refused_connections")
    nursery.cancel_scope.cancel()


async def test_clients_that_hang_up_at_once_disturb_nothing(nursery: trio.Nursery) -> None:
    mesh, server = await listening(nursery)
    for _ in range(30):
        stream = await raw(server)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets
        await stream.aclose()
    await counted(server, "path_tcp_refused_link-lost", 30)
    await still_serves(mesh, server, nursery)
    nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize("address", [("127.0.0.1", 70_000), ("a\0b", 1), ("\u2100" * 80, 1), ("", -1), ("256.1.1.1", 1)])
async def test_an_address_that_is_none_is_unreachable(address: tuple[str, int], nursery: trio.Nursery) -> None:
    mesh, server = await listening(nursery)
    mesh.address_of = lambda node: address  # type: ignore[method-assign]
    server.path._address_of = mesh.address_of
    with pytest.raises(Unreachable) as caught:
        await server.ask(mesh.node().id, ECHO)
    assert caught.value.name == "peer-unreachable" and caught.value.outcome == "not_done"
    nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize("dials", [True, False])
async def test_a_bug_that_a_peers_bytes_meet_ends_its_connection_alone(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, dials: bool
) -> None:
    mesh, server = await listening(nursery)
    unlucky = mesh.node(BETA, services={ECHO: echo})
    await unlucky.start(nursery)
    received = server.links._received

    async def buggy(peer: Peer, messages: list[tuple[Lane, Message]]) -> None:
        if peer == unlucky.peer:
            raise KeyError("a bug")
        await received(peer, messages)

    monkeypatch.setattr(server.links, "_received", buggy)
    asker, asked = (unlucky, server) if dials else (server, unlucky)
    with pytest.raises(MeshError):
        await asker.ask(asked.id, ECHO, b"bug", timeout_s=2.0)
    await until(lambda: server.of(LinkDown) and unlucky.of(LinkDown))
    assert server.of(LinkDown)[0].reason == "link-lost"
    honest = mesh.node(BETA)
    await honest.start(nursery)
    assert await honest.ask(server.id, ECHO, b"fine") == b"fine"
    assert server.links.statistics()["bugs"] >= 1
    assert all(record.exc_info for record in caplog.records if record.message == "bug")
    assert "bug" in [record.message for record in caplog.records]


@pytest.mark.parametrize("dials", [True, False])
async def test_a_bug_in_a_handshake_ends_that_connection_alone(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, dials: bool, kind: str
) -> None:
    mesh, server = await listening(nursery)
    unlucky = mesh.node(BETA, services={ECHO: echo})
    await unlucky.start(nursery)

    def buggy(*arguments: object) -> NoReturn:
        raise KeyError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(server.path, "_authenticated" if kind == "tcp" else "_authenticate", buggy)
        asker, asked = (unlucky, server) if dials else (server, unlucky)
        with pytest.raises(MeshError):
            await asker.ask(asked.id, ECHO, timeout_s=2.0)
    assert "bug" in [record.message for record in caplog.records]
    assert await asker.ask(asked.id, ECHO, b"fine", retries=3) == b"fine"
