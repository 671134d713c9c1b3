"""For whom a node relays, and how much."""

from dataclasses import dataclass

from meshos.buckets import Bucket, Buckets
from meshos.ids import OrgDid, Peer
from meshos.protocols.relay.limits import BURST_S, BYTES_PER_S, ORGS


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


class Bandwidth:
    """How long bytes have to wait, so that no more than ``bytes_per_s`` go in all, and half of it for one organisation.

    What is taken beyond what a bucket holds is a debt, and waits until that is paid. Every leg has one piece under way at most, so pieces
    take turns and all legs get the same.
    """

    def __init__(self, bytes_per_s: int) -> None:
        self._all = Bucket(bytes_per_s, bytes_per_s * BURST_S)
        self._orgs = Buckets(bytes_per_s / 2, bytes_per_s * BURST_S / 2, ORGS)

    def wait(self, now: float, org: OrgDid, count: int) -> float:
        """Take ``count`` bytes for ``org``, and send them after so many seconds."""
        return max(self._all.spend(now, count), self._orgs.of(org).spend(now, count))
