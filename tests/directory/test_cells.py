"""Codebooks and summaries: placement is whole numbers and the same everywhere, nothing that could fulfil a condition is passed over, and
what a stranger sends is refused by name."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos import cbor
from meshos.errors import Refused
from meshos.protocols.directory.cells import codebook as codebooks
from meshos.protocols.directory.cells import limits, summary
from meshos.protocols.directory.cells.codebook import Codebook, Vocabulary, whole_numbers
from meshos.protocols.directory.cells.routing import Chart, chart
from meshos.protocols.directory.cells.summary import Summary, summarise
from meshos.protocols.directory.cells.training import sizes_for, train
from meshos.protocols.directory.embedder import HashedEmbedder
from meshos.protocols.directory.vector import Vector, whole_bytes
from meshos.storage.index.facets import Condition
from meshos.storage.index.index import Index
from meshos.storage.index.question import Question, ask
from meshos.storage.index.segment import Document

TOPICS = ("chess", "weather", "invoice", "image", "travel", "music", "genome", "ledger")
EMBEDDER = HashedEmbedder()


def texts(count: int, seed: int = 1) -> list[str]:
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        topic = TOPICS[random.integers(len(TOPICS))]
        found.append(" ".join(f"{topic}{random.integers(12)}" for _ in range(8)))
    return found


def vectors(some: list[str]) -> Vector:
    return np.stack([one.vector for one in EMBEDDER.read(some)])


def trained(count: int = 900) -> tuple[list[str], Codebook]:
    some = texts(count)
    return some, train(7, EMBEDDER.name, vectors(some), some, seed=3)


TEXTS, CODEBOOK = trained()
NUMBERS = whole_numbers([whole_bytes(vector.astype("<f2").tobytes()) for vector in vectors(TEXTS)])
HOMES = CODEBOOK.place(NUMBERS)


def test_a_record_is_placed_by_whole_numbers_alike_alone_and_among_others() -> None:
    points, prices = CODEBOOK.points.astype(np.int64), CODEBOOK.prices.astype(np.int64)
    plain = [
        int(CODEBOOK.cell_of[max(range(len(points)), key=lambda at: int(points[at] @ one) - int(prices[CODEBOOK.cell_of[at]]))])
        for one in NUMBERS[:50].astype(np.int64)
    ]
    assert HOMES[:50].tolist() == plain
    assert [int(CODEBOOK.place(NUMBERS[row : row + 1])[0]) for row in range(50)] == plain


def test_cells_are_balanced_on_what_they_were_trained_on_and_training_is_repeatable() -> None:
    sizes = np.bincount(HOMES, minlength=CODEBOOK.cells)
    assert len(sizes) == CODEBOOK.cells == 64 and sizes.max() / sizes.mean() <= limits.BALANCE
    again = train(7, EMBEDDER.name, vectors(TEXTS), TEXTS, seed=3)
    assert codebooks.encode(again) == codebooks.encode(CODEBOOK)


@pytest.mark.parametrize(
    ("records", "cells", "points"), [(64, 64, 4), (2_000, 128, 6), (5_569, 256, 8), (100_000, 1024, 16), (10**6, 1024, 16)]
)
def test_cells_grow_with_the_records(records: int, cells: int, points: int) -> None:
    assert sizes_for(records) == (cells, points)


def test_too_few_records_make_no_codebook() -> None:
    some = texts(63)
    with pytest.raises(Refused, match="64 records or more") as caught:
        train(1, EMBEDDER.name, vectors(some), some, seed=1)
    assert caught.value.name == "too-few-records"


def test_like_records_that_are_fewer_than_a_cells_points_can_be_trained_on() -> None:
    some = ["chess"] * 200
    codebook = train(1, EMBEDDER.name, vectors(some), some, seed=1)
    assert codebooks.decode(codebooks.encode(codebook)).cells == 64


def test_a_codebook_is_read_as_it_was_written() -> None:
    data = codebooks.encode(CODEBOOK)
    read = codebooks.decode(data)
    assert codebooks.encode(read) == data and np.array_equal(read.place(NUMBERS), HOMES)
    assert codebooks.name_of(data) != codebooks.name_of(codebooks.encode(dataclasses.replace(CODEBOOK, version=8)))
    question = vectors(["chess1"])[0]
    assert np.array_equal(read.nearness(question), CODEBOOK.nearness(question))


def _changed(**fields: object) -> bytes:
    value = cbor.decode(codebooks.encode(CODEBOOK), max_bytes=limits.CODEBOOK_BYTES)
    assert isinstance(value, dict)
    return cbor.encode({**value, **fields})


ENDS = CODEBOOK.cell_of.astype("<i4")


@pytest.mark.parametrize(
    "data",
    [
        cbor.encode([1]),
        cbor.encode({"version": 1}),
        _changed(more=1),
        _changed(version=-1),
        _changed(version=True),
        _changed(cells=63),
        _changed(cells=65),
        _changed(cells=1 << 40),
        _changed(model=""),
        _changed(model="m" * 100),
        _changed(points=b"x"),
        _changed(points=1),
        _changed(cellOf=b""),
        _changed(cellOf=b"abc"),
        _changed(cellOf=ENDS[::-1].tobytes()),
        _changed(cellOf=(ENDS * 0).tobytes()),
        _changed(cellOf=(ENDS + 1).tobytes()),
        _changed(weights=(ENDS * 0).astype("<i4").tobytes()),
        _changed(weights=b""),
        _changed(prices=np.full(64, 2**30, "<i4").tobytes()),
        _changed(prices=np.full(64, -(2**31), "<i4").tobytes()),
        _changed(prices=np.zeros(63, "<i4").tobytes()),
        _changed(records=0),
        _changed(wordsMilli=0),
        _changed(wordsMilli=2**50),
        _changed(stems=[]),
        _changed(stems={"w" * 41: 1}),
        _changed(stems={"word": 0}),
        _changed(stems={"word": 901}),
        _changed(words={"word": "1"}),
        _changed(words={f"w{number}": 1 for number in range(limits.VOCABULARY + 1)}),
    ],
)
def test_a_codebook_that_breaks_a_rule_is_refused(data: bytes) -> None:
    with pytest.raises(Refused) as caught:
        codebooks.decode(data)
    assert caught.value.name == "bad-codebook"


def test_a_codebook_that_is_no_canonical_cbor_or_too_long_is_refused() -> None:
    data = codebooks.encode(CODEBOOK)
    for bad, name in ((data[:-1], "bad-encoding"), (data + b"\0", "bad-encoding"), (bytes(limits.CODEBOOK_BYTES + 1), "too-large")):
        with pytest.raises(Refused) as caught:
            codebooks.decode(bad)
        assert caught.value.name == name


# -- summaries -------------------------------------------------------------------------------------------------------


def document(number: int, text: str, facets: tuple[str, ...] = (), cost: int = 0, cell: int = 0) -> Document:
    return Document(f"k{number}", text, vectors([text])[0], None, b"", facets, cost, (cell,))


def test_a_summary_is_read_as_it_was_written() -> None:
    made = summarise(
        5, [document(1, "chess board", ("region eu", "capability play"), 9), document(2, "chess", ("region eu",))], CODEBOOK.vocabulary
    )
    read = summary.decode(summary.encode(made))
    assert summary.encode(read) == summary.encode(made)
    assert (read.cell, read.records, read.omitted, sum(read.costs)) == (5, 2, 0, 2)
    assert dict(zip(read.facets.tolist(), read.counts.tolist(), strict=True))[summary.name_of("region eu")] == 2
    assert summary.name_of("board") in read.stems.tolist()


def test_one_record_cannot_name_more_than_so_many_words_and_a_cell_keeps_the_rarest() -> None:
    stuffed = summarise(0, [document(1, " ".join(f"word{number}" for number in range(1_000)))], CODEBOOK.vocabulary)
    assert len(stuffed.stems) == limits.SUMMARY_WORDS_A_RECORD
    known = Vocabulary(1_000, 8, {f"w{number}q": number + 1 for number in range(900)}, {})
    many = [document(number, " ".join(f"w{word}q" for word in range(number, 900, 10))) for number in range(10)]
    names = summarise(0, many, known).stems.tolist()
    assert len(names) == 900 and summary.name_of("w0q") in names


def _parts(**changes: object) -> bytes:
    parts: dict[str, object] = {
        "cell": 1,
        "records": 9,
        "stems": np.array([1, 5], "<u4").tobytes(),
        "facets": np.array([2], "<u4").tobytes(),
        "counts": np.array([9], "<u4").tobytes(),
        "omitted": 0,
        "costs": [9, *[0] * (limits.COSTS - 1)],
    }
    return cbor.encode([*{**parts, **changes}.values()])


@pytest.mark.parametrize(
    "data",
    [
        cbor.encode(None),
        _parts(cell=limits.CELLS[1]),
        _parts(cell=-1),
        _parts(records=limits.CELL_RECORDS + 1),
        _parts(records=-1),
        _parts(stems=b"abc"),
        _parts(stems=np.array([5, 1], "<u4").tobytes()),
        _parts(stems=np.array([5, 5], "<u4").tobytes()),
        _parts(stems=bytes(4 * limits.SUMMARY_WORDS + 4)),
        _parts(facets=np.array([2, 3], "<u4").tobytes()),
        _parts(counts=np.array([10], "<u4").tobytes()),
        _parts(omitted=10),
        _parts(costs=[9]),
        _parts(costs=[10, *[0] * (limits.COSTS - 1)]),
        _parts(costs=["9", *[0] * (limits.COSTS - 1)]),
    ],
)
def test_a_summary_that_breaks_a_rule_is_refused(data: bytes) -> None:
    assert summary.decode(_parts()).records == 9
    with pytest.raises(Refused) as caught:
        summary.decode(data)
    assert caught.value.name == "bad-message"


# -- routing ---------------------------------------------------------------------------------------------------------


def question(text: str) -> Question:
    return ask(text, EMBEDDER.read([text])[0], CODEBOOK.vocabulary)


def summaries(documents: list[Document]) -> dict[int, Summary]:
    return {
        cell: summarise(cell, [one for one in documents if one.cells == (cell,)], CODEBOOK.vocabulary) for cell in range(CODEBOOK.cells)
    }


def charted(documents: list[Document]) -> Chart:
    return chart(CODEBOOK, summaries(documents))


def test_a_question_goes_to_cells_that_hold_a_share_of_all_records_the_nearest_first() -> None:
    documents = [document(number, text, cell=int(home)) for number, (text, home) in enumerate(zip(TEXTS, HOMES, strict=True))]
    known = charted(documents)
    for text, home in itertools.islice(zip(TEXTS, HOMES, strict=True), 40):
        route = known.route(question(text))
        assert route.cells[0] == home and 0 < route.records <= limits.SCANNED * len(TEXTS)
        assert route.possible == CODEBOOK.cells and len(set(route.cells)) == len(route.cells)


def test_a_word_that_only_one_cell_has_leads_there() -> None:
    documents = [document(number, text, cell=int(home)) for number, (text, home) in enumerate(zip(TEXTS, HOMES, strict=True))]
    far = int(np.argmin(CODEBOOK.nearness(vectors(["chess1 zwieback"])[0])))
    assert far not in charted(documents).route(question("chess1 zwieback")).cells
    assert far in charted([*documents, document(10**6, "zwieback", cell=far)]).route(question("zwieback of chess1")).cells


def test_a_cell_of_which_nobody_has_told_is_asked_as_it_may_have_any_word() -> None:
    documents = [document(number, text, cell=int(home)) for number, (text, home) in enumerate(zip(TEXTS, HOMES, strict=True))]
    asked = question("chess1 zwieback")
    route = charted(documents).route(asked)
    silent = set(range(CODEBOOK.cells)) - set(route.cells[:3])
    told = {cell: summary for cell, summary in summaries(documents).items() if cell not in silent}
    for condition in (Condition(), Condition(none=("common",))):
        among = chart(CODEBOOK, told).route(asked, condition)
        assert silent < set(among.cells) and among.untold == 0 and len(set(among.cells)) == len(among.cells)
        assert set(route.cells[:3]) <= set(among.cells) and among.cells[0] == route.cells[0]


def test_of_more_cells_than_a_question_may_go_to_it_is_known_how_many_nobody_has_told_of() -> None:
    points = np.repeat(CODEBOOK.points, 4, axis=0)
    cell_of = (np.arange(len(points)) * 1024 // len(points)).astype(np.int32)
    ones, nothing = np.ones(len(points), np.int32), np.zeros(1024, np.int32)
    big = dataclasses.replace(CODEBOOK, cells=1024, points=points, cell_of=cell_of, weights=ones, prices=nothing)
    for voices in ((), ({},)):
        route = chart(big, *voices).route(question("chess1"))
        assert limits.UNTOLD_ASKED < len(route.cells) <= limits.CELLS_ASKED + limits.UNTOLD_ASKED
        assert route.untold == 1024 - len(route.cells)


facets = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=3, unique=True).map(tuple)
holdings = st.lists(st.tuples(facets, st.integers(0, 1 << 20), st.integers(0, 63)), max_size=30)
conditions = st.builds(
    Condition,
    st.none(),
    st.lists(st.lists(st.sampled_from("abcx"), min_size=1, max_size=2).map(tuple), max_size=2).map(tuple),
    st.lists(st.sampled_from("bdx"), max_size=2).map(tuple),
    st.none() | st.integers(0, 1 << 20),
)


@given(holdings, conditions)
@settings(max_examples=150, deadline=None)
def test_a_cell_that_holds_what_fulfils_a_condition_is_never_passed_over(
    held: list[tuple[tuple[str, ...], int, int]], condition: Condition
) -> None:
    documents = [document(number, "chess1", facets, cost, cell) for number, (facets, cost, cell) in enumerate(held)]
    known = charted(documents)
    index = Index()
    index.update(documents)
    snapshot = index.snapshot()
    asked = question("chess1")
    route = known.route(asked, condition)
    everywhere = {hit.key for hit in snapshot.search(asked, 100, condition=condition)}
    there = {hit.key for hit in snapshot.search(asked, 100, condition=dataclasses.replace(condition, cells=route.cells))}
    assert there == everywhere or condition == Condition()
    assert len(route.cells) <= route.possible


def test_a_cell_that_claims_to_hold_everything_cuts_no_route_short() -> None:
    documents = [document(number, text, cell=int(home)) for number, (text, home) in enumerate(zip(TEXTS, HOMES, strict=True))]
    honest = summaries(documents)
    asked = question(TEXTS[0])
    before = chart(CODEBOOK, honest).route(asked).cells
    for liar in (before[0], before[len(before) // 2]):
        told = chart(CODEBOOK, {**honest, liar: dataclasses.replace(honest[liar], records=limits.CELL_RECORDS)}).route(asked).cells
        assert len(told) > len(before) / 3 and before[0] in told


def test_cells_of_which_no_summary_is_known_are_not_ruled_out() -> None:
    half = {cell: summary for cell, summary in summaries([]).items() if cell % 2}
    condition = Condition(every=(("rare",),), none=("common",), cost=5)
    assert chart(CODEBOOK, half).route(question("chess1"), condition).possible == 32


def test_what_a_summary_had_no_room_to_name_is_not_ruled_out() -> None:
    crowded = Summary(3, 9, np.zeros(0, np.uint32), np.array([2], np.uint32), np.array([9], np.uint32), 1, (9, *[0] * (limits.COSTS - 1)))
    assert chart(CODEBOOK, {**summaries([]), 3: crowded}).route(question("chess1"), Condition(every=(("rare",),))).cells == (3,)


@pytest.mark.filterwarnings("error")
def test_points_longer_than_any_record_overflow_nothing() -> None:
    long = dataclasses.replace(CODEBOOK, points=np.full_like(CODEBOOK.points, 127))
    near = codebooks.decode(codebooks.encode(long)).nearness(np.full(384, 384**-0.5, np.float32))
    assert np.isfinite(near).all()
