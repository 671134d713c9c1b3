"""What can be decided for an organisation: frozen commands, and what they give.

A command is applied at a time of its own (``at_ms``, the organisation's clock, which never goes back), and the same commands at the
same times give the same state everywhere. Sizes are checked in ``state.py``.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from meshos.errors import KINDS, Broken, Done, MeshError
from meshos.ids import AgentId, NodeId, OrgDid, Peer, TaskId
from meshos.values import frozen

Status: TypeAlias = Literal["completed", "failed", "cancelled", "expired", "outcome_unknown"]
"""How a task ended. ``cancelled`` and ``expired``: the tool was told to stop, and what it had done by then stands."""

STATUSES: tuple[Status, ...] = ("completed", "failed", "cancelled", "expired", "outcome_unknown")


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as it is recorded and sent: a MeshError's parts."""

    kind: str
    name: str
    detail: str
    hint: str = ""
    outcome: Done = "not_done"

    @classmethod
    def of(cls, error: MeshError) -> "Problem":
        """The parts of ``error``; a class that is not of the tree is written as its nearest base."""
        kind = next((name for name, known in KINDS.items() if isinstance(error, known)), "Broken")
        return cls(kind, error.name, error.detail, error.hint, error.outcome)

    def error(self) -> MeshError:
        """The error again; of a class that this version does not know, Broken."""
        return KINDS.get(self.kind, Broken)(self.name, self.detail, hint=self.hint, outcome=self.outcome)


# -- who leads, and who belongs to the group -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RecordLead:
    """``node`` has come to lead the organisation in ``term``; gives None. What comes after it in the name of an earlier term is refused as
    ``stale-term``, so that what the new leader finds open or deployed is all that there is. Refused so itself, if it comes too late.
    """

    node: NodeId
    term: int


@dataclass(frozen=True, slots=True)
class RemoveNode:
    """``by`` does not want ``node`` among the nodes of the organisation any more; gives whether that is news. It stays so: a node comes
    back with a new key only, since who lost its disk must not vote again under its old name."""

    node: NodeId
    by: str


# -- agents ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool of an agent; ``rerun``: its annotations say read-only or idempotent, so that running it twice does no harm."""

    name: str
    rerun: bool


@dataclass(frozen=True, slots=True)
class DeployAgent:
    """``by`` deploys ``agent``; gives its ``Agent``. ``version`` is above every earlier one, else Refused ``version-conflict``.

    ``agent_file`` is the canonical form of what was deployed, ``folder`` where it came from on the node, ``record`` the signed
    directory record, ``price_micro`` the price of one call in millionths of a MESH. It runs on ``node``, which leads the organisation in
    ``term``, else Refused ``stale-term`` (``PlaceAgent``).
    """

    agent: AgentId
    name: str
    version: int
    agent_file: bytes
    folder: str
    record: bytes
    tools: tuple[Tool, ...]
    price_micro: int
    by: str
    node: NodeId
    term: int


@dataclass(frozen=True, slots=True)
class WithdrawAgent:
    """``by`` takes ``agent`` away; ``record`` is the signed tombstone of ``version``. Gives its ``Agent``. Running tasks go on. Refused
    ``stale-term`` in the name of a lead that is over."""

    agent: AgentId
    version: int
    record: bytes
    by: str
    term: int


@dataclass(frozen=True, slots=True)
class PlaceAgent:
    """``node``, which leads the organisation in ``term``, runs ``agent`` from now on; gives None. Refused ``stale-term`` where a leader
    of a later term has placed it since: whoever lost the lead in the meantime must not run it.
    """

    agent: AgentId
    node: NodeId
    term: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an agent runs: by the word of the leader of ``term``."""

    agent: AgentId
    node: NodeId
    term: int


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent as it is recorded."""

    agent: AgentId
    name: str
    version: int
    agent_file: bytes
    folder: str
    record: bytes
    tools: tuple[Tool, ...]
    price_micro: int
    at_ms: int
    withdrawn: bool


# -- tasks -----------------------------------------------------------------------------------------------------------


@frozen
class RecordIntent:
    """``caller`` wants ``tool`` of ``agent`` to run; on disk before it does. Gives Begun, Running or Ended.

    Tasks of the same (caller's organisation, agent, ``key``) are one; ``chosen`` says that the caller chose the key. The same key
    with another ``body_hash`` (32 bytes over tool and arguments) is refused as ``idempotency-conflict``. ``arguments`` is None where
    they are too large to be recorded; such a task is not run again after a crash. It is to run where the lead of ``term`` is, else
    Refused ``stale-term``; the node's machine fills that in.
    """

    task: TaskId
    caller: Peer
    agent: AgentId
    tool: str
    key: str
    chosen: bool
    body_hash: bytes
    arguments: bytes | None
    timeout_ms: int
    trace: str = ""
    term: int = 0


@frozen
class Intent:
    """A task whose tool is to run or runs."""

    task: TaskId
    caller: Peer
    agent: AgentId
    tool: str
    body_hash: bytes
    rerun: bool
    price_micro: int
    at_ms: int
    timeout_ms: int
    trace: str


@frozen
class Begun:
    """The intent is recorded: run the tool. ``now`` is the machine's time at that moment, to which deadlines compare."""

    intent: Intent
    now: float = 0.0


@dataclass(frozen=True, slots=True)
class Running:
    """The same call came before, as ``task``, and has not ended: wait for it."""

    task: TaskId


@frozen
class Ended:
    """How a task ended. ``result`` is None when there was none, or when it is recorded by its hash alone (``result_size`` > 0)."""

    intent: Intent
    status: Status
    ended_ms: int
    result: bytes | None
    result_hash: bytes
    result_size: int
    problem: Problem | None
    receipt: bytes
    signature: bytes
    countersignature: bytes
    owed_micro: int
    replica: str


@frozen
class RecordOutcome:
    """How ``task`` ended; the first one counts, and ``Ended`` gives what counts.

    ``forget``: nothing was tried, so the key may be used again at once. ``size`` is that of a result that is too large to be recorded,
    which is known by its hash alone.
    """

    task: TaskId
    status: Status
    result: bytes | None = None
    result_hash: bytes = b""
    problem: Problem | None = None
    receipt: bytes = b""
    signature: bytes = b""
    owed_micro: int = 0
    replica: str = ""
    forget: bool = False
    size: int = 0


@dataclass(frozen=True, slots=True)
class RecordReceipts:
    """The caller's signatures over the receipts of its tasks (verified before); gives how many were recorded."""

    signatures: tuple[tuple[TaskId, bytes], ...]


@dataclass(frozen=True, slots=True)
class CallOff:
    """``caller``'s organisation does not want ``task`` any more: if it is open it ends now (as ``expired`` if its time is over, else
    as ``cancelled``). Gives Ended, also of one that had ended before; NotBegun of one that this organisation does not know (its request is
    still on its way, or never came): that one is remembered, and will not begin. ``key`` is empty where the caller chose none.
    """

    task: TaskId
    caller: Peer
    agent: AgentId
    key: str


@dataclass(frozen=True, slots=True)
class NotBegun:
    """The task that was called off has no record, and will have none. ``repeats``: the earlier call that it was a repetition of, which is
    left as it is, since others may wait for it; None where there is none.
    """

    task: TaskId
    repeats: TaskId | None


# -- configuration ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SetConfig:
    """``by`` sets ``name`` to ``value`` (None removes it); gives None."""

    name: str
    value: bytes | None
    by: str


Command: TypeAlias = (
    DeployAgent | WithdrawAgent | PlaceAgent | RecordIntent | RecordOutcome | RecordReceipts | CallOff | SetConfig | RecordLead | RemoveNode
)
COMMANDS = (
    DeployAgent,
    WithdrawAgent,
    PlaceAgent,
    RecordIntent,
    RecordOutcome,
    RecordReceipts,
    CallOff,
    SetConfig,
    RecordLead,
    RemoveNode,
)


# -- questions, put like commands; they change nothing ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GetAgent:
    """Gives the Agent, or Refused ``agent-unknown``; a withdrawn one too."""

    agent: AgentId


@dataclass(frozen=True, slots=True)
class ListAgents:
    """Gives tuple[Agent, …], in the order of their ids, after ``after``."""

    after: str = ""
    limit: int = 100
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class GetTask:
    """Gives Running or Ended, or Refused ``task-unknown``."""

    task: TaskId


@dataclass(frozen=True, slots=True)
class FindTasks:
    """Gives tuple[TaskId, …]: at most ``limit`` tasks whose id begins with ``prefix``, in their order."""

    prefix: str
    limit: int = 4


@dataclass(frozen=True, slots=True)
class GetArguments:
    """Gives the recorded arguments of an open task whose tool may run again, or None."""

    task: TaskId


@dataclass(frozen=True, slots=True)
class GetConfig:
    """Gives the value, or None."""

    name: str


@dataclass(frozen=True, slots=True)
class GetPlacement:
    """Gives the Placement of ``agent``, or None."""

    agent: AgentId


@dataclass(frozen=True, slots=True)
class ListRemoved:
    """Gives frozenset[NodeId]: those that were removed and do not come back."""


@dataclass(frozen=True, slots=True)
class GetOwed:
    """Gives what ``caller`` owes this organisation in millionths of a MESH."""

    caller: OrgDid


@dataclass(frozen=True, slots=True)
class ReadAudit:
    """Gives tuple[AuditEntry, …] from number ``start`` on."""

    start: int = 0
    limit: int = 100


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what to what, when."""

    number: int
    at_ms: int
    by: str
    what: str
    subject: str


Query: TypeAlias = GetAgent | ListAgents | GetTask | FindTasks | GetArguments | GetConfig | GetPlacement | ListRemoved | GetOwed | ReadAudit
QUERIES = (GetAgent, ListAgents, GetTask, FindTasks, GetArguments, GetConfig, GetPlacement, ListRemoved, GetOwed, ReadAudit)


# -- waiting, which the machine does and the state does not ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AwaitOutcome:
    """Gives Ended as soon as ``task`` has ended, or Refused ``task-unknown``."""

    task: TaskId


@dataclass(frozen=True, slots=True)
class HoldTask:
    """Whoever runs ``task`` holds it until it ended (gives Ended). A hold that is abandoned ends the task: as ``expired`` after
    ``deadline`` (the machine's time), before it as ``cancelled``. So a task ends even if its Flow can do nothing any more.
    """

    task: TaskId
    deadline: float | None


@dataclass(frozen=True, slots=True)
class ListOrphans:
    """Gives tuple[Intent, …]: tasks that are open and that nobody holds on this node: what a leader before it, or a crash, has left.
    Unreachable ``not-leading`` where another leads, who holds what is open.
    """
