"""For whom a node relays, and how much; and how often anybody may ask for anything."""

from collections import OrderedDict
from dataclasses import dataclass

from meshos.ids import NodeId, OrgDid, Peer
from meshos.protocols.relay.limits import BURST_S, BYTES_PER_S, REMEMBERED


@dataclass(frozen=True, slots=True)
class Policy:
    """Relaying costs nobody anything; it is bounded instead. ``own_only``: one of the two is of this node's organisation."""

    serve: bool = True
    own_only: bool = False
    bytes_per_s: int = BYTES_PER_S
    punch: bool = True
    """Whether this node looks for a direct way through routers, over QUIC, for its own links that are relayed."""

    def allows(self, me: Peer, caller: Peer, called: Peer) -> bool:
        """Whether ``me`` relays between these."""
        return self.serve and (not self.own_only or me.org in (caller.org, called.org))


USUAL = Policy()


class Often:
    """Each member may act ``burst`` times at once, and ``per_s`` times a second after that."""

    def __init__(self, burst: int, per_s: int) -> None:
        self._burst, self._per_s = burst, per_s
        self._tokens: OrderedDict[NodeId, tuple[float, float]] = OrderedDict()  # how many, and when; who acted longest ago first

    def take(self, now: float, node: NodeId) -> bool:
        """Whether ``node`` may now."""
        tokens, at = self._tokens.pop(node, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - at) * self._per_s)
        allowed = tokens >= 1
        self._tokens[node] = (tokens - 1 if allowed else tokens, now)
        if len(self._tokens) > REMEMBERED:
            self._tokens.popitem(last=False)
        return allowed


class Bandwidth:
    """How long bytes have to wait, so that no more than ``bytes_per_s`` go in all, and half of it for one organisation.

    The generic cell rate algorithm (ITU-T I.371): a clock for each runs ahead of now by what was taken, and who would push one further
    ahead than BURST_S waits. Every leg has one piece under way at most, so that pieces take turns and all legs get the same.
    """

    def __init__(self, bytes_per_s: int) -> None:
        self._rate = float(bytes_per_s)
        self._free_at = 0.0
        self._orgs: dict[OrgDid, float] = {}

    def wait(self, now: float, org: OrgDid, count: int) -> float:
        """Take ``count`` bytes for ``org``, and send them after so many seconds."""
        self._free_at = max(self._free_at, now) + count / self._rate
        own = max(self._orgs.pop(org, 0.0), now) + 2 * count / self._rate
        self._orgs[org] = own
        while (oldest := next(iter(self._orgs))) != org and self._orgs[oldest] <= now:
            del self._orgs[oldest]  # a clock that does not run ahead is as good as none
        return max(0.0, max(self._free_at, own) - now - BURST_S)
