"""How much one node may fetch: what it asks for is small, what it gets is not, nor is finding it.

Asked before anything is read for an answer, and told after it what the answer was worth.
"""

from meshos.consensus.pbft.limits import FETCHED_BYTES_PER_S, FETCHED_OVERHEAD, MAX_PEERS
from meshos.ids import NodeId


class Allowance:
    """Bytes of each node, for each second."""

    def __init__(self) -> None:
        self._taken: dict[NodeId, tuple[float, int]] = {}

    def has_more(self, node: NodeId, now: float) -> bool:
        """Whether ``node`` may have anything more in this second."""
        since, taken = self._taken.get(node, (now, 0))
        return now - since >= 1.0 or taken < FETCHED_BYTES_PER_S

    def take(self, node: NodeId, size: int, now: float, *, parts: int = 1) -> None:
        """It gets ``size`` bytes, of so many parts that were looked for one by one."""
        since, taken = self._taken.get(node, (now, 0))
        if now - since >= 1.0:
            since, taken = now, 0
        if len(self._taken) >= MAX_PEERS:
            self._taken.clear()
        self._taken[node] = (since, taken + size + FETCHED_OVERHEAD * (1 + parts))
