"""What a way to another node has to offer: TCP with TLS, QUIC, or a member that relays, with nothing above them changed."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

import trio

from meshos.ids import NodeId, Peer
from meshos.node.runtime.links.transport import Transport

RELAY = "relay"
"""The name of the path that leads through a member: the others come before it."""


class Connection(Protocol):
    """An authenticated, encrypted stream of bytes to ``peer``. Every way in which it ends is raised as a MeshError."""

    @property
    def peer(self) -> Peer:
        """Who is at the other end, as its certificate proved."""
        ...

    @property
    def dialled(self) -> bool:
        """Whether this side opened it."""
        ...

    @property
    def via(self) -> NodeId | None:
        """The member that relays it; None where the two are connected themselves."""
        ...

    async def send(self, data: bytes) -> None:
        """All of ``data``; one caller at a time."""
        ...

    def send_now(self, data: bytes) -> bool:
        """Hand ``data`` over in this turn of the event loop. False if some of it is left behind: the next ``send`` (of nothing, say)
        hands that over first, and until then this is not called. Nor while a ``send`` is under way. Never raises a MeshError: what
        broke is told by ``send`` or ``receive``.
        """
        ...

    async def receive(self, max_bytes: int) -> bytes:
        """Some bytes, at least one; empty at the end of the stream."""
        ...

    def check(self) -> None:
        """Raises Refused if the peer would not be let in any more (its certificate was revoked or has ended)."""
        ...

    def transport(self, now: float) -> Transport:
        """What the transport knows of its path ``now``. Never raises."""
        ...

    async def close_after(self, last: bytes) -> None:
        """Send ``last``, give the other side a moment to read it, and close: for refusals. Never raises a MeshError."""
        ...

    async def close(self) -> None:
        """Close at once. Closing twice is no error."""
        ...


Accepted: TypeAlias = Callable[[Connection], Awaitable[None]]
"""Takes an authenticated connection over and returns when it has ended."""


class Path(Protocol):
    """One way to reach nodes and to be reached."""

    @property
    def name(self) -> str:
        """What metrics call it."""
        ...

    async def dial(self, to: NodeId) -> Connection:
        """An authenticated connection to exactly ``to``; raises Unreachable, or Refused."""
        ...

    async def serve(self, accepted: Accepted, *, task_status: trio.TaskStatus[None]) -> None:
        """Accept until cancelled; authenticates before ``accepted`` hears of anything."""
        ...

    def statistics(self) -> dict[str, float]:
        """Counts since the start, for metrics."""
        ...
