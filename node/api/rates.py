"""Token buckets: how often somebody may ask."""

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(slots=True)
class Bucket:
    """A bucket that holds ``burst`` tokens and gains ``per_s`` a second. ``filled_at`` is in seconds of any one clock."""

    per_s: float
    burst: float
    tokens: float
    filled_at: float

    def take(self, now: float) -> float:
        """0.0 if a token was taken; else the seconds until there is one, and nothing was taken."""
        self.tokens = min(self.burst, self.tokens + (now - self.filled_at) * self.per_s)
        self.filled_at = now
        if self.tokens >= 1.0:
            self.tokens -= 1.0
            return 0.0
        return (1.0 - self.tokens) / self.per_s

    def wait_s(self, now: float) -> float:
        """The seconds until there is a token, taking none."""
        tokens = min(self.burst, self.tokens + (now - self.filled_at) * self.per_s)
        return max(0.0, (1.0 - tokens) / self.per_s)


class Strangers:
    """Buckets by address for those who have proved nothing, at most ``size`` of them; the longest unused goes first."""

    def __init__(self, size: int, per_s: float, burst: float) -> None:
        self._size, self._per_s, self._burst = size, per_s, burst
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def wait_s(self, address: str, now: float) -> float:
        """The seconds that ``address`` has to wait before it is heard again; 0.0 for now."""
        bucket = self._buckets.get(address)
        return 0.0 if bucket is None else bucket.wait_s(now)

    def count(self, address: str, now: float) -> None:
        """One more failure of ``address``."""
        bucket = self._buckets.pop(address, None) or Bucket(self._per_s, self._burst, self._burst, now)
        self._buckets[address] = bucket
        bucket.take(now)
        if len(self._buckets) > self._size:
            self._buckets.popitem(last=False)
