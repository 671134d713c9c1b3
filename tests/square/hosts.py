"""A real square on loopback, and strangers that come to it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from meshos.crypto.keys import SigningKey, node_id
from meshos.node.runtime.square.asking import Asking, dial
from meshos.node.runtime.square.host import SquareHost
from meshos.node.runtime.square.offer import Offer
from meshos.node.runtime.square.places import Where
from meshos.node.runtime.square.quic_endpoint import Endpoint
from meshos.node.runtime.square.quic_muxed import QuicMuxed
from meshos.node.runtime.square.square import Place, Square
from meshos.protocols.square import wire
from meshos.protocols.square.announcements import heads_topic
from meshos.protocols.square.answering import Answering, Asker, Protocol
from meshos.protocols.square.budget import Budget, Rate, Rates
from meshos.protocols.square.peer_record import Records, seal
from meshos.protocols.square.routes import note_of, routes_of
from tests.square.mesh import GENESIS, KEY, ME, MESH_KNOWN, answering

ECHO = "/test/echo/1"
HEADS = heads_topic(GENESIS.hash)
NEWS: dict[str, bytes] = {HEADS: b"a head"}
OTHERS = [SigningKey(bytes([number]) * 32) for number in range(1, 41)]
ROUTES = routes_of((node_id(key.public), note_of([f"/ip4/192.0.2.{place}/tcp/8401"])) for place, key in enumerate(OTHERS))
RECORDS = Records()
RECORDS.renew(
    (node_id(key.public), seal(key.sign_bytes, node_id(key.public), [f"/ip4/192.0.2.{place}/tcp/8401"], 1))
    for place, key in enumerate(OTHERS)
)
AMPLE = Rates(Rate(10_000, 10_000), Rate(10_000, 10_000), Rate(10_000, 10_000))


async def echo(fields: wire.Fields, asker: Asker) -> object:
    """What was asked, and by whom."""
    return {"fields": dict(fields), "peer": asker.peer, "address": asker.address}


def square(rates: Rates | None = AMPLE, key: SigningKey = KEY, answers: Answering | None = None) -> Square:
    """One that is not open yet; by default with a budget that no test here meets."""
    answers = answers or answering(MESH_KNOWN, [Protocol(ECHO, 1, echo, timeout_s=1.0)])
    if rates is not None:
        answers.budget = Budget(rates)
    offer = Offer(
        answers,
        GENESIS.hash,
        "meshos/test",
        addresses=lambda: of.addresses,
        routes=lambda: ROUTES,
        records=lambda: RECORDS,
        news=lambda: dict(NEWS),
    )
    of = Square(Place("127.0.0.1", 0, "127.0.0.1", ME.node), key.seed(), offer)
    return of


async def opened(nursery: trio.Nursery, of: Square | None = None) -> Square:
    """A square, or this one, once it is open."""
    of = of or square()
    nursery.start_soon(of.run)
    while not of.addresses:
        await trio.sleep(0.01)
    return of


def port(of: Square) -> int:
    """Where it listens."""
    return int(of.addresses[0].split("/")[4])


@asynccontextmanager
async def stranger(of: Square, seed: bytes | None = None, *, quic: bool = False) -> AsyncIterator[Asking]:
    """A connection of somebody new."""
    async with dial(Where("127.0.0.1", port(of), ME.node, quic), seed) as asking:
        yield asking


def host(of: Square) -> SquareHost:
    """The host of a square that somebody has knocked at."""
    assert of._open is not None and of._open.host is not None
    return of._open.host


def endpoint(of: Square) -> Endpoint:
    """Its QUIC, once somebody has knocked."""
    found = host(of).endpoint
    assert found is not None
    return found


def only_quic(of: Square) -> QuicMuxed:
    """The one connection that there is over QUIC."""
    (muxed,) = set(endpoint(of).connections._by_id.values())
    return muxed


async def ended(of: Square, name: str, times: int = 1) -> None:
    """Wait until the square has ended or refused something so often for this reason."""
    with trio.fail_after(10):
        while host(of).table.ended[name] + of._answering.refused[name] < times:
            await trio.sleep(0.01)


async def empty(of: Square) -> None:
    """Wait until no connection and no stream is left."""
    with trio.fail_after(10):
        while host(of).table.connections:
            await trio.sleep(0.01)
    assert host(of).statistics()["streams"] == 0


async def still_serves(of: Square, *, quic: bool = False) -> None:
    """Somebody honest is answered, whatever went before."""
    async with stranger(of, quic=quic) as honest:
        assert isinstance(await honest.ask(ECHO, wire.encode_request({"n": 1})), dict)
