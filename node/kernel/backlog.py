"""What waits for one machine's disk, and what is turned away when too much does.

A sync takes milliseconds, so a full backlog means a stalled disk. Then requests are answered ``busy``, and datagrams and casts are lost, as
they may be. Answers to what the machine itself has asked for are bounded by what it asked, and always kept.
"""

from collections import deque

from meshos.effects import Heard
from meshos.flow_machine import Perform
from meshos.ids import NodeId
from meshos.protocols.membership.events import DatagramReceived

BACKLOG_LIMIT = 4096
"""Requests and datagrams that may wait for one machine's disk."""

HEARD_BYTES = 64 << 20
"""Casts of all peers that may wait for one machine's disk, each counted with HEARD_OVERHEAD. One peer has no more than what is left for all
others (Choudhury and Hahne, as in protocols/rpc/limits.py): one that floods leaves half of it, and two a third."""

HEARD_OVERHEAD = 256
"""What a cast takes in memory besides its body, in bytes: 131,072 empty ones of one peer."""


class Backlog:
    """Events in the order of their arrival."""

    __slots__ = ("_bytes", "_events", "_of_peer")

    def __init__(self) -> None:
        self._events: deque[object] = deque()
        self._of_peer: dict[NodeId, int] = {}  # bytes of casts
        self._bytes = 0

    def add(self, event: object) -> bool:
        """Keep ``event``; False if there is no room for it."""
        kind = type(event)
        if kind is Heard:
            assert isinstance(event, Heard)
            if not self._room_for(event):
                return False
        elif len(self._events) >= BACKLOG_LIMIT and (kind is Perform or kind is DatagramReceived):
            return False
        self._events.append(event)
        return True

    def take(self) -> deque[object]:
        """All of it, and none is left."""
        events, self._events = self._events, deque()
        self._of_peer.clear()
        self._bytes = 0
        return events

    def _room_for(self, heard: Heard) -> bool:
        node, size = heard.peer.node, len(heard.body) + HEARD_OVERHEAD
        mine = self._of_peer.get(node, 0) + size
        if mine > HEARD_BYTES - self._bytes:
            return False
        self._of_peer[node] = mine
        self._bytes += size
        return True
