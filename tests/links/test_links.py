"""Links between nodes that may talk: requests, lanes, bulk, simultaneous opens, ends and new beginnings."""

import pytest
import trio

from meshos.errors import MeshError, Refused, Unreachable
from meshos.flow import Cancelled, Sleep
from meshos.ids import NodeId
from meshos.node.runtime.links import channel, limits
from meshos.protocols.rpc.events import Inbound, LinkDown, LinkUp, MessageReceived, NotSent, OpenLink
from meshos.protocols.rpc.limits import MIB
from tests.links.mesh import BETA, Mesh, Node, until

ECHO, SLOW, BIG, SIZE = "/test/echo/1", "/test/slow/1", "/test/big/1", "/test/size/1"


pytestmark = pytest.mark.usefixtures("kind")
"""Nothing above the paths may notice which one it is."""


class Services:
    def __init__(self) -> None:
        self.runs = 0
        self.cancelled = 0
        self.all = {ECHO: self.echo, SLOW: self.slow, BIG: self.big, SIZE: self.size}

    async def echo(self, request: Inbound) -> bytes:
        self.runs += 1
        return request.peer.org.encode() + b" " + request.body

    async def slow(self, request: Inbound) -> bytes:
        self.runs += 1
        try:
            await Sleep(float(request.body))
        except Cancelled:
            self.cancelled += 1
            raise
        return b"slow"

    async def big(self, request: Inbound) -> bytes:
        self.runs += 1
        return b"\xa5" * int(request.body)

    async def size(self, request: Inbound) -> bytes:
        return str(len(request.body)).encode()


async def pair(nursery: trio.Nursery, services: Services | None = None) -> tuple[Mesh, Node, Node]:
    mesh = Mesh()
    table = (services or Services()).all
    a, b = mesh.node(services=table), mesh.node(BETA, services=table)  # type: ignore[arg-type]
    await a.start(nursery)
    await b.start(nursery)
    return mesh, a, b


async def test_a_request_and_its_answer_and_who_asked(nursery: trio.Nursery) -> None:
    _, a, b = await pair(nursery)
    assert await a.ask(b.id, ECHO, b"hello") == b"did:mesh:enterprise:alpha hello"
    assert await b.ask(a.id, ECHO, b"back") == b"did:mesh:university:beta back"
    assert [event.peer for event in a.of(LinkUp)] == [b.peer] and len(a.links.states()) == 1, "the link serves both ways"
    nursery.cancel_scope.cancel()


async def test_asking_oneself_opens_nothing(nursery: trio.Nursery) -> None:
    _, a, _ = await pair(nursery)
    assert await a.ask(a.id, ECHO, b"me") == b"did:mesh:enterprise:alpha me" and not a.links.states()
    nursery.cancel_scope.cancel()


async def test_a_thousand_requests_at_once_share_one_link(nursery: trio.Nursery) -> None:
    _, a, b = await pair(nursery)
    answers: dict[int, bytes] = {}

    async def one(number: int) -> None:
        answers[number] = await a.ask(b.id, ECHO, str(number).encode())

    async with trio.open_nursery() as asking:
        for number in range(1000):
            asking.start_soon(one, number)
    assert answers == {n: b"did:mesh:enterprise:alpha %d" % n for n in range(1000)}
    (state,) = a.links.states()
    assert state.messages_out["work"] == state.messages_in["work"] == 1000 and state.rtt_s is not None
    nursery.cancel_scope.cancel()


async def test_a_simultaneous_open_leaves_one_link_and_loses_nothing(nursery: trio.Nursery) -> None:
    for _ in range(5):
        _, a, b = await pair(nursery)
        answers: list[bytes] = []

        async def one(node: Node, to: Node, number: int, answers: list[bytes] = answers) -> None:
            answers.append(await node.ask(to.id, ECHO, b"%d" % number))

        async with trio.open_nursery() as asking:
            for number in range(20):
                asking.start_soon(one, a, b, number)
                asking.start_soon(one, b, a, number)
        assert len(answers) == 40
        await until(lambda a=a, b=b: len(a.links.states()) == len(b.links.states()) == 1)
        (mine,), (theirs,) = a.links.states(), b.links.states()
        assert mine.dialled != theirs.dialled
        assert not a.of(LinkDown) and not b.of(LinkDown) and len(a.of(LinkUp)) == len(b.of(LinkUp)) == 1
        a.kill(), b.kill()
    nursery.cancel_scope.cancel()


async def test_64_mib_on_bulk_while_small_calls_go_on(nursery: trio.Nursery) -> None:
    _, a, b = await pair(nursery)
    await a.ask(b.id, ECHO, b"warm")
    small: list[bytes] = []
    done = trio.Event()

    async def calls() -> None:
        while not done.is_set():
            small.append(await a.ask(b.id, ECHO, b"small"))

    nursery.start_soon(calls)
    big = await a.ask(b.id, BIG, b"%d" % (64 * MIB), timeout_s=60)
    during = len(small)
    done.set()
    assert len(big) == 64 * MIB and big.count(b"\xa5") == len(big)
    assert during >= 10, "the work lane did not wait for the bulk"
    lanes = {state.lanes: state.messages_out["bulk"] for state in b.links.states()}
    assert lanes == {("control", "work", "bulk"): 0, ("bulk",): 1}
    assert b.links.statistics()["partial_bytes"] == a.links.statistics()["partial_bytes"] == 0
    nursery.cancel_scope.cancel()


async def test_a_large_request_goes_on_bulk_too(nursery: trio.Nursery) -> None:
    _, a, b = await pair(nursery)
    assert await a.ask(b.id, SIZE, bytes(5 * MIB), timeout_s=30) == str(5 * MIB).encode()
    assert {state.lanes for state in a.links.states()} == {("control", "work", "bulk"), ("bulk",)}
    nursery.cancel_scope.cancel()


async def test_bulk_to_a_node_that_cannot_be_dialled_takes_the_main_link(nursery: trio.Nursery) -> None:
    _, a, b = await pair(nursery)
    a.reachable = False
    assert len(await a.ask(b.id, BIG, b"%d" % (3 * MIB), timeout_s=30)) == 3 * MIB
    (state,) = b.links.states()
    assert state.messages_out["bulk"] == 1 and b.links.statistics()["bulk_on_main_no-address"] == 1
    nursery.cancel_scope.cancel()


async def test_cancelling_reaches_the_other_side(nursery: trio.Nursery) -> None:
    services = Services()
    _, a, b = await pair(nursery, services)
    with trio.move_on_after(5) as scope:
        async with trio.open_nursery() as asking:
            asking.start_soon(a.ask, b.id, SLOW, b"30")
            await until(lambda: services.runs == 1)
            asking.cancel_scope.cancel()
    assert not scope.cancelled_caught
    await until(lambda: services.cancelled == 1)
    nursery.cancel_scope.cancel()


async def test_a_node_that_is_not_there(nursery: trio.Nursery) -> None:
    _, a, b = await pair(nursery)
    b.kill()
    await until(lambda: not b.links._connections)
    for to in (b.id, NodeId("12D3KooWunknown")):
        with pytest.raises(Unreachable) as caught:
            await a.ask(to, ECHO)
        assert caught.value.outcome == "not_done" and caught.value.name in ("peer-unreachable", "no-address")
    assert not a.links._peers and not a.links._connections
    nursery.cancel_scope.cancel()


async def test_a_link_that_is_cut_in_mid_message_is_opened_again_and_the_same_id_finds_its_reply(nursery: trio.Nursery) -> None:
    services = Services()
    _, a, b = await pair(nursery, services)
    a.reachable = False  # so that the reply goes over the main link
    await a.ask(b.id, ECHO, b"warm")
    answer: list[bytes] = []

    async def ask() -> None:
        answer.append(await a.ask(b.id, BIG, b"%d" % (48 * MIB), timeout_s=60, retries=5))

    async with trio.open_nursery() as asking:
        asking.start_soon(ask)
        await until(lambda: any(one.codec.partial() for peer in a.links._peers.values() for one in peer.channels))
        a.links.set_cut(frozenset({b.id}))
        a.links.set_cut(frozenset())
    assert len(answer[0]) == 48 * MIB and services.runs == 2, "once for the warm-up, once for the reply that was asked for twice"
    assert b.rpc.statistics()["repeated"] >= 1 and a.of(LinkDown) and len(a.of(LinkUp)) == 2
    nursery.cancel_scope.cancel()


async def test_what_never_left_is_not_done_and_what_left_is_unknown(nursery: trio.Nursery) -> None:
    _, a, b = await pair(nursery)
    await a.ask(b.id, ECHO)
    b.full = True
    outcomes: list[str] = []

    async def ask() -> None:
        try:
            await a.ask(b.id, SIZE, bytes(15_000), timeout_s=30)
        except MeshError as error:
            outcomes.append(error.outcome)

    async with trio.open_nursery() as asking:
        for _ in range(1000):
            asking.start_soon(ask)
        await until(lambda: b.links.statistics()["undelivered"] >= 1 and a.links.states()[0].queued > 0)
        queued = a.links.states()[0].queued
        a.links.set_cut(frozenset({b.id}))
    assert len(a.of(NotSent)) <= queued and {event.reason for event in a.of(NotSent)} == {"peer-unreachable"}
    assert outcomes.count("not_done") == len(a.of(NotSent)) > 0 and outcomes.count("unknown") == 1000 - len(a.of(NotSent)) > 0
    nursery.cancel_scope.cancel()


async def test_the_fault_hook_keeps_two_nodes_apart_and_heals(nursery: trio.Nursery) -> None:
    _, a, b = await pair(nursery)
    await a.ask(b.id, ECHO)
    a.links.set_cut(frozenset({b.id}))
    await until(lambda: a.of(LinkDown) and b.of(LinkDown))
    for node, to in ((a, b), (b, a)):
        with pytest.raises(Unreachable):
            await node.ask(to.id, ECHO)
    assert len(a.of(LinkUp)) == len(b.of(LinkUp)) == 1, "not even for a moment"
    a.links.set_cut(frozenset())
    assert await b.ask(a.id, ECHO, b"again") == b"did:mesh:university:beta again"
    nursery.cancel_scope.cancel()


async def test_a_peer_that_restarts_is_linked_anew_and_old_requests_are_told(nursery: trio.Nursery) -> None:
    services = Services()
    mesh, a, b = await pair(nursery, services)
    errors: list[MeshError] = []

    async def ask() -> None:
        try:
            await a.ask(b.id, SLOW, b"30", timeout_s=40)
        except MeshError as error:
            errors.append(error)

    async with trio.open_nursery() as asking:
        asking.start_soon(ask)
        await until(lambda: services.runs == 1)
        b.kill()
    assert errors[0].outcome == "unknown" and isinstance(errors[0], Unreachable)
    reborn = mesh.node(BETA, credentials=b.credentials, services=services.all)  # type: ignore[arg-type]
    await reborn.start(nursery)
    assert await reborn.ask(a.id, ECHO, b"hi") == b"did:mesh:university:beta hi"
    assert await a.ask(b.id, ECHO, b"hi") == b"did:mesh:enterprise:alpha hi"
    nursery.cancel_scope.cancel()


async def test_a_second_connection_from_the_same_side_replaces_a_dead_one(nursery: trio.Nursery) -> None:
    _, a, b = await pair(nursery)
    await a.ask(b.id, ECHO)
    peer = a.links._peers[b.id]
    old = peer.main
    peer.main = None  # a has lost the link, and b does not know it yet
    a.links.open_link(OpenLink(b.id))
    await until(lambda: [event.reason for event in b.of(LinkDown)] == ["link-replaced"] and len(b.of(LinkUp)) == 2)
    await until(lambda: peer.main is not None and peer.main is not old)
    assert await a.ask(b.id, ECHO, b"x") == b"did:mesh:enterprise:alpha x"
    await until(lambda: len(a.links.states()) == 1)
    nursery.cancel_scope.cancel()


async def test_while_the_mailbox_is_full_nothing_is_read_and_nothing_is_lost(nursery: trio.Nursery) -> None:
    _, a, b = await pair(nursery)
    await a.ask(b.id, ECHO)
    b.full = True
    answers: list[bytes] = []

    async def ask(number: int) -> None:
        answers.append(await a.ask(b.id, SIZE, bytes(15_000), timeout_s=30))

    async with trio.open_nursery() as asking:
        for number in range(1000):
            asking.start_soon(ask, number)
        await until(lambda: b.links.statistics()["undelivered"] >= 1)
        held = b.links.states()[0].bytes_in
        await trio.sleep(10 * limits.MAILBOX_PAUSE_S)  # to give it the chance to read on, which it must not take
        assert b.links.states()[0].bytes_in == held and a.links.states()[0].queued > 0
        b.full = False
    assert answers == [b"15000"] * 1000
    nursery.cancel_scope.cancel()


async def test_leaving_is_polite(nursery: trio.Nursery) -> None:
    _, a, b = await pair(nursery)
    await a.ask(b.id, ECHO)
    await a.links.leave()
    await until(lambda: not a.links._peers and not b.links._peers)
    assert [event.reason for event in b.of(LinkDown)] == ["link-closed"]
    assert not a.of(NotSent) and not b.of(NotSent)
    nursery.cancel_scope.cancel()


async def test_an_idle_link_is_closed_and_opened_again_when_needed(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "KEEPALIVE_S", 0.02)
    monkeypatch.setattr(channel, "IDLE_S", 0.1)
    _, a, b = await pair(nursery)
    await a.ask(b.id, ECHO)
    await until(lambda: not a.links._peers and not b.links._peers)
    assert await a.ask(b.id, ECHO, b"x") == b"did:mesh:enterprise:alpha x"
    nursery.cancel_scope.cancel()


async def test_nothing_is_left_when_all_is_quiet(nursery: trio.Nursery) -> None:
    _, a, b = await pair(nursery)
    for _ in range(50):
        await a.ask(b.id, ECHO, b"x")
    await a.links.leave()
    await until(lambda: not a.links._peers and not b.links._peers)
    for node in (a, b):
        assert not node.links._connections and not node.links._mailbox and not node.reports
        assert not node.rpc.statistics()["in_flight"] and not node.rpc.statistics()["running"]
    assert len(b.of(MessageReceived)) == 50
    nursery.cancel_scope.cancel()


async def test_a_service_of_the_other_side_can_refuse(nursery: trio.Nursery) -> None:
    _, a, b = await pair(nursery)
    with pytest.raises(Refused) as caught:
        await a.ask(b.id, "/test/none/1")
    assert caught.value.name == "unknown-protocol"
    nursery.cancel_scope.cancel()
