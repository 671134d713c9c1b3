"""Spot checks in the simulator: liars of every sort are found out and discharged, and nobody honest is even suspected for long enough."""

import dataclasses
import random

import pytest

from meshos.ids import NodeId
from meshos.protocols.directory import limits
from meshos.protocols.directory.profile import Profile
from meshos.protocols.directory.publishing import Publication, Withdrawal
from meshos.protocols.directory.record import described
from meshos.protocols.directory.services import PUBLISH, WITHDRAW
from meshos.simulations.directory import liars
from meshos.simulations.directory.court import Court
from meshos.simulations.directory.mesh import DirectoryMesh, Laid, node_name, org_name, signed
from meshos.simulations.network import NetworkFaults
from tests.directory.test_layout import CODEBOOK, TOPICS, profiles
from tests.directory.world import EMBEDDER, NOW_MS

NODES, RECORDS = 12, 120
PROFILES = profiles(RECORDS)
FORMER = {
    sealed.entry.agent_id: sealed
    for at, profile in enumerate(PROFILES)
    for sealed in [
        signed(described(org_name(at % 3), profile, 1, NOW_MS, EMBEDDER.name, EMBEDDER.read([profile.text()])[0]), node_name(at % 3))
    ]
}
SORTS = {"omitted": liars.drop, "stale": liars.stale(FORMER), "forged": liars.forge, "own first": liars.inflate}


def mesh_of(seed: int, *, loss: float = 0.0) -> DirectoryMesh:
    faults = NetworkFaults(latency_s=(0.001, 0.02), loss=loss, duplication=loss)
    mesh = DirectoryMesh(seed, NODES, CODEBOOK, EMBEDDER, faults, (2.0, 6.0), spots=True)
    records = [
        signed(dataclasses.replace(old.entry, version=2), NodeId(old.signer))  # type: ignore[arg-type]  # they are records
        for old in FORMER.values()
    ]
    places = mesh.layout(node_name(0)).places_of([sealed.entry for sealed in records])
    mesh.lay(Laid(sealed, there) for sealed, there in zip(records, places, strict=True))
    return mesh


def convinced(mesh: DirectoryMesh) -> dict[NodeId, str]:
    return {liar: lie.reason for parts in mesh.parts.values() for liar, lie in parts.suspects.convinced.items()}


def run_until(court: Court, lying: frozenset[NodeId], seconds: float = 1_200) -> None:
    while seconds > 0 and court.mesh.discharged != lying:
        court.run(30)
        seconds -= 30


@pytest.mark.parametrize("sort", SORTS)
def test_liars_of_every_sort_are_discharged_and_nobody_else(sort: str) -> None:
    mesh = mesh_of(1)
    lying = mesh.ids[5:7]
    mesh.lies = dict.fromkeys(lying, liars.lie(SORTS[sort]))
    court = Court(mesh)
    run_until(court, frozenset(lying))
    assert mesh.discharged == frozenset(lying)
    assert set(convinced(mesh)) == set(lying) and set(convinced(mesh).values()) == {"forged" if sort == "own first" else sort}


def change(mesh: DirectoryMesh, dice: random.Random, count: int = 4) -> None:
    """Some records change, some are new, and some are withdrawn, each by its owner."""
    for _ in range(count):
        owner, at = dice.randrange(NODES), dice.randrange(2 * RECORDS)
        node = node_name(owner % 3 if at < RECORDS else owner)
        if not mesh.world.nodes[node].alive:
            continue
        name = PROFILES[at].name if at < RECORDS else f"new {owner} {at}"
        words = " ".join(f"{dice.choice(TOPICS)}{dice.randrange(12)}" for _ in range(8))
        if dice.random() < 0.8:
            mesh.start(node, PUBLISH, Publication((Profile(name, words),), NOW_MS))
        else:
            mesh.start(node, WITHDRAW, Withdrawal((name,), NOW_MS))


class Weather:
    """Nodes crash and come back, records change, the mesh is cut in two and heals."""

    def __init__(self, court: Court, seed: int) -> None:
        self.court, self.mesh, self.dice = court, court.mesh, random.Random(f"{seed}/weather")
        self.down: list[NodeId] = []
        self.far: frozenset[NodeId] = frozenset()

    def blow(self, seconds: float) -> None:
        ends = self.mesh.world.now + seconds
        while self.mesh.world.now < ends:
            change(self.mesh, self.dice)
            self.dice.choice((self.crash, self.crash, self.start, self.start, self.part, self.heal, self.calm, self.calm))()
            self.mesh.changed(self.far)
            self.court.run(self.dice.choice((1.0, 5.0, 20.0)), 1.0)
        self.heal()
        while self.down:
            self.start()
        self.mesh.changed()

    def crash(self) -> None:
        up = [node for node in self.mesh.ids if node not in self.down]
        if len(self.down) < 3:
            self.down.append(self.dice.choice(up))
            self.mesh.world.nodes[self.down[-1]].crash()

    def start(self) -> None:
        if self.down:
            self.mesh.world.nodes[self.down.pop(0)].start()

    def part(self) -> None:
        self.far = frozenset(self.dice.sample(self.mesh.ids, NODES // 2))
        self.mesh.world.network.faults.heal()
        self.mesh.world.network.faults.partition([sorted(set(self.mesh.ids) - self.far), sorted(self.far)])

    def heal(self) -> None:
        self.far = frozenset()
        self.mesh.world.network.faults.heal()

    def calm(self) -> None:
        """Nothing happens for once."""


@pytest.mark.parametrize("seed", range(4))
def test_in_any_weather_nobody_honest_is_taken_for_a_liar_and_liars_are_found_all_the_same(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One suspicion would do here, and checks come five times as often: nobody honest falls under one."""
    monkeypatch.setattr(limits, "CAUGHT", 1)
    monkeypatch.setattr(limits, "SPOT_ROUNDS", 1)
    mesh = mesh_of(seed, loss=0.05)
    lying = dict(zip(random.Random(seed).sample(mesh.ids, 2), random.Random(f"{seed}/sorts").sample(sorted(SORTS), 2), strict=True))
    mesh.lies = {node: liars.lie(SORTS[sort]) for node, sort in lying.items()}
    weather = Weather(Court(mesh), seed)
    weather.blow(600)
    assert set(weather.court.said) <= set(lying)
    run_until(weather.court, frozenset(lying))
    assert mesh.discharged == frozenset(lying) and set(weather.court.said) == set(lying)


def test_who_lies_no_more_and_who_is_framed_by_f_others_keeps_its_places() -> None:
    mesh = mesh_of(7)
    court = Court(mesh, framers=tuple(mesh.ids[:3]), framed=(mesh.ids[8],))
    mesh.lies = {mesh.ids[9]: liars.lie(liars.drop)}
    court.run(60)
    mesh.lies = {}
    court.run(600)
    assert mesh.discharged == frozenset() and mesh.ids[8] in mesh.accused
    assert convinced(mesh) == {}


def test_who_is_accused_is_looked_at_sooner() -> None:
    asked = []
    for framed in ((), (node_name(8),)):
        mesh = mesh_of(8)
        court = Court(mesh, framers=tuple(mesh.ids[:3]), framed=framed)
        begun = list[NodeId]()
        court.look()
        for _ in range(120):
            mesh.world.run(mesh.world.now + 2)
            begun += [parts.suspects.spot.node for parts in mesh.parts.values() if parts.suspects.spot is not None]
        asked.append(begun.count(node_name(8)) / len(begun))
    assert asked[0] < 0.2 and 0.4 < asked[1] < 0.7
