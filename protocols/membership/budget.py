"""What one sender's gossip may cost this node: token buckets of datagrams and of signature checks, by node and by organisation.

Whoever holds a certificate of a member organisation is heard, and an organisation makes as many nodes as it likes. So each sender has
a bucket, and all nodes of its organisation have one together; who has emptied either is not heard for a moment, and nobody
else notices. A datagram is counted once its box has opened: before that, its sender is only claimed, and anybody could empty another's
bucket. Its signature checks are counted before they are made.
"""

from collections import OrderedDict
from collections.abc import Hashable

from meshos.ids import Peer
from meshos.protocols.membership import limits


class _Buckets:
    """Buckets by key that hold ``burst`` tokens and gain ``per_s`` a second; the longest unused is forgotten, which fills it."""

    def __init__(self, per_s: float, burst: float, size: int) -> None:
        self._per_s, self._burst, self._size = per_s, burst, size
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # tokens, and when they were counted

    def level(self, key: Hashable, now: float) -> float:
        """The tokens that are there now."""
        tokens, since = self._levels.get(key, (self._burst, now))
        return min(self._burst, tokens + (now - since) * self._per_s)

    def set(self, key: Hashable, tokens: float, now: float) -> None:
        """So many are left."""
        self._levels[key] = (tokens, now)
        self._levels.move_to_end(key)
        if len(self._levels) > self._size:
            self._levels.popitem(last=False)


class _Budget:
    """One kind of cost: a sender's bucket, and its organisation's."""

    def __init__(self, node: tuple[float, float], org: tuple[float, float]) -> None:
        self._of_node = _Buckets(*node, limits.CREDENTIALS)
        self._of_org = _Buckets(*org, limits.CREDENTIALS)
        self.refused = 0

    def take(self, sender: Peer, cost: int, now: float) -> bool:
        """Whether both buckets had ``cost`` tokens; if not, none was taken."""
        node, org = self._of_node.level(sender.node, now) - cost, self._of_org.level(sender.org, now) - cost
        if node < 0 or org < 0:
            self.refused += 1
            return False
        self._of_node.set(sender.node, node, now)
        self._of_org.set(sender.org, org, now)
        return True


class GossipBudget:
    """Both kinds. Times are in seconds of any one clock that does not go back."""

    def __init__(self) -> None:
        self._datagrams = _Budget(limits.DATAGRAMS_OF_NODE, limits.DATAGRAMS_OF_ORG)
        self._checks = _Budget(limits.CHECKS_OF_NODE, limits.CHECKS_OF_ORG)

    def datagram(self, sender: Peer, now: float) -> bool:
        """Whether one more datagram of ``sender`` is heard."""
        return self._datagrams.take(sender, 1, now)

    def checks(self, sender: Peer, count: int, now: float) -> bool:
        """Whether ``count`` signatures that came with ``sender``'s datagram are checked."""
        return self._checks.take(sender, count, now)

    def statistics(self) -> dict[str, int]:
        """Datagrams that were not heard, and datagrams whose news were not checked."""
        return {"over_budget": self._datagrams.refused, "over_budget_checks": self._checks.refused}
