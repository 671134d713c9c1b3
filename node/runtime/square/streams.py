"""One stream of a connection, read in frames; and the agreement on its protocol (multistream-select 1.0).

A muxed stream of libp2p says by many exceptions that it has ended. Here it ends in two ways: ``read`` gives nothing more, or
``Unreachable`` ``square-stream-ended``. What is read comes in large pieces and is kept, since in Yamux every read answers with a window
update.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.exceptions import IOException

from meshos.errors import Refused, Unreachable
from meshos.node.runtime.square import limits
from meshos.protocols.square import wire
from meshos.protocols.square.limits import LENGTH_BYTES

MULTISTREAM = "/multistream/1.0.0"
NOT_HERE = "na"

ENDED = (BaseLibp2pError, IOException, EOFError, OSError, KeyError, trio.BrokenResourceError, trio.ClosedResourceError)
"""What libp2p's streams raise when they, or their connection, are over (KeyError: ``Yamux.read_stream`` for a stream just swept away)."""


class MuxedStream(Protocol):
    """A stream as libp2p's muxers have it, and our QUIC."""

    async def read(self, n: int | None = None) -> bytes:
        """At most ``n`` bytes; EOFError at the end."""
        ...

    async def write(self, data: bytes) -> None:
        """All of it."""
        ...

    async def close(self) -> None:
        """Nothing more comes from here."""
        ...

    async def reset(self) -> None:
        """End it both ways."""
        ...


def _unbounded(count: int) -> AbstractContextManager[None]:
    """However many bytes wait: for who has asked for them to be sent."""
    return nullcontext()


class Stream:
    """See the module's text."""

    def __init__(
        self,
        muxed: MuxedStream,
        beside: Callable[[], Awaitable[MuxedStream]] | None = None,
        writing: Callable[[int], AbstractContextManager[None]] = _unbounded,
    ) -> None:
        """``beside`` opens another stream on the same connection; ``writing`` so many bytes is done within this context."""
        self._muxed, self._beside, self._writing = muxed, beside, writing
        self._read = bytearray()

    async def more(self) -> bool:
        """Wait for more bytes; False where there are none to come."""
        try:
            piece = await self._muxed.read(limits.READ_BYTES)
        except EOFError:
            return False
        except ENDED as error:
            raise ended() from error
        self._read += piece
        return bool(piece)

    async def exactly(self, count: int) -> bytes:
        """So many bytes; raises Unreachable ``square-stream-ended``."""
        while len(self._read) < count:
            if not await self.more():
                raise ended()
        taken = bytes(self._read[:count])
        del self._read[:count]
        return taken

    async def frame(self, most: int, *, idle_s: float, whole_s: float) -> bytes | None:
        """The next frame's bytes without their length; None where the other side has ended instead, or was quiet for ``idle_s``.

        Raises Refused ``square-too-large``, ``square-bad-frame``, ``square-slow-frame`` (longer than ``whole_s`` under way), Unreachable
        ``square-stream-ended``.
        """
        if not self._read:
            with trio.move_on_after(idle_s) as waiting:
                if not await self.more():
                    return None
            if waiting.cancelled_caught:
                return None
        with trio.move_on_after(whole_s):
            while (length := wire.length_of(bytes(self._read[:LENGTH_BYTES]), most)) is None:
                if not await self.more():
                    raise ended()
            await self.exactly(length.size)
            return await self.exactly(length.bytes)
        raise Refused("square-slow-frame", f"a frame was under way for longer than {whole_s:g} s")

    async def write(self, data: bytes) -> None:
        """All of ``data``; raises Unreachable ``square-stream-ended``, also where the other side does not take it, and as ``writing``."""
        try:
            with self._writing(len(data)), trio.fail_after(limits.WRITE_S):
                await self._muxed.write(data)
        except (*ENDED, ValueError, trio.TooSlowError) as error:
            raise ended() from error

    async def open_beside(self, protocol: str) -> "Stream":
        """Another stream on this one's connection, on which ``protocol`` is spoken; raises Refused, Unreachable."""
        assert self._beside is not None
        try:
            with trio.fail_after(limits.NEGOTIATE_S):
                stream = Stream(await self._beside(), self._beside, self._writing)
                await Negotiable(stream).ask(protocol)
        except (*ENDED, trio.TooSlowError) as error:
            raise ended() from error
        return stream

    async def close(self) -> None:
        """Say that nothing more comes from here, and wait a little for the other side to say so, too; then it is reset.

        A reset alone could overtake the last answer, and a stream that only this side has closed is kept by Yamux for ever.
        """
        await _quietly(self._muxed.close)
        with trio.move_on_after(limits.LINGER_S):
            try:
                while await self.more():
                    self._read.clear()
            except Unreachable:
                return
        await self.reset()

    async def reset(self) -> None:
        """End it both ways."""
        await _quietly(self._muxed.reset)


async def _quietly(act: Callable[[], Awaitable[None]]) -> None:
    """Ending what may have ended already. It is bounded, and done also while its task is being cancelled."""
    with trio.move_on_after(limits.CLOSE_S, shield=True):
        try:
            await act()
        except ENDED:
            return


def ended() -> Unreachable:
    """The other side is gone."""
    return Unreachable("square-stream-ended", "the other side has ended the stream, or the connection is gone", hint="ask again")


# -- multistream-select ------------------------------------------------------------------------------------------------


class Exact(Protocol):
    """What can be read exactly, and written."""

    async def exactly(self, count: int) -> bytes:
        """So many bytes."""
        ...

    async def write(self, data: bytes) -> None:
        """All of it."""
        ...


class Duplex(Protocol):
    """What libp2p has before there are streams: a connection, bare or encrypted."""

    async def read(self, n: int | None = None) -> bytes:
        """At most ``n`` bytes."""
        ...

    async def write(self, data: bytes) -> None:
        """All of it."""
        ...


class Negotiable:
    """What can be agreed on over anything that reads and writes: a stream, or a connection before it has streams."""

    def __init__(self, source: Exact) -> None:
        self._source = source

    async def listen(self, spoken: frozenset[str]) -> str:
        """What the other side chooses of ``spoken``; raises Refused ``square-unknown-protocol``, ``square-bad-negotiation``."""
        await self._say(MULTISTREAM)
        if await self._hear() != MULTISTREAM:
            raise _bad("it does not begin with its own name")
        wanted = ""
        for _ in range(limits.NEGOTIATE_TRIES):
            wanted = await self._hear()
            if wanted in spoken:
                await self._say(wanted)
                return wanted
            await self._say(NOT_HERE)
        raise Refused("square-unknown-protocol", f"{wanted[:80]!r} is not spoken here", hint="`mesh square describe` lists what is")

    async def ask(self, wanted: str) -> None:
        """Agree on ``wanted``; raises Refused ``square-unknown-protocol`` or ``square-bad-negotiation``."""
        await self._say(MULTISTREAM, wanted)
        if await self._hear() != MULTISTREAM:
            raise _bad("it does not begin with its own name")
        heard = await self._hear()
        if heard == NOT_HERE:
            raise Refused("square-unknown-protocol", f"{wanted} is not spoken there", hint="`mesh square describe` lists what is")
        if heard != wanted:
            raise _bad("it agrees to something else")

    async def _say(self, *lines: str) -> None:
        await self._source.write(b"".join(wire.frame(line.encode() + b"\n") for line in lines))

    async def _hear(self) -> str:
        begun = b""
        while (length := wire.length_of(begun, limits.PROTOCOL_BYTES)) is None:
            begun += await self._source.exactly(1)
        line = await self._source.exactly(length.bytes)
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise _bad("a line of it is no text") from error
        if not text.endswith("\n"):
            raise _bad("a line of it does not end")
        return text[:-1]


class Raw:
    """A connection before it has streams, read exactly: what follows the agreement belongs to another reader."""

    def __init__(self, conn: Duplex) -> None:
        self._conn = conn

    async def exactly(self, count: int) -> bytes:
        """So many bytes; raises Unreachable ``square-stream-ended``."""
        data = b""
        while len(data) < count:
            try:
                piece = await self._conn.read(count - len(data))
            except ENDED as error:
                raise ended() from error
            if not piece:
                raise ended()
            data += piece
        return data

    async def write(self, data: bytes) -> None:
        """All of it."""
        try:
            await self._conn.write(data)
        except ENDED as error:
            raise ended() from error


def _bad(why: str) -> Refused:
    return Refused("square-bad-negotiation", f"the agreement on a protocol has failed: {why}")
