"""Whether a codebook still fits what is published, and whether another may take its place.

What is published changes and a codebook does not: some cells become crowded, or all of them too full or too empty. The next one has every
node lay anew what it holds. So the present one stays until it is worn beyond what a new one is anywhere near, or the next one leads
questions clearly better; and no codebook comes into force that would be worn at once.
"""

import numpy as np
from numpy.typing import NDArray

from meshos.protocols.directory.cells import limits
from meshos.protocols.directory.cells.codebook import Codebook, whole_numbers
from meshos.protocols.directory.cells.quality import quality
from meshos.protocols.directory.vector import Vector


def worn(sizes: NDArray[np.float64], records: float) -> bool:
    """Whether a codebook is to be followed by another. ``sizes``: how many records there are in each cell, of all that are published or of
    some that stand for them; ``records``: how many are published.
    """
    cells = len(sizes)
    crowded = sizes.max() * cells > limits.WORN_BALANCE * sizes.sum()
    too_few = cells < limits.CELLS[1] and records > limits.WORN_GROWTH * limits.RECORDS_A_CELL * cells
    too_many = cells > limits.CELLS[0] and 2 * limits.WORN_GROWTH * records < limits.RECORDS_A_CELL * cells
    return bool(crowded) or too_few or too_many


def succeeds(present: Codebook, successor: Codebook, vectors: Vector, placed_by: list[bytes], records: float) -> bool:
    """Whether ``successor`` may take the place of ``present``, by records drawn from all of ``records`` (as ``quality`` takes them). For
    worker threads: two seconds.
    """
    found = quality(successor, vectors, placed_by)
    if not found.good or worn(_sizes(successor, placed_by), records):
        return False
    return worn(_sizes(present, placed_by), records) or found.recall >= quality(present, vectors, placed_by).recall + limits.RECALL_GAINED


def _sizes(codebook: Codebook, placed_by: list[bytes]) -> NDArray[np.float64]:
    return np.bincount(codebook.place(whole_numbers(placed_by)), minlength=codebook.cells).astype(np.float64)
