"""A small node that lives in memory: the whole of ``NodeService``, with agents that are Python functions.

It keeps the promises of the protocol (deduplication, cancellation, money held and settled, cells that may be missing), so
that the API in front of it can be tested over real sockets before and beside a real mesh.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import trio

from meshos import cbor
from meshos.errors import BadInput, Failed, Refused
from meshos.ids import AgentId, NodeId, OrgDid, TaskId, agent_id, parse_org_did
from meshos.node.api.amounts import micro
from meshos.node.api.event_log import EventLog
from meshos.node.api.shapes import (
    AgentView,
    Availability,
    Caller,
    CallRequest,
    Deploy,
    Deployed,
    Discovered,
    DiscoverQuery,
    EventStream,
    Explanation,
    GroupView,
    Health,
    HostedAgent,
    Json,
    MembersView,
    MemberView,
    NodeRemoved,
    OrgNodesView,
    OrgNodeView,
    Pricing,
    Published,
    RefusedLine,
    StatusView,
    TaskError,
    TaskKind,
    TaskView,
    Timing,
    Undeployed,
)
from tests.api import memory_discovery
from tests.api.memory_ledger import MemoryDecisions, MemoryLedger, MemoryProposals, MemoryRooms

ORG = OrgDid("did:mesh:enterprise:alpha")
ORG_NODES = (
    OrgNodeView(NodeId("12D3KooWalpha"), "alpha-1", "voter", True, 0, "alive"),
    OrgNodeView(NodeId("12D3KooWalphb"), "alpha-2", "voter", False, 2, "alive"),
    OrgNodeView(NodeId("12D3KooWalphc"), "alpha-3", "voter", False, None, "dead"),
)

Tool = Callable[[Mapping[str, object]], Awaitable[object]]


async def echo(data: Mapping[str, object]) -> object:
    """What it is given."""
    return dict(data)


async def sleep(data: Mapping[str, object]) -> object:
    """Takes ``seconds``."""
    await trio.sleep(float(str(data["seconds"])))
    return "slept"


async def text(data: Mapping[str, object]) -> object:
    """A text of ``size`` characters, with quotes and umlauts in it."""
    size = int(str(data["size"]))
    return ('ab"ü\n' * (size // 5 + 1))[:size]


async def refuse(data: Mapping[str, object]) -> object:
    """Says no."""
    raise Failed("tool-failed", "the tool says no")


async def crash(data: Mapping[str, object]) -> object:
    """A bug of the node."""
    raise ZeroDivisionError("a bug, on purpose")


SCHEMA: Json = {"type": "object", "properties": {"document": {"type": "string"}, "note": {}}, "required": ["document"]}
TOOLS: dict[str, Tool] = {"echo": echo, "sleep": sleep, "text": text, "refuse": refuse, "crash": crash}


@dataclass(slots=True)
class MemoryNode:
    """See the module's text. What happened inside is in the public fields, for tests to look at."""

    name: str = "alpha-1"
    hosted: dict[AgentId, AgentView] = field(default_factory=dict)
    tasks: dict[TaskId, TaskView] = field(default_factory=dict)
    seen: dict[tuple[str, AgentId, str], tuple[bytes, TaskId]] = field(default_factory=dict)
    runs: int = 0
    cancelled: int = 0
    callers: list[Caller] = field(default_factory=list)
    cells_missing: int = 0
    log: EventLog = field(default_factory=lambda: EventLog("run", lambda: 1_764_000_000_000))
    scopes: dict[TaskId, trio.CancelScope] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    nursery: trio.Nursery | None = None
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    decisions: MemoryDecisions = field(default_factory=MemoryDecisions)
    rooms: MemoryRooms = field(default_factory=MemoryRooms)
    proposals: MemoryProposals = field(default_factory=MemoryProposals)

    # -- agents ------------------------------------------------------------------------------------------------------

    async def deploy(self, deploy: Deploy, caller: Caller) -> Deployed:
        record = self._record(deploy.agent if deploy.region is None else {**deploy.agent, "region": deploy.region})
        self.hosted[record.agent_id] = record
        self.log.publish("agent-deployed", f"{record.name} runs", {"agentId": record.agent_id})
        return Deployed(record, 1, (self.name,), 12.0, deploy.replicas or 1, "us-east-1")

    def _record(self, file: Json) -> AgentView:
        name = file.get("name")
        if not isinstance(name, str):
            raise BadInput("bad-agent-file", "the agent file has no name")
        identity = agent_id(ORG, name)
        before = self.hosted.get(identity)
        price = file.get("pricing")
        per_query = micro(str(price["perQuery"])) if isinstance(price, Mapping) and "perQuery" in price else None
        return AgentView(
            identity,
            ORG,
            name,
            str(file.get("description", "")),
            _texts(file.get("capabilities")),
            _texts(file.get("specializations")),
            _texts(file.get("models")),
            _texts(file.get("certifications")),
            50.0,
            0,
            Pricing(per_query),
            Availability(None, None, str(file.get("region", "local"))),
            tuple(TaskKind(tool, (function.__doc__ or "").strip(), SCHEMA, True, True) for tool, function in TOOLS.items()),
            before.version + 1 if before else 1,
            "all-MiniLM-L6-v2",
            1_764_000_000_000,
            "signed",
        )

    async def undeploy(self, agent_id: AgentId, caller: Caller) -> Undeployed:
        record = self._find(agent_id)
        del self.hosted[agent_id]
        return Undeployed(agent_id, record.name)

    def _find(self, agent_id: AgentId) -> AgentView:
        record = self.hosted.get(agent_id)
        if record is None:
            raise Refused("no-such-agent", f"no agent {agent_id[:40]} is known here", hint="mesh discover finds agents")
        return record

    async def agents(self, caller: Caller) -> tuple[HostedAgent, ...]:
        return tuple(HostedAgent(record, "running", 1, 1) for record in self.hosted.values())

    async def agent(self, agent_id: AgentId, caller: Caller) -> AgentView:
        found = [identity for identity in self.hosted if identity.startswith(agent_id)]
        if len(found) > 1:
            raise BadInput("ambiguous-id", f"{len(found)} agents' ids begin with {agent_id[:40]}", hint="write more of it")
        return self._find(found[0] if found else agent_id)

    async def publish(self, lines: Sequence[str], caller: Caller) -> Published:
        refused: list[RefusedLine] = []
        taken: dict[AgentId, None] = {}
        for number, line in enumerate(lines, 1):
            try:
                value = json.loads(line)
                record = self._record(value if isinstance(value, dict) else {})
                self.hosted[record.agent_id] = record
                taken[record.agent_id] = None
            except (ValueError, BadInput) as error:
                refused.append(RefusedLine(number, "bad-agent-file", str(error)))
        return Published(tuple(taken), tuple(refused))

    # -- discovery and tasks -----------------------------------------------------------------------------------------

    async def discover(self, query: DiscoverQuery, caller: Caller) -> Discovered:
        self.callers.append(caller)
        like = None if query.related is None else await self.agent(query.related, caller)
        return memory_discovery.discovered(query, self.hosted.values(), like, self.cells_missing)

    async def call(self, request: CallRequest, caller: Caller) -> TaskView:
        self.callers.append(caller)
        record = self._find(request.agent_id)
        tool = TOOLS.get(request.task_type)
        if tool is None:
            raise Refused("no-such-task-type", f"{record.name} has no task {request.task_type[:40]!r}")
        repeated = self._repeated(request, caller)
        if repeated is not None:
            return self.tasks[repeated]
        price = record.pricing.per_query_micro or 0
        if request.budget_micro is not None and price > request.budget_micro:
            raise Refused("too-dear", "the agent asks more than this call may cost")
        caller.purse.hold(price)
        self.runs += 1
        task = TaskId(f"t-{self.runs:032x}")
        if request.idempotency_key is not None:
            self.seen[(caller.name, request.agent_id, request.idempotency_key)] = (request.data, task)
        self.tasks[task] = TaskView(task, request.agent_id, "running")
        if request.wait:
            return await self._run(task, request, tool, caller, price)
        assert self.nursery is not None
        self.nursery.start_soon(self._run, task, request, tool, caller, price)
        return self.tasks[task]

    def _repeated(self, request: CallRequest, caller: Caller) -> TaskId | None:
        known = self.seen.get((caller.name, request.agent_id, request.idempotency_key or ""))
        if known is None:
            return None
        if known[0] != request.data:
            raise Refused("idempotency-conflict", "this idempotencyKey was already used with other data")
        return known[1]

    async def _run(self, task: TaskId, request: CallRequest, tool: Tool, caller: Caller, price: int) -> TaskView:
        view, spent = TaskView(task, request.agent_id, "cancelled", timing=Timing(1.0)), 0
        arguments = cbor.decode(request.data, max_bytes=1 << 20)
        assert isinstance(arguments, dict)
        files = {one.name: f"{one.filename}:{hashlib.sha256(one.content).hexdigest()}" for one in request.files}
        try:
            with trio.CancelScope() as scope:
                self.scopes[task] = scope
                with trio.move_on_after(request.timeout_s) as clock:
                    try:
                        result = cbor.encode(await tool({**arguments, **files}))
                        view, spent = replace(view, status="completed", result=result, cost_micro=price, node=self.name), price
                    except Failed as error:
                        view = replace(view, status="failed", error=TaskError(error.name, error.detail))
                if clock.cancelled_caught:
                    view = replace(view, status="expired")
        except trio.Cancelled:
            self.cancelled += 1
            raise
        finally:
            del self.scopes[task]
            caller.purse.settle(price, spent)
            self.tasks[task] = view
        return view

    async def task(self, task_id: TaskId, caller: Caller) -> TaskView:
        view = self.tasks.get(task_id)
        if view is None:
            raise Refused("no-such-task", f"no task {task_id[:40]} is known here")
        return view

    async def cancel(self, task_id: TaskId, caller: Caller) -> TaskView:
        await self.task(task_id, caller)
        if task_id in self.scopes:
            self.scopes[task_id].cancel()
            while task_id in self.scopes:
                await trio.sleep(0)
        return self.tasks[task_id]

    # -- the mesh ----------------------------------------------------------------------------------------------------

    async def org_nodes(self) -> OrgNodesView:
        kept = [row for row in ORG_NODES if row.name not in self.removed]
        return OrgNodesView(tuple(kept), self.name, 3, 42, 1 - len(self.removed))

    async def remove_node(self, node: str, caller: Caller) -> NodeRemoved:
        found = next((row for row in ORG_NODES if node in (row.name, row.node_id)), None)
        if found is None:
            raise BadInput("no-such-node", f"no node of {ORG} is called {node[:40]!r}")
        changed = found.name not in self.removed
        self.removed.add(found.name)
        return NodeRemoved(found.node_id, found.name, changed)

    async def members(self) -> MembersView:
        rows = [
            MemberView(NodeId("12D3KooWalpha"), "alpha-1", ORG, "local", "alive", 1, 240_000, 0.12, "0.1.0", ("127.0.0.1:7101",)),
            MemberView(
                NodeId("12D3KooWgamma"), "gamma-1", OrgDid("did:mesh:enterprise:gamma"), "local", "suspect", 3, 3_000, note="2 probes lost"
            ),
        ]
        return MembersView(tuple(rows), self.name)

    async def status(self) -> StatusView:
        return StatusView(
            NodeId("12D3KooWalpha"),
            self.name,
            ORG,
            "local",
            "0.1.0",
            "9f2c",
            240_000,
            (),
            {"alive": 1, "suspect": 1},
            len(self.hosted),
            len(self.hosted),
            len(self.hosted),
            len(self.scopes),
            0,
            group=GroupView(self.name, True, "voter", 3, 42, 2, 3, 3, 0, 1),
        )

    async def explain(self, subject: str, caller: Caller) -> Explanation:
        task = self.tasks.get(TaskId(subject))
        if task is None:
            raise Refused("nothing-to-explain", f"nothing here is called {subject[:40]}")
        return Explanation(subject, "task", (f"it {task.status} on {self.name}",), {"status": task.status})

    async def explain_score(self, agent_id: AgentId, query: DiscoverQuery, caller: Caller) -> Explanation:
        record = await self.agent(agent_id, caller)
        lines = [f"{record.name} scores 0.5000: {query.query}", f"{query.capabilities} {query.weigh.trust:g}"]
        if query.exclude.capabilities:
            lines.append(f"without {query.exclude.capabilities} {query.exclude.organisations}")
        return Explanation(record.agent_id, "score", tuple(lines), {"score": 0.5})

    async def did_document(self, did: str) -> Json:
        try:
            parse_org_did(did)
        except ValueError as error:
            raise BadInput("bad-did", str(error)) from error
        if did != ORG:
            raise Refused("no-such-did", "no organisation of this mesh has this DID")
        return {"id": did, "@context": ["https://www.w3.org/ns/did/v1"]}

    async def agent_card(self) -> Json:
        return {"name": self.name, "skills": []}

    # -- watching ----------------------------------------------------------------------------------------------------

    def events(self, since: str | None) -> EventStream:
        return self.log.read(since)

    def metrics(self) -> bytes:
        return b"# TYPE mesh_agents gauge\nmesh_agents %d\n" % len(self.hosted)

    def healthy(self) -> Health:
        return Health(True)

    def ready(self) -> Health:
        return Health(bool(self.hosted), () if self.hosted else ("no agent is deployed yet",))


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(one) for one in value) if isinstance(value, list) else ()
