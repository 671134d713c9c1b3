"""From one codebook to the next while questions go on: what was found is found, what is withdrawn is gone, nothing complete too early."""

import dataclasses
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest

from meshos.errors import Refused
from meshos.ids import NodeId, agent_id
from meshos.protocols.directory import limits
from meshos.protocols.directory.answering import answered
from meshos.protocols.directory.cells.query import CellAnswer, CellSearch, rounded
from meshos.protocols.directory.cells.training import train
from meshos.protocols.directory.filters import Filters
from meshos.protocols.directory.profile import Profile
from meshos.protocols.directory.search import DiscoverAnswer, DiscoverRequest
from meshos.protocols.directory.services import DISCOVER, LOOKUP
from meshos.simulations.network import NetworkFaults
from tests.directory.test_asking import QUESTIONS, agents, names, sealed_record_of
from tests.directory.test_layout import CODEBOOK, check, profiles
from tests.directory.world import EMBEDDER, Mesh, org

TEXTS = [profile.text() for profile in profiles(400, seed=7)]
NEXT = train(2, EMBEDDER.name, np.stack([one.vector for one in EMBEDDER.read(TEXTS)]), TEXTS, seed=7, sizes=(128, 4))
AGENTS = agents(300, seed=3)
ASKED = [*QUESTIONS, *(profile.description[:30] for profile in AGENTS[:80:2])]
WAY_S = 0.03


def in_cells(seed: int = 1, nodes: int = 8) -> Mesh:
    mesh = Mesh(seed, nodes, NetworkFaults(way_s=lambda source, target: WAY_S))
    mesh.codebook = CODEBOOK
    mesh.run(5)
    for number in range(3):
        mesh.publish(number, *AGENTS[number::3], seconds=10)
    mesh.run(200)
    assert not any(parts.unsure for parts in mesh.parts.values())
    return mesh


def asked_all(mesh: Mesh, every_s: float = 0.5, askers: Sequence[int] = range(8)) -> list[DiscoverAnswer]:
    """Each question from the next of ``askers``, one every ``every_s``."""
    flows = []
    for at, query in enumerate(ASKED):
        flows.append(mesh.start(askers[at % len(askers)], DISCOVER, DiscoverRequest(query)))
        mesh.run(every_s)
    mesh.run(10)
    return [mesh.outcome(flow) for flow in flows]


@cache
def exact() -> list[list[str]]:
    """What one that holds all finds."""
    whole = Mesh(3, nodes=2)
    for number in range(3):
        for profile in AGENTS[number::3]:
            whole.slip_in(0, sealed_record_of(profile, number))
    whole.run(5)
    return [names(whole.discover(0, DiscoverRequest(query))) for query in ASKED]


def recall(answers: Sequence[DiscoverAnswer], expected: Sequence[Sequence[str]]) -> float:
    return float(np.mean([len(set(names(one)) & set(best)) / len(best) for one, best in zip(answers, expected, strict=True)]))


def staggered(mesh: Mesh) -> set[NodeId]:
    """Only those who are in the set hear of a change of codebook."""
    heard, seen = set[NodeId](), mesh.seen
    mesh.seen = lambda me: seen(me) if me in heard else mesh.parts[me].layout  # type: ignore[method-assign]
    return heard


def test_recall_stays_while_all_cells_change() -> None:
    mesh, best = in_cells(), exact()
    before = recall(asked_all(mesh), best)
    mesh.codebook = NEXT
    during = asked_all(mesh, 0.1)
    assert recall(during, best) >= 0.98 * before and not all(answer.complete for answer in during)
    mesh.run(60)
    after = asked_all(mesh)
    assert all(answer.complete for answer in after) and all(parts.former is None for parts in mesh.parts.values())
    assert {parts.layout.name for parts in mesh.parts.values()} == {mesh.seen(mesh.ids[0]).name}
    assert recall(after, best) >= 0.95 * before


def test_recall_stays_while_one_node_after_the_other_changes_and_nothing_is_complete_that_is_not() -> None:
    mesh, best = in_cells(2), exact()
    before = recall(asked_all(mesh), best)
    heard = staggered(mesh)
    mesh.codebook = NEXT
    for changed in (1, 5, 8):
        heard.update(mesh.ids[:changed])
        mesh.run(2.5)
        for askers in (range(changed), range(changed, 8)):
            assert not askers or recall(asked_all(mesh, 0.02, askers), best) >= 0.95 * before, (changed, askers)
    mesh.run(60)
    assert all(answer.complete for answer in asked_all(mesh)) and not any(parts.former for parts in mesh.parts.values())
    for number in range(3):
        check(mesh, AGENTS[number::3], by=number, strictly=False)


def held_by(mesh: Mesh, number: int) -> set[str]:
    return {held.id for held in mesh.machine(number)._held.all()}


def test_who_has_not_heard_all_that_held_something_is_sure_of_nothing_and_lets_go_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshos.protocols.directory.keeping.RENEW_EVERY", 5)
    monkeypatch.setattr(limits, "HEARD_TRIES", 1_000)
    mesh, best = in_cells(3), exact()
    held = [held_by(mesh, number) for number in range(8)]
    before = recall(asked_all(mesh), best)
    mesh.world.network.faults.partition([mesh.ids[:7], mesh.ids[7:]])
    mesh.codebook = NEXT
    mesh.run(150)
    assert all(held_by(mesh, number) >= held[number] for number in range(7))
    some = [mesh.start(at % 7, DISCOVER, DiscoverRequest(query)) for at, query in enumerate(ASKED)]
    mesh.run(10)
    answers = [mesh.outcome(flow) for flow in some]
    assert not any(answer.complete for answer in answers) and recall(answers, best) >= 0.95 * before
    mesh.world.network.faults.heal()
    mesh.run(60)
    assert all(answer.complete for answer in asked_all(mesh)) and not any(parts.former for parts in mesh.parts.values())
    mesh.run(240)
    assert not any(held_by(mesh, number) >= held[number] for number in range(3, 8))


def test_it_is_waited_no_longer_than_the_bound_for_one_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TRANSITION_ROUNDS", 20)
    mesh = in_cells(4)
    mesh.world.network.faults.partition([mesh.ids[:7], mesh.ids[7:]])
    mesh.codebook = NEXT
    mesh.run(30)
    assert all(parts.former is not None for parts in mesh.parts.values())
    mesh.run(20 * (limits.SYNC_S + 2 * limits.SYNC_TIMEOUT_S) + 60)
    assert not any(parts.former for parts in mesh.parts.values())
    assert all(mesh.parts[node].sure_of(mesh.parts[node].layout.mine) for node in mesh.ids[:7])


def test_one_that_is_there_and_never_compares_keeps_the_others_from_being_sure_for_some_rounds_only() -> None:
    mesh = in_cells(5)
    mesh.world.network.faults.partition([mesh.ids[:7], mesh.ids[7:]])
    mesh.codebook = NEXT
    mesh.run(15)
    assert not any(mesh.parts[node].sure_of(mesh.parts[node].layout.mine) for node in mesh.ids[:7])
    mesh.run(limits.HEARD_TRIES * (limits.SYNC_S + 2 * limits.SYNC_TIMEOUT_S))
    assert all(mesh.parts[node].sure_of(mesh.parts[node].layout.mine) for node in mesh.ids[:7])
    assert limits.HEARD_TRIES < limits.TRANSITION_ROUNDS


def test_what_is_withdrawn_changed_or_new_is_known_by_either_codebook() -> None:
    mesh = in_cells(5)
    gone, later, changed = AGENTS[0], AGENTS[3], AGENTS[6]
    mesh.withdraw(0, gone.name)
    heard = staggered(mesh)
    mesh.codebook = NEXT
    heard.update(mesh.ids[:5])
    mesh.run(2.5)
    mesh.withdraw(0, later.name)
    mesh.publish(0, dataclasses.replace(changed, per_query=999), Profile("zwieback", "Bakes zwieback7 slowly."))
    for wait_s in (0.5, 5.0, 30.0):
        for asker in range(5):
            assert gone.name not in names(mesh.discover(asker, DiscoverRequest(gone.text(), limit=100)))
            assert later.name not in names(mesh.discover(asker, DiscoverRequest(later.text(), limit=100)))
            known = {one.record.name: one.record for one in mesh.discover(asker, DiscoverRequest(changed.text(), limit=100)).agents}
            assert known[changed.name].profile.per_query == 999
            assert "zwieback" in names(mesh.discover(asker, DiscoverRequest("zwieback7")))
        mesh.run(wait_s)
        heard.update(mesh.ids)
    mesh.run(60)
    for name in (gone.name, later.name):
        found = {mesh.machine(number).record(agent_id(org(0), name)) for number in range(8)}
        assert found == {None}, name


def test_whoever_has_an_id_finds_its_record_throughout() -> None:
    mesh = in_cells(6, nodes=16)
    heard = staggered(mesh)
    ids = [agent_id(org(at % 3), profile.name) for at, profile in enumerate(AGENTS)]
    mesh.codebook = NEXT
    for changed in (1, 4, 10, 16):
        heard.update(mesh.ids[:changed])
        mesh.run(2.5)
        flows = [(agent, mesh.start(at % 16, LOOKUP, agent)) for at, agent in enumerate(ids)]
        flows += [(agent, mesh.start(0, LOOKUP, agent)) for agent in ids]
        mesh.run(2)
        found = [(agent, mesh.outcome(flow)) for agent, flow in flows]
        assert all(sealed is not None and sealed.entry.agent_id == agent for agent, sealed in found), changed
    assert CODEBOOK.cells != NEXT.cells, "places by id have moved, too"


def test_a_node_that_starts_again_in_the_middle_has_what_it_ought_to_have() -> None:
    mesh, best = in_cells(7), exact()
    before = recall(asked_all(mesh), best)
    mesh.codebook = NEXT
    mesh.run(1)
    mesh.world.nodes[mesh.ids[5]].crash()
    mesh.run(1)
    mesh.world.nodes[mesh.ids[5]].start()
    mesh.run(4)
    assert recall(asked_all(mesh, 0.1), best) >= 0.95 * before
    mesh.run(120)
    assert all(answer.complete for answer in asked_all(mesh))
    for number in range(3):
        check(mesh, AGENTS[number::3], by=number, strictly=False)


def test_by_another_codebook_than_these_two_nothing_is_answered() -> None:
    mesh = in_cells(8)
    parts = mesh.parts[mesh.ids[1]]
    former, question = parts.layout.name, rounded(parts.shelf.question("chess1", CODEBOOK.vocabulary))

    def asked(layout: bytes, cell: int = 0) -> CellAnswer:
        search = CellSearch(layout, (cell,), question, Filters(), 10)
        mesh.world.nodes[mesh.ids[1]].core.machine("flows")._services["test-ask"] = lambda _: answered(parts, search)  # type: ignore[attr-defined]
        flow = mesh.start(1, "test-ask", None)
        mesh.run(0.1)
        found = mesh.outcome(flow)
        assert isinstance(found, CellAnswer)
        return found

    mesh.codebook = NEXT
    mesh.world.network.faults.partition([mesh.ids[:7], mesh.ids[7:]])
    mesh.run(20)
    cell = next(cell for cell in parts.layout.mine if mesh.machine(1)._held.lying_in(cell) and cell < NEXT.cells)
    now = asked(parts.layout.name, cell)
    assert now.cells == () and now.found, "what it has of a cell that it is not sure of"
    mesh.world.network.faults.heal()
    mesh.run(20)
    assert asked(parts.layout.name, cell).cells == (cell,)
    assert asked(former).cells == () and len(asked(former).found) > 10, "all that it has, and all of nothing"
    with pytest.raises(Refused, match="other-layout"):
        asked(b"x" * 16)
    mesh.run(90)
    with pytest.raises(Refused, match="other-layout"):
        asked(former)
