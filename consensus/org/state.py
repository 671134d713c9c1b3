"""What a command does to an organisation's state: ``apply``, a pure function of the state, the command and its time.

It gives the result and the writes; nothing is changed if it raises. Run over the same commands at the same times, every copy of
the state is the same, byte for byte: that is what Raft will rely on.
"""

from dataclasses import replace

from meshos.consensus.org.commands import (
    STATUSES,
    Agent,
    AuditEntry,
    Begun,
    CallOff,
    Command,
    DeployAgent,
    Ended,
    Intent,
    NotBegun,
    PlaceAgent,
    Placement,
    Problem,
    RecordIntent,
    RecordLead,
    RecordOutcome,
    RecordReceipts,
    RemoveNode,
    Running,
    SetConfig,
    WithdrawAgent,
)
from meshos.consensus.org.entries import (
    LEAD,
    META,
    REMOVED,
    Meta,
    Task,
    agent_key,
    arguments_key,
    audit_key,
    caller_key,
    config_key,
    dedup_key,
    expiry_key,
    lead_term,
    off_key,
    off_order_key,
    oldest_withdrawn,
    open_key,
    placed_key,
    read_agent,
    read_caller,
    read_ended,
    read_meta,
    read_placement,
    read_task,
    removed_key,
    result_key,
    split_expiry,
    task_key,
    write_agent,
    write_audit,
    write_caller,
    write_lead,
    write_meta,
    write_placement,
    write_task,
)
from meshos.consensus.org.limits import (
    AUTOMATIC_DEDUP_MS,
    DEDUP_MS,
    HOUR_MS,
    MAX_AGENT_FILE_BYTES,
    MAX_AGENTS,
    MAX_AUDIT,
    MAX_CALLED_OFF,
    MAX_CONFIG_BYTES,
    MAX_CONFIG_ENTRIES,
    MAX_DETAIL_CHARS,
    MAX_KEPT_BYTES,
    MAX_NAME_CHARS,
    MAX_OPEN_PER_CALLER,
    MAX_OPEN_TASKS,
    MAX_PATH_CHARS,
    MAX_RECEIPT_BYTES,
    MAX_RECEIPTS,
    MAX_RECORD_BYTES,
    MAX_RECORDED_ARGUMENTS_BYTES,
    MAX_RECORDED_RESULT_BYTES,
    MAX_REMOVED,
    MAX_TASKS,
    MAX_TASKS_PER_CALLER,
    MAX_TIMEOUT_MS,
    MAX_TOOLS,
    PURGED_PER_COMMAND,
    WITHDRAWN_MS,
)
from meshos.effects import Delete, Put, Write
from meshos.errors import BadInput, Refused, busy
from meshos.ids import AgentId, NodeId, OrgDid, TaskId
from meshos.storage.overlay import Overlay
from meshos.storage.store import View

Result = Agent | Begun | Running | Ended | NotBegun | int | None


def apply(view: View, command: Command, at_ms: int) -> tuple[Result, tuple[Write, ...]]:
    """What ``command`` gives at ``at_ms``, and what is to be written; raises MeshError and then changes nothing."""
    change = _Change(view, at_ms)
    result: Result
    if isinstance(command, RecordIntent):
        result = _record_intent(change, command)
    elif isinstance(command, RecordOutcome):
        result = _record_outcome(change, command)
    elif isinstance(command, RecordReceipts):
        result = _record_receipts(change, command)
    elif isinstance(command, DeployAgent):
        result = _deploy(change, command)
    elif isinstance(command, WithdrawAgent):
        result = _withdraw(change, command)
    elif isinstance(command, PlaceAgent):
        _place(change, command)
        result = None
    elif isinstance(command, CallOff):
        result = _call_off(change, command)
    elif isinstance(command, RecordLead):
        _record_lead(change, command)
        result = None
    elif isinstance(command, RemoveNode):
        result = _remove_node(change, command)
    else:
        _set_config(change, command)
        result = None
    return result, change.done()


class _Change:
    """The writes of one command, visible to its own later reads; the counters are written once, at the end."""

    def __init__(self, view: View, at_ms: int) -> None:
        meta = read_meta(view)
        self.at_ms = max(at_ms, meta.at_ms)
        self.tasks, self.open, self.kept, self.audited = meta.tasks, meta.open, meta.kept, meta.audit
        self._view = Overlay(view)
        self._writes: list[Write] = []
        self._shown = 0  # of them, those that the view shows

    @property
    def view(self) -> View:
        """The state with all that was written so far."""
        if self._shown < len(self._writes):
            self._view.lay(self._writes[self._shown :])
            self._shown = len(self._writes)
        return self._view

    def put(self, key: bytes, value: bytes) -> None:
        self._writes.append(Put(key, value))

    def delete(self, key: bytes) -> None:
        self._writes.append(Delete(key))

    def audit(self, by: str, what: str, subject: str) -> None:
        number = self.audited
        self.put(audit_key(number), write_audit(AuditEntry(number, self.at_ms, by, what, subject)))
        if number >= MAX_AUDIT:
            self.delete(audit_key(number - MAX_AUDIT))
        self.audited = number + 1

    def count(self, caller: OrgDid, *, tasks: int = 0, opened: int = 0, owed_micro: int = 0) -> None:
        old = read_caller(self.view, caller)
        now = replace(old, tasks=old.tasks + tasks, open=old.open + opened, owed_micro=old.owed_micro + owed_micro)
        self.put(caller_key(caller), write_caller(now))
        self.tasks += tasks
        self.open += opened

    def done(self) -> tuple[Write, ...]:
        """All writes; none if nothing was changed (a repeated call costs no disk)."""
        if not self._writes:
            return ()
        return (*self._writes, Put(META, write_meta(Meta(self.at_ms, self.tasks, self.open, self.kept, self.audited))))


# -- tasks -----------------------------------------------------------------------------------------------------------


def _record_intent(change: _Change, command: RecordIntent) -> Begun | Running | Ended:
    _must_lead(change, command.term)
    if change.view.get(off_key(command.caller.org, command.task)) is not None:
        raise Refused("cancelled", "its caller called it off before it came")
    key = dedup_key(command.caller.org, command.agent, command.key)
    repeated = _repeated(change, key, command)
    if repeated is not None:
        return repeated
    _check(len(command.task) <= MAX_NAME_CHARS and len(command.key) <= MAX_NAME_CHARS, "its id or key is too long")
    _check(len(command.arguments or b"") <= MAX_RECORDED_ARGUMENTS_BYTES, "its arguments are too large to be recorded")
    _check(0 < command.timeout_ms <= MAX_TIMEOUT_MS, f"its timeout is not between 1 and {MAX_TIMEOUT_MS} ms")
    if read_task(change.view, command.task) is not None:
        raise Refused("task-exists", f"{command.task} is another task already", hint="choose ids at random")
    agent = runnable(change.view, command.agent)
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


def _repeated(change: _Change, key: bytes, command: RecordIntent) -> Running | Ended | None:
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


def _record_outcome(change: _Change, command: RecordOutcome) -> Ended:
    task = read_task(change.view, command.task)
    if task is None:
        raise no_task(command.task)
    if task.ended is not None:
        return read_ended(change.view, task)
    _check(command.status in STATUSES, "no such status")
    _check(max(len(command.receipt), len(command.signature), len(command.replica)) <= MAX_RECEIPT_BYTES, "its receipt is too long")
    size = command.size if command.result is None else len(command.result)
    _check(command.result is None or size <= MAX_RECORDED_RESULT_BYTES, "its result is too large to be recorded")
    _check(size >= 0, "its size is below zero")
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


def _record_receipts(change: _Change, command: RecordReceipts) -> int:
    _check(len(command.signatures) <= MAX_RECEIPTS, "too many receipts at once")
    recorded = 0
    for id_, signature in command.signatures:
        task = read_task(change.view, id_)
        _check(len(signature) <= MAX_RECEIPT_BYTES, "its signature is too long")
        if task is not None and task.ended is not None and task.ended.receipt and not task.ended.countersignature:
            change.put(task_key(id_), write_task(replace(task, ended=replace(task.ended, countersignature=signature))))
            recorded += 1
    return recorded


def _call_off(change: _Change, command: CallOff) -> Ended | NotBegun:
    _check(max(len(command.task), len(command.agent), len(command.key)) <= MAX_NAME_CHARS, "its id, agent or key is too long")
    task = read_task(change.view, command.task)
    if task is None or task.intent.caller.org != command.caller.org:
        return _keep_from_beginning(change, command)
    if task.ended is not None:
        return read_ended(change.view, task)
    expired = change.at_ms >= task.intent.at_ms + task.intent.timeout_ms
    return _record_outcome(change, RecordOutcome(command.task, "expired" if expired else "cancelled"))


def _keep_from_beginning(change: _Change, command: CallOff) -> NotBegun:
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


def _room(change: _Change, caller: OrgDid) -> None:
    """Raise ``busy`` when a table is full."""
    mine = read_caller(change.view, caller)
    if change.open >= MAX_OPEN_TASKS or mine.open >= MAX_OPEN_PER_CALLER:
        raise busy("the table of running tasks")
    if change.tasks >= MAX_TASKS or mine.tasks >= MAX_TASKS_PER_CALLER:
        raise busy("the table of remembered tasks")


def _purge(change: _Change) -> None:
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


# -- who leads -----------------------------------------------------------------------------------------------------------


def _must_lead(change: _Change, term: int) -> None:
    """The fence: raise ``stale-term`` for what comes in the name of a lead that is over."""
    newest = lead_term(change.view)
    if term < newest:
        raise Refused("stale-term", f"this is the word of the leader of term {term}, and that of term {newest} has taken over since")


def _record_lead(change: _Change, command: RecordLead) -> None:
    _check(len(command.node) <= MAX_NAME_CHARS and command.term >= 0, "its node or term is none")
    _must_lead(change, command.term)
    if command.term > lead_term(change.view):
        change.put(LEAD, write_lead(command.node, command.term))
        change.audit(command.node, "lead", str(command.term))


def _remove_node(change: _Change, command: RemoveNode) -> bool:
    _check(0 < len(command.node) <= MAX_NAME_CHARS, "its node is none")
    key = removed_key(command.node)
    if change.view.get(key) is not None:
        return False
    if sum(1 for _ in change.view.scan(REMOVED)) >= MAX_REMOVED:
        raise busy("the table of nodes that were removed")
    change.put(key, b"")
    change.audit(command.by, "remove-node", command.node)
    return True


# -- agents and configuration ------------------------------------------------------------------------------------------


def runnable(view: View, agent: AgentId) -> Agent:
    """The agent; raises Refused ``agent-unknown`` if it is not there or was withdrawn."""
    found = read_agent(view, agent) if len(agent) <= MAX_NAME_CHARS else None
    if found is None or found.withdrawn:
        raise Refused("agent-unknown", f"no agent {agent[:80]!r} runs here", hint="look it up again with `mesh discover`")
    return found


def _deploy(change: _Change, command: DeployAgent) -> Agent:
    _check(0 < len(command.name) <= MAX_NAME_CHARS and len(command.agent) <= MAX_NAME_CHARS, "its name is too long")
    _check(len(command.agent_file) <= MAX_AGENT_FILE_BYTES, "its agent file is too large")
    _check(len(command.record) <= MAX_RECORD_BYTES, "its record is too large")
    _check(len(command.folder) <= MAX_PATH_CHARS, "its folder's path is too long")
    _check(len(command.tools) <= MAX_TOOLS and all(len(tool.name) <= MAX_NAME_CHARS for tool in command.tools), "too many tools")
    _check(command.price_micro >= 0, "its price is below zero")
    _check(len(command.node) <= MAX_NAME_CHARS and command.term >= 0, "its node or term is none")
    _must_lead(change, command.term)
    old = read_agent(change.view, command.agent)
    _next_version(old, command.version)
    if old is None and sum(1 for _ in change.view.scan(b"agent/")) >= MAX_AGENTS:
        _forget_withdrawn(change)
    agent = Agent(
        command.agent,
        command.name,
        command.version,
        command.agent_file,
        command.folder,
        command.record,
        command.tools,
        command.price_micro,
        change.at_ms,
        False,
    )
    change.put(agent_key(agent.agent), write_agent(agent))
    _put_placement(change, agent.agent, command.node, command.term)
    change.audit(command.by, "deploy", agent.agent)
    return agent


def _forget_withdrawn(change: _Change) -> None:
    """Make room for one: its version is known to the ledger, and whoever deploys it again takes a higher one."""
    gone = oldest_withdrawn(change.view, change.at_ms - WITHDRAWN_MS)
    if gone is None:
        raise busy("the table of agents")
    change.delete(agent_key(gone))
    change.delete(placed_key(gone))


def _withdraw(change: _Change, command: WithdrawAgent) -> Agent:
    _check(len(command.record) <= MAX_RECORD_BYTES, "its record is too large")
    _must_lead(change, command.term)
    old = runnable(change.view, command.agent)
    _next_version(old, command.version)
    agent = replace(old, version=command.version, record=command.record, at_ms=change.at_ms, withdrawn=True)
    change.put(agent_key(agent.agent), write_agent(agent))
    change.audit(command.by, "withdraw", agent.agent)
    return agent


def _place(change: _Change, command: PlaceAgent) -> None:
    _check(len(command.node) <= MAX_NAME_CHARS and command.term >= 0, "its node or term is none")
    _must_lead(change, command.term)
    runnable(change.view, command.agent)
    _put_placement(change, command.agent, command.node, command.term)


def _put_placement(change: _Change, agent: AgentId, node: NodeId, term: int) -> None:
    before = read_placement(change.view, agent)
    if before is not None and before.term > term:
        raise Refused("stale-term", f"the leader of term {before.term} has placed it since, and this is the word of term {term}")
    if before is None or (before.node, before.term) != (node, term):
        change.put(placed_key(agent), write_placement(Placement(agent, node, term)))


def _next_version(old: Agent | None, version: int) -> None:
    current = 0 if old is None else old.version
    if version <= current:
        raise Refused(
            "version-conflict", f"version {version} is not above {current}", hint="somebody else deployed it meanwhile; try again"
        )


def _set_config(change: _Change, command: SetConfig) -> None:
    _check(0 < len(command.name) <= MAX_NAME_CHARS, "its name is too long")
    key = config_key(command.name)
    if command.value is None:
        change.delete(key)
    else:
        _check(len(command.value) <= MAX_CONFIG_BYTES, "its value is too large")
        if change.view.get(key) is None and sum(1 for _ in change.view.scan(b"config/")) >= MAX_CONFIG_ENTRIES:
            raise busy("the configuration")
        change.put(key, command.value)
    change.audit(command.by, "config", command.name)


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise BadInput("bad-command", f"the command is outside its bounds: {otherwise}")


def _bounded(problem: Problem) -> Problem:
    return replace(problem, name=problem.name[:64], detail=problem.detail[:MAX_DETAIL_CHARS], hint=problem.hint[:MAX_DETAIL_CHARS])


def no_task(task: str) -> Refused:
    """The refusal of a question about a task that is not there."""
    return Refused("task-unknown", f"no task {task[:80]!r} is remembered here", hint="tasks are remembered for 24 hours at most")
