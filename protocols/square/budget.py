"""What strangers may cost this node: tokens, of which one is about a millisecond of its processor.

Three buckets have to agree: that of the peer (its key, which costs nothing to make), that of its address (an IPv4 address, or an IPv6
network of 64 bits, which is what one customer has), and that of all together. The last one is what protects the node; the first two
share it out. A bucket fills up with time and holds only so much, so who was quiet may ask at once, and nobody for long.

A refusal costs two look-ups and takes nothing. The tables hold a fixed number; of who was quiet longest the count is forgotten.
"""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

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


@dataclass(slots=True)
class Bucket:
    """``level`` tokens at ``at``, in seconds on the caller's clock."""

    level: float
    at: float

    def fill(self, rate: Rate, now: float) -> float:
        """Its level now."""
        self.level = min(rate.saved, self.level + max(0.0, now - self.at) * rate.a_second)
        self.at = max(self.at, now)
        return self.level


class Budget:
    """See the module's text."""

    def __init__(self, rates: Rates | None = None, remembered: int = limits.REMEMBERED) -> None:
        self._rates = rates or Rates()
        self._remembered = remembered
        self._peers: OrderedDict[str, Bucket] = OrderedDict()
        self._addresses: OrderedDict[str, Bucket] = OrderedDict()
        self._all: Bucket | None = None
        self.refused = 0

    def take(self, now: float, cost: int, *, address: str, peer: str = "") -> None:
        """Take ``cost`` tokens of the peer (none is named before its handshake), its address and all; raises Refused ``square-rate``."""
        mine = [(self._bucket(self._addresses, block_of(address), self._rates.address, now), self._rates.address)]
        if peer:
            mine.append((self._bucket(self._peers, peer, self._rates.peer, now), self._rates.peer))
        if self._all is None:
            self._all = Bucket(self._rates.all.saved, now)
        short = max((cost - bucket.fill(rate, now)) / rate.a_second for bucket, rate in mine)
        if short > 0:
            self.refused += 1
            hint = f"ask again in {max(1, round(short))} s; a node of your own asks without this bound"
            raise Refused("square-rate", "this is more than one peer or address may ask of this node", hint=hint)
        if self._all.fill(self._rates.all, now) < cost:
            self.refused += 1
            raise Refused("square-rate", "strangers together ask more than this node answers", hint="ask another node of the mesh")
        for bucket in (self._all, *(bucket for bucket, _ in mine)):
            bucket.level -= cost

    def _bucket(self, table: OrderedDict[str, Bucket], name: str, rate: Rate, now: float) -> Bucket:
        found = table.get(name)
        if found is None:
            found = table[name] = Bucket(rate.saved, now)
            if len(table) > self._remembered:
                table.popitem(last=False)
        else:
            table.move_to_end(name)
        return found

    def statistics(self) -> dict[str, float]:
        """What is counted, and of how many."""
        return {"rate_refused": self.refused, "peers_counted": len(self._peers), "addresses_counted": len(self._addresses)}


def block_of(address: str) -> str:
    """Whose count an address is on: itself (IPv4, also where it is written as IPv6), or its network of 64 bits (IPv6)."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.IPv6Network((parsed, 64), strict=False))
    return str(parsed)
