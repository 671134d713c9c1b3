"""What strangers may cost this node: tokens, of which one is about a millisecond of its processor.

Three buckets have to agree: that of the peer (its key, which costs nothing to make), that of its address (an IPv4 address, or an IPv6
network of 64 bits, which is what one customer has), and that of all together. The last one is what protects the node; the first two
share it out. A bucket fills up with time and holds only so much, so who was quiet may ask at once, and nobody for long.

A refusal costs two look-ups and takes nothing. The tables hold a fixed number; of who was quiet longest the count is forgotten.
"""

from dataclasses import dataclass

from meshos.buckets import Bucket, Buckets, block_of
from meshos.errors import Refused
from meshos.protocols.square import limits


@dataclass(frozen=True, slots=True)
class Rate:
    """So many tokens a second, of which so many are saved."""

    a_second: int
    saved: int


@dataclass(frozen=True, slots=True)
class Rates:
    """For one peer, one address, and all."""

    peer: Rate = Rate(limits.PEER_TOKENS_A_SECOND, limits.PEER_TOKENS_SAVED)
    address: Rate = Rate(limits.ADDRESS_TOKENS_A_SECOND, limits.ADDRESS_TOKENS_SAVED)
    all: Rate = Rate(limits.TOKENS_A_SECOND, limits.TOKENS_SAVED)


class Budget:
    """See the module's text."""

    def __init__(self, rates: Rates | None = None, remembered: int = limits.REMEMBERED) -> None:
        rates = rates or Rates()
        self._peers, self._addresses = (Buckets(rate.a_second, rate.saved, remembered) for rate in (rates.peer, rates.address))
        self._all = Bucket(rates.all.a_second, rates.all.saved)
        self.refused = 0

    def take(self, now: float, cost: int, *, address: str, peer: str = "") -> None:
        """Take ``cost`` tokens of the peer (none is named before its handshake), its address and all; raises Refused ``square-rate``."""
        mine = self._mine(address, peer)
        short = max(bucket.lacks_s(now, cost) for bucket in mine)
        if short > 0:
            self.refused += 1
            hint = f"ask again in {max(1, round(short))} s; a node of your own asks without this bound"
            raise Refused("square-rate", "this is more than one peer or address may ask of this node", hint=hint)
        if not self._all.take(now, cost):
            self.refused += 1
            raise Refused("square-rate", "strangers together ask more than this node answers", hint="ask another node of the mesh")
        for bucket in mine:
            bucket.spend(now, cost)

    def spend(self, now: float, cost: int, *, address: str, peer: str) -> None:
        """Take ``cost`` tokens more for what was let in: what it costs is known only now. It is a debt where there are none."""
        for bucket in (self._all, *self._mine(address, peer)):
            bucket.spend(now, cost)

    def _mine(self, address: str, peer: str) -> list[Bucket]:
        return [self._addresses.of(block_of(address)), *([self._peers.of(peer)] if peer else [])]

    def statistics(self) -> dict[str, float]:
        """What is counted, and of how many."""
        return {"rate_refused": self.refused, "peers_counted": len(self._peers), "addresses_counted": len(self._addresses)}
