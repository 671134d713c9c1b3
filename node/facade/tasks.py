"""The tasks that were called from this node: those that run, and the last that have ended."""

import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from meshos.errors import MeshError, Refused, busy
from meshos.ids import AgentId, TaskId
from meshos.node.api.shapes import TaskStatus, TaskView
from meshos.node.facade.views import task_error

ENDED = 1000
"""Views of ended tasks that are kept for `GET /v1/tasks/{id}`, and their bytes: results are large."""
ENDED_BYTES = 64 << 20
RUNNING = 4096


def new_task_id() -> TaskId:
    """Random, so that nobody can guess another's."""
    return TaskId(f"t-{secrets.token_hex(16)}")


@dataclass(slots=True)
class _Running:
    agent: AgentId
    scope: trio.CancelScope
    ended: trio.Event


class Tasks:
    """Runs calls so that they can be looked up and cancelled by id."""

    def __init__(self) -> None:
        self._running: dict[TaskId, _Running] = {}
        self._ended: OrderedDict[TaskId, TaskView] = OrderedDict()
        self._bytes = 0

    async def run(self, task: TaskId, agent: AgentId, work: Callable[[], Awaitable[TaskView]]) -> TaskView:
        """Do ``work`` as ``task``; cancelled by id, it ends as ``cancelled``. Raises what ``work`` raises."""
        if len(self._running) >= RUNNING:
            raise busy("the table of running tasks")
        running = self._running[task] = _Running(agent, trio.CancelScope(), trio.Event())
        try:
            with running.scope:
                view = await work()
                self._keep(task, view)
                return view
            view = TaskView(task, agent, "cancelled")
            self._keep(task, view)
            return view
        finally:
            del self._running[task]
            running.ended.set()

    async def run_unattended(self, task: TaskId, agent: AgentId, work: Callable[[], Awaitable[TaskView]]) -> None:
        """As ``run``, for a call nobody waits for: what ``work`` raises is kept as the task's end."""
        try:
            await self.run(task, agent, work)
        except MeshError as error:
            status: TaskStatus = "outcome_unknown" if error.outcome == "unknown" else "failed"
            self._keep(task, TaskView(task, agent, status, error=task_error(error)))

    def find(self, task: TaskId) -> TaskView | None:
        """A task that was called here; None for any other."""
        running = self._running.get(task)
        if running is not None:
            return TaskView(task, running.agent, "running")
        return self._ended.get(task)

    def beginning(self, prefix: str) -> list[TaskId]:
        """The tasks that were called here and whose id begins so."""
        return [task for tasks in (self._running, self._ended) for task in tasks if task.startswith(prefix)]

    async def cancel(self, task: TaskId) -> TaskView:
        """Stop it and wait until it has ended; one that has ended stays as it is. Raises Refused ``no-such-task``."""
        running = self._running.get(task)
        if running is not None:
            running.scope.cancel()
            await running.ended.wait()
        found = self.find(task)
        if found is None:
            raise Refused("no-such-task", f"no task {task[:80]!r} was called from this node", hint="ask the node that called it")
        return found

    def statistics(self) -> dict[str, int]:
        """Tasks under way, and views kept."""
        return {"running": len(self._running), "kept": len(self._ended), "kept_bytes": self._bytes}

    def _keep(self, task: TaskId, view: TaskView) -> None:
        self._ended[task] = view
        self._bytes += len(view.result or b"")
        while len(self._ended) > ENDED or self._bytes > ENDED_BYTES:
            _, oldest = self._ended.popitem(last=False)
            self._bytes -= len(oldest.result or b"")
