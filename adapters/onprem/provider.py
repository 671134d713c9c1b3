"""The on-prem provider: agents on this machine, each in processes of its own, and agents that run elsewhere by URL.

provider = OnPremProvider(OnPremConfig(data=…, hidden=(…,)))
await nursery.start(provider.run)             # cancelling it stops every process and leaves nothing behind
tools = await provider.start(AgentSpec(agent, file, folder, env))
result = await provider.call(CallTool(…))
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

import trio

from meshos.adapters.onprem import inbox, limits, sandbox
from meshos.adapters.onprem.agent_log import AgentLog
from meshos.adapters.onprem.egress_policy import EgressPolicy
from meshos.adapters.onprem.mcp_values import arguments_of, check_arguments
from meshos.adapters.onprem.remote import RemoteAgent
from meshos.adapters.onprem.room import Counting, Room
from meshos.adapters.onprem.supervisor import Pace, Replica, ReplicaStatistics
from meshos.cbor import Value
from meshos.errors import BadInput, Refused, Unreachable, busy
from meshos.ids import AgentId
from meshos.protocols.tasks.agent_file import A2aUrl, AgentFile, McpCommand, McpUrl
from meshos.protocols.tasks.located import nearest
from meshos.protocols.tasks.ports import CallTool, ToolResult
from meshos.protocols.tasks.tools import Tool

Worker: TypeAlias = Replica | RemoteAgent


@dataclass(frozen=True, slots=True)
class OnPremConfig:
    """``data``: where private folders and logs go (it may lie in the node's folder). ``hidden``: folders no agent may see,
    the node's own above all; on a testnet all nodes'."""

    data: Path
    hidden: tuple[Path, ...] = ()
    egress: EgressPolicy = field(default_factory=EgressPolicy)
    pace: Pace = field(default_factory=Pace)
    room: Room = field(default_factory=Room)


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """What to run: the parsed file, the folder it lies in, and the variables the node gives (MESH_NODE, MESH_API_KEY)."""

    agent: AgentId
    file: AgentFile
    folder: Path
    env: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(slots=True)
class _Deployed:
    """An agent that was started: its workers, and its tools by name."""

    spec: AgentSpec
    workers: list[Worker]
    inboxes: list[Path | None]
    tools: dict[str, Tool] = field(default_factory=dict)


class OnPremProvider:
    """See the module's text. One for a node."""

    def __init__(self, config: OnPremConfig, rng: random.Random | None = None) -> None:
        self.config = config
        self._rng = rng or random.Random()  # jitter only
        self._agents: dict[AgentId, _Deployed] = {}
        self._changing: dict[AgentId, trio.Lock] = {}
        self._large = trio.Semaphore(limits.LARGE_LINES)
        self._counting = Counting(config.room)
        self._nursery: trio.Nursery | None = None
        self._host: sandbox.Host | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Find out what sandbox this machine gives, then keep agents alive until cancelled. Raises Refused ``sandbox-broken``."""
        await trio.to_thread.run_sync(partial(self.config.data.mkdir, mode=0o711, parents=True, exist_ok=True))
        await trio.to_thread.run_sync(inbox.empty, self.config.data)
        self._host = await sandbox.probe(self.config.data)
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(trio.sleep_forever)
                task_status.started()
        finally:
            self._nursery = None
            self._agents.clear()

    def layers(self) -> list[str]:
        """The layers of the sandbox that agents here run in."""
        return [] if self._host is None else [*self._host.layers, *sandbox.ALWAYS]

    # -- deploying ---------------------------------------------------------------------------------------------------

    async def start(self, spec: AgentSpec, *, must_start: bool = True) -> tuple[Tool, ...]:
        """Start an agent and come back with its tools once a replica serves.

        An agent that already runs is replaced once the new one serves, and kept if it does not. ``must_start``: a failure
        before the first handshake ends the attempt (a deployment); without it the agent is kept and tried again (after a restart of
        the node), and this comes back at once with no tools. Raises ``agent-crashed``, ``agent-hung``, ``agent-garbage``,
        ``agent-disk-full``, ``agent-not-here``, ``egress-refused``, ``runtime-not-offered``, ``busy``.
        """
        if self._nursery is None:
            raise Unreachable("agent-down", "agents are not served: the provider does not run", outcome="not_done")
        async with self._changing.setdefault(spec.agent, trio.Lock()):
            deployed = self._make(spec)
            for worker in deployed.workers:
                self._nursery.start_soon(partial(worker.run, must_start=must_start))
            tools: tuple[Tool, ...] = ()
            if must_start:
                try:
                    tools = await deployed.workers[0].wait_ready()
                except BaseException:
                    await _stop_all(deployed.workers)
                    raise
            deployed.tools = {tool.name: tool for tool in tools}
            before = self._agents.get(spec.agent)
            self._agents[spec.agent] = deployed
            if before is not None:
                await _stop_all(before.workers)
            return tools

    async def stop(self, agent: AgentId) -> None:
        """Stop an agent; comes back when nothing is left of it. One that is not here is no error."""
        async with self._changing.setdefault(agent, trio.Lock()):
            deployed = self._agents.pop(agent, None)
            if deployed is not None:
                await _stop_all(deployed.workers)
        self._changing.pop(agent, None)

    def _make(self, spec: AgentSpec) -> _Deployed:
        runtime = spec.file.runtime
        if isinstance(runtime, A2aUrl):
            what = "agents by A2A address are not offered yet"
            raise Refused("runtime-not-offered", what, hint="give the agent an MCP address: `mcp: {url: …}`")
        if isinstance(runtime, McpUrl):
            return _Deployed(spec, [RemoteAgent(runtime.url, self.config.egress, self.config.pace)], [None])
        running = sum(len(deployed.workers) for agent, deployed in self._agents.items() if agent != spec.agent)
        if running + spec.file.replicas > limits.MAX_AGENTS:
            raise busy(f"this node's table of {limits.MAX_AGENTS} agent processes")
        deployed = _Deployed(spec, [], [])
        for number in range(spec.file.replicas):
            private = self.config.data / spec.agent / str(number)
            make_plan = partial(self._plan, spec, runtime, private)
            log = AgentLog(self.config.data / spec.agent / f"{number}.log")
            wait_excess = partial(self._counting.wait_excess, private / "home")
            pace, rng = self.config.pace, self._rng
            replica = Replica(str(number), make_plan, log, wait_excess=wait_excess, large=self._large, pace=pace, rng=rng)
            deployed.workers.append(replica)
            deployed.inboxes.append(private / "inbox")
        return deployed

    def _plan(self, spec: AgentSpec, runtime: McpCommand, private: Path) -> sandbox.Plan:
        assert self._host is not None
        return sandbox.make_plan(
            self._host,
            spec.agent,
            runtime.command,
            {**dict(runtime.env), **spec.env},
            folder=spec.folder,
            private=private,
            hidden=self.config.hidden,
            resources=spec.file.resources,
        )

    # -- calling -----------------------------------------------------------------------------------------------------

    async def call(self, call: CallTool) -> ToolResult:
        """Call a tool on the replica with the least to do; cancelling this reaches the tool.

        Raises with outcome ``not_done``: ``agent-not-here``, ``unknown-tool``, ``bad-arguments``, ``agent-down``, ``busy``; with
        ``unknown``: ``agent-crashed``, ``agent-hung``, ``agent-garbage``, ``deadline-exceeded``, ``tool-refused``; with ``done``:
        ``result-too-large``.
        """
        deployed = self._agents.get(call.agent)
        if deployed is None:
            raise Refused("agent-not-here", f"the agent {call.agent} does not run on this node", hint="`mesh discover` shows who runs it")
        arguments = arguments_of(call.arguments)
        index = self._least_busy(deployed)
        worker, folder = deployed.workers[index], deployed.inboxes[index]
        known = deployed.tools or {tool.name: tool for tool in worker.tools}
        if known and call.tool not in known:
            meant = nearest(call.tool, known)
            told = f"the agent has no tool {call.tool[:80]!r}; it has {', '.join(sorted(known))[:200]}"
            raise BadInput("unknown-tool", told, hint=f'did you mean "{meant}"?' if meant else "")
        meta = {"traceparent": call.trace} if call.trace else {}
        if folder is not None and inbox.carries_files(arguments):
            value, failed = await self._call_with_files(worker, folder, call, arguments, meta)
        else:
            check_arguments(arguments)
            value, failed = await worker.call(call.tool, arguments, meta, call.timeout_s)
        return ToolResult(value, failed, worker.name)

    async def _call_with_files(
        self, worker: Worker, folder: Path, call: CallTool, arguments: Mapping[str, Value], meta: Mapping[str, str]
    ) -> tuple[bytes, bool]:
        try:
            delivered, delivery = await trio.to_thread.run_sync(inbox.deliver, folder, call.task, arguments)
        except OSError as error:
            raise Refused(
                "files-not-stored", f"the files sent along cannot be stored: {error.strerror}", hint="run `mesh doctor`"
            ) from error
        try:
            return await worker.call(call.tool, delivered, meta, call.timeout_s)
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(inbox.remove, delivery)

    def _least_busy(self, deployed: _Deployed) -> int:
        """A serving worker before one that does not serve, then the one with the fewest calls under way."""
        return min(range(len(deployed.workers)), key=lambda i: (deployed.workers[i].state != "ready", deployed.workers[i].in_flight, i))

    # -- looking -----------------------------------------------------------------------------------------------------

    def tools(self, agent: AgentId) -> tuple[Tool, ...]:
        """The tools of an agent as its server listed them last; empty for one that never served or is not here."""
        deployed = self._agents.get(agent)
        return () if deployed is None else next((worker.tools for worker in deployed.workers if worker.tools), ())

    def statistics(self) -> dict[AgentId, tuple[ReplicaStatistics, ...]]:
        """Each agent's replicas at this moment."""
        return {agent: tuple(worker.statistics() for worker in deployed.workers) for agent, deployed in self._agents.items()}


async def _stop_all(workers: list[Worker]) -> None:
    async with trio.open_nursery() as nursery:
        for worker in workers:
            nursery.start_soon(worker.stop)
