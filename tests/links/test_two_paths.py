"""Two paths to a peer that is talked to: who opens the second, which one carries, and what ends both."""

import pytest
import trio

from meshos.crypto.certificates import describe
from meshos.errors import MeshError, Unreachable
from meshos.node.runtime.links import links, peer_links, standby
from meshos.node.runtime.links.peer_links import answer_s
from meshos.protocols.rpc import paths
from meshos.protocols.rpc.events import LinkDown, LinkUp, OpenLink, Rerouted
from tests.links.mesh import BETA, Mesh, until
from tests.links.pairs import ECHO, SLOW, Services, break_tcp, carries, mains, pair, pair_behind_a_router, use, warm

pytestmark = pytest.mark.usefixtures("both")


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
    a, b, router = await pair_behind_a_router(nursery)
    for node in (a, b):
        node.paths[0]._address_of = lambda node: None  # what breaks is not opened again
    router.cut = True
    break_tcp(mains(a, b)["tcp"])
    await until(lambda: a.of(LinkDown) and b.of(LinkDown), timeout_s=4.0)
    assert a.of(LinkDown)[0].reason == b.of(LinkDown)[0].reason == "link-silent"
    nursery.cancel_scope.cancel()


def test_a_long_path_has_time_to_send_a_loss_again_before_the_peer_is_held_for_gone() -> None:
    for rtt_s in (0.05, 0.1, 0.3):
        assert answer_s(rtt_s) > 0.2 + 2 * rtt_s, "the retransmission and its acknowledgement are on their way"
    assert answer_s(None) == answer_s(0.000_3) == peer_links.ANSWER_S


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


async def test_a_node_without_room_for_more_opens_no_second_path(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "CONNECTIONS_SECOND", 1)
    _, a, b = await pair(nursery)
    for _ in range(10):
        await a.ask(b.id, ECHO)
        await trio.sleep(0.02)
    assert list(mains(a, b)) == ["tcp"]
    nursery.cancel_scope.cancel()
