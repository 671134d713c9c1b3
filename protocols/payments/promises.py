"""Calls that may come to cost something, until it is certain what: kept on disk, and asked after when nobody settles them.

Whoever makes a call settles it when it ends. One that was cancelled, whose provider did not answer, or whose node ended, is *unsettled*:
its provider is asked how it ended (the Flow of ``protocols/tasks/settling.py``), again and again until it says so or nobody remembers.
"""

import heapq
from collections import Counter

from meshos.effects import Write
from meshos.errors import busy
from meshos.ids import OrgDid, TaskId
from meshos.protocols.payments.commands import Promise, Promised
from meshos.protocols.payments.limits import (
    ASK_AGAIN_MOST_S,
    ASK_AGAIN_S,
    FORGET_PROMISE_MS,
    MAX_PROMISED,
    PATIENCE_S,
    UNSETTLED_AT_ONCE,
)
from meshos.protocols.payments.owing import drop_call, read_calls, write_call
from meshos.storage.store import View


class Promises:
    """See the module's text. Those of an earlier life are unsettled from the start."""

    def __init__(self, view: View, now: float) -> None:
        self._calls = {call.task: call for call in read_calls(view)}
        self._due = [(now, 0, task) for task in sorted(self._calls)]  # a heap: when to ask, how often it was asked, of what
        self.by_provider: Counter[OrgDid] = Counter()
        for call in self._calls.values():
            self.by_provider[call.provider] += call.most
        self.total = sum(self.by_provider.values())
        self.forgotten = 0
        """Calls of which nobody could say how they ended."""

    def __len__(self) -> int:
        return len(self._calls)

    def dearest(self, provider: OrgDid) -> int:
        """The most that one of the calls to ``provider`` may cost."""
        return max((call.most for call in self._calls.values() if call.provider == provider), default=0)

    def add(self, now: float, promise: Promise, most: int, wall_ms: int) -> tuple[Write, ...]:
        """``promise`` may cost ``most``; gives what is to be written, none where it was made before. Raises Refused ``busy``."""
        if promise.task in self._calls:
            return ()
        if len(self._calls) >= MAX_PROMISED:
            raise busy("the table of calls that are not paid yet")
        call = Promised(promise.task, promise.agent, promise.provider, promise.asked, promise.key, most, wall_ms)
        self._calls[call.task] = call
        self._count(call, most)
        heapq.heappush(self._due, (now + promise.timeout_s + PATIENCE_S, 0, call.task))
        return (write_call(call),)

    def settle(self, task: TaskId) -> Promised | None:
        """It is certain now what ``task`` costs: gives what was promised, once."""
        call = self._calls.pop(task, None)
        if call is not None:
            self._count(call, -call.most)
        return call

    def next(self) -> float | None:
        """When somebody is to be asked."""
        while self._due and self._due[0][2] not in self._calls:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def take(self, now: float, wall_ms: int) -> tuple[tuple[Promised, ...], tuple[Write, ...]]:
        """Up to UNSETTLED_AT_ONCE calls to ask after now, and the writes that forget those that are too old."""
        taken: list[Promised] = []
        writes: list[Write] = []
        while (due := self.next()) is not None and due <= now and len(taken) < UNSETTLED_AT_ONCE:
            _, asked, task = heapq.heappop(self._due)
            call = self._calls[task]
            if wall_ms - call.at_ms > FORGET_PROMISE_MS:
                self.settle(task)
                self.forgotten += 1
                writes.append(drop_call(task))
                continue
            taken.append(call)
            heapq.heappush(self._due, (now + min(ASK_AGAIN_MOST_S, ASK_AGAIN_S * 2**asked), min(asked + 1, 16), task))
        return tuple(taken), tuple(writes)

    def _count(self, call: Promised, micro: int) -> None:
        self.by_provider[call.provider] += micro
        self.total += micro
        if not self.by_provider[call.provider]:
            del self.by_provider[call.provider]
