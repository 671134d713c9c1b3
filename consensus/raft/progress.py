"""What a leader knows of one follower, and how fast it sends to it (after etcd's tracker).

``probe``: where the logs agree is not known, so one append at a time, until one is answered. ``replicate``: it is known, so appends are
sent without waiting for answers, up to ``inflight_messages`` and ``inflight_bytes``. ``snapshot``: what the follower needs is in the log no
longer; a state is on its way to it, and no appends are until it has arrived.
"""

from collections import deque
from typing import Literal, TypeAlias

from meshos.consensus.raft.config import Config
from meshos.consensus.raft.limits import ORDERED_BYTES

Pace: TypeAlias = Literal["probe", "replicate", "snapshot"]


class Progress:
    """One follower, as its leader sees it. ``match``: the log agrees up to there, on its disk. ``next``: what it is sent next."""

    __slots__ = ("active", "commit", "inflight", "inflight_bytes", "large", "match", "next", "pace", "probed", "round", "snapshot")

    def __init__(self, next_: int, *, active: bool) -> None:
        self.match = 0
        self.next = next_
        self.pace: Pace = "probe"
        self.probed = False  # a probe is under way
        self.active = active  # heard since the leader last counted its quorum
        self.commit = 0  # the highest commit index that it was sent
        self.round = 0  # the latest round of reading that it confirmed
        self.snapshot = 0  # the index of the state that is on its way
        self.inflight: deque[tuple[int, int]] = deque()  # (last index, bytes) of the appends that were not answered yet
        self.inflight_bytes = 0
        self.large = 0  # the last index of an append that others would overtake, until it is answered

    def full(self, config: Config) -> bool:
        """Whether nothing with entries may be sent now."""
        if self.pace == "replicate":
            window = len(self.inflight) >= config.inflight_messages or self.inflight_bytes >= config.inflight_bytes
            return window or self.large > self.match
        return self.pace == "snapshot" or self.probed

    def sent(self, last: int, size: int) -> None:
        """Entries up to ``last`` were sent."""
        if self.pace == "replicate":
            self.next = last + 1
            self.inflight.append((last, size))
            self.inflight_bytes += size
            if size > ORDERED_BYTES:
                self.large = last
        else:
            self.probed = True

    def make_room(self) -> None:
        """Count the oldest append as answered."""
        self.large = 0
        if self.inflight:
            self.inflight_bytes -= self.inflight.popleft()[1]

    def agreed(self, index: int) -> bool:
        """The follower says that its log agrees up to ``index``; whether that is news."""
        while self.inflight and self.inflight[0][0] <= index:
            self.inflight_bytes -= self.inflight.popleft()[1]
        self.next = max(self.next, index + 1)
        if index <= self.match:
            return False
        self.match = index
        self.probed = False
        return True

    def probe(self) -> None:
        """Find out anew where the logs agree."""
        self._enter("probe", self.match + 1 if self.pace != "snapshot" else max(self.match, self.snapshot) + 1)

    def replicate(self) -> None:
        """The logs agree up to ``match``: send on from there."""
        self._enter("replicate", self.match + 1)

    def await_state(self, index: int) -> None:
        """A state at ``index`` is on its way."""
        self._enter("snapshot", index + 1)
        self.snapshot = index

    def _enter(self, pace: Pace, next_: int) -> None:
        self.pace, self.next = pace, next_
        self.probed, self.snapshot, self.large = False, 0, 0
        self.inflight.clear()
        self.inflight_bytes = 0

    def refused(self, index: int, hint: int) -> bool:
        """The follower's log does not agree at ``index``, and may at ``hint`` at most; whether this is news, and the next probe is due."""
        if self.pace == "replicate":
            if index <= self.match:
                return False  # an old answer: it agreed there since
            self.probe()
            return True
        if self.pace == "snapshot" or index != self.next - 1:
            return False
        self.next = max(min(index, hint + 1), self.match + 1)
        self.probed = False
        return True
