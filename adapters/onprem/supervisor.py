"""One replica of an agent, kept alive: start, handshake, health, restart with backoff, giving up, clean stop.

    starting --handshake--> ready --crash, hang, garbage--> waiting --backoff--> starting
       |                                                       |
       +--failed before anybody relied on it: ``failed``       +--MAX_RESTARTS in a row: ``given-up``

A crash is seen when the launcher reports it, within milliseconds. A hang is seen by a ping: with no call under way after
``ping_timeout_s``, else after ``busy_timeout_s``, since many tools block their own server's loop while they work. One whose private
folder grows too large is ended too, and not started again before there is room.
"""

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import trio

from meshos.adapters.onprem import limits
from meshos.adapters.onprem.agent_log import AgentLog
from meshos.adapters.onprem.mcp_session import McpSession
from meshos.adapters.onprem.process import AgentProcess, Grace
from meshos.adapters.onprem.sandbox import Plan
from meshos.cbor import Value
from meshos.errors import Failed, MeshError, Unreachable
from meshos.protocols.tasks.tools import Tool

LAST_WORDS_WAIT_S = 0.25
"""How long the end of stderr, or of the process, is waited for once its output has ended."""

State = Literal["starting", "ready", "waiting", "failed", "given-up", "stopped"]


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient a supervisor is; times in seconds."""

    start_timeout_s: float = limits.START_TIMEOUT_S
    ping_interval_s: float = limits.PING_INTERVAL_S
    ping_timeout_s: float = limits.PING_TIMEOUT_S
    busy_timeout_s: float = limits.BUSY_TIMEOUT_S
    backoff_first_s: float = limits.BACKOFF_FIRST_S
    backoff_most_s: float = limits.BACKOFF_MOST_S
    healthy_after_s: float = limits.HEALTHY_AFTER_S
    max_restarts: int = limits.MAX_RESTARTS
    ready_wait_s: float = limits.READY_WAIT_S
    grace: Grace = field(default_factory=Grace)


@dataclass(frozen=True, slots=True)
class ReplicaStatistics:
    """One replica at a moment."""

    replica: str
    state: State
    restarts: int
    calls: int
    failures: int
    """Calls that ended with an error of the way, not of the tool."""
    in_flight: int
    garbage_lines: int
    log_bytes: int
    start_s: float
    """How long the last start took, from launch to list of tools."""
    layers: tuple[str, ...]
    last_error: str
    """Name and detail of what ended the last process; empty while nothing has."""


class Replica:
    """A process and those that follow it. ``run`` in a nursery; ``wait_ready`` and ``call`` beside it; ``stop`` ends ``run``."""

    def __init__(
        self,
        name: str,
        make_plan: Callable[[], Plan],
        log: AgentLog,
        *,
        wait_excess: Callable[[], Awaitable[str]],
        large: trio.Semaphore,
        pace: Pace,
        rng: random.Random,
    ) -> None:
        self.name = name
        self._wait_excess = wait_excess
        self._make_plan, self._log, self._large, self._pace, self._rng = make_plan, log, large, pace, rng
        self.state: State = "starting"
        self.tools: tuple[Tool, ...] = ()
        self._changed = trio.Event()
        self._session: McpSession | None = None
        self._stop = trio.CancelScope()
        self._finished = trio.Event()
        self._error: MeshError | None = None
        self._last_error: MeshError | None = None
        self._restarts = self._restarts_in_a_row = self._calls = self._failures = self._garbage = 0
        self._start_s = 0.0
        self._layers: tuple[str, ...] = ()

    # -- for the provider --------------------------------------------------------------------------------------------

    async def run(self, *, must_start: bool) -> None:
        """Keep a process alive until ``stop`` or giving up. ``must_start``: the first failure before the handshake is the last."""
        try:
            with self._stop:
                while True:
                    lived_s, served = await self._live()
                    self._last_error = self._error
                    if not served and must_start:
                        self._become("failed")
                        return
                    must_start = False
                    if not await self._back_off(lived_s if served else 0.0):
                        return
        finally:
            if self.state not in ("failed", "given-up"):
                self._become("stopped")
            self._finished.set()

    async def stop(self) -> None:
        """End the process and come back when nothing is left of it."""
        self._stop.cancel()
        with trio.CancelScope(shield=True):
            await self._finished.wait()

    async def wait_ready(self) -> tuple[Tool, ...]:
        """The tools, once it serves; raises why it never will."""
        while True:
            state = self.state
            if state == "ready":
                return self.tools
            if state in ("failed", "given-up", "stopped"):
                raise self._error or Unreachable("agent-down", "the agent was stopped", outcome="not_done")
            await self._changed.wait()

    async def call(self, tool: str, arguments: Mapping[str, Value], meta: Mapping[str, str], timeout_s: float) -> tuple[bytes, bool]:
        """Call a tool; waits a moment for a process that is just starting. See ``provider.OnPremProvider.call`` for what it raises."""
        self._calls += 1
        try:
            with trio.fail_after(timeout_s):
                session = self._session if self.state == "ready" else await self._soon_ready()
                assert session is not None
                return await session.call(tool, arguments, meta)
        except trio.TooSlowError:
            self._failures += 1
            raise Unreachable("deadline-exceeded", f"the tool {tool[:80]!r} did not answer in {timeout_s:g} s") from None
        except MeshError:
            self._failures += 1
            raise

    @property
    def in_flight(self) -> int:
        """Requests its process has not answered yet."""
        return self._session.in_flight if self._session is not None else 0

    def statistics(self) -> ReplicaStatistics:
        """What it did since it was made."""
        return ReplicaStatistics(
            replica=self.name,
            state=self.state,
            restarts=self._restarts,
            calls=self._calls,
            failures=self._failures,
            in_flight=self.in_flight,
            garbage_lines=self._garbage + (self._session.garbage_lines if self._session else 0),
            log_bytes=self._log.written,
            start_s=self._start_s,
            layers=self._layers,
            last_error=f"{self._last_error.name}: {self._last_error.detail}" if self._last_error else "",
        )

    def _on_its_way(self) -> bool:
        return self.state in ("starting", "waiting")

    async def _soon_ready(self) -> McpSession:
        with trio.move_on_after(self._pace.ready_wait_s):
            while self._on_its_way():
                await self._changed.wait()
        if self.state == "ready" and self._session is not None:
            return self._session
        why = f" ({self._error.detail})" if self._error else ""
        raise Unreachable("agent-down", f"the agent is {self.state}, not serving{why}", hint="try again in a moment", outcome="not_done")

    # -- one life ----------------------------------------------------------------------------------------------------

    def _become(self, state: State) -> None:
        self.state = state
        self._changed.set()
        self._changed = trio.Event()

    async def _live(self) -> tuple[float, bool]:
        """From launch until nothing is left: how long it lived, and whether it ever served."""
        self._become("starting")
        self._log.forget()
        began = trio.current_time()
        try:
            process = await AgentProcess.start(self._make_plan())
        except MeshError as error:
            self._error = error
            return 0.0, False
        except OSError as error:
            self._error = Failed("agent-crashed", f"it cannot be launched: {error.strerror}", hint="run `mesh doctor`")
            return 0.0, False
        session = McpSession(process.stdout, process.stdin, self._large)
        logged = trio.Event()

        async def pump_log() -> None:
            try:
                await self._log.pump(process.stderr)
            finally:
                logged.set()

        served = False
        try:
            async with trio.open_nursery() as readers:
                readers.start_soon(process.watch)
                readers.start_soon(pump_log)
                try:
                    served = await self._serve(process, session, began)
                    with trio.move_on_after(LAST_WORDS_WAIT_S):  # its last words say why it crashed
                        await logged.wait()
                finally:
                    self._give_notice(process, session)
                    session.close_input()
                    await process.stop(self._pace.grace)
                    readers.cancel_scope.cancel()
        finally:
            self._garbage += session.garbage_lines
            process.close()
        return trio.current_time() - began, served

    def _give_notice(self, process: AgentProcess, session: McpSession) -> None:
        """End the calls under way, saying why; from here on new ones wait for the next process."""
        self._session = None
        if self._stop.cancel_called:
            session.end(Unreachable("agent-down", "the agent was stopped while it worked on this"))
            return
        if self._error is None:
            self._error = process.how_it_ended(self._log.last_words(), self._log.path)
        session.end(self._error)
        if self.state == "ready":
            self._become("waiting")

    async def _serve(self, process: AgentProcess, session: McpSession, began: float) -> bool:
        """Handshake, then health, until the process or its session ends; whether it came to serve. Leaves a reason in ``_error``."""
        self._error = None
        served = False
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                why = await session.run()
                if why.name == "agent-crashed":  # its output ended: the launcher says how, a moment later
                    with trio.move_on_after(LAST_WORDS_WAIT_S):
                        await process.ended.wait()
                else:
                    self._error = why
                nursery.cancel_scope.cancel()

            async def watch_end() -> None:
                await process.ended.wait()
                nursery.cancel_scope.cancel()

            async def watch_room() -> None:
                what = f"the agent's private folder holds {await self._wait_excess()}"
                self._error = Failed("agent-disk-full", what, hint=f"empty {self._log.path.with_suffix('')}/home", outcome="unknown")
                nursery.cancel_scope.cancel()

            nursery.start_soon(read)
            nursery.start_soon(watch_room)
            nursery.start_soon(watch_end)
            try:
                with trio.fail_after(self._pace.start_timeout_s):
                    await session.initialize()
                    self.tools = await session.list_tools()
            except trio.TooSlowError:
                what = f"it did not answer the MCP handshake in {self._pace.start_timeout_s:g} s"
                self._error = Failed("agent-hung", what, hint="start its command by hand and see what it waits for")
            except MeshError as error:
                self._error = error
            else:
                served = True
                process.served()
                self._start_s, self._layers, self._session = trio.current_time() - began, process.layers, session
                self._become("ready")
                self._error = await self._watch_health(session)
            nursery.cancel_scope.cancel()
        return served

    async def _watch_health(self, session: McpSession) -> MeshError:
        """Ping until one stays unanswered too long."""
        while True:
            await trio.sleep(self._pace.ping_interval_s)
            asked_at = trio.current_time()
            if not await self._ping(session, asked_at):
                silent_s = trio.current_time() - asked_at
                what = f"the agent did not answer a ping in {silent_s:.1f} s"
                return Failed("agent-hung", what, hint="look at the agent's log", outcome="unknown")

    async def _ping(self, session: McpSession, asked_at: float) -> bool:
        """Whether the server answers: in ``ping_timeout_s`` while it has nothing to do, in ``busy_timeout_s`` while it has."""
        with trio.move_on_after(self._pace.busy_timeout_s) as patience:
            async with trio.open_nursery() as nursery:

                async def lose_patience() -> None:
                    while True:
                        await trio.sleep(self._pace.ping_timeout_s)
                        idle = session.in_flight <= 1  # the ping itself
                        if idle and session.heard_at < asked_at:
                            patience.cancel()

                nursery.start_soon(lose_patience)
                await session.ping()
                nursery.cancel_scope.cancel()
        return not patience.cancelled_caught

    async def _back_off(self, lived_s: float) -> bool:
        """Wait before the next start, longer each time in a row (full jitter above the half); False if it is given up."""
        pace = self._pace
        if lived_s >= pace.healthy_after_s:
            self._restarts_in_a_row = 0
        if self._restarts_in_a_row >= pace.max_restarts:
            self._become("given-up")
            return False
        wait_s = min(pace.backoff_most_s, pace.backoff_first_s * 2**self._restarts_in_a_row)
        self._restarts_in_a_row += 1
        self._restarts += 1
        self._become("waiting")
        await trio.sleep(wait_s * self._rng.uniform(0.5, 1.0))
        return True
