"""Which of the paths to a peer carries what goes to it: measurements and times in, a path and a reason out.

Theory of operation. Several paths to one peer may be up (TCP and QUIC), each *measured* again and again. One of them carries; which one
each side decides for what it sends itself. It stays until

- it *ended*: then the best of the others carries on;
- it is *stalled*: something was sent, and for longer than three round trips and STALL_MIN_S not even an acknowledgement came. Then
  another carries at once, if one is not stalled;
- another is *better*: it has cost less than BETTER of what this one does, without a break for BETTER_S;
- the other side has *told* that it found a path unanswered: it goes on where the other side does.

What a path costs is the time that a small message takes over it on average: the round trip, and for the share that is lost what it takes to
notice a loss. Where that is all the same, the first in the order is the better one, as a message over it takes less of a core.

Nobody goes back and forth: a path that is stalled is never gone to, so two that stall in turn cost a change each STALL_MIN_S at most, and
of two that are measured alike neither is left.
"""

from collections.abc import Mapping, Sequence
from math import inf
from typing import Literal, TypeAlias

from meshos.protocols.rpc.limits import BETTER, BETTER_S, NEXT_PATH_S, STALL_MIN_S, STALL_ROUND_TRIPS
from meshos.values import frozen

Why: TypeAlias = Literal["first", "ended", "stalled", "better", "told"]


def patience_s(rtt_s: float | None) -> float:
    """How long a sign of life may take where a round trip takes ``rtt_s``."""
    return max(STALL_ROUND_TRIPS * (rtt_s or 0.0), STALL_MIN_S)


@frozen
class Measured:
    """What is known of a path. ``rtt_s``: a round trip, None before the first; ``loss``: the share of what was sent that had to be sent
    again; ``recovery_s``: what it takes to notice that; ``unanswered_s``: how long something has waited for any sign that it arrived."""

    rtt_s: float | None = None
    loss: float = 0.0
    recovery_s: float = 0.0
    unanswered_s: float = 0.0

    @property
    def stalled(self) -> bool:
        """Whether what was sent on it has waited too long."""
        return self.unanswered_s > patience_s(self.rtt_s)

    @property
    def cost_s(self) -> float:
        """What a small message takes; infinite where that is not known yet."""
        return inf if self.rtt_s is None else self.rtt_s + self.loss * self.recovery_s


UNKNOWN = Measured()


class Choice:
    """``order`` are the names of all paths, those that cost least of a core first. ``current`` is None while none is up."""

    __slots__ = ("_better_since", "_measured", "_order", "current", "why")

    def __init__(self, order: Sequence[str]) -> None:
        self.current: str | None = None
        self.why: Why = "first"
        self._order = {path: place for place, path in enumerate(order)}
        self._measured: dict[str, Measured] = {}  # of those that are up
        self._better_since: dict[str, float] = {}

    def up(self, path: str) -> None:
        """There is one more; it carries if it is the first."""
        self._measured[path] = UNKNOWN
        if self.current is None:
            self._take(path, "first")

    def down(self, path: str) -> None:
        """It is gone."""
        self._measured.pop(path, None)
        self._better_since.pop(path, None)
        if self.current == path:
            self.current = None
            if self._measured:
                self._take(min(self._measured, key=self._worth), "ended")

    def told(self, path: str) -> bool:
        """The other side goes on over ``path``, as another did not answer; whether that changes anything."""
        if path == self.current or path not in self._measured or self._measured[path].stalled:
            return False
        self._take(path, "told")
        return True

    def measure(self, now: float, measured: Mapping[str, Measured]) -> bool:
        """What each path is like ``now``; whether another one carries from now on."""
        for path in self._measured:
            self._measured[path] = measured.get(path, UNKNOWN)
        if self.current is None:
            return False
        here = self._measured[self.current]
        others = [path for path, there in self._measured.items() if path != self.current and not there.stalled]
        if here.stalled:
            if others:
                self._take(min(others, key=self._worth), "stalled")
            return bool(others)
        most = BETTER * self._cost(self.current)
        self._better_since = {path: self._better_since.get(path, now) for path in others if self._cost(path) < most}
        ready = [path for path, since in self._better_since.items() if now - since >= BETTER_S]
        if ready:
            self._take(min(ready, key=self._worth), "better")
        return bool(ready)

    def ranked(self) -> list[str]:
        """All paths, for a connection of its own: those that are up and not stalled first, in the order; then the others."""
        return sorted(self._order, key=lambda path: (path not in self._measured or self._measured[path].stalled, self._order[path]))

    def _take(self, path: str, why: Why) -> None:
        self.current, self.why = path, why
        self._better_since = {}

    def _cost(self, path: str) -> float:
        return self._measured[path].cost_s + NEXT_PATH_S * self._order.get(path, len(self._order))

    def _worth(self, path: str) -> tuple[bool, float, int]:
        return self._measured[path].stalled, self._cost(path), self._order.get(path, len(self._order))
