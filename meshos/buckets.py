"""How often: token buckets, and whose bucket an address is. Times are in seconds of any one clock, and arguments."""

import ipaddress
import math
from collections import OrderedDict


class Bucket:
    """Holds ``most`` tokens, at first as many, and gains ``a_second``. What is spent beyond them is a debt."""

    __slots__ = ("_a_second", "_at", "_level", "_most")

    def __init__(self, a_second: float, most: float) -> None:
        self._a_second, self._most, self._level = a_second, most, most
        self._at: float | None = None

    def level(self, now: float) -> float:
        """The tokens in it; a clock that goes back brings none."""
        if self._at is not None and now > self._at:
            self._level = min(self._most, self._level + (now - self._at) * self._a_second)
        self._at = now if self._at is None else max(self._at, now)
        return self._level

    def lacks_s(self, now: float, cost: float = 1) -> float:
        """Seconds until it holds ``cost``; 0.0 where it does."""
        short = cost - self.level(now)
        return short / self._a_second if short > 0 and self._a_second > 0 else math.inf if short > 0 else 0.0

    def take(self, now: float, cost: float = 1) -> bool:
        """Whether it held ``cost`` and gave them; where not, nothing was taken."""
        held = self.level(now) >= cost
        if held:
            self._level -= cost
        return held

    def spend(self, now: float, cost: float = 1) -> float:
        """Take ``cost``, whether it holds them or not, for what is done already or goes on after that: seconds until the debt is paid."""
        self._level = self.level(now) - cost
        return self.lacks_s(now, 0)

    def give_back(self, count: float = 1) -> None:
        """What was taken has come to nothing."""
        self._level = min(self._most, self._level + count)


class Buckets:
    """A bucket for each key, of which so many are remembered: a full one for who is new. Who was quiet longest is forgotten: it has
    filled up most.
    """

    def __init__(self, a_second: float, most: float, remembered: int) -> None:
        self._a_second, self._most, self._remembered = a_second, most, remembered
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def of(self, key: str) -> Bucket:
        """That of ``key``."""
        found = self._buckets.get(key)
        if found is None:
            found = self._buckets[key] = Bucket(self._a_second, self._most)
            if len(self._buckets) > self._remembered:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return found


def block_of(address: str) -> str:
    """Whose count an address is on: itself (IPv4, also where it is written as IPv6), or its network of 64 bits (IPv6), since the rest is
    free to whoever has them (RFC 6177).
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.IPv6Network((parsed, 64), strict=False))
    return str(parsed)
