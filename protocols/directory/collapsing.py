"""Near-equal agents of one organisation, which an answer shows as one: the best of them, with how many others there are.

Two records are *alike* if they are of one organisation, their vectors are within NEAR of each other, and they share half of their pairs of
neighbouring words. Vectors alone do not tell "RGB to HEX" from "HEX to RGB" (.998), pairs of words do. Of the 51,939 pairs of real
cards of one organisation 39 are near and 26 alike, half of these cards without a description; of two servers of one owner 1. The same
text published by several organisations stays apart: owners differ, and callers choose by trust and price.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np

from meshos.ids import OrgDid
from meshos.protocols.directory import limits
from meshos.protocols.directory.record import AgentRecord
from meshos.storage.index.limits import NEAR
from meshos.storage.index.words import words


def grouped(records: Sequence[AgentRecord]) -> list[list[int]]:
    """The places of ``records``: the first of each group, in their order, and after it those that are alike to it. What comes later
    changes no group's first. For worker threads: a millisecond or two for a hundred records that are all near one another.
    """

    @cache
    def pairs(place: int) -> frozenset[tuple[str, str]]:
        return neighbours(records[place].profile.text())

    of_org: dict[OrgDid, list[int]] = {}
    for place, record in enumerate(records):
        of_org.setdefault(record.mesh_id, []).append(place)
    groups: list[list[int]] = []
    for places in of_org.values():
        vectors = np.stack([records[place].meaning() for place in places])
        near = vectors @ vectors.T >= NEAR
        free = np.ones(len(places), np.bool_)
        for at, place in enumerate(places):
            if free[at]:
                free[at] = False
                others = [other for other in np.flatnonzero(near[at] & free).tolist() if share(pairs(place), pairs(places[other]))]
                free[others] = False
                groups.append([place, *(places[other] for other in others)])
    return sorted(groups)


def neighbours(text: str) -> frozenset[tuple[str, str]]:
    """The pairs of neighbouring words of a text, its ends included."""
    found = words(text)
    return frozenset(zip(["", *found], [*found, ""], strict=True))


def share(one: frozenset[tuple[str, str]], other: frozenset[tuple[str, str]]) -> bool:
    """Whether two texts have enough pairs of words in common to be alike."""
    return len(one & other) >= limits.PAIRS_ALIKE * len(one | other)
