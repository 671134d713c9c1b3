"""Questions about an organisation's state: pure functions over a View, put to the machine like commands."""

from collections.abc import Set
from itertools import islice

from meshos.consensus.org.commands import (
    Agent,
    AuditEntry,
    Ended,
    FindTasks,
    GetAgent,
    GetArguments,
    GetConfig,
    GetOwed,
    GetPlacement,
    GetTask,
    Intent,
    ListAgents,
    ListRemoved,
    Placement,
    Query,
    Running,
)
from meshos.consensus.org.entries import (
    REMOVED,
    arguments_key,
    audit_key,
    config_key,
    decode_agent,
    read_agent,
    read_audit,
    read_caller,
    read_ended,
    read_meta,
    read_placement,
    read_task,
    task_key,
)
from meshos.consensus.org.limits import MAX_AUDIT, MAX_NAME_CHARS, MAX_PAGE
from meshos.consensus.org.tasks import no_task
from meshos.errors import Refused
from meshos.ids import NodeId, TaskId
from meshos.storage.store import View

Answer = (
    Agent
    | tuple[Agent, ...]
    | tuple[TaskId, ...]
    | Running
    | Ended
    | Placement
    | frozenset[NodeId]
    | bytes
    | int
    | tuple[AuditEntry, ...]
    | None
)


def answer(view: View, query: Query) -> Answer:
    """What ``query`` gives; raises Refused as it says."""
    if isinstance(query, GetTask):
        task = read_task(view, query.task) if len(query.task) <= MAX_NAME_CHARS else None
        if task is None:
            raise no_task(query.task)
        return Running(task.intent.task) if task.ended is None else read_ended(view, task)
    if isinstance(query, FindTasks):
        return _tasks(view, query)
    if isinstance(query, GetAgent):
        agent = read_agent(view, query.agent) if len(query.agent) <= MAX_NAME_CHARS else None
        if agent is None:
            raise Refused("agent-unknown", f"no agent {query.agent[:80]!r} is known here", hint="`mesh agents` lists those that are")
        return agent
    if isinstance(query, ListAgents):
        return _agents(view, query)
    if isinstance(query, GetArguments):
        return view.get(arguments_key(query.task))
    if isinstance(query, GetConfig):
        return view.get(config_key(query.name))
    if isinstance(query, GetPlacement):
        return read_placement(view, query.agent) if len(query.agent) <= MAX_NAME_CHARS else None
    if isinstance(query, ListRemoved):
        return frozenset(NodeId(key.removeprefix(REMOVED).decode()) for key, _ in view.scan(REMOVED))
    if isinstance(query, GetOwed):
        return read_caller(view, query.caller).owed_micro
    last = read_meta(view).audit
    start = max(query.start, last - MAX_AUDIT)
    values = (view.get(audit_key(number)) for number in range(start, min(last, start + min(query.limit, MAX_PAGE))))
    return tuple(read_audit(value) for value in values if value is not None)


def _agents(view: View, query: ListAgents) -> tuple[Agent, ...]:
    after = b"agent/" + query.after.encode()
    found = (decode_agent(value) for key, value in view.scan(b"agent/") if key > after)
    return tuple(islice((agent for agent in found if query.withdrawn or not agent.withdrawn), min(query.limit, MAX_PAGE)))


def _tasks(view: View, query: FindTasks) -> tuple[TaskId, ...]:
    if len(query.prefix) > MAX_NAME_CHARS:
        return ()
    start = task_key(TaskId(""))
    keys = (key for key, _ in view.scan(task_key(TaskId(query.prefix))))
    return tuple(TaskId(key.removeprefix(start).decode()) for key in islice(keys, min(query.limit, MAX_PAGE)))


def open_intents(view: View, without: Set[TaskId] = frozenset()) -> tuple[Intent, ...]:
    """Every task that has an intent and no outcome, in the order of their ids, but for those of ``without``."""
    ids = (TaskId(key.removeprefix(b"open/").decode()) for key, _ in view.scan(b"open/"))
    tasks = (read_task(view, id_) for id_ in ids if id_ not in without)
    return tuple(task.intent for task in tasks if task is not None)
