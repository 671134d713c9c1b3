"""One client's connection: hypercorn's own, with two things done in fewer turns of the event loop.

*Writes.* Hypercorn sends the head, the body and the end of an answer one by one, each with a system call of its own and each
waking the client. Here what is sent in one turn leaves as one piece; what is larger than HELD_BYTES is sent on at once, which
holds up whoever sends. Order is kept by hypercorn's own lock.

*Idle time.* Hypercorn cancels a task when a request begins and starts another when it has ended. Here one task a connection
looks at the time since when there was nothing to do.
"""

from collections.abc import Awaitable, Callable

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState

from meshos.node.api import limits

Stream = trio.SSLStream[trio.SocketStream]
"""What hypercorn's types say of a connection; without TLS it is a bare ``trio.SocketStream``."""


class Connections:
    """Takes connections, at most CONNECTIONS at a time: one more is closed at once."""

    def __init__(self, app: AppWrapper, config: Config, context: WorkerContext) -> None:
        self._app, self._config, self._context = app, config, context
        self._open = 0

    async def take(self, stream: Stream) -> None:
        """Serve ``stream`` to its end."""
        if self._open >= limits.CONNECTIONS:
            await trio.aclose_forcefully(stream)
            return
        self._open += 1
        try:
            await Connection(self._app, self._config, self._context, ConnectionState({}), stream)
        finally:
            self._open -= 1


class Connection(TCPServer):
    """See the module's text."""

    idle_task: "IdleClock"  # type: ignore[assignment]  # hypercorn's own has no protocol as its type

    def __init__(self, app: AppWrapper, config: Config, context: WorkerContext, state: ConnectionState, stream: Stream) -> None:
        super().__init__(app, config, context, state, stream)
        self.idle_task = IdleClock(config.keep_alive_timeout, context)
        self._held: list[bytes] = []
        self._held_bytes = 0

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
    """Calls ``action`` when there was nothing to do for ``limit_s``, or when the server ends meanwhile."""

    def __init__(self, limit_s: float, context: WorkerContext) -> None:
        self._limit_s, self._context = limit_s, context
        self._idle_since: float | None = None
        self._scope: trio.CancelScope | None = None

    async def restart(self, task_group: TaskGroup, action: Callable[[], Awaitable[None]]) -> None:
        """From now on there is nothing to do."""
        self._idle_since = trio.current_time()
        if self._scope is None:
            self._scope = trio.CancelScope()
            task_group.spawn(self._watch, action, self._scope)

    async def stop(self) -> None:
        """There is something to do."""
        self._idle_since = None

    def end(self) -> None:
        """The connection is over."""
        if self._scope is not None:
            self._scope.cancel()

    async def _watch(self, action: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        with scope:
            while True:
                since = trio.current_time() if self._idle_since is None else self._idle_since
                with trio.move_on_at(since + self._limit_s):
                    await self._context.terminated.wait()
                if self._context.terminated.is_set():
                    break  # a request under way ends its connection itself
                if self._idle_since is not None and trio.current_time() >= self._idle_since + self._limit_s:
                    break
            if self._idle_since is not None:
                await action()
