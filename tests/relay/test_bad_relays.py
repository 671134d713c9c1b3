"""A relay that drops, delays, doubles, swaps or alters: the connection ends with a name, and nothing that was not sent is ever heard."""

import pytest
import trio

from meshos.effects import Cast
from meshos.errors import MeshError
from meshos.node.runtime.links import channel, relay
from meshos.node.runtime.links.path import Connection
from meshos.node.runtime.links.splicing import Splicing
from meshos.protocols.relay.wire import CAST, Called, Want, encode
from meshos.protocols.rpc.events import LinkUp, MessageReceived, Request
from tests.links.mesh import BETA, until
from tests.relay.mesh import GAMMA, three


class Bent(Splicing):
    """Honest until it is told to begin."""

    begun = False
    kept: list[tuple[Connection, bytes]]

    async def forward(self, to: Connection, data: bytes) -> None:
        if type(self).begun:
            await self.bend(to, data)
        else:
            await super().forward(to, data)

    async def pass_on(self, to: Connection, data: bytes) -> None:
        await Splicing.forward(self, to, data)

    async def bend(self, to: Connection, data: bytes) -> None:
        raise NotImplementedError


class Alters(Bent):
    async def bend(self, to: Connection, data: bytes) -> None:
        await self.pass_on(to, data[:-1] + bytes([data[-1] ^ 1]))


class AltersLengths(Bent):
    async def bend(self, to: Connection, data: bytes) -> None:
        await self.pass_on(to, data[:3] + bytes([data[3] ^ 0x7F]) + data[4:])


class Doubles(Bent):
    async def bend(self, to: Connection, data: bytes) -> None:
        await self.pass_on(to, data + data)


class Drops(Bent):
    """Every other piece."""

    count = 0

    async def bend(self, to: Connection, data: bytes) -> None:
        Drops.count += 1
        if Drops.count % 2:
            await self.pass_on(to, data[: len(data) // 2])


class Swaps(Bent):
    """Each piece goes out after the next one in its direction."""

    async def bend(self, to: Connection, data: bytes) -> None:
        kept = vars(self).setdefault("_kept", {})
        if id(to) in kept:
            await self.pass_on(to, data + kept.pop(id(to)))
        else:
            kept[id(to)] = data


class Invents(Bent):
    async def bend(self, to: Connection, data: bytes) -> None:
        await self.pass_on(to, b"\x17\x03\x03\x00\x20" + bytes(32) + data)


class Delays(Bent):
    async def bend(self, to: Connection, data: bytes) -> None:
        await trio.sleep(0.1)
        await self.pass_on(to, data)


class Holds(Bent):
    """All of it, for ever."""

    async def bend(self, to: Connection, data: bytes) -> None:
        await trio.sleep_forever()


LYING = [Alters, AltersLengths, Doubles, Drops, Swaps, Invents]


@pytest.fixture(params=LYING)
def lying(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[Bent]:
    monkeypatch.setattr(request.param, "begun", False)
    bent: type[Bent] = request.param
    return bent


async def test_what_is_bent_ends_the_connection_and_nothing_else_is_heard(
    lying: type[Bent], nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "KEEPALIVE_S", 0.2)  # so that there is always something to bend
    _, a, b, r = await three(nursery, splicing=lying)
    assert await a.ask(b, b"before")
    lying.begun = True
    errors: list[MeshError] = []

    async def ask() -> None:
        try:
            await a.ask(b, b"during", timeout_s=2)
        except MeshError as error:
            errors.append(error)

    async with trio.open_nursery() as asking:
        for _ in range(3):
            asking.start_soon(ask)
    assert errors
    await until(lambda: a.downs() and b.downs())
    assert "relay-altered" in {*a.downs(), *b.downs()} and {*a.downs(), *b.downs()} <= {"relay-altered", "link-lost"}
    heard = [event.message for event in b.events if isinstance(event, MessageReceived) and event.peer == a.peer]
    assert {message.body for message in heard if isinstance(message, Request)} <= {b"before", b"during"}
    assert not (a.reports + b.reports + r.reports)
    nursery.cancel_scope.cancel()


async def test_a_handshake_that_is_bent_is_that_relays_failure_and_another_one_is_tried(
    lying: type[Bent], nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "TRY_S", 0.5)
    lying.begun = True
    mesh, a, b, bad = await three(nursery, splicing=lying)
    a.relays = [bad.id]
    with pytest.raises(MeshError) as caught:
        await a.ask(b)
    assert caught.value.outcome == "not_done"
    failures = {name for name, count in a.relay.statistics().items() if "_failed_" in name and count}
    assert bad.links.statistics()["splicing_bytes"], "it went through the bent relay"
    assert failures <= {"relay_failed_relay-altered", "relay_failed_link-lost", "relay_failed_handshake-timeout"}
    good = await mesh.member(GAMMA).start(nursery)
    await a.link(good)
    await b.link(good)
    a.relays = [bad.id, good.id]
    assert await a.ask(b, b"through the other", timeout_s=15)
    assert a.state(b).via == good.id
    nursery.cancel_scope.cancel()


async def test_one_that_delays_is_slow_and_no_more(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Delays, "begun", True)
    _, a, b, _ = await three(nursery, splicing=Delays)
    assert [await a.ask(b, bytes([number])) for number in range(3)]
    assert not a.downs() and not b.downs()
    nursery.cancel_scope.cancel()


async def test_one_that_holds_everything_back_is_silence_and_tried_last_after_that(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "KEEPALIVE_S", 0.5)
    monkeypatch.setattr(channel, "SILENT_S", 2.0)
    monkeypatch.setattr(Holds, "begun", False)
    mesh, a, b, _ = await three(nursery, splicing=Holds)
    await a.ask(b)
    Holds.begun = True
    await until(lambda: "link-silent" in a.downs())
    good = await mesh.member(GAMMA).start(nursery)
    await a.link(good)
    await b.link(good)
    assert await a.ask(b, b"through the other", timeout_s=15)
    assert a.state(b).via == good.id, "the one before may be why another is needed"
    nursery.cancel_scope.cancel()


async def test_a_relay_that_leads_to_somebody_else_is_found_out(nursery: trio.Nursery) -> None:
    """It calls ``c`` where ``b`` was wanted: its machine believes that they are the same."""
    mesh, a, b, r = await three(nursery)
    c = await mesh.member(BETA).start(nursery)
    await c.link(r)
    honest = r.machine.carrying._peer_of
    r.machine.carrying._peer_of = lambda node: honest(c.id if node == b.id else node)
    with pytest.raises(MeshError):
        await a.ask(b)
    assert a.relay.statistics()["relay_failed_relay-altered"] == 1
    assert not [event for event in a.events if isinstance(event, LinkUp) and event.peer.node in (b.id, c.id)]
    nursery.cancel_scope.cancel()


async def test_a_relay_cannot_call_a_node_for_somebody_who_is_not_there(nursery: trio.Nursery) -> None:
    """It names ``a`` as the caller, and is itself at the other end: its certificate says so."""
    _, a, b, r = await three(nursery)
    token = b"t" * 16
    r.host.deliver("rpc", Cast(b.id, CAST, encode(Called(token, a.id))))
    await until(lambda: b.machine.statistics()["answering"] == 0 and b.figure("called") == 1)
    assert b.relay.statistics()["relay_refused_relay-token"] == 1, "that relay did not give it to itself"
    nursery.cancel_scope.cancel()


async def test_a_flood_of_wants_is_counted_and_costs_no_connection(nursery: trio.Nursery) -> None:
    _, a, b, r = await three(nursery)
    for number in range(200):
        a.host.deliver("rpc", Cast(r.id, CAST, encode(Want(number, b.id))))
    await until(lambda: r.figure("refused_relay-too-often") > 100)
    assert r.figure("pairs") <= 8 and r.links.statistics()["splicing_legs"] == 0
    assert await b.ask(r), "others are served"
    nursery.cancel_scope.cancel()
