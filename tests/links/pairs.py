"""Two nodes with two paths between them: what tests of both paths begin with."""

import trio

from meshos.effects import Ok
from meshos.flow import Lane, Sleep
from meshos.ids import Peer
from meshos.node.runtime.links.channel import Channel
from meshos.node.runtime.links.tcp import TcpConnection
from meshos.protocols.rpc.events import Inbound, Message, Reply
from tests.links.mesh import BETA, Mesh, Node, until
from tests.links.quic_stranger import Router

ECHO, SLOW, BIG = "/test/echo/1", "/test/slow/1", "/test/big/1"


class Services:
    def __init__(self) -> None:
        self.runs: list[bytes] = []
        self.all = {ECHO: self.echo, SLOW: self.slow, BIG: self.big}

    async def echo(self, request: Inbound) -> bytes:
        self.runs.append(request.body)
        return request.body

    async def big(self, request: Inbound) -> bytes:
        return bytes(int(request.body))

    async def slow(self, request: Inbound) -> bytes:
        self.runs.append(request.body)
        await Sleep(0.3)
        return request.body


async def pair(nursery: trio.Nursery, services: Services | None = None) -> tuple[Mesh, Node, Node]:
    mesh = Mesh()
    table = (services or Services()).all
    a, b = mesh.node(services=table), mesh.node(BETA, services=table)  # type: ignore[arg-type]
    await a.start(nursery)
    await b.start(nursery)
    return mesh, a, b


async def pair_behind_a_router(nursery: trio.Nursery, services: Services | None = None) -> tuple[Node, Node, Router]:
    """The same, with a router between them that can swallow what goes over QUIC; both paths are there and have answered."""
    mesh = Mesh()
    table = (services or Services()).all
    a, b = mesh.node(services=table), mesh.node(BETA, services=table)  # type: ignore[arg-type]
    await b.start(nursery)
    router = Router(lambda: ("127.0.0.1", b.paths[1].port))
    await nursery.start(router.run)
    a.paths[1]._address_of = lambda node: ("127.0.0.1", router.port)
    await a.start(nursery)
    await warm(a, b)
    return a, b, router


def mains(node: Node, peer: Node) -> dict[str, Channel]:
    found = node.links.peer(peer.id)
    return {} if found is None else found.mains


def carries(node: Node, peer: Node) -> str | None:
    found = node.links.peer(peer.id)
    return None if found is None else found.choice.current


async def warm(a: Node, b: Node) -> None:
    """Both paths are there and have answered, on both sides."""
    await a.ask(b.id, ECHO)
    for one, other in ((a, b), (b, a)):
        await until(lambda one=one, other=other: len(mains(one, other)) == 2)
        await until(lambda one=one, other=other: all(each.ponged for each in mains(one, other).values()))


async def use(a: Node, b: Node, path: str) -> None:
    """Have both sides send over ``path``."""
    for one, other in ((a, b), (b, a)):
        peer = one.links.peer(other.id)
        assert peer is not None
        peer.choice.told(path)
        peer._settle()


def break_tcp(channel: Channel) -> None:
    """As a reset on the way does: both sides lose the connection."""
    assert isinstance(channel.connection, TcpConnection)
    channel.connection._tls.transport.socket.shutdown(2)


def lose_first(node: Node, answer: bytes) -> list[object]:
    """Have ``node`` lose the first of these answers, as in a path that was cut; gives what was lost."""
    received = node.links._received
    lost: list[object] = []

    async def losing(peer: Peer, messages: list[tuple[Lane, Message]]) -> None:
        gone = [] if lost else [each for each in messages if isinstance(each[1], Reply) and each[1].outcome == Ok(answer)]
        lost.extend(gone)
        await received(peer, [each for each in messages if each not in gone])

    node.links._received = losing  # type: ignore[method-assign]
    return lost
