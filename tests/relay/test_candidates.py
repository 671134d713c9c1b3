"""Who is asked to relay: of those there are links to, the peer's anchors first, then the nearest; and nobody who could not be dialled."""

from meshos.flow import Lane
from meshos.ids import NodeId, OrgDid
from meshos.node.runtime.links.link_state import LinkState
from meshos.node.runtime.links.relay import nearest
from tests.links.mesh import ALPHA
from tests.relay.mesh import STAYS, Mesh

LANES: tuple[Lane, ...] = ("control", "work", "bulk")


def state(node: str, rtt_s: float | None, via: str | None = None) -> LinkState:
    relayed = None if via is None else NodeId(via)
    return LinkState(NodeId(node), OrgDid("did:mesh:hospital:x"), "tcp", LANES, True, rtt_s, 0.0, 0.0, "first", 0, 0, {}, {}, 0, relayed)


STATES = [state("far", 0.2), state("new", None), state("near", 0.01), state("relayed", 0.001, "near"), state("to", 0.0), state("near", 0.5)]


def test_the_nearest_come_first_and_neither_the_peer_nor_who_is_itself_reached_through_another() -> None:
    assert nearest(STATES, NodeId("to")) == ["near", "far", "new"]


def test_the_anchors_of_a_leaf_come_before_all_and_a_leaf_relays_for_nobody() -> None:
    node = Mesh().member(ALPHA, STAYS)
    node.links.states = lambda: STATES  # type: ignore[method-assign]
    anchors = {"to": ("new", "elsewhere"), "near": ("far",)}
    node.relaying._anchors_of = lambda of: anchors.get(of, ())  # type: ignore[assignment, return-value]
    assert node.relaying._candidates(NodeId("to")) == ["new", "far"]
