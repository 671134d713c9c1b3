"""The machine that steps Flows: gathering, deadlines, hedging and giving up, decided once for every driver.

Theory of operation. A *task* is one coroutine; a Flow is a tree of tasks, in which ``Gather`` makes the children. A
task is ready (in the run queue), or waits for exactly one thing: an operation under way elsewhere (``Perform`` was
emitted, ``Completed`` comes back), a timer, or its children. A child that is a bare operation gets no coroutine of its own:
it is a task whose only act is that operation.

Deadlines only shrink: a child inherits its parent's, an operation is given the smaller of its own timeout and its task's
deadline. A root's deadline cancels the whole tree with ``deadline-exceeded``.

``step`` runs the queue until it is empty, so between two steps every task waits. The order of everything is the order of
arrival, so equal inputs give equal outputs.
"""

import heapq
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from meshos.effects import Completed, Err, Ok, Outcome, Report, Tell, Tick
from meshos.errors import Broken, MeshError, Refused, Unreachable, busy
from meshos.flow import Ask, Cancelled, Compute, Gather, Port, Propose, Sleep
from meshos.values import frozen

FlowId: TypeAlias = Hashable
"""Chosen by whoever starts a Flow; unique among those that run."""

Remote: TypeAlias = Ask | Propose[Any] | Compute[Any] | Port[Any]
"""The operations that somebody else carries out."""

ABANDONED = Err(Refused("abandoned", "its answer was not needed any more"))
"""What stands in a Gather's result for a child that was cancelled because enough others had succeeded."""


@frozen
class StartFlow:
    """Run the Flow ``service(argument)``; when it has ended, ``FlowEnded`` goes to the machine ``reply_to``.

    A name and an argument instead of a coroutine, so that a machine's inputs can be recorded and replayed.
    """

    flow: FlowId
    service: str
    argument: object
    deadline: float | None
    reply_to: str
    trace: str = ""


@frozen
class CancelFlow:
    """The Flow is not wanted any more; it ends as ``cancelled``. Unknown or ended Flows are left alone."""

    flow: FlowId


@frozen
class FlowEnded:
    """How a Flow ended."""

    flow: FlowId
    outcome: Outcome[object]


@frozen
class Perform:
    """Carry this out, not past ``deadline``, and send ``Completed(op, …)`` to the machine ``reply_to``.

    ``trace`` is the W3C trace context of the request that all this is for, or empty.
    """

    op: int
    operation: Remote
    deadline: float | None
    reply_to: str = "flows"
    trace: str = ""


@frozen
class Abandon:
    """Nobody waits for ``op`` any more: undo what can be undone, and say nothing."""

    op: int
    operation: Remote
    reply_to: str = "flows"


Service: TypeAlias = Callable[[Any], Coroutine[Any, Any, object]]
"""What makes a Flow of an argument. Each service knows the type of its own argument, the table cannot."""


class _Task:
    """One coroutine, or one bare operation, and what it waits for."""

    __slots__ = ("children", "coro", "deadline", "ended", "gather", "index", "op", "parent", "results", "timer", "trace", "waits")

    def __init__(self, coro: Coroutine[Any, Any, object] | None, parent: "_Task | None", deadline: float | None, trace: str) -> None:
        self.coro = coro
        self.parent = parent
        self.index = 0  # its place among its parent's children
        self.deadline = deadline
        self.trace = trace
        self.op = 0  # the operation under way, if any
        self.waits: Remote | None = None
        self.timer = 0  # the timer under way, if any
        self.gather: Gather | None = None
        self.children: list[_Task] = []
        self.results: list[Outcome[object] | None] = []
        self.ended = False


@dataclass(slots=True)
class _Root:
    flow: FlowId
    reply_to: str
    task: _Task
    timer: int = 0  # its deadline


class Flows:
    """Steps every Flow of one node. Holds at most ``limit`` Flows; one more is refused as ``busy``."""

    def __init__(self, services: Mapping[str, Service], *, limit: int) -> None:
        self.now = 0.0
        self._services = services
        self._limit = limit
        self._roots: dict[FlowId, _Root] = {}
        self._root_of: dict[int, _Root] = {}  # id(root task) -> root
        self._by_op: dict[int, _Task] = {}
        self._timers: list[tuple[float, int]] = []
        self._timed: dict[int, _Task | _Root] = {}  # number of a timer -> what it is for; one that is gone was called off
        self._numbers = 0
        self._ready: deque[tuple[_Task, Outcome[object]]] = deque()
        self._effects: list[object] = []

    # -- the machine -------------------------------------------------------------------------------------------------

    def step(self, now: float, event: object) -> list[object]:
        """See ``meshos.effects.Machine``."""
        self.now = now
        self._effects = []
        if isinstance(event, Completed):
            self._completed(event)
        elif isinstance(event, StartFlow):
            self._start(event)
        elif isinstance(event, CancelFlow):
            root = self._roots.get(event.flow)
            if root is not None:
                self._give_up(root, Refused("cancelled", "it was cancelled by whoever asked for it", outcome="unknown"))
        elif isinstance(event, Tick):
            self._tick()
        else:
            raise TypeError(f"Flows has no use for {event!r}")
        while self._ready:
            self._advance(*self._ready.popleft())
        return self._effects

    def deadline(self) -> float | None:
        """When the earliest timer is due."""
        while self._timers and self._timers[0][1] not in self._timed:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def statistics(self) -> dict[str, int]:
        """How much is under way: Flows, operations, timers."""
        return {"flows": len(self._roots), "operations": len(self._by_op), "timers": len(self._timed)}

    # -- beginning and ending ----------------------------------------------------------------------------------------

    def _start(self, event: StartFlow) -> None:
        service = self._services.get(event.service)
        refusal: MeshError | None = None
        if service is None:
            refusal = Refused("unknown-protocol", f"this node does not speak {event.service[:80]!r}")
        elif event.flow in self._roots:
            refusal = Refused("duplicate", "this flow already runs")
        elif len(self._roots) >= self._limit:
            refusal = busy("the table of running flows")
        if service is None or refusal is not None:
            assert refusal is not None
            self._effects.append(Tell(event.reply_to, FlowEnded(event.flow, Err(refusal))))
            return
        task = _Task(service(event.argument), None, event.deadline, event.trace)
        root = _Root(event.flow, event.reply_to, task)
        self._roots[event.flow] = self._root_of[id(task)] = root
        if event.deadline is not None:
            root.timer = self._set_timer(root, event.deadline)
        self._ready.append((task, Ok(None)))

    def _completed(self, event: Completed) -> None:
        task = self._by_op.pop(event.op, None)
        if task is None:
            return  # it was abandoned: its answer crossed the Abandon on the way
        task.op, task.waits = 0, None
        self._ready.append((task, event.outcome))

    def _tick(self) -> None:
        while self._timers and self._timers[0][0] <= self.now:
            owner = self._timed.pop(heapq.heappop(self._timers)[1], None)
            if isinstance(owner, _Root):
                self._give_up(owner, Unreachable("deadline-exceeded", "it was not done in the time given"))
            elif owner is not None:
                owner.timer = 0
                self._ready.append((owner, Ok(None)))
            while self._ready:  # what one timer caused comes before the next timer
                self._advance(*self._ready.popleft())

    def _give_up(self, root: _Root, error: MeshError) -> None:
        self._cancel(root.task)
        self._finish(root.task, Err(error))

    def _finish(self, task: _Task, outcome: Outcome[object]) -> None:
        if task.parent is None:
            root = self._root_of.pop(id(task))
            del self._roots[root.flow]
            self._timed.pop(root.timer, None)
            task.ended = True
            self._effects.append(Tell(root.reply_to, FlowEnded(root.flow, outcome)))
            return
        task.ended = True
        parent = task.parent
        if parent.ended or parent.gather is None:
            return
        parent.results[task.index] = outcome
        self._settle(parent)

    def _settle(self, parent: _Task) -> None:
        """Resume ``parent`` if its Gather is decided."""
        gather = parent.gather
        assert gather is not None
        succeeded = sum(isinstance(result, Ok) for result in parent.results)
        open_ = sum(result is None for result in parent.results)
        if open_ and (gather.each or succeeded < gather.need <= succeeded + open_):
            return
        for child in parent.children:
            if not child.ended:
                self._cancel(child)
        results = [ABANDONED if result is None else result for result in parent.results]
        parent.gather, parent.children, parent.results = None, [], []
        self._ready.append((parent, Ok(results)))

    def _cancel(self, task: _Task) -> None:
        """Stop ``task`` and all below it: children first, so that no child outlives its parent."""
        for child in task.children:
            if not child.ended:
                self._cancel(child)
        task.ended = True
        self._timed.pop(task.timer, None)
        task.gather, task.children = None, []
        if task.op and task.waits is not None:
            del self._by_op[task.op]
            self._emit(Abandon(task.op, task.waits))
            task.op, task.waits = 0, None
        if task.coro is not None:
            try:
                task.coro.throw(Cancelled())
            except (StopIteration, Cancelled):
                return
            except Exception as error:
                self._effects.append(Report("flows", error))
                return
            self._effects.append(Report("flows", RuntimeError(f"{task.coro!r} awaits after it was cancelled")))
            task.coro.close()

    # -- running -----------------------------------------------------------------------------------------------------

    def _advance(self, task: _Task, came: Outcome[object]) -> None:
        """Give ``task`` what it waited for, and begin what it asks for next."""
        if task.ended:
            return
        if task.coro is None:
            self._finish(task, came)
            return
        try:
            operation = task.coro.send(came.value) if isinstance(came, Ok) else task.coro.throw(came.error)
        except StopIteration as stop:
            self._finish(task, Ok(stop.value))
        except MeshError as error:
            self._finish(task, Err(error))
        except Exception as error:
            self._effects.append(Report("flows", error))
            self._finish(task, Err(Broken("internal", f"a bug of ours, {type(error).__name__}; the log of this node has it")))
        else:
            self._begin(task, operation)

    def _begin(self, task: _Task, operation: object) -> None:
        if isinstance(operation, Gather):
            self._fan_out(task, operation)
        elif isinstance(operation, Sleep):
            task.timer = self._set_timer(task, self.now + max(0.0, operation.seconds))
        elif isinstance(operation, Ask | Propose | Compute | Port):
            self._numbers += 1
            task.op, task.waits = self._numbers, operation
            self._by_op[task.op] = task
            deadline = task.deadline
            if isinstance(operation, Ask):
                own = self.now + operation.timeout_s
                deadline = own if deadline is None else min(own, deadline)
            self._emit(Perform(task.op, operation, deadline, trace=task.trace))
        else:
            self._ready.append((task, Err(Broken("internal", f"a flow awaits {type(operation).__name__}, which is no operation"))))

    def _fan_out(self, task: _Task, gather: Gather) -> None:
        task.gather = gather
        task.results = [None] * len(gather.children)
        for index, awaitable in enumerate(gather.children):
            child = _Task(None, task, task.deadline, task.trace)
            child.index = index
            task.children.append(child)
            if isinstance(awaitable, Coroutine):
                child.coro = awaitable
                self._ready.append((child, Ok(None)))
            else:
                self._begin_bare(child, awaitable)
        self._settle(task)

    def _begin_bare(self, child: _Task, awaitable: Awaitable[Any]) -> None:
        if isinstance(awaitable, Gather):
            child.coro = _as_coroutine(awaitable)
            self._ready.append((child, Ok(None)))
        else:
            assert isinstance(awaitable, Ask | Sleep | Propose | Compute | Port), awaitable
            self._begin(child, awaitable)

    def _set_timer(self, owner: "_Task | _Root", when: float) -> int:
        self._numbers += 1
        self._timed[self._numbers] = owner
        heapq.heappush(self._timers, (when, self._numbers))
        return self._numbers

    def _emit(self, effect: Perform | Abandon) -> None:
        """To the machine that carries it out, where it is a machine; else to the port of its type."""
        if isinstance(effect.operation, Ask):
            self._effects.append(Tell("rpc", effect))
        elif isinstance(effect.operation, Propose):
            self._effects.append(Tell(effect.operation.to, effect))
        else:
            self._effects.append(effect)


async def _as_coroutine(awaitable: Awaitable[object]) -> object:
    return await awaitable
