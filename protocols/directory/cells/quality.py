"""Whether a codebook is good, by one's own records: what every organisation finds out for itself before it endorses one.

Who trains a codebook could make one that sends questions astray, or lays everything on few nodes. So a sample of records is taken for
questions: the nearest of the others should lie in the fifth of the cells that the codebook would have asked, and no cell should be
crowded. Words play no part, since whoever checks may not hold what they lead to.
"""

from dataclasses import dataclass

import numpy as np

from meshos.protocols.directory.cells import limits
from meshos.protocols.directory.cells.codebook import Codebook, whole_numbers
from meshos.protocols.directory.vector import Vector


@dataclass(frozen=True, slots=True)
class Quality:
    """``recall``: of the ten nearest records of a record, the share in the cells that a question like it is sent to. ``balance``: the
    largest cell over the mean. ``records`` is how many it was found with."""

    recall: float
    balance: float
    records: int

    @property
    def good(self) -> bool:
        """Whether the codebook may be endorsed."""
        return self.recall >= limits.GOOD_RECALL and self.balance <= limits.GOOD_BALANCE


def quality(codebook: Codebook, vectors: Vector, placed_by: list[bytes]) -> Quality:
    """By records with these ``vectors`` (rows of length 1), which are ``placed_by`` their whole numbers. For worker threads: a second."""
    homes = codebook.place(whole_numbers(placed_by))
    sizes = np.bincount(homes, minlength=codebook.cells)
    sample = np.linspace(0, len(vectors) - 1, min(len(vectors), limits.CHECKED_WITH)).astype(np.int64)
    shares = []
    for row in sample:
        near = np.argsort(-(vectors @ vectors[row]), kind="stable")[1:11]
        order = np.argsort(-codebook.nearness(vectors[row]), kind="stable")
        asked = order[: np.searchsorted(np.cumsum(sizes[order]), limits.SCANNED * len(vectors), side="right")]
        shares.append(float(np.isin(homes[near], asked).mean()))
    crowd = max(1.0, len(vectors) / codebook.cells)
    return Quality(float(np.mean(shares)), float(sizes.max() / crowd), len(vectors))
