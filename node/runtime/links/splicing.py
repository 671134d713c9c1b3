"""A relay's connections: each leg waits until the machine ``relay`` joins it with another, and then what one brings goes out on the other.

What goes through is ciphertext of the two, sealed once more on each leg. A piece is taken from one side, waits for its turn by the
bandwidth, and is handed over before the next is taken: a side that does not read so stops the one that sends to it, and nothing piles
up here. A leg lives no longer than the certificate that it was opened with, and a node that is cut off is cut off here as well.
"""

import logging
from collections.abc import Callable, Container
from itertools import count

import trio

from meshos.errors import MeshError, Refused
from meshos.ids import NodeId, OrgDid
from meshos.node.runtime.links.path import Connection
from meshos.node.runtime.links.punching import source_of
from meshos.protocols.relay.events import MACHINE, Came, Carried, EndLeg, Gone, Join
from meshos.protocols.relay.limits import CARRIED_S, CHUNK_BYTES
from meshos.protocols.relay.policy import Bandwidth
from meshos.protocols.relay.wire import REASONS
from meshos.protocols.rpc.frames import JOINED, frame, refusal_frame

logger = logging.getLogger("meshos.links")


class _Leg:
    """One leg. ``decided`` is set when it is joined or refused."""

    def __init__(self, number: int, connection: Connection) -> None:
        self.number = number
        self.connection = connection
        self.other: _Leg | None = None
        self.org: OrgDid | None = None
        self.reason = ""
        self.decided = trio.Event()
        self.scope = trio.CancelScope()


class Splicing:
    """``take`` is given what comes in; ``join`` and ``end`` carry out the machine's effects. ``deliver`` tells the machine."""

    def __init__(self, bandwidth: Bandwidth, deliver: Callable[[str, object], None]) -> None:
        self._bandwidth = bandwidth
        self._deliver = deliver
        self._numbers = count(1)
        self._legs: dict[int, _Leg] = {}
        self._bytes = 0
        self._waited_s = 0.0

    async def take(self, connection: Connection, token: bytes) -> None:
        """A leg, to its end; the hellos are exchanged."""
        leg = _Leg(next(self._numbers), connection)
        self._legs[leg.number] = leg
        try:
            with leg.scope:
                self._deliver(MACHINE, Came(leg.number, connection.peer, token, source_of(connection)))
                await leg.decided.wait()
                if leg.other is not None and leg.org is not None:
                    await self._carry(leg, leg.other.connection, leg.org)
                else:
                    await connection.close_after(refusal_frame(Refused(leg.reason, REASONS[leg.reason])))
        except MeshError:
            pass  # one of the two connections broke, and so neither is of any use: the machine ends the other
        finally:
            del self._legs[leg.number]
            self._deliver(MACHINE, Gone(leg.number))
            with trio.CancelScope(shield=True):
                await connection.close()

    async def _carry(self, leg: _Leg, to: Connection, org: OrgDid) -> None:
        told = trio.current_time()
        while data := await leg.connection.receive(CHUNK_BYTES):
            now = trio.current_time()
            wait_s = self._bandwidth.wait(now, org, len(data))
            if wait_s > 0:
                self._waited_s += wait_s
                await trio.sleep(wait_s)
            await self.forward(to, data)
            self._bytes += len(data)
            if now - told > CARRIED_S:
                told = now
                self._deliver(MACHINE, Carried(leg.number))

    async def forward(self, to: Connection, data: bytes) -> None:
        """Hand over what came."""
        if not to.send_now(data):
            await to.send(b"")

    # -- effects -----------------------------------------------------------------------------------------------------

    def join(self, effect: Join) -> None:
        """Carry out ``Join``."""
        first, second = self._legs.get(effect.first), self._legs.get(effect.second)
        if first is None or second is None:
            return  # one has just gone, which the machine is going to hear
        for leg, other in ((first, second), (second, first)):
            leg.other, leg.org = other, effect.org
            if not leg.connection.send_now(frame(JOINED, b"")):  # ten bytes are not taken: it is broken
                leg.scope.cancel()
        first.decided.set()
        second.decided.set()

    def end(self, effect: EndLeg) -> None:
        """Carry out ``EndLeg``."""
        leg = self._legs.get(effect.leg)
        if leg is None:
            return
        if leg.decided.is_set():
            leg.scope.cancel()
        else:
            leg.reason = effect.reason
            leg.decided.set()

    # -- for the links -----------------------------------------------------------------------------------------------

    def recheck(self, orgs: Container[OrgDid] | None = None) -> None:
        """End the legs of members (of ``orgs``) that would not be let in any more."""
        for leg in list(self._legs.values()):
            if orgs is None or leg.connection.peer.org in orgs:
                try:
                    leg.connection.check()
                except Refused:
                    leg.scope.cancel()

    def cut(self, nodes: Container[NodeId]) -> None:
        """End those of ``nodes``."""
        for leg in list(self._legs.values()):
            if leg.connection.peer.node in nodes:
                leg.scope.cancel()

    def leave(self) -> None:
        """End all."""
        for leg in list(self._legs.values()):
            leg.scope.cancel()

    def statistics(self) -> dict[str, float]:
        """For metrics."""
        return {"legs": len(self._legs), "bytes": self._bytes, "waited_s": self._waited_s}
