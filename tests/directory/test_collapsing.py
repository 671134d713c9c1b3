"""Near-equal agents of one organisation are shown as one: others keep their places, no agent comes twice, and none is hidden for good."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.bench import retrieval
from meshos.ids import AgentId
from meshos.protocols.directory import limits
from meshos.protocols.directory.collapsing import grouped
from meshos.protocols.directory.profile import Profile
from meshos.protocols.directory.record import AgentRecord, described
from meshos.protocols.directory.search import DiscoverAnswer, DiscoverRequest, Found
from tests.directory.test_asking import AGENTS, in_cells
from tests.directory.world import EMBEDDER, NOW_MS, Mesh, org, record, signed

FLOODED = "Reads chest X-rays of patients and writes a report about findings, signs of pneumonia and fractures of the ribs"
FLOOD = [Profile(f"radiologist {number}", f"{FLOODED}.") for number in range(500)]
QUESTION = "read a chest x-ray"


def recorded(texts: Sequence[tuple[int, str]]) -> list[AgentRecord]:
    return [record(f"agent {at}", by=owner, text=text) for at, (owner, text) in enumerate(texts)]


def test_the_other_way_round_is_not_alike_however_near_the_vectors_are() -> None:
    one, back = recorded([(0, "Converts RGB to HEX colours."), (0, "Converts HEX to RGB colours.")])
    back = dataclasses.replace(back, dense=one.dense)
    assert grouped([one, back]) == [[0], [1]]
    assert grouped([one, dataclasses.replace(one, profile=Profile("agent 7", one.profile.description))]) == [[0, 1]]


def test_the_same_text_of_several_organisations_stays_apart() -> None:
    assert grouped(recorded([(owner, f"{FLOODED}.") for owner in (0, 1, 0, 2)])) == [[0, 2], [1], [3]]


TEXTS = (FLOODED, f"{FLOODED} today", "Plays chess.", "Tells the time.")
texts = st.lists(st.tuples(st.integers(0, 1), st.sampled_from(TEXTS)), max_size=12)


@given(texts, st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_each_is_in_one_group_and_what_comes_later_changes_no_first(given_texts: list[tuple[int, str]], cut: int) -> None:
    records = recorded(given_texts)
    groups = grouped(records)
    assert sorted(place for group in groups for place in group) == list(range(len(records)))
    assert groups == sorted(groups) and all(group == sorted(group) for group in groups)
    before = grouped(records[:cut])
    assert [[place for place in group if place < cut] for group in groups if group[0] < cut] == before


# -- in a directory that is whole ------------------------------------------------------------------------------------


def real_cards(count: int) -> list[Profile]:
    folder = retrieval.data_folder()
    if folder is None:
        pytest.skip("the real cards are not here: set MESHOS_DATA to the folder that holds agents/")
    cards = retrieval.read_cards(folder)
    return [Profile(name, text) for name, text in list(cards.items())[:: len(cards) // count]]


@pytest.fixture(scope="module")
def flooded() -> Mesh:
    """A node that holds real cards of one organisation, and a flood of another's."""
    mesh = Mesh(41, nodes=1)
    mesh.publish(0, *real_cards(300), seconds=20)
    for profile in FLOOD:
        (read,) = EMBEDDER.read([profile.text()])
        mesh.slip_in(0, signed(described(org(1), profile, 1, NOW_MS, EMBEDDER.name, read), "n1-a"))
    mesh.run(10)
    return mesh


def owners(answer: DiscoverAnswer) -> list[str]:
    return [found.record.mesh_id for found in answer.agents]


def test_a_flood_of_copies_of_a_card_does_not_fill_an_answer(flooded: Mesh) -> None:
    each = flooded.discover(0, DiscoverRequest(QUESTION, 10, collapse=False))
    assert owners(each) == [org(1)] * 10, "it would"
    answer = flooded.discover(0, DiscoverRequest(QUESTION, 10))
    assert owners(answer).count(org(0)) >= 8 and answer.agents[0].score > each.agents[0].score - 0.01
    counted = sum(found.alike_count + 1 for found in answer.agents if found.record.mesh_id == org(1))
    assert counted == 500 and all(len(found.alike) <= limits.ALIKE_SHOWN for found in answer.agents)
    assert not any(found.alike_count or found.alike for found in each.agents)


@pytest.mark.parametrize("limit", [1, 7, 40])
def test_pages_show_no_agent_twice_and_lose_none(flooded: Mesh, limit: int) -> None:
    whole = flooded.discover(0, DiscoverRequest(QUESTION, limits.FOUND))
    shown = paged(flooded, limit)
    assert [found.record.agent_id for found in shown] == [found.record.agent_id for found in whole.agents]
    stood_for = [agent for found in shown for agent in found.alike]
    assert len({*ids(shown), *stood_for}) == len(shown) + len(stood_for)


def paged(mesh: Mesh, limit: int, query: str = QUESTION, asker: int = 0) -> list[Found]:
    pages = [mesh.discover(asker, DiscoverRequest(query, limit))]
    while pages[-1].cursor is not None:
        assert len(pages) <= limits.FOUND, "the pages do not end"
        pages.append(mesh.discover(asker, DiscoverRequest(query, limit, cursor=pages[-1].cursor)))
    return [found for page in pages for found in page.agents]


def ids(found: Sequence[Found]) -> list[AgentId]:
    return [one.record.agent_id for one in found]


def test_what_is_like_an_agent_is_collapsed_too(flooded: Mesh) -> None:
    answer = flooded.discover(0, DiscoverRequest(related=record("radiologist 3", by=1).agent_id))
    assert owners(answer).count(org(0)) >= 8
    assert owners(flooded.discover(0, DiscoverRequest(related=record("radiologist 3", by=1).agent_id, collapse=False))) == [org(1)] * 10


# -- in cells --------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def every_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """All cells are asked: what routes leave out is another matter."""
    monkeypatch.setattr("meshos.protocols.directory.cells.limits.SCANNED", 1.0)


@pytest.fixture(scope="module")
def cut() -> Mesh:
    """Eighty agents of three organisations in cells, and a fourth that has 200 of a kind that fit as well as the best."""
    mesh = in_cells(44)
    text = " ".join(f"chess{number}" for number in (3, 4, 5, 6, 7, 8, 9, 10) * 3)
    mesh.publish(3, *(Profile(f"flood {number}", text, ("chess", "level0")) for number in range(200)), seconds=8)
    mesh.run(60)
    return mesh


def test_a_flood_in_a_cell_pushes_nothing_out_of_its_holders_answers(cut: Mesh) -> None:
    honest = [one.record.name for one in in_cells(44).discover(0, DiscoverRequest("chess3 chess4", 9)).agents]
    each = cut.discover(0, DiscoverRequest("chess3 chess4", 10, collapse=False))
    assert owners(each) == [org(3)] * 10
    for asker in range(8):
        answer = cut.discover(asker, DiscoverRequest("chess3 chess4", 10))
        own = [found for found in answer.agents if found.record.mesh_id == org(3)]
        assert len(answer.agents) == 10 and answer.complete
        names = [found.record.name for found in answer.agents if found.record.mesh_id != org(3)]
        assert len(set(names) & set(honest)) >= len(names) - 1 and 0 < len(own) <= 3
        assert sum(found.alike_count + 1 for found in own) == 200


@pytest.mark.parametrize("limit", [1, 25])
def test_pages_in_cells_show_no_agent_twice_and_lose_none(cut: Mesh, limit: int) -> None:
    whole = cut.discover(5, DiscoverRequest("chess3 chess4", limits.FOUND))
    assert ids(paged(cut, limit, "chess3 chess4", 5)) == ids(whole.agents) and len(whole.agents) >= 40
    assert {found.record.name for found in whole.agents if found.record.mesh_id != org(3)} <= {one.name for one in AGENTS}
    assert np.all(np.diff([found.score for found in whole.agents]) <= 0)
