"""The memory of half received messages: one pool for all links of a node, with a share for each organisation.

Node ids cost an organisation nothing, so the share is the organisation's, over all its connections. A connection that
would exceed it is refused, and nobody else is disturbed. Shares add up to more than the pool, as few are used at once; if the
pool itself runs short, the organisation that holds most loses its largest connection, and not whoever happens to send next.
"""

from collections import Counter
from collections.abc import Callable

from meshos.errors import Refused, busy
from meshos.ids import OrgDid
from meshos.protocols.rpc.limits import ALL_LINKS_PARTIAL_BYTES, PARTIAL_BYTES_PER_ORG

WHAT = "the memory for half received messages"


class Holding:
    """What one connection of ``org`` holds. ``evict`` must give all of it back, at once."""

    __slots__ = ("bytes", "evict", "org")

    def __init__(self, org: OrgDid, evict: Callable[[Refused], None]) -> None:
        self.org = org
        self.evict = evict
        self.bytes = 0


class Partials:
    """The pool: ``limit`` bytes in all, ``share`` for one organisation."""

    def __init__(self, limit: int = ALL_LINKS_PARTIAL_BYTES, share: int = PARTIAL_BYTES_PER_ORG) -> None:
        self.limit = limit
        self.share = share
        self.used = 0
        self.evicted = 0  # connections, since the start
        self._of_org: Counter[OrgDid] = Counter()
        self._holdings: dict[Holding, None] = {}  # those that hold something, oldest first

    def take(self, holding: Holding, count: int) -> None:
        """``count`` bytes more; raises Refused ``busy`` if the connection that ``holding`` belongs to must be closed for it."""
        if not count:
            return
        if self._of_org[holding.org] + count > self.share:
            raise busy(f"the share of {holding.org} in {WHAT}")
        while self.used + count > self.limit:
            largest = self._largest()
            if largest is None or largest is holding:
                raise busy(WHAT)
            self.evicted += 1
            largest.evict(busy(WHAT))
            assert not largest.bytes, "an evicted connection holds nothing"
        self.used += count
        self._of_org[holding.org] += count
        holding.bytes += count
        self._holdings[holding] = None

    def give(self, holding: Holding, count: int) -> None:
        """``count`` bytes are complete or dropped."""
        holding.bytes -= count
        self.used -= count
        self._of_org[holding.org] -= count
        assert holding.bytes >= 0 and self.used >= 0
        if not holding.bytes:
            self._holdings.pop(holding, None)
        if not self._of_org[holding.org]:
            del self._of_org[holding.org]

    def _largest(self) -> Holding | None:
        """The largest holding of the organisation that holds most."""
        return max(self._holdings, key=lambda each: (self._of_org[each.org], each.bytes), default=None)
