"""Deploying, withdrawing and starting again: Flows over the agent's host, the organisation's state, and the directory.

The order is chosen by what a crash in between leaves behind. A deployment starts the agent first (only its own server knows its
tools), then records it for the organisation, then publishes: what is found runs, and what is recorded is published again at the next
start. A withdrawal records first, then takes the record out of the directory, then stops the process.
"""

from collections.abc import Callable
from dataclasses import dataclass

from meshos.consensus.org.commands import Agent, DeployAgent, GetAgent, ListAgents, WithdrawAgent
from meshos.consensus.org.commands import Tool as HostedTool
from meshos.errors import MeshError, Refused
from meshos.flow import Compute, Gather, Port, Propose
from meshos.ids import AgentId, NodeId, Peer, agent_id
from meshos.protocols.directory.commands import EntrySignature, Find, Held, Merged, Publish, SignEntry, Withdraw
from meshos.protocols.directory.embedder import Embedder
from meshos.protocols.directory.profile import Profile, checked
from meshos.protocols.directory.record import AgentRecord, Entry, Sealed, Tombstone, body_of, packed, parse, seal
from meshos.protocols.tasks.agent_file import AgentFile, parse_canonical
from meshos.protocols.tasks.tools import Tool

PAGE = 100
EMBED_COST_S = 0.015
"""What the simulator charges for one text; measured at 10 to 16 ms (FACTS)."""


@dataclass(frozen=True, slots=True)
class StartAgent:
    """A port's work: run ``file``'s agent from ``folder``. Gives tuple[Tool, …], empty where ``must_start`` is False."""

    agent: AgentId
    file: AgentFile
    folder: str
    must_start: bool


@dataclass(frozen=True, slots=True)
class StopAgent:
    """A port's work: end the agent's processes; gives None when nothing is left of them."""

    agent: AgentId


@dataclass(frozen=True, slots=True)
class DeployAsked:
    """``by`` wants this agent file to run; ``canonical`` is its canonical form."""

    file: AgentFile
    canonical: bytes
    folder: str
    by: str


@dataclass(frozen=True, slots=True)
class UndeployAsked:
    """``by`` wants the agent gone."""

    agent: AgentId
    by: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a deployment gives."""

    agent: Agent
    record: Sealed


class AgentFlows:
    """The Flows of one node. ``holder`` is the node that holds the organisation's state; ``wall_ms`` the wall clock."""

    def __init__(self, me: Peer, *, holder: NodeId, embedder: Embedder, wall_ms: Callable[[], int]) -> None:
        self._me = me
        self._holder = holder
        self._embedder = embedder
        self._wall_ms = wall_ms

    async def deploy(self, asked: DeployAsked) -> Deployment:
        """Start it, record it, publish it; deploying a name again raises its version and replaces what runs."""
        self._must_hold()
        agent = agent_id(self._me.org, asked.file.name)
        before = await self._recorded(agent)
        version = await self._next_version(agent, before)
        tools = await Port[tuple[Tool, ...]](StartAgent(agent, asked.file, asked.folder, must_start=True))
        try:
            sealed = await self._sealed(_profile(asked.file, tools), version)
            recorded = await Propose[Agent](
                DeployAgent(
                    agent,
                    asked.file.name,
                    version,
                    asked.canonical,
                    asked.folder,
                    sealed.to_bytes(),
                    tuple(HostedTool(tool.name, tool.read_only or tool.idempotent) for tool in tools),
                    asked.file.pricing.per_query,
                    asked.by,
                )
            )
        except MeshError:
            await self._put_back(agent, before)
            raise
        await _published(Publish((sealed,)))
        return Deployment(recorded, sealed)

    async def undeploy(self, asked: UndeployAsked) -> Agent:
        """Take it away; raises Refused ``agent-unknown``."""
        self._must_hold()
        before = await self._recorded(asked.agent)
        if before is None:
            raise Refused("agent-unknown", f"no agent {asked.agent[:80]!r} is deployed here", hint="`mesh agents` lists those that are")
        version = await self._next_version(asked.agent, before)
        tombstone = await self._signed(Tombstone(self._me.org, before.name, version, self._wall_ms()))
        gone = await Propose[Agent](WithdrawAgent(asked.agent, version, tombstone.to_bytes(), asked.by))
        await _published(Withdraw((tombstone,)))
        await Port[None](StopAgent(asked.agent))
        return gone

    async def start_all(self) -> None:
        """After a restart: run what is recorded, and publish what the crash may have kept from being published."""
        if self._holder != self._me.node:
            return
        after = ""
        while True:
            page = await Propose[tuple[Agent, ...]](ListAgents(after, PAGE))
            if not page:
                return
            await Gather(*(self._start_again(agent) for agent in page), each=True)
            after = page[-1].agent

    # -- parts -------------------------------------------------------------------------------------------------------

    def _must_hold(self) -> None:
        if self._holder != self._me.node:
            raise Refused(
                "not-holder",
                f"{self._holder} holds this organisation's state until its nodes can agree among themselves",
                hint="ask that node: --node with its API's address",
            )

    async def _recorded(self, agent: AgentId) -> Agent | None:
        try:
            found = await Propose[Agent](GetAgent(agent))
        except Refused:
            return None
        return None if found.withdrawn else found

    async def _next_version(self, agent: AgentId, before: Agent | None) -> int:
        """Above whatever this organisation or anybody who holds its records has seen, also after this node lost its disk."""
        (held,) = await Propose[tuple[Held | None, ...]](Find((agent,)), to="directory")
        try:
            recorded = (await Propose[Agent](GetAgent(agent))).version if before is None else before.version
        except Refused:
            recorded = 0
        return max(recorded, held.version if held is not None else 0) + 1

    async def _sealed(self, profile: Profile, version: int) -> Sealed:
        checked(profile)
        vectors = await Compute(lambda: self._embedder.embed([profile.text()]), cost_s=EMBED_COST_S)
        return await self._signed(AgentRecord(self._me.org, profile, version, self._wall_ms(), self._embedder.name, packed(vectors[0])))

    async def _signed(self, entry: Entry) -> Sealed:
        signature = await Port[EntrySignature](SignEntry(body_of(entry)))
        return seal(entry, signature.signer, signature.signature, signature.proof)

    async def _put_back(self, agent: AgentId, before: Agent | None) -> None:
        """What ran before the attempt runs again; nothing, if nothing did."""
        if before is None:
            await Port[None](StopAgent(agent))
        else:
            await Port[object](StartAgent(agent, parse_canonical(before.agent_file), before.folder, must_start=False))

    async def _start_again(self, agent: Agent) -> None:
        file = parse_canonical(agent.agent_file)
        try:
            await Port[object](StartAgent(agent.agent, file, agent.folder, must_start=True))
        except MeshError:
            await Port[object](StartAgent(agent.agent, file, agent.folder, must_start=False))  # tried again with growing pauses
        await Propose[Merged](Publish((parse(agent.record),)), to="directory")


async def _published(command: Publish | Withdraw) -> None:
    merged = await Propose[Merged](command, to="directory")
    for _, error in merged.refused:
        raise error


def _profile(file: AgentFile, tools: tuple[Tool, ...]) -> Profile:
    return Profile(
        name=file.name,
        description=file.description,
        capabilities=file.capabilities,
        specializations=file.specializations,
        models=file.models,
        certifications=file.certifications,
        per_query=file.pricing.per_query,
        per_hour=file.pricing.per_hour,
        region=file.region,
        tasks=tools,
    )
