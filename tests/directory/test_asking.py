"""Questions to a directory in cells: what the whole would answer is found; holders that lie or are gone are seen through."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from meshos.errors import Refused
from meshos.flow_machine import Flows
from meshos.ids import AgentId, NodeId, agent_id
from meshos.protocols.directory import asking, limits
from meshos.protocols.directory.asking import Answers
from meshos.protocols.directory.cells.query import Brief, CellAnswer, CellSearch
from meshos.protocols.directory.filters import Exclude, Filters
from meshos.protocols.directory.parts import Parts
from meshos.protocols.directory.profile import Profile
from meshos.protocols.directory.record import Sealed, described
from meshos.protocols.directory.search import DiscoverAnswer, DiscoverRequest
from meshos.protocols.directory.weighing import Weigh
from meshos.protocols.directory.wire import HINT
from tests.directory.test_layout import CODEBOOK, TOPICS
from tests.directory.world import EMBEDDER, NOW_MS, Mesh, org, sealed_record, signed


def agents(count: int, seed: int = 1) -> list[Profile]:
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        topic = TOPICS[random.integers(len(TOPICS))]
        text = " ".join(f"{topic}{random.integers(12)}" for _ in range(8))
        words = (topic, f"level{number % 3}")
        found.append(Profile(f"agent {number}", text, words, certifications=("ISO",) * (number % 5 == 0), per_query=number))
    return found


AGENTS = agents(80)
QUESTIONS = ["chess3 chess4", "weather1 invoice2", "music7 genome1 genome2", "travel5"]
FILTERS = [
    Filters(),
    Filters(capabilities=("chess",)),
    Filters(certifications=("iso",), max_price_micro=40),
    Filters(exclude=Exclude(capabilities=("level1",), organisations=(org(2),))),
]


def in_cells(seed: int = 1, nodes: int = 8) -> Mesh:
    mesh = Mesh(seed, nodes=nodes)
    mesh.codebook = CODEBOOK
    mesh.run(5)
    for number in range(3):
        mesh.publish(number, *AGENTS[number::3], seconds=2)
    mesh.run(60)
    return mesh


def names(answer: DiscoverAnswer) -> list[str]:
    return [found.record.name for found in answer.agents]


def test_in_cells_the_same_is_found_as_by_one_that_holds_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshos.protocols.directory.cells.limits.SCANNED", 1.0)
    mesh = in_cells()
    whole = Mesh(3, nodes=2)  # its words are weighed by what it holds: scores differ a little
    for number in range(3):
        for profile in AGENTS[number::3]:
            whole.slip_in(0, sealed_record_of(profile, number))
    whole.run(3)
    for query in QUESTIONS:
        for filters in FILTERS:
            request = DiscoverRequest(query, limit=10, filters=filters)
            found, expected = mesh.discover(5, request), whole.discover(0, request)
            assert found.complete and found.cells_missing == 0 < found.cells_asked
            assert len(set(names(found)) & set(names(expected))) >= len(expected.agents) - 1, (query, filters)
            for asker in (0, 7):
                again = mesh.discover(asker, request)
                assert [(one.record.name, one.score) for one in again.agents] == [(one.record.name, one.score) for one in found.agents]


def sealed_record_of(profile: Profile, by: int) -> Sealed:
    return signed(described(org(by), profile, 1, NOW_MS, EMBEDDER.name, EMBEDDER.read([profile.text()])[0]), f"n{by}-a")


def test_pages_weights_and_related_agents_work_over_cells() -> None:
    mesh = in_cells(2)
    request = DiscoverRequest("chess1 chess2", limit=4, weigh=Weigh(price=1.0))
    pages, cursor = [], None
    for _ in range(3):
        answer = mesh.discover(6, dataclasses.replace(request, cursor=cursor))
        pages += answer.agents
        cursor = answer.cursor
    assert len({found.record.agent_id for found in pages}) == 12
    ranks = [(-found.score, found.record.agent_id) for found in pages]
    assert ranks == sorted(ranks)
    one = mesh.discover(6, DiscoverRequest("chess1 chess2")).agents[0].record
    like = mesh.discover(7, DiscoverRequest(related=one.agent_id, limit=5))
    assert len(like.agents) == 5 and one.agent_id not in {found.record.agent_id for found in like.agents}


def test_facets_are_counted_over_all_cells_whoever_holds_them() -> None:
    mesh = in_cells(7)
    for filters in FILTERS:
        fitting = [one for at, one in enumerate(AGENTS) if fulfils(one, org(at % 3), filters)]
        for asker in (0, 6):
            counted = mesh.discover(asker, DiscoverRequest("chess1", filters=filters, facets=True)).facets
            assert counted is not None and counted.records == len(fitting)
            expected = Counter(entry for one in fitting for entry in one.capabilities)
            assert dict(counted.capabilities) == expected
            assert dict(counted.certifications) == ({"iso": n} if (n := sum(bool(one.certifications) for one in fitting)) else {})


def fulfils(profile: Profile, owner: str, filters: Filters) -> bool:
    excluded = filters.exclude
    return (
        set(filters.capabilities) <= set(profile.capabilities)
        and (not filters.certifications or bool(profile.certifications))
        and (filters.max_price_micro is None or profile.per_query <= filters.max_price_micro)
        and not set(excluded.capabilities) & set(profile.capabilities)
        and owner not in excluded.organisations
    )


def test_what_is_published_is_found_from_everywhere_within_two_seconds_and_gone_as_soon() -> None:
    mesh = in_cells(3)
    mesh.publish(1, Profile("zwieback", "Bakes zwieback7 slowly."), seconds=1.0)
    for asker in range(8):
        assert names(mesh.discover(asker, DiscoverRequest("zwieback7")))[0] == "zwieback"  # each question takes its second
    mesh.withdraw(1, "zwieback")
    for asker in range(8):
        assert "zwieback" not in names(mesh.discover(asker, DiscoverRequest("zwieback7")))


def test_hundreds_that_are_withdrawn_at_once_are_gone_as_soon() -> None:
    mesh = in_cells(14)
    many = [Profile(f"baker {number}", f"Bakes zwieback7 in town{number}.") for number in range(3 * limits.HINT_ITEMS)]
    mesh.publish(1, *many, seconds=5)
    assert len(names(mesh.discover(6, DiscoverRequest("zwieback7", limit=50, collapse=False)))) == 50
    mesh.withdraw(1, *(one.name for one in many))
    for asker in range(8):
        assert not [name for name in names(mesh.discover(asker, DiscoverRequest("zwieback7", limit=50))) if name.startswith("baker")]


def test_one_that_refuses_announcements_keeps_them_from_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = in_cells(15)
    many = [Profile(f"baker {number}", f"Bakes zwieback7 in town{number}.") for number in range(3 * limits.HINT_ITEMS)]
    mesh.publish(1, *many, seconds=5)
    flows = mesh.world.nodes[mesh.ids[7]].core.machine("flows")
    assert isinstance(flows, Flows)

    async def refuse(_: object) -> bytes:
        raise Refused("bad-message", "not today")

    monkeypatch.setitem(flows._services, HINT, refuse)
    mesh.withdraw(1, *(one.name for one in many))
    for number in range(7):
        held = [one.name for one in many if mesh.machine(number).record(agent_id(org(1), one.name)) is not None]
        assert not held, number


def test_with_two_of_eight_nodes_gone_everything_is_found_at_once_and_with_all_holders_gone_it_is_said() -> None:
    mesh = in_cells(4)
    before = [names(mesh.discover(0, DiscoverRequest(query))) for query in QUESTIONS]
    layout = mesh.parts[mesh.ids[0]].layout
    for number in (6, 7):
        mesh.world.nodes[mesh.ids[number]].crash()
    mesh.layouts.clear()
    mesh.seen = lambda me: mesh.parts[me].layout  # type: ignore[method-assign]  # nobody has noticed yet
    for query, expected in zip(QUESTIONS, before, strict=True):
        answer = mesh.discover(0, DiscoverRequest(query))
        assert answer.complete and names(answer) == expected
    for number in range(1, 6):
        mesh.world.nodes[mesh.ids[number]].crash()
    flow = mesh.start(0, "discover", DiscoverRequest("chess3 chess4"))
    mesh.run(20)
    answer = mesh.outcome(flow)
    lost = {cell for cell in range(CODEBOOK.cells) if mesh.ids[0] not in layout.holders[cell]}
    assert not answer.complete and 0 < answer.cells_missing <= len(lost)


def test_nothing_is_lost_to_questions_while_the_directory_is_laid_anew_by_one_node_after_the_other() -> None:
    mesh = Mesh(8, nodes=5)
    for number in range(3):
        mesh.publish(number, *AGENTS[number::3], seconds=2)
    mesh.run(5)
    assert mesh.alike()
    switched: set[NodeId] = set()
    seen = mesh.seen
    mesh.seen = lambda me: seen(me) if me in switched else mesh.parts[me].layout  # type: ignore[method-assign]
    mesh.codebook = CODEBOOK
    before = [names(mesh.discover(0, DiscoverRequest(query)))[0] for query in QUESTIONS]
    for node in mesh.ids:
        switched.add(node)
        for asker, (query, best) in enumerate(zip(QUESTIONS, before, strict=True)):
            assert best in names(mesh.discover(asker, DiscoverRequest(query)))
    mesh.run(30)
    assert all(mesh.parts[node].layout.codebook is CODEBOOK for node in mesh.ids)
    assert all(mesh.discover(asker, DiscoverRequest(QUESTIONS[0])).complete for asker in range(5))


Lie = Callable[[NodeId, CellSearch, Answers], Answers]


def _inflated(node: NodeId, search: CellSearch, said: Answers) -> Answers:
    return [
        (holder, CellAnswer(answer.cells, tuple(brief._replace(score=1.0) for brief in answer.found), answer.sealed))
        for holder, answer in said
    ]


def _made_up(node: NodeId, search: CellSearch, said: Answers) -> Answers:
    forged = sealed_record("mine", by=5, text="chess3 chess4 chess3 chess4")
    bad = dataclasses.replace(forged, signature=b"x" * 64)
    return [
        (
            holder,
            CellAnswer(
                answer.cells,
                (answer.found[0]._replace(id=bad.entry.agent_id, digest=bad.digest, score=0.99), *answer.found[1:]),
                (bad.to_bytes(), *answer.sealed[1:]),
            ),
        )
        if answer.found
        else (holder, answer)
        for holder, answer in said
    ]


@pytest.mark.parametrize("lie", [_inflated, _made_up])
def test_what_a_holder_makes_up_is_not_shown(monkeypatch: pytest.MonkeyPatch, lie: Lie) -> None:
    mesh = in_cells(5)
    honest = mesh.discover(0, DiscoverRequest("chess3 chess4"))
    ask, lies = asking._asked, 0

    async def asked(node: NodeId, search: CellSearch) -> Answers:
        nonlocal lies
        lies += 1
        return lie(node, search, await ask(node, search))

    monkeypatch.setattr(asking, "_asked", asked)
    answer = mesh.discover(0, DiscoverRequest("chess3 chess4"))
    genuine = {agent_id(org(at % 3), one.name) for at, one in enumerate(AGENTS)}
    assert lies and {found.record.agent_id for found in answer.agents} <= genuine
    scores = {found.record.agent_id: found.score for found in honest.agents}
    assert all(
        abs(scores[found.record.agent_id] - found.score) < limits.SCORES_ALIKE for found in answer.agents if found.record.agent_id in scores
    )


def test_where_the_first_of_a_crowd_turns_out_to_be_forged_another_stands_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SAMPLED", 0)
    monkeypatch.setattr(limits, "IDLE_CHECKS", 0)
    mesh = in_cells(8)
    crowd = [Profile(f"copy {number}", "zwieback pretzel focaccia ciabatta") for number in range(8)]
    (read,) = EMBEDDER.read([crowd[0].text()])
    bait = Profile("bait", "zwieback pretzel focaccia ciabatta zwieback pretzel brioche baguette muffin")
    mesh.slip_in(1, signed(described(org(1), bait, 1, NOW_MS, EMBEDDER.name, read), "n1-a"))
    mesh.publish(1, *crowd, seconds=3)
    copies, ask, told = {agent_id(org(1), one.name) for one in crowd}, asking._asked, list[tuple[int, int]]()

    async def asked(node: NodeId, search: CellSearch) -> Answers:
        answers = await ask(node, search)
        for _, answer in answers:
            assert agent_id(org(1), "bait") not in {brief.id for brief in answer.found}
            some = [brief for brief in answer.found if brief.id in copies]
            told.append((len(some), sum(brief.behind for brief in some)))
        return answers

    monkeypatch.setattr(asking, "_asked", asked)
    mesh.discover(5, DiscoverRequest("zwieback pretzel brioche"))
    assert {(shown, shown + behind) for shown, behind in told if shown} == {(4, 8)}


Answering = Callable[[CellAnswer], CellAnswer]


def with_each_lying(mesh: Mesh, monkeypatch: pytest.MonkeyPatch, lie: Answering, query: str) -> list[DiscoverAnswer]:
    """What node 0 shows where one of the others lies, for each of them."""
    ask, answers = asking._asked, []
    for liar in mesh.ids[1:]:

        async def asked(node: NodeId, search: CellSearch, liar: NodeId = liar) -> Answers:
            return [(holder, lie(answer) if holder == liar else answer) for holder, answer in await ask(node, search)]

        monkeypatch.setattr(asking, "_asked", asked)
        flow = mesh.start(0, "discover", DiscoverRequest(query))
        mesh.run(10)
        answers.append(mesh.outcome(flow))
    return answers


def _nowhere(answer: CellAnswer) -> CellAnswer:
    """Versions that do not exist, of agents that others hold."""
    everything = [agent_id(org(at % 3), one.name) for at, one in enumerate(AGENTS)]
    return CellAnswer(answer.cells, tuple(Brief(agent, 99, b"x" * 16, 0.99, 0) for agent in everything), ())


def _swapped(answer: CellAnswer) -> CellAnswer:
    """Another record under each digest."""
    return dataclasses.replace(answer, sealed=(sealed_record("mine").to_bytes(),) * len(answer.sealed))


def _renamed(answer: CellAnswer) -> CellAnswer:
    """Each record under another agent's id, in a version that would count."""
    ids = [brief.id for brief in answer.found]
    renamed = [brief._replace(id=other, version=99) for brief, other in zip(answer.found, ids[1:] + ids[:1], strict=True)]
    return dataclasses.replace(answer, found=tuple(renamed))


def _empty(answer: CellAnswer) -> CellAnswer:
    return CellAnswer(answer.cells, (), ())


@pytest.mark.parametrize("lie", [_nowhere, _swapped, _renamed, _empty])
def test_one_holder_that_lies_hides_nothing(monkeypatch: pytest.MonkeyPatch, lie: Answering) -> None:
    mesh = in_cells(7)
    for query in QUESTIONS[:2]:
        honest = mesh.discover(0, DiscoverRequest(query))
        for answer in with_each_lying(mesh, monkeypatch, lie, query):
            assert names(answer) == names(honest) and answer.complete
        monkeypatch.undo()


def test_a_holder_that_leaves_everything_out_is_found_out_by_the_summaries(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = in_cells(8)
    honest = mesh.discover(0, DiscoverRequest(QUESTIONS[0]))
    monkeypatch.setattr(limits, "SECONDED", 0)
    for answer in with_each_lying(mesh, monkeypatch, _empty, QUESTIONS[0]):
        assert names(answer) == names(honest) and answer.complete


def test_of_two_versions_of_a_record_the_newer_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = in_cells(9)
    before = {found.record.agent_id: found.sealed for found in mesh.discover(0, DiscoverRequest("travel5")).agents}
    for number in range(3):
        mesh.publish(number, *(dataclasses.replace(one, per_query=one.per_query + 7) for one in AGENTS[number::3]), seconds=3)
    mesh.run(30)

    def older(answer: CellAnswer) -> CellAnswer:
        kept = [brief for brief in answer.found if brief.id in before]
        found = tuple(brief._replace(version=1, digest=before[brief.id].digest) for brief in kept)
        return CellAnswer(answer.cells, found, tuple(before[brief.id].to_bytes() for brief in kept))

    for answer in with_each_lying(mesh, monkeypatch, older, "travel5"):
        assert len(answer.agents) == 10 and {found.record.version for found in answer.agents} == {2}


def test_who_does_not_hand_over_what_it_names_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = in_cells(10)
    fetch, waited = asking._fetched, dict[NodeId, int]()

    async def fetched(parts: Parts, node: NodeId, ids: Sequence[AgentId]) -> dict[bytes, bytes]:
        found = await fetch(parts, node, ids)
        waited[node] = waited.get(node, 0) + (not found)
        return found

    monkeypatch.setattr(asking, "_fetched", fetched)
    with_each_lying(mesh, monkeypatch, lambda answer: CellAnswer(answer.cells, _made(60), ()), QUESTIONS[0])
    assert waited and max(waited.values()) == 1


def _made(count: int) -> tuple[Brief, ...]:
    return tuple(Brief(agent_id(org(7), f"made up {number}"), 1, b"x" * 16, 0.99, 0) for number in range(count))
