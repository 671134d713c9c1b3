"""The agents of one node: each with a key of its own to this node's API, its turn, and its calls counted and logged."""

import logging
from pathlib import Path

import trio

from meshos.adapters.onprem.provider import AgentSpec, OnPremProvider
from meshos.errors import MeshError
from meshos.ids import AgentId
from meshos.node.api.keys import DEPTH, KeyRing
from meshos.node.facade.serving import Serving
from meshos.node.kernel.agents import LookAtAgents, StartAgent, StopAgent
from meshos.node.runtime.turns import Turns
from meshos.protocols.leader.limits import NOTE_CHARS
from meshos.protocols.leader.wire import AgentProcesses
from meshos.protocols.tasks.limits import MAX_DEPTH
from meshos.protocols.tasks.ports import CallTool, ToolResult
from meshos.protocols.tasks.tools import Tool

logger = logging.getLogger("meshos.node")

AGENT_BUDGET_MICRO = 100_000_000
"""What an agent's own key may spend while its process lives, in millionths of a MESH."""

assert DEPTH <= MAX_DEPTH, "what a key allows can be said on the wire"


class Hosting:
    """Carries out ``CallTool``, ``StartAgent``, ``StopAgent`` and ``LookAtAgents``. ``api_url`` is what agents are told, known
    once the API serves.
    """

    def __init__(self, provider: OnPremProvider, ring: KeyRing) -> None:
        self.provider = provider
        self.serving = Serving()
        self.turns = Turns()
        self.api_url = ""
        self._ring = ring
        self._keys: dict[AgentId, str] = {}

    async def call_tool(self, effect: CallTool) -> ToolResult:
        """Call it, count it as under way, and log how it ended."""
        began, ended = trio.current_time(), "cancelled"
        try:
            async with self.turns.turn(effect) as call:
                with self.serving.call(call.agent, call.depth):
                    result = await self.provider.call(call)
            ended = "failed" if result.failed else "completed"
            return result
        except MeshError as error:
            ended = error.name
            raise
        finally:
            told = {"trace": effect.trace, "task": effect.task, "agent": effect.agent, "tool": effect.tool}
            logger.info("served", extra={**told, "ended": ended, "dur_ms": round((trio.current_time() - began) * 1000, 2)})

    async def start(self, effect: StartAgent) -> tuple[Tool, ...]:
        """Run it with a key of its own; the key of what it replaces opens nothing any more."""
        name = f"agent {effect.file.name}"[:64]
        token = self._ring.mint(name, "agent", budget_micro=AGENT_BUDGET_MICRO, depth=DEPTH - 1, agent=effect.agent, kept=False)
        env = {"MESH_NODE": self.api_url, "MESH_API_KEY": token}
        spec = AgentSpec(effect.agent, effect.file, Path(effect.folder), env)
        try:
            tools = await self.provider.start(spec, must_start=effect.must_start)
        except BaseException:
            self._ring.revoke(token.split("_")[1])
            raise
        self.turns.open(effect.agent, effect.file)
        self._revoke(effect.agent)
        self._keys[effect.agent] = token.split("_")[1]
        return tools

    async def stop(self, effect: StopAgent) -> None:
        """End it and its key."""
        await self.provider.stop(effect.agent)
        self.turns.close(effect.agent)
        self._revoke(effect.agent)

    def look(self, effect: LookAtAgents) -> tuple[AgentProcesses, ...]:
        """How the processes of all agents do at this moment."""
        found = []
        for agent, replicas in self.provider.statistics().items():
            ready = sum(replica.state == "ready" for replica in replicas)
            given_up = sum(replica.state == "given-up" for replica in replicas)
            note = next((replica.last_error for replica in replicas if replica.state != "ready" and replica.last_error), "")
            found.append(AgentProcesses(agent, len(replicas), ready, given_up, note[:NOTE_CHARS]))
        return tuple(found)

    def _revoke(self, agent: AgentId) -> None:
        key = self._keys.pop(agent, None)
        if key is not None:
            self._ring.revoke(key)
