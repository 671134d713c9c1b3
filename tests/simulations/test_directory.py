"""The simulated mesh of directories: distances, late news, records and links that are there, answers that are judged, holders that lie."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from meshos.ids import AgentId, NodeId
from meshos.protocols.directory.cells.summary import Summary
from meshos.protocols.directory.cells.summary import name_of as summary_word
from meshos.protocols.directory.record import described
from meshos.protocols.directory.search import DiscoverRequest
from meshos.simulations.directory import liars
from meshos.simulations.directory.mesh import DirectoryMesh, Laid, node_name, org_name, signed
from meshos.simulations.directory.questions import Asked, Questions
from meshos.simulations.directory.readings import Readings
from meshos.simulations.directory.views import Views
from meshos.simulations.network import NetworkFaults
from meshos.simulations.node import Violation
from meshos.storage.index.words import stem
from tests.directory.test_layout import CODEBOOK, profiles
from tests.directory.world import EMBEDDER, NOW_MS

NODES, RECORDS = 12, 60
NAMELESS = np.zeros(0, np.uint32)
FORMER = {
    sealed.entry.agent_id: sealed
    for at, profile in enumerate(profiles(RECORDS))
    for sealed in [
        signed(described(org_name(at % 3), profile, 1, NOW_MS, EMBEDDER.name, EMBEDDER.read([profile.text()])[0]), node_name(at % 3))
    ]
}
QUESTIONS = ["chess3 chess4", "weather1 invoice2", "music7 genome1 genome2", "travel5"]


def mesh_of(seed: int = 1, way_s: float = 0.05) -> DirectoryMesh:
    faults = NetworkFaults(latency_s=(0.0, 0.001), way_s=lambda source, target: way_s)
    mesh = DirectoryMesh(seed, NODES, CODEBOOK, EMBEDDER, faults, (2.0, 3.0))
    records = [
        signed(dataclasses.replace(old.entry, version=2), NodeId(old.signer))  # type: ignore[arg-type]  # they are records
        for old in FORMER.values()
    ]
    places = mesh.layout(node_name(0)).places_of([sealed.entry for sealed in records])
    mesh.lay(Laid(sealed, there) for sealed, there in zip(records, places, strict=True))
    mesh.link()
    mesh.world.run(10.0)
    return mesh


def newest(_: AgentId) -> int:
    return 2


def asked_of(mesh: DirectoryMesh, phase: str = "all is well") -> tuple[Questions, list[Asked]]:
    exact = []
    for text in QUESTIONS:
        flow = mesh.ask(node_name(3), DiscoverRequest(text))
        mesh.world.run(mesh.world.now + 2.0)
        outcome = mesh.ended[flow][1]
        exact.append(frozenset(found.sealed.digest for found in outcome.value.agents))  # type: ignore[union-attr, attr-defined]
    questions = Questions(mesh, QUESTIONS, exact, newest)
    return questions, questions.ask(phase, range(len(QUESTIONS)), 0.5)


def test_a_question_takes_as_long_as_the_ways_are_and_is_answered_alike_from_everywhere() -> None:
    _, near = asked_of(mesh_of(way_s=0.001))
    _, distant = asked_of(mesh_of(way_s=0.05))
    assert {one.recall for one in (*near, *distant)} == {1.0} and all(one.complete for one in (*near, *distant))
    assert max(one.took_s for one in near) < 0.1 < min(one.took_s for one in distant) < 0.5


def test_the_same_seed_gives_the_same_run() -> None:
    one, again = mesh_of(3), mesh_of(3)
    assert asked_of(one)[1] == asked_of(again)[1] and one.world.steps == again.world.steps


def test_news_comes_late_and_each_side_of_a_cut_mesh_sees_itself() -> None:
    ids = [node_name(number) for number in range(4)]
    views = Views(frozenset(ids), dict(zip(ids, (1.0, 2.0, 1.0, 2.0), strict=True)))
    views.changed(10.0, frozenset(ids[:3]), frozenset(), apart=False)
    assert views.of(ids[0], 10.9).alive == frozenset(ids) and views.of(ids[0], 11.0).members == tuple(ids[:3])
    assert views.of(ids[1], 11.9).alive == frozenset(ids)
    views.changed(20.0, frozenset(ids), frozenset(ids[2:]), apart=True)
    assert views.of(ids[0], 21.0).members == tuple(ids[:2]) and views.of(ids[3], 22.0).members == tuple(ids[2:])
    views.changed(30.0, frozenset(ids), frozenset(), apart=False)
    assert views.of(ids[3], 33.0).members == tuple(ids)


@pytest.mark.parametrize("lie", [liars.drop, liars.forge, liars.inflate, liars.stale(FORMER)])
def test_one_liar_hides_nothing_and_nothing_unsigned_or_old_is_shown(lie: liars.Change) -> None:
    mesh = mesh_of(2)
    questions, _ = asked_of(mesh)
    for liar in mesh.ids:
        mesh.lies = {liar: liars.lie(lie)}
        asked = questions.ask("one lies", range(len(QUESTIONS)), 0.3)
        assert [(one.recall, one.outdated, one.back) for one in asked] == [(1.0, 0, 0)] * len(QUESTIONS)


def _nothing(told: Summary) -> Summary:
    return dataclasses.replace(told, records=0, stems=NAMELESS, facets=NAMELESS, counts=NAMELESS, costs=(0,) * len(told.costs))


def _everything(told: Summary) -> Summary:
    named = np.array(sorted({summary_word(stem(word)) for text in QUESTIONS for word in text.split()}), np.uint32)
    return dataclasses.replace(told, records=1 << 20, stems=named, costs=(1 << 20,) * len(told.costs))


@pytest.mark.parametrize("lie", [_nothing, _everything])
def test_one_that_lies_in_its_summaries_hides_nothing_and_draws_nothing_away(lie: Callable[[Summary], Summary]) -> None:
    mesh = mesh_of(2)
    questions, _ = asked_of(mesh)
    told = mesh.parts[node_name(3)].charted.told
    summaries = [next(iter(of.values()))[1] for of in told.values()]
    assert len(summaries) == CODEBOOK.cells
    worth = []
    for liar in mesh.ids:
        mesh.tell_summaries(summaries, {liar: lie})
        asked = questions.ask("one lies", range(len(QUESTIONS)), 0.3)
        worth.append(sum(one.recall for one in asked) / len(asked))
    assert min(worth) >= 0.85 and sum(worth) / len(worth) >= 0.9  # a route may end a cell sooner or later
    mesh.tell_summaries(summaries, dict.fromkeys(mesh.ids, lie))
    asked = questions.ask("all lie", range(len(QUESTIONS)), 0.1)
    assert lie is _everything or min(one.recall for one in asked) < 1, "if all lie, it shows"


def test_where_all_holders_lie_old_versions_are_counted() -> None:
    mesh = mesh_of(2)
    questions, _ = asked_of(mesh)
    mesh.lies = dict.fromkeys(mesh.ids, liars.lie(liars.stale(FORMER)))
    asked = questions.ask("all lie", range(len(QUESTIONS)), 0.3)
    assert sum(one.outdated for one in asked) == sum(one.back for one in asked) > 0 and min(one.recall for one in asked) < 1


def test_what_is_shown_in_a_version_that_nobody_has_published_ends_the_run() -> None:
    mesh = mesh_of(2)
    questions = Questions(mesh, QUESTIONS, [frozenset({b"x"})] * len(QUESTIONS), lambda _: 1)
    with pytest.raises(Violation, match="has not published"):
        questions.ask("all is well", [0], 0.5)


def test_the_table_of_readings_knows_what_it_was_given_and_nothing_else() -> None:
    (read,) = EMBEDDER.read(["chess"])
    readings = Readings("a model", {"chess": read}, frozenset({"chess"}))
    assert readings.read(["chess", "chess"]) == [read, read] and readings.knows("chess") and not readings.knows("music")
    with pytest.raises(KeyError):
        readings.read(["music"])
