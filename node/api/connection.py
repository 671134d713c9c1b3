"""One client's connection: hypercorn's own, with two things done in fewer turns of the event loop.

*Writes.* Hypercorn sends the head, the body and the end of an answer one by one, each with a system call of its own and each
waking the client. Here what is sent in one turn leaves as one piece; what is larger than HELD_BYTES is sent on at once, which
holds up whoever sends. Order is kept by hypercorn's own lock.

*Idle time.* Hypercorn cancels a task when a request begins and starts another when it has ended. Here one task a connection
looks at the time since when there was nothing to do.
"""

import logging
from collections.abc import Awaitable, Callable

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState

from meshos.node.api import limits

logger = logging.getLogger("meshos.api")

Stream = trio.SSLStream[trio.SocketStream]
"""What hypercorn's types say of a connection; without TLS it is a bare ``trio.SocketStream``."""


class Connections:
    """Takes connections, ``most`` at a time and half of them of one address. One more takes the place of the one that has been without a
    request for longest; where none is, it is closed at once.

    A connection that breaks, by a client or by a bug, breaks alone: hypercorn meets bytes before any key is asked for.
    """

    def __init__(self, app: AppWrapper, config: Config, context: WorkerContext, *, most: int = limits.CONNECTIONS) -> None:
        self._app, self._config, self._context, self._most = app, config, context, most
        self._open: dict[Connection, str] = {}
        self._seen: set[str] = set()

    async def take(self, stream: Stream) -> None:
        """Serve ``stream`` to its end."""
        connection = Connection(self._app, self._config, self._context, ConnectionState({}), stream)
        address = _address(stream)
        try:
            if self._make_room(address):
                self._open[connection] = address
                with connection.scope:
                    await connection
        except* Exception as group:
            self._broke(group)
        finally:
            self._open.pop(connection, None)
            await trio.aclose_forcefully(stream)

    def _make_room(self, address: str) -> bool:
        """Whether there is a place for one more from ``address``."""
        same = [connection for connection, other in self._open.items() if other == address]
        if len(same) * 2 >= self._most:
            rivals = same
        elif len(self._open) >= self._most:
            rivals = list(self._open)
        else:
            return True
        idle = [(since, connection) for connection in rivals if (since := connection.idle_since) is not None]
        if not idle:
            return False
        _, longest = min(idle, key=lambda pair: pair[0])
        longest.scope.cancel()
        del self._open[longest]
        return True

    def _broke(self, group: BaseExceptionGroup[Exception]) -> None:
        """Each kind is logged once with its traceback, as whoever sends such bytes may send them often."""
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        kind = type(first).__name__
        if kind not in self._seen and len(self._seen) < limits.BREAKS_TOLD:
            self._seen.add(kind)
            logger.warning("connection-broken", exc_info=first)


def _address(stream: Stream) -> str:
    """Where it comes from, without the port; empty where it has gone already."""
    plain = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    try:
        return str(plain.socket.getpeername()[0])
    except OSError:
        return ""


class Connection(TCPServer):
    """See the module's text."""

    idle_task: "IdleClock"  # type: ignore[assignment]  # hypercorn's own has no protocol as its type

    def __init__(self, app: AppWrapper, config: Config, context: WorkerContext, state: ConnectionState, stream: Stream) -> None:
        super().__init__(app, config, context, state, stream)
        self.idle_task = IdleClock(config.keep_alive_timeout, context)
        self.scope = trio.CancelScope()
        self._held: list[bytes] = []
        self._held_bytes = 0

    @property
    def idle_since(self) -> float | None:
        """Since when it has had nothing to do; None while it has, or while the end of an answer is still to be sent."""
        return None if self._held or self.send_lock.locked() else self.idle_task.since

    async def protocol_send(self, event: Event) -> None:
        """What hypercorn's protocol wants done."""
        if isinstance(event, RawData):
            if not event.data:
                return  # the end of a body whose length was said before
            if not self._held:
                self._task_group.spawn(self._send_held)
            self._held.append(event.data)
            self._held_bytes += len(event.data)
            if self._held_bytes > limits.HELD_BYTES:
                await self._send_held()
            return
        if isinstance(event, Closed):
            await self._send_held()
            async with self.send_lock:
                pass  # what another task has begun to send is sent
        await super().protocol_send(event)

    async def _send_held(self) -> None:
        if self._held:
            data = self._held[0] if len(self._held) == 1 else b"".join(self._held)
            self._held.clear()
            self._held_bytes = 0
            await super().protocol_send(RawData(data))

    async def _read_data(self) -> None:
        try:
            await super()._read_data()
        finally:
            self.idle_task.end()

    async def _idle_timeout(self) -> None:
        with trio.CancelScope(shield=True):
            await self._initiate_server_close()


class IdleClock:
    """Calls ``action`` when there was nothing to do for ``limit_s``, or when the server ends meanwhile. ``since`` when there was nothing,
    None while there is something.
    """

    def __init__(self, limit_s: float, context: WorkerContext) -> None:
        self._limit_s, self._context = limit_s, context
        self.since: float | None = trio.current_time()
        self._scope: trio.CancelScope | None = None

    async def restart(self, task_group: TaskGroup, action: Callable[[], Awaitable[None]]) -> None:
        """From now on there is nothing to do."""
        self.since = trio.current_time()
        if self._scope is None:
            self._scope = trio.CancelScope()
            task_group.spawn(self._watch, action, self._scope)

    async def stop(self) -> None:
        """There is something to do."""
        self.since = None

    def end(self) -> None:
        """The connection is over."""
        if self._scope is not None:
            self._scope.cancel()

    async def _watch(self, action: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        with scope:
            while True:
                since = trio.current_time() if self.since is None else self.since
                with trio.move_on_at(since + self._limit_s):
                    await self._context.terminated.wait()
                if self._context.terminated.is_set():
                    break  # a request under way ends its connection itself
                if self.since is not None and trio.current_time() >= self.since + self._limit_s:
                    break
            if self.since is not None:
                await action()
