"""What commands do to the tasks of an organisation: intents, outcomes, receipts, deduplication, and what was called off."""

from dataclasses import replace

from meshos.consensus.org import agents, leading
from meshos.consensus.org.change import Change, check
from meshos.consensus.org.commands import (
    STATUSES,
    Begun,
    CallOff,
    Ended,
    Intent,
    NotBegun,
    Problem,
    RecordIntent,
    RecordOutcome,
    RecordReceipts,
    Running,
)
from meshos.consensus.org.entries import (
    Task,
    arguments_key,
    caller_key,
    dedup_key,
    expiry_key,
    off_key,
    off_order_key,
    open_key,
    read_caller,
    read_ended,
    read_task,
    result_key,
    split_expiry,
    task_key,
    write_caller,
    write_task,
)
from meshos.consensus.org.limits import (
    AUTOMATIC_DEDUP_MS,
    DEDUP_MS,
    HOUR_MS,
    MAX_CALLED_OFF,
    MAX_DETAIL_CHARS,
    MAX_KEPT_BYTES,
    MAX_NAME_CHARS,
    MAX_OPEN_PER_CALLER,
    MAX_OPEN_TASKS,
    MAX_RECEIPT_BYTES,
    MAX_RECEIPTS,
    MAX_RECORDED_ARGUMENTS_BYTES,
    MAX_RECORDED_RESULT_BYTES,
    MAX_TASKS,
    MAX_TASKS_PER_CALLER,
    MAX_TIMEOUT_MS,
    PURGED_PER_COMMAND,
)
from meshos.errors import BadInput, Refused, busy
from meshos.ids import OrgDid, TaskId
from meshos.storage.store import View


def record_intent(change: Change, command: RecordIntent) -> Begun | Running | Ended:
    """See ``commands.RecordIntent``."""
    leading.must_lead(change, command.term)
    if change.view.get(off_key(command.caller.org, command.task)) is not None:
        raise Refused("cancelled", "its caller called it off before it came")
    key = dedup_key(command.caller.org, command.agent, command.key)
    repeated = _repeated(change, key, command)
    if repeated is not None:
        return repeated
    check(len(command.task) <= MAX_NAME_CHARS and len(command.key) <= MAX_NAME_CHARS, "its id or key is too long")
    check(len(command.arguments or b"") <= MAX_RECORDED_ARGUMENTS_BYTES, "its arguments are too large to be recorded")
    check(0 < command.timeout_ms <= MAX_TIMEOUT_MS, f"its timeout is not between 1 and {MAX_TIMEOUT_MS} ms")
    if read_task(change.view, command.task) is not None:
        raise Refused("task-exists", f"{command.task} is another task already", hint="choose ids at random")
    agent = agents.runnable(change.view, command.agent)
    tool = next((tool for tool in agent.tools if tool.name == command.tool), None)
    if tool is None:
        known = ", ".join(sorted(tool.name for tool in agent.tools)[:8])
        raise BadInput("unknown-tool", f"{agent.name} has no tool {command.tool[:80]!r}; it has {known}")  # a hint stays on its node
    _purge(change)
    _room(change, command.caller.org)
    intent = Intent(
        command.task,
        command.caller,
        command.agent,
        command.tool,
        command.body_hash,
        tool.rerun and command.arguments is not None,
        agent.price_micro,
        change.at_ms,
        command.timeout_ms,
        command.trace,
    )
    expires_ms = change.at_ms + (DEDUP_MS if command.chosen else AUTOMATIC_DEDUP_MS)
    change.put(task_key(command.task), write_task(Task(intent, key, expires_ms, None, False)))
    change.put(key, command.task.encode())
    change.put(expiry_key(expires_ms, command.task), b"")
    change.put(open_key(command.task), b"")
    if intent.rerun and command.arguments is not None:
        change.put(arguments_key(command.task), command.arguments)
    change.count(command.caller.org, tasks=1, opened=1)
    return Begun(intent)


def _repeated(change: Change, key: bytes, command: RecordIntent) -> Running | Ended | None:
    """What is known of an earlier call with the same key, if it is remembered."""
    task = earlier_call(change.view, key, change.at_ms)
    if task is None:
        return None
    if task.intent.body_hash != command.body_hash:
        raise Refused(
            "idempotency-conflict",
            f"the key {command.key[:80]!r} was used for another call of this agent",
            hint="use a new key for a new call, or repeat the call unchanged",
        )
    return Running(task.intent.task) if task.ended is None else read_ended(change.view, task)


def earlier_call(view: View, key: bytes, at_ms: int) -> Task | None:
    """The call that another with this key (``dedup_key``) repeats, if it is remembered."""
    found = view.get(key)
    task = None if found is None else read_task(view, TaskId(found.decode()))
    if task is None or (task.expires_ms <= at_ms and task.ended is not None):
        return None
    return task


def record_outcome(change: Change, command: RecordOutcome) -> Ended:
    """See ``commands.RecordOutcome``."""
    task = read_task(change.view, command.task)
    if task is None:
        raise no_task(command.task)
    if task.ended is not None:
        return read_ended(change.view, task)
    check(command.status in STATUSES, "no such status")
    check(max(len(command.receipt), len(command.signature), len(command.replica)) <= MAX_RECEIPT_BYTES, "its receipt is too long")
    size = command.size if command.result is None else len(command.result)
    check(command.result is None or size <= MAX_RECORDED_RESULT_BYTES, "its result is too large to be recorded")
    check(size >= 0, "its size is below zero")
    kept = command.result is not None and change.kept + size <= MAX_KEPT_BYTES
    ended = Ended(
        task.intent,
        command.status,
        change.at_ms,
        None,
        command.result_hash,
        size,
        None if command.problem is None else _bounded(command.problem),
        command.receipt,
        command.signature,
        b"",
        command.owed_micro,
        command.replica,
    )
    caller = task.intent.caller.org
    if kept and command.result is not None:
        change.put(result_key(command.task), command.result)
        change.kept += size
    change.put(task_key(command.task), write_task(replace(task, ended=ended, kept=kept)))
    change.delete(open_key(command.task))
    change.delete(arguments_key(command.task))
    if command.forget:
        change.delete(task.key)
    change.count(caller, opened=-1, owed_micro=command.owed_micro)
    return replace(ended, result=command.result)


def record_receipts(change: Change, command: RecordReceipts) -> int:
    """See ``commands.RecordReceipts``."""
    check(len(command.signatures) <= MAX_RECEIPTS, "too many receipts at once")
    recorded = 0
    for id_, signature in command.signatures:
        task = read_task(change.view, id_)
        check(len(signature) <= MAX_RECEIPT_BYTES, "its signature is too long")
        if task is not None and task.ended is not None and task.ended.receipt and not task.ended.countersignature:
            change.put(task_key(id_), write_task(replace(task, ended=replace(task.ended, countersignature=signature))))
            recorded += 1
    return recorded


def call_off(change: Change, command: CallOff) -> Ended | NotBegun:
    """See ``commands.CallOff``."""
    check(max(len(command.task), len(command.agent), len(command.key)) <= MAX_NAME_CHARS, "its id, agent or key is too long")
    task = read_task(change.view, command.task)
    if task is None or task.intent.caller.org != command.caller.org:
        return keep_from_beginning(change, command)
    if task.ended is not None:
        return read_ended(change.view, task)
    expired = change.at_ms >= task.intent.at_ms + task.intent.timeout_ms
    return record_outcome(change, RecordOutcome(command.task, "expired" if expired else "cancelled"))


def keep_from_beginning(change: Change, command: CallOff) -> NotBegun:
    """Remember that the task was called off: its request may be on its way, or at another node, and can come after any restart."""
    caller = command.caller.org
    earlier = earlier_call(change.view, dedup_key(caller, command.agent, command.key), change.at_ms) if command.key else None
    repeats = None if earlier is None else earlier.intent.task
    if change.view.get(off_key(caller, command.task)) is not None:
        return NotBegun(command.task, repeats)
    counted = read_caller(change.view, caller)
    first, number = counted.off_first, counted.off_next
    change.put(off_key(caller, command.task), b"")
    change.put(off_order_key(caller, number), command.task.encode())
    if number - first >= MAX_CALLED_OFF:
        oldest = change.view.get(off_order_key(caller, first))
        assert oldest is not None
        change.delete(off_order_key(caller, first))
        change.delete(off_key(caller, TaskId(oldest.decode())))
        first += 1
    change.put(caller_key(caller), write_caller(replace(counted, off_first=first, off_next=number + 1)))
    return NotBegun(command.task, repeats)


def _room(change: Change, caller: OrgDid) -> None:
    """Raise ``busy`` when a table is full."""
    mine = read_caller(change.view, caller)
    if change.open >= MAX_OPEN_TASKS or mine.open >= MAX_OPEN_PER_CALLER:
        raise busy("the table of running tasks")
    if change.tasks >= MAX_TASKS or mine.tasks >= MAX_TASKS_PER_CALLER:
        raise busy("the table of remembered tasks")


def _purge(change: Change) -> None:
    """Forget a few tasks whose time is over. An open one (its node has not recovered yet) is looked at again later."""
    due: list[bytes] = []
    for key, _ in change.view.scan(b"expiry/"):
        if len(due) == PURGED_PER_COMMAND or split_expiry(key)[0] > change.at_ms:
            break
        due.append(key)
    for key in due:
        change.delete(key)
        id_ = split_expiry(key)[1]
        task = read_task(change.view, id_)
        if task is None:
            continue
        if task.ended is None:
            change.put(expiry_key(change.at_ms + HOUR_MS, id_), b"")
            continue
        if change.view.get(task.key) == id_.encode():
            change.delete(task.key)
        if task.kept:
            change.delete(result_key(id_))
            change.kept -= task.ended.result_size
        change.delete(task_key(id_))
        change.count(task.intent.caller.org, tasks=-1)


def _bounded(problem: Problem) -> Problem:
    return replace(problem, name=problem.name[:64], detail=problem.detail[:MAX_DETAIL_CHARS], hint=problem.hint[:MAX_DETAIL_CHARS])


def no_task(task: str) -> Refused:
    """The refusal of a question about a task that is not there."""
    return Refused("task-unknown", f"no task {task[:80]!r} is remembered here", hint="tasks are remembered for 24 hours at most")
