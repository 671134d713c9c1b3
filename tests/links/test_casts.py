"""Casts over real links: heard once and whole by those who may be spoken to, with no link needed beforehand."""

import pytest
import trio

from meshos.effects import Cast, Heard
from meshos.node.runtime.links import limits as link_limits
from meshos.protocols.rpc import limits
from meshos.protocols.rpc.casting import Listener
from tests.links.mesh import ALPHA, BETA, LISTENER, Mesh, Node, until

OWN, ANY = "/test/own/1", "/test/any/1"
pytestmark = pytest.mark.usefixtures("kind")
LISTENERS = {OWN: Listener(LISTENER, lambda peer: peer.org == ALPHA), ANY: Listener(LISTENER, lambda peer: True)}


async def pair(nursery: trio.Nursery) -> tuple[Node, Node]:
    mesh = Mesh()
    a, b = mesh.node(ALPHA, listeners=LISTENERS), mesh.node(BETA, listeners=LISTENERS)
    await a.start(nursery)
    await b.start(nursery)
    return a, b


def heard(node: Node) -> list[Heard]:
    return [event for event in node.heard if isinstance(event, Heard)]


async def linked(a: Node, b: Node) -> None:
    """The first cast is lost, and has a link opened."""
    a.cast(Cast(b.id, ANY, b"lost"))
    await until(lambda: a.links.states() and b.links.states())
    assert not heard(b)


async def test_casts_arrive_in_order_from_both_sides_and_say_who_sent_them(nursery: trio.Nursery) -> None:
    a, b = await pair(nursery)
    await linked(a, b)
    a.cast(*(Cast(b.id, ANY, b"%d" % number) for number in range(100)))
    b.cast(Cast(a.id, OWN, b"not for beta"), Cast(a.id, ANY, b"back"))
    await until(lambda: len(heard(b)) == 100 and heard(a))
    assert heard(b) == [Heard(a.peer, ANY, b"%d" % number) for number in range(100)]
    assert heard(a) == [Heard(b.peer, ANY, b"back")] and a.rpc.statistics()["heard_not_allowed"] == 1
    nursery.cancel_scope.cancel()


async def test_a_large_cast_arrives_whole_and_a_larger_one_not_at_all(nursery: trio.Nursery) -> None:
    a, b = await pair(nursery)
    await linked(a, b)
    large = bytes(range(256)) * (limits.BODY_BYTES["work"] // 256)
    a.cast(Cast(b.id, ANY, large + b"!"), Cast(b.id, ANY, large))
    await until(lambda: heard(b))
    assert heard(b) == [Heard(a.peer, ANY, large)] and a.rpc.statistics()["casts_refused"] == 1
    nursery.cancel_scope.cancel()


async def test_a_burst_beyond_the_lane_is_lost_and_counted_and_the_link_stays(nursery: trio.Nursery) -> None:
    a, b = await pair(nursery)
    await linked(a, b)
    body = bytes(limits.BODY_BYTES["control"])
    sent = 64 + limits.OUTBOUND_BYTES["control"] // len(body)
    a.cast(*(Cast(b.id, ANY, body) for _ in range(sent)))
    await until(lambda: len(heard(b)) + a.rpc.statistics()["casts_not_sent"] == sent)
    assert a.rpc.statistics()["casts_not_sent"] > 0
    a.cast(Cast(b.id, ANY, b"after"))
    await until(lambda: heard(b)[-1].body == b"after")
    nursery.cancel_scope.cancel()


async def test_a_peer_that_is_gone_costs_a_dial_now_and_then(nursery: trio.Nursery) -> None:
    a, b = await pair(nursery)
    b.reachable = False
    for _ in range(50):
        a.cast(Cast(b.id, ANY, b"heartbeat"))
        await trio.sleep(0.002)
    assert a.links.statistics()["dials_failed"] <= 1 + 50 * 0.01 / limits.CAST_OPEN_AGAIN_S < 50
    assert link_limits.DIAL_S > limits.CAST_OPEN_AGAIN_S
    nursery.cancel_scope.cancel()
