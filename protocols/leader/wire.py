"""What goes over the wire to an organisation's leader, and back: ``[what is asked, field, …]`` in canonical CBOR, answered likewise.

Only nodes of the same organisation ask. Each question names who wants it (``by``), for the audit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from meshos import cbor
from meshos.consensus.org.limits import MAX_AGENT_FILE_BYTES, MAX_AGENTS, MAX_NAME_CHARS, MAX_PATH_CHARS, MAX_RECORD_BYTES
from meshos.consensus.raft.entries import is_number
from meshos.consensus.raft.limits import MAX_MEMBERS, MAX_NODE_CHARS
from meshos.errors import Refused
from meshos.ids import AgentId, NodeId
from meshos.protocols.leader.limits import ASK_BYTES, NOTE_CHARS, REPLY_BYTES

LEADER = "/meshos/leader/1"


@dataclass(frozen=True, slots=True)
class AskDeploy:
    """Deploy this agent (the file's canonical form) from ``folder`` on the leader's machine; answered by ``AgentDeployed``."""

    file: bytes
    folder: str
    by: str


@dataclass(frozen=True, slots=True)
class AskUndeploy:
    """Take the agent away; answered by its name."""

    agent: AgentId
    by: str


@dataclass(frozen=True, slots=True)
class AskProcesses:
    """How do the processes of the agents do? Answered by tuple[AgentProcesses, …]."""


@dataclass(frozen=True, slots=True)
class AskNodes:
    """Which nodes decide for the organisation? Answered by ``OrgNodes``."""


@dataclass(frozen=True, slots=True)
class AskRemove:
    """Remove a node for good; answered by ``OrgNodes`` once it is done."""

    node: NodeId
    by: str


Question: TypeAlias = AskDeploy | AskUndeploy | AskProcesses | AskNodes | AskRemove


@dataclass(frozen=True, slots=True)
class AgentDeployed:
    """``record`` is the signed directory record; ``ready`` of the agent's processes serve by now, on ``node``."""

    record: bytes
    node: NodeId
    ready: int


@dataclass(frozen=True, slots=True)
class AgentProcesses:
    """Of an agent's ``count`` processes ``ready`` serve, and ``given_up`` are not tried again; ``note`` says why one does not serve."""

    agent: AgentId
    count: int
    ready: int
    given_up: int
    note: str


OrgRole: TypeAlias = Literal["voter", "learner", "leaving"]
ROLES: tuple[OrgRole, ...] = ("voter", "learner", "leaving")


@dataclass(frozen=True, slots=True)
class OrgNode:
    """A node of the group. ``leaving``: it votes until the change that is under way is over. ``lag``: entries that it lacks."""

    node: NodeId
    role: OrgRole
    lag: int


@dataclass(frozen=True, slots=True)
class OrgNodes:
    """The group as its leader sees it; ``removed`` are nodes that were removed and do not come back."""

    leader: NodeId
    term: int
    commit: int
    nodes: tuple[OrgNode, ...]
    removed: frozenset[NodeId]


# -- questions -------------------------------------------------------------------------------------------------------


def encode_question(question: Question) -> bytes:
    """The bytes of ``question``."""
    if isinstance(question, AskDeploy):
        return cbor.encode(["deploy", question.file, question.folder, question.by])
    if isinstance(question, AskUndeploy):
        return cbor.encode(["undeploy", question.agent, question.by])
    if isinstance(question, AskRemove):
        return cbor.encode(["remove", question.node, question.by])
    return cbor.encode(["nodes" if isinstance(question, AskNodes) else "processes"])


def decode_question(body: bytes) -> Question:
    """Raises Refused ``bad-message``, ``bad-encoding`` or ``too-large``."""
    match cbor.decode(body, max_bytes=ASK_BYTES, max_depth=1):
        case ["deploy", bytes() as file, str() as folder, str() as by] if (
            len(file) <= MAX_AGENT_FILE_BYTES and len(folder) <= MAX_PATH_CHARS and _name(by)
        ):
            return AskDeploy(file, folder, by)
        case ["undeploy", str() as agent, str() as by] if _name(agent) and _name(by):
            return AskUndeploy(AgentId(agent), by)
        case ["processes"]:
            return AskProcesses()
        case ["nodes"]:
            return AskNodes()
        case ["remove", str() as node, str() as by] if 0 < len(node) <= MAX_NODE_CHARS and _name(by):
            return AskRemove(NodeId(node), by)
    raise _bad("a question")


# -- answers ---------------------------------------------------------------------------------------------------------


def encode_deployed(done: AgentDeployed) -> bytes:
    """The bytes of ``done``."""
    return cbor.encode([done.record, done.node, done.ready])


def decode_deployed(body: bytes) -> AgentDeployed:
    """Raises as ``decode_question``."""
    match cbor.decode(body, max_bytes=REPLY_BYTES, max_depth=1):
        case [bytes() as record, str() as node, int() as ready] if len(record) <= MAX_RECORD_BYTES and _name(node) and is_number(ready):
            return AgentDeployed(record, NodeId(node), ready)
    raise _bad("the answer to a deployment")


def encode_withdrawn(name: str) -> bytes:
    """The bytes of the name of an agent that is gone."""
    return cbor.encode(name)


def decode_withdrawn(body: bytes) -> str:
    """Raises as ``decode_question``."""
    name = cbor.decode(body, max_bytes=REPLY_BYTES, max_depth=1)
    if not isinstance(name, str) or not _name(name):
        raise _bad("the answer to a withdrawal")
    return name


def encode_processes(found: Sequence[AgentProcesses]) -> bytes:
    """The bytes of ``found``, as many as there may be agents."""
    rows = [[one.agent, one.count, one.ready, one.given_up, one.note[:NOTE_CHARS]] for one in found[:MAX_AGENTS]]
    return cbor.encode(rows)


def decode_processes(body: bytes) -> tuple[AgentProcesses, ...]:
    """Raises as ``decode_question``."""
    rows = cbor.decode(body, max_bytes=REPLY_BYTES, max_depth=2)
    if not isinstance(rows, list) or len(rows) > MAX_AGENTS:
        raise _bad("how processes do")
    found = []
    for row in rows:
        match row:
            case [str() as agent, int() as count, int() as ready, int() as given_up, str() as note] if (
                _name(agent) and all(map(is_number, (count, ready, given_up))) and len(note) <= NOTE_CHARS
            ):
                found.append(AgentProcesses(AgentId(agent), count, ready, given_up, note))
            case _:
                raise _bad("how processes do")
    return tuple(found)


def encode_nodes(nodes: OrgNodes) -> bytes:
    """The bytes of ``nodes``."""
    rows = [[one.node, ROLES.index(one.role), one.lag] for one in nodes.nodes]
    return cbor.encode([nodes.leader, nodes.term, nodes.commit, rows, sorted(nodes.removed)])


def decode_nodes(body: bytes) -> OrgNodes:
    """Raises as ``decode_question``."""
    match cbor.decode(body, max_bytes=REPLY_BYTES, max_depth=3):
        case [str() as leader, int() as term, int() as commit, list() as rows, list() as removed] if (
            _name(leader) and is_number(term) and is_number(commit) and len(rows) <= MAX_MEMBERS
        ):
            return OrgNodes(NodeId(leader), term, commit, tuple(map(_node, rows)), frozenset(map(_removed, removed)))
    raise _bad("the nodes of an organisation")


def _node(row: cbor.Value) -> OrgNode:
    match row:
        case [str() as node, int() as role, int() as lag] if _name(node) and 0 <= role < len(ROLES) and is_number(lag):
            return OrgNode(NodeId(node), ROLES[role], lag)
    raise _bad("the nodes of an organisation")


def _removed(value: cbor.Value) -> NodeId:
    if not isinstance(value, str) or not _name(value):
        raise _bad("the nodes of an organisation")
    return NodeId(value)


def _name(text: str) -> bool:
    return len(text) <= MAX_NAME_CHARS


def _bad(what: str) -> Refused:
    return Refused("bad-message", f"{what} cannot be read")
