"""What one sender's gossip may cost this node: token buckets of datagrams and of signature checks, by node and by organisation.

Whoever holds a certificate of a member organisation is heard, and an organisation makes as many nodes as it likes. So each sender has
a bucket, and all nodes of its organisation have one together; who has emptied either is not heard for a moment, and nobody
else notices. A datagram is counted once its box has opened: before that, its sender is only claimed, and anybody could empty another's
bucket. Its signature checks are counted before they are made. What comes over links (lane.py) has a budget of its own, a smaller one.
"""

from meshos.buckets import Buckets
from meshos.ids import Peer
from meshos.protocols.membership import limits


class _Budget:
    """One kind of cost: a sender's bucket, and its organisation's."""

    def __init__(self, node: tuple[float, float], org: tuple[float, float]) -> None:
        self._of_node = Buckets(*node, limits.CREDENTIALS)
        self._of_org = Buckets(*org, limits.CREDENTIALS)
        self.refused = 0

    def take(self, sender: Peer, cost: int, now: float) -> bool:
        """Whether both buckets had ``cost`` tokens; if not, none was taken."""
        node, org = self._of_node.of(sender.node), self._of_org.of(sender.org)
        if node.level(now) < cost or org.level(now) < cost:
            self.refused += 1
            return False
        node.spend(now, cost)
        org.spend(now, cost)
        return True


class GossipBudget:
    """Both kinds. Times are in seconds of any one clock that does not go back. ``of_node`` and ``of_org`` are shares of the limits."""

    def __init__(self, of_node: float = 1.0, of_org: float = 1.0) -> None:
        self._datagrams = _Budget(_part(of_node, limits.DATAGRAMS_OF_NODE), _part(of_org, limits.DATAGRAMS_OF_ORG))
        self._checks = _Budget(_part(of_node, limits.CHECKS_OF_NODE), _part(of_org, limits.CHECKS_OF_ORG))

    def datagram(self, sender: Peer, now: float) -> bool:
        """Whether one more datagram of ``sender`` is heard."""
        return self._datagrams.take(sender, 1, now)

    def checks(self, sender: Peer, count: int, now: float) -> bool:
        """Whether ``count`` signatures that came with ``sender``'s datagram are checked."""
        return self._checks.take(sender, count, now)

    def statistics(self) -> dict[str, int]:
        """Datagrams that were not heard, and datagrams whose news were not checked."""
        return {"over_budget": self._datagrams.refused, "over_budget_checks": self._checks.refused}


def _part(share: float, bucket: tuple[float, float]) -> tuple[float, float]:
    return share * bucket[0], share * bucket[1]
