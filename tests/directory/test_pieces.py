"""Comparing piece by piece: against a plain computation, and what it does to a ranking."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.storage.index.index import Index
from meshos.storage.index.limits import PIECES, RERANKED
from meshos.storage.index.pieces import PIECE_BYTES, PIECE_NUMBERS, Floats, Reading, alike, nearness, telling, unpacked
from meshos.storage.index.question import ask
from meshos.storage.index.segment import Document

SAME = np.full(PIECE_NUMBERS, PIECE_NUMBERS**-0.5, np.float32)


def pieces(seed: int, count: int) -> Floats:
    found = np.random.default_rng(seed).normal(size=(count, PIECE_NUMBERS)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def signs(numbers: Floats) -> bytes:
    return Reading(SAME, numbers, ()).signs()


texts = st.lists(st.tuples(st.integers(0, 99), st.integers(0, 5)), max_size=6)


@given(st.integers(0, 6), texts)
@settings(max_examples=60, deadline=None)
def test_nearness_is_that_of_a_plain_computation(count: int, given_texts: list[tuple[int, int]]) -> None:
    asked, weights = pieces(1000, count), np.arange(1, count + 1, dtype=np.float32)
    held = [pieces(seed, size) for seed, size in given_texts]
    found = nearness(asked, weights, [unpacked(signs(one)) for one in held])
    for one, near in zip(held, found, strict=True):
        if not len(one) or not count:
            assert near == 0
            continue
        as_signs = np.where(one > 0, 1, -1) / PIECE_NUMBERS**0.5
        expected = sum(weight * max(float(piece @ row) for row in as_signs) for piece, weight in zip(asked, weights, strict=True))
        assert near == pytest.approx(expected / weights.sum(), abs=1e-4)


def test_a_text_is_nearest_to_itself() -> None:
    held = [unpacked(signs(pieces(seed, 4))) for seed in range(10)]
    near = nearness(pieces(7, 4), np.ones(4, np.float32), held)
    assert near.argmax() == 7 and 0.7 < near[7] < 1


def test_the_share_of_equal_signs() -> None:
    some = signs(pieces(1, 2))
    turned = bytes([some[0] ^ 1, *some[1:]])
    assert alike(some, some) == alike(b"", b"") == 1
    assert alike(some, turned) == pytest.approx(1 - 1 / 768)
    assert alike(some, some[:PIECE_BYTES]) == alike(some, b"") == 0
    assert alike(some, signs(-pieces(1, 2))) < 0.01


def test_only_telling_pieces_count_unless_there_are_no_others_and_only_so_many() -> None:
    assert telling(["what", "'", "chess", "is", "12306"]) == [2, 4]
    assert telling(["what", "?"]) == [0, 1] and telling([]) == []
    assert telling(["word"] * 500) == list(range(PIECES))


def test_pieces_decide_between_texts_that_are_alike_as_a_whole_and_survive_merges() -> None:
    index = Index()
    for number in range(RERANKED):
        index.update([Document(f"k{number}", "read", SAME, None, signs(pieces(number, 3)))])
    for number in range(0, RERANKED, 3):
        index.update([], [f"k{number}"])
    for number in (1, 50, 98):
        snapshot = index.snapshot()
        hits = snapshot.search(ask("read", Reading(SAME, pieces(number, 3), ("a", "b", "c")), snapshot), 5)
        assert hits[0].key == f"k{number}" and hits[0].score > hits[1].score


def test_a_document_without_pieces_is_found_all_the_same() -> None:
    index = Index()
    index.update([Document("bare", "read", SAME), Document("other", "write", -SAME, None, signs(pieces(1, 3)))])
    snapshot = index.snapshot()
    hits = snapshot.search(ask("read", Reading(SAME, pieces(2, 2), ("read", "read")), snapshot), 5)
    assert [hit.key for hit in hits] == ["bare", "other"]
