"""How an organisation's state lies in its Store: the keys, and the values as canonical CBOR lists.

meta                       counters and the last time
agent/<id>                 Agent
task/<id>                  Intent, key, expiry, and the outcome once there is one
open/<id>                  (empty) tasks without an outcome
arguments/<id>             of an open task whose tool may run again
result/<id>                the result of an ended task, as bytes
key/<sha256>               the id of the task with this (caller's organisation, agent, idempotency key)
expiry/<time><id>          (empty) when a task is forgotten; the time as 8 bytes, so that the oldest come first
caller/<did>               how many tasks are remembered for a caller, how many of these are open, what it owes, which it called off
off/<did>\\0<id>            (number) a task that its caller called off before its request came
off-order/<did>\\0<number>  its id: the oldest go first
placed/<id>                node and term of the leader that runs an agent
lead                       node and term of the leader that took over last
removed/<node>             (empty) a node that does not come back
config/<name>              configuration
audit/<number>             AuditEntry
"""

import hashlib
from dataclasses import replace
from functools import lru_cache
from typing import Any

import cbor2

from meshos import cbor
from meshos.consensus.org.commands import Agent, AuditEntry, Ended, Intent, Placement, Problem, Tool
from meshos.consensus.org.limits import AGENTS_DECODED
from meshos.errors import Broken
from meshos.ids import AgentId, NodeId, OrgDid, Peer, TaskId
from meshos.storage.store import View
from meshos.values import frozen

META = b"meta"
LEAD = b"lead"
REMOVED = b"removed/"


@frozen
class Meta:
    """``at_ms``: the time of the last command. ``tasks``, ``open``: remembered and open tasks. ``kept``: bytes of recorded results.
    ``audit``: the number of the next audit entry.
    """

    at_ms: int = 0
    tasks: int = 0
    open: int = 0
    kept: int = 0
    audit: int = 0


@frozen
class Caller:
    """What is counted for one organisation that calls. What it called off early is numbered from ``off_first`` to below ``off_next``."""

    tasks: int = 0
    open: int = 0
    owed_micro: int = 0
    off_first: int = 0
    off_next: int = 0


@frozen
class Task:
    """A task as it is recorded. ``ended.result`` is never set here: it lies under its own key (``kept`` says whether)."""

    intent: Intent
    key: bytes
    expires_ms: int
    ended: Ended | None
    kept: bool


def agent_key(agent: str) -> bytes:
    """Where an Agent lies."""
    return b"agent/" + agent.encode()


def task_key(task: TaskId) -> bytes:
    """Where a Task lies."""
    return b"task/" + task.encode()


def open_key(task: TaskId) -> bytes:
    """There while the task has no outcome."""
    return b"open/" + task.encode()


def arguments_key(task: TaskId) -> bytes:
    """Where the arguments of an open task lie."""
    return b"arguments/" + task.encode()


def result_key(task: TaskId) -> bytes:
    """Where the result of an ended task lies."""
    return b"result/" + task.encode()


def dedup_key(caller: OrgDid, agent: AgentId, key: str) -> bytes:
    """Where the task lies that this call repeats, if it does."""
    return b"key/" + hashlib.sha256(cbor.encode([caller, agent, key])).digest()


def expiry_key(expires_ms: int, task: TaskId) -> bytes:
    """In the order of time."""
    return b"expiry/" + expires_ms.to_bytes(8, "big") + task.encode()


def split_expiry(key: bytes) -> tuple[int, TaskId]:
    """The time and the task of an expiry key."""
    rest = key.removeprefix(b"expiry/")
    return int.from_bytes(rest[:8], "big"), TaskId(rest[8:].decode())


def caller_key(caller: OrgDid) -> bytes:
    """Where a Caller lies."""
    return b"caller/" + caller.encode()


def off_key(caller: OrgDid, task: TaskId) -> bytes:
    """There if ``caller`` called ``task`` off before it came."""
    return b"off/" + caller.encode() + b"\0" + task.encode()


def off_order_key(caller: OrgDid, number: int) -> bytes:
    """In the order in which they were called off."""
    return b"off-order/" + caller.encode() + b"\0" + number.to_bytes(8, "big")


def placed_key(agent: AgentId) -> bytes:
    """Where a Placement lies."""
    return b"placed/" + agent.encode()


def removed_key(node: NodeId) -> bytes:
    """There if ``node`` was removed."""
    return REMOVED + node.encode()


def config_key(name: str) -> bytes:
    """Where a value of the configuration lies."""
    return b"config/" + name.encode()


def audit_key(number: int) -> bytes:
    """In the order of time."""
    return b"audit/" + number.to_bytes(8, "big")


# -- values ----------------------------------------------------------------------------------------------------------


def read_meta(view: View) -> Meta:
    """The counters; those of an empty state if there are none."""
    return Meta(*_list(view, META) or ())


def write_meta(meta: Meta) -> bytes:
    """The value of ``meta``."""
    return cbor.encode([meta.at_ms, meta.tasks, meta.open, meta.kept, meta.audit])


def read_caller(view: View, caller: OrgDid) -> Caller:
    """What is counted for ``caller``."""
    return Caller(*_list(view, caller_key(caller)) or ())


def write_caller(caller: Caller) -> bytes:
    """The value of ``caller``."""
    return cbor.encode([caller.tasks, caller.open, caller.owed_micro, caller.off_first, caller.off_next])


def read_agent(view: View, agent: AgentId) -> Agent | None:
    """The agent, withdrawn or not."""
    value = view.get(agent_key(agent))
    return None if value is None else decode_agent(value)


@lru_cache(maxsize=AGENTS_DECODED)
def decode_agent(value: bytes) -> Agent:
    """The agent that ``value`` holds; those that are called over and over are decoded once."""
    id_, name, version, file, folder, record, tools, price, at_ms, withdrawn = _decode(value)
    return Agent(id_, name, version, file, folder, record, tuple(Tool(*tool) for tool in tools), price, at_ms, withdrawn)


def oldest_withdrawn(view: View, until_ms: int) -> AgentId | None:
    """Which agent was withdrawn first, by ``until_ms`` at the latest; None: none was. Reads all."""
    agents = (decode_agent(value) for _, value in view.scan(agent_key("")))
    gone = [(agent.at_ms, agent.agent) for agent in agents if agent.withdrawn and agent.at_ms <= until_ms]
    return min(gone)[1] if gone else None


def write_agent(agent: Agent) -> bytes:
    """The value of ``agent``."""
    tools = [[tool.name, tool.rerun] for tool in agent.tools]
    head = [agent.agent, agent.name, agent.version, agent.agent_file, agent.folder, agent.record]
    return cbor.encode([*head, tools, agent.price_micro, agent.at_ms, agent.withdrawn])


def read_placement(view: View, agent: AgentId) -> Placement | None:
    """Where the agent runs, if it was ever placed."""
    value = _list(view, placed_key(agent))
    return None if value is None else Placement(agent, NodeId(value[0]), value[1])


def write_placement(placement: Placement) -> bytes:
    """The value of ``placement``."""
    return cbor.encode([placement.node, placement.term])


def lead_term(view: View) -> int:
    """The term of the leader that took over last."""
    value = _list(view, LEAD)
    return 0 if value is None else int(value[1])


def write_lead(node: NodeId, term: int) -> bytes:
    """The value of a lead."""
    return cbor.encode([node, term])


def read_task(view: View, task: TaskId) -> Task | None:
    """The task, without its result."""
    value = _list(view, task_key(task))
    if value is None:
        return None
    first, key, expires_ms, last, kept = value
    id_, node, org, agent, tool, body_hash, rerun, price, at_ms, timeout_ms, trace = first
    intent = Intent(id_, Peer(NodeId(node), OrgDid(org)), agent, tool, body_hash, rerun, price, at_ms, timeout_ms, trace)
    if last is None:
        return Task(intent, key, expires_ms, None, kept)
    status, ended_ms, result_hash, size, problem, receipt, signature, countersignature, owed, replica = last
    problem = None if problem is None else Problem(*problem)
    ended = Ended(intent, status, ended_ms, None, result_hash, size, problem, receipt, signature, countersignature, owed, replica)
    return Task(intent, key, expires_ms, ended, kept)


def write_task(task: Task) -> bytes:
    """The value of ``task``."""
    intent, ended = task.intent, task.ended
    first = [intent.task, intent.caller.node, intent.caller.org, intent.agent, intent.tool, intent.body_hash, intent.rerun]
    first += [intent.price_micro, intent.at_ms, intent.timeout_ms, intent.trace]
    last: list[object] | None = None
    if ended is not None:
        problem = ended.problem
        parts = None if problem is None else [problem.kind, problem.name, problem.detail, problem.hint, problem.outcome]
        last = [ended.status, ended.ended_ms, ended.result_hash, ended.result_size, parts, ended.receipt, ended.signature]
        last += [ended.countersignature, ended.owed_micro, ended.replica]
    return cbor.encode([first, task.key, task.expires_ms, last, task.kept])


def read_ended(view: View, task: Task) -> Ended:
    """The outcome of an ended task, with its result where that is recorded."""
    assert task.ended is not None
    return replace(task.ended, result=view.get(result_key(task.intent.task))) if task.kept else task.ended


def read_audit(value: bytes) -> AuditEntry:
    """The entry that ``value`` holds."""
    return AuditEntry(*_decode(value))


def write_audit(entry: AuditEntry) -> bytes:
    """The value of ``entry``."""
    return cbor.encode([entry.number, entry.at_ms, entry.by, entry.what, entry.subject])


def _list(view: View, key: bytes) -> list[Any] | None:
    value = view.get(key)
    return None if value is None else _decode(value)


def _decode(value: bytes) -> list[Any]:
    """A list that was written here, and so has the types that are expected; anything else is a bug or a damaged disk.

    Not ``cbor.decode``: that encodes again to refuse what a stranger may send, and doubles the time of a call's commands.
    """
    try:
        found = cbor2.loads(value)
    except (cbor2.CBORDecodeError, ValueError) as error:
        raise Broken("state-broken", "an entry of the organisation's state cannot be read") from error
    if not isinstance(found, list):
        raise Broken("state-broken", f"an entry of the organisation's state is of the type {type(found).__name__}")
    return found
