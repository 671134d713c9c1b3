"""Making a codebook from records: spherical k-means for cells, again within each for its points, then prices until cells are balanced.

k-means on unit vectors is Dhillon and Modha 2001, seeded as Arthur and Vassilvitskii 2007 do. Prices are those of an auction (Bertsekas
1988): what is crowded becomes dearer, so that records at its edge go next door. Everything follows from the records and the seed.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from meshos.errors import Refused
from meshos.protocols.directory.cells import limits
from meshos.protocols.directory.cells.codebook import Codebook, Integers, Vocabulary
from meshos.protocols.directory.vector import SCALE, Vector
from meshos.storage.index.words import stem, words

Random = np.random.Generator

CHUNK = 4_096
"""Rows whose nearness to all points is computed at once: of all 60,000 to 16,384 points it would be 4 GB, twice."""


def sizes_for(records: int) -> tuple[int, int]:
    """How many cells for so many records, and how many points each."""
    cells, most = limits.CELLS
    while cells < most and records > cells * limits.RECORDS_A_CELL:
        cells *= 2
    few, many = limits.SUBCENTROIDS
    return cells, max(few, min(many, int(records / (cells * limits.RECORDS_A_SUBCENTROID))))


def train(version: int, model: str, vectors: Vector, texts: Sequence[str], seed: int, sizes: tuple[int, int] | None = None) -> Codebook:
    """A codebook of the records with these ``vectors`` (rows of length 1) and ``texts``, of as many cells and points each as ``sizes``
    says or ``sizes_for`` finds fit. For worker threads: two seconds for 5,000, a minute for 100,000. Raises Refused
    ``too-few-records`` below one for each of the fewest cells.
    """
    if len(vectors) < limits.CELLS[0]:
        raise Refused("too-few-records", f"a codebook is trained on {limits.CELLS[0]} records or more, not on {len(vectors)}")
    dice = np.random.default_rng(seed)
    cells, points_each = sizes or sizes_for(len(vectors))
    if len(vectors) > limits.TRAINING_RECORDS:
        vectors = vectors[np.sort(dice.choice(len(vectors), limits.TRAINING_RECORDS, replace=False))]
    centres = _kmeans(vectors, cells, limits.ROUNDS, dice)
    home = _balanced(vectors @ centres.T, 1.0)[0]
    points, cell_of = [], []
    for cell in range(cells):
        there = vectors[home == cell]
        mine = _kmeans(there, min(points_each, len(there)), limits.SUB_ROUNDS, dice) if len(there) else centres[cell : cell + 1]
        points.append(mine)
        cell_of += [cell] * len(mine)
    whole = _whole(np.concatenate(points))
    numbers = np.array(cell_of, np.int32)
    rows = _whole(vectors)
    some = [slice(start, start + CHUNK) for start in range(0, len(rows), CHUNK)]
    near = np.concatenate([_best_of_cells(rows[part] @ whole.T, numbers, cells) for part in some])
    _, prices = _balanced(near, float(SCALE**2))
    nearest = [(rows[part] @ whole.T - prices[numbers]).argmax(axis=1) for part in some]
    weights = np.bincount(np.concatenate(nearest), minlength=len(numbers))
    return Codebook(
        version,
        model,
        cells,
        whole.astype(np.int8),
        numbers,
        np.maximum(1, weights).astype(np.int32),
        prices.astype(np.int32),
        vocabulary(texts),
    )


def vocabulary(texts: Sequence[str]) -> Vocabulary:
    """How often words occur in ``texts``."""
    stems, spelt, length = Counter[str](), Counter[str](), 0
    for text in texts:
        found = words(text)
        length += len(found)
        spelt.update(set(found))
        stems.update({stem(word) for word in found})
    return Vocabulary(max(1, len(texts)), max(1.0, length / max(1, len(texts))), _commonest(stems), _commonest(spelt))


def _commonest(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: limits.VOCABULARY])


def _whole(vectors: Vector) -> Integers:
    return np.clip(np.rint(vectors * SCALE), -127, 127).astype(np.float32)


def _kmeans(vectors: Vector, count: int, rounds: int, dice: Random) -> Vector:
    """``count`` centres of length 1; a cluster that has lost all its rows keeps its centre."""
    centres = _scattered(vectors, count, dice)
    for _ in range(rounds):
        home = (vectors @ centres.T).argmax(axis=1)
        order = np.argsort(home, kind="stable")
        having, starts = np.unique(home[order], return_index=True)
        sums = np.add.reduceat(vectors[order], starts, axis=0)
        centres[having] = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), np.float32(1e-9))
    return centres


def _scattered(vectors: Vector, count: int, dice: Random) -> Vector:
    """Rows far from one another, to begin with: each is drawn by its distance from those before."""
    chosen = [int(dice.integers(len(vectors)))]
    nearest = vectors @ vectors[chosen[0]]
    for _ in range(count - 1):
        distance = np.maximum(1 - nearest.astype(np.float64), 0) + 1e-9
        chosen.append(int(dice.choice(len(vectors), p=distance / distance.sum())))
        np.maximum(nearest, vectors @ vectors[chosen[-1]], out=nearest)
    return vectors[chosen].copy()


def _best_of_cells(near: Integers, cell_of: NDArray[np.int32], cells: int) -> Integers:
    """For each row the nearness of each cell's nearest point."""
    return np.maximum.reduceat(near, np.searchsorted(cell_of, np.arange(cells)), axis=1)


def _balanced(near: Vector, unit: float) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """The cell of each row by ``near`` less a price, and the prices: raised where it is crowded until the largest cell is within
    ``TRAINED_BALANCE`` of the mean; the best that were seen otherwise. Where a nearness of ``unit`` is large they are whole numbers.
    """
    rows, cells = near.shape
    prices = np.zeros(cells, np.float32)
    best, best_prices, step = np.inf, prices, 0.02 * unit
    for _ in range(limits.BALANCING_ROUNDS):
        sizes = np.bincount((near - prices).argmax(axis=1), minlength=cells)
        crowding = sizes * (cells / rows)
        if crowding.max() < best:
            best, best_prices = crowding.max(), prices
        if best <= limits.TRAINED_BALANCE:
            break
        moved = prices + np.float32(step) * np.clip(crowding - 1, -0.5, 1)
        prices = np.rint(moved).astype(np.float32) if unit > 1 else moved.astype(np.float32)
        step = max(step * 0.98, 0.001 * unit)
    return (near - best_prices).argmax(axis=1), best_prices
