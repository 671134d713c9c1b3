"""Waiting for an agent's turn: the queues of protocols/tasks/queue.py with trio's events, one for each agent that runs here."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from meshos.errors import Unreachable
from meshos.ids import AgentId
from meshos.protocols.tasks.agent_file import AgentFile
from meshos.protocols.tasks.limits import CONCURRENCY, WAITING_CALLS
from meshos.protocols.tasks.ports import CallTool
from meshos.protocols.tasks.queue import CallQueue, Ticket


class _Ticket:
    """One call, told from every other by what it is and not by what it says: the same task may be run twice."""

    __slots__ = ()


class Turns:
    """The queues of one node."""

    def __init__(self) -> None:
        self._queues: dict[AgentId, CallQueue] = {}
        self._called: dict[Ticket, trio.Event] = {}

    def open(self, agent: AgentId, file: AgentFile) -> None:
        """The agent is started, or started anew from another file."""
        slots = file.replicas * (file.concurrency or CONCURRENCY)
        queue = self._queues.get(agent)
        if queue is None:
            self._queues[agent] = CallQueue(slots, WAITING_CALLS)
        else:
            self._call(queue.resize(slots))

    def close(self, agent: AgentId) -> None:
        """The agent is gone. Calls that wait for it go on, to hear that from the provider."""
        queue = self._queues.pop(agent, None)
        if queue is not None:
            self._call(queue.resize(WAITING_CALLS + len(self._called)))

    @asynccontextmanager
    async def turn(self, call: CallTool) -> AsyncIterator[CallTool]:
        """Wait until the agent may be given ``call``; gives it with the time that is left.

        Raises Refused ``busy``, and Unreachable ``deadline-exceeded`` if its time passed in the queue; nothing was done then.
        """
        queue = self._queues.get(call.agent)
        if queue is None:
            yield call
            return
        ticket = _Ticket()
        runs = queue.enter(ticket, call.caller_org, call.priority)
        try:
            yield call if runs else await self._wait(call, ticket)
        finally:
            self._call(queue.leave(ticket))

    async def _wait(self, call: CallTool, ticket: Ticket) -> CallTool:
        began = trio.current_time()
        called = self._called[ticket] = trio.Event()
        try:
            with trio.move_on_after(call.timeout_s):
                await called.wait()
        finally:
            del self._called[ticket]
        left_s = call.timeout_s - (trio.current_time() - began)
        if left_s <= 0 or not called.is_set():
            what = f"the agent was busy with other calls for the {call.timeout_s:g} s that this one had"
            raise Unreachable("deadline-exceeded", what, hint="give it more time, or a higher --priority", outcome="not_done")
        return replace(call, timeout_s=left_s)

    def _call(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            called = self._called.get(ticket)
            if called is not None:
                called.set()

    def waiting(self) -> dict[AgentId, int]:
        """How many calls wait, for agents for which any does."""
        counts = {agent: queue.statistics()["waiting"] for agent, queue in self._queues.items()}
        return {agent: count for agent, count in counts.items() if count}

    def statistics(self) -> dict[str, int]:
        """Calls that run and that wait, of all agents together."""
        every = [queue.statistics() for queue in self._queues.values()]
        return {name: sum(one[name] for one in every) for name in ("running", "waiting")}
