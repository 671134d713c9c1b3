"""Two paths to a peer that is talked to: what becomes of calls when one of them ends, and when both do."""

import pytest
import trio

from meshos.errors import MeshError, Unreachable
from meshos.node.runtime.links import peer_links, standby
from meshos.protocols.rpc.events import Cancel, LinkDown, LinkUp, Request, Rerouted
from meshos.protocols.rpc.limits import MIB, OUTBOUND_BYTES, REROUTES_BURST
from tests.links.mesh import Node, until
from tests.links.pairs import BIG, ECHO, SLOW, Services, break_tcp, carries, lose_first, mains, pair, pair_behind_a_router, use, warm

pytestmark = pytest.mark.usefixtures("both")


@pytest.mark.parametrize("used", ["tcp", "quic"])
async def test_a_path_that_breaks_under_calls_costs_none_and_is_opened_again(used: str, nursery: trio.Nursery) -> None:
    services = Services()
    _, a, b = await pair(nursery, services)
    await warm(a, b)
    await use(a, b, used)
    answers: list[bytes] = []

    async def ask(who: Node, whom: Node, number: int) -> None:
        answers.append(await who.ask(whom.id, SLOW if number % 2 else ECHO, b"%d" % number))

    async with trio.open_nursery() as asking:
        for number in range(60):
            asking.start_soon(ask, *((a, b) if number % 4 < 2 else (b, a)), number)
            if number == 30:
                broken = mains(b, a)[used]
                if used == "tcp":
                    break_tcp(broken)
                else:
                    broken.end(Unreachable("link-lost", "the test has ended it"))
            await trio.sleep(0.002)
    assert sorted(answers, key=int) == [b"%d" % number for number in range(60)]
    assert sorted(services.runs, key=lambda body: int(body or b"-1")) == [b"", *(b"%d" % number for number in range(60))], "each once"
    assert not a.of(LinkDown) and not b.of(LinkDown) and a.of(Rerouted) and b.of(Rerouted)
    await until(lambda: len(mains(a, b)) == len(mains(b, a)) == 2)
    await until(lambda: all(len(node.links.states()) == node.links.statistics()["connections"] == 2 for node in (a, b)))
    nursery.cancel_scope.cancel()


async def test_a_path_that_swallows_everything_is_left_and_later_closed(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standby, "PATH_SILENT_S", 0.6)
    services = Services()
    a, b, router = await pair_behind_a_router(nursery, services)
    await use(a, b, "quic")
    noticed: list[tuple[str, str]] = []
    a.links.noticed = lambda node, path, why: noticed.append((path, why))
    router.cut = True
    assert await a.ask(b.id, ECHO, b"through") == b"through", "without a retry, over the other one"
    assert (carries(a, b), carries(b, a)) == ("tcp", "tcp")
    assert sum(node.links.statistics().get("paths_stalled", 0) for node in (a, b)) >= 1, "whoever has noticed it first told the other"
    assert a.of(Rerouted) and b.of(Rerouted) and noticed in ([("tcp", "stalled")], [("tcp", "told")])
    await until(lambda: list(mains(a, b)) == list(mains(b, a)) == ["tcp"])
    router.cut = False
    await a.ask(b.id, ECHO)
    await until(lambda: len(mains(a, b)) == len(mains(b, a)) == 2)
    assert len(a.of(LinkUp)) == len(b.of(LinkUp)) == 1 and not a.of(LinkDown) and not b.of(LinkDown)
    nursery.cancel_scope.cancel()


async def test_a_large_reply_whose_connection_breaks_goes_over_the_next(nursery: trio.Nursery) -> None:
    _, a, b = await pair(nursery)
    await warm(a, b)
    size = 64 * MIB
    answers: list[bytes] = []

    async def ask() -> None:
        answers.append(await a.ask(b.id, BIG, str(size).encode(), timeout_s=60))

    async with trio.open_nursery() as asking:
        asking.start_soon(ask)
        await until(lambda: any(each.bulk_only and each.bytes_out > MIB for each in b.links._peers[a.id].channels))
        (bulk,) = (each for each in b.links._peers[a.id].channels if each.bulk_only)
        assert bulk.codec.waiting == 1
        break_tcp(bulk)
    assert [len(answer) for answer in answers] == [size] and not a.of(LinkDown)
    nursery.cancel_scope.cancel()


async def test_a_large_reply_that_had_left_when_its_connection_broke_is_asked_for_again(nursery: trio.Nursery) -> None:
    _, a, b = await pair(nursery)
    lost = lose_first(a, bytes(2 * MIB))
    await warm(a, b)
    answers: list[bytes] = []

    async def ask() -> None:
        answers.append(await a.ask(b.id, BIG, str(2 * MIB).encode()))

    async with trio.open_nursery() as asking:
        asking.start_soon(ask)
        await until(lambda: bool(lost))
        (bulk,) = (each for each in b.links._peers[a.id].channels if each.bulk_only)
        assert bulk.codec.waiting == 0
        break_tcp(bulk)
    assert [len(answer) for answer in answers] == [2 * MIB] and len(lost) == 1 and not a.of(LinkDown)
    nursery.cancel_scope.cancel()


async def test_what_is_asked_of_a_peer_that_is_gone_before_that_is_known_was_not_done(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_links, "ANSWER_S", 0.5)
    a, b, router = await pair_behind_a_router(nursery)
    peer = a.links.peer(b.id)
    assert peer is not None
    for node in (a, b):
        node.paths[0]._address_of = lambda node: None  # what breaks is not opened again
    router.cut = True
    break_tcp(mains(a, b)["tcp"])
    await until(lambda: peer.proving is not None)
    with pytest.raises(MeshError) as caught:
        await a.ask(b.id, ECHO, b"x")
    assert caught.value.outcome == "not_done" and a.of(LinkDown)[0].reason == "link-silent" and not peer.held
    nursery.cancel_scope.cancel()


async def test_what_waits_for_a_peer_to_answer_is_sent_once_it_has(nursery: trio.Nursery) -> None:
    services = Services()
    _, a, b = await pair(nursery, services)
    await warm(a, b)
    break_tcp(mains(a, b)["tcp"])
    peer = a.links.peer(b.id)
    assert peer is not None
    await until(lambda: peer.proving is not None)
    assert await a.ask(b.id, ECHO, b"x") == b"x" and services.runs.count(b"x") == 1 and not peer.held
    nursery.cancel_scope.cancel()


async def test_no_more_waits_for_a_peer_to_answer_than_fits_its_lane(nursery: trio.Nursery) -> None:
    _, a, b = await pair(nursery)
    await warm(a, b)
    peer = a.links.peer(b.id)
    assert peer is not None and peer.main is not None
    peer.proving = peer.main, peer.main.pings + 1, trio.current_time()
    one = Request(bytes(16), ECHO, bytes(MIB), 1_000)
    held = sum(peer.hold("work", one) for _ in range(2 * OUTBOUND_BYTES["work"] // MIB))
    assert held == OUTBOUND_BYTES["work"] // MIB and peer.hold("control", Cancel(bytes(16))), "each lane has its own bound"
    peer.held.clear()
    nursery.cancel_scope.cancel()


async def test_a_peer_cannot_have_everything_sent_again_for_ever(nursery: trio.Nursery) -> None:
    _, a, b = await pair(nursery)
    await warm(a, b)
    channel = mains(b, a)["tcp"]
    for _ in range(100):
        channel.reroute()
        await trio.sleep(0.001)
    await until(lambda: a.links.statistics().get("paths_told_too_often", 0) + a.links.statistics().get("paths_told", 0) >= 10)
    assert 1 <= len(a.of(Rerouted)) <= REROUTES_BURST + 1
    assert await a.ask(b.id, ECHO, b"fine") == b"fine"
    nursery.cancel_scope.cancel()


async def test_what_may_not_be_asked_for_yet_is_asked_for_later(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_links, "REROUTES_PER_S", 2.0)
    services = Services()
    _, a, b = await pair(nursery, services)
    lost = lose_first(a, b"x")
    await warm(a, b)
    answers: list[bytes] = []

    async def ask() -> None:
        answers.append(await a.ask(b.id, SLOW, b"x"))

    async with trio.open_nursery() as asking:
        asking.start_soon(ask)
        await until(lambda: bool(lost))
        peer = a.links.peer(b.id)
        assert peer is not None
        while peer._told.take(trio.current_time()):
            pass  # it has said it as often as it may
        mains(b, a)["tcp"].reroute()
    assert answers == [b"x"] and services.runs.count(b"x") == 1 and len(lost) == 1
    assert a.links.statistics()["paths_told_too_often"] == 1
    nursery.cancel_scope.cancel()
