"""What waits to go out on one lane of a connection, and whose turn it is; the codec (codec.py) makes frames of it.

Messages of one frame and messages of many take turns; those of many take turns among themselves, as many of them as the other side has room
for half received.
"""

from collections import deque

from meshos.flow import Lane
from meshos.protocols.rpc import frames
from meshos.protocols.rpc.events import Message
from meshos.protocols.rpc.limits import ACTIVE_BYTES, ACTIVE_MESSAGES, BODY_BYTES, FRAGMENT_BYTES


class Outbound:
    """A message on its way out: ``offset`` bytes of its head and body are already in frames."""

    __slots__ = ("body", "head", "message", "offset", "size", "stream")

    def __init__(self, message: Message, head: bytes, body: bytes, size: int) -> None:
        self.message = message
        self.head = head
        self.body = body
        self.size = size
        self.offset = 0
        self.stream = -1

    def piece(self, count: int) -> tuple[bytes | memoryview, ...]:
        """The next ``count`` bytes; the first fragment always holds the whole head."""
        begin, self.offset = self.offset, min(self.offset + count, self.size)
        if begin == 0 and count >= self.size:
            return self.head, self.body
        body = memoryview(self.body)
        if begin == 0:
            return self.head, body[: self.offset - len(self.head)]
        return (body[begin - len(self.head) : self.offset - len(self.head)],)


class OutLane:
    """What waits in one lane: ``short`` fit into one frame, ``long`` have not begun, ``active`` have."""

    __slots__ = ("active", "bytes", "fragment", "lane", "long", "most", "next_stream", "number", "short", "turn_long")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.number = frames.NUMBER_OF[lane]
        self.most = BODY_BYTES[lane]
        self.fragment = FRAGMENT_BYTES[lane]
        self.short: deque[Outbound] = deque()
        self.long: deque[Outbound] = deque()
        self.active: deque[Outbound] = deque()
        self.bytes = 0
        self.next_stream = 0
        self.turn_long = False

    def __len__(self) -> int:
        return len(self.short) + len(self.long) + len(self.active)

    def pick(self) -> Outbound | None:
        """The message whose turn it is, taken out of its queue."""
        while self.long and len(self.active) < ACTIVE_MESSAGES[self.lane] and self._fits(self.long[0]):
            self.active.append(self.long.popleft())
        if self.active and (self.turn_long or not self.short):
            self.turn_long = False
            return self.active.popleft()
        self.turn_long = True
        return self.short.popleft() if self.short else None

    def _fits(self, item: Outbound) -> bool:
        """Whether the other side has room for ``item`` beside what is half sent."""
        return not self.active or sum(each.size for each in self.active) + item.size <= ACTIVE_BYTES[self.lane]
