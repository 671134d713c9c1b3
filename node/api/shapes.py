"""What the API and the node say to each other: frozen, typed, free of HTTP and of every protocol.

Units stand at the end of a name (``_ms``, ``_s``, ``_micro`` for millionths of MESH). Times are milliseconds since 1970.
What a tool takes and gives stays canonical CBOR in here: JSON begins and ends at the API.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from meshos.errors import Done
from meshos.ids import AgentId, NodeId, OrgDid, TaskId

Json: TypeAlias = Mapping[str, object]
"""A JSON object that passes through unread (an input schema, a receipt, a DID document)."""

Role = Literal["admin", "operator", "caller", "agent", "read"]
"""What an API key may do: everything; all but keys; discover and call; the same for one agent's process; look."""


class Purse(Protocol):
    """The MESH that one API key may still spend. Held before the money is at risk, settled when the task has ended."""

    def hold(self, micro: int) -> None:
        """Set ``micro`` aside; raises Refused ``budget-exceeded`` and holds nothing if less than that is left."""
        ...

    def settle(self, held: int, spent: int) -> None:
        """What was held comes back, except for ``spent`` (at most ``held``)."""
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as its API key proved, and in which request.

    ``depth`` is how many calls may still follow one another from here (agents call agents). ``budget_micro`` is what
    was left in the purse when the request came, None for a key without a limit. ``trace`` is a W3C traceparent.
    """

    key_id: str
    name: str
    role: Role
    budget_micro: int | None
    depth: int
    purse: Purse
    agent: AgentId | None = None
    request_id: str = ""
    trace: str = ""


# -- agents ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pricing:
    """What an agent asks; None where it asks nothing of the kind."""

    per_query_micro: int | None = None
    per_hour_micro: int | None = None


@dataclass(frozen=True, slots=True)
class Availability:
    """What the mesh measured; None before there was anything to measure. ``uptime`` is a share, 0 to 1."""

    uptime: float | None
    avg_latency_ms: float | None
    region: str


@dataclass(frozen=True, slots=True)
class TaskKind:
    """One task of an agent: the MCP tool's name, and what its server says about it (None: it says nothing)."""

    name: str
    description: str
    input_schema: Json
    read_only: bool | None = None
    idempotent: bool | None = None


@dataclass(frozen=True, slots=True)
class AgentView:
    """The agent record of CONTRACT.md. ``embeddings`` (768 numbers) is there only when it was asked for.

    ``quarantined``: no call goes to it, by a decision about the agent, its organisation or the node that publishes it.
    """

    agent_id: AgentId
    mesh_id: OrgDid
    name: str
    description: str
    capabilities: tuple[str, ...]
    specializations: tuple[str, ...]
    models: tuple[str, ...]
    certifications: tuple[str, ...]
    trust_score: float
    trust_evidence: int
    pricing: Pricing
    availability: Availability
    tasks: tuple[TaskKind, ...]
    version: int
    embedding_model: str
    last_updated_ms: int
    signature: str
    embeddings: tuple[float, ...] | None = None
    quarantined: bool = False


AgentState = Literal["starting", "running", "restarting", "stopped", "failed", "elsewhere"]


@dataclass(frozen=True, slots=True)
class HostedAgent:
    """An agent of this node's org: its record, and how its replicas do. ``note`` says why, when not all run."""

    record: AgentView
    state: AgentState
    replicas_wanted: int
    replicas_running: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Deploy:
    """An agent to deploy: the agent file's mapping, already checked, and its folder if that is on the node's machine."""

    agent: Json
    folder: str | None
    region: str | None = None
    replicas: int | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Deployed:
    """An agent that runs (or is known to run elsewhere) and whose record is signed and published.

    ``replicas_running`` of ``replicas_wanted`` are ready by now, all on ``nodes``; ``region`` is where those stand, whatever the record
    says. An agent that runs elsewhere has no replicas here, and none are wanted.
    """

    record: AgentView
    replicas_running: int
    nodes: tuple[str, ...]
    took_ms: float
    replicas_wanted: int
    region: str


@dataclass(frozen=True, slots=True)
class Undeployed:
    """An agent that is gone: its processes ended, its record buried."""

    agent_id: AgentId
    name: str


# -- discovery -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Excluded:
    """What an agent in an answer must not have; ``organisations`` are DIDs."""

    capabilities: tuple[str, ...] = ()
    certifications: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    organisations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Weights:
    """How much what is measured counts beside how well an agent fits: each 0 (not at all) to 1 (as much)."""

    trust: float = 0.0
    latency: float = 0.0
    price: float = 0.0


@dataclass(frozen=True, slots=True)
class DiscoverQuery:
    """A question in plain words, or the agent (its id, or the beginning of one) that others are to be like; and what an answer must fulfil.
    None and empty mean no such condition. ``cursor`` is what the answer before gave. ``collapse``: agents of an organisation that are alike
    are shown as one."""

    query: str
    limit: int
    min_trust: float | None = None
    max_trust: float | None = None
    certifications: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    region: str | None = None
    max_latency_ms: float | None = None
    max_price_micro: int | None = None
    embeddings: bool = False
    exclude: Excluded = Excluded()
    weigh: Weights = Weights()
    related: AgentId | None = None
    facets: bool = False
    cursor: str | None = None
    collapse: bool = True


@dataclass(frozen=True, slots=True)
class Found:
    """A record that fits, how well (0 to 1), and why in a few words each. It stands for ``alike_count`` others of its organisation that say
    nearly the same; ``alike`` are the ids of some."""

    record: AgentView
    score: float
    matched: tuple[str, ...]
    alike: tuple[AgentId, ...] = ()
    alike_count: int = 0


@dataclass(frozen=True, slots=True)
class Counted:
    """How many agents have each value, the most frequent first, of all ``agents`` that fulfil the filters."""

    agents: int
    capabilities: tuple[tuple[str, int], ...]
    certifications: tuple[tuple[str, int], ...]
    regions: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Discovered:
    """The best first. ``complete`` is False when some cells did not answer. ``cursor`` asks for the next page; None at the end."""

    agents: tuple[Found, ...]
    cells_asked: int
    cells_missing: int
    cursor: str | None = None
    facets: Counted | None = None

    @property
    def complete(self) -> bool:
        """Whether somebody has answered for every cell that may know."""
        return self.cells_missing == 0


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """A line of a publication that was not taken, counted from 1, and the name of the reason."""

    line: int
    name: str
    detail: str


@dataclass(frozen=True, slots=True)
class Published:
    """The agents whose records the lines became, each once, and which lines became none."""

    agents: tuple[AgentId, ...]
    refused: tuple[RefusedLine, ...]


# -- tasks -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file sent along: it lands in the agent's private folder, and the argument ``name`` holds its path there."""

    name: str
    filename: str
    content: bytes


@dataclass(frozen=True, slots=True)
class CallRequest:
    """One task for one agent. ``data`` is the canonical CBOR of a map: the tool's arguments.

    ``wait`` False: answer with status ``running`` as soon as the task is accepted. ``budget_micro`` is the most that this
    one call may cost.
    """

    agent_id: AgentId
    task_type: str
    data: bytes
    timeout_s: float
    priority: int = 5
    budget_micro: int | None = None
    idempotency_key: str | None = None
    wait: bool = True
    files: tuple[SentFile, ...] = ()


TaskStatus = Literal["running", "completed", "failed", "cancelled", "expired", "outcome_unknown"]


@dataclass(frozen=True, slots=True)
class TaskError:
    """Why a task has no result: an error of the catalogue, or the tool's own word (name ``tool-failed``)."""

    name: str
    detail: str
    hint: str = ""
    outcome: Done = "done"


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a task took as its caller's node saw it, and inside the tool (None: never got there)."""

    total_ms: float
    tool_ms: float | None = None


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task. ``result`` is canonical CBOR (structured content, else text, else the content list), None without one."""

    task_id: TaskId
    agent_id: AgentId
    status: TaskStatus
    result: bytes | None = None
    error: TaskError | None = None
    receipt: Json | None = None
    timing: Timing = Timing(0.0)
    node: str = ""
    cost_micro: int = 0


# -- the mesh as this node sees it -----------------------------------------------------------------------------------

MemberState = Literal["alive", "suspect", "dead", "left"]


@dataclass(frozen=True, slots=True)
class PathView:
    """A connection to a node. What this node sends there goes over the one that ``carries``, and ``why``; ``loss`` is the share of packets
    that had to be sent again, ``via`` the node that relays it."""

    path: str
    carries: bool
    why: str
    rtt_ms: float | None
    loss: float
    via: NodeId | None = None


@dataclass(frozen=True, slots=True)
class MemberView:
    """A node. ``since_ms`` is how long it has been in this state; ``note`` says what is known beyond (probes lost, …). ``paths`` are those
    over which this node is linked with it now."""

    node_id: NodeId
    name: str
    org: OrgDid
    region: str
    state: MemberState
    incarnation: int
    since_ms: float
    load: float | None = None
    version: str = ""
    addresses: tuple[str, ...] = ()
    note: str = ""
    paths: tuple[PathView, ...] = ()


@dataclass(frozen=True, slots=True)
class MembersView:
    """All nodes known to the node ``seen_by``, the dead included."""

    members: tuple[MemberView, ...]
    seen_by: str


OrgRole: TypeAlias = Literal["voter", "learner", "leaving", "joining", "removed"]
"""``leaving``: votes until a change is over; ``joining``: alive, and not taken up yet; ``removed``: alive, and not wanted any more."""


@dataclass(frozen=True, slots=True)
class OrgNodeView:
    """A node of this node's organisation. ``lag``: entries of the log that it lacks; None where that is not known."""

    node_id: NodeId
    name: str
    role: OrgRole
    leads: bool
    lag: int | None
    state: MemberState | None


@dataclass(frozen=True, slots=True)
class OrgNodesView:
    """The nodes of this node's organisation as the leader sees them. ``can_lose``: so many of those that vote and answer may still fail."""

    nodes: tuple[OrgNodeView, ...]
    leader: str
    term: int
    commit: int
    can_lose: int


@dataclass(frozen=True, slots=True)
class NodeRemoved:
    """A node that has no part in its organisation any more; ``changed`` is False where it had none before."""

    node_id: NodeId
    name: str
    changed: bool


@dataclass(frozen=True, slots=True)
class GroupView:
    """What this node knows of its organisation's Raft group. ``leader`` is a name, None where nobody leads that it knows of; ``lag`` is the
    most that a member lacks where this node leads, else what this node lacks of what it knows to be decided.
    """

    leader: str | None
    leads: bool
    role: OrgRole
    term: int
    commit: int
    lag: int
    voters: int
    voters_alive: int
    learners: int
    can_lose: int


@dataclass(frozen=True, slots=True)
class RoomQuote:
    """Room for ``records`` beyond the free ones until the end of ``day`` (since 1970, UTC) costs ``micro`` millionths more than is paid."""

    records: int
    day: int
    micro: int


@dataclass(frozen=True, slots=True)
class LedgerHead:
    """The newest block that this node has. ``votes``: whether it votes now, and ``silent`` names why not, where it has a seat. ``behind``:
    how many blocks others say that they are ahead; ``waiting``: requests that are not in a block yet.
    """

    height: int
    hash: str
    state_root: str
    time_ms: int
    epoch: int
    view: int
    primary: str
    validators: int
    quorum: int
    votes: bool
    silent: str
    behind: int
    waiting: int


@dataclass(frozen=True, slots=True)
class StatusView:
    """This node. ``problems`` is empty when it is well. ``waiting_notes`` says what the waiting tasks wait for."""

    node_id: NodeId
    name: str
    org: OrgDid
    region: str
    version: str
    genesis: str
    up_ms: float
    problems: tuple[str, ...]
    members: Mapping[MemberState, int]
    agents_hosted: int
    agents_running: int
    records: int
    """Of the directory, on this node."""
    tasks_running: int
    tasks_waiting: int
    waiting_notes: tuple[str, ...] = ()
    calls_per_s: float = 0.0
    call_p95_ms: float | None = None
    rss_bytes: int = 0
    loop_lag_ms: float = 0.0
    ledger: LedgerHead | None = None
    approvals_waiting: int = 0
    proposals_waiting: int = 0
    paused_until_ms: int | None = None
    """Until when people have paused autonomy, if they have."""
    group: GroupView | None = None
    p2p: tuple[str, ...] = ()
    """Where strangers ask it, as multiaddrs."""
    strangers: int = 0
    """Connections of them now."""
    links: Mapping[str, int] = field(default_factory=dict)
    """How many nodes this one is linked with, by the path that carries."""
    cells: int | None = None
    """In how many the directory is cut, as this node has laid it; None while it is whole."""
    cells_from: int | None = None
    """At how many records it is cut, where the mesh has decided for cells and it is still whole."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why something is as it is, in plain sentences; ``facts`` holds the same for programs."""

    subject: str
    kind: str
    lines: tuple[str, ...]
    facts: Json


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: ``id`` orders events of one run of the node, ``text`` is one plain line."""

    id: str
    kind: str
    at_ms: int
    text: str
    data: Json


class EventStream(Protocol):
    """Events, one after another; ``aclose`` makes room for another reader."""

    def __aiter__(self) -> AsyncIterator[Event]: ...

    async def __anext__(self) -> Event: ...

    async def aclose(self) -> None:
        """No more are wanted. Closing twice is no error."""
        ...


@dataclass(frozen=True, slots=True)
class Health:
    """Whether all is well, and if not, what is wrong: one sentence each."""

    ok: bool
    problems: tuple[str, ...] = ()
