"""The last events of this node, for any number of readers at their own pace.

One ring serves all: a reader is only a position in it, so a slow one costs nothing and is told what it missed (an
event ``gap``) instead of being waited for. Ids are ``<run>-<number>``: after a restart of the node the numbers begin
again, and an id of an earlier run means "from the oldest that is kept".
"""

from collections import deque
from collections.abc import Callable

import trio

from meshos.errors import busy
from meshos.node.api import limits
from meshos.node.api.shapes import Event, Json


class EventLog:
    """See the module's text. ``run`` names this run of the node; ``now_ms`` is its wall clock."""

    def __init__(self, run: str, now_ms: Callable[[], int], size: int = limits.EVENTS) -> None:
        self._run, self._now_ms = run, now_ms
        self._ring: deque[Event] = deque(maxlen=size)
        self._next = 1
        self._arrived = trio.Event()
        self.readers = 0

    def publish(self, kind: str, text: str, data: Json) -> None:
        """Something happened; nobody is waited for."""
        self._ring.append(Event(f"{self._run}-{self._next}", kind, self._now_ms(), text, data))
        self._next += 1
        arrived, self._arrived = self._arrived, trio.Event()
        arrived.set()

    def read(self, since: str | None) -> "Reader":
        """Events from now on, or those after the event ``since``; raises Refused ``busy`` beyond EVENT_READERS."""
        if self.readers >= limits.EVENT_READERS:
            raise busy("the list of readers of events")
        if since is None:
            return Reader(self, self._next)
        run, _, number = since.rpartition("-")
        known = run == self._run and number.isascii() and number.isdigit() and len(number) < 19
        return Reader(self, min(int(number) + 1, self._next) if known else 1)

    def after(self, position: int) -> Event | None:
        """The event at ``position``, or what stands for those that are gone; None if it has not happened yet."""
        oldest = self._next - len(self._ring)
        if position >= self._next:
            return None
        if position < oldest:
            missed = oldest - position
            return Event(f"{self._run}-{oldest - 1}", "gap", self._now_ms(), f"{missed} events are no longer kept", {"missed": missed})
        return self._ring[position - oldest]

    async def wait(self) -> None:
        """Until the next event."""
        await self._arrived.wait()


class Reader:
    """A position in the log. Iterate it, and ``close`` it."""

    def __init__(self, log: EventLog, position: int) -> None:
        self._log, self._position, self._open = log, position, True
        log.readers += 1

    def __aiter__(self) -> "Reader":
        return self

    async def __anext__(self) -> Event:
        while self._open:
            event = self._log.after(self._position)
            if event is not None:
                self._position = int(event.id.rpartition("-")[2]) + 1
                return event
            await self._log.wait()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Make room for another reader. Closing twice is no error."""
        if self._open:
            self._open = False
            self._log.readers -= 1
