"""The square's host: it lets connections in, takes their streams, and ends both by its own clock.

Every connection is a task of its own under the host's nursery, and so is every stream under its connection's; what goes wrong in one ends
that one. Nothing of libp2p runs outside of them, so leaving the host's nursery leaves nothing open.

    connection    counted and paid for (before anything is read) -> handshake, within HANDSHAKE_S -> streams, until it is quiet or old
    stream        counted -> its protocol agreed on, within NEGOTIATE_S -> paid for -> its handler
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Protocol

import trio

from meshos.buckets import Bucket
from meshos.errors import MeshError, Refused, first_of
from meshos.node.runtime.square import limits, upgrade
from meshos.node.runtime.square.quic_core import Core, configuration
from meshos.node.runtime.square.quic_endpoint import Beginning, Endpoint
from meshos.node.runtime.square.quic_muxed import QuicMuxed
from meshos.node.runtime.square.streams import ENDED, MuxedStream, Negotiable, Stream
from meshos.node.runtime.square.table import Connection, Table
from meshos.node.runtime.square.wire import TcpWire, remote_of
from meshos.protocols.square.answering import Asker
from meshos.protocols.square.budget import Budget
from meshos.protocols.square.limits import CONNECT_TOKENS, STREAM_TOKENS

logger = logging.getLogger("meshos.square")

Handler = Callable[[Stream, Asker], Awaitable[None]]
"""Has a stream until it returns; the host closes it then. A MeshError that it raises is counted and resets the stream."""


class Muxed(Protocol):
    """A connection with streams: Yamux over Noise over TCP, or QUIC."""

    peer_id: Any

    async def accept_stream(self) -> MuxedStream:
        """The next stream that the peer opens."""
        ...

    async def open_stream(self) -> MuxedStream:
        """A stream to the peer."""
        ...


class SquareHost:
    """See the module's text. ``handlers`` are the protocols that are spoken; a protocol that is not among them is refused."""

    def __init__(self, seed: bytes, budget: Budget, handlers: Mapping[str, Handler]) -> None:
        self.identity = upgrade.identity(seed)
        self.table = Table()
        self.handlers = dict(handlers)
        self.background: list[Callable[[], Awaitable[None]]] = []
        self.figures: list[Callable[[], Mapping[str, float]]] = []
        self._budget = budget
        self.endpoint: Endpoint | None = None
        """That of QUIC, while it is served."""
        self._meter = Bucket(limits.ALL_PACKETS_A_SECOND, limits.ALL_PACKETS_SAVED)

    @property
    def peer(self) -> str:
        """Its peer id."""
        return str(self.identity.peer)

    async def run(self) -> None:
        """End what is quiet or old, and do what else is to be done in the background, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._reap)
            for work in self.background:
                nursery.start_soon(work)

    async def _reap(self) -> None:
        while True:
            await trio.sleep(limits.REAP_S)
            self.table.reap(trio.current_time())

    # -- connections -------------------------------------------------------------------------------------------------

    async def accept(self, stream: trio.SocketStream) -> None:
        """Have a TCP connection that came until it ends, and close it."""
        remote = remote_of(stream)
        try:
            if remote is not None and (connection := self._let_in(remote[0], "tcp")) is not None:
                await self._have(connection, partial(self._prove, connection, TcpWire(stream, self._meter)))
        finally:
            await trio.aclose_forcefully(stream)

    async def serve_quic(self, socket: trio.socket.SocketType) -> None:
        """Have the QUIC connections that come over this UDP socket, until cancelled."""
        configured = configuration(self.identity.keys, client=False)
        async with trio.open_nursery() as nursery:

            def begin(beginning: Beginning) -> None:
                address = beginning.address[0]
                if (connection := self._let_in(address, "quic")) is not None:
                    core = Core(configured, original=beginning.original, retry=beginning.retry)
                    muxed = QuicMuxed(core, endpoint, connection.end, endpoint.meters(address))
                    nursery.start_soon(self._have, connection, partial(self._prove_quic, connection, muxed, endpoint))
                    endpoint.add(muxed, beginning.retry)
                    muxed.receive(beginning.data, beginning.address, trio.current_time())

            endpoint = Endpoint(socket, begin, metered=True)
            self.endpoint = endpoint
            await endpoint.run()

    def _let_in(self, address: str, transport: str) -> Connection | None:
        now = trio.current_time()
        try:
            self._budget.take(now, CONNECT_TOKENS, address=address)
            return self.table.enter(address, transport, now)
        except Refused as refusal:
            self._count(refusal)
            return None

    async def _have(self, connection: Connection, work: Callable[[], Awaitable[None]]) -> None:
        try:
            with connection.scope:
                await self.contained(connection, work)
        finally:
            self.table.leave(connection)

    async def _prove(self, connection: Connection, wire: TcpWire) -> None:
        with trio.move_on_after(limits.HANDSHAKE_S) as handshake:
            muxed = await upgrade.accept(wire, self.identity, connection.end)
        if handshake.cancelled_caught:
            raise _slow_handshake()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_muxer, muxed.start, nursery.cancel_scope)
            await self._serve(connection, muxed)
            nursery.cancel_scope.cancel()

    async def _prove_quic(self, connection: Connection, muxed: QuicMuxed, endpoint: Endpoint) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run_muxer, muxed.start, nursery.cancel_scope)
                muxed.send()
                with trio.move_on_after(limits.HANDSHAKE_S) as handshake:
                    await muxed.handshaken.wait()
                if handshake.cancelled_caught:
                    raise _slow_handshake()
                if muxed.closed.is_set():
                    raise Refused("square-bad-handshake", "it has ended the handshake, or TLS has")
                muxed.prove()
                await self._serve(connection, muxed)
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await muxed.close()
            endpoint.forget(muxed)

    async def _serve(self, connection: Connection, muxed: Muxed) -> None:
        """Take the streams of a connection whose peer has proven its key, until it ends. Raises Refused ``square-too-many``."""
        self.table.proven(connection, str(muxed.peer_id))
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    stream = await muxed.accept_stream()
                except ENDED:
                    break
                writing = partial(self.table.writing, connection)
                nursery.start_soon(self._take_stream, connection, Stream(stream, muxed.open_stream, writing))
            nursery.cancel_scope.cancel()

    async def _run_muxer(self, start: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        try:
            await start()
        finally:
            scope.cancel()

    async def contained(self, connection: Connection, work: Callable[[], Awaitable[None]]) -> None:
        """Do ``work`` of a connection; what goes wrong in it ends that connection and nothing else."""
        try:
            await work()
        except* MeshError as group:
            refusal = first_of(group)
            assert isinstance(refusal, MeshError)
            connection.end(refusal.name)
        except* ENDED:
            connection.end("square-stream-ended")
        except* Exception as group:
            # Noise, Yamux and what decodes their messages raise whatever they like at a stranger's bytes: the connection is over.
            logger.debug("square-handshake", extra={"err": repr(first_of(group))[:300], "address": connection.address})
            connection.end("square-bad-handshake")

    # -- streams -----------------------------------------------------------------------------------------------------

    async def _take_stream(self, connection: Connection, stream: Stream) -> None:
        now = trio.current_time()
        try:
            self._budget.take(now, STREAM_TOKENS, address=connection.address, peer=connection.peer)
            self.table.open_stream(connection, now)
        except Refused as refusal:
            self._count(refusal)
            connection.refused += 1
            if connection.refused > limits.STREAMS_REFUSED:
                connection.end(refusal.name)
            await stream.reset()
            return
        try:
            await self._handle(connection, stream)
            await stream.close()
        except* MeshError as group:
            error = first_of(group)
            assert isinstance(error, MeshError)
            self._count(error)
            await stream.reset()
        except* ENDED:
            await stream.reset()
        except* Exception as group:  # a bug of ours, or of a library at what a stranger has sent: the stream is over, the square goes on
            logger.warning("square-stream", extra={"err": repr(first_of(group))[:300], "peer": connection.peer})
            self.table.ended["internal"] += 1
            await stream.reset()
        finally:
            self.table.close_stream(connection, trio.current_time())

    async def _handle(self, connection: Connection, stream: Stream) -> None:
        asker = Asker(connection.peer, connection.address)
        with trio.move_on_after(limits.NEGOTIATE_S) as agreeing:
            protocol = await Negotiable(stream).listen(frozenset(self.handlers))
        if agreeing.cancelled_caught:
            raise Refused("square-slow-handshake", f"no protocol was agreed on within {limits.NEGOTIATE_S:g} s")
        await self.handlers[protocol](stream, asker)

    def _count(self, refusal: MeshError) -> None:
        self.table.ended[refusal.name] += 1

    def statistics(self) -> dict[str, float]:
        """Connections and streams, and what else is counted."""
        return {name: value for figures in (self.table.statistics, *self.figures) for name, value in figures().items()}


def _slow_handshake() -> Refused:
    return Refused("square-slow-handshake", f"no key was proven within {limits.HANDSHAKE_S:g} s")
