"""An organisation's state as a sequential object: ``consensus/org/state.apply`` itself, for histories of what clients were answered.

Time stands still in it, and is left out of answers before they are compared: which moment a command was applied at is the
organisation's choice, and nothing is forgotten within a history, which is shorter than the shortest time that anything is kept.

Whoever changes the state is a client: a node that ends the open tasks of its last life by itself (the Flow ``recover``) must be in the
history, or not be there.

A client writes down with ``settle`` what it was answered. A refusal that is an answer of the state (``ANSWERS``) is a result like
any other; any other error is no answer, and what became of the command is then as the error says.
"""

import dataclasses
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from meshos.consensus.org.commands import (
    COMMANDS,
    QUERIES,
    AwaitOutcome,
    CallOff,
    DeployAgent,
    Ended,
    GetAgent,
    GetArguments,
    GetConfig,
    GetPlacement,
    GetTask,
    PlaceAgent,
    RecordIntent,
    RecordLead,
    RecordOutcome,
    RecordReceipts,
    Running,
    SetConfig,
    WithdrawAgent,
)
from meshos.consensus.org.limits import AUTOMATIC_DEDUP_MS
from meshos.consensus.org.queries import answer
from meshos.consensus.org.state import apply
from meshos.effects import Ok, Outcome, Put, Write
from meshos.errors import MeshError
from meshos.ids import AgentId
from meshos.simulations.history import History
from meshos.simulations.linearizability import UNKNOWN, Model, Operation

LONGEST_S = AUTOMATIC_DEDUP_MS / 1000
"""A history that is longer may be right where this model says that it is not."""

ANSWERS = frozenset(
    {
        *("agent-unknown", "unknown-tool", "idempotency-conflict", "task-exists", "task-unknown", "version-conflict", "bad-command"),
        *("stale-term", "cancelled"),
    }
)
"""Refusals that the state itself gives, whoever asks. ``busy`` is not among them: tables are as full as they are."""

_TIMES = frozenset({"at_ms", "ended_ms", "now"})
_OF_AGENTS = (DeployAgent, WithdrawAgent, PlaceAgent, GetAgent, GetPlacement)
_OF_TASKS = (RecordOutcome, GetTask, GetArguments, AwaitOutcome)
APART = (*_OF_AGENTS, *_OF_TASKS, RecordIntent, CallOff, RecordReceipts, SetConfig, GetConfig, RecordLead)
"""What a history may hold that is to be split: nothing of it looks at all agents or tasks."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The state said no, under this name."""

    name: str


class OrgState:
    """A View that never changes: what is under which key."""

    __slots__ = ("_entries", "_hash")

    def __init__(self, entries: Mapping[bytes, bytes] | None = None) -> None:
        self._entries = dict(entries or {})
        self._hash = hash(frozenset(self._entries.items()))

    def after(self, writes: Sequence[Write]) -> "OrgState":
        """The state with ``writes``."""
        if not writes:
            return self
        entries = dict(self._entries)
        for write in writes:
            if isinstance(write, Put):
                entries[write.key] = write.value
            else:
                entries.pop(write.key, None)
        return OrgState(entries)

    def get(self, key: bytes) -> bytes | None:
        """See ``View.get``."""
        return self._entries.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See ``View.scan``."""
        return iter(sorted((key, value) for key, value in self._entries.items() if key.startswith(prefix)))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OrgState) and self._hash == other._hash and self._entries == other._entries

    def __repr__(self) -> str:
        return f"a state of {len(self._entries)} entries"


def organisation() -> Model[OrgState]:
    """All commands and questions of an organisation's state, which is empty at the beginning; and ``AwaitOutcome``."""
    return Model("organisation", OrgState(), _step, split=_split, looks=_looks, show=_show)


def settle(history: History, token: int, outcome: Outcome[object]) -> None:
    """Write down what the client of ``token`` was answered."""
    if isinstance(outcome, Ok):
        history.ok(token, timeless(outcome.value))
    elif outcome.error.name in ANSWERS and outcome.error.outcome == "not_done":
        history.ok(token, Refusal(outcome.error.name))
    elif outcome.error.outcome == "not_done":
        history.fail(token)
    else:
        history.info(token)


def timeless(value: object) -> object:
    """``value`` without the moments in it."""
    if isinstance(value, tuple):
        return tuple(map(timeless, value))
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Ended) and value.status == "expired":
        fields["status"] = "cancelled"  # which of the two a task is called off as depends on the time
    return dataclasses.replace(value, **{name: 0 if name in _TIMES else timeless(inner) for name, inner in fields.items()})


def _step(state: OrgState, op: Hashable, result: object) -> tuple[bool, OrgState]:
    writes: tuple[Write, ...] = ()
    given: object
    try:
        if isinstance(op, COMMANDS):
            given, writes = apply(state, op, 0)
        elif isinstance(op, AwaitOutcome):
            given = answer(state, GetTask(op.task))
            if not isinstance(given, Ended):
                return False, state  # it waits
        else:
            assert isinstance(op, QUERIES)
            given = answer(state, op)
    except MeshError as error:
        given = Refusal(error.name)
    return result is UNKNOWN or timeless(given) == result, state.after(writes)


def _looks(op: Hashable, result: object) -> bool:
    return isinstance(op, (*QUERIES, AwaitOutcome)) or isinstance(result, Refusal | Running)


def _split(history: Sequence[Operation]) -> list[list[Operation]]:
    """By name of configuration, by agent, and by task with those that share its key; as one where something looks at all of them. Who leads
    is in every part but those of names, and what happens to an agent in those of its tasks.
    """
    if not all(isinstance(operation.op, APART) for operation in history):
        return [list(history)]
    first: dict[Hashable, Hashable] = {}

    def find(key: Hashable) -> Hashable:
        while first.setdefault(key, key) != key:
            key = first[key]
        return key

    for operation in history:
        about = _about(operation.op)
        for key in about:
            first[find(key)] = find(about[0])
    agents: dict[AgentId, set[Hashable]] = {}  # and in which parts they matter
    for operation in history:
        if isinstance(operation.op, RecordIntent):
            agents.setdefault(operation.op.agent, set()).add(find(_about(operation.op)[0]))
    parts: dict[Hashable, list[Operation]] = {find(_about(operation.op)[0]): [] for operation in history}
    for operation in history:
        own = find(_about(operation.op)[0])
        belongs = {own}
        if isinstance(operation.op, RecordLead):
            belongs = {part for part in parts if not (isinstance(part, tuple) and part[0] == "config")}
        elif isinstance(operation.op, DeployAgent | WithdrawAgent):
            belongs |= agents.get(operation.op.agent, set())
        for part in belongs:
            parts[part].append(operation)
    return list(parts.values())


def _about(op: Hashable) -> tuple[Hashable, ...]:
    """What belongs together through ``op``."""
    if isinstance(op, RecordIntent | CallOff):
        return (("task", op.task), ("key", op.caller.org, op.agent, op.key)) if op.key else (("task", op.task),)
    if isinstance(op, RecordReceipts):
        return tuple(("task", task) for task, _ in op.signatures) or ("nothing",)
    if isinstance(op, _OF_AGENTS):
        return (("agent", op.agent),)
    if isinstance(op, RecordLead):
        return ("lead",)
    if isinstance(op, _OF_TASKS):
        return (("task", op.task),)
    assert isinstance(op, SetConfig | GetConfig)
    return (("config", op.name),)


def _show(op: Hashable, result: object) -> str:
    """Short: the kind, what it is about, and the kind of what it gave."""
    words = [str(getattr(op, name))[:20] for name in ("agent", "task", "name", "key", "status", "version") if getattr(op, name, "") != ""]
    given = type(result).__name__
    if isinstance(result, Refusal):
        given = result.name
    elif isinstance(result, bytes | int | None):
        given = repr(result)
    elif isinstance(result, Ended):
        given = f"Ended {result.status}"
    return f"{type(op).__name__}({', '.join(words)}) -> {given}"
