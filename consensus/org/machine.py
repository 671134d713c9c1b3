"""The organisation's machine, one-node form: proposals in order, each durable before it is answered.

It stands where Raft will drive the same ``apply``: a proposal is stamped with the organisation's time, applied, persisted, answered.

Time. ``step`` is given the driver's ``now``, which means nothing but differences; the driver says once at the start what wall
time that was, and may say it again (``WallTime``) when the clock was set. The organisation's time is the later of that and of the last
command's, so it never goes back, also over a restart with a wrong clock.

Tasks end. Whoever runs a task holds it (``HoldTask``). If its Flow is cancelled or killed by its deadline, it can do nothing any
more, but its hold is abandoned, and that ends the task. A task whose intent was answered to a Flow that was gone by then ends the
same way. Tasks that were open when the node started (``ListOrphans``) belong to nobody: the recovery Flow ends them.

A caller that does not want its task any more says so (``CallOff``) and hears how it ended: what was recorded first counts, for both
sides. A task that is not known yet is remembered as called off, in memory: a request that came straight from its caller cannot
outlive the links of this process (one that another node of ours passes on can: docs/decisions/0008). A repeated call has no record of
its own: calling it off ends nothing, and is answered by saying so.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace

from meshos.consensus.org.commands import (
    COMMANDS,
    QUERIES,
    AwaitOutcome,
    Begun,
    CallOff,
    Command,
    Ended,
    HoldTask,
    ListOrphans,
    RecordIntent,
    RecordOutcome,
)
from meshos.consensus.org.entries import dedup_key, read_ended, read_task
from meshos.consensus.org.limits import MAX_CALLED_OFF, MAX_WAITING
from meshos.consensus.org.queries import answer, open_intents
from meshos.consensus.org.state import apply, earlier_call, no_task
from meshos.effects import Completed, Err, Ok, Outcome, Persist, Tell, Tick
from meshos.errors import MeshError, Refused, busy
from meshos.flow import Propose
from meshos.flow_machine import Abandon, Perform
from meshos.ids import OrgDid, Peer, TaskId
from meshos.storage.disk import DiskFailed
from meshos.storage.store import View

_Asker = tuple[str, int]
"""Who waits for an answer: the machine, and its number for the operation."""


@dataclass(frozen=True, slots=True)
class WallTime:
    """The wall clock shows ``ms`` (milliseconds since 1970, UTC)."""

    ms: int


class OrgMachine:
    """The machine "org". ``view`` shows what was persisted and what is on its way; ``wall_ms`` is the wall time at ``now``."""

    def __init__(self, view: View, *, now: float, wall_ms: int) -> None:
        self._view = view
        self._clock = (now, wall_ms)
        self._orphans = {intent.task: intent for intent in open_intents(view)}
        self._waiting: dict[TaskId, list[_Asker]] = {}
        self._waits: dict[_Asker, TaskId] = {}  # the same, by who waits
        self._holds: dict[_Asker, HoldTask] = {}  # those of them that run the task
        self._unheld: dict[TaskId, _Asker] = {}  # begun, and not held yet
        self._called_off: dict[OrgDid, OrderedDict[TaskId, None]] = {}  # by whom, before they came
        self._effects: list[object] = []

    def step(self, now: float, event: object) -> list[object]:
        """See ``meshos.effects.Machine``."""
        self._effects = []
        if isinstance(event, Perform):
            assert isinstance(event.operation, Propose)
            self._perform(now, event, event.operation.command)
        elif isinstance(event, Abandon):
            assert isinstance(event.operation, Propose)
            self._abandon(now, (event.reply_to, event.op), event.operation.command)
        elif isinstance(event, WallTime):
            self._clock = (now, event.ms)
        elif not isinstance(event, Tick):
            raise TypeError(f"OrgMachine has no use for {event!r}")
        return self._effects

    def deadline(self) -> float | None:
        """It waits for nobody."""
        return None

    def statistics(self) -> dict[str, int]:
        """Tasks that are run here, repeated calls that wait, and tasks of before the start that nobody has ended yet."""
        return {"held": len(self._holds), "waiting": len(self._waits) - len(self._holds), "orphans": len(self._orphans)}

    def _perform(self, now: float, perform: Perform, command: object) -> None:
        asker = (perform.reply_to, perform.op)
        try:
            if isinstance(command, AwaitOutcome | HoldTask):
                self._wait(asker, command)
                return
            if isinstance(command, CallOff):
                result: object = self._call_off(now, command)
            elif isinstance(command, ListOrphans):
                result = tuple(self._orphans.values())
            elif isinstance(command, QUERIES):
                result = answer(self._view, command)
            elif isinstance(command, COMMANDS):
                result = self._apply(now, command)
            else:
                raise Refused("unknown-command", f"an organisation's state has no command {type(command).__name__}")
        except DiskFailed:
            raise  # the node ends: nobody else is answered for what its own disk did
        except MeshError as error:
            self._answer(asker, Err(error))
            return
        if isinstance(command, RecordIntent) and isinstance(result, Begun):
            result = replace(result, now=now)
            self._unheld[command.task] = asker
        self._answer(asker, Ok(result))
        if isinstance(command, RecordOutcome) and isinstance(result, Ended):
            self._ended(result)

    def _apply(self, now: float, command: Command) -> object:
        if isinstance(command, RecordIntent) and command.task in self._called_off.get(command.caller.org, ()):
            raise Refused("cancelled", "its caller called it off before it came")
        result, writes = apply(self._view, command, self._wall_ms(now))
        if writes:
            self._effects.append(Persist(writes))
        return result

    def _wall_ms(self, now: float) -> int:
        since, wall_ms = self._clock
        return wall_ms + round((now - since) * 1000)

    def _wait(self, asker: _Asker, command: AwaitOutcome | HoldTask) -> None:
        begun = isinstance(command, HoldTask) and self._unheld.pop(command.task, None) is not None
        if not begun:  # whose intent was recorded a moment ago has not ended: no need to look
            task = read_task(self._view, command.task)
            if task is None:
                raise no_task(command.task)
            if task.ended is not None:
                self._answer(asker, Ok(read_ended(self._view, task)))
                return
        if isinstance(command, HoldTask):
            self._holds[asker] = command
        elif len(self._waits) - len(self._holds) >= MAX_WAITING:
            raise busy("the table of calls that wait for a running task")
        self._waits[asker] = command.task
        self._waiting.setdefault(command.task, []).append(asker)

    def _ended(self, ended: Ended) -> None:
        """Tell all who wait for this task."""
        task = ended.intent.task
        self._orphans.pop(task, None)
        self._unheld.pop(task, None)
        for asker in self._waiting.pop(task, []):
            del self._waits[asker]
            self._holds.pop(asker, None)
            self._answer(asker, Ok(ended))

    def _abandon(self, now: float, asker: _Asker, command: object) -> None:
        if isinstance(command, RecordIntent):
            if self._unheld.get(command.task) == asker:
                self._give_up(now, command.task, None)
            return
        task = self._waits.pop(asker, None)
        if task is None:
            return
        self._waiting[task].remove(asker)
        if not self._waiting[task]:
            del self._waiting[task]
        hold = self._holds.pop(asker, None)
        if hold is not None:
            self._give_up(now, task, hold.deadline)

    def _call_off(self, now: float, command: CallOff) -> Ended:
        task = read_task(self._view, command.task)
        if task is None or task.intent.caller.org != command.caller.org:
            self._remember_called_off(command.caller, command.task)
            raise self._not_begun(now, command)
        if task.ended is not None:
            return read_ended(self._view, task)
        holds = [self._holds[asker] for asker in self._waiting.get(command.task, ()) if asker in self._holds]
        return self._give_up(now, command.task, holds[0].deadline if holds else None)

    def _not_begun(self, now: float, command: CallOff) -> Refused:
        """Why a task that is called off has no record."""
        key = dedup_key(command.caller.org, command.agent, command.key)
        earlier = earlier_call(self._view, key, self._wall_ms(now)) if command.key else None
        if earlier is None:
            return no_task(command.task)
        what = f"{command.task[:80]} repeats {earlier.intent.task}, which is not ended by calling off its repetition"
        return Refused("task-repeats", what, hint="repeat the call with its idempotency key to hear how it ended", outcome="unknown")

    def _remember_called_off(self, caller: Peer, task: TaskId) -> None:
        tasks = self._called_off.setdefault(caller.org, OrderedDict())
        tasks[task] = None
        if len(tasks) > MAX_CALLED_OFF:
            tasks.popitem(last=False)

    def _give_up(self, now: float, task: TaskId, deadline: float | None) -> Ended:
        """End a task that nobody runs any more."""
        expired = deadline is not None and now >= deadline
        ended = self._apply(now, RecordOutcome(task, "expired" if expired else "cancelled"))
        assert isinstance(ended, Ended)
        self._ended(ended)
        return ended

    def _answer(self, asker: _Asker, outcome: Outcome[object]) -> None:
        self._effects.append(Tell(asker[0], Completed(asker[1], outcome)))
