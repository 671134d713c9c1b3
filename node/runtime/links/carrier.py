"""What TLS runs over: a stream of bytes that anybody on the way can read and change, be it a TCP socket, or a connection that a relay
has joined with another."""

import os
from typing import Protocol

import trio

from meshos.errors import Unreachable


class Carrier(Protocol):
    """One sender and one receiver at a time, as with ``path.Connection``. Every way in which it ends is raised as Unreachable."""

    async def send(self, data: bytes) -> None:
        """All of ``data``, after what ``send_now`` has left behind."""
        ...

    def send_now(self, data: bytes) -> bool:
        """See ``path.Connection``."""
        ...

    async def receive(self, max_bytes: int) -> bytes:
        """Some bytes, at least one; empty at the end of the stream."""
        ...

    async def finish(self) -> None:
        """Nothing more is sent, as far as the other side can be told; it may go on."""
        ...

    async def close(self) -> None:
        """Close at once. Closing twice is no error."""
        ...


class SocketCarrier:
    """A TCP connection. Where every message counts it goes past trio's own socket, which first tries in vain and whose every write ends
    the turn."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.socket = stream.socket
        self._stream = stream
        self._left = b""  # what the socket has not taken yet

    async def send(self, data: bytes) -> None:
        """See ``Carrier``."""
        if self._left or data:
            data, self._left = self._left + data, b""
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise Unreachable("link-lost", "the connection broke while it was written to") from error

    def send_now(self, data: bytes) -> bool:
        """See ``Carrier``."""
        self._left += data
        try:
            sent = os.write(self.socket.fileno(), self._left)
        except BlockingIOError:
            sent = 0
        except OSError:
            return False  # broken or closed: ``send`` finds it so, and says it
        self._left = self._left[sent:]
        return not self._left

    async def receive(self, max_bytes: int) -> bytes:
        """See ``Carrier``: for a socket that is mostly empty, so the kernel is asked first."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self.socket)
                try:
                    return os.read(self.socket.fileno(), max_bytes)
                except BlockingIOError:
                    continue
        except (trio.ClosedResourceError, OSError, ValueError) as error:  # the latter for a socket that was closed before
            raise Unreachable("link-lost", "the connection broke while it was read") from error

    async def finish(self) -> None:
        """See ``Carrier``."""
        try:
            await self._stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Unreachable("link-lost", "the connection broke before its end") from error

    async def close(self) -> None:
        """See ``Carrier``."""
        await trio.aclose_forcefully(self._stream)
