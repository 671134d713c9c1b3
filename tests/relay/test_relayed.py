"""Two members that cannot dial each other, and one that relays: what they have of it, and what it has of them."""

from dataclasses import replace

import pytest
import trio

from meshos.crypto.certificates import describe
from meshos.errors import MeshError, Refused, Unreachable
from meshos.node.runtime.links import links as links_module
from meshos.node.runtime.links import peer_links, standby
from meshos.node.runtime.links.path import Connection
from meshos.node.runtime.links.splicing import Splicing
from meshos.protocols.relay.policy import Policy
from meshos.protocols.rpc.limits import MIB
from tests.links.mesh import ALPHA, BETA, until
from tests.relay.mesh import BIG, GAMMA, Mesh, Node, three

pytestmark = pytest.mark.usefixtures("kind")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A direct way is looked for often enough that a test need not wait for it."""
    monkeypatch.setattr(links_module, "DIRECT_FIRST_S", 0.05)
    monkeypatch.setattr(links_module, "DIRECT_S", 0.05)
    monkeypatch.setattr(peer_links, "DIRECT_SETTLED_S", 0.1)
    monkeypatch.setattr(standby, "MEASURE_S", 0.05)


async def test_a_call_goes_through_the_relay_and_both_prove_who_they_are(nursery: trio.Nursery) -> None:
    _, a, b, r = await three(nursery)
    assert await a.ask(b, b"hello") == b"did:mesh:enterprise:alpha hello"
    assert await b.ask(a, b"back") == b"did:mesh:university:beta back", "the link serves both ways"
    assert (a.state(b).via, b.state(a).via) == (r.id, r.id) and a.state(b).path == "relay"
    assert a.links.statistics()["links_carried_by_relay"] == 1 and r.figure("pairs_joined") == 1
    assert a.state(r).via is None
    nursery.cancel_scope.cancel()


async def test_a_large_answer_has_a_relayed_connection_of_its_own(nursery: trio.Nursery) -> None:
    _, a, b, r = await three(nursery, policy=Policy(bytes_per_s=256 * MIB))
    answer = await a.ask(b, str(3 * MIB).encode(), BIG)
    assert answer == b"\xa5" * (3 * MIB)
    assert r.figure("pairs_joined") == 2 and {state.via for state in a.links.states() if state.node == b.id} == {r.id}
    nursery.cancel_scope.cancel()


class Listening(Splicing):
    """Keeps all that it carries."""

    heard = b""

    async def forward(self, to: Connection, data: bytes) -> None:
        Listening.heard += data
        await super().forward(to, data)


async def test_the_relay_sees_nothing_of_what_it_carries(nursery: trio.Nursery) -> None:
    _, a, b, _ = await three(nursery, splicing=Listening)
    secret = b"what is only for the two of them"
    assert secret in await a.ask(b, secret)
    assert len(Listening.heard) > 1000 and secret not in Listening.heard
    assert a.credentials.certificate not in Listening.heard and b.id.encode() not in Listening.heard, "not even who they are"
    nursery.cancel_scope.cancel()


async def test_without_a_member_that_reaches_both_it_is_said_why_they_cannot_be_dialled(nursery: trio.Nursery) -> None:
    mesh = Mesh()
    a, b, r = mesh.member(ALPHA), mesh.member(BETA), mesh.member(GAMMA)
    mesh.wall(a, b)
    for node in (a, b, r):
        await node.start(nursery)
    await a.link(r)
    with pytest.raises(Unreachable) as caught:
        await a.ask(b)
    assert caught.value.name == "no-address" and caught.value.outcome == "not_done"
    assert r.figure("refused_relay-unlinked") == 1 and r.figure("pairs") == 0
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("policy", "reached"), [(Policy(serve=False), False), (Policy(own_only=True), False), (Policy(), True)])
async def test_for_whom_it_relays_is_the_relays_own_policy(policy: Policy, reached: bool, nursery: trio.Nursery) -> None:
    _, a, b, r = await three(nursery, policy=policy)
    if reached:
        await a.ask(b)
    else:
        with pytest.raises(Unreachable):
            await a.ask(b)
    assert r.figure("refused_relay-off") == (0 if reached else 1)
    nursery.cancel_scope.cancel()


async def test_a_relay_that_serves_its_own_serves_whoever_calls_them(nursery: trio.Nursery) -> None:
    mesh = Mesh()
    a, b, r = mesh.member(ALPHA), mesh.member(BETA), mesh.member(BETA, Policy(own_only=True))
    mesh.wall(a, b)
    for node in (a, b, r):
        await node.start(nursery)
    await a.link(r)
    await b.link(r)
    assert await a.ask(b)
    nursery.cancel_scope.cancel()


async def test_when_a_direct_way_opens_the_link_goes_back_to_it_and_nothing_is_lost(nursery: trio.Nursery) -> None:
    mesh, a, b, r = await three(nursery)
    await a.ask(b)
    answers: list[bytes] = []

    async def go_on() -> None:
        while a.state_via(b) is not None:
            answers.append(await a.ask(b, b"on"))

    async with trio.open_nursery() as asking:
        asking.start_soon(go_on)
        await until(lambda: len(answers) > 5)
        mesh.walls.clear()
    await until(lambda: r.figure("pairs") == 0)
    assert (a.state_via(b), b.state_via(a)) == (None, None)
    assert len(set(answers)) == 1 and not [reason for reason in a.downs() + b.downs() if reason != "link-closed"]
    assert await a.ask(b) and await b.ask(a)
    nursery.cancel_scope.cancel()


async def test_the_side_that_was_called_finds_the_direct_way_as_well(nursery: trio.Nursery) -> None:
    mesh, a, b, r = await three(nursery)
    await a.ask(b)
    mesh.walls.discard((b.id, a.id))  # as where only one of them is behind a router
    await until(lambda: a.state_via(b) is None and b.state_via(a) is None and r.figure("pairs") == 0)
    await until(lambda: len(a.links.states()) == 2)
    assert a.state(b).dialled is False and await a.ask(b)
    nursery.cancel_scope.cancel()


async def test_a_relay_that_dies_is_replaced_by_another(nursery: trio.Nursery) -> None:
    mesh, a, b, r = await three(nursery)
    await a.ask(b)
    other = await mesh.member(GAMMA).start(nursery)
    await a.link(other)
    await b.link(other)
    r.scope.cancel()
    await until(lambda: not [state for state in a.links.states() if state.via == r.id])
    assert await a.ask(b, retries=3)
    assert a.state(b).via == other.id
    nursery.cancel_scope.cancel()


async def test_a_relayed_link_is_not_relayed_again(nursery: trio.Nursery) -> None:
    """``c`` reaches only ``b``, and ``b`` has no more than a relayed link to ``a``: it would have to be relayed twice."""
    mesh, a, b, r = await three(nursery)
    await a.ask(b)
    c = await mesh.member(ALPHA).start(nursery)
    mesh.wall(c, a)
    mesh.wall(c, r)
    await c.link(b)
    with pytest.raises(MeshError) as caught:
        await c.ask(a)
    assert caught.value.outcome == "not_done"
    assert b.figure("granted") == 1 and b.figure("pairs_joined") == 0, "a cannot come to b"
    nursery.cancel_scope.cancel()


async def test_who_is_cut_off_is_not_reached_through_a_relay_either(nursery: trio.Nursery) -> None:
    _, a, b, r = await three(nursery)
    await a.ask(b)
    a.links.set_cut(frozenset({b.id}))
    await until(lambda: not [state for state in b.links.states() if state.node == a.id])
    for one, other in ((a, b), (b, a)):
        with pytest.raises(MeshError):
            await one.ask(other)
    a.links.set_cut(frozenset())
    r.links.set_cut(frozenset({a.id}))
    await until(lambda: r.figure("pairs") == 0)
    nursery.cancel_scope.cancel()


async def test_a_relay_lets_go_of_whom_it_would_not_let_in_any_more(nursery: trio.Nursery) -> None:
    _, a, b, r = await three(nursery)
    await a.ask(b)
    await expel(r, a)
    await until(lambda: r.figure("pairs") == 0)
    await until(lambda: not [state for state in b.links.states() if state.node == a.id])
    nursery.cancel_scope.cancel()


async def expel(r: Node, who: Node) -> None:
    serial = describe(who.credentials.certificate).serial
    r.credentials = replace(r.credentials, trust=r.mesh.revoking(who.peer.org, [serial]))
    r.path.trust(r.credentials)
    r.relay.trust(r.credentials)
    r.links.recheck()


async def test_a_node_that_leaves_does_not_wait_for_whom_it_relays(nursery: trio.Nursery) -> None:
    _, a, b, r = await three(nursery)
    await a.ask(b)
    await r.links.leave()
    assert r.links.statistics()["splicing_legs"] == 0
    with pytest.raises((Refused, Unreachable)):
        await a.ask(b)
    nursery.cancel_scope.cancel()
