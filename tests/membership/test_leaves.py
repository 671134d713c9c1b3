"""Leaves: members that nobody can dial, and that are seen through their anchors."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import pytest

from meshos.crypto.signing import Ed25519Verifier
from meshos.effects import Cast, Heard
from meshos.errors import Refused
from meshos.ids import NodeId, Peer
from meshos.presets import LAN
from meshos.protocols.membership import codec
from meshos.protocols.membership import events as ev
from meshos.protocols.membership.lane import Lane
from meshos.protocols.membership.limits import ANCHORS, DATAGRAMS_OF_NODE, DATAGRAMS_OF_ORG
from meshos.protocols.membership.machine import Membership
from meshos.protocols.membership.reach import GOSSIP
from meshos.simulations.mesh import SEEDS, Mesh
from meshos.simulations.run import node_ids
from meshos.simulations.world import SimNode, World
from tests.membership.lone import Lone
from tests.membership.mesh import facts, org

LEAF = NodeId("leaf")

Observer: TypeAlias = Callable[[SimNode, str, object, list[object]], None]


def leaf_facts(*anchors: str) -> codec.NodeFacts:
    return replace(facts(LEAF, org(1)), gossip="", link="", anchors=tuple(map(NodeId, anchors)))


def begun(count: int, leaves: int, seed: int = 1, orgs: int = 6, observer: Observer | None = None) -> Mesh:
    """A mesh of which the last ``leaves`` cannot be dialled. A datagram to one of them is a violation (``World.send_datagram``)."""
    world = World(seed)
    world.observer = observer
    mesh = Mesh(world, count, timing=LAN, orgs=orgs, whole=False, leaves=node_ids(count)[count - leaves :])
    for node in world.nodes.values():
        node.start()
    return mesh


def until(mesh: Mesh, holds: Callable[[], bool], within: float) -> None:
    ends = mesh.world.now + within
    while not holds():
        assert mesh.world.now < ends, f"not within {within} s"
        mesh.world.run(mesh.world.now + 0.25)


def seen(mesh: Mesh, node: NodeId) -> list[NodeId]:
    views = mesh.membership(node).members()
    return sorted(view.node_id for view in views if view.state == "alive" and view.routable)


def all_see(mesh: Mesh) -> bool:
    return all(seen(mesh, node) == mesh.living() for node in mesh.living())


def _has_let_go(mesh: Mesh, leaf: NodeId, anchor: NodeId) -> bool:
    return anchor not in mesh.membership(leaf).anchors_of(leaf)


# -- what it says ------------------------------------------------------------------------------------------------------


def test_a_leaf_says_its_anchors_and_no_address() -> None:
    said = codec.statement(codec.alive_payload(LEAF, 3, 1, leaf_facts("a", "b", "c")), bytes(64))
    assert codec.decode_statement(said.blob).facts == leaf_facts("a", "b", "c")


@pytest.mark.parametrize(
    "wrong",
    [
        replace(leaf_facts("a"), gossip="127.0.0.1:1"),
        replace(leaf_facts("a"), link="127.0.0.1:2"),
        leaf_facts("a", "a"),
        leaf_facts("a", "b", "c", "d"),
        leaf_facts(),
        leaf_facts(""),
        leaf_facts("x" * 65),
    ],
    ids=["gossip", "link", "twice", "four", "none", "empty", "long"],
)
def test_what_is_neither_a_leaf_nor_a_node_with_addresses_is_refused(wrong: codec.NodeFacts) -> None:
    with pytest.raises(Refused) as refused:
        codec.decode_statement(codec.statement(codec.alive_payload(LEAF, 3, 1, wrong), bytes(64)).blob)
    assert refused.value.name == "bad-statement"


# -- whole meshes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_everybody_sees_leaves_and_leaves_see_everybody(seed: int) -> None:
    mesh = begun(12, 5, seed)
    until(mesh, lambda: all_see(mesh), 30)
    mesh.world.run(mesh.world.now + 60)
    assert all_see(mesh), "and it stays so"
    for leaf in mesh.leaves:
        anchors = mesh.membership(mesh.ids[0]).anchors_of(leaf)
        assert len(anchors) == ANCHORS and not mesh.leaves & set(anchors)
        assert len({mesh.org_of[node] for node in anchors}) == ANCHORS, "no single organisation says whether it is there"
        assert mesh.membership(mesh.ids[0]).link_address(leaf) is None


@pytest.mark.parametrize("seed", range(4))
def test_a_leaf_that_ends_is_dead_for_all_and_comes_back(seed: int) -> None:
    mesh = begun(12, 3, seed)
    until(mesh, lambda: all_see(mesh), 30)
    victim = max(mesh.leaves)
    mesh.world.nodes[victim].crash()
    until(mesh, lambda: all_see(mesh), 30)
    mesh.world.nodes[victim].start()
    until(mesh, lambda: all_see(mesh), 30)


@pytest.mark.parametrize("seed", range(4))
def test_a_leaf_outlives_its_anchors(seed: int) -> None:
    mesh = begun(12, 3, seed)
    until(mesh, lambda: all_see(mesh), 30)
    leaf = max(mesh.leaves)
    for _ in range(3):
        anchor = mesh.membership(leaf).anchors_of(leaf)[0]
        mesh.world.nodes[anchor].crash()
        until(mesh, lambda: all_see(mesh), 60)
        until(mesh, partial(_has_let_go, mesh, leaf, anchor), 5)
        assert len(mesh.membership(leaf).anchors_of(leaf)) == ANCHORS, "another has taken its place"


@pytest.mark.parametrize("seed", range(4))
def test_a_leaf_whose_network_was_gone_for_minutes_is_dead_and_comes_back(seed: int) -> None:
    mesh = begun(12, 2, seed)
    until(mesh, lambda: all_see(mesh), 30)
    leaf = max(mesh.leaves)
    pairs = {pair for node in mesh.ids if node != leaf for pair in ((node, leaf), (leaf, node))}
    mesh.world.network.faults.cut |= pairs
    until(mesh, lambda: all(leaf not in seen(mesh, node) for node in mesh.ids if node != leaf), 60)
    mesh.world.run(mesh.world.now + 300)
    mesh.world.network.faults.cut -= pairs
    until(mesh, lambda: all_see(mesh), 90)


def test_who_was_away_is_told_for_how_long_and_nobody_else() -> None:
    told: list[tuple[NodeId, float]] = []

    def look(node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        if isinstance(event, ev.Returned):
            told.append((node.name, event.seconds))

    mesh = begun(6, 1, observer=look)
    until(mesh, lambda: all_see(mesh), 30)
    leaf = max(mesh.leaves)
    pairs = {pair for node in mesh.ids if node != leaf for pair in ((node, leaf), (leaf, node))}
    mesh.world.network.faults.cut |= pairs
    mesh.world.run(mesh.world.now + 600)
    mesh.world.network.faults.cut -= pairs
    until(mesh, lambda: bool(told), 90)
    mesh.world.run(mesh.world.now + 30)
    ((who, seconds),) = told
    assert who == leaf and 590 < seconds < 690


def test_the_first_anchors_are_the_seeds() -> None:
    mesh = begun(8, 1)
    leaf = max(mesh.leaves)
    until(mesh, lambda: mesh.membership(leaf).anchors_of(leaf) != (), 5)
    assert mesh.membership(leaf).anchors_of(leaf) == tuple(mesh.ids[:SEEDS])


@pytest.mark.parametrize("seed", range(4))
def test_where_the_seeds_are_of_one_organisation_others_take_the_places_of_all_but_one(seed: int) -> None:
    world = World(seed)
    mesh = Mesh(world, 12, timing=LAN, orgs=3, whole=False, leaves=node_ids(12)[11:])
    one_org = [node for node in mesh.ids[:11] if mesh.org_of[node] == mesh.org_of[mesh.ids[0]]][:ANCHORS]
    mesh.seeds = [replace(mesh.seeds[0], node=node) for node in one_org]
    for node in world.nodes.values():
        node.start()
    leaf = max(mesh.leaves)
    until(mesh, lambda: set(mesh.membership(leaf).anchors_of(leaf)) == set(one_org), 5)
    until(mesh, lambda: len({mesh.org_of[node] for node in mesh.membership(leaf).anchors_of(leaf)}) == ANCHORS, 30)
    until(mesh, lambda: all_see(mesh), 30)
    before = mesh.membership(leaf).anchors_of(leaf)
    assert len(before) == ANCHORS and set(before) & set(one_org)
    mesh.world.run(mesh.world.now + 60)
    assert mesh.membership(leaf).anchors_of(leaf) == before, "and it comes to rest"


@pytest.mark.parametrize("seed", range(4))
def test_an_anchor_that_a_leaf_cannot_reach_itself_is_given_up_though_others_reach_it(seed: int) -> None:
    mesh = begun(12, 2, seed)
    until(mesh, lambda: all_see(mesh), 30)
    leaf = max(mesh.leaves)
    anchor = mesh.membership(leaf).anchors_of(leaf)[0]
    mesh.world.network.faults.cut |= {(anchor, leaf), (leaf, anchor)}
    until(mesh, lambda: _has_let_go(mesh, leaf, anchor), 60)
    assert len(mesh.membership(leaf).anchors_of(leaf)) == ANCHORS
    until(mesh, lambda: all_see(mesh), 30)
    mesh.world.run(mesh.world.now + 60)
    assert all_see(mesh) and _has_let_go(mesh, leaf, anchor)


# -- what comes over a link --------------------------------------------------------------------------------------------


def lane_of(machine: Membership) -> Lane:
    return Lane(machine, Ed25519Verifier())


def test_garbage_over_a_link_is_counted_and_answered_by_nothing() -> None:
    lane = lane_of(Lone().machine)
    assert lane.step(0.0, Heard(Peer(LEAF, org(1)), GOSSIP, b"\xff" * 40)) == []
    assert lane.statistics()["refused_bad-encoding"] == 1


def test_a_stranger_and_one_that_floods_are_not_heard_over_a_link() -> None:
    lone = Lone()
    lane, ping = lane_of(lone.machine), codec.encode_datagram(ev.Ping(1))
    assert lane.step(0.0, Heard(Peer(LEAF, org(1)), GOSSIP, ping)) == [], "its certificate was never checked here"
    lone.step(ev.PeerProved(Peer(LEAF, org(1)), b"certificate of leaf"))
    heard = sum(len(lane.step(0.0, Heard(Peer(LEAF, org(1)), GOSSIP, ping))) for _ in range(2 * int(DATAGRAMS_OF_NODE[1])))
    assert heard == DATAGRAMS_OF_NODE[1] / 2 - 1, "its first one is counted, too"


def test_an_organisation_has_over_links_a_quarter_of_what_it_has_at_the_port() -> None:
    lone = Lone()
    lane, ping = lane_of(lone.machine), codec.encode_datagram(ev.Ping(1))
    heard = {1: 0, 2: 0}
    for of, count in ((1, 8), (2, 1)):
        for number in range(count):
            peer = Peer(NodeId(f"leaf-{of}-{number}"), org(of))
            lone.step(ev.PeerProved(peer, f"certificate of {peer.node}".encode()))
            heard[of] += sum(len(lane.step(0.0, Heard(peer, GOSSIP, ping))) for _ in range(100))
    assert heard == {1: DATAGRAMS_OF_ORG[1] / 4, 2: 100}, "and another organisation its own"


def test_who_pings_over_a_link_is_answered_over_the_link_and_dialled_by_no_one() -> None:
    lone = Lone()
    lone.step(ev.Started())
    lone.step(ev.PeerProved(Peer(LEAF, org(1)), b"certificate of leaf"))
    out = lone.step(ev.DatagramReceived(LEAF, "", ev.Ping(7)))
    casts = [effect for effect in out if isinstance(effect, Cast)]
    assert [(cast.to, cast.protocol, cast.dial) for cast in casts] == [(LEAF, GOSSIP, False)]
    assert not [effect for effect in out if isinstance(effect, ev.SendDatagram)]
