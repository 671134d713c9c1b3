"""What one organisation can do to the links of the others with connections that are properly its own: nothing."""

import pytest
import trio

from meshos.buckets import Buckets
from meshos.crypto.certificates import describe
from meshos.errors import MeshError
from meshos.ids import OrgDid
from meshos.node.runtime.links import channel, limits, links, tcp
from meshos.node.runtime.links.tls import Credentials, TlsStream, contexts
from meshos.protocols.rpc.codec import LinkCodec
from meshos.protocols.rpc.events import Inbound, LinkDown, Request
from meshos.protocols.rpc.frames import Hello
from meshos.protocols.rpc.limits import FRAME_BYTES, MIB
from meshos.protocols.rpc.partials import Partials
from tests.links.mesh import ALPHA, BETA, Mesh, Node, until
from tests.links.test_strangers import ECHO, counted, greeted, last_words, listening, raw, still_serves

SIZE = "/test/size/1"
GAMMA = OrgDid("did:mesh:enterprise:gamma")


async def size(request: Inbound) -> bytes:
    return str(len(request.body)).encode()


async def serving(nursery: trio.Nursery, partials: Partials) -> tuple[Mesh, Node, Node]:
    """A mesh, its server with this memory for half received messages, and an honest node that is linked to it."""
    mesh = Mesh(orgs=(ALPHA, BETA, GAMMA))
    server, honest = mesh.node(services={SIZE: size}), mesh.node(services={SIZE: size})
    server.links._partials = partials
    for node in (server, honest):
        await node.start(nursery)
    assert await honest.ask(server.id, SIZE) == b"0"
    return mesh, server, honest


async def connected(
    mesh: Mesh, server: Node, org: OrgDid, credentials: Credentials | None = None, **hello: object
) -> tuple[TlsStream, LinkCodec]:
    """A greeted connection of our own making, with good papers."""
    credentials = credentials or mesh.credentials(org)
    tls = TlsStream(await raw(server), contexts(credentials)[1], server_side=False)
    await tls.handshake()
    own = Hello(mesh.hash, describe(credentials.certificate).peer.node, b"b" * 16, **hello)  # type: ignore[arg-type]
    codec = LinkCodec(own, dialled=True, org=ALPHA, expect=server.id, partials=Partials())
    await greeted(tls, codec)
    return tls, codec


async def hold(server: Node, tls: TlsStream, codec: LinkCodec, count: int) -> None:
    """Begin a message of 16 MiB, send a little more than ``count`` bytes of it, and wait until the server has them all."""
    before = server.links._partials.used
    codec.send("bulk", Request(b"i" * 16, SIZE, bytes(16 * MIB), 60_000))
    sent = 0
    while sent < count:
        data = codec.data_to_send(1 << 17)
        await tls.send(data)
        sent += len(data)
    (item,) = codec._out["bulk"].active
    await until(lambda: server.links._partials.used == before + item.offset - len(item.head))


async def test_an_attacker_beyond_its_share_ends_its_own_link_only(nursery: trio.Nursery) -> None:
    mesh, server, honest = await serving(nursery, Partials(limit=8 * MIB, share=4 * MIB))
    first, second = await connected(mesh, server, BETA), await connected(mesh, server, BETA)
    await hold(server, *first, 3 * MIB)
    tls, codec = second
    codec.send("bulk", Request(b"i" * 16, SIZE, bytes(3 * MIB), 60_000))
    room = server.links._partials.share - server.links._partials.used
    while room >= 0:  # up to the first piece that is too much: what comes after it would reset the connection
        data = codec.data_to_send(FRAME_BYTES)
        await tls.send(data)
        room -= len(data) - 200
    error = await last_words(tls, codec)
    assert error.name == "busy" and BETA in error.detail
    assert await honest.ask(server.id, SIZE, bytes(3 * MIB), timeout_s=20) == str(3 * MIB).encode()
    assert await honest.ask(server.id, SIZE, bytes(900_000)) == b"900000"
    await until(lambda: server.of(LinkDown))
    assert [event.reason for event in server.of(LinkDown)] == ["busy"] and not honest.of(LinkDown)
    assert server.links.statistics()["partial_evictions"] == 0
    nursery.cancel_scope.cancel()


async def test_attackers_that_fill_the_pool_are_evicted_and_an_honest_link_is_not(nursery: trio.Nursery) -> None:
    mesh, server, honest = await serving(nursery, Partials(limit=9 * MIB, share=5 * MIB))
    held = [(await connected(mesh, server, org), count) for org, count in ((BETA, 4 * MIB), (GAMMA, 9 * MIB // 2))]
    for connection, count in held:
        await hold(server, *connection, count)
    assert await honest.ask(server.id, SIZE, bytes(3 * MIB), timeout_s=20) == str(3 * MIB).encode()
    assert (await last_words(*held[1][0])).name == "busy"
    await until(lambda: server.of(LinkDown))
    assert [event.reason for event in server.of(LinkDown)] == ["busy"] and not honest.of(LinkDown)
    assert server.links.statistics()["partial_evictions"] == 1
    nursery.cancel_scope.cancel()


async def test_a_message_that_does_not_go_on_ends_its_link(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, server, honest = await serving(nursery, Partials())
    monkeypatch.setattr(channel, "KEEPALIVE_S", 0.02)
    monkeypatch.setattr(channel, "PARTIAL_S", 0.2)
    tls, codec = await connected(mesh, server, BETA)
    await hold(server, tls, codec, MIB)
    await until(lambda: server.of(LinkDown))
    assert [event.reason for event in server.of(LinkDown)] == ["link-stalled"]
    assert server.links.statistics()["partial_bytes"] == 0 and not honest.of(LinkDown)
    nursery.cancel_scope.cancel()


async def test_a_second_bulk_connection_replaces_the_first(nursery: trio.Nursery) -> None:
    mesh, server, _ = await serving(nursery, Partials())
    credentials = mesh.credentials(BETA)
    first = await connected(mesh, server, BETA, credentials, lanes=("bulk",))
    await hold(server, *first, MIB)
    second = await connected(mesh, server, BETA, credentials, lanes=("bulk",))
    assert (await last_words(*first)).name == "link-lost"
    await until(lambda: server.links.statistics().get("ended_link-replaced") == 1)
    assert server.links.statistics()["partial_bytes"] == 0, "and what it held is free"
    await hold(server, *second, MIB)
    other = await connected(mesh, server, BETA, lanes=("bulk",))  # of another node
    await hold(server, *other, MIB)
    assert server.links.statistics()["ended_link-replaced"] == 1
    nursery.cancel_scope.cancel()


async def test_large_messages_in_both_directions_at_once_keep_their_connections(nursery: trio.Nursery) -> None:
    _, server, honest = await serving(nursery, Partials())
    answers: list[bytes] = []

    async def ask(asker: Node, to: Node) -> None:
        answers.append(await asker.ask(to.id, SIZE, bytes(2 * MIB), timeout_s=30))

    async with trio.open_nursery() as asking:
        for _ in range(3):
            asking.start_soon(ask, server, honest)
            asking.start_soon(ask, honest, server)
    assert answers == [str(2 * MIB).encode()] * 6
    for node in (server, honest):
        assert "ended_link-replaced" not in node.links.statistics()
        assert sum(state.lanes == ("bulk",) and state.dialled for state in node.links.states()) <= 1
    nursery.cancel_scope.cancel()


# -- connections -----------------------------------------------------------------------------------------------------


async def test_nodes_of_one_organisation_cannot_take_the_places_of_the_others(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "CONNECTIONS_PER_ORG", 2)
    mesh, server, _ = await serving(nursery, Partials())
    first, second = await connected(mesh, server, BETA), await connected(mesh, server, BETA)
    with pytest.raises(MeshError):
        await connected(mesh, server, BETA)
    await until(lambda: server.links.statistics().get("refused_connections") == 1)
    await connected(mesh, server, GAMMA)
    await first[0].close()
    await until(lambda: server.of(LinkDown))
    await connected(mesh, server, BETA)  # its place is free again
    await second[0].close()
    nursery.cancel_scope.cancel()


async def test_where_all_places_are_taken_from_outside_this_node_still_opens_links(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "CONNECTIONS", 3)
    monkeypatch.setattr(links, "CONNECTIONS_ACCEPTED", 2)
    mesh, server, _ = await serving(nursery, Partials())
    held = await connected(mesh, server, BETA)
    with pytest.raises(MeshError):
        await connected(mesh, server, GAMMA)
    other = await mesh.node(GAMMA, services={SIZE: size}).start(nursery)
    assert await server.ask(other.id, SIZE, b"hi") == b"2"
    await held[0].close()
    nursery.cancel_scope.cancel()


# -- handshakes ------------------------------------------------------------------------------------------------------


async def test_handshakes_that_come_too_often_are_refused_before_tls(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "HANDSHAKES_BURST", 3)
    monkeypatch.setattr(tcp, "HANDSHAKES_PER_S", 0.0)
    mesh, server = await listening(nursery)
    for _ in range(3):
        await (await raw(server)).aclose()
    await counted(server, "path_tcp_refused_link-lost", 3)
    fourth = await raw(server)
    with trio.fail_after(5):
        assert await fourth.receive_some(10) == b""
    assert server.links.statistics()["path_tcp_refused_too_often"] == 1
    server.path._rates = Buckets(limits.HANDSHAKES_PER_S, limits.HANDSHAKES_BURST, limits.HANDSHAKE_SOURCES)
    await still_serves(mesh, server, nursery)
    nursery.cancel_scope.cancel()


async def test_strangers_of_many_addresses_are_refused_before_tls_and_keep_no_member_out(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "STRANGE_HANDSHAKES_BURST", 3)
    monkeypatch.setattr(tcp, "STRANGE_HANDSHAKES_PER_S", 0.0)
    mesh, server = await listening(nursery)
    member = await mesh.node(BETA).start(nursery)
    assert await member.ask(server.id, ECHO, b"first") == b"first"
    for number in range(2, 8):
        stream = await trio.open_tcp_stream("127.0.0.1", server.path.port, local_address=f"127.0.0.{number}")
        await stream.aclose()
    await counted(server, "path_tcp_refused_too_often", 4)
    other = await mesh.node(BETA).start(nursery)  # at the same address as the first
    assert await other.ask(server.id, ECHO, b"second") == b"second"
    nursery.cancel_scope.cancel()
