"""Directories in cells, in virtual time: entries come to lie where they ought to, and stay findable while members come and go."""

import dataclasses
import zlib
from collections import Counter
from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.ids import NodeId, agent_id
from meshos.protocols.directory.cells.codebook import Codebook
from meshos.protocols.directory.cells.layout import in_cells
from meshos.protocols.directory.cells.limits import COPIES, ID_PLACES
from meshos.protocols.directory.cells.placement import Seat, holders
from meshos.protocols.directory.cells.training import train
from meshos.protocols.directory.holdings import Holding
from meshos.protocols.directory.profile import Profile
from meshos.protocols.directory.record import buried
from meshos.protocols.directory.sync import sync_with
from meshos.protocols.directory.vector import whole_bytes
from meshos.simulations.network import NetworkFaults
from tests.directory.world import EMBEDDER, GENESIS, NOW_MS, Mesh, org, record, signed

TOPICS = ("chess", "weather", "invoice", "image", "travel", "music", "genome", "ledger")


def profiles(count: int, seed: int = 1) -> list[Profile]:
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        topic = TOPICS[random.integers(len(TOPICS))]
        found.append(Profile(f"agent {number}", " ".join(f"{topic}{random.integers(12)}" for _ in range(8))))
    return found


def trained(version: int = 1) -> Codebook:
    texts = [profile.text() for profile in profiles(400, seed=version)]
    return train(version, EMBEDDER.name, np.stack([one.vector for one in EMBEDDER.read(texts)]), texts, seed=version)


CODEBOOK, OTHER = trained(1), trained(2)

seats = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), unique=True, max_size=16).map(
    lambda found: [Seat(org(of), place, NodeId(f"n{of}-{place}")) for of, place in found]
)


@given(seats, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_a_place_lies_on_nodes_of_different_organisations_in_any_order(given_seats: list[Seat], mixed: Random) -> None:
    found = holders(GENESIS, given_seats, 40)
    org_of = {seat.node: seat.org for seat in given_seats}
    orgs = len(set(org_of.values()))
    assert all(len(nodes) == len({org_of[node] for node in nodes}) == min(COPIES, orgs) for nodes in found)
    again = list(given_seats)
    mixed.shuffle(again)
    assert holders(GENESIS, again, 40) == found


def test_when_a_node_goes_only_what_it_held_moves_and_each_holds_about_as_much() -> None:
    every = [Seat(org(of), place, NodeId(f"n{of}-{place}")) for of in range(8) for place in range(2)]
    before, after = holders(GENESIS, every, 1_000), holders(GENESIS, every[1:], 1_000)
    for nodes, then in zip(before, after, strict=True):
        assert nodes == then if every[0].node not in nodes else set(nodes) - {every[0].node} <= set(then)
    held = Counter(node for nodes in before for node in nodes)
    assert max(held.values()) < 1.25 * COPIES * 1_000 / 16 < 1.6 * min(held.values())


def test_an_entry_lies_in_its_cell_in_those_before_it_and_by_its_id() -> None:
    layout = in_cells(NodeId("n0-a"), b"n" * 16, CODEBOOK, GENESIS, [Seat(org(0), 0, NodeId("n0-a"))])
    first, second = record(text="chess1 chess2 chess3"), record(text="weather1 weather2 weather3")
    then = dataclasses.replace(second, was=(whole_bytes(first.dense),))
    one, two, gone = layout.places_of([first, then, buried(first.mesh_id, first.name, 3, NOW_MS, then)])
    assert len(one) == 2 and len(two) == 3 and two[0] != one[0] == two[1]
    assert set(gone) == set(two) and one[-1] == two[-1] == gone[-1] >= CODEBOOK.cells
    assert one[-1] == CODEBOOK.cells + int(first.agent_id[2:4], 16) % ID_PLACES


def check(mesh: Mesh, expected: Sequence[Profile], by: int = 0, *, strictly: bool = True) -> None:
    """Each of ``expected`` lies with exactly its holders (and its owner), in the version that its owner has."""
    for profile in expected:
        agent = agent_id(org(by), profile.name)
        owner = _held(mesh, by, agent)
        assert owner is not None and owner.places
        layout = mesh.seen(mesh.ids[by])
        ought = {node for place in owner.places for node in layout.holders[place]}
        for number, node in enumerate(mesh.ids):
            if not mesh.world.nodes[node].alive:
                continue
            held = _held(mesh, number, agent)
            if node in ought:
                assert held is not None and (held.version, held.digest, held.places) == (owner.version, owner.digest, owner.places), node
            elif strictly and number != by:
                assert held is None or held.kind == "mark", (node, profile.name)


def _held(mesh: Mesh, number: int, agent: object) -> Holding | None:
    return mesh.machine(number)._held.get(agent)  # type: ignore[arg-type]


def test_a_whole_directory_becomes_one_in_cells_and_each_holds_only_its_own() -> None:
    mesh, some = Mesh(1, nodes=8), profiles(60)
    mesh.publish(0, *some, seconds=5)
    assert mesh.alike() and mesh.held(5)["records"] == 60
    mesh.codebook = CODEBOOK
    mesh.run(200)
    check(mesh, some)
    total = sum(mesh.held(number)["records"] for number in range(8))
    assert total < 60 * (2 * COPIES + 1) and all(mesh.held(number)["unplaced"] == 0 for number in range(8))


def test_what_is_published_in_cells_is_with_its_holders_within_two_seconds_and_what_is_withdrawn_is_gone() -> None:
    mesh, some = Mesh(2, nodes=8), profiles(40)
    mesh.codebook = CODEBOOK
    mesh.run(5)
    mesh.publish(3, *some, seconds=2)
    check(mesh, some, by=3)
    changed = [dataclasses.replace(profile, description=TOPICS[at % 8] + "7 changed") for at, profile in enumerate(some[:20])]
    mesh.publish(3, *changed, seconds=2)
    check(mesh, changed, by=3, strictly=False)
    mesh.withdraw(3, *(profile.name for profile in some))
    mesh.run(1)
    for number in range(8):
        assert mesh.held(number)["records"] == 0


@pytest.mark.parametrize("seed", range(6))
def test_holders_that_die_and_come_back_are_replaced_and_nothing_is_lost(seed: int) -> None:
    mesh, some = Mesh(seed, nodes=8, faults=NetworkFaults(loss=0.05, duplication=0.05)), profiles(40, seed + 5)
    mesh.codebook = CODEBOOK
    mesh.run(5)
    mesh.publish(0, *some, seconds=10)
    for round_ in range(3):
        victims = [mesh.world.nodes[mesh.ids[1 + (seed + round_ + step) % 7]] for step in range(2)]
        for victim in victims:
            victim.crash()
        mesh.run(60)
        check(mesh, some, strictly=False)
        for victim in victims:
            victim.start()
        mesh.run(30)
    mesh.run(240)
    check(mesh, some)
    assert not any(mesh.parts[node].unsure for node in mesh.ids)


def test_a_new_codebook_moves_everything_and_a_restart_changes_nothing() -> None:
    mesh, some = Mesh(9, nodes=5), profiles(40)
    mesh.codebook = CODEBOOK
    mesh.run(5)
    mesh.publish(0, *some, seconds=5)
    mesh.codebook = OTHER
    mesh.run(200)
    check(mesh, some)
    before = [mesh.machine(number).digest() for number in range(5)]
    for node in mesh.ids:
        mesh.world.nodes[node].crash()
    for node in mesh.ids:
        mesh.world.nodes[node].start()
    mesh.run(0.1)
    assert [mesh.machine(number).digest() for number in range(5)] == before
    mesh.run(30)
    check(mesh, some)
    mesh.codebook = None
    mesh.run(60)
    assert mesh.alike() and mesh.held(3)["records"] == 40


def test_what_another_node_of_the_owner_withdrew_is_not_brought_back_by_its_signer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshos.protocols.directory.keeping.RENEW_EVERY", 5)
    mesh, some = Mesh(11, nodes=8), profiles(12)
    mesh.codebook = CODEBOOK
    mesh.run(5)
    mesh.publish(0, *some, seconds=5)
    layout = mesh.seen(mesh.ids[0])
    held = {profile.name: _held(mesh, 0, agent_id(org(0), profile.name)) for profile in some}
    name = next(name for name, one in held.items() if one is not None and not layout.holds(one.places))
    record_here = mesh.machine(0).record(agent_id(org(0), name))
    assert record_here is not None
    tombstone = signed(buried(org(0), name, record_here.entry.version + 1, NOW_MS, record_here.entry), "n0-a")
    other = next(number for number in range(1, 8) if layout.shared_with(mesh.ids[number]))
    mesh.slip_in(other, tombstone)
    mesh.run(60)
    gone = _held(mesh, 0, agent_id(org(0), name))
    assert gone is not None and gone.kind == "tombstone" and gone.version == record_here.entry.version + 1


def test_who_asks_for_a_place_that_a_node_does_not_hold_is_told_that_it_is_unsure() -> None:
    mesh = Mesh(12, nodes=8)
    mesh.codebook = CODEBOOK
    mesh.run(60)
    layout = mesh.seen(mesh.ids[0])
    strange = tuple(place for place in range(100) if mesh.ids[1] not in layout.holders[place])
    mesh.parts[mesh.ids[0]].unsure = dict.fromkeys(strange, frozenset[NodeId]())

    sync_over(mesh, 0, 1, strange)
    assert set(mesh.parts[mesh.ids[0]].unsure) == set(strange)


def sync_over(mesh: Mesh, number: int, other: int, places: tuple[int, ...]) -> None:
    flows = mesh.world.nodes[mesh.ids[number]].core.machine("flows")
    flows._services["test-sync"] = lambda _: sync_with(mesh.parts[mesh.ids[number]], mesh.ids[other], places)  # type: ignore[attr-defined]
    flow = mesh.start(number, "test-sync", None)
    mesh.run(0.3)  # between two of its own rounds
    mesh.outcome(flow)


def test_who_has_just_started_and_knows_nobody_yet_is_sure_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    minute = next(rounds for rounds in range(5, 10_000) if (zlib.crc32(b"n0-a") + 1) % rounds == 0)  # its first round ends one
    monkeypatch.setattr("meshos.protocols.directory.keeping.RENEW_EVERY", minute)
    mesh = Mesh(13, nodes=4)
    mesh.codebook = CODEBOOK
    mesh.parts[mesh.ids[0]].peers = lambda: []
    mesh.run(1)
    assert set(mesh.parts[mesh.ids[0]].unsure) == set(mesh.seen(mesh.ids[0]).mine)
