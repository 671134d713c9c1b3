"""Room for others: of documents that are near-equal and share a facet (their owner's, say) only so many are candidates.

Candidates are the few that score best, and one owner's hundred copies of a text would be all of them. So the vectors of the best are
compared with one another; of a *crowd*, the documents of one facet within ``NEAR`` of its best one, ``CROWD`` stay, and the next best of
others move up. Where there is no crowd, nothing changes, and it costs a quarter of a millisecond.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshos.storage.index.limits import CROWD, CROWDS, NEAR

Floats = NDArray[np.float32]
Places = NDArray[np.intp]

Best = Callable[[Floats], Places]
"""The best places by these scores, best first; none whose score is minus infinity."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What crowds are looked for among. ``facet`` names that of a place, ``having`` gives the places with one, ``vectors`` theirs."""

    facet: Callable[[int], str]
    having: Callable[[str], Places]
    vectors: Callable[[Places], Floats]


def with_room(scores: Floats, found: Places, best: Best, among: Candidates) -> tuple[Places, dict[int, int]]:
    """The best places (``found`` are those without regard to crowds), of each crowd no more than ``CROWD``; and for the best place of each
    how many were left out behind it. Of ``CROWDS`` crowds at most, so that nobody makes a question cost more than so many comparisons with
    what he has published.
    """
    behind: dict[int, int] = {}
    while len(behind) < CROWDS:
        crowded = _crowds(found, among)[: CROWDS - len(behind)]
        if not crowded:
            break
        scores = scores.copy()
        for place in crowded:
            behind[place] = _cut(scores, place, among)
        found = best(scores)
    return found, behind


def _crowds(found: Places, among: Candidates) -> list[int]:
    """The best place of each crowd that has more than ``CROWD`` among ``found``."""
    vectors = among.vectors(found)
    near = vectors @ vectors.T >= NEAR
    if not len(found) or near.sum(axis=1).max() <= CROWD:
        return []
    facets = np.unique([among.facet(place) for place in found.tolist()], return_inverse=True)[1]
    near &= facets[:, None] == facets[None, :]
    free, firsts = np.ones(len(found), np.bool_), []
    for at, place in enumerate(found.tolist()):
        if free[at]:
            crowd = near[at] & free
            free &= ~crowd
            if crowd.sum() > CROWD:
                firsts.append(place)
    return firsts


def _cut(scores: Floats, place: int, among: Candidates) -> int:
    """Take the crowd of ``place`` out of ``scores`` but for it and its best, which may belong to other crowds too; how many went."""
    places = among.having(among.facet(place))
    places = places[scores[places] > -np.inf]
    (vector,) = among.vectors(np.array([place], np.intp))
    crowd = places[among.vectors(places) @ vector >= NEAR]
    others = crowd[crowd != place]
    gone = others[np.argsort(-scores[others], kind="stable")][CROWD - 1 :]
    scores[gone] = -np.inf
    return len(gone)
