"""Whose records are refused: of organisations that have cheated too often, and single records that were refused before. Until a restart."""

from collections import Counter

from meshos.ids import OrgDid
from meshos.protocols.directory import limits


class Refusals:
    """An organisation is refused for ``REFUSED_S`` once it has cheated more often than is tolerated. The count stays when the refusal has
    lapsed: one more, and it is refused again.
    """

    def __init__(self) -> None:
        self._cheats: Counter[OrgDid] = Counter()
        self._refused: dict[OrgDid, float] = {}
        self._unwanted: dict[bytes, float] = {}  # digests, and until when; the latest last

    def count(self, now: float, org: OrgDid) -> None:
        """A vector of this organisation turned out not to be of its text."""
        if org in self._cheats or len(self._cheats) < limits.REMEMBERED_ORGS:
            self._cheats[org] += 1
            if self._cheats[org] > limits.CHEATS_TOLERATED:
                self._refused[org] = now + limits.REFUSED_S

    def refused(self, now: float) -> frozenset[OrgDid]:
        """The organisations of which nothing is taken in now."""
        for org in [org for org, until in self._refused.items() if until <= now]:
            del self._refused[org]
        return frozenset(self._refused)

    def shun(self, digest: bytes, until: float) -> None:
        """The record of this digest is not wanted again until then."""
        self._unwanted.pop(digest, None)
        self._unwanted[digest] = until
        if len(self._unwanted) > limits.REMEMBERED_REFUSALS:
            del self._unwanted[next(iter(self._unwanted))]

    def shuns(self, now: float, digest: bytes) -> bool:
        """Whether the record of this digest is not wanted."""
        return self._unwanted.get(digest, now) > now

    @property
    def cheats(self) -> int:
        """How often organisations have cheated here."""
        return sum(self._cheats.values())
