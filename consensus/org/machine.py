"""The machine "org": an organisation's state on all its nodes (a Raft ``Replica``), and who waits on this node for what becomes of tasks.

Commands and questions go to the replica. Those that begin and end tasks pass through here on their way back, since somebody may wait.

Tasks end. Whoever runs a task holds it (``HoldTask``). If its Flow is cancelled or killed by its deadline, it can do nothing any
more, but its hold is abandoned, and that ends the task. A task whose intent was answered to a Flow that was gone by then ends the
same way. Where it is not known whether such an end was recorded, it is proposed again until it is (``_insist``). Open tasks that nobody
holds here (``ListOrphans``) were left by a crash or by a leader before this one: the recovery Flow ends them.

Only a leader runs tasks. Its intents carry its term, and are refused once a later leader has taken over (``RecordLead``): nothing was
done. One that was recorded before that, while this node led no more or again in another term, belongs to the later leader, which finds
it open and ends it; here it is waited for. Since others record ends too, those that somebody waits for are looked at now and then.
"""

from collections import deque
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol, TypeAlias

from meshos.consensus.org.commands import (
    AwaitOutcome,
    Begun,
    CallOff,
    Ended,
    HoldTask,
    ListOrphans,
    NotBegun,
    RecordIntent,
    RecordOutcome,
    Running,
)
from meshos.consensus.org.entries import read_ended, read_task
from meshos.consensus.org.limits import LOOK_S, LOOKED_AT, MAX_RECORDED_RESULT_BYTES, MAX_WAITING
from meshos.consensus.org.queries import open_intents
from meshos.consensus.org.tasks import no_task
from meshos.consensus.raft.events import Fence
from meshos.consensus.raft.replica import Replica
from meshos.effects import Completed, Err, Ok, Outcome, Tell, Tick
from meshos.errors import MeshError, Refused, Unreachable, busy
from meshos.flow import Propose
from meshos.flow_machine import Abandon, Perform
from meshos.ids import NodeId, TaskId

MACHINE = "org"

AGAIN_S = 1.0
"""What could not be recorded is proposed again after this: by then the group may have a leader, or room."""

_Asker: TypeAlias = tuple[str, int]
"""Who waits for an answer: the machine, and its number for the operation."""

_Task: TypeAlias = RecordIntent | RecordOutcome | CallOff


@dataclass(slots=True)
class _Asked:
    """A command that is with the replica. ``large``: a result that is recorded by its hash alone. ``asker``: None where nobody waits.
    ``fence``: in whose name this node led when it came.
    """

    command: _Task
    large: bytes | None
    asker: _Asker | None
    fence: Fence | None


class Lead(Protocol):
    """Who leads the organisation: what its nodes' Flows ask before they act in its name."""

    @property
    def leader(self) -> NodeId | None:
        """The node that leads, as far as this one knows."""
        ...

    @property
    def lead(self) -> int | None:
        """The term in which this node leads; None: it does not."""
        ...


class OrgMachine:
    """See the module's text. ``replica`` is named ``MACHINE``, like this machine, and has its Store."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self._ops = 0
        self._asked: dict[int, _Asked] = {}
        self._numbers: dict[_Asker, int] = {}  # of those that somebody waits for
        self._waiting: dict[TaskId, list[_Asker]] = {}
        self._waits: dict[_Asker, TaskId] = {}  # the same, by who waits
        self._holds: dict[_Asker, HoldTask] = {}  # those of them that run the task
        self._unheld: dict[TaskId, _Asker] = {}  # begun, and not held yet
        self._again: deque[tuple[float, RecordOutcome | CallOff]] = deque()
        self._look_at = float("inf")  # when to look what others have recorded of the tasks that are waited for
        self._effects: list[object] = []

    def step(self, now: float, event: object) -> list[object]:
        """See ``meshos.effects.Machine``."""
        self._effects = []
        if isinstance(event, Perform):
            assert isinstance(event.operation, Propose)
            self._perform(now, event, event.operation.command)
        elif isinstance(event, Abandon):
            assert isinstance(event.operation, Propose)
            self._abandon(now, event, event.operation.command)
        elif isinstance(event, Completed):
            self._completed(now, self._asked.pop(event.op), event.outcome)
        else:
            if isinstance(event, Tick):
                self._propose_again(now)
                if self._look_at <= now:
                    self._look(now)
            self._effects += self.replica.step(now, event)
        return self._effects

    def deadline(self) -> float | None:
        """The replica's, that of an end that has to be proposed again, or of a look at those that are waited for."""
        due = self.replica.deadline()
        own = min(self._again[0][0], self._look_at) if self._again else self._look_at
        if due is None:
            return None if own == float("inf") else own
        return min(due, own)

    def statistics(self) -> dict[str, int]:
        """The replica's; tasks that are run here, and repeated calls that wait."""
        return self.replica.statistics() | {"held": len(self._holds), "waiting": len(self._waits) - len(self._holds)}

    @property
    def leader(self) -> NodeId | None:
        """Which node leads the organisation, as far as this one knows."""
        return self.replica.raft.leader

    @property
    def lead(self) -> int | None:
        """The term in which this node leads and knows all that was decided before; None: it does not lead."""
        fence = self.replica.fence
        return None if fence is None else fence.term

    # -- being asked -------------------------------------------------------------------------------------------------

    def _perform(self, now: float, perform: Perform, command: object) -> None:
        asker = (perform.reply_to, perform.op)
        try:
            if isinstance(command, AwaitOutcome | HoldTask):
                self._wait(now, asker, command)
            elif isinstance(command, ListOrphans):
                if self.replica.fence is None:
                    raise leads_not()
                self._answer(asker, Ok(self._orphans()))
            elif isinstance(command, RecordIntent):
                fence = self.replica.fence
                if fence is None:
                    raise leads_not()
                self._propose(now, replace(command, term=fence.term), asker=asker)
            elif isinstance(command, RecordOutcome):
                self._propose(now, *_light(command), asker=asker)
            elif isinstance(command, CallOff):
                self._propose(now, command, asker=asker)
            else:
                self._effects += self.replica.step(now, perform)
        except MeshError as error:
            self._answer(asker, Err(error))

    def _propose(self, now: float, command: _Task, large: bytes | None = None, *, asker: _Asker | None) -> None:
        self._ops += 1
        self._asked[self._ops] = _Asked(command, large, asker, self.replica.fence)
        if asker is not None:
            self._numbers[asker] = self._ops
        self._effects += self.replica.step(now, Perform(self._ops, Propose[object](command), None, MACHINE))

    def _insist(self, now: float, command: RecordOutcome | CallOff) -> None:
        """Have it recorded, for nobody who waits, however long that takes."""
        self._propose(now, command, asker=None)

    def _propose_again(self, now: float) -> None:
        while self._again and self._again[0][0] <= now:
            self._insist(now, self._again.popleft()[1])

    def _orphans(self) -> tuple[object, ...]:
        """Open tasks that nobody runs here, nor begins or ends at this moment."""
        held = {hold.task for hold in self._holds.values()} | self._unheld.keys()
        asked = {asked.command.task for asked in self._asked.values()} | {command.task for _, command in self._again}
        return open_intents(self.replica.view(), held | asked)

    def _answer(self, asker: _Asker, outcome: Outcome[object]) -> None:
        self._effects.append(Tell(asker[0], Completed(asker[1], outcome)))

    # -- being answered by the replica -------------------------------------------------------------------------------

    def _completed(self, now: float, asked: _Asked, outcome: Outcome[object]) -> None:
        command, asker = asked.command, asked.asker
        if asker is not None:
            del self._numbers[asker]
        if isinstance(command, RecordIntent):
            outcome = self._begun(now, asked, command, outcome)
        elif asker is None and isinstance(outcome, Err) and _in_doubt(outcome.error):
            self._again.append((now + AGAIN_S, command))
        if isinstance(outcome, Ok) and isinstance(outcome.value, NotBegun):
            outcome = Err(_not_begun(outcome.value))
        if asked.large is not None and isinstance(outcome, Ok):
            outcome = Ok(_whole(outcome.value, asked.large, command))
        if asker is not None:
            self._answer(asker, outcome)
        if isinstance(outcome, Ok) and isinstance(outcome.value, Ended) and not isinstance(command, RecordIntent):
            self._ended(outcome.value)

    def _begun(self, now: float, asked: _Asked, command: RecordIntent, outcome: Outcome[object]) -> Outcome[object]:
        """What the Flow that wants to run a task is told."""
        if isinstance(outcome, Err):
            if _in_doubt(outcome.error):
                self._insist(now, _off(command))
            return Err(leads_not()) if outcome.error.name == "stale-term" else outcome
        if not isinstance(outcome.value, Begun):
            return outcome
        if asked.asker is None:
            self._insist(now, RecordOutcome(command.task, "cancelled"))
        elif asked.fence != self.replica.fence:
            return Ok(Running(command.task))  # it is for the leader of that time to end, and may have begun there
        else:
            self._unheld[command.task] = asked.asker
        return Ok(replace(outcome.value, now=now))

    # -- waiting -----------------------------------------------------------------------------------------------------

    def _wait(self, now: float, asker: _Asker, command: AwaitOutcome | HoldTask) -> None:
        begun = isinstance(command, HoldTask) and self._unheld.pop(command.task, None) is not None
        if not begun:  # whose intent was recorded a moment ago has not ended: no need to look
            view = self.replica.view()
            task = read_task(view, command.task)
            if task is None:
                raise no_task(command.task)
            if task.ended is not None:
                self._answer(asker, Ok(read_ended(view, task)))
                return
        if isinstance(command, HoldTask):
            self._holds[asker] = command
        elif len(self._waits) - len(self._holds) >= MAX_WAITING:
            raise busy("the table of calls that wait for a running task")
        self._waits[asker] = command.task
        self._waiting.setdefault(command.task, []).append(asker)
        self._look_at = min(self._look_at, now + LOOK_S)

    def _look(self, now: float) -> None:
        """What has another node recorded of those that are waited for here? The longest that were not looked at come first."""
        view = self.replica.view()
        for id_ in list(islice(self._waiting, LOOKED_AT)):
            self._waiting[id_] = self._waiting.pop(id_)
            task = read_task(view, id_)
            if task is not None and task.ended is not None and not self._ends(id_):
                self._ended(read_ended(view, task))
        self._look_at = now + LOOK_S if self._waiting else float("inf")

    def _ends(self, task: TaskId) -> bool:
        """Whether an outcome of this node is with the replica, whose answer comes with the whole result."""
        return any(isinstance(asked.command, RecordOutcome) and asked.command.task == task for asked in self._asked.values())

    def _ended(self, ended: Ended) -> None:
        """Tell all who wait for this task."""
        task = ended.intent.task
        self._unheld.pop(task, None)
        for asker in self._waiting.pop(task, []):
            del self._waits[asker]
            self._holds.pop(asker, None)
            self._answer(asker, Ok(ended))

    def _abandon(self, now: float, abandon: Abandon, command: object) -> None:
        asker = (abandon.reply_to, abandon.op)
        number = self._numbers.pop(asker, None)
        if number is not None:
            self._asked[number].asker = None  # an intent that nobody waits for any more is ended once it is recorded
        elif isinstance(command, RecordIntent):
            if self._unheld.get(command.task) == asker:
                del self._unheld[command.task]
                self._insist(now, RecordOutcome(command.task, "cancelled"))
        elif isinstance(command, AwaitOutcome | HoldTask):
            self._leave(now, asker)
        elif not isinstance(command, RecordOutcome | CallOff | ListOrphans):
            self._effects += self.replica.step(now, abandon)

    def _leave(self, now: float, asker: _Asker) -> None:
        """``asker`` waits no more; the task ends if it was who ran it."""
        task = self._waits.pop(asker, None)
        if task is None:
            return
        self._waiting[task].remove(asker)
        if not self._waiting[task]:
            del self._waiting[task]
        hold = self._holds.pop(asker, None)
        if hold is not None:
            expired = hold.deadline is not None and now >= hold.deadline
            self._insist(now, RecordOutcome(task, "expired" if expired else "cancelled"))


def _in_doubt(error: MeshError) -> bool:
    """Whether the command may be recorded now or later, or was never tried: an end that must come has to be proposed again."""
    return error.outcome == "unknown" or isinstance(error, Unreachable) or error.name == "busy"


def _light(command: RecordOutcome) -> tuple[RecordOutcome, bytes | None]:
    """The command as it is replicated, and the result that it then lacks."""
    result = command.result
    if result is None or len(result) <= MAX_RECORDED_RESULT_BYTES:
        return command, None
    return replace(command, result=None, size=len(result)), result


def _whole(ended: object, large: bytes, command: _Task) -> object:
    """Who ran the task, and those who wait here, get the result itself, if it is this outcome that counts."""
    assert isinstance(ended, Ended) and isinstance(command, RecordOutcome)
    return replace(ended, result=large) if ended.result_hash == command.result_hash else ended


def _off(command: RecordIntent) -> CallOff:
    return CallOff(command.task, command.caller, command.agent, command.key if command.chosen else "")


def leads_not() -> Unreachable:
    """The refusal of what only a leader does."""
    what = "this node does not lead its organisation any more, or not yet; nothing was done"
    return Unreachable("not-leading", what, hint="try again in a moment: its nodes are choosing", outcome="not_done")


def _not_begun(found: NotBegun) -> Refused:
    """Why a task that is called off has no record."""
    if found.repeats is None:
        return no_task(found.task)
    what = f"{found.task[:80]} repeats {found.repeats}, which is not ended by calling off its repetition"
    return Refused("task-repeats", what, hint="repeat the call with its idempotency key to hear how it ended", outcome="unknown")
