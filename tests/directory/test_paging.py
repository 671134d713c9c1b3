"""Pages of an answer: nothing twice, nothing left out, in the order of ranks; and cursors that are none are refused."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos import cbor
from meshos.errors import BadInput, Refused
from meshos.ids import AgentId, agent_id
from meshos.protocols.directory import limits
from meshos.protocols.directory.filters import Exclude, Filters
from meshos.protocols.directory.paging import Page, cursor, name_of, page_of, rank
from meshos.protocols.directory.profile import Profile
from meshos.protocols.directory.search import DiscoverAnswer, DiscoverRequest
from meshos.protocols.directory.weighing import NOTHING, Weigh
from tests.directory.world import Mesh, org

NAME = name_of("chess", None, Filters(), NOTHING)
ID = AgentId("a-0123456789abcdef")
TEXTS = ("Plays chess.", "Plays chess against people.", "Tells the time in any city.", "Reads invoices, plays chess.")


def mesh_of(count: int, seed: int = 31) -> Mesh:
    """A node that holds so many agents, of which many are alike in every word, and so equal in score."""
    mesh = Mesh(seed, nodes=1)
    mesh.publish(0, *(Profile(f"agent {serial:03}", TEXTS[serial % len(TEXTS)]) for serial in range(count)), seconds=20)
    return mesh


def all_pages(mesh: Mesh, limit: int, **asked: object) -> list[DiscoverAnswer]:
    asked = {"collapse": False, **asked}
    pages = [mesh.discover(0, DiscoverRequest("chess with people", limit, **asked))]  # type: ignore[arg-type]
    while pages[-1].cursor is not None:
        assert len(pages) <= limits.FOUND, "the pages do not end"
        pages.append(mesh.discover(0, DiscoverRequest("chess with people", limit, cursor=pages[-1].cursor, **asked)))  # type: ignore[arg-type]
    return pages


def test_a_cursor_of_another_question_names_what_may_differ_in_the_api_and_on_the_command_line() -> None:
    with pytest.raises(BadInput) as refused:
        page_of(cursor(NAME, Page(rank(0.5, ID), 3)), b"another")
    assert refused.value.name == "bad-cursor" and "`collapse` (--all)" in refused.value.detail


@given(st.floats(0, 1).map(lambda score: round(score, 4)), st.integers(1, 99))
def test_a_cursor_means_what_it_was_made_of(score: float, shown: int) -> None:
    page = Page(rank(score, ID), shown)
    text = cursor(NAME, page)
    assert page_of(text, NAME) == page and len(text) <= limits.CURSOR_CHARS and text.replace("-", "").replace("_", "").isalnum()


def made_of(*value: object) -> str:
    return base64.urlsafe_b64encode(cbor.encode(list(value))).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "?",
        "AAAA",
        "ä" * 10,
        "A" * (limits.CURSOR_CHARS + 1),
        cursor(NAME, Page(rank(0.5, ID), 10))[:-4],
        cursor(NAME, Page(rank(0.5, ID), 10)) + "AAAA",
        cursor(NAME[::-1], Page(rank(0.5, ID), 10)),
        made_of(NAME, 5000, ID),
        made_of(NAME, -1, ID, 10),
        made_of(NAME, 10_001, ID, 10),
        made_of(NAME, True, ID, 10),
        made_of(NAME, 0.5, ID, 10),
        made_of(NAME, 5000, "a-1", 10),
        made_of(NAME, 5000, ID, 0),
        made_of(NAME, 5000, ID, 100),
        made_of(NAME, 5000, ID, 2**70),
        base64.urlsafe_b64encode(cbor.encode({"a": 1})).decode(),
    ],
)
def test_what_is_no_cursor_of_the_question_is_refused(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        page_of(text, NAME)
    assert caught.value.name == "bad-cursor"


@given(st.text(max_size=140))
@settings(max_examples=300)
def test_no_text_breaks_the_reading_of_cursors(text: str) -> None:
    with pytest.raises(BadInput, match="bad-cursor"):
        page_of(text, NAME)


def test_every_part_of_a_question_is_in_its_name() -> None:
    names = [
        NAME,
        name_of("Chess", None, Filters(), NOTHING),
        name_of("", ID, Filters(), NOTHING),
        name_of("chess", None, Filters(region="x"), NOTHING),
        name_of("chess", None, Filters(exclude=Exclude(regions=("x",))), NOTHING),
        name_of("chess", None, Filters(), Weigh(trust=0.5)),
        name_of("chess", None, Filters(), NOTHING, collapse=False),
    ]
    assert len(set(names)) == len(names) and name_of("chess", None, Filters(), Weigh()) == NAME


@pytest.mark.parametrize("limit", [1, 7, 25, 100])
def test_all_pages_together_are_the_whole_in_the_order_of_ranks(limit: int) -> None:
    mesh = mesh_of(60)
    pages = all_pages(mesh, limit)
    shown = [rank(one.score, one.record.agent_id) for page in pages for one in page.agents]
    assert shown == sorted(shown) and len(set(shown)) == 60
    assert {agent for _, agent in shown} == {agent_id(org(0), f"agent {serial:03}") for serial in range(60)}
    assert [len(page.agents) for page in pages[:-1]] == [limit] * (len(pages) - 1), "only the last page is short"
    assert len({score for score, _ in shown}) < 20, "many are equal, so that ids decide"
    whole = mesh.discover(0, DiscoverRequest("chess with people", 100, collapse=False))
    assert [one.record.agent_id for one in whole.agents] == [agent for _, agent in shown] and whole.cursor is None


def test_limits_may_differ_from_page_to_page_and_only_the_first_hundred_are_paged() -> None:
    mesh = mesh_of(130)
    first = mesh.discover(0, DiscoverRequest("chess", 90, collapse=False))
    second = mesh.discover(0, DiscoverRequest("chess", 100, cursor=first.cursor, collapse=False))
    assert (len(first.agents), len(second.agents), second.cursor) == (90, 10, None)
    together = [one.record.agent_id for one in (*first.agents, *second.agents)]
    assert together == [one.record.agent_id for one in mesh.discover(0, DiscoverRequest("chess", 100, collapse=False)).agents]


def test_what_is_in_quarantine_leaves_no_hole_in_the_pages() -> None:
    mesh = mesh_of(130)
    mesh.quarantine |= {agent_id(org(0), f"agent {serial:03}") for serial in range(0, 130, 4)}
    shown = [one.record.agent_id for page in all_pages(mesh, 9) for one in page.agents]
    assert len(shown) == len(set(shown)) == 130 - 33
    assert not set(shown) & mesh.quarantine


def test_what_changes_in_between_brings_nothing_twice_that_still_ranks_as_high() -> None:
    mesh = mesh_of(40)
    first = mesh.discover(0, DiscoverRequest("chess with people", 10))
    shown = {one.record.agent_id: rank(one.score, one.record.agent_id) for one in first.agents}
    mesh.withdraw(0, first.agents[3].record.name)
    mesh.publish(0, Profile("newcomer", "Plays chess with people."), Profile("agent 002", "Plays chess with people now."))
    rest = [one for page in _after(mesh, first) for one in page.agents]
    ranks = [rank(one.score, one.record.agent_id) for one in rest]
    assert ranks == sorted(ranks) and len(ranks) == len(set(ranks))
    for one in rest:
        before = shown.get(one.record.agent_id)
        assert before is None or rank(one.score, one.record.agent_id) > before
        assert rank(one.score, one.record.agent_id) > rank(first.agents[-1].score, first.agents[-1].record.agent_id)


def _after(mesh: Mesh, first: DiscoverAnswer) -> list[DiscoverAnswer]:
    pages, at = [], first.cursor
    while at is not None:
        pages.append(mesh.discover(0, DiscoverRequest("chess with people", 10, cursor=at)))
        at = pages[-1].cursor
    return pages


def test_a_cursor_of_another_question_filters_or_weights_is_refused_by_name() -> None:
    mesh = mesh_of(8)
    at = mesh.discover(0, DiscoverRequest("chess", 2)).cursor
    assert at is not None and mesh.discover(0, DiscoverRequest("chess", 3, cursor=at)).agents
    for other in (
        DiscoverRequest("time", 2, cursor=at),
        DiscoverRequest("chess", 2, Filters(region="x"), cursor=at),
        DiscoverRequest("chess", 2, weigh=Weigh(price=1), cursor=at),
        DiscoverRequest("chess", 2, cursor=at, collapse=False),
        DiscoverRequest(related=agent_id(org(0), "agent 000"), cursor=at),
    ):
        with pytest.raises((BadInput, Refused)) as caught:
            mesh.discover(0, other)
        assert caught.value.name == "bad-cursor"
