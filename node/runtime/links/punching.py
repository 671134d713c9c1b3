"""The small datagrams that open a way through two routers, and the connection that then goes through it.

They leave from the socket that QUIC has, as a router's mapping is of one port. What comes with the code that only the peer was told is
answered a few times, to where it came from, as that may be another port than anybody knew. The side that had dialled the relayed link then
dials there; the links take the new connection as any direct one.
"""

import logging
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from meshos.errors import MeshError
from meshos.ids import NodeId
from meshos.node.runtime.links.limits import HANDSHAKE_S
from meshos.node.runtime.links.quic import QuicPath
from meshos.node.runtime.links.quic_endpoint import PUNCH
from meshos.node.runtime.links.quic_link import QuicLink
from meshos.node.runtime.links.quic_socket import Address
from meshos.node.runtime.links.relay_leg import Leg
from meshos.protocols.relay.events import Punch, ShowUp
from meshos.protocols.relay.limits import ANSWERED_PUNCHES, MEET_S, PUNCH_BYTES, PUNCHES_AT_S, TOKEN_BYTES
from meshos.protocols.rpc.frames import Hello

logger = logging.getLogger("meshos.links")

Effect = TypeVar("Effect", ShowUp, Punch)

assert len(PUNCH) + TOKEN_BYTES == PUNCH_BYTES


class Punching:
    """``await nursery.start(punching.run)``; then ``show_up`` and ``punch`` carry out the effects. ``go`` has the links dial a node over
    ``quic``."""

    def __init__(self, quic: QuicPath, me: NodeId, mesh: bytes, go: Callable[[NodeId], Awaitable[None]]) -> None:
        self._quic = quic
        self._me = me
        self._mesh = mesh
        self._go = go
        self._nursery: trio.Nursery | None = None
        self._sent = self._heard = self._bugs = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    def show_up(self, effect: ShowUp) -> None:
        """Carry out ``ShowUp``."""
        if self._nursery is not None:
            self._nursery.start_soon(self._guarded, self._show_up, effect)

    def punch(self, effect: Punch) -> None:
        """Carry out ``Punch``."""
        if self._nursery is not None:
            self._nursery.start_soon(self._guarded, self._punch, effect)

    def statistics(self) -> dict[str, float]:
        """For metrics."""
        return {"punches_sent": self._sent, "punches_heard": self._heard, "punching_bugs": self._bugs}

    async def _guarded(self, act: Callable[[Effect], Awaitable[None]], effect: Effect) -> None:
        try:
            await act(effect)
        except MeshError:
            return  # it has come to nothing, and the link stays relayed
        except Exception as error:
            self._bugs += 1
            logger.error("bug", exc_info=error, extra={"operation": "punch"})

    async def _show_up(self, effect: ShowUp) -> None:
        """A connection whose only use is that the relay sees where it comes from; the relay ends it."""
        connection = await self._quic.dial(effect.relay)
        try:
            with trio.move_on_after(HANDSHAKE_S):
                await Leg(connection).join(Hello(self._mesh, self._me, os.urandom(16), (), relay=effect.token))
        finally:
            with trio.CancelScope(shield=True):
                await connection.close()

    async def _punch(self, effect: Punch) -> None:
        came: list[Address] = []
        first = trio.Event()

        def hear(address: Address) -> None:
            self._heard += 1
            if len(came) < ANSWERED_PUNCHES:
                came.append(address)
                self._send(effect, address)
            first.set()

        self._quic.endpoint.punches[effect.mine] = hear
        try:
            with trio.move_on_after(MEET_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send_some, effect)
                    await (first.wait() if effect.dials else trio.sleep_forever())
                    nursery.cancel_scope.cancel()
        finally:
            del self._quic.endpoint.punches[effect.mine]
        if effect.dials and came:
            self._quic.found(effect.node, came[0])
            await self._go(effect.node)

    async def _send_some(self, effect: Punch) -> None:
        began = trio.current_time()
        for at_s in PUNCHES_AT_S:
            await trio.sleep_until(began + at_s)
            self._send(effect, effect.address)

    def _send(self, effect: Punch, address: Address) -> None:
        self._sent += 1
        self._quic.endpoint.send(PUNCH + effect.theirs, address)


def source_of(connection: object) -> Address | None:
    """Where the datagrams of a connection come from, if it is one of datagrams."""
    if not isinstance(connection, QuicLink):
        return None
    match connection.core.address:
        case (str(host), int(port)):
            return host, port
    return None
