"""The one retry policy: exponential backoff with full jitter, and a budget for each peer.

Backoff after "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015): a uniform draw between 0 and a bound that doubles.
The budget is a token bucket: a try beyond the first costs one token, each first try puts a tenth back, time puts back one
in two seconds. So a healthy peer may be tried again at once, and a sick one sees at most a tenth more than it was asked.
"""

import random

from meshos.protocols.rpc.limits import BACKOFF_BASE_S, BACKOFF_CAP_S, RESEND_MIN_S, RETRY_BUDGET, RETRY_DEPOSIT, RETRY_REFILL_PER_S


def backoff_s(attempt: int, rng: random.Random) -> float:
    """How long to wait before try number ``attempt`` + 1 (the first try is 1)."""
    return rng.uniform(0.0, min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0 ** min(attempt, 16)))


def resend_s(left_s: float, retries_left: int) -> float:
    """How long to wait for a reply before the request is sent again: the time left in even parts."""
    return max(RESEND_MIN_S, left_s / (retries_left + 1))


class RetryBudget:
    """The tokens of one peer. Times are those of the machine."""

    __slots__ = ("_at", "_tokens")

    def __init__(self, now: float) -> None:
        self._at = now
        self._tokens = RETRY_BUDGET

    def deposit(self, now: float) -> None:
        """A first try was made."""
        self._tokens = min(RETRY_BUDGET, self._level(now) + RETRY_DEPOSIT)
        self._at = now

    def take(self, now: float) -> bool:
        """Whether one more try may be made; if so, it is paid for."""
        level = self._level(now)
        if level < 1.0:
            return False
        self._tokens, self._at = level - 1.0, now
        return True

    def full(self, now: float) -> bool:
        """Whether nothing needs to be remembered of this peer."""
        return self._level(now) >= RETRY_BUDGET

    def _level(self, now: float) -> float:
        return min(RETRY_BUDGET, self._tokens + (now - self._at) * RETRY_REFILL_PER_S)
