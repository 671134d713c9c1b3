"""The TCP path: a listener and a dialler, mutual TLS 1.3, and who is let in."""

import logging
import socket
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import TypeAlias

import trio

from meshos.buckets import Bucket, Buckets, block_of
from meshos.crypto.certificates import verify_chain
from meshos.errors import MeshError, Refused, Unreachable
from meshos.ids import NodeId, Peer
from meshos.node.runtime.links.carrier import SocketCarrier
from meshos.node.runtime.links.counting import name_of
from meshos.node.runtime.links.limits import (
    DIAL_S,
    HANDSHAKE_S,
    HANDSHAKE_SOURCES,
    HANDSHAKES_BURST,
    HANDSHAKES_PER_S,
    STRANGE_HANDSHAKES_BURST,
    STRANGE_HANDSHAKES_PER_S,
    UNAUTHENTICATED,
    UNAUTHENTICATED_PER_ADDRESS,
)
from meshos.node.runtime.links.path import Accepted
from meshos.node.runtime.links.tls import Credentials, TlsStream, contexts
from meshos.node.runtime.links.transport import NOTHING, Transport, of_tcp
from meshos.protocols.rpc.frames import refusal_frame

logger = logging.getLogger("meshos.links")

AddressOf: TypeAlias = Callable[[NodeId], tuple[str, int] | None]
"""Where a node listens, as far as it is known."""

Proved: TypeAlias = Callable[[Peer, bytes], None]
"""Hears who a handshake has proved to be there, and by which certificate (DER): membership believes nobody else."""


class TcpConnection:
    """See ``path.Connection``."""

    def __init__(self, tls: TlsStream, peer: Peer, check: Callable[[], Peer]) -> None:
        self.peer = peer
        self.dialled = not tls.server_side
        self.via: NodeId | None = None
        self._tls = tls
        self._check = check

    async def send(self, data: bytes) -> None:
        await self._tls.send(data)

    def send_now(self, data: bytes) -> bool:
        return self._tls.send_now(data)

    async def receive(self, max_bytes: int) -> bytes:
        return await self._tls.receive(max_bytes)

    def check(self) -> None:
        self._check()

    def transport(self, now: float) -> Transport:
        carrier = self._tls.transport
        return of_tcp(carrier.socket) if isinstance(carrier, SocketCarrier) else NOTHING  # what a relay's legs lose says nothing

    async def close_after(self, last: bytes) -> None:
        await self._tls.close_after(last)

    async def close(self) -> None:
        await self._tls.close()


class TcpPath:
    """Listens on ``host`` and ``port`` (0: any free one; ``port`` holds it once ``serve`` has started)."""

    name = "tcp"

    def __init__(
        self,
        credentials: Credentials,
        host: str,
        port: int,
        address_of: AddressOf,
        *,
        proved: Proved | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.host = host
        self.port = port
        self._address_of = address_of
        self._proved = proved
        self._wall_clock = wall_clock
        self._counts: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()  # unauthenticated connections by address
        self._rates = Buckets(HANDSHAKES_PER_S, HANDSHAKES_BURST, HANDSHAKE_SOURCES)
        self._strange = Bucket(STRANGE_HANDSHAKES_PER_S, STRANGE_HANDSHAKES_BURST)
        self._met: OrderedDict[str, None] = OrderedDict()  # addresses from which members have come
        self.trust(credentials)

    def trust(self, credentials: Credentials) -> None:
        """Use these from now on (a new certificate, a new root, a new revocation list)."""
        self._credentials = credentials
        self._server, self._client = contexts(credentials)

    async def serve(self, accepted: Accepted, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """See ``path.Path``; raises OSError if the port cannot be had."""
        listeners = await trio.open_tcp_listeners(self.port, host=self.host)
        self.port = listeners[0].socket.getsockname()[1]

        async def take(stream: trio.SocketStream) -> None:
            try:
                await self._take(stream, accepted)
            except Exception as error:  # a bug that this peer's bytes have met: it ends this connection (as returning does), not the node
                self._counts["bugs"] += 1
                logger.error("bug", exc_info=error, extra={"operation": "link"})

        task_status.started()
        await trio.serve_listeners(take, listeners)

    async def dial(self, to: NodeId) -> TcpConnection:
        """See ``path.Path``."""
        address = self._address_of(to)
        if address is None:
            raise Unreachable("no-address", f"no address of {to} is known", outcome="not_done")
        self._counts["dials"] += 1
        try:
            with trio.fail_after(DIAL_S - HANDSHAKE_S):
                return await self._connect(to, *address)
        except (OSError, ValueError, OverflowError) as error:  # the latter two for what is no address at all
            detail = f"{to} does not answer at {address[0]}:{address[1]} ({getattr(error, 'strerror', None) or 'no connection'})"
            raise Unreachable("peer-unreachable", detail, outcome="not_done") from error
        except trio.TooSlowError as error:
            raise Unreachable("handshake-timeout", f"{to} did not finish the handshake in time", outcome="not_done") from error

    async def _connect(self, to: NodeId, host: str, port: int) -> TcpConnection:
        stream = await trio.open_tcp_stream(host, port)
        try:
            _tune(stream)
            tls = TlsStream(stream, self._client, server_side=False)
            connection = self._authenticated(tls, await tls.handshake())
            if connection.peer.node != to:
                raise Refused("node-mismatch", f"{connection.peer.node} answered where {to} was expected")
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return connection

    def statistics(self) -> dict[str, float]:
        """Dials, connections accepted, and those refused, by the reason's name."""
        return {**{f"tcp_{name}": count for name, count in self._counts.items()}, "tcp_unauthenticated": self._waiting.total()}

    def _authenticated(self, tls: TlsStream, certificate: bytes) -> TcpConnection:
        def check() -> Peer:
            return verify_chain([certificate], self._credentials.trust, self._wall_clock())

        peer = check()
        if self._proved is not None:
            self._proved(peer, certificate)
        return TcpConnection(tls, peer, check)

    async def _take(self, stream: trio.SocketStream, accepted: Accepted) -> None:
        """One connection from outside, from its first byte to its end."""
        try:
            address = block_of(stream.socket.getpeername()[0])
        except OSError:
            self._counts["refused_link-lost"] += 1
            return  # it has hung up already
        if self._waiting.total() >= UNAUTHENTICATED or self._waiting[address] >= UNAUTHENTICATED_PER_ADDRESS:
            self._counts["refused_too_many"] += 1
            return
        now = trio.current_time()
        if not self._rates.of(address).take(now) or (address not in self._met and not self._strange.take(now)):
            self._counts["refused_too_often"] += 1
            return
        self._waiting[address] += 1
        try:
            connection = await self._admit(stream)
        finally:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address]
        if connection is not None:
            self._counts["accepted"] += 1
            self._meet(address)
            await accepted(connection)

    def _meet(self, address: str) -> None:
        self._met[address] = None
        self._met.move_to_end(address)
        if len(self._met) > HANDSHAKE_SOURCES:
            self._met.popitem(last=False)

    async def _admit(self, stream: trio.SocketStream) -> TcpConnection | None:
        """The connection, once it is known who is there; None if it was refused."""
        try:
            with trio.fail_after(HANDSHAKE_S):
                _tune(stream)
                tls = TlsStream(stream, self._server, server_side=True)
                certificate = await tls.handshake()
            try:
                return self._authenticated(tls, certificate)
            except Refused as refusal:
                self._counts[f"refused_{name_of(refusal)}"] += 1
                await tls.close_after(refusal_frame(refusal))
        except trio.TooSlowError:
            self._counts["refused_handshake-timeout"] += 1
        except MeshError as error:
            self._counts[f"refused_{name_of(error)}"] += 1
        except OSError:
            self._counts["refused_link-lost"] += 1
        return None


def _tune(stream: trio.SocketStream) -> None:
    """BBR where the kernel has it: with 1 % loss it carries 14 times what Reno does."""
    available = getattr(socket, "TCP_CONGESTION", None)
    if available is not None:
        try:
            stream.socket.setsockopt(socket.IPPROTO_TCP, available, b"bbr")
        except OSError:
            return  # the kernel has none: its own choice is as good as any
