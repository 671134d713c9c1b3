"""What several holders tell of a cell: one that lies hides nothing and draws nothing to itself; each is heard in its turn."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence, Set

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.flow import Ask, Gather, Sleep
from meshos.ids import NodeId
from meshos.protocols.directory import charting, sync
from meshos.protocols.directory import limits as directory_limits
from meshos.protocols.directory.cells import limits
from meshos.protocols.directory.cells import summary as summaries
from meshos.protocols.directory.cells.codebook import Codebook
from meshos.protocols.directory.cells.layout import Layout
from meshos.protocols.directory.cells.limits import COPIES
from meshos.protocols.directory.cells.routing import chart
from meshos.protocols.directory.cells.summary import Summary, name_of
from meshos.protocols.directory.commands import Places
from meshos.protocols.directory.parts import Charted, Parts
from meshos.protocols.directory.profile import Profile
from meshos.protocols.directory.search import DiscoverRequest
from meshos.protocols.directory.services import DISCOVER
from meshos.protocols.directory.shelf import Shelf
from meshos.protocols.directory.wire import HINT, AskSummaries, News, encode_news, encode_summaries
from meshos.storage.index.facets import ANYTHING, Condition
from meshos.storage.index.words import stem
from tests.directory.test_asking import in_cells, names, sealed_record_of
from tests.directory.test_cells import CODEBOOK, HOMES, TEXTS, conditions, document, facets, question
from tests.directory.test_cells import summaries as summarised
from tests.directory.test_layout import TOPICS
from tests.directory.test_switching import staggered
from tests.directory.world import Mesh

NOBODY = np.zeros(0, np.uint32)
DOCUMENTS = [
    document(number, text, ("rare",) if number == 7 else ("common",), 5, int(home))
    for number, (text, home) in enumerate(zip(TEXTS, HOMES, strict=True))
]
HONEST = summarised(DOCUMENTS)
WORDS = sorted({name_of(stem(f"{topic}{number}")) for topic in ("chess", "music", "genome", "travel", "ledger") for number in range(12)})


def empty(honest: Summary) -> Summary:
    """Nothing is here."""
    return Summary(honest.cell, 0, NOBODY, NOBODY, NOBODY, 0, (0,) * limits.COSTS)


def bare(honest: Summary) -> Summary:
    """Records, but no word, facet or price that anybody asks for."""
    return Summary(honest.cell, honest.records, NOBODY, NOBODY, NOBODY, 0, (*[0] * (limits.COSTS - 1), honest.records))


def shut(honest: Summary) -> Summary:
    """Fewer records, all of which have what questions exclude."""
    named = np.array(sorted([name_of("common"), name_of("rare")]), np.uint32)
    return dataclasses.replace(honest, records=1, facets=named, counts=np.array([1, 1], np.uint32), costs=(1,) * limits.COSTS)


def everything(honest: Summary) -> Summary:
    """All words and facets, in as many records as can be claimed."""
    named, most = np.array(sorted([name_of("common"), name_of("rare")]), np.uint32), limits.CELL_RECORDS
    return Summary(honest.cell, most, np.array(WORDS, np.uint32), named, np.array([most, most], np.uint32), 0, (most,) * limits.COSTS)


Lie = Callable[[Summary], Summary]


@pytest.mark.parametrize("voices", [2, 3])
@pytest.mark.parametrize("lie", [empty, bare, shut])
def test_a_liar_hides_no_cell(lie: Lie, voices: int) -> None:
    home = int(HOMES[7])
    asked = question(TEXTS[7])
    for speaks in range(voices):
        told = [{**HONEST, home: lie(HONEST[home])} if at == speaks else HONEST for at in range(voices)]
        drawn = chart(CODEBOOK, *told, sure=())
        for condition in (ANYTHING, Condition(every=(("rare",),)), Condition(none=("common",)), Condition(none=("rare",), cost=9)):
            assert home in drawn.route(asked, condition).cells and home in drawn.possible(condition)
        assert drawn.route(asked).cells[0] == home or lie is not shut
        assert HONEST[home].records // 2 <= drawn.promised([home]) <= HONEST[home].records or (lie is shut and voices == 2)


def test_as_a_lone_voice_it_would() -> None:
    home = int(HOMES[7])
    for lie in (empty, bare):
        alone = chart(CODEBOOK, {**HONEST, home: lie(HONEST[home])})
        assert home not in alone.route(question(TEXTS[7]), Condition(every=(("rare",),))).cells
        assert home in chart(CODEBOOK, {**HONEST, home: lie(HONEST[home])}, sure=()).possible(Condition(every=(("rare",),)))


def test_what_all_voices_rule_out_is_passed_over_and_of_some_cells_one_is_enough() -> None:
    assert chart(CODEBOOK, HONEST, HONEST, sure=()).possible(Condition(every=(("rare",),))) == (int(HOMES[7]),)
    assert chart(CODEBOOK, HONEST, sure=()).possible(Condition(every=(("rare",),))) == tuple(range(CODEBOOK.cells))
    but_two = set(range(CODEBOOK.cells)) - {3, 9}
    assert set(chart(CODEBOOK, HONEST, sure=but_two).possible(Condition(every=(("rare",),)))) == {3, 9, int(HOMES[7])}


def test_liars_that_claim_everything_draw_no_question_to_themselves() -> None:
    liars = range(0, CODEBOOK.cells, 4)
    lying = {**HONEST, **{cell: everything(HONEST[cell]) for cell in liars}}
    found = {}
    for told in ([HONEST], [HONEST, HONEST], [lying], [HONEST, lying], [HONEST, lying, HONEST]):
        drawn = chart(CODEBOOK, *told)
        routes = [drawn.route(question(f"music{number} genome{number} ledger3")).cells for number in range(12)]
        found[len(told), told[-1] is lying or lying in told[1:]] = routes
    taken = {key: np.mean([len(set(cells) & set(liars)) / len(cells) for cells in routes]) for key, routes in found.items()}
    assert taken[1, True] > 0.9, "alone they would have nearly every place of every route"
    assert found[3, True] == found[2, False] == found[1, False], "with two that are honest they have those that are theirs"
    assert taken[2, True] < taken[1, True] and all(len(cells) > 5 for cells in found[2, True])


def test_what_only_one_claims_uses_up_no_share_of_a_route() -> None:
    lying = {cell: everything(one) for cell, one in HONEST.items()}
    rare, honest = Condition(every=(("rare",),)), int(HOMES[7])
    for told in ([HONEST, lying], [lying, HONEST, HONEST]):
        assert honest in chart(CODEBOOK, *told, sure=()).route(question("travel1 ledger2"), rare).cells


holdings = st.lists(st.tuples(facets, st.integers(0, 1 << 20), st.integers(0, 63)), min_size=1, max_size=30)
lies = st.lists(st.tuples(facets, st.integers(0, 1 << 20)), max_size=9)


@given(holdings, conditions, lies, st.integers(0, 63), st.booleans())
@settings(max_examples=100, deadline=None)
def test_whatever_one_voice_says_no_cell_that_holds_what_is_asked_for_is_passed_over(
    held: list[tuple[tuple[str, ...], int, int]], condition: Condition, lie: list[tuple[tuple[str, ...], int]], cell: int, two: bool
) -> None:
    honest = summarised([document(number, "chess1", some, cost, at) for number, (some, cost, at) in enumerate(held)])
    false = summarised([document(number, "music1", some, cost, cell) for number, (some, cost) in enumerate(lie)])[cell]
    told = [{**honest, cell: false}, honest] if two else [honest, {**honest, cell: false}, honest]
    alone, among = chart(CODEBOOK, honest), chart(CODEBOOK, *told, sure=())
    assert set(alone.possible(condition)) <= set(among.possible(condition))
    if condition != ANYTHING:
        assert set(alone.route(question("chess1"), condition).cells) <= set(among.route(question("chess1"), condition).cells)


# -- told by nodes ---------------------------------------------------------------------------------------------------


def poison(mesh: Mesh, liar: int, lie: Lie) -> None:
    """From now on a node tells that of all its cells."""
    own = mesh.parts[mesh.ids[liar]].charted.own
    assert own
    for cell, (digest, data) in own.items():
        own[cell] = digest, summaries.encode(lie(summaries.decode(data)))


@pytest.mark.parametrize("lie", [empty, bare])
def test_a_node_that_tells_of_nothing_hides_nothing_from_others(lie: Lie) -> None:
    mesh = in_cells(61)
    request = DiscoverRequest("", 100, collapse=False)
    asked = [dataclasses.replace(request, query=text) for text in ("chess3 chess4", "music7")]
    narrow = dataclasses.replace(asked[0], filters=dataclasses.replace(request.filters, certifications=("iso",)))
    before = [names(mesh.discover(2, one)) for one in (*asked, narrow)]
    for liar in (0, 4, 7):
        poison(mesh, liar, lie)
        mesh.run(30)
        assert mesh.parts[mesh.ids[2]].charted.told
        again = [names(mesh.discover(2, one)) for one in (*asked, narrow)]
        assert set(again[2]) == set(before[2])
        for found, expected in zip(again[:2], before, strict=False):  # a route may end a cell sooner or later
            assert len(set(found[:10]) & set(expected[:10])) >= 9
        mesh.parts[mesh.ids[liar]].charted.own.clear()
        mesh.run(30)


def test_of_each_cell_what_its_holders_told_is_kept_and_nothing_else() -> None:
    mesh = in_cells(62)
    for node in mesh.ids:
        parts = mesh.parts[node]
        for cell, told in parts.charted.told.items():
            holders = parts.layout.holders[cell]
            assert set(told) == ({node} if cell in parts.layout.mine else set(holders)) and len(told) <= COPIES
        drawn = parts.charted.chart
        assert drawn is not None and len(drawn.voices) == COPIES, "and all of it is heard"
    gone = mesh.ids[3]
    mesh.world.nodes[gone].crash()
    mesh.run(60)
    for node in mesh.ids[:3]:
        parts = mesh.parts[node]
        assert parts.charted.told and not any(gone in told for told in parts.charted.told.values())


def test_what_former_holders_told_counts_until_enough_of_the_present_ones_have_told() -> None:
    mesh = Mesh(65, nodes=6)
    mesh.codebook = CODEBOOK
    layout = mesh.seen(mesh.ids[0])
    cell = next(cell for cell in range(CODEBOOK.cells) if cell not in layout.mine)
    former, present = [NodeId("f1"), NodeId("f2"), NodeId("f3")], layout.holders[cell]
    for some, kept in (
        (former, former[1:]),
        ((*former, present[0]), [former[2], present[0]]),
        ((*former, *present[:2]), [*present[:2]]),
        ((former[0], *present), [*present]),
    ):
        charted = Charted(layout.name, {cell: dict.fromkeys(some, (b"", HONEST[cell]))})
        assert charting._forget(charted, layout.me, layout, {}) == len(some) - len(kept)
        assert list(charted.told[cell]) == kept and len(kept) <= COPIES
    charted = Charted(layout.name, {cell: dict.fromkeys((layout.me, *present[:2]), (b"", HONEST[cell]))})
    assert charting._forget(charted, layout.me, layout, {cell: b""}) == 2 and list(charted.told[cell]) == [layout.me]


def test_every_holder_of_every_cell_is_asked_within_one_round_of_all() -> None:
    mesh = in_cells(63)
    parts = mesh.parts[mesh.ids[0]]
    for asked_at_once in (1, 2, 3, 5, 8):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(directory_limits, "SUMMARIES_FROM", asked_at_once)
            others = sorted(set().union(*parts.layout.holders[: CODEBOOK.cells]) - {parts.node})
            begin = 1_000_003  # turns begin anywhere
            turns = -(-len(others) // min(asked_at_once, len(others)))
            asked: set[tuple[NodeId, int]] = set()
            for turn in range(begin, begin + turns):
                found = charting._whom(parts, parts.layout, turn)
                assert len(found) <= asked_at_once
                asked |= {(node, cell) for node, cells in found.items() for cell in cells}
            mine = set(parts.layout.mine)
            assert asked == {(node, cell) for cell in range(CODEBOOK.cells) if cell not in mine for node in parts.layout.holders[cell]}


def test_what_is_published_is_in_the_chart_of_everybody_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = without_rounds(65, monkeypatch)
    mesh.publish(1, baked("zwieback"), seconds=1)
    assert all(finding(mesh, "zwieback"))
    mesh.withdraw(1, "zwieback")
    assert not any(finding(mesh, "zwieback"))


def test_a_word_that_only_a_new_record_has_is_not_taken_for_a_misspelt_one() -> None:
    mesh = in_cells(67)
    assert CODEBOOK.vocabulary.spelt("weather1") and not CODEBOOK.vocabulary.spelt("weathes1")
    assert "zwieback" not in names(mesh.discover(3, DiscoverRequest("weathes1")))
    mesh.publish(1, Profile("zwieback", "weathes1 tells what to wear."), seconds=2)
    for asker in range(8):
        assert names(mesh.discover(asker, DiscoverRequest("weathes1")))[0] == "zwieback"


@pytest.mark.parametrize("cut", [False, True])
def test_what_no_summary_was_heard_of_yet_is_found_or_missed_and_said_to_be(cut: bool) -> None:
    """A node that has just started knows no other's words; neither does one whose directory has just been cut."""
    mesh = in_cells(68 + cut)
    things = [Profile(f"zwieback{number}", f"zwieback{number} {topic}3") for number, topic in enumerate(TOPICS)]
    asking = [DiscoverRequest(thing.name) for thing in things]
    mesh.publish(1, *things, seconds=5)
    if cut:
        mesh.codebook = None
        mesh.run(200)
        heard = staggered(mesh)
        mesh.codebook = CODEBOOK
        heard.add(mesh.ids[6])
        mesh.run(2.5)
        heard.update(mesh.ids)
    else:
        mesh.world.nodes[mesh.ids[6]].crash()
        mesh.run(5)
        mesh.world.nodes[mesh.ids[6]].start()
    flows = []
    for number in range(120):
        flows.append(mesh.start(6, DISCOVER, asking[number % len(asking)]))
        mesh.run(0.1)
    mesh.run(5)
    answers = [(things[number % len(things)].name, mesh.outcome(flow)) for number, flow in enumerate(flows)]
    assert [thing for thing, answer in answers if answer.complete and names(answer)[:1] != [thing]] == []
    assert all(answer.complete for _, answer in answers[-20:])


def finding(mesh: Mesh, thing: str) -> list[bool]:
    """Which nodes find what alone has this capability, whatever is asked."""
    narrow = dataclasses.replace(DiscoverRequest("bread").filters, capabilities=(thing,))
    return [names(mesh.discover(asker, DiscoverRequest("bread", filters=narrow))) == [thing] for asker in range(8)]


def baked(thing: str) -> Profile:
    return Profile(thing, f"{thing} chess3 chess4", (thing,))


def without_rounds(seed: int, monkeypatch: pytest.MonkeyPatch) -> Mesh:
    mesh = in_cells(seed)
    monkeypatch.setattr("meshos.protocols.directory.keeping._STEPS", 10_000)
    mesh.run(5)
    return mesh


def test_news_of_more_cells_than_one_announcement_names_come_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_limits, "NEWS_CELLS", 1)
    mesh = without_rounds(69, monkeypatch)
    several = [Profile(thing, f"{thing} {topic}", (thing,)) for thing, topic in (("zwieback", "chess3"), ("pretzel", "music5"))]
    mesh.publish(1, *several, seconds=2)
    cells = {mesh.parts[mesh.ids[1]].layout.places_of([sealed_record_of(one, 1).entry])[0][0] for one in several}
    assert len(cells) == 2 and all(finding(mesh, "zwieback")) and all(finding(mesh, "pretzel"))


def test_a_mute_holder_keeps_nobody_from_hearing_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, ask, mute = without_rounds(66, monkeypatch), charting._asked, 0

    async def asked(layout: Layout, node: NodeId, cells: Places, charted: Charted, timeout_s: float) -> int:
        nonlocal mute
        if node == mesh.ids[5]:
            mute += 1
            await Sleep(timeout_s)
            return 0
        return await ask(layout, node, cells, charted, timeout_s)

    monkeypatch.setattr(charting, "_asked", asked)
    mesh.publish(1, baked("zwieback"), seconds=3)
    assert mute and all(finding(mesh, "zwieback"))


def test_who_floods_with_announcements_costs_what_bounds_say_and_hides_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, tell, asked, sent, seconds = without_rounds(67, monkeypatch), charting.tell_summaries, Counter[NodeId](), 0, 3.0
    told, until = sync._tell_all, mesh.world.now + 1 + seconds

    async def flood(parts: Parts, peers: Sequence[NodeId], places: Set[int]) -> None:
        nonlocal sent
        if parts.node != mesh.ids[7]:
            return await told(parts, peers, places)
        body = encode_news(News(parts.layout.name, tuple(range(CODEBOOK.cells))))
        while mesh.world.now < until:
            sent += len(peers)
            await Gather(*(Ask(peer, HINT, body, 0.05, retries=0) for peer in peers), each=True)

    async def counted(parts: Parts, request: AskSummaries) -> bytes:
        asked[parts.node] += 1
        return await tell(parts, request)

    monkeypatch.setattr(sync, "_tell_all", flood)
    monkeypatch.setattr(sync, "tell_summaries", counted)
    mesh.publish(7, baked("bait"), seconds=1.0)
    mesh.publish(1, baked("zwieback"), seconds=seconds)
    assert sent > 500
    turns = (1 + seconds) / directory_limits.NEWS_S
    assert sum(asked.values()) <= 8 * turns * directory_limits.SUMMARIES_FROM and all(finding(mesh, "zwieback"))


def test_an_answer_that_was_long_under_way_does_not_replace_what_came_meanwhile() -> None:
    mesh = in_cells(65)
    layout, node = mesh.parts[mesh.ids[0]].layout, mesh.ids[5]
    cell, few = next((cell, one) for cell, one in HONEST.items() if len(one.stems) > 2)
    older, newer = (summaries.encode(dataclasses.replace(few, stems=few.stems[:count])) for count in (1, 2))
    charted = Charted(layout.name)
    for before, counts in ((None, 1), (newer, 0)):
        asking = charting._asked(layout, node, (cell,), charted, 1.0)
        asked = asking.send(None)
        assert isinstance(asked, Ask) and asked.to == node
        if before is not None:
            charting._take(charted, node, cell, before)
        with pytest.raises(StopIteration) as ended:
            asking.send(encode_summaries([older]))
        assert ended.value.value == counts
    assert len(charted.told[cell][node][1].stems) == 2 and charted.changes == 2


def test_a_holder_that_is_slow_in_a_round_delays_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, ask, slow = in_cells(65), charting._asked, 0

    async def asked(layout: Layout, node: NodeId, cells: Places, charted: Charted, timeout_s: float) -> int:
        nonlocal slow
        if node == mesh.ids[5] and timeout_s == directory_limits.SYNC_TIMEOUT_S:
            slow += 1
            await Sleep(4.0)
            return 0
        return await ask(layout, node, cells, charted, timeout_s)

    monkeypatch.setattr(charting, "_asked", asked)
    mesh.run(9.3)
    mesh.publish(1, baked("zwieback"), seconds=1)
    for _ in range(8):
        assert all(finding(mesh, "zwieback"))
    assert slow


def test_a_summary_is_made_once_for_all_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, made, make = without_rounds(68, monkeypatch), list[tuple[int, int]](), charting._summarised

    def counted(shelf: Shelf, codebook: Codebook, cells: Places) -> list[bytes]:
        made.extend((id(shelf), cell) for cell in cells)
        return make(shelf, codebook, cells)

    monkeypatch.setattr(charting, "_summarised", counted)
    mesh.publish(1, baked("zwieback"), seconds=2)
    assert len(made) == len(set(made)) and len(made) >= 3


def test_whoever_is_left_over_is_asked_in_a_later_turn_and_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_limits, "SUMMARIES_FROM", 2)
    nodes = [frozenset(NodeId(f"n{(cell + at) % 7}-a") for at in range(3)) for cell in range(20)]
    news: dict[int, Set[NodeId]] = dict(enumerate(nodes))
    heard: set[tuple[int, NodeId]] = set()
    for _ in range(100):
        asked = charting._about(news)
        assert len(asked) <= 2 and all(list(cells) == sorted(set(cells)) for cells in asked.values())
        heard |= {(cell, node) for node, cells in asked.items() for cell in cells}
        news[0] = nodes[0]  # somebody says again and again that there is something new in this one
    assert heard >= {(cell, node) for cell, of in enumerate(nodes) for node in of if cell}


def test_a_profile_that_is_published_is_told_by_all_its_holders() -> None:
    mesh = in_cells(64)
    mesh.publish(1, Profile("zwieback", "zwieback chess3 chess4", ("baking",)), seconds=3)
    mesh.run(30)
    for asker in range(8):
        narrow = dataclasses.replace(DiscoverRequest("zwieback").filters, capabilities=("baking",))
        assert names(mesh.discover(asker, DiscoverRequest("bread", filters=narrow))) == ["zwieback"]
