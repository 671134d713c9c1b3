"""One connection at work: a reader, a writer and a clock around a ``LinkCodec``.

What is queued when ``flush`` is called leaves at once, in the same turn of the event loop, if nothing was written for GATHER_S or if it is
worth a system call. Otherwise it waits for the writer, which writes all that is queued as one piece up to WRITE_BYTES: what comes
meanwhile shares one system call. The reader hands on what came together, and stops reading while the mailbox is full, so that the
peer's TCP window closes. A channel that *parts* sends what is queued and a goodbye, and ends when the other side has said its own.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

import trio

from meshos.errors import MeshError, Refused, Unreachable
from meshos.flow import Lane
from meshos.ids import NodeId, Peer
from meshos.node.runtime.links.limits import (
    BULK_IDLE_S,
    FLUSH_MESSAGES,
    GATHER_S,
    HANDSHAKE_S,
    IDLE_S,
    KEEPALIVE_S,
    LINGER_S,
    PARTIAL_S,
    PARTING_S,
    READ_BYTES,
    SILENT_S,
    STALLED_S,
    TURN_MESSAGES,
    WRITE_BYTES,
)
from meshos.node.runtime.links.path import Connection
from meshos.node.runtime.links.transport import NOTHING, Measuring, Transport
from meshos.protocols.rpc.codec import LinkCodec
from meshos.protocols.rpc.events import Message
from meshos.protocols.rpc.frames import Hello
from meshos.protocols.rpc.partials import Partials
from meshos.protocols.rpc.paths import Measured

Received: TypeAlias = Callable[[Peer, list[tuple[Lane, Message]]], Awaitable[None]]


class Owner(Protocol):
    """Who holds channels (links.py)."""

    def parted(self, channel: "Channel") -> None:
        """It takes nothing more; what it holds still goes out."""

    def waits(self, channel: "Channel") -> None:
        """Something was written on it, and nothing has come since."""

    def told(self, channel: "Channel") -> None:
        """The other side has found another path unanswered, and goes on over this one."""


class Channel:
    """See the module's text. ``greet``, then ``run``; ``send`` and ``flush``, ``part`` and ``end`` at any time."""

    def __init__(self, connection: Connection, own: Hello, path: str, partials: Partials, owner: Owner) -> None:
        self.connection = connection
        self.path = path
        peer = connection.peer
        self.codec = LinkCodec(own, dialled=connection.dialled, org=peer.org, expect=peer.node, partials=partials, evicted=self.end)
        self.bulk_only = own.lanes == ("bulk",)
        self.parting = False
        self.to_flush = False  # whether somebody is going to call ``flush``
        self._owner = owner
        self.measuring = Measuring()
        self.bytes_in = self.bytes_out = 0
        self.messages_in: dict[Lane, int] = {"control": 0, "work": 0, "bulk": 0}
        self.messages_out: dict[Lane, int] = {"control": 0, "work": 0, "bulk": 0}
        self._wake = trio.Event()
        self._scope = trio.CancelScope()
        self._error: MeshError | None = None
        self._early: list[tuple[Lane, Message]] = []
        self.began_at = self.heard_at = self.used_at = trio.current_time()
        self.waits_since: float | None = None
        """When the first thing was written since anything last came."""
        self._writing_since: float | None = None
        self._blocked = True  # the writer does not run yet, is writing, or has to: all waits for it, in the codec and bounded there
        self._write_alone_at = 0.0  # from when on a message need not wait for the writer
        self._parting_since: float | None = None
        self.handing = False  # messages over to the node, and not reading meanwhile
        self.pings = self.ponged = 0
        """The numbers of the last ping that was sent, and of the last that was answered."""
        self._pinged_at = 0.0

    @property
    def peer(self) -> Peer:
        """Who is at the other end."""
        return self.connection.peer

    @property
    def ending(self) -> bool:
        """Whether it takes nothing more."""
        return self.parting or self._error is not None

    @property
    def carried(self) -> bool:
        """Whether any message has gone over it, either way."""
        return any(self.messages_in.values()) or any(self.messages_out.values())

    @property
    def boot(self) -> bytes:
        """Which start of the other side's process this is."""
        assert self.codec.peer_hello is not None
        return self.codec.peer_hello.boot

    @property
    def relay_token(self) -> bytes:
        """With which the other side asks to be joined with another; empty on every connection that is a link."""
        return b"" if self.codec.peer_hello is None else self.codec.peer_hello.relay

    def dialler(self, me: NodeId) -> NodeId:
        """The node that opened this connection."""
        return me if self.connection.dialled else self.peer.node

    # -- beginning ---------------------------------------------------------------------------------------------------

    async def greet(self) -> None:
        """Exchange hellos; raises what the codec refuses, or ``handshake-timeout``, with the connection closed."""
        try:
            with trio.fail_after(HANDSHAKE_S):
                if self.connection.dialled:
                    await self.connection.send(self.codec.data_to_send(WRITE_BYTES))
                while self.codec.peer_hello is None:
                    data = await self.connection.receive(READ_BYTES)
                    if not data:
                        raise Unreachable("link-lost", "the other side closed the connection without a hello", outcome="not_done")
                    self._early += self.codec.receive_lanes(data)
        except trio.TooSlowError as error:
            await self.connection.close()
            raise Unreachable("handshake-timeout", "no hello came in time", outcome="not_done") from error
        except MeshError as error:
            await self._refuse(error)
            raise
        except BaseException:
            await self.connection.close()
            raise

    # -- at any time -------------------------------------------------------------------------------------------------

    def send(self, lane: Lane, message: Message) -> None:
        """Queue ``message`` for the next ``flush``; raises Refused (see ``LinkCodec.send``)."""
        self.codec.send(lane, message)
        self.messages_out[lane] += 1

    def flush(self) -> None:
        """See that what was queued leaves."""
        self.used_at = trio.current_time()
        worth = self.used_at >= self._write_alone_at or self.codec.waiting >= FLUSH_MESSAGES
        if self._blocked or not worth or not self._write_now():
            self._wake.set()

    def _write_now(self) -> bool:
        """What is queued, past the writer; False if something is left for it."""
        self._write_alone_at = self.used_at + GATHER_S
        data = self.codec.data_to_send(WRITE_BYTES)
        self.bytes_out += len(data)
        self._wrote(data, self.used_at)
        if self.connection.send_now(data):
            return not self.codec.waiting
        self._blocked = True
        return False

    def _wrote(self, data: bytes, now: float) -> None:
        if data and self.waits_since is None:
            self.waits_since = now
            self._owner.waits(self)

    def ping(self) -> None:
        """Measure a round trip."""
        self.pings += 1
        self._pinged_at = trio.current_time()
        self.codec.ping(self.pings)
        self._wake.set()

    def ping_every(self, interval_s: float) -> None:
        """The same, if the last one is so long ago."""
        if trio.current_time() - self._pinged_at >= interval_s:
            self.ping()

    def reroute(self) -> None:
        """Tell the other side that another path did not answer, if it knows of paths."""
        if self.codec.peer_hello is not None and self.codec.peer_hello.paths:
            self.codec.reroute()
            self._wake.set()

    def transport(self) -> Transport:
        """What the transport knows."""
        return self.connection.transport(trio.current_time())

    def measured(self, now: float) -> Measured:
        """What is known of its path."""
        waits_s = 0.0 if self.waits_since is None else now - self.waits_since
        return self.measuring.measured(self.connection.transport(now), waits_s)

    def unanswered_s(self, now: float) -> float:
        """How long something has waited for any sign that it arrived; for an answer, where the transport does not say."""
        transport = self.connection.transport(now)
        waits_s = 0.0 if self.waits_since is None else now - self.waits_since
        return waits_s if transport is NOTHING else self.measuring.measured(transport, waits_s).unanswered_s

    def part(self) -> None:
        """End politely: what is queued still goes out, and what the other side has queued still comes in."""
        if not self.parting:
            self.parting = True
            self._parting_since = trio.current_time()
            self.codec.part()
            self._wake.set()
            self._owner.parted(self)

    def end(self, error: MeshError) -> None:
        """End at once; ``run`` returns ``error``."""
        if self._error is None:
            self._error = error
        self._scope.cancel()

    # -- running -----------------------------------------------------------------------------------------------------

    async def run(self, received: Received) -> MeshError:
        """Carry messages until the connection ends; gives the reason."""
        with self._scope:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    nursery.start_soon(self._keep)
                    await self._read(received)
                    nursery.cancel_scope.cancel()
            except* MeshError as group:
                if self._error is None:
                    self._error = _first(group)
        error = self._error or Unreachable("link-closed", f"the link to {self.peer.node} was closed")
        self.codec.close()
        with trio.CancelScope(shield=True):
            await self._refuse(error)
        return error

    async def _read(self, received: Received) -> None:
        if self._early:
            await received(self.peer, self._early)
        self._early = []
        self._wake.set()  # the acceptor's hello
        while not (self.codec.goodbye and self.parting and not self.codec.waiting):
            data = await self.connection.receive(READ_BYTES)
            if not data:
                if not self.codec.goodbye:
                    raise Unreachable("link-lost", f"{self.peer.node} closed the connection")
                return
            self.bytes_in += len(data)
            self.heard_at = trio.current_time()
            self.waits_since = None
            messages = self.codec.receive_lanes(data)
            if self.codec.rerouted:
                self.codec.rerouted = False
                self._owner.told(self)
            if self.codec.pong is not None:
                self._ponged(self.codec.pong)
            if self.codec.urgent():
                self._wake.set()
            if messages:
                self.used_at = self.heard_at
                self.handing = True
                for begin in range(0, len(messages), TURN_MESSAGES):
                    await self._hand_on(received, messages[begin : begin + TURN_MESSAGES])
                self.handing = False
            if self.codec.goodbye:
                self.part()

    async def _hand_on(self, received: Received, messages: list[tuple[Lane, Message]]) -> None:
        for lane, _ in messages:
            self.messages_in[lane] += 1
        await received(self.peer, messages)

    async def _write(self) -> None:
        while True:
            self._blocked = False
            await self._wake.wait()
            self._wake = trio.Event()
            self._blocked = True
            data = self.codec.data_to_send(WRITE_BYTES)  # it may be nothing: then what ``send_now`` left behind goes out
            while True:
                self._writing_since = trio.current_time()
                self._wrote(data, self._writing_since)
                try:
                    await self.connection.send(data)
                except MeshError:
                    await trio.sleep(LINGER_S)  # the reader may still find why the other side closed, which says more
                    raise
                self._writing_since = None
                self.bytes_out += len(data)
                if not (data := self.codec.data_to_send(WRITE_BYTES)):
                    break
            self._write_alone_at = trio.current_time() + GATHER_S

    async def _keep(self) -> None:
        """Ping, and end what is silent, stalled, idle or has said goodbye for too long."""
        while True:
            self.ping()
            await trio.sleep(KEEPALIVE_S)
            now = trio.current_time()
            if now - self.heard_at > SILENT_S:
                raise Unreachable("link-silent", f"nothing came from {self.peer.node} for {SILENT_S:.0f} s")
            if self._writing_since is not None and now - self._writing_since > STALLED_S:
                raise Unreachable("link-stalled", f"{self.peer.node} has not read for {STALLED_S:.0f} s")
            if not self.handing and self.codec.age() * KEEPALIVE_S > PARTIAL_S:
                raise Unreachable("link-stalled", f"{self.peer.node} has not gone on with a message for {PARTIAL_S:.0f} s")
            if self._parting_since is not None and now - self._parting_since > PARTING_S:
                return self.end(Unreachable("link-closed", f"the link to {self.peer.node} was closed"))
            if now - self.used_at > (BULK_IDLE_S if self.bulk_only else IDLE_S):
                self.part()

    def _ponged(self, number: int) -> None:
        self.codec.pong = None
        if self.ponged < number == self.pings:
            self.ponged = number
            self.measuring.ponged(trio.current_time() - self._pinged_at)

    async def _refuse(self, error: MeshError) -> None:
        """Close; where we are the one that says no, tell the other side why, as far as it listens."""
        if isinstance(error, Refused):
            self.codec.refuse(error)
            await self.connection.close_after(self.codec.data_to_send(WRITE_BYTES))
        await self.connection.close()


def _first(group: BaseExceptionGroup[MeshError]) -> MeshError:
    error = group.exceptions[0]
    return error if isinstance(error, MeshError) else _first(error)
