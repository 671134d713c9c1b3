"""The node as the API sees it (``node/api/service.py``): each method starts a Flow, or looks at a machine.

Nothing is decided here. What a method reads of a machine is read in the event loop's thread, between two steps.
"""

import logging
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import trio

from meshos import cbor
from meshos.adapters.onprem.provider import OnPremProvider
from meshos.consensus.ledger.testimonies import DISCHARGES
from meshos.consensus.org.commands import Ended, FindTasks, GetTask, ListAgents, Running
from meshos.consensus.raft.events import GetGroup
from meshos.errors import BadInput, Refused
from meshos.genesis import Genesis
from meshos.ids import AgentId, NodeId, Peer, TaskId
from meshos.node.api import shapes
from meshos.node.api.event_log import EventLog
from meshos.node.facade import dids, discovering, explaining, grouping, linking, views
from meshos.node.facade.calling import Call, Calling
from meshos.node.facade.deciding import DecisionDesk
from meshos.node.facade.ledger import Books, LedgerDesk
from meshos.node.facade.measuring import Measurements
from meshos.node.facade.metrics import Metrics
from meshos.node.facade.moving import MotionDesk
from meshos.node.facade.renting import RoomDesk
from meshos.node.facade.serving import Serving
from meshos.node.facade.shown import Shown
from meshos.node.facade.tasks import new_task_id, no_such_task
from meshos.node.kernel.agents import DeployAsked, Deployment, UndeployAsked
from meshos.node.kernel.asking import ASK_ORG, DEPLOY, ORG_NODES, PROCESSES, REMOVE_NODE, UNDEPLOY
from meshos.node.kernel.assembly import Assembly
from meshos.node.meant import LOOKED_FOR, only
from meshos.node.runtime.host import Host
from meshos.node.runtime.links.link_state import LinkState
from meshos.node.runtime.square.square import Square
from meshos.node.runtime.turns import Turns
from meshos.protocols.directory.cards import read_lines
from meshos.protocols.directory.explaining import Explained, ScoreAsked
from meshos.protocols.directory.publishing import Publication, Published, Withdrawal
from meshos.protocols.directory.record import AgentRecord, Sealed, parse
from meshos.protocols.directory.related import AGENT_ID
from meshos.protocols.directory.search import DiscoverAnswer
from meshos.protocols.directory.services import DISCOVER, EXPLAIN, LOOKUP, PUBLISH, WITHDRAW
from meshos.protocols.leader.wire import AgentProcesses, AskRemove, OrgNodes
from meshos.protocols.tasks.agent_file import McpCommand, parse_canonical, parse_mapping
from meshos.protocols.tasks.call import CallRequest
from meshos.storage.store import LiveView

logger = logging.getLogger("meshos.tasks")

LOOK_S = 5.0
"""A question to this node's own machines."""
DEPLOY_S = 120.0
"""Starting a server, reading its tools, embedding, recording."""
REMOVE_S = 25.0
"""Removing a node: a leader to be found, and a change of the group."""
PUBLISH_S = 600.0
"""10,000 records at 16 ms a vector, and some."""
DISCOVER_S = 30.0
"""The first question loads the model."""
ALONE_S = 5.0
"""A node that has found nobody by then serves its own organisation; `mesh status` says that it is alone."""
LAG_PROBLEM_S = 0.25
_AGENT = re.compile(r"a-[0-9a-f]{1,16}")
_TASK = re.compile(r"t-[0-9a-f]{12,32}")
_NOT_HERE = "look for it with `mesh discover`, and give the whole id (-q): the beginning of one is enough only where it lies or was shown"
"""The beginning of a task's id. A task is shown to whoever knows its id, so it must not be guessed: 48 bits, a million tasks and
a thousand questions a second (node/api/limits.py) make one hit in three days of asking without a pause."""


@dataclass(frozen=True, slots=True)
class About:
    """What the facade says of its node. ``started`` is trio's clock at the start."""

    me: Peer
    name: str
    region: str
    version: str
    genesis: Genesis
    api: str
    started: float


@dataclass(frozen=True, slots=True)
class Seen:
    """What the node notes of calls, and shows: latencies, figures, what its agents serve, and who waits for them."""

    measurements: Measurements
    metrics: Metrics
    serving: Serving
    turns: Turns
    standing: Callable[[], Sequence[str]] = tuple
    """What keeps other nodes and strangers from reaching or believing this one, in sentences."""
    square: Square | None = None
    links: Callable[[], Sequence[LinkState]] = tuple


class Facade:
    """A ``NodeService``; see the module's text."""

    def __init__(
        self,
        about: About,
        host: Host,
        assembly: Assembly,
        provider: OnPremProvider,
        events: EventLog,
        seen: Seen,
        store: LiveView,
        nursery: trio.Nursery,
    ) -> None:
        """``store`` shows the ledger's whole store."""
        self._about = about
        self._host = host
        self._assembly = assembly
        self._provider = provider
        self._events = events
        self._measurements = seen.measurements
        self._metrics = seen.metrics
        self._serving = seen.serving
        self._turns = seen.turns
        self._standing = seen.standing
        self._square = seen.square
        self._links = seen.links
        books = Books(assembly.ledger, assembly.window, store)
        self.ledger = LedgerDesk(host, books, about.genesis.hash, about.me.node, assembly.membership.name_of)
        self.decisions = DecisionDesk(about.me.node, assembly.window, self.ledger, about.genesis.hash)
        self._shown = Shown()
        self.proposals = MotionDesk(about.me.node, assembly.window, self.ledger, about.genesis.hash)
        self.rooms = RoomDesk(about.me.org, assembly.window, self.ledger, assembly.directory.records_of)
        self._calling = Calling(host, nursery, seen.measurements, seen.metrics, assembly.membership.name_of)

    # -- agents ------------------------------------------------------------------------------------------------------

    async def deploy(self, deploy: shapes.Deploy, caller: shapes.Caller) -> shapes.Deployed:
        """See ``NodeService.deploy``."""
        began = trio.current_time()
        file = parse_mapping(deploy.agent, "$.agent")
        if deploy.region is not None:
            file = replace(file, region=deploy.region)
        if deploy.replicas is not None:
            file = replace(file, replicas=deploy.replicas)
        if isinstance(file.runtime, McpCommand) and deploy.folder is None:
            raise BadInput(
                "bad-value", "an agent that is started here needs the folder its file lies in", hint="run `mesh deploy` on this machine"
            )
        asked = DeployAsked(file, file.canonical(), deploy.folder or "", caller.name)
        done: Deployment = await self._host.flow(DEPLOY, asked, timeout_s=DEPLOY_S, trace=caller.trace)
        view = self._view(done.record)
        self._events.publish("agent", f"{view.name} is deployed", {"agent": view.agent_id, "version": view.version})
        local = isinstance(file.runtime, McpCommand)
        took_ms = (trio.current_time() - began) * 1000
        runs_on = self._assembly.membership.member(done.node)
        name, region = (done.node, "") if runs_on is None else (runs_on.facts.name, runs_on.region)
        return shapes.Deployed(view, done.ready if local else 0, (name,), took_ms, file.replicas if local else 0, region)

    async def undeploy(self, agent_id: AgentId, caller: shapes.Caller) -> shapes.Undeployed:
        """See ``NodeService.undeploy``."""
        try:
            name: str = await self._host.flow(UNDEPLOY, UndeployAsked(agent_id, caller.name), timeout_s=DEPLOY_S, trace=caller.trace)
        except Refused as error:
            if error.name != "agent-unknown":
                raise
            name = await self._withdraw_published(agent_id, caller)
        self._events.publish("agent", f"{name} is withdrawn", {"agent": agent_id})
        return shapes.Undeployed(agent_id, name)

    async def _withdraw_published(self, agent_id: AgentId, caller: shapes.Caller) -> str:
        """Bury the record of an agent that was published and never deployed; its name."""
        held = await self._record(agent_id)
        if not isinstance(held.entry, AgentRecord):
            raise _no_such_agent(agent_id)
        if held.entry.mesh_id != self._about.me.org:
            owner = held.entry.mesh_id.rpartition(":")[2]
            told = f"{held.entry.profile.name!r} belongs to {owner}, and this is a node of {self._about.me.org.rpartition(':')[2]}"
            raise Refused("not-your-agent", told, hint=f"ask a node of {owner}: --org {owner} in a testnet, else --node")
        name = held.entry.profile.name
        await self._host.flow(WITHDRAW, Withdrawal((name,), _wall_ms()), timeout_s=LOOK_S, trace=caller.trace)
        return name

    async def agents(self, caller: shapes.Caller) -> tuple[shapes.HostedAgent, ...]:
        """See ``NodeService.agents``."""
        found: list[shapes.HostedAgent] = []
        processes: tuple[AgentProcesses, ...] = await self._host.flow(PROCESSES, None, timeout_s=LOOK_S)
        doing = {one.agent: one for one in processes}
        after = ""
        while page := await self._ask_org(ListAgents(after)):
            for agent in page:
                sealed = self._assembly.directory.record(agent.agent)
                file = parse_canonical(agent.agent_file)
                view = self._view(sealed if sealed is not None else parse(agent.record))
                elsewhere = not isinstance(file.runtime, McpCommand)
                found.append(views.hosted(view, doing.get(agent.agent), file.replicas, elsewhere=elsewhere))
            after = page[-1].agent
        return tuple(found)

    async def agent(self, agent_id: AgentId, caller: shapes.Caller) -> shapes.AgentView:
        """See ``NodeService.agent``."""
        return self._view(await self._record(agent_id))

    async def publish(self, lines: Sequence[str], caller: shapes.Caller) -> shapes.Published:
        """See ``NodeService.publish``. The records are found; calling one is ``agent-not-served`` until its owner deploys it."""
        cards, refused = await trio.to_thread.run_sync(read_lines, lines)
        publication = Publication(tuple(card.profile for card in cards), _wall_ms())
        done: Published = await self._host.flow(PUBLISH, publication, timeout_s=PUBLISH_S, trace=caller.trace)
        rows = [shapes.RefusedLine(row.line, row.error.name, row.error.detail) for row in refused]
        rows += [shapes.RefusedLine(cards[place].line, error.name, error.detail) for place, error in done.refused]
        return shapes.Published(done.accepted, tuple(sorted(rows, key=lambda row: row.line)))

    # -- discovery and tasks -----------------------------------------------------------------------------------------

    async def discover(self, query: shapes.DiscoverQuery, caller: shapes.Caller) -> shapes.Discovered:
        """See ``NodeService.discover``."""
        related = None if query.related is None else (await self._record(query.related)).entry.agent_id
        request = discovering.request_of(query, related)
        answer: DiscoverAnswer = await self._host.flow(DISCOVER, request, timeout_s=DISCOVER_S, trace=caller.trace)
        self._shown.note(agent for found in answer.agents for agent in (found.record.agent_id, *found.alike))
        return discovering.discovered(answer, embeddings=query.embeddings)

    async def call(self, request: shapes.CallRequest, caller: shapes.Caller) -> shapes.TaskView:
        """See ``NodeService.call``."""
        sealed = await self._record(request.agent_id)
        assert isinstance(sealed.entry, AgentRecord)
        call = self._call(request, sealed.entry, caller)
        if not request.wait:
            self._calling.make(call)
            return shapes.TaskView(call.asked.task, call.asked.agent, "running")
        return await self._calling.wait_made(call)

    def _call(self, request: shapes.CallRequest, record: AgentRecord, caller: shapes.Caller) -> Call:
        price = record.profile.per_query
        asked = CallRequest(
            new_task_id(),
            record.agent_id,
            self._assembly.providers_of(record.mesh_id),
            record.mesh_id,
            request.task_type,
            _arguments(request),
            request.timeout_s,
            key=_key(caller, request),
            priority=request.priority,
            budget_micro=request.budget_micro,
            price_micro=price,
            depth=self._serving.depth_after(caller),
        )
        return Call(asked, record.profile.name, caller, price, trio.current_time())

    async def task(self, task_id: TaskId, caller: shapes.Caller) -> shapes.TaskView:
        """See ``NodeService.task``."""
        task_id = await self._whole(task_id)
        found = self._calling.tasks.find(task_id)
        if found is not None:
            return found
        try:
            served = await self._ask_org(GetTask(task_id))
        except Refused as error:
            raise no_such_task(task_id) from error
        if isinstance(served, Running):
            return shapes.TaskView(task_id, AgentId(""), "running")
        assert isinstance(served, Ended)
        return views.served_view(served, served.intent.agent, self._assembly.membership.name_of)

    async def cancel(self, task_id: TaskId, caller: shapes.Caller) -> shapes.TaskView:
        """See ``NodeService.cancel``."""
        return await self._calling.tasks.cancel(await self._whole(task_id))

    async def _whole(self, task_id: TaskId) -> TaskId:
        """The task whose id begins so, where only one does; what was given, where none is known."""
        if not _TASK.fullmatch(task_id):
            return task_id
        found = {*self._calling.tasks.beginning(task_id), *await self._ask_org(FindTasks(task_id))}
        return TaskId(only(task_id, found, no_such_task(task_id))) if found else task_id

    # -- the organisation's nodes --------------------------------------------------------------------------------------

    async def org_nodes(self) -> shapes.OrgNodesView:
        """See ``NodeService.org_nodes``."""
        found: OrgNodes = await self._host.flow(ORG_NODES, None, timeout_s=LOOK_S)
        return grouping.nodes_view(found, self._assembly.membership, self._about.me.org)

    async def remove_node(self, node: str, caller: shapes.Caller) -> shapes.NodeRemoved:
        """See ``NodeService.remove_node``."""
        membership, org = self._assembly.membership, self._about.me.org
        before: OrgNodes = await self._host.flow(ORG_NODES, None, timeout_s=LOOK_S)
        id_ = grouping.named(node, before, membership, org)
        await self._host.flow(REMOVE_NODE, AskRemove(id_, caller.name), timeout_s=REMOVE_S, trace=caller.trace)
        name, changed = membership.name_of(id_) or id_, id_ not in before.removed
        if changed:
            self._events.publish("org-node", f"{name} is removed from {org}", {"peer": id_})
        return shapes.NodeRemoved(id_, name, changed)

    # -- the mesh ----------------------------------------------------------------------------------------------------

    async def members(self) -> shapes.MembersView:
        """See ``NodeService.members``."""
        membership, now = self._assembly.membership, trio.current_time()
        links = self._links()
        found = tuple(
            views.member_view(view, membership.name_of, now, linking.paths_of(links, view.node_id)) for view in membership.members()
        )
        return shapes.MembersView(found, self._about.name)

    async def status(self) -> shapes.StatusView:
        """See ``NodeService.status``."""
        about = self._about
        states = [view.state for view in self._assembly.membership.members()]
        replicas = self._provider.statistics()
        running = sum(any(replica.state == "ready" for replica in each) for each in replicas.values())
        calls_per_s, p95_ms = self._metrics.calls()
        cells, cells_from = views.cells(self._assembly.parts.layout, self._assembly.cells.agreed())
        return shapes.StatusView(
            node_id=about.me.node,
            name=about.name,
            org=about.me.org,
            region=about.region,
            version=about.version,
            genesis=about.genesis.hash.hex(),
            up_ms=(trio.current_time() - about.started) * 1000,
            problems=self._problems(),
            members={state: states.count(state) for state in ("alive", "suspect", "dead", "left")},
            agents_hosted=len(replicas),
            agents_running=running,
            records=self._assembly.directory.statistics()["records"],
            tasks_running=self._calling.tasks.statistics()["running"],
            tasks_waiting=self._turns.statistics()["waiting"],
            waiting_notes=tuple(f"{count} for {self._named(agent)}" for agent, count in self._turns.waiting().items()),
            calls_per_s=calls_per_s,
            call_p95_ms=p95_ms,
            rss_bytes=_rss_bytes(),
            loop_lag_ms=self._host.lag_s * 1000,
            ledger=await self.ledger.head(),
            approvals_waiting=self.decisions.waiting(),
            paused_until_ms=self.decisions.paused_until(),
            proposals_waiting=self.proposals.waiting(),
            p2p=() if self._square is None else self._square.addresses,
            strangers=0 if self._square is None else self._square.visitors,
            links=linking.carried(self._links()),
            cells=cells,
            cells_from=cells_from,
            group=grouping.group_view(await self._ask_org(GetGroup()), self._assembly, about.me.node),
        )

    async def explain(self, subject: str, caller: shapes.Caller) -> shapes.Explanation:
        """See ``NodeService.explain``. Ids before names: a member chooses its name, and could choose somebody's id."""
        membership = self._assembly.membership
        member = membership.member(NodeId(subject))
        if member is None and _TASK.fullmatch(subject):
            return explaining.task(await self.task(TaskId(subject), caller))
        held = await self._sought(AgentId(subject)) if member is None else None
        if held is not None:
            return explaining.agent(self._view(held))
        decided = (await self.decisions.explained(subject) or await self.proposals.explained(subject)) if member is None else None
        if decided is not None:
            return decided
        member = member or next((view for view in membership.members() if view.name == subject), None)
        if member is not None:
            paths = linking.paths_of(self._links(), member.node_id)
            shown = views.member_view(member, membership.name_of, trio.current_time(), paths)
            window = self._assembly.window
            discharge = None if window.restoring else DISCHARGES.read(window, member.node_id)
            return explaining.member(subject, shown, self._about.name, discharge)
        if subject.startswith("t-"):
            raise no_such_task(TaskId(subject))
        told = f"{subject[:80]!r} is no agent, task, decision, motion, node or error known here"
        raise Refused("nothing-to-explain", told, hint="give an id or a name")

    async def explain_score(self, agent_id: AgentId, query: shapes.DiscoverQuery, caller: shapes.Caller) -> shapes.Explanation:
        """See ``NodeService.explain_score``."""
        agent = (await self._record(agent_id)).entry.agent_id
        request = discovering.request_of(query, None)
        explained: Explained = await self._host.flow(EXPLAIN, ScoreAsked(agent, request), timeout_s=DISCOVER_S, trace=caller.trace)
        return explaining.score(explained, request.weigh)

    async def did_document(self, did_: str) -> shapes.Json:
        """See ``NodeService.did_document``."""
        return dids.document(did_, self._about.genesis, self._assembly.window)

    async def agent_card(self) -> shapes.Json:
        """See ``NodeService.agent_card``."""
        about = self._about
        told = f"A node of {about.me.org} in the mesh {about.genesis.mesh}: finds agents of all organisations and runs tasks on them."
        return {
            "name": about.name,
            "description": told,
            "url": f"{about.api}/mcp",
            "version": about.version,
            "provider": {"organization": about.me.org, "url": about.api},
            "capabilities": {"streaming": False, "pushNotifications": False},
            "defaultInputModes": ["application/json"],
            "defaultOutputModes": ["application/json"],
            "skills": [],
        }

    # -- watching ----------------------------------------------------------------------------------------------------

    def events(self, since: str | None) -> shapes.EventStream:
        """See ``NodeService.events``."""
        return self._events.read(since)

    def metrics(self) -> bytes:
        """See ``NodeService.metrics``."""
        return self._metrics.text()

    def healthy(self) -> shapes.Health:
        """See ``NodeService.healthy``."""
        return shapes.Health(True)

    def ready(self) -> shapes.Health:
        """See ``NodeService.ready``."""
        problems = []
        if not self._assembly.watch.ready:
            problems.append(grouping.why_not_ready(self._assembly))
        if not self._assembly.membership.joined and trio.current_time() - self._about.started < ALONE_S:
            problems.append("it has not found the other nodes yet")
        return shapes.Health(not problems, tuple(problems))

    # -- parts -------------------------------------------------------------------------------------------------------

    def _problems(self) -> tuple[str, ...]:
        problems = [*self.ready().problems, *self._standing()]
        if not self._assembly.membership.joined:
            problems.append("it is alone: none of its seeds answers")
        if self._host.lag_s > LAG_PROBLEM_S:
            problems.append(f"its event loop is {self._host.lag_s * 1000:.0f} ms behind")
        return tuple(problems)

    def _view(self, sealed: Sealed) -> shapes.AgentView:
        assert isinstance(sealed.entry, AgentRecord)
        agent = sealed.entry.agent_id
        quarantined = self._assembly.barred(agent, sealed.entry.mesh_id, sealed.signer) is not None
        return views.agent_view(sealed, sealed.entry, self._measurements.of(agent), quarantined=quarantined)

    async def _ask_org(self, query: object) -> Any:
        return await self._host.flow(ASK_ORG, query, timeout_s=LOOK_S)

    def _named(self, agent: AgentId) -> str:
        sealed = self._assembly.directory.record(agent)
        return sealed.entry.profile.name if sealed is not None and isinstance(sealed.entry, AgentRecord) else agent

    async def _record(self, agent_id: AgentId) -> Sealed:
        """The record of an agent by its id, also from others that hold it, or by what its id begins with where only one here does."""
        sealed = await self._sought(agent_id)
        if sealed is None:
            raise _no_such_agent(agent_id)
        return sealed

    async def _sought(self, agent_id: AgentId) -> Sealed | None:
        """As ``_record``; None if nobody has it."""
        agent = self._meant(agent_id)
        if agent is None:
            return None
        sealed = self._assembly.directory.record(agent)
        return await self._host.flow(LOOKUP, agent, timeout_s=LOOK_S) if sealed is None else sealed

    def _meant(self, text: str) -> AgentId | None:
        """The agent whose id this is, or the beginning of it: of those that are held here, or were shown lately."""
        if not _AGENT.fullmatch(text):
            return None
        found = sorted({*self._assembly.directory.beginning(text, LOOKED_FOR), *self._shown.beginning(text)})
        if found:
            return AgentId(only(text, found, _no_such_agent(AgentId(text))))
        return AgentId(text) if AGENT_ID.fullmatch(text) else None


def _no_such_agent(agent_id: AgentId) -> Refused:
    return Refused("no-such-agent", f"no agent {agent_id[:80]!r} is known to this node", hint=_NOT_HERE)


def _arguments(request: shapes.CallRequest) -> bytes:
    """The tool's arguments with the files laid among them, each as a map of its name and content."""
    if not request.files:
        return request.data
    arguments = cbor.decode(request.data, max_bytes=len(request.data))
    assert isinstance(arguments, dict)
    files: Mapping[str, cbor.Value] = {file.name: {"filename": file.filename, "content": file.content} for file in request.files}
    return cbor.encode({**arguments, **files})


def _key(caller: shapes.Caller, request: shapes.CallRequest) -> str:
    """The idempotency key is the caller's own: two API keys of one organisation never meet in it."""
    return f"{caller.key_id}/{request.idempotency_key}" if request.idempotency_key else ""


def _rss_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _wall_ms() -> int:
    return int(time.time() * 1000)
