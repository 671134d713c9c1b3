"""Two paths to a peer that is talked to: who opens the second, what becomes of calls when one ends, and when both do."""

import pytest
import trio

from meshos.crypto.certificates import describe
from meshos.effects import Ok
from meshos.errors import MeshError, Unreachable
from meshos.flow import Lane, Sleep
from meshos.ids import Peer
from meshos.node.runtime.links import links, peer_links, standby
from meshos.node.runtime.links.channel import Channel
from meshos.node.runtime.links.peer_links import answer_s
from meshos.node.runtime.links.tcp import TcpConnection
from meshos.protocols.rpc import paths
from meshos.protocols.rpc.events import Cancel, Inbound, LinkDown, LinkUp, Message, OpenLink, Reply, Request, Rerouted
from meshos.protocols.rpc.limits import MIB, OUTBOUND_BYTES, REROUTES_BURST
from tests.links.mesh import BETA, Mesh, Node, until
from tests.links.quic_stranger import Router

ECHO, SLOW, BIG = "/test/echo/1", "/test/slow/1", "/test/big/1"


@pytest.fixture(autouse=True)
def both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mesh, "kind", "tcp+quic")
    monkeypatch.setattr(standby, "MEASURE_S", 0.02)
    monkeypatch.setattr(standby, "PATH_PING_S", 0.05)
    monkeypatch.setattr(peer_links, "AGAIN_MIN_S", 0.05)


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


async def test_whoever_has_dialled_opens_the_second_path_and_nobody_else(nursery: trio.Nursery) -> None:
    _, a, b = await pair(nursery)
    await warm(a, b)
    assert await b.ask(a.id, ECHO, b"back") == b"back"
    assert {path: each.connection.dialled for path, each in mains(a, b).items()} == {"tcp": True, "quic": True}
    assert not any(each.connection.dialled for each in mains(b, a).values())
    assert len(a.of(LinkUp)) == len(b.of(LinkUp)) == 1 and not a.of(LinkDown) and not b.of(LinkDown), "it is one link"
    assert carries(a, b) == carries(b, a) == "tcp" and a.links.statistics()["links_on_two_paths"] == 1
    assert {state.path: state.why for state in a.links.states()} == {"tcp": "first", "quic": ""}
    nursery.cancel_scope.cancel()


async def test_both_may_dial_at_once_and_keep_one_connection_a_path(nursery: trio.Nursery) -> None:
    _, a, b = await pair(nursery)
    a.links.open_link(OpenLink(b.id))
    b.links.open_link(OpenLink(a.id))
    await warm(a, b)
    await until(lambda: len(a.links.states()) == len(b.links.states()) == 2)
    assert not a.of(LinkDown) and not b.of(LinkDown)
    nursery.cancel_scope.cancel()


async def test_where_tcp_is_swallowed_the_link_is_there_at_once_over_quic(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "NEXT_DIAL_S", 0.05)
    _, a, b = await pair(nursery)
    (silent,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with silent:
        a.paths[0]._address_of = lambda node: silent.socket.getsockname()[:2]  # it takes the connection and never says a word
        assert await a.ask(b.id, ECHO, b"hi", timeout_s=4.0) == b"hi"
        assert carries(a, b) == carries(b, a) == "quic" and not a.of(LinkDown)
    nursery.cancel_scope.cancel()


async def test_where_tcp_answers_late_it_is_the_second_path(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "NEXT_DIAL_S", 0.0)
    _, a, b = await pair(nursery)
    await warm(a, b)
    assert len(a.of(LinkUp)) == len(b.of(LinkUp)) == 1 and not a.of(LinkDown) and not b.of(LinkDown)
    assert a.links.statistics()["path_quic_dials"] == a.links.statistics()["path_tcp_dials"] == 1
    nursery.cancel_scope.cancel()


async def test_where_no_path_answers_it_is_said_once_and_why(nursery: trio.Nursery) -> None:
    _, a, b = await pair(nursery)
    b.kill()
    await trio.sleep(0.05)
    with pytest.raises(Unreachable):
        await a.ask(b.id, ECHO)
    (down,) = a.of(LinkDown)
    assert down.reason == "peer-unreachable" and not down.refused and a.links.statistics()["connections"] == 0
    nursery.cancel_scope.cancel()


async def test_a_peer_that_names_one_path_is_given_one(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = Mesh()
    a = mesh.node(services=Services().all)  # type: ignore[arg-type]
    monkeypatch.setattr(Mesh, "kind", "tcp")
    b = mesh.node(BETA, services=Services().all)  # type: ignore[arg-type]
    await a.start(nursery)
    await b.start(nursery)
    for _ in range(10):
        await a.ask(b.id, ECHO)
        await trio.sleep(0.02)
    assert list(mains(a, b)) == ["tcp"] and not a.links.statistics().get("path_quic_dials")
    nursery.cancel_scope.cancel()


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
    mesh = Mesh()
    services = Services()
    a, b = mesh.node(services=services.all), mesh.node(BETA, services=services.all)  # type: ignore[arg-type]
    await b.start(nursery)
    router = Router(lambda: ("127.0.0.1", b.paths[1].port))
    await nursery.start(router.run)
    a.paths[1]._address_of = lambda node: ("127.0.0.1", router.port)
    await a.start(nursery)
    await warm(a, b)
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


async def test_where_nothing_is_wrong_the_cheaper_one_carries_again(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    _, a, b = await pair(nursery)
    await warm(a, b)
    monkeypatch.setattr(paths, "BETTER_S", 0.1)
    monkeypatch.setattr(paths, "NEXT_PATH_S", 60.0)  # what else is measured here is noise
    await use(a, b, "quic")
    await until(lambda: carries(a, b) == carries(b, a) == "tcp")
    assert {state.path: state.why for state in a.links.states()} == {"tcp": "better", "quic": ""}
    assert not a.of(Rerouted) and not b.of(Rerouted), "nothing was lost"
    nursery.cancel_scope.cancel()


async def test_a_peer_that_is_gone_is_missed_on_both_paths_and_linked_anew(nursery: trio.Nursery) -> None:
    services = Services()
    mesh, a, b = await pair(nursery, services)
    await warm(a, b)
    errors: list[MeshError] = []

    async def ask() -> None:
        try:
            await a.ask(b.id, SLOW, b"x", timeout_s=60)
        except MeshError as error:
            errors.append(error)

    async with trio.open_nursery() as asking:
        asking.start_soon(ask)
        await until(lambda: services.runs[-1:] == [b"x"])
        b.kill()
        await until(lambda: bool(a.of(LinkDown)))
    assert errors[0].outcome == "unknown" and isinstance(errors[0], Unreachable)
    await until(lambda: not a.links.states())
    reborn = mesh.node(BETA, credentials=b.credentials, services=services.all)  # type: ignore[arg-type]
    await reborn.start(nursery)
    await warm(a, reborn)
    nursery.cancel_scope.cancel()


async def test_a_new_start_of_the_peer_ends_what_the_old_one_had(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_links, "ANSWER_S", 0.1)
    mesh, a, b = await pair(nursery)
    await warm(a, b)
    old = list(mains(a, b).values())
    await until(lambda: all(each.pings > 2 for each in old))
    monkeypatch.setattr(standby, "WARM_S", 0.0)  # the new one has one path
    again = mesh.node(BETA, credentials=b.credentials, services=Services().all)  # type: ignore[arg-type]
    await again.start(nursery)
    assert await again.ask(a.id, ECHO, b"again") == b"again"
    await until(lambda: not any(each in mains(a, again).values() for each in old))
    await trio.sleep(0.5)  # what the old ones had to answer, the new one has not
    assert [event.reason for event in a.of(LinkDown)] == ["link-replaced"] and len(a.of(LinkUp)) == 2
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("left", ["tcp", "quic"])
async def test_where_a_path_breaks_a_peer_that_is_busy_is_not_gone(
    left: str, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_links, "ANSWER_S", 0.1)
    services = Services()
    _, a, b = await pair(nursery, services)
    await warm(a, b)
    await use(a, b, left)
    for path in (*a.paths, *b.paths):
        path._address_of = lambda node: None  # what breaks is not opened again
    answers: list[bytes] = []

    async def ask() -> None:
        answers.append(await a.ask(b.id, ECHO, b"x"))

    async with trio.open_nursery() as asking:
        b.full = True  # from the next message on it reads nothing, and so answers no ping
        asking.start_soon(ask)
        await until(lambda: mains(b, a)[left].handing)
        mains(a, b)["quic" if left == "tcp" else "tcp"].end(Unreachable("link-lost", "the test has ended it"))
        await until(lambda: list(mains(a, b)) == [left])
        await trio.sleep(0.5)
        assert not answers
        b.full = False
    assert answers == [b"x"] and services.runs.count(b"x") == 1 and not a.of(LinkDown) and not b.of(LinkDown)
    nursery.cancel_scope.cancel()


async def test_where_a_path_breaks_and_the_other_swallows_everything_the_peer_is_gone(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_links, "ANSWER_S", 0.1)
    mesh = Mesh()
    a, b = mesh.node(services=Services().all), mesh.node(BETA, services=Services().all)  # type: ignore[arg-type]
    await b.start(nursery)
    router = Router(lambda: ("127.0.0.1", b.paths[1].port))
    await nursery.start(router.run)
    a.paths[1]._address_of = lambda node: ("127.0.0.1", router.port)
    await a.start(nursery)
    await warm(a, b)
    for node in (a, b):
        node.paths[0]._address_of = lambda node: None  # what breaks is not opened again
    router.cut = True
    break_tcp(mains(a, b)["tcp"])
    await until(lambda: a.of(LinkDown) and b.of(LinkDown), timeout_s=4.0)
    assert a.of(LinkDown)[0].reason == b.of(LinkDown)[0].reason == "link-silent"
    nursery.cancel_scope.cancel()


async def test_what_is_asked_of_a_peer_that_is_gone_before_that_is_known_was_not_done(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_links, "ANSWER_S", 0.5)
    mesh = Mesh()
    a, b = mesh.node(services=Services().all), mesh.node(BETA, services=Services().all)  # type: ignore[arg-type]
    await b.start(nursery)
    router = Router(lambda: ("127.0.0.1", b.paths[1].port))
    await nursery.start(router.run)
    a.paths[1]._address_of = lambda node: ("127.0.0.1", router.port)
    await a.start(nursery)
    await warm(a, b)
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


def test_a_long_path_has_time_to_send_a_loss_again_before_the_peer_is_held_for_gone() -> None:
    for rtt_s in (0.05, 0.1, 0.3):
        assert answer_s(rtt_s) > 0.2 + 2 * rtt_s, "the retransmission and its acknowledgement are on their way"
    assert answer_s(None) == answer_s(0.000_3) == peer_links.ANSWER_S


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


async def test_after_a_sleep_every_connection_ends_and_what_is_wanted_is_opened_again(nursery: trio.Nursery) -> None:
    _, a, b = await pair(nursery)
    await warm(a, b)
    old = list(mains(a, b).values())
    a.links.renew()
    await until(lambda: not any(each in mains(a, b).values() for each in old))
    assert await a.ask(b.id, ECHO, b"awake") == b"awake"
    await warm(a, b)
    nursery.cancel_scope.cancel()


async def test_whoever_is_revoked_loses_both_paths(nursery: trio.Nursery) -> None:
    mesh, a, b = await pair(nursery)
    await warm(a, b)
    a.recredential(trust=mesh.revoking(BETA, [describe(b.credentials.certificate).serial]))
    await until(lambda: not a.links.states() and not b.links.states())
    (down,) = a.of(LinkDown)
    assert down.refused and down.reason == "certificate-revoked"
    with pytest.raises(MeshError):
        await a.ask(b.id, ECHO)
    nursery.cancel_scope.cancel()


async def test_a_cut_by_the_fault_hook_ends_both_paths(nursery: trio.Nursery) -> None:
    _, a, b = await pair(nursery)
    await warm(a, b)
    a.links.set_cut(frozenset({b.id}))
    await until(lambda: not a.links.states() and not b.links.states())
    a.links.set_cut(frozenset())
    await warm(a, b)
    nursery.cancel_scope.cancel()


async def test_a_peer_that_nobody_talks_to_has_one_path(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    _, a, b = await pair(nursery)
    await warm(a, b)
    monkeypatch.setattr(standby, "WARM_S", 0.1)
    monkeypatch.setattr(standby, "STANDBY_IDLE_S", 0.3)
    await use(a, b, "quic")
    await until(lambda: list(mains(a, b)) == list(mains(b, a)) == ["tcp"])
    assert not a.of(LinkDown) and not b.of(LinkDown) and carries(a, b) == carries(b, a) == "tcp"
    await until(lambda: len(a.links.states()) == len(b.links.states()) == 1)
    await warm(a, b)
    nursery.cancel_scope.cancel()


async def test_a_path_over_which_nothing_can_be_had_is_tried_more_and_more_seldom(nursery: trio.Nursery) -> None:
    _, a, b = await pair(nursery)
    a.paths[1]._address_of = lambda node: ("127.0.0.1", 9)  # nobody listens there
    with trio.move_on_after(1.0):
        while True:
            assert await a.ask(b.id, ECHO) == b""
            await trio.sleep(0.005)
    tries = a.links.statistics()["second_path_peer-unreachable"]
    assert 1 <= tries <= 6, "after 0.05 s, 0.1 s, 0.2 s ..., less a half by chance"
    assert list(mains(a, b)) == ["tcp"] and not a.of(LinkDown)
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


async def test_a_node_without_room_for_more_opens_no_second_path(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "CONNECTIONS_SECOND", 1)
    _, a, b = await pair(nursery)
    for _ in range(10):
        await a.ask(b.id, ECHO)
        await trio.sleep(0.02)
    assert list(mains(a, b)) == ["tcp"]
    nursery.cancel_scope.cancel()
