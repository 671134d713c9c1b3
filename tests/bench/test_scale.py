"""The parts of the measurement at scale that decide what is measured."""

import numpy as np
import pytest

from meshos.bench import scale
from meshos.protocols.directory.cells.routing import Route
from meshos.storage.index.pieces import PIECE_NUMBERS, Reading


def cards(count: int) -> scale.Cards:
    vectors = np.random.default_rng(1).normal(size=(count, PIECE_NUMBERS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return scale.Cards([f"c{n}" for n in range(count)], ["chess"] * count, [Reading(one, vectors[:2], ("a", "b")) for one in vectors])


def test_records_are_as_near_to_their_cards_as_is_said_and_the_same_again() -> None:
    given = cards(5)
    dense = scale._vectors(given, 40)
    for row, vector in enumerate(dense.astype(np.float32)):
        assert float(vector @ given.read[row % 5].vector) == pytest.approx(scale.COSINE, abs=1e-3)
        assert float(np.linalg.norm(vector)) == pytest.approx(1, abs=1e-3)
    assert np.array_equal(dense, scale._vectors(given, 40)) and not np.array_equal(dense[0], dense[5])


@pytest.mark.parametrize("copies", [1, 3])
def test_a_cells_holders_are_distinct_and_have_like_shares(copies: int) -> None:
    holders = [scale._holders_of(cell, copies) for cell in range(1024)]
    assert all(len(set(some)) == copies for some in holders)
    held = np.bincount([holder for some in holders for holder in some], minlength=scale.HOLDERS)
    assert held.max() <= 1.3 * held.mean()


def test_each_cell_is_asked_for_at_one_of_its_holders_and_no_holder_is_asked_for_many_more_than_others() -> None:
    holders = [scale._holders_of(cell, 3) for cell in range(1024)]
    cells = tuple(range(0, 1024, 16))
    pick = scale._spread(Route(cells, 0, 1024), holders)
    asked = [(cell, holder) for holder, some in pick.items() for cell in some]
    assert sorted(cell for cell, _ in asked) == list(cells) and all(holder in holders[cell] for cell, holder in asked)
    assert max(map(len, pick.values())) <= 2 * len(cells) / scale.HOLDERS


def test_a_record_has_bytes_of_its_own() -> None:
    given = cards(2)
    signs = [one.signs() for one in given.read]
    document = scale._document(given, signs, scale._vectors(given, 4), np.array([3, 4, 5, 6], np.int32), 2)
    assert document.pieces == signs[0] and document.pieces is not signs[0] and document.cells == (5,) and document.key == "c0/2"
    assert float(np.linalg.norm(document.dense)) == pytest.approx(1)
