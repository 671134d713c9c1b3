"""How much one node may fetch: what it asks for is small, what it gets is not."""

from meshos.consensus.pbft.limits import FETCHED_BYTES_PER_S, MAX_PEERS
from meshos.ids import NodeId


class Allowance:
    """Bytes of each node, for each second."""

    def __init__(self) -> None:
        self._taken: dict[NodeId, tuple[float, int]] = {}

    def take(self, node: NodeId, size: int, now: float) -> bool:
        """Whether ``node`` may have so many bytes more now; the first of each second always."""
        since, taken = self._taken.get(node, (now, 0))
        if now - since >= 1.0:
            since, taken = now, 0
        if taken >= FETCHED_BYTES_PER_S:
            return False
        if len(self._taken) >= MAX_PEERS:
            self._taken.clear()
        self._taken[node] = (since, taken + size)
        return True
