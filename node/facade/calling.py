"""Calls that are made from this node: the price held, the Flow run, the end told, the purse settled.

Whoever waits for a call may go away: its client hangs up, somebody cancels it by its id, the API's time is over. Then the Flow "call" is
cancelled, which stops the tool, and how the task has ended is asked for by a Flow of its own (protocols/tasks/call.py). Until the provider
has said so, or has not in time, the task is still under way: what it may cost stays held, `GET /v1/tasks/{id}` says "running", and whoever
cancelled it waits. Money goes back only when the provider's word proves that nothing is owed.
"""

import logging
from dataclasses import dataclass

import trio

from meshos.errors import MeshError, Refused, Unreachable
from meshos.node.api import shapes
from meshos.node.facade import views
from meshos.node.facade.measuring import Measurements
from meshos.node.facade.metrics import Metrics
from meshos.node.facade.tasks import Running, Tasks
from meshos.node.facade.views import NameOf
from meshos.node.kernel.asking import CALL, CALLED_OFF
from meshos.node.runtime.host import Host
from meshos.protocols.tasks.call import CallRequest, TaskResult
from meshos.protocols.tasks.limits import GRACE_S, WORD_S

logger = logging.getLogger("meshos.tasks")

_UNREACHED = frozenset({"peer-unreachable", "no-address", "handshake-timeout"})
"""What a link says when there is no way to a node; it knows its id alone."""
MARGIN_S = 1.0
"""How much longer than its parts a Flow may take, so that the answer of a part comes first."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call: what is asked for, the agent's ``name``, by whom, and its price, which is held while it is under way. ``began`` is trio's
    time.
    """

    asked: CallRequest
    name: str
    caller: shapes.Caller
    price_micro: int
    began: float


class Calling:
    """All calls of one node."""

    def __init__(self, host: Host, nursery: trio.Nursery, measurements: Measurements, metrics: Metrics, name_of: NameOf) -> None:
        self._host = host
        self._nursery = nursery
        self._measurements = measurements
        self._metrics = metrics
        self._name_of = name_of
        self.tasks = Tasks()

    async def wait_made(self, call: Call) -> shapes.TaskView:
        """Make the call and wait for its end; cancelling this calls it off. Raises MeshError where the task has no end to tell."""
        running = self._begin(call)
        return await self._made(call, running)

    def make(self, call: Call) -> None:
        """Make the call; `GET /v1/tasks/{id}` will tell how it ended. Raises Refused ``busy`` or ``budget-exceeded``."""
        self._nursery.start_soon(self._unattended, call, self._begin(call))

    # -- parts -------------------------------------------------------------------------------------------------------

    def _begin(self, call: Call) -> Running:
        call.caller.purse.hold(call.price_micro)
        try:
            return self.tasks.begin(call.asked.task, call.asked.agent)
        except MeshError:
            call.caller.purse.settle(call.price_micro, 0)
            raise

    async def _unattended(self, call: Call, running: Running) -> None:
        try:
            await self._made(call, running)
        except MeshError as error:
            self.tasks.keep(call.asked.task, views.task_raised(call.asked, error))

    async def _made(self, call: Call, running: Running) -> shapes.TaskView:
        try:
            with running.scope:
                result = await self._flow(CALL, call, call.asked.timeout_s + GRACE_S + WORD_S)
                return self._ended(call, running, result)
        except MeshError as error:
            self._settle(call, 0 if _owes_nothing(error) else call.price_micro)
            self.tasks.drop(running)
            raise
        except trio.Cancelled:  # whoever waited has gone
            self._nursery.start_soon(self._call_off, call, running)
            raise
        self._nursery.start_soon(self._call_off, call, running)  # cancelled by its id
        await running.ended.wait()
        assert running.view is not None, "what is called off ends with a view"
        return running.view

    async def _call_off(self, call: Call, running: Running) -> None:
        """End a task that nobody waits for, and learn how it ended."""
        try:
            result = await self._flow(CALLED_OFF, call, WORD_S)
        except MeshError as error:
            self._settle(call, call.price_micro)
            self.tasks.end(running, views.task_raised(call.asked, error))
        else:
            self._ended(call, running, result)

    def _ended(self, call: Call, running: Running, result: TaskResult) -> shapes.TaskView:
        total_ms = (trio.current_time() - call.began) * 1000
        view = views.task_view(result, total_ms, self._name_of)
        self._settle(call, _owed_micro(call, result, view))
        self.tasks.end(running, view)
        if not result.replayed:
            self._measurements.ended(call.asked.agent, result.status, total_ms)
            self._metrics.called(total_ms)
        return view

    def _settle(self, call: Call, spent_micro: int) -> None:
        call.caller.purse.settle(call.price_micro, spent_micro)

    async def _flow(self, service: str, call: Call, timeout_s: float) -> TaskResult:
        """Run the Flow, and log how it ended."""
        began, ended = trio.current_time(), "cancelled"
        asked, caller = call.asked, call.caller
        try:
            result: TaskResult = await self._host.flow(service, asked, timeout_s=timeout_s + MARGIN_S, trace=caller.trace)
            ended = result.status
            return result
        except MeshError as error:
            ended = error.name
            if error.name == "agent-unknown":
                raise _not_served(call) from error
            if error.name in _UNREACHED and error.outcome == "not_done":
                raise self._named(error, asked) from error
            raise
        finally:
            what = "called" if service == CALL else "called-off"
            told = {"req": caller.request_id, "trace": caller.trace, "task": asked.task, "agent": asked.agent, "tool": asked.tool}
            logger.info(what, extra={**told, "ended": ended, "dur_ms": round((trio.current_time() - began) * 1000, 2)})

    def _named(self, error: MeshError, asked: CallRequest) -> Unreachable:
        """``error`` of a link, for people: the provider's name for its id, and that nothing was done."""
        told, names = error.detail, []
        owner = asked.provider_org.rpartition(":")[2]
        for node in asked.providers:
            name = self._name_of(node)
            if name and node in told:
                told = told.replace(node, f"{owner}'s node {name}")
                names.append(name)
        start = f"`mesh testnet start {names[0]}` or " if names else ""
        hint = f"`mesh members` shows who is alive; in a testnet: {start}`mesh testnet heal`"
        return Unreachable(error.name, f"{told}; nothing was done", hint=hint, outcome="not_done")


def _not_served(call: Call) -> Refused:
    what = f"{call.asked.provider_org} tells of {call.name!r} and does not serve it to others"
    return Refused("agent-not-served", what, hint="its owner makes it callable with `mesh deploy`, its address as runtime")


def _owed_micro(call: Call, result: TaskResult, view: shapes.TaskView) -> int:
    """What the call has cost, as far as that is known: its price where nobody has said, or where what was done was not proved."""
    if result.replayed:
        return 0  # the first call with this key has paid
    if not result.heard or (result.status == "completed" and result.receipt is None):
        return call.price_micro
    return view.cost_micro


def _owes_nothing(error: MeshError) -> bool:
    """Whether a call that was answered by ``error`` cost nothing: it was not done, or it was an earlier call that was done."""
    return error.outcome == "not_done" or error.name == "result-not-kept"
