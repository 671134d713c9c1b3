"""A *leg*: this side's connection to a relay, which joins it with that of another member. After that it carries TLS (carrier.py).

    this node -> relay   hello, with a token and no lanes
    relay -> this node   hello; then ``joined``, or a refusal
    from then on         whatever the other member sends

What comes after ``joined`` is believed by nobody: the two do the handshake of any link over it.
"""

import trio

from meshos.errors import Refused, Unreachable
from meshos.node.runtime.links.limits import READ_BYTES
from meshos.node.runtime.links.path import Connection
from meshos.protocols.rpc import frames
from meshos.protocols.rpc.frames import HEADER, HELLO, JOINED, REFUSAL, Hello
from meshos.protocols.rpc.limits import CONTROL_FRAME_BYTES, FRAME_HEADER_BYTES


class Leg:
    """``join`` first; then it is a ``Carrier``."""

    def __init__(self, connection: Connection) -> None:
        self.relay = connection.peer.node
        self._connection = connection
        self._early = bytearray()  # what came and is not read yet

    async def join(self, own: Hello) -> None:
        """Show the token in ``own``, and return once there is another member at the other end; raises MeshError why not."""
        await self._connection.send(frames.hello_frame(own))
        greeted = False
        while True:
            kind, payload = await self._frame()
            if kind == REFUSAL:
                raise frames.read_refusal(payload)
            if kind == HELLO and not greeted:
                frames.agree(own, frames.read_hello(payload), self.relay)
                greeted = True
            elif kind == JOINED and greeted and not payload:
                return
            else:
                raise Refused("bad-frame", f"the relay sent a frame of kind {kind}, which has no place here")

    async def _frame(self) -> tuple[int, bytes]:
        """The next frame, without what follows it."""
        length, kind, lane, stream = HEADER.unpack(await self._exactly(FRAME_HEADER_BYTES))
        if length > CONTROL_FRAME_BYTES or lane or stream:
            raise Refused("bad-frame", f"the relay sent a frame of kind {kind} that is none of a beginning")
        return kind, await self._exactly(length)

    async def _exactly(self, count: int) -> bytes:
        while len(self._early) < count:
            data = await self._connection.receive(READ_BYTES)
            if not data:
                raise Unreachable("link-lost", "the relay closed the connection", outcome="not_done")
            self._early += data
        data = bytes(self._early[:count])
        del self._early[:count]
        return data

    # -- a Carrier -------------------------------------------------------------------------------------------------

    async def send(self, data: bytes) -> None:
        """See ``Carrier``."""
        try:
            await self._connection.send(data)
        except Refused as error:
            raise _lost(error) from error

    def send_now(self, data: bytes) -> bool:
        """See ``Carrier``."""
        return self._connection.send_now(data)

    async def receive(self, max_bytes: int) -> bytes:
        """See ``Carrier``."""
        if self._early:
            await trio.lowlevel.checkpoint()
            data = bytes(self._early[:max_bytes])
            del self._early[:max_bytes]
            return data
        try:
            return await self._connection.receive(max_bytes)
        except Refused as error:
            raise _lost(error) from error

    async def finish(self) -> None:
        """See ``Carrier``: a relay is not told, as there is no more than one end to a connection over it."""
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        """See ``Carrier``."""
        await self._connection.close()

    def check(self) -> None:
        """Raises Refused if the relay would not be let in any more."""
        self._connection.check()


def _lost(error: Refused) -> Unreachable:
    """The relay's connection has ended so; of the two that it joined, none has refused anything."""
    return Unreachable("link-lost", f"the connection to the relay broke: {error.detail}")
