"""The index: exact against a plain computation, after any updates, and while other threads update."""

import dataclasses
import math
import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.protocols.directory.vector import DIMENSION, HASHED, hashed, similarity, whole
from meshos.storage.index import scores
from meshos.storage.index.facets import ANYTHING, Condition
from meshos.storage.index.index import Hit, Index, best_places
from meshos.storage.index.limits import K1, B
from meshos.storage.index.pieces import PIECE_NUMBERS, Reading
from meshos.storage.index.question import ask, rarity
from meshos.storage.index.segment import Document, build
from meshos.storage.index.words import corrected, stem, words

VOCABULARY = ["read", "write", "chess", "time", "city", "image", "invoice", "weather"]


def unit(seed: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    vector = np.random.default_rng(seed).normal(size=8).astype(np.float32)
    return vector / np.linalg.norm(vector)


def read(vector: np.ndarray[tuple[int], np.dtype[np.float32]]) -> Reading:
    """A question of which only the whole is known."""
    return Reading(vector, np.zeros((0, PIECE_NUMBERS), np.float32), ())


def found(index: Index, query: str, reading: Reading, limit: int, condition: Condition = ANYTHING) -> list[Hit]:
    snapshot = index.snapshot()
    return snapshot.search(ask(query, reading, snapshot), limit, condition=condition)


def updated(given_steps: list[tuple[list[Document], list[str]]]) -> tuple[Index, dict[str, Document]]:
    """An index after these updates, and what it has to hold."""
    index, held = Index(), dict[str, Document]()
    for put, drop in given_steps:
        index.update(put, drop)
        fresh = {document.key: document for document in put}
        for key in (*fresh, *drop):
            held.pop(key, None)
        held |= fresh
    return index, held


documents = st.builds(
    lambda key, text, seed, facets, cost, cells: Document(f"k{key}", text, unit(seed), key, b"", tuple(facets), cost, tuple(cells)),
    st.integers(0, 9),
    st.lists(st.sampled_from(VOCABULARY), max_size=12).map(" ".join),
    st.integers(0, 50),
    st.lists(st.sampled_from("abcd"), max_size=4),
    st.integers(0, 3),
    st.lists(st.integers(1, 4), max_size=2),
)
steps = st.lists(st.tuples(st.lists(documents, max_size=6), st.lists(st.integers(0, 9).map(lambda key: f"k{key}"), max_size=3)), max_size=8)


def plain_bm25(held: dict[str, Document], query: str) -> dict[str, float]:
    counts = {key: Counter(map(stem, words(document.text))) for key, document in held.items()}
    mean = max(1.0, sum(count.total() for count in counts.values()) / len(counts))
    summed = dict.fromkeys(held, 0.0)
    for term in {stem(word) for word in words(query)}:
        having = [key for key, count in counts.items() if term in count]
        rarity = math.log(1 + (len(held) - len(having) + 0.5) / (len(having) + 0.5))
        for key in having:
            count = counts[key][term]
            summed[key] += rarity * count * (K1 + 1) / (count + K1 * (1 - B + B * counts[key].total() / mean))
    most = sum(
        (K1 + 1) * math.log(1 + (len(held) - having + 0.5) / (having + 0.5))
        for having in (sum(term in count for count in counts.values()) for term in {stem(word) for word in words(query)})
    )
    return {key: score / most for key, score in summed.items()}


@given(steps)
@settings(max_examples=40, deadline=None)
def test_scores_are_those_of_a_plain_computation_after_any_updates(given_steps: list[tuple[list[Document], list[str]]]) -> None:
    index, held = updated(given_steps)
    snapshot = index.snapshot()
    assert snapshot.size == len(held)
    hits = snapshot.search(ask("chess time", read(unit(99)), snapshot), 20)
    assert {hit.key for hit in hits} == set(held)
    if not held:
        return
    scored = [snapshot.candidates(ask("chess time", read(unit(99)), snapshot), (segment, alive)) for segment, alive in snapshot.parts]
    lexical = [float(score) for one in scored for score in one.lexical]
    meaning = [float(score) for one in scored for score in one.meaning]
    expected = plain_bm25(held, "chess time")
    row = 0
    for segment, alive in snapshot.parts:
        for key, lives in zip(segment.keys, alive, strict=True):
            if lives:
                assert lexical[row] == pytest.approx(expected[key], rel=1e-4, abs=1e-5)
                assert meaning[row] == pytest.approx(float(held[key].dense @ unit(99)), abs=1e-5)
                row += 1
    fused = [hit.score for hit in hits]
    assert fused == sorted(fused, reverse=True) and all(0 <= score <= 1 for score in fused)
    assert all(set(hit.words) == {word for word in ("chess", "time") if word in held[hit.key].text.split()} for hit in hits)


conditions = st.builds(
    Condition,
    st.none() | st.lists(st.integers(1, 5), max_size=3).map(tuple),
    st.lists(st.lists(st.sampled_from("abce"), min_size=1, max_size=2).map(tuple), max_size=2).map(tuple),
    st.lists(st.sampled_from("bde"), max_size=2).map(tuple),
    st.none() | st.integers(0, 3),
)


def fulfils(document: Document, condition: Condition) -> bool:
    facets = set(document.facets)
    return (
        (condition.cells is None or bool(set(document.cells) & set(condition.cells)))
        and all(facets & set(group) for group in condition.every)
        and not facets & set(condition.none)
        and (condition.cost is None or document.cost <= condition.cost)
    )


@given(steps, conditions)
@settings(max_examples=80, deadline=None)
def test_what_is_found_under_a_condition_is_what_fulfils_it_after_any_updates(
    given_steps: list[tuple[list[Document], list[str]]], condition: Condition
) -> None:
    index, held = updated(given_steps)
    hits = found(index, "chess", read(unit(99)), 20, condition)
    assert sorted(hit.key for hit in hits) == sorted(key for key, document in held.items() if fulfils(document, condition))


def test_parts_that_are_asked_by_common_statistics_rank_as_the_whole() -> None:
    random = np.random.default_rng(4)
    given_documents = [Document(f"k{n}", " ".join(random.choice(VOCABULARY, 6)), unit(n), n, b"", cells=(n % 3,)) for n in range(90)]
    whole_index, parts = Index(), [Index(), Index()]
    whole_index.update(given_documents)
    parts[0].update(given_documents[:20])
    parts[1].update(given_documents[20:])
    statistics = whole_index.snapshot()
    question = ask("read the weather of the city", read(unit(7)), statistics)
    for condition in (ANYTHING, Condition(cells=(0, 2))):
        merged = sorted(
            (hit for part in parts for hit in part.snapshot().search(question, 10, condition=condition)), key=lambda hit: -hit.score
        )
        exact = statistics.search(question, 10, condition=condition)
        assert [hit.score for hit in merged[:10]] == [hit.score for hit in exact] and len(exact) == 10


def test_statistics_that_are_older_than_a_word_call_it_rare() -> None:
    index = Index()
    index.update([Document("a", "chess", unit(1))])
    statistics = index.snapshot()
    assert rarity(statistics, stem("weather")) > rarity(statistics, stem("chess")) > 0


def test_a_filter_finds_everything_that_passes_it() -> None:
    index = Index()
    index.update([Document(f"k{number}", "read write", unit(number), number) for number in range(1000)])
    snapshot = index.snapshot()
    hits = snapshot.search(ask("read", read(unit(5)), snapshot), 100, keep=lambda tag: isinstance(tag, int) and tag % 50 == 0)
    assert sorted(hit.key for hit in hits) == sorted(f"k{number}" for number in range(0, 1000, 50))


def test_an_empty_index_finds_nothing_and_a_question_without_words_still_ranks_by_meaning() -> None:
    index = Index()
    assert found(index, "anything", read(unit(1)), 5) == []
    index.update([Document(f"k{number}", "read", unit(number)) for number in range(20)])
    assert found(index, "???", read(unit(7)), 1)[0].key == "k7"


def test_words_that_tell_nothing_do_not_count_unless_there_are_no_others() -> None:
    index = Index()
    index.update([Document("chess", "play chess", unit(1)), Document("what", "what is my", unit(1))])
    snapshot = index.snapshot()

    def lexical(query: str) -> list[float]:
        asked = snapshot.candidates(ask(query, read(unit(1)), snapshot), snapshot.parts[0])
        return [float(score) for score in asked.lexical]

    assert lexical("what is my chess")[1] == 0
    assert lexical("what is my")[0] == 0 < lexical("what is my")[1]


def test_searches_are_whole_while_another_thread_updates() -> None:
    index = Index()
    index.update([Document(f"k{number}", "read write", unit(number), 0) for number in range(50)])
    wrong: list[object] = []
    stop = threading.Event()

    def search() -> None:
        while not stop.is_set():
            hits = found(index, "read", read(unit(1)), 50)
            generations = {hit.tag for hit in hits}
            if len(hits) != 50 or len(generations) != 1:  # each update replaces all fifty at once
                wrong.append((len(hits), generations))

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for generation in range(1, 40):
        index.update([Document(f"k{number}", "read write", unit(number), generation) for number in range(50)])
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("readFile and write_file2", ["read", "file", "and", "write", "file2"]),
        ("CircleCI", ["circle", "ci"]),
        ("Übung für 12306", ["übung", "für", "12306"]),
        ("", []),
        ("x" * 100, ["x" * 40]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_words_of_a_long_text_are_bounded() -> None:
    assert len(words("word " * 10_000)) == 2_000


def test_a_slip_is_mended_and_what_is_known_is_left_alone() -> None:
    held = {"weather": 9, "whether": 1, "pokemon": 2, "graph": 3}

    def mended(text: str, most: int = 8) -> str:
        return corrected(text, lambda word: held.get(word, 0), lambda word: word == "what", most=most)

    assert mended("wether for Pokmon") == "weather for pokemon"
    assert mended("what a grpah, a grap, a grraph, a gtaph!") == "what a graph, a graph, a graph, a graph!"
    assert mended("Weather unknownword rgaph") == "Weather unknownword rgaph"  # the first letter is taken to be right
    assert mended("wether wether", most=1) == "weather wether"


@given(st.text(max_size=80))
@settings(max_examples=80, deadline=None)
def test_the_hashed_half_has_length_one_and_is_the_same_again(text: str) -> None:
    vector = hashed(text)
    assert vector.shape == (HASHED,) and np.array_equal(vector, hashed(text))
    assert float(np.linalg.norm(vector)) == pytest.approx(1 if words(text) else 0, abs=1e-5)


def test_the_hashed_half_knows_like_words_and_the_whole_has_768_numbers() -> None:
    weather = hashed("weather forecast")
    near, far = similarity(weather, hashed("wether forecasts")), similarity(weather, hashed("play chess"))
    assert near > 0.5 > abs(far) + 0.2
    assert whole(np.zeros(384, np.float32), "weather").shape == (DIMENSION,)
    assert hashed("chess")[:8].tolist() == pytest.approx(hashed("Chess")[:8].tolist())


@given(steps)
@settings(max_examples=60, deadline=None)
def test_rows_lie_in_the_order_of_their_cells_and_are_found_by_their_keys_after_any_updates(
    given_steps: list[tuple[list[Document], list[str]]],
) -> None:
    index, held = updated(given_steps)
    living: list[str] = []
    for segment, alive in index.snapshot().parts:
        assert (np.diff(segment.homes) >= 0).all()
        for row in np.flatnonzero(alive).tolist():
            document = held[segment.keys[row]]
            living.append(document.key)
            assert segment.homes[row] == (document.cells[0] if document.cells else -1) and segment.tags[row] == document.tag
            assert {cell for cell, rows in segment.cells.items() if row in rows} == set(document.cells)
            assert {facet for facet, rows in segment.facets.items() if row in rows} == set(document.facets)
            assert segment.costs[row] == document.cost and np.array_equal(segment.dense[row], document.dense)
        postings = [found[0] for found in map(segment.postings, segment.stems) if found is not None]
        every = (*segment.cells.values(), *segment.facets.values(), *postings)
        assert all((np.diff(rows) > 0).all() for rows in every)
        assert [segment.rows_of([key]) for key in segment.keys] == [[row] for row in range(len(segment))]
        assert segment.rows_of(["nobody", segment.keys[-1], "nothing"]) == [len(segment) - 1]
    assert sorted(living) == sorted(held)


def test_keys_of_one_hash_are_told_apart() -> None:
    segment = build([Document(key, "read", unit(1)) for key in "abc"])
    alike = dataclasses.replace(segment, hashes=np.full(3, hash("b"), np.int64))
    assert alike.rows_of(["b"]) == [1] and alike.rows_of(["a"]) == alike.rows_of([]) == []


wanted_rows = st.one_of(
    st.sets(st.integers(0, 299)),
    st.lists(st.tuples(st.integers(0, 280), st.integers(1, 20)), max_size=4).map(
        lambda some: {row for begin, count in some for row in range(begin, min(300, begin + count))}
    ),
)
MANY = build([Document(f"k{n}", " ".join(np.random.default_rng(n).choice(VOCABULARY, 5)), unit(n)) for n in range(300)])


@given(wanted_rows)
@settings(max_examples=150, deadline=None)
def test_a_row_scores_the_same_whatever_is_read_with_it(wanted: set[int]) -> None:
    rows = np.array(sorted(wanted), np.int32)
    index = Index()
    index.update([Document("other", "read chess", unit(1))])
    question = ask("read the weather of the city", read(unit(7)), index.snapshot())
    held = scores.stretches(rows)
    every = np.arange(len(MANY), dtype=np.int32)
    whole_lexical = scores.lexical(MANY, every, scores.stretches(every), question)
    assert scores.meaning(MANY, rows, held, question.vector) == pytest.approx(MANY.dense[rows] @ question.vector, abs=1e-6)
    assert scores.lexical(MANY, rows, held, question) == pytest.approx(whole_lexical[rows], abs=1e-7)
    assert scores.lexical(MANY, rows, None, question) == pytest.approx(whole_lexical[rows], abs=1e-7)


def test_rows_that_are_together_are_read_together_and_scattered_ones_are_not() -> None:
    near = scores.stretches(np.array([*range(40), *range(100, 140)], np.int32))
    assert near is not None and near.begins == [0, 100] and near.ends == [40, 140] and near.size == 80 and near.places is None
    with_gaps = scores.stretches(np.array([3, 4, 8, 9, 12], np.int32))
    assert with_gaps is not None and with_gaps.begins == [3] and with_gaps.places is not None
    assert with_gaps.places.tolist() == [0, 1, 5, 6, 9] and with_gaps.size == 10
    assert scores.stretches(np.arange(0, 3000, 100, dtype=np.int32)) is None and scores.stretches(np.zeros(0, np.int32)) is None


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, math.nan]), max_size=30), st.integers(1, 35))
@settings(max_examples=200, deadline=None)
def test_the_best_are_those_of_a_full_sort_and_of_equal_ones_the_first(given_scores: list[float], most: int) -> None:
    values = np.array(given_scores, np.float32)
    sorted_places = np.argsort(-values, kind="stable").tolist()
    assert best_places(values, most, None).tolist() == sorted_places[:most]
    even = [place for place in sorted_places if place % 2 == 0]
    assert best_places(values, most, lambda place: place % 2 == 0).tolist() == even[:most]
