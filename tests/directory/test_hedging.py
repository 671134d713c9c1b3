"""How holders are asked side by side: who is slow, refuses, or is asked as second, and that nobody is asked without need."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from meshos.effects import Outcome
from meshos.errors import Refused
from meshos.flow import Flow
from meshos.ids import NodeId, agent_id
from meshos.protocols.directory import asking, limits
from meshos.protocols.directory.asking import Answers
from meshos.protocols.directory.cells.layout import Layout
from meshos.protocols.directory.cells.query import Brief, CellAnswer, CellSearch
from meshos.protocols.directory.filters import Filters
from meshos.protocols.directory.parts import Parts
from meshos.protocols.directory.profile import Profile
from meshos.protocols.directory.search import DiscoverRequest
from tests.directory.test_asking import AGENTS, QUESTIONS, in_cells, names, sealed_record_of
from tests.directory.test_layout import CODEBOOK
from tests.directory.world import org


def test_a_slow_holder_is_hedged() -> None:
    mesh = in_cells(6)
    slow = mesh.world.nodes[mesh.ids[4]]
    expected = names(mesh.discover(0, DiscoverRequest("music7 genome1")))
    slow.crash()
    mesh.seen = lambda me: mesh.parts[me].layout  # type: ignore[method-assign]
    flow = mesh.start(0, "discover", DiscoverRequest("music7 genome1"))
    begun = mesh.world.now
    while flow not in mesh.ended:
        mesh.run(0.05)
    assert mesh.world.now - begun < 2 * limits.HEDGE_S + 0.3 and names(mesh.outcome(flow)) == expected


def test_where_a_holder_refuses_the_next_is_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, ask = in_cells(6), asking._asked
    expected = names(mesh.discover(0, DiscoverRequest("music7 genome1")))
    refused: list[NodeId] = []

    async def asked(node: NodeId, search: CellSearch) -> Answers:
        answers = await ask(node, search)
        if not refused or node in refused:
            refused.append(node)
            raise Refused("other-layout", "as while a directory goes from one codebook to the next")
        return answers

    monkeypatch.setattr(asking, "_asked", asked)
    flow = mesh.start(0, "discover", DiscoverRequest("music7 genome1"))
    begun = mesh.world.now
    while flow not in mesh.ended:
        mesh.run(0.01)
    answer = mesh.outcome(flow)
    assert names(answer) == expected and answer.complete and refused
    assert mesh.world.now - begun < limits.HEDGE_S


def test_nobody_is_asked_twice_where_once_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, ask = in_cells(6), asking._asked
    asked = list[tuple[NodeId, tuple[int, ...]]]()

    async def noted(node: NodeId, search: CellSearch) -> Answers:
        asked.append((node, search.cells))
        return await ask(node, search)

    monkeypatch.setattr(asking, "_asked", noted)
    for query in QUESTIONS:
        asked.clear()
        mesh.discover(0, DiscoverRequest(query))
        of_cell = Counter(cell for _, cells in asked for cell in cells)
        assert len(asked) == len({node for node, _ in asked}) and max(of_cell.values()) == 2


@pytest.mark.parametrize("seconded", [limits.SECONDED, 6, 3])
def test_who_is_second_for_some_cells_hides_nothing_of_its_own_behind_them(monkeypatch: pytest.MonkeyPatch, seconded: int) -> None:
    monkeypatch.setattr(limits, "SECONDED", seconded)
    mesh, group = in_cells(3), asking._group
    layout = mesh.parts[mesh.ids[0]].layout
    cell_of = {
        agent_id(org(at % 3), one.name): layout.places_of([sealed_record_of(one, at % 3).entry])[0][0] for at, one in enumerate(AGENTS)
    }
    liar, hidden = mesh.ids[0], 0

    async def lying(parts: Parts, layout: Layout, node: NodeId, search: CellSearch, *rest: Any) -> Answers:
        nonlocal hidden
        answers = []
        for who, answer in await group(parts, layout, node, search, *rest):
            if who == node == liar:
                kept = tuple(brief for brief in answer.found if cell_of[brief.id] not in search.cells)
                hidden += len(answer.found) - len(kept)
                answer = CellAnswer(answer.cells, kept, ())
            answers.append((who, answer))
        return answers

    for query in QUESTIONS:
        for asker in (0, 3, 6):
            request = DiscoverRequest(query, 30, collapse=False)
            expected = names(mesh.discover(asker, request))
            for liar in sorted({*mesh.ids[1:6]} - {mesh.ids[asker]}):
                with monkeypatch.context() as patch:
                    patch.setattr(asking, "_group", lying)
                    flow = mesh.start(asker, "discover", request)
                    mesh.run(3)
                assert set(names(mesh.outcome(flow))) >= set(expected), (query, asker, liar)
    assert hidden


def test_a_second_holder_that_is_only_slow_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = in_cells(11)
    ask, heard = asking._asked, asking._heard

    async def deaf(firsts: Sequence[Flow[Answers]], seconds: Mapping[NodeId, CellSearch]) -> tuple[list[Outcome[Answers]], Answers]:
        return await heard(firsts, {})

    monkeypatch.setattr(asking, "_heard", deaf)
    for sure in mesh.ids[1:5]:

        async def asked(node: NodeId, search: CellSearch, sure: NodeId = sure) -> Answers:
            return await ask(node, search) if node == sure else [(node, CellAnswer((), (), ()))]

        monkeypatch.setattr(asking, "_asked", asked)
        missing = []
        for seconded in (0, 16):
            monkeypatch.setattr(limits, "SECONDED", seconded)
            missing.append(mesh.discover(0, DiscoverRequest(QUESTIONS[0])).cells_missing)
        assert missing[0] == missing[1]


def test_who_is_asked_as_second_is_heard_as_long_as_the_first_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, heard = in_cells(14), asking._heard
    monkeypatch.setattr(asking, "_fits", lambda chart, first, second: False)  # nobody is both
    asked, answered = set[NodeId](), set[NodeId]()

    async def noted(firsts: Sequence[Flow[Answers]], seconds: Mapping[NodeId, CellSearch]) -> tuple[list[Outcome[Answers]], Answers]:
        outcomes, said = await heard(firsts, seconds)
        asked.update(seconds)
        answered.update(node for node, _ in said)
        return outcomes, said

    monkeypatch.setattr(asking, "_heard", noted)
    expected = names(mesh.discover(0, DiscoverRequest(QUESTIONS[0])))
    assert answered == asked != set()
    near, far = 0.6 * limits.HEDGE_S, 1.5 * limits.HEDGE_S
    for slow, way_s in (([mesh.ids[4]], near), (mesh.ids[1:], far)):
        asked.clear()
        answered.clear()
        mesh.world.network.faults.way_s = lambda source, target, slow=slow, way_s=way_s: way_s * (target in slow)  # type: ignore[misc]
        assert names(mesh.discover(0, DiscoverRequest(QUESTIONS[0]))) == expected
        assert answered == asked != set(), slow


def test_two_silent_holders_of_three_are_made_up_for_before_their_time_has_run_out() -> None:
    mesh = in_cells(16)
    for number, node in enumerate(mesh.ids):
        mesh.parts[node].seen = None  # nobody has noticed yet
        if number in (5, 6):
            mesh.world.nodes[node].crash()
    layout = mesh.parts[mesh.ids[0]].layout
    assert any({mesh.ids[5], mesh.ids[6]} <= set(nodes) and mesh.ids[0] not in nodes for nodes in layout.holders[: CODEBOOK.cells])
    flow, begun = mesh.start(0, "discover", DiscoverRequest(QUESTIONS[0])), mesh.world.now
    while flow not in mesh.ended:
        mesh.run(0.05)
    assert mesh.outcome(flow).complete and mesh.world.now - begun < limits.SEARCH_TIMEOUT_S


def test_what_is_left_out_behind_others_counts_once_a_second_holder_says_so() -> None:
    mesh = in_cells(17)
    parts = mesh.parts[mesh.ids[7]]
    chart = parts.charted.chart
    assert chart is not None
    cells = tuple(range(CODEBOOK.cells))
    assert chart.promised(cells) == len(AGENTS)
    one = Brief(agent_id(org(1), "first"), 1, b"x" * 16, 0.9, 0, behind=len(AGENTS))
    for answer, first, second in ((CellAnswer(cells, (one,), ()), True, False), (CellAnswer(cells, (), ()), True, True)):
        assert asking._too_few(chart, Filters(), answer, (), again=False) == first
        assert asking._too_few(chart, Filters(), answer, (), again=True) == second


def test_beside_a_flood_of_copies_no_third_holder_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshos.protocols.directory.cells.limits.SCANNED", 1.0)
    monkeypatch.setattr("meshos.protocols.directory.cells.limits.CROWDED", 1_000)
    monkeypatch.setattr(limits, "SECONDED", 0)
    mesh = in_cells(18)
    text = " ".join(f"zwieback{number}" for number in range(60))
    mesh.publish(1, *(Profile(f"baker {number}", text) for number in range(300)), seconds=5)
    mesh.run(90)
    asked, too_few, ask = list[CellSearch](), asking._too_few, asking._asked

    async def counted(node: NodeId, search: CellSearch) -> Answers:
        asked.append(search)
        return await ask(node, search)

    def cells_asked() -> int:
        asked.clear()
        assert mesh.discover(7, DiscoverRequest(QUESTIONS[0])).complete
        return sum(len(search.cells) for search in asked)

    monkeypatch.setattr(asking, "_asked", counted)
    once = cells_asked()
    monkeypatch.setattr(asking, "_too_few", lambda *of, again: too_few(*of, again=False))
    assert once < cells_asked()


def test_cut_off_from_most_a_node_waits_once_for_each_holder_and_says_what_is_missing() -> None:
    mesh = in_cells(12)
    layout = mesh.parts[mesh.ids[0]].layout
    near = frozenset(mesh.ids[:2])
    mesh.world.network.faults.partition([mesh.ids[:2], mesh.ids[2:]])
    flow, begun = mesh.start(0, "discover", DiscoverRequest(QUESTIONS[0])), mesh.world.now
    while flow not in mesh.ended:
        mesh.run(0.05)
    answer = mesh.outcome(flow)
    lost = {cell for cell in range(CODEBOOK.cells) if near.isdisjoint(layout.holders[cell])}
    assert 0 < answer.cells_missing <= len(lost) and mesh.world.now - begun < 2 * (limits.SEARCH_TIMEOUT_S + limits.HEDGE_S) + 0.3
