"""A stream of a QUIC connection: read and written as those of Yamux are.

What is written waits in the connection until the peer has acknowledged it, and a peer need not. So a writer waits while its stream, or all
of its connection, ended ones among them, has as much there as may be.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import trio
from libp2p.exceptions import BaseLibp2pError

from meshos.node.runtime.square import limits
from meshos.node.runtime.square.quic_core import Core


class Connection(Protocol):
    """Whose stream it is: ``QuicMuxed``."""

    core: Core
    closed: trio.Event
    progress: trio.Event
    """Set, and another one, whenever something was sent or has come."""

    def send(self) -> None:
        """Whatever is due."""

    def forget(self, number: int) -> None:
        """This stream is over."""


class Over(BaseLibp2pError):
    """The stream or its connection is over."""


class QuicStream:
    """A stream both ways; reads and writes as those of Yamux do."""

    def __init__(self, conn: Connection, number: int) -> None:
        self._conn, self.number = conn, number
        self.buffer = bytearray()
        self.ended = self.broken = self.finished = False
        """The peer has ended its side; it is cut off; this side has ended its own."""
        self.news = trio.Event()

    def tell(self) -> None:
        """Wake who waits for it."""
        self.news.set()
        self.news = trio.Event()

    async def read(self, n: int | None = None) -> bytes:
        """At most ``n`` bytes; raises EOFError at the end, Over where it was cut off."""
        while not self.buffer:
            if self.broken or self._conn.closed.is_set():
                raise Over("the stream was cut off")
            if self.ended:
                raise EOFError
            await self.news.wait()
        taken = bytes(self.buffer[:n])
        del self.buffer[: len(taken)]
        self._conn.core.consumed += len(taken)
        self._conn.send()
        return taken

    async def write(self, data: bytes) -> None:
        """All of ``data``; waits while the peer does not take it."""
        for at in range(0, len(data), limits.READ_BYTES):
            while not self.broken and not self._conn.closed.is_set() and self._is_full():
                await self._conn.progress.wait()
            self._act(partial(self._conn.core.send_stream_data, self.number, data[at : at + limits.READ_BYTES]))

    def _is_full(self) -> bool:
        core = self._conn.core
        return core.unsent(self.number) > limits.UNACKNOWLEDGED_BYTES or core.unsent_in_all > limits.ALL_UNACKNOWLEDGED_BYTES

    async def close(self) -> None:
        """Nothing more comes from here."""
        self.finished = True
        self._act(partial(self._conn.core.send_stream_data, self.number, b"", end_stream=True))
        await trio.lowlevel.checkpoint()

    async def reset(self) -> None:
        """End it both ways, and forget what was not read."""
        core = self._conn.core
        core.consumed += len(self.buffer)
        self.buffer.clear()
        if not self.broken:
            self.broken = True
            # What this side has ended is left to arrive: a reset would overtake it.
            ours = () if self.finished else (core.reset_stream,)
            for act in (*ours, *(() if self.ended else (core.stop_stream,))):
                try:
                    self._act(partial(act, self.number, 0))
                except Over:
                    continue
        self._conn.forget(self.number)
        self.tell()
        await trio.lowlevel.checkpoint()

    def _act(self, act: Callable[[], None]) -> None:
        if self._conn.closed.is_set():
            raise Over("the connection is over")
        try:
            act()
        except (AssertionError, ValueError, RuntimeError) as error:  # aioquic's ways to say that the stream is finished, or not wanted
            raise Over("the stream is over") from error
        self._conn.send()
