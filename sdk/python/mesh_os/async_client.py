"""The client for asyncio and trio: the names of ``client.py``, to be awaited."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import httpx

from mesh_os import operations
from mesh_os.config import AgentConfig
from mesh_os.connection import options, run_async
from mesh_os.operations import TASK_S, AnyAgent, Search, Terms
from mesh_os.records import AgentRecord, Found, Json, Task


class AsyncMeshOS:
    """A mesh, through one of its nodes. ``api_key`` and ``node`` default to MESH_API_KEY and MESH_NODE.

    ``timeout`` (seconds) holds for everything but tasks and deployments, which have their own. Cancelling a call cancels its task.
    """

    def __init__(self, api_key: str | None = None, node: str | None = None, *, timeout: float = 30.0) -> None:
        self._http = httpx.AsyncClient(**options(api_key, node, timeout))

    async def __aenter__(self) -> "AsyncMeshOS":
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def deploy_agent(self, config: AgentConfig) -> "AsyncAgent":
        """Deploy an agent on the node's organisation; deploying it again raises its version."""
        return AsyncAgent(self, await run_async(self._http, operations.deploy(config)))

    async def undeploy_agent(self, agent: AnyAgent) -> None:
        """End an agent."""
        await run_async(self._http, operations.undeploy(agent))

    async def agents(self) -> "list[AsyncAgent]":
        """The agents of the node's organisation."""
        return [AsyncAgent(self, record) for record in await run_async(self._http, operations.agents())]

    async def agent(self, agent_id: str) -> AgentRecord:
        """The record of any organisation's agent."""
        return await run_async(self._http, operations.agent(agent_id))

    async def discover(
        self,
        query: str,
        *,
        filters: Mapping[str, Any] | None = None,
        limit: int = 10,
        embeddings: bool = False,
        weigh: Mapping[str, float] | None = None,
        facets: bool = False,
        cursor: str | None = None,
        collapse: bool = True,
    ) -> Found:
        """Agents of all organisations that fit ``query``, best first. ``filters`` as in the HTTP API: trustScore {min, max},
        certifications, capabilities, maxLatency (ms), maxPrice (MESH), region, and exclude {capabilities, certifications, regions,
        organisations}. ``weigh`` says how much trust, latency and price count beside the fit, each 0 to 1. ``facets``: count what all that
        fulfil the filters have. The answer's ``cursor`` gets the next page of the same question; None at the end. ``collapse``: agents of
        an organisation that say nearly the same are shown as one, the best, with ``alike`` and ``alikeCount``."""
        search = Search(filters, limit, embeddings, weigh, facets, cursor, collapse)
        return await run_async(self._http, operations.discover(query, search))

    async def related(
        self, agent: AnyAgent, *, filters: Mapping[str, Any] | None = None, limit: int = 10, cursor: str | None = None
    ) -> Found:
        """Agents that are like ``agent``, the most alike first, itself left out."""
        return await run_async(self._http, operations.related(agent, Search(filters, limit, cursor=cursor)))

    async def substitutes(
        self, agent: AnyAgent, *, filters: Mapping[str, Any] | None = None, limit: int = 10, cursor: str | None = None
    ) -> Found:
        """Agents that are like ``agent`` and have all of its capabilities."""
        return await run_async(self._http, operations.substitutes(agent, Search(filters, limit, cursor=cursor)))

    async def call(
        self,
        agent: AnyAgent,
        type: str,
        data: Mapping[str, Any] | None = None,
        *,
        files: Mapping[str, Any] | None = None,
        timeout: float = TASK_S,
        priority: int = 5,
        budget: str | None = None,
        wait: bool = True,
        idempotency_key: str | None = None,
    ) -> Task:
        """Run a task and give all that is known of it; a task that failed is an answer, ``.value()`` raises for it."""
        terms = Terms(timeout, priority, budget, wait, idempotency_key)
        return await run_async(self._http, operations.call(agent, type, data or {}, files or {}, terms))

    async def task(self, task_id: str) -> Task:
        """A task, running or ended."""
        return await run_async(self._http, operations.task(task_id))

    async def cancel(self, task_id: str) -> Task:
        """Stop a task."""
        return await run_async(self._http, operations.cancel(task_id))

    async def explain(
        self,
        subject: AnyAgent,
        query: str | None = None,
        *,
        filters: Mapping[str, Any] | None = None,
        weigh: Mapping[str, float] | None = None,
    ) -> Json:
        """Why: of an agent, a task or a node (its id); with a ``query`` why an agent has its score for this question. ``lines`` says it to
        people, ``facts`` to programs."""
        return await run_async(self._http, operations.explain(subject, query, Search(filters, weigh=weigh)))

    async def publish(self, lines: Sequence[str]) -> Json:
        """Publish agents that run elsewhere, each a JSON text; gives ``{accepted, agentIds, refused: [{line, name}]}``."""
        return await run_async(self._http, operations.publish(lines))

    async def members(self) -> Json:
        """The nodes of the mesh."""
        return await run_async(self._http, operations.look("members"))

    async def status(self) -> Json:
        """How the node does."""
        return await run_async(self._http, operations.look("status"))

    def federate(self, mesh_id: str) -> "AsyncFederation":
        """Work with the organisation ``mesh_id`` (a DID)."""
        return AsyncFederation(self, mesh_id)

    async def _collaborate(self, agent: AgentRecord, task: Mapping[str, Any], terms: Terms) -> Any:
        return await run_async(self._http, operations.collaborate(agent, task, terms))

    async def _execute(self, mesh_id: str, task: Mapping[str, Any], terms: Terms) -> Any:
        return await run_async(self._http, operations.execute(mesh_id, task, terms))


class AsyncAgent:
    """An agent of ours that runs."""

    def __init__(self, mesh: AsyncMeshOS, record: AgentRecord) -> None:
        self._mesh = mesh
        self.record = record

    def __repr__(self) -> str:
        return f"AsyncAgent({self.name!r}, {self.agentId})"

    @property
    def agentId(self) -> str:
        """Its id."""
        return self.record.agentId

    @property
    def name(self) -> str:
        """Its name."""
        return self.record.name

    async def collaborate_with(
        self,
        other: "AgentRecord | AsyncAgent",
        task: Mapping[str, Any],
        *,
        timeout: float = TASK_S,
        priority: int = 5,
        budget: str | None = None,
    ) -> Any:
        """Have ``other`` do ``task``, given as ``{type: value}`` or ``{"type", "data", "files"}``; its result. Raises if there is none."""
        record = other.record if isinstance(other, AsyncAgent) else other
        return await self._mesh._collaborate(record, task, Terms(timeout, priority, budget))

    async def undeploy(self) -> None:
        """End it."""
        await self._mesh.undeploy_agent(self.record)


class AsyncFederation:
    """Another organisation, whose agents do tasks for us."""

    def __init__(self, mesh: AsyncMeshOS, mesh_id: str) -> None:
        self._mesh = mesh
        self.meshId = mesh_id

    async def execute_task(self, task: Mapping[str, Any], *, timeout: float = TASK_S, priority: int = 5, budget: str | None = None) -> Any:
        """Have the organisation's agent that fits best do ``task``; its result. Raises if there is none."""
        return await self._mesh._execute(self.meshId, task, Terms(timeout, priority, budget))
