"""Room for others among the candidates: of near-equal documents of one owner a few stay, and nothing else changes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.storage.index import crowds
from meshos.storage.index.crowds import Candidates, with_room
from meshos.storage.index.facets import Condition
from meshos.storage.index.index import Hit, Index, best_places
from meshos.storage.index.limits import CROWD, CROWDS, NEAR, RERANKED
from meshos.storage.index.pieces import PIECE_NUMBERS, Reading
from meshos.storage.index.question import ask
from meshos.storage.index.segment import Document, Floats

NONE = np.zeros((0, PIECE_NUMBERS), np.float32)


def vector(seed: int, like: Floats | None = None, noise: float = 0.0) -> Floats:
    found = np.random.default_rng(seed).normal(size=PIECE_NUMBERS).astype(np.float32)
    found = found if like is None else like + noise * found / np.float32(np.linalg.norm(found))
    unit: Floats = (found / np.linalg.norm(found)).astype(np.float32)
    return unit


def copies(of: int, count: int, owner: str, first: int = 0) -> list[Document]:
    """Near-equal ones: .99 and more from one another."""
    numbers = range(first, first + count)
    near = {number: vector(10_000 + number, vector(of), 0.05) for number in numbers}
    return [Document(f"{owner} {of} {at}", "plays chess", near[at], owner, b"", (f"of {owner}",), 0, (at % 3,)) for at in numbers]


def search(index: Index, asked: Floats, limit: int = RERANKED, *, crowd: bool = True, condition: Condition | None = None) -> list[Hit]:
    snapshot = index.snapshot()
    question = ask("chess", Reading(asked, NONE, ()), snapshot)
    return snapshot.search(question, limit, None, condition or Condition(), (lambda tag: f"of {tag}") if crowd else None)


def filled(*parts: list[Document]) -> Index:
    index = Index()
    for part in parts:
        index.update(part)
    return index


def test_five_hundred_copies_leave_room_for_all_others() -> None:
    others = [Document(f"other {seed}", "plays chess", vector(seed), "b", b"", ("of b",)) for seed in range(1_000, 1_060)]
    index = filled(copies(7, 250, "a"), others, copies(7, 250, "a", 250))
    without = search(index, vector(7), crowd=False)
    assert {hit.tag for hit in without} == {"a"} and not any(hit.behind for hit in without)
    hits = search(index, vector(7))
    assert [hit.tag for hit in hits] == ["a"] * CROWD + ["b"] * 60 and sorted(hit.behind for hit in hits)[-2:] == [0, 500 - CROWD]
    assert {hit.key for hit in hits[:CROWD]} == {hit.key for hit in without[:CROWD]}, "the best of them stay"


def test_what_many_owners_say_alike_stays() -> None:
    index = filled([one for owner in "abcdefghij" for one in copies(7, CROWD, owner)])
    assert len(search(index, vector(7))) == 10 * CROWD


def test_under_conditions_only_what_fulfils_them_counts_as_left_out() -> None:
    index = filled(copies(7, 300, "a"))
    hits = search(index, vector(7), condition=Condition(cells=(1,)))
    assert len(hits) == CROWD and sum(hit.behind for hit in hits) == 100 - CROWD


def test_what_is_gone_is_neither_found_nor_counted() -> None:
    index = filled(copies(7, 100, "a"))
    index.update([], [f"a 7 {number}" for number in range(90)])
    hits = search(index, vector(7))
    assert len(hits) == CROWD and sum(hit.behind for hit in hits) == 10 - CROWD


def test_a_question_is_no_dearer_than_so_many_crowds(monkeypatch: pytest.MonkeyPatch) -> None:
    index = filled([one for topic in range(3 * CROWDS) for one in copies(topic, 2 * CROWD, "a")])
    cut, cuts = crowds._cut, 0

    def counted(scores: Floats, place: int, among: Candidates) -> int:
        nonlocal cuts
        cuts += 1
        return cut(scores, place, among)

    monkeypatch.setattr(crowds, "_cut", counted)
    assert len(search(index, vector(0))) == RERANKED and 0 < cuts <= CROWDS


owned = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 4), st.floats(0, 1, width=32)), max_size=60)


@given(owned, st.integers(1, 20))
@settings(max_examples=200, deadline=None)
def test_it_is_what_a_plain_choice_one_by_one_would_be(given_rows: list[tuple[str, int, float]], most: int) -> None:
    """Topics are at right angles, so that a crowd is a topic of an owner."""
    scores = np.array([score for _, _, score in given_rows], np.float32)
    topics = np.array([topic for _, topic, _ in given_rows], np.intp)
    among = Candidates(
        lambda place: given_rows[place][0],
        lambda owner: np.array([place for place, row in enumerate(given_rows) if row[0] == owner], np.intp),
        lambda places: np.eye(5, dtype=np.float32)[topics[places]],
    )

    def best(by: Floats) -> crowds.Places:
        return best_places(by, most, None)

    found, behind = with_room(scores, best(scores), best, among)
    expected, counts = list[int](), dict[tuple[str, int], int]()
    for place in best_places(scores, len(scores), None).tolist():
        crowd = given_rows[place][:2]
        counts[crowd] = counts.get(crowd, 0) + 1
        if counts[crowd] <= CROWD and len(expected) < most:
            expected.append(place)
    assert found.tolist() == expected
    for place, left_out in behind.items():
        assert left_out == counts[given_rows[place][:2]] - CROWD and place in expected


def test_the_best_of_a_crowd_stays_whatever_other_crowds_it_is_near_to() -> None:
    """Whoever left some out behind it would seem to hide them (``protocols/directory/spotting``)."""
    one, other, asked, between = (vector(seed) for seed in range(4))
    other = vector(0, other - (other @ one) * one)
    asked = vector(0, asked - (asked @ one) * one - (asked @ other) * other)
    between = vector(0, between - (between @ one) * one - (between @ other) * other - (between @ asked) * asked)

    def at(axis: Floats, angle: float, height: float) -> Floats:
        """So many degrees to one side, and so high towards what is asked."""
        found = np.cos(np.radians(angle)) * between + np.sin(np.radians(angle)) * axis
        return vector(0, np.sqrt(1 - height**2) * found + height * asked)

    left, right = [at(one, 20, 0.30)], [at(one, -20, 0.295)]  # not near to the middle
    left += [at(one, 10, 0.29 - 0.001 * number) for number in range(CROWD)]
    right += [at(one, -10, 0.28 - 0.001 * number) for number in range(CROWD)]
    middle = [at(other, 0.1 * number, 0.25 - 0.001 * number) for number in range(8)]
    hidden = [at(other, 10 + 0.1 * number, 0.2 - 0.001 * number) for number in range(8)]  # near to the middle alone
    rows = [*left, *right, *middle, *hidden]
    index = filled([Document(f"{number:02}", "plays chess", row, "a", b"", ("of a",)) for number, row in enumerate(rows)])
    hits = search(index, asked)
    firsts = [rows[int(hit.key)] for hit in hits if hit.behind]
    shown = {int(hit.key) for hit in hits}
    for number, row in enumerate(rows):
        assert number in shown or any(first @ row >= NEAR for first in firsts), f"nothing that is shown stands for {number}"
