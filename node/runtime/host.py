"""The trio driver: a Core with a real clock, real disks, worker threads and ports.

Everything that a machine decides happens synchronously in the one trio thread, at the moment an event arrives; there is no
task between a frame and its reply. Tasks exist only for what waits: one for the earliest deadline, one for each operation of a
port that does not answer at once. Worker threads do what is slow and pure (``Compute``); each disk has a thread of its own.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast

import trio

from meshos.effects import Completed, Err, Machine, Ok, Outcome, Report, Sign, Signed, Write
from meshos.errors import Broken, MeshError, Refused
from meshos.flow import Ask, Compute, Port, Propose
from meshos.flow_machine import Abandon, CancelFlow, FlowEnded, Perform, StartFlow
from meshos.node.kernel.core import OUTSIDE, Core
from meshos.node.runtime.disk_thread import DiskThread
from meshos.storage.overlay import Overlay
from meshos.storage.store import Store

logger = logging.getLogger("meshos.host")

T = TypeVar("T")

Handler: TypeAlias = Callable[[Any], None]
"""Carries out one type of effect, at once: what waits is its own task."""

PortHandler: TypeAlias = Callable[[Any], Awaitable[object]]
"""Does what a Flow awaits as ``Port(effect)``; cancelled with the Flow. Each knows its own effect's type."""

AtOnce: TypeAlias = Callable[[Any], object]
"""The same for a port that never waits (a key in memory signs in 40 µs): the Flow goes on in the same turn, without a task."""

COMPUTE_THREADS = 2
"""Worker threads for Compute: as many as the machines that a node is measured on have cores."""

AT_ONCE_S = 0.0006
"""A Compute that costs no more is done in the loop: to a thread and back takes 0.2 ms of processor time on an idle machine and
milliseconds of waiting on a busy one, which a validator's two signatures must not pay four times a block."""

LAG_ALARM_S = 0.25
"""A timer this late means that something slow runs on the event loop; half of the fastest preset's probe timeout."""


class _Waiting:
    """A task of the outside that waits for one outcome. As an Event and a list it would cost twice as much, at each call."""

    __slots__ = ("_task", "outcome")

    def __init__(self) -> None:
        self.outcome: Outcome[object] | None = None
        self._task: trio.lowlevel.Task | None = None

    async def wait(self) -> None:
        """Until there is an outcome."""
        if self.outcome is not None:
            await trio.lowlevel.checkpoint()
            return
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def end(self, outcome: Outcome[object]) -> None:
        """There it is. The first one counts."""
        if self.outcome is None:
            self.outcome = outcome
            if self._task is not None:
                trio.lowlevel.reschedule(self._task)
                self._task = None

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


class Host:
    """Runs the machines of one node. Use: ``await nursery.start(host.run)``, then ``deliver``, ``flow`` and ``perform``."""

    def __init__(
        self,
        machines: Mapping[str, Machine],
        *,
        stores: Mapping[str, tuple[Store, Overlay]],
        handlers: Mapping[type, Handler],
        ports: Mapping[type, PortHandler],
        at_once: Mapping[type, AtOnce] | None = None,
        sign: Callable[[Sign], Awaitable[bytes]],
        observe: Callable[[str, object, list[object]], None] | None = None,
    ) -> None:
        self.core = Core(machines, carry_out=self._carry_out, stage=self._stage, sync=self._sync, observe=observe)
        self._stores = stores
        self._handlers: dict[type, Handler] = {
            Perform: self._begin_perform,
            Abandon: self._abandon,
            Completed: self._completed,
            FlowEnded: self._flow_ended,
            Sign: self._begin_sign,
            Report: self._report,
            **handlers,
        }
        self._ports = ports
        self._at_once = at_once or {}
        self._sign_with = sign
        self._nursery: trio.Nursery
        self._compute = trio.CapacityLimiter(COMPUTE_THREADS)
        self._rearm = trio.Event()
        self._armed = float("inf")
        self._running: dict[tuple[str, int], trio.CancelScope] = {}
        self._staged: dict[str, list[Sequence[Write]]] = {name: [] for name in stores}
        self._disks: dict[str, DiskThread] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._asked = 0
        self._in_turn = False
        self._at_turn_end: list[Callable[[], None]] = []
        self._broken = trio.Event()
        self._error: BaseException | None = None
        self._ended = False
        self.lag_s = 0.0
        self.lag_alarms = 0

    # -- for the node ------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Ends with the error of a disk that could not be written."""
        token = trio.lowlevel.current_trio_token()
        self._disks = {
            name: DiskThread(name, store, token, partial(self._written, name, overlay)) for name, (store, overlay) in self._stores.items()
        }
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._keep_time)
                task_status.started()
                await self._broken.wait()
                assert self._error is not None
                raise self._error
        finally:
            self._ended = True
            with trio.CancelScope(shield=True):  # a write that was begun is finished before the store is closed
                for name, disk in self._disks.items():
                    if self._staged[name]:  # what nobody waits for is written all the same
                        self._sync(name)
                    await disk.end()

    def _enter(self, step: Callable[[], None]) -> None:
        """Into the core: one *turn*. Whatever comes out of it ends the node (``run`` raises it), and not whoever happened to bring the
        event: a machine that was interrupted within a step is not to be trusted with another."""
        if self._error is not None or self._ended:
            return
        nested, self._in_turn = self._in_turn, True
        try:
            step()
        except Exception as error:
            self._break(error)
        else:
            self._check_timer()
        if not nested:
            self._in_turn = False
            while self._at_turn_end:
                self._at_turn_end.pop()()

    def at_turn_end(self, act: Callable[[], None]) -> None:
        """Call ``act`` at the end of the turn, or now if there is none: it does what effects of one turn can share."""
        if self._in_turn:
            self._at_turn_end.append(act)
        else:
            act()

    def _break(self, error: BaseException) -> None:
        self._error = error
        self._broken.set()

    def deliver(self, machine: str, event: object) -> None:
        """``event`` has happened for ``machine``."""
        self._enter(lambda: self.core.deliver(trio.current_time(), machine, event))

    def deliver_all(self, happened: Iterable[tuple[str, object]]) -> None:
        """The same for several (machine, event), in one turn."""
        self._enter(lambda: self.core.deliver_all(trio.current_time(), happened))

    async def flow(self, service: str, argument: object, *, timeout_s: float, trace: str = "") -> Any:
        """Run a Flow to its end and give its value, or raise its MeshError. Cancelling this cancels the Flow."""
        number = self._next()
        begin = StartFlow(number, service, argument, trio.current_time() + timeout_s, OUTSIDE, trace)
        return await self._wait_for(number, "flows", begin, CancelFlow(number))

    async def perform(self, operation: Ask | Propose[Any], *, timeout_s: float, trace: str = "") -> Any:
        """Have one operation done and give its value, or raise its MeshError: what a Flow of nothing else would do, at half the cost.
        Cancelling this abandons it."""
        number = self._next()
        machine = "rpc" if type(operation) is Ask else cast("Propose[Any]", operation).to
        begin = Perform(number, operation, trio.current_time() + timeout_s, OUTSIDE, trace)
        return await self._wait_for(number, machine, begin, Abandon(number, operation, OUTSIDE))

    def _next(self) -> int:
        self._asked += 1
        return self._asked

    async def _wait_for(self, number: int, machine: str, begin: object, give_up: object) -> Any:
        waiting = self._waiting[number] = _Waiting()
        try:
            self.deliver(machine, begin)
            await waiting.wait()
        finally:
            del self._waiting[number]
            if waiting.outcome is None:
                self.deliver(machine, give_up)
        outcome = waiting.outcome
        if isinstance(outcome, Err):
            raise outcome.error
        assert outcome is not None
        return outcome.value

    def _came(self, number: object, outcome: Outcome[object]) -> None:
        """What is told to the outside ends what it asked for, if somebody still waits for it."""
        waiting = self._waiting.get(number) if isinstance(number, int) else None
        if waiting is not None:
            waiting.end(outcome)

    def statistics(self) -> dict[str, float]:
        """Loop lag in seconds (the latest timer's), alarms, and operations under way."""
        return {"lag_s": self.lag_s, "lag_alarms": self.lag_alarms, "operations": len(self._running), "refused": self.core.refused}

    # -- time --------------------------------------------------------------------------------------------------------

    def _check_timer(self) -> None:
        due = self.core.deadline()
        if due is not None and due < self._armed:
            self._rearm.set()

    async def _keep_time(self) -> None:
        began = trio.current_time()
        while True:
            self._rearm = trio.Event()
            due = self.core.deadline()
            self._armed = float("inf") if due is None else due
            with trio.move_on_at(self._armed):
                await self._rearm.wait()
                continue
            now = trio.current_time()
            self.lag_s = now - max(self._armed, began)
            if self.lag_s > LAG_ALARM_S:
                self.lag_alarms += 1
                logger.warning("loop-lag", extra={"dur_ms": round(self.lag_s * 1000)})
            self._enter(partial(self.core.tick, now))

    # -- effects -----------------------------------------------------------------------------------------------------

    def _carry_out(self, effect: object) -> None:
        handler = self._handlers.get(type(effect))
        if handler is None:
            raise Broken("internal", f"no port carries out {type(effect).__name__}")
        handler(effect)

    def _begin_perform(self, effect: Perform) -> None:
        if type(effect.operation) is Port and type(effect.operation.effect) in self._at_once:
            self._perform_at_once(effect, effect.operation.effect)
            return
        if type(effect.operation) is Compute and effect.operation.cost_s <= AT_ONCE_S:
            self._compute_at_once(effect, effect.operation)
            return
        scope = self._running[effect.reply_to, effect.op] = trio.CancelScope()
        self._nursery.start_soon(self._perform, effect, scope)

    def _abandon(self, effect: Abandon) -> None:
        under_way = self._running.get((effect.reply_to, effect.op))
        if under_way is not None:
            under_way.cancel()

    def _completed(self, effect: Completed) -> None:
        self._came(effect.op, effect.outcome)

    def _flow_ended(self, effect: FlowEnded) -> None:
        self._came(effect.flow, effect.outcome)

    def _begin_sign(self, effect: Sign) -> None:
        if Sign in self._at_once:
            self._sign_at_once(effect)
        else:
            self._nursery.start_soon(self._sign, effect)

    def _report(self, effect: Report) -> None:
        logger.error("bug", exc_info=effect.error, extra={"machine": effect.machine})

    def _perform_at_once(self, perform: Perform, effect: object) -> None:
        """Its completion waits in the core's queue until the step that asked for it has been carried out."""
        try:
            outcome: Outcome[object] = Ok(self._at_once[type(effect)](effect))
        except MeshError as error:
            outcome = Err(error)
        except Exception as error:
            outcome = Err(_bug(error, type(effect).__name__))
        self.core.deliver(trio.current_time(), perform.reply_to, Completed(perform.op, outcome))

    def _compute_at_once(self, perform: Perform, compute: Compute[object]) -> None:
        try:
            outcome: Outcome[object] = Ok(compute.work())
        except MeshError as error:
            outcome = Err(error)
        except Exception as error:
            outcome = Err(_bug(error, "Compute"))
        self.core.deliver(trio.current_time(), perform.reply_to, Completed(perform.op, outcome))

    async def _perform(self, perform: Perform, scope: trio.CancelScope) -> None:
        outcome: Outcome[object] | None = None
        with scope:
            try:
                if not scope.cancel_called:  # it may have been abandoned before this task began to run
                    outcome = Ok(await self._do(perform))
            except MeshError as error:
                outcome = Err(error)
            except Exception as error:
                outcome = Err(_bug(error, type(perform.operation).__name__))
            finally:
                del self._running[perform.reply_to, perform.op]
        if outcome is not None:
            self.deliver(perform.reply_to, Completed(perform.op, outcome))

    async def _do(self, perform: Perform) -> object:
        operation = perform.operation
        if isinstance(operation, Compute):
            return await trio.to_thread.run_sync(operation.work, limiter=self._compute, abandon_on_cancel=True)
        assert isinstance(operation, Port), operation
        port = self._ports.get(type(operation.effect))
        if port is None:
            raise Refused("no-port", f"this node has no port for {type(operation.effect).__name__}")
        return await port(operation.effect)

    def _sign_at_once(self, sign: Sign) -> None:
        signature = self._at_once[Sign](sign)
        assert isinstance(signature, bytes)
        self.core.deliver(trio.current_time(), sign.machine, Signed(sign.op, signature))

    async def _sign(self, sign: Sign) -> None:
        signature = await self._sign_with(sign)
        self.deliver(sign.machine, Signed(sign.op, signature))

    # -- disks -------------------------------------------------------------------------------------------------------

    def _stage(self, machine: str, writes: Sequence[Write]) -> None:
        self._stores[machine][1].lay(writes)
        self._staged[machine].append(writes)

    def _sync(self, machine: str) -> None:
        staged, self._staged[machine] = self._staged[machine], []
        self._disks[machine].write(staged)  # one at a time: a machine that syncs emits nothing until it is synced

    def _written(self, machine: str, overlay: Overlay, batches: int, error: Exception | None) -> None:
        """In the trio thread: ``batches`` of ``machine`` are on disk, or will never be."""
        if error is not None:
            self._break(error)
            return
        overlay.settle(batches)
        self._enter(lambda: self.core.synced(trio.current_time(), machine))


def _bug(error: Exception, operation: str) -> Broken:
    logger.error("bug", exc_info=error, extra={"operation": operation})
    return Broken("internal", f"a bug of ours, {type(error).__name__}; the log of this node has it")
