"""What goes over the wire for a task: a head of canonical CBOR, then the arguments or the result as they are.

    u32 length of the head | head | arguments or result

The head is bounded before it is decoded; what follows is not decoded here at all, so 64 MiB cost a copy and not a parse. The copy of
more than INLINE_BYTES is made in a worker thread (``large``), in pieces.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from meshos import cbor, cbor_pieces
from meshos.consensus.org.commands import STATUSES, Ended, Problem, Status
from meshos.consensus.org.limits import MAX_RECEIPT_BYTES, MAX_TIMEOUT_MS
from meshos.errors import KINDS, Done, Refused
from meshos.flow import Compute
from meshos.ids import AgentId, NodeId, OrgDid, Peer, TaskId
from meshos.protocols.tasks.fields import Fields
from meshos.protocols.tasks.limits import HEAD_BYTES, INLINE_BYTES, MAX_ARGUMENTS_BYTES, MAX_DEPTH, MAX_RESULT_BYTES
from meshos.values import frozen

TASK = "/meshos/task/1"
CALL_OFF = "/meshos/task-call-off/1"
_LENGTH = struct.Struct(">I")
_SECONDS_PER_BYTE = 0.5e-9
T = TypeVar("T")
_OUTCOMES: tuple[Done, ...] = ("done", "not_done", "unknown")


@frozen
class TaskRequest:
    """``key`` is empty when the caller chose none: then the task's id stands for it. ``behalf`` is set by a node that forwards within its
    own organisation: for whom. ``depth`` is how many calls may still follow this one: those that its agent makes while it serves it.
    """

    task: TaskId
    agent: AgentId
    tool: str
    arguments: bytes
    key: str
    timeout_ms: int
    priority: int
    budget_micro: int | None
    behalf: Peer | None = None
    depth: int = MAX_DEPTH - 1


@frozen
class TaskReply:
    """How the task ended. ``result`` is None when there is none; ``gone`` says that there was one that is recorded by its hash only."""

    task: TaskId
    status: Status
    result: bytes | None
    gone: bool
    problem: Problem | None
    receipt: bytes
    signature: bytes
    started_ms: int
    ended_ms: int
    replayed: bool
    replica: str


def encode_request(request: TaskRequest) -> bytes:
    """The bytes of a request; raises Refused ``arguments-too-large``."""
    _bound_arguments(len(request.arguments))
    behalf = request.behalf
    head = {
        "v": 1,
        "task": request.task,
        "agent": request.agent,
        "tool": request.tool,
        "key": request.key,
        "timeout": request.timeout_ms,
        "priority": request.priority,
        "budget": request.budget_micro,
        "behalf": None if behalf is None else [behalf.node, behalf.org],
        "depth": request.depth,
    }
    return _join(head, request.arguments)


def decode_request(body: bytes) -> TaskRequest:
    """Raises Refused ``bad-message``, ``bad-encoding``, ``too-large`` or ``arguments-too-large``."""
    head, arguments = _split(body)
    _bound_arguments(len(arguments))
    fields = Fields(head, "a task's request")
    if fields.number("v") != 1:
        raise fields.refusal("its version is not 1")
    budget = None if fields.absent("budget") else fields.number("budget")
    request = TaskRequest(
        TaskId(fields.text("task")),
        AgentId(fields.text("agent")),
        fields.text("tool"),
        arguments,
        fields.text("key"),
        fields.number("timeout", MAX_TIMEOUT_MS),
        fields.number("priority", 9),
        budget,
        _behalf(fields),
        fields.number("depth", MAX_DEPTH - 1) if fields.has("depth") else MAX_DEPTH - 1,
    )
    fields.end()
    if not request.task.startswith("t-") or not request.agent or not request.tool or not request.timeout_ms:
        raise fields.refusal("it names no task, agent or tool, or has no timeout")
    return request


@dataclass(frozen=True, slots=True)
class TaskCallOff:
    """``task``, a call of ``agent`` with the idempotency key ``key`` (or none), is not wanted any more. ``behalf`` as in a request. It is
    answered as a request is, by a reply.
    """

    task: TaskId
    agent: AgentId
    key: str
    behalf: Peer | None = None


def encode_call_off(asked: TaskCallOff) -> bytes:
    """The bytes of ``asked``."""
    behalf = None if asked.behalf is None else [asked.behalf.node, asked.behalf.org]
    return cbor.encode({"v": 1, "task": asked.task, "agent": asked.agent, "key": asked.key, "behalf": behalf})


def decode_call_off(body: bytes) -> TaskCallOff:
    """Raises Refused ``bad-message``, ``bad-encoding`` or ``too-large``."""
    fields = Fields(cbor.decode(body, max_bytes=HEAD_BYTES), "calling a task off")
    if fields.number("v") != 1:
        raise fields.refusal("its version is not 1")
    asked = TaskCallOff(TaskId(fields.text("task")), AgentId(fields.text("agent")), fields.text("key"), _behalf(fields))
    fields.end()
    if not asked.task.startswith("t-") or not asked.agent:
        raise fields.refusal("it names no task or agent")
    return asked


def encode_reply(ended: Ended, *, replayed: bool) -> bytes:
    """The bytes of a reply; raises Refused ``result-too-large``."""
    result = ended.result
    if result is not None and len(result) > MAX_RESULT_BYTES:
        raise result_too_large(len(result))
    problem = ended.problem
    head = {
        "v": 1,
        "task": ended.intent.task,
        "status": ended.status,
        "has": result is not None,
        "gone": result is None and ended.result_size > 0,
        "problem": None if problem is None else [problem.kind, problem.name, problem.detail, problem.hint, problem.outcome],
        "receipt": ended.receipt,
        "signature": ended.signature,
        "started": ended.intent.at_ms,
        "ended": ended.ended_ms,
        "replayed": replayed,
        "replica": ended.replica,
    }
    return _join(head, result or b"")


def decode_reply(body: bytes) -> TaskReply:
    """Raises Refused ``bad-message``, ``bad-encoding`` or ``too-large``."""
    head, result = _split(body)
    fields = Fields(head, "a task's reply")
    if fields.number("v") != 1:
        raise fields.refusal("its version is not 1")
    status = _status(fields)
    has = fields.flag("has")
    reply = TaskReply(
        TaskId(fields.text("task")),
        status,
        result if has else None,
        fields.flag("gone"),
        None if fields.absent("problem") else _problem(fields),
        fields.data("receipt", MAX_RECEIPT_BYTES),
        fields.data("signature", MAX_RECEIPT_BYTES),
        fields.number("started"),
        fields.number("ended"),
        fields.flag("replayed"),
        fields.text("replica", 256),
    )
    fields.end()
    if len(result) > MAX_RESULT_BYTES or (result and not has):
        raise fields.refusal("its result has a size that cannot be")
    return reply


def result_too_large(size: int) -> Refused:
    """The tool ran; what it gave is not sent."""
    return Refused(
        "result-too-large",
        f"the result has {size} bytes, at most {MAX_RESULT_BYTES} are sent",
        hint="ask for less, or have the agent put it where it can be fetched",
        outcome="done",
    )


async def large(size: int, work: Callable[[], T]) -> T:
    """A Flow: ``work``, which copies so many bytes; in place when they are few."""
    return work() if size <= INLINE_BYTES else await Compute(work, cost_s=size * _SECONDS_PER_BYTE)


def _bound_arguments(size: int) -> None:
    if size > MAX_ARGUMENTS_BYTES:
        raise Refused(
            "arguments-too-large",
            f"the task's data has {size} bytes, at most {MAX_ARGUMENTS_BYTES} are taken",
            hint="have the agent fetch it",
        )


def _behalf(fields: Fields) -> Peer | None:
    if fields.absent("behalf"):
        return None
    node, org = fields.texts("behalf", 2)
    return Peer(NodeId(node), OrgDid(org))


def _status(fields: Fields) -> Status:
    text = fields.text("status")
    for status in STATUSES:
        if status == text:
            return status
    raise fields.refusal("it has no such status")


def _problem(fields: Fields) -> Problem:
    kind, name, detail, hint, outcome = fields.texts("problem", 5, chars=512)
    for known in _OUTCOMES:
        if known == outcome and kind in KINDS:
            return Problem(kind, name[:64], detail, hint, known)
    raise fields.refusal("its problem is of no known kind")


def _join(head: object, tail: bytes) -> bytes:
    encoded = cbor.encode(head)
    assert len(encoded) <= HEAD_BYTES, "every field of a head is bounded"
    parts = (_LENGTH.pack(len(encoded)), encoded, tail)
    return b"".join(parts) if len(tail) <= INLINE_BYTES else cbor_pieces.joined(parts)


def _split(body: bytes) -> tuple[cbor.Value, bytes]:
    if len(body) < _LENGTH.size:
        raise Refused("bad-message", "a task's message ends before it begins")
    (length,) = _LENGTH.unpack_from(body)
    end = _LENGTH.size + length
    if length > HEAD_BYTES or end > len(body):
        raise Refused("bad-message", f"the head of a task's message has {length} bytes, which cannot be")
    tail = body[end:] if len(body) - end <= INLINE_BYTES else cbor_pieces.copied(memoryview(body)[end:])
    return cbor.decode(body[_LENGTH.size : end], max_bytes=HEAD_BYTES), tail
