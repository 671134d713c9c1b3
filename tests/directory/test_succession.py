"""How a codebook is followed by another: when what is published has changed, and only then, whatever a holder or the trainer says."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from meshos.flow import Propose, Sleep
from meshos.flow_machine import Perform
from meshos.ids import AgentId, NodeId
from meshos.protocols.directory import charting, limits, sampling, succession
from meshos.protocols.directory.cells import codebook as codebooks
from meshos.protocols.directory.cells import limits as bounds
from meshos.protocols.directory.cells import wear
from meshos.protocols.directory.cells.codebook import Codebook
from meshos.protocols.directory.cells.training import train
from meshos.protocols.directory.cells.wear import succeeds, worn
from meshos.protocols.directory.commands import MACHINE, Item, Items, KeepCodebook
from meshos.protocols.directory.parts import Agreed, Parts
from meshos.protocols.directory.profile import Profile
from meshos.protocols.directory.sampling import Sample, sample
from meshos.protocols.directory.search import DiscoverRequest
from meshos.protocols.directory.vector import whole_bytes
from tests.directory.test_asking import names
from tests.directory.test_cutting import Ledger
from tests.directory.test_layout import CODEBOOK, OTHER, profiles
from tests.directory.world import EMBEDDER, Mesh, sealed_record

WATCHED = 8


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "CELLS_FROM", 250)
    monkeypatch.setattr(limits, "WATCH_ROUNDS", WATCHED)


def drifted(count: int, seed: int = 5) -> list[Profile]:
    """Of another mix: all about much the same."""
    random = np.random.default_rng(seed)
    words = ("poker", "bridge", "rummy", "hearts", "canasta", "whist")
    return [Profile(f"new {at}", " ".join(f"card {words[random.integers(6)]}" for _ in range(6)) + f" table{at}") for at in range(count)]


def cut(seed: int, nodes: int = 4, count: int = 300) -> tuple[Mesh, Ledger]:
    """A mesh in the cells of CODEBOOK, with records such as those it was trained on."""
    mesh = Mesh(seed, nodes=nodes)
    ledger = Ledger(mesh)
    name = codebooks.name_of(codebooks.encode(CODEBOOK))
    ledger.agreed = Agreed(in_cells=True, version=1, name=name)
    mesh.codebook = CODEBOOK
    for parts in mesh.parts.values():
        parts.codebooks[name] = CODEBOOK
    mesh.run(3)
    mesh.publish(1, *profiles(count), seconds=30)
    return mesh, ledger


def go_on(mesh: Mesh, ledger: Ledger, looks: int = 20) -> None:
    for _ in range(looks):
        mesh.run(3)
        ledger.look()


def test_a_codebook_that_fits_is_followed_by_none() -> None:
    mesh, ledger = cut(1)
    go_on(mesh, ledger)
    assert all(parts.watch.looks == (number == 0) * parts.watch.looks for number, parts in enumerate(mesh.parts.values()))
    assert mesh.parts[mesh.ids[0]].watch.looks > 1
    assert ledger.agreed.version == 1 and ledger.agreed.endorsed == () and all(parts.endorses is None for parts in mesh.parts.values())


def test_where_what_is_published_has_changed_the_next_is_trained_and_comes_into_force_and_none_after_it() -> None:
    mesh, ledger = cut(2)
    mesh.withdraw(1, "agent 7")
    mesh.publish(2, *drifted(300), seconds=30)
    go_on(mesh, ledger, 30)
    assert ledger.agreed.version == 2
    mesh.run(60)
    ledger.look()
    name = ledger.agreed.name
    assert {parts.layout.name for parts in mesh.parts.values()} == {name[:16]}
    chart = mesh.parts[mesh.ids[3]].charted.chart
    assert chart is not None and chart.codebook.version == 2 and chart.records.max() < 2 * chart.records.mean()
    for asker in range(4):
        answer = mesh.discover(asker, DiscoverRequest(drifted(300)[17].description))
        assert answer.complete and names(answer)[0] == "new 17"
        assert "agent 7" not in names(mesh.discover(asker, DiscoverRequest(profiles(300)[7].description, limit=100)))
    assert all(list(parts.codebooks) == [name] for parts in mesh.parts.values()), "the former one is not kept"
    go_on(mesh, ledger, 40)
    assert ledger.agreed.version == 2 and ledger.agreed.endorsed == ()


def test_what_the_trainer_has_brought_stays_while_more_is_published_and_the_others_make_up_their_minds() -> None:
    """Else they may follow it to the next one while it follows them to the one before, and none comes into force."""
    mesh, ledger = cut(4)
    mesh.publish(2, *drifted(300), seconds=30)
    trainer, brought = mesh.parts[mesh.ids[0]], list[bytes]()
    for batch in range(12):  # the others do not get to look
        mesh.publish(2, *drifted(40, seed=20 + batch)[: 3 + batch], seconds=12)
        if trainer.endorses is not None:
            brought.append(trainer.endorses[1])
    assert len(brought) > 6 and trainer.watch.looks > 3 and len(set(brought)) == 1
    go_on(mesh, ledger, 30)
    assert ledger.agreed.version == 2 and ledger.agreed.name == brought[0]


def test_one_holder_that_tells_of_crowded_cells_has_nothing_trained_and_little_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, ledger = cut(3)
    decode, drawn = charting.summaries.decode, list[NodeId]()
    monkeypatch.setattr(
        charting.summaries,
        "decode",
        lambda data: dataclasses.replace(found, records=bounds.CELL_RECORDS) if (found := decode(data)).cell % 8 == 0 else found,
    )

    async def counted(parts: Parts, most: int, turn: int) -> Sample | None:
        drawn.append(parts.node)
        return await sample(parts, most, turn)

    monkeypatch.setattr(succession, "sample", counted)
    for parts in mesh.parts.values():
        parts.charted.told.clear()
    go_on(mesh, ledger, 30)
    assert succession._wears(mesh.parts[mesh.ids[0]])
    assert ledger.agreed.version == 1 and ledger.agreed.endorsed == ()
    assert drawn and set(drawn) == {mesh.ids[0]} and len(drawn) <= 90 / (2 * WATCHED) + 1


def brought(mesh: Mesh, codebook: Codebook) -> bytes:
    """Have the first node, whose turn it is, endorse this one."""
    data = codebooks.encode(codebook)
    name = codebooks.name_of(data)
    parts = mesh.parts[mesh.ids[0]]
    parts.codebooks[name], parts.endorses = codebook, (codebook.version, name)
    parts.watch.rounds = -10_000  # it looks no more
    keep = Perform(10**9, Propose(KeepCodebook(name, data, ()), MACHINE), None)
    mesh.world.nodes[mesh.ids[0]].deliver(MACHINE, keep)
    return name


@pytest.mark.parametrize("later", [False, True])
def test_a_good_one_in_the_place_of_one_that_fits_is_endorsed_by_nobody_else(later: bool) -> None:
    mesh, ledger = cut(4)
    go_on(mesh, ledger, 3 + 7 * later)
    name = brought(mesh, dataclasses.replace(OTHER, version=2))
    go_on(mesh, ledger)
    assert ledger.agreed.version == 1 and ledger.agreed.endorsed == (name,)
    assert all(name in mesh.parts[node].refused_codebooks and mesh.parts[node].endorses is None for node in mesh.ids[1:])


def test_one_that_sends_questions_astray_is_not_endorsed_though_the_present_one_is_worn() -> None:
    mesh, ledger = cut(5)
    mesh.parts[mesh.ids[0]].watch.rounds = -10_000
    mesh.publish(2, *drifted(300), seconds=30)
    points = np.random.default_rng(1).integers(-40, 40, CODEBOOK.points.shape).astype(np.int8)
    name = brought(mesh, dataclasses.replace(CODEBOOK, version=2, points=points))
    go_on(mesh, ledger)
    assert ledger.agreed.version == 1 and all(name in mesh.parts[node].refused_codebooks for node in mesh.ids[1:])
    mesh.parts[mesh.ids[0]].watch.rounds = WATCHED
    go_on(mesh, ledger, 30)
    assert ledger.agreed.version == 2, "when it makes a good one it is endorsed"


def test_none_is_judged_before_the_present_one_was_in_force_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WATCH_ROUNDS", 60)
    mesh, ledger = cut(6)
    mesh.publish(2, *drifted(300), seconds=30)
    texts = [profile.text() for profile in (*profiles(300), *drifted(300))]
    brought(mesh, train(2, EMBEDDER.name, np.stack([one.vector for one in EMBEDDER.read(texts)]), texts, seed=2))
    go_on(mesh, ledger, 5)
    assert ledger.agreed.version == 1 and not any(parts.refused_codebooks for parts in mesh.parts.values())
    go_on(mesh, ledger, 30)
    assert ledger.agreed.version == 2


# -- drawing records -------------------------------------------------------------------------------------------------


def drawn_by(mesh: Mesh, number: int, most: int = 10_000, turn: int = 0) -> Sample | None:
    flows = mesh.world.nodes[mesh.ids[number]].core.machine("flows")
    flows._services["test-sample"] = lambda _: sample(mesh.parts[mesh.ids[number]], most, turn)  # type: ignore[attr-defined]
    flow = mesh.start(number, "test-sample", None)
    for _ in range(200):
        mesh.run(1)
        if flow in mesh.ended:
            break
    found: Sample | None = mesh.outcome(flow)
    return found


def test_all_records_are_drawn_wherever_they_lie_or_so_many_of_each_place() -> None:
    mesh, _ = cut(7, nodes=8)
    mesh.withdraw(1, *(f"agent {number}" for number in range(100)))
    mesh.run(60)
    found = drawn_by(mesh, 5)
    texts = {profile.text() for profile in profiles(300)[100:]}
    assert found is not None and set(found.texts) == texts and len(found.texts) == len(found.vectors) == len(found.placed_by) == 200
    assert 100 <= found.records <= 260, "of some 1.2 entries in a place"
    few = drawn_by(mesh, 5, most=256)
    assert few is not None and 100 < len(few.texts) < 200 and set(few.texts) <= texts


def test_where_too_little_is_reached_nothing_is_drawn() -> None:
    mesh, _ = cut(8, nodes=8)
    mesh.world.network.faults.partition([mesh.ids[:3], mesh.ids[3:]])
    assert drawn_by(mesh, 0) is None
    mesh.world.network.faults.heal()
    mesh.run(5)
    mesh.world.nodes[mesh.ids[7]].crash()
    found = drawn_by(mesh, 0)
    assert found is not None and len(found.texts) == 300


def _strangers(mesh: Mesh, items: Items) -> Items:
    """An agent that the node has, in another place than its own."""
    held = next(held for held in mesh.machine(4)._held.all() if held.id not in {one.id for one in items.items})
    return Items((Item(held.id, held.version, held.digest),), False)


@pytest.mark.parametrize("lie", ["forged", "strangers", "nothing"])
def test_what_one_holder_makes_up_is_not_drawn_and_what_it_keeps_back_comes_from_others(monkeypatch: pytest.MonkeyPatch, lie: str) -> None:
    mesh, _ = cut(9, nodes=8)
    ask_items, ask_entries, lied = sampling._items, sampling.entries_of, list[str]()

    async def items(parts: Parts, layout: object, node: NodeId, place: int) -> Items:
        found: Items = await ask_items(parts, layout, node, place)  # type: ignore[arg-type]
        if node == mesh.ids[4] and lie == "strangers":
            lied.append(lie)
            return _strangers(mesh, found)
        return found

    async def entries(node: NodeId, ids: Sequence[AgentId], timeout_s: float) -> tuple[bytes, ...]:
        found = await ask_entries(node, ids, timeout_s)
        if node == mesh.ids[4]:
            lied.append(lie)
            bad = dataclasses.replace(sealed_record("agent 5", by=1, text="poker poker"), signature=b"x" * 64)
            return () if lie == "nothing" else (bad.to_bytes(),) if lie == "forged" else found
        return found

    monkeypatch.setattr(sampling, "_items", items)
    monkeypatch.setattr(sampling, "entries_of", entries)
    found = drawn_by(mesh, 0)
    assert lied and found is not None and set(found.texts) == {profile.text() for profile in profiles(300)}


def test_a_holder_that_hands_over_a_record_a_request_as_late_as_it_may_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, _ = cut(9, nodes=8, count=900)
    ask = sampling.entries_of

    async def slow(node: NodeId, ids: Sequence[AgentId], timeout_s: float) -> tuple[bytes, ...]:
        found = await ask(node, ids, timeout_s)
        if node == mesh.ids[4]:
            await Sleep(limits.SYNC_TIMEOUT_S - 0.5)
            return found[:1]
        return found

    monkeypatch.setattr(sampling, "entries_of", slow)
    monkeypatch.setattr(limits, "DRAWN_S", 8.0)
    begun = mesh.world.now
    found = drawn_by(mesh, 0)
    assert found is not None and len(found.texts) == 900 and mesh.world.now - begun < 60


# -- the bounds ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "records", "largest", "is_worn"),
    [
        (256, 256 * 20, 1.25, False),
        (256, 256 * 20, 2.9, False),
        (256, 256 * 20, 3.1, True),
        (256, 256 * 49, 1.25, True),
        (256, 256 * 47, 1.25, False),
        (256, 256 * 6.5, 1.25, False),
        (256, 256 * 5.5, 1.25, True),
        (64, 64 * 2, 1.25, False),
        (1024, 1024 * 900, 1.25, False),
    ],
)
def test_what_is_worn(cells: int, records: float, largest: float, is_worn: bool) -> None:
    sizes = np.full(cells, records / cells)
    sizes[0] *= largest
    sizes[1:] *= (records - sizes[0]) / sizes[1:].sum()
    assert worn(sizes, records) == is_worn


def vectors_of(some: Sequence[Profile]) -> tuple[np.ndarray, list[bytes], list[str]]:
    texts = [profile.text() for profile in some]
    vectors = np.stack([one.vector for one in EMBEDDER.read(texts)])
    return vectors, [whole_bytes(vector.astype("<f2").tobytes()) for vector in vectors], texts


def test_what_may_take_the_place_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, placed_by, texts = vectors_of([*profiles(400), *drifted(300)])
    successor = train(2, EMBEDDER.name, vectors, texts, seed=2)
    assert succeeds(CODEBOOK, successor, vectors, placed_by, 700)
    assert not succeeds(successor, CODEBOOK, vectors, placed_by, 700), "one that is worn itself"
    assert not succeeds(successor, train(3, EMBEDDER.name, vectors, texts, seed=3), vectors, placed_by, 700), "no better"
    old, old_placed_by, _ = vectors_of(profiles(400))
    points = np.random.default_rng(1).integers(-40, 40, CODEBOOK.points.shape).astype(np.int8)
    monkeypatch.setattr(wear, "worn", lambda sizes, records: False)
    assert succeeds(dataclasses.replace(CODEBOOK, points=points), CODEBOOK, old, old_placed_by, 400), "it finds far more"
    assert not succeeds(OTHER, CODEBOOK, old, old_placed_by, 400)
    monkeypatch.setattr(wear, "_sizes", lambda codebook, placed_by: codebook.version)
    monkeypatch.setattr(wear, "worn", lambda version, records: version == 1)
    assert succeeds(CODEBOOK, dataclasses.replace(OTHER, version=2), old, old_placed_by, 400)
    assert not succeeds(CODEBOOK, dataclasses.replace(CODEBOOK, version=2, points=points), old, old_placed_by, 400), "worn or not"
