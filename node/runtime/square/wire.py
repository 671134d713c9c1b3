"""A TCP connection as libp2p wants to read and write it, metered.

Each read is a packet that has to be paid for, and so is each frame that is taken out of one: where a connection sends more than its
buckets hold, its next read waits until the debt is paid, and with it, by TCP's own flow control, the sender.
"""

import trio
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError

from meshos.buckets import Bucket
from meshos.node.runtime.square import limits


class TcpWire(ReadWriteCloser):
    """See the module's text. ``shared`` meters all connections together."""

    def __init__(self, stream: trio.SocketStream, shared: Bucket | None = None) -> None:
        self.stream = stream
        self._shared = shared
        self._reads = Bucket(limits.PACKETS_A_SECOND, limits.PACKETS_SAVED)
        self._frames = Bucket(limits.FRAMES_A_SECOND, limits.FRAMES_SAVED)

    async def read(self, n: int | None = None) -> bytes:
        """At most ``n`` bytes; empty once the other side has ended."""
        if n == 0:
            return b""
        await self._pay(self._reads)
        try:
            return bytes(await self.stream.receive_some(n))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionClosedError("the connection is gone", transport="tcp") from error

    async def pay_frame(self) -> None:
        """Wait until one more frame may be taken out of what was read: many fit one read."""
        await self._pay(self._frames, limits.FRAME_PACKETS)

    async def _pay(self, own: Bucket, cost: int = 1) -> None:
        if self._shared is not None:
            now = trio.current_time()
            wait = max(own.spend(now), self._shared.spend(now, cost))  # so no more is owed than one step of each connection
            if wait > 0:
                await trio.sleep(wait)

    async def write(self, data: bytes) -> None:
        """All of ``data``. Callers take turns: Yamux does, by a lock of its own, and the handshake is one task."""
        try:
            with trio.fail_after(limits.WRITE_S):
                await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
            await trio.aclose_forcefully(self.stream)
            raise ConnectionClosedError("the connection is gone", transport="tcp") from error

    async def close(self) -> None:
        """At once; a reset is as good as a goodbye here."""
        await trio.aclose_forcefully(self.stream)

    def get_remote_address(self) -> tuple[str, int] | None:
        """Host and port of the other side."""
        return remote_of(self.stream)


def remote_of(stream: trio.SocketStream) -> tuple[str, int] | None:
    """Host and port of the other side, None if it is gone already."""
    try:
        host, port, *_ = stream.socket.getpeername()
    except OSError:
        return None
    return str(host), int(port)
