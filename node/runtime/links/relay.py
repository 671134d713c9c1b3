"""The relay path: links to members that cannot be dialled, through one that both are linked to.

    caller                           relay                            called
      |-- want -------------------->|                                   |      on the links that there are (protocols/relay)
      |<------------- granted, token |                                   |
      |== a leg, with the token ====>|-- called, another token --------->|
      |                              |<========= a leg, with that token =|
      |<-------------------- joined  |  joined -------------------------->|
      |<======== TLS 1.3, both certificates, as on any link ============>|

A leg is an ordinary authenticated connection to the relay, over the paths that lead there. What is proved over the joined legs is
proved end to end: the relay sees ciphertext of a key that it does not have. Whatever it changes, doubles, leaves out or puts in another
order is no record of that key, and ends the connection as ``relay-altered``; what it holds back ends as any silence does. Before the
handshake is over, nothing that came through is believed: what goes wrong is the relay's failure, and the next one is tried.

A leg is never itself relayed: ``over`` does not hold this path, and a relay refuses one that came over it.
"""

import logging
import math
import os
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence

import trio

from meshos.crypto.certificates import verify_chain
from meshos.errors import MeshError, Refused, Unreachable
from meshos.ids import NodeId, Peer
from meshos.node.runtime.links.counting import name_of
from meshos.node.runtime.links.limits import LATELY_S, RELAYS_TRIED
from meshos.node.runtime.links.link_state import LinkState
from meshos.node.runtime.links.path import RELAY, Accepted, Connection, Path
from meshos.node.runtime.links.relay_leg import Leg
from meshos.node.runtime.links.tcp import Proved, TcpConnection
from meshos.node.runtime.links.tls import Credentials, TlsStream, contexts
from meshos.protocols.relay.events import MACHINE, Answer, Answered, Grant, Relayed, Seek, Unrelayed
from meshos.protocols.relay.limits import TRY_S
from meshos.protocols.rpc.frames import Hello, refusal_frame

logger = logging.getLogger("meshos.links")

REMEMBERED = 1024
"""Peers of whom it is known which relay led there last."""
ALTERED = frozenset({"not-tls", "tls-failed", "tls-too-old"})
"""What OpenSSL has to say of records that nobody there has sealed."""

Ask = Callable[[Seek], Awaitable[Grant]]
Prepare = Callable[[NodeId, Collection[NodeId]], Awaitable[None]]
Deliver = Callable[[str, object], None]


class RelayedConnection(TcpConnection):
    """See ``path.Connection``; ``via`` is the relay."""

    def __init__(self, tls: TlsStream, peer: Peer, check: Callable[[], Peer], via: NodeId, closed: Callable[[NodeId], None]) -> None:
        super().__init__(tls, peer, check)
        self.via = via
        self._closed: Callable[[NodeId], None] | None = closed

    async def close(self) -> None:
        """See ``path.Connection``."""
        closed, self._closed = self._closed, None
        if closed is not None:
            closed(self.peer.node)
        await super().close()

    async def send(self, data: bytes) -> None:
        """See ``path.Connection``."""
        try:
            await super().send(data)
        except Refused as error:
            raise self._told(error) from error

    async def receive(self, max_bytes: int) -> bytes:
        """See ``path.Connection``."""
        try:
            return await super().receive(max_bytes)
        except Refused as error:
            raise self._told(error) from error

    def _told(self, error: Refused) -> MeshError:
        """What the peer itself has refused stays so."""
        if error.name not in ALTERED:
            return error
        return Unreachable("relay-altered", f"what came through {self.via} is not what {self.peer.node} has sent: {error.detail}")


class RelayPath:
    """See the module's text and ``path.Path``. ``candidates`` are the members that may be asked to relay to a node, the best first;
    ``prepare`` has this node linked to one that leads there and was not tried, where such are known; ``ask`` puts a command to the machine
    ``relay``, ``deliver`` tells it an event."""

    name = RELAY

    def __init__(
        self,
        credentials: Credentials,
        me: NodeId,
        over: Sequence[Path],
        candidates: Callable[[NodeId], Sequence[NodeId]],
        prepare: Prepare,
        ask: Ask,
        deliver: Deliver,
        *,
        proved: Proved | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._me = me
        self._over = over
        self._candidates = candidates
        self._prepare = prepare
        self._ask = ask
        self._deliver = deliver
        self._proved = proved
        self._wall_clock = wall_clock
        self._counts: Counter[str] = Counter()
        self._lately: OrderedDict[NodeId, tuple[NodeId, float]] = OrderedDict()  # by peer: through whom last, and when
        self._open: Counter[NodeId] = Counter()  # relayed connections, by peer
        self._nursery: trio.Nursery | None = None
        self._accepted: Accepted
        self.trust(credentials)

    def trust(self, credentials: Credentials) -> None:
        """Use these from now on (a new certificate, a new root, a new revocation list)."""
        self._credentials = credentials
        self._server, self._client = contexts(credentials)

    def statistics(self) -> dict[str, float]:
        """Dials, connections accepted, and those refused, by the reason's name."""
        return {f"relay_{name}": count for name, count in self._counts.items()}

    # -- to others ---------------------------------------------------------------------------------------------------

    async def dial(self, to: NodeId) -> RelayedConnection:
        """See ``path.Path``."""
        self._counts["dials"] += 1
        avoid, tried = self._avoid(to), set[NodeId]()
        first: MeshError | None = None
        for _ in range(RELAYS_TRIED):
            await self._prepare(to, tried)
            left = [node for node in self._candidates(to) if node not in tried]
            others = tuple(node for node in left if node != avoid)
            if first is not None and not left:
                break
            try:
                grant = await self._ask(Seek(to, others or tuple(left)))
            except MeshError as error:
                first = first or error
                tried.update(others or left)
                continue
            tried.add(grant.relay)
            self._remember(to, grant.relay)
            try:
                with trio.fail_after(TRY_S):
                    return await self._through(grant, to)
            except trio.TooSlowError:
                self._counts["failed_handshake-timeout"] += 1
                first = first or Unreachable("handshake-timeout", f"no connection came about through {grant.relay} in time")
            except MeshError as error:
                self._counts[f"failed_{name_of(error)}"] += 1
                first = first or error
        assert first is not None
        raise first

    async def _through(self, grant: Grant, to: NodeId) -> RelayedConnection:
        leg = await self._leg(grant.relay, grant.token)
        try:
            connection = await self._secured(leg, to, server_side=False)
        except BaseException:
            with trio.CancelScope(shield=True):
                await leg.close()
            raise
        self._counts["relayed"] += 1
        return connection

    def _avoid(self, to: NodeId) -> NodeId | None:
        """The relay that led there just now: others are asked before it."""
        last, at = self._lately.get(to, (None, 0.0))
        return last if trio.current_time() - at < LATELY_S else None

    def _remember(self, to: NodeId, relay: NodeId) -> None:
        self._lately.pop(to, None)
        self._lately[to] = (relay, trio.current_time())
        if len(self._lately) > REMEMBERED:
            self._lately.popitem(last=False)

    # -- from others -------------------------------------------------------------------------------------------------

    async def serve(self, accepted: Accepted, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """See ``path.Path``: there is nothing to listen on, as relays call."""
        async with trio.open_nursery() as nursery:
            self._nursery, self._accepted = nursery, accepted
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def answer(self, effect: Answer) -> None:
        """Carry out ``Answer``."""
        if self._nursery is not None:
            self._nursery.start_soon(self._answer, effect)

    async def _answer(self, effect: Answer) -> None:
        connection = None
        try:
            with trio.fail_after(TRY_S):
                connection = await self._come(effect)
        except trio.TooSlowError:
            self._counts["refused_handshake-timeout"] += 1
        except MeshError as error:
            self._counts[f"refused_{name_of(error)}"] += 1
        except Exception as error:  # a bug that these bytes have met: of this connection, not of the node
            self._bug(error)
        finally:
            self._deliver(MACHINE, Answered(effect.token, connection is not None))
        if connection is not None:
            self._counts["accepted"] += 1
            try:
                await self._accepted(connection)
            except Exception as error:
                self._bug(error)
            finally:
                with trio.CancelScope(shield=True):
                    await connection.close()

    async def _come(self, effect: Answer) -> RelayedConnection:
        leg = await self._leg(effect.relay, effect.token)
        try:
            return await self._secured(leg, effect.caller, server_side=True)
        except BaseException:
            with trio.CancelScope(shield=True):
                await leg.close()
            raise

    def _bug(self, error: Exception) -> None:
        self._counts["bugs"] += 1
        logger.error("bug", exc_info=error, extra={"operation": "relay"})

    # -- both --------------------------------------------------------------------------------------------------------

    async def _leg(self, relay: NodeId, token: bytes) -> Leg:
        """A connection to ``relay`` that it has joined with another; raises MeshError."""
        leg = Leg(await self._reach(relay))
        try:
            await leg.join(Hello(self._credentials.mesh, self._me, os.urandom(16), (), relay=token))
        except BaseException as error:
            with trio.CancelScope(shield=True):
                await leg.close()
            if isinstance(error, Refused):
                raise Unreachable(error.name, error.detail, outcome="not_done") from error  # the relay says no, and not the peer
            raise
        return leg

    async def _reach(self, relay: NodeId) -> Connection:
        first: MeshError | None = None
        for path in self._over:
            try:
                return await path.dial(relay)
            except MeshError as error:
                first = first or error
        raise Unreachable("no-relay", f"the relay {relay} cannot be reached: {first}", outcome="not_done")

    async def _secured(self, leg: Leg, expect: NodeId, *, server_side: bool) -> RelayedConnection:
        """With ``expect`` at the other end, proved; raises Refused if this node does not let it in, Unreachable for all else."""
        tls = TlsStream(leg, self._server if server_side else self._client, server_side=server_side)
        try:
            certificate = await tls.handshake()
        except Refused as error:  # said by nobody known: the relay could have written it
            raise Unreachable(
                "relay-altered", f"no handshake came about through {leg.relay}: {error.detail}", outcome="not_done"
            ) from error

        def check() -> Peer:
            return verify_chain([certificate], self._credentials.trust, self._wall_clock())

        try:
            peer = check()
        except Refused as refusal:
            if server_side:
                await tls.close_after(refusal_frame(refusal))
            raise
        if peer.node != expect:
            raise Unreachable("relay-altered", f"{leg.relay} was to lead to {expect}, and led to {peer.node}", outcome="not_done")
        if self._proved is not None:
            self._proved(peer, certificate)
        self._open[peer.node] += 1
        self._deliver(MACHINE, Relayed(peer.node, leg.relay, not server_side))
        return RelayedConnection(tls, peer, check, leg.relay, self._has_closed)

    def _has_closed(self, node: NodeId) -> None:
        self._open[node] -= 1
        if not self._open[node]:
            del self._open[node]
            self._deliver(MACHINE, Unrelayed(node))


def nearest(states: Sequence[LinkState], to: NodeId) -> list[NodeId]:
    """The members that this node is itself connected to, without a relay: the one with the shortest round trip first."""
    found: dict[NodeId, float] = {}
    for state in states:
        if state.via is None and state.node != to:
            rtt_s = math.inf if state.rtt_s is None else state.rtt_s
            found[state.node] = min(rtt_s, found.get(state.node, math.inf))
    return sorted(found, key=lambda node: found[node])
