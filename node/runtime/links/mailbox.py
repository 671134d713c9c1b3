"""The way from links to rpc's mailbox: events in order, offered again while the mailbox is full."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import trio

from meshos.node.runtime.links.limits import MAILBOX_PAUSE_S

Deliver: TypeAlias = Callable[[Sequence[object]], bool]
"""Puts events into rpc's mailbox, at once, all or none; False if it is full, in which case they are offered again."""


class Mailbox:
    """What waits here is bounded by who fills it: connections stop reading while anything waits, and what else is told
    (links up and down, messages not sent) answers to a bounded number of requests."""

    def __init__(self, deliver: Deliver) -> None:
        self.times_full = 0
        self._deliver = deliver
        self._waiting: list[object] = []
        self._flushing = False
        self._blocked = trio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    async def run(self) -> None:
        """Offer again what was not taken, until cancelled."""
        while True:
            await self._blocked.wait()
            self.times_full += 1
            while self._waiting:
                await trio.sleep(MAILBOX_PAUSE_S)
                self._flush()
            self._blocked = trio.Event()

    def tell(self, event: object) -> None:
        """Deliver ``event`` after all that was told before it."""
        self._waiting.append(event)
        self._flush()

    def tell_all(self, events: Sequence[object]) -> None:
        """The same for several: they are delivered together."""
        self._waiting += events
        self._flush()

    async def room(self) -> None:
        """Wait until nothing waits."""
        while self._waiting:
            await trio.sleep(MAILBOX_PAUSE_S)

    def _flush(self) -> None:
        if self._flushing:
            return  # told while telling: the loop below comes to it
        self._flushing = True
        try:
            while self._waiting:
                offered, self._waiting = self._waiting, []
                if not self._deliver(offered):
                    self._waiting = offered + self._waiting
                    self._blocked.set()
                    break
        finally:
            self._flushing = False
