"""The tasks that were called from this node: those under way, and the last that have ended."""

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field

import trio

from meshos.errors import Refused, busy
from meshos.ids import AgentId, TaskId
from meshos.node.api.shapes import TaskView

ENDED = 1000
"""Views of ended tasks that are kept for `GET /v1/tasks/{id}`, and their bytes: results are large. The newest is kept whatever its size,
as nobody else has the result of a call that was not waited for."""
ENDED_BYTES = 64 << 20
RUNNING = 4096


def new_task_id() -> TaskId:
    """Random, so that nobody can guess another's."""
    return TaskId(f"t-{secrets.token_hex(16)}")


def no_such_task(task: str) -> Refused:
    """What is said of a task that is in no table here: nothing of how it ended, since its provider may well know."""
    what = f"this node knows no task {task[:80]!r}: it was called from another one, or before this one last started, or long ago"
    return Refused("no-such-task", what, hint="repeat the call with its idempotency key to hear what its provider recorded")


@dataclass(slots=True)
class Running:
    """A task under way. ``scope`` is what its call runs in: cancelling it means that the task is not wanted any more. ``view`` is how it
    ended, where it ended with a view.
    """

    task: TaskId
    agent: AgentId
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)
    view: TaskView | None = None


class Tasks:
    """A table, bounded in both halves. None of it survives the node: what does is the provider's record."""

    def __init__(self) -> None:
        self._running: dict[TaskId, Running] = {}
        self._ended: OrderedDict[TaskId, TaskView] = OrderedDict()
        self._bytes = 0

    def begin(self, task: TaskId, agent: AgentId) -> Running:
        """``task`` is under way; raises Refused ``busy``. ``end`` or ``drop`` must follow."""
        if len(self._running) >= RUNNING:
            raise busy("the table of running tasks")
        running = self._running[task] = Running(task, agent)
        return running

    def end(self, running: Running, view: TaskView) -> None:
        """It has ended so, which is kept for a while."""
        running.view = view
        self.keep(running.task, view)
        self.drop(running)

    def keep(self, task: TaskId, view: TaskView) -> None:
        """``task``, which is not under way any more, has ended so."""
        self._ended[task] = view
        self._bytes += len(view.result or b"")
        while len(self._ended) > ENDED or (self._bytes > ENDED_BYTES and len(self._ended) > 1):
            _, oldest = self._ended.popitem(last=False)
            self._bytes -= len(oldest.result or b"")

    def drop(self, running: Running) -> None:
        """It has ended, and whoever called it has heard how: there is nothing to keep."""
        del self._running[running.task]
        running.ended.set()

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
        """Call it off and wait until it is known how it ended; one that has ended stays as it is. Raises Refused ``no-such-task``."""
        running = self._running.get(task)
        if running is not None:
            running.scope.cancel()
            await running.ended.wait()
        found = self.find(task) if running is None or running.view is None else running.view
        if found is None:
            raise no_such_task(task)
        return found

    def statistics(self) -> dict[str, int]:
        """Tasks under way, and views kept."""
        return {"running": len(self._running), "kept": len(self._ended), "kept_bytes": self._bytes}
