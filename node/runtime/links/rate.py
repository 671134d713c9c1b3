"""How often one address may begin a handshake: a token bucket for each, in a bounded table."""

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address


def source(address: str) -> str:
    """What counts as one address: of IPv6 the first 64 bits, as the rest is free to whoever has them (RFC 6177)."""
    plain = ip_address(address.partition("%")[0])
    if not isinstance(plain, IPv6Address):
        return str(plain)
    if plain.ipv4_mapped is not None:
        return str(plain.ipv4_mapped)
    return str(IPv6Address(int(plain) >> 64 << 64))


class Rate:
    """Each key may act ``burst`` times at once and ``per_s`` times per second after that; ``table`` keys are remembered.

    A key that is not in the table has a full bucket. If the table is full, the key that acted longest ago is forgotten: its
    bucket has filled up most.
    """

    def __init__(self, burst: int, per_s: float, table: int) -> None:
        self._burst = burst
        self._per_s = per_s
        self._table = table
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when; longest ago first

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str, now: float) -> bool:
        """Whether ``key`` may act now (``now`` in seconds); what is refused costs no token."""
        tokens, at = self._buckets.pop(key, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - at) * self._per_s)
        allowed = tokens >= 1
        self._buckets[key] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > self._table:
            self._buckets.popitem(last=False)
        return allowed
