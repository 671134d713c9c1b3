"""Deploying, withdrawing and starting again: Flows over the agent's host, the organisation's state, and the directory.

The order is chosen by what a crash in between leaves behind. A deployment starts the agent first (only its own server knows its
tools), then records it for the organisation, then publishes: what is found runs, and what is recorded is published again at the next
start. A withdrawal records first, then takes the record out of the directory, then stops the process; a tombstone that is recorded is
published again at the next start too.

Agents run on the node that leads their organisation. One that comes to lead first has its lead recorded, so that nothing comes in after
that in an earlier leader's name, then runs what is recorded (``run_all``); one that leads no more ends what it runs. What a leader
records carries its term: of two that take themselves for the leader the later one counts.

One Flow at a time changes an agent. A Flow that is cancelled on the way (its deadline has passed) can await nothing any more, so that
it leaves the agent in ``_stray``. What is recorded of each stray is made true again by the next deployment or withdrawal before it
does anything else, or by ``keep_tidy``, whichever comes first. That also tries again what a new leader could not start, and publishes
what runs and is not in the directory, which had no room for it or has let it lapse.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from meshos.consensus.org.commands import Agent, DeployAgent, GetAgent, ListAgents, PlaceAgent, Placement, RecordLead, WithdrawAgent
from meshos.consensus.org.commands import Tool as HostedTool
from meshos.consensus.org.machine import Lead, leads_not
from meshos.effects import Err, Outcome
from meshos.errors import MeshError, Refused
from meshos.flow import Compute, Flow, Gather, Port, Propose, Sleep
from meshos.ids import AgentId, NodeId, Peer, agent_id
from meshos.protocols.directory.commands import EntrySignature, Find, Held, Merged, Publish, SignEntry, Withdraw
from meshos.protocols.directory.embedder import Embedder
from meshos.protocols.directory.newest import Newest
from meshos.protocols.directory.profile import Profile, checked
from meshos.protocols.directory.record import AgentRecord, Entry, Sealed, body_of, buried, described, parse, seal
from meshos.protocols.leader.wire import AgentProcesses
from meshos.protocols.tasks.agent_file import AgentFile, parse_canonical
from meshos.protocols.tasks.tools import Tool

PAGE = 100
TIDY_S = 10.0
"""How long what a cancelled Flow left running may run while nobody deploys anything; looking costs an idle node nothing to speak of."""
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
class LookAtAgents:
    """A port's work, done at once: how the processes of this node's agents do; gives tuple[AgentProcesses, …]."""


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
    """What a deployment gives. ``ready`` of its processes serve by now, on ``node``."""

    record: Sealed
    node: NodeId
    ready: int


class AgentFlows:
    """The Flows of one node. ``office`` knows who leads its organisation; ``wall_ms`` the wall clock; ``above`` which version of an
    agent's record the ledger has, or what it takes no version of an agent for that is not above it; ``newest`` what the mesh has of agents.
    """

    def __init__(
        self,
        me: Peer,
        *,
        office: Lead,
        embedder: Embedder,
        wall_ms: Callable[[], int],
        newest: Callable[[Sequence[AgentId]], Flow[list[Newest]]],
        above: Callable[[AgentId], int] = lambda agent: 0,
    ) -> None:
        self._me = me
        self._office = office
        self._embedder = embedder
        self._wall_ms = wall_ms
        self._newest = newest
        self._above = above
        self._changing: set[AgentId] = set()
        self._running: dict[AgentId, int] = {}  # what this node has started and not ended, and in which version (0: of a try)
        self._ran = 0  # the term in which it has last tried to start all that is recorded
        self._failed = False  # something of it could not be started
        self._starting = 0  # how many Flows do that now
        self._stray: set[AgentId] = set()  # what runs of them may not be what is recorded; of Flows that were cancelled, so there are few

    async def deploy(self, asked: DeployAsked) -> Deployment:
        """Start it, record it, publish it; deploying a name again raises its version and replaces what runs.

        Raises Refused ``agent-changing`` while another Flow changes it.
        """
        term = self._must_lead()
        await self._tidy()
        agent = agent_id(self._me.org, asked.file.name)
        with self._alone(agent):
            version, last = await self._next_version(agent, await _recorded(agent))
            self._stray.add(agent)
            try:
                tools = await Port[tuple[Tool, ...]](StartAgent(agent, asked.file, asked.folder, must_start=True))
                self._running[agent] = version
            except MeshError:
                self._stray.discard(agent)  # the host keeps what ran before
                raise
            try:
                sealed = await self._sealed(_profile(asked.file, tools), version, last)
                await Propose[Agent](_command(asked, version, sealed, tools, Placement(agent, self._me.node, term)))
            except MeshError:
                await self._settle(agent)
                raise
            try:
                await _published(Publish((sealed,)))
            except MeshError as error:
                self._stray.discard(agent)  # it runs as it is recorded, and whoever deploys hears that it is not published
                raise _done(error, "it runs all the same, and is published as soon as the directory takes it") from error
            self._stray.discard(agent)
            return Deployment(sealed, self._me.node, await _ready(agent))

    async def undeploy(self, asked: UndeployAsked) -> Agent:
        """Take it away; raises Refused ``agent-unknown``, and ``agent-changing`` while another Flow changes it."""
        term = self._must_lead()
        await self._tidy()
        agent = asked.agent
        with self._alone(agent):
            before = await _recorded(agent)
            if before is None or before.withdrawn:
                raise Refused("agent-unknown", f"no agent {agent[:80]!r} is deployed here", hint="`mesh agents` lists those that are")
            version, entry = await self._next_version(agent, before)
            last = parse(before.record).entry if entry is None else entry
            tombstone = await self._signed(buried(self._me.org, before.name, version, self._wall_ms(), last))
            self._stray.add(agent)
            try:
                gone = await Propose[Agent](WithdrawAgent(agent, version, tombstone.to_bytes(), asked.by, term))
            except Refused:
                self._stray.discard(agent)
                raise
            try:
                await _published(Withdraw((tombstone,)))
                await self._stop(agent)
            except MeshError as error:
                raise _done(error) from error  # it is recorded, and the rest is done by ``keep_tidy``
            self._stray.discard(agent)
            return gone

    async def run_all(self, term: int) -> None:
        """This node has come to lead in ``term``: run what is recorded, and publish what a crash may have kept from being published.

        Everything is tried; then the first error is raised. Refused ``stale-term`` where a later leader has taken over.
        """
        self._starting += 1
        try:
            failed = await self._run_all(term)
        finally:
            self._starting -= 1
        self._ran, self._failed = term, bool(failed)
        if failed:
            raise failed[0].error

    async def _run_all(self, term: int) -> list[Err]:
        await Propose[None](RecordLead(self._me.node, term))
        after, failed = "", list[Err]()
        while page := await Propose[tuple[Agent, ...]](ListAgents(after, PAGE, withdrawn=True)):
            living = (self._start_again(agent.agent, term) for agent in page if not agent.withdrawn)
            outcomes: list[Outcome[None]] = await Gather(_bury_again(page), *living, each=True)
            failed += (outcome for outcome in outcomes if isinstance(outcome, Err))
            after = page[-1].agent
        return failed

    async def keep_tidy(self, _: object) -> None:
        """Settle what cancelled Flows leave behind, start what could not be started, and publish what is not in the directory, for as long
        as the node lives."""
        while True:
            await Sleep(TIDY_S)
            lead = self._office.lead
            if lead is None:
                await self.end_all(None)
                continue
            await self._tidy()
            if not self._starting and (lead != self._ran or self._failed):
                try:
                    await self.run_all(lead)
                except MeshError:
                    continue  # told when it failed first; it is tried again
            await self._publish_missing()

    async def end_all(self, _: object) -> None:
        """This node leads no more: end what it runs, unless it leads again by now. What cannot be ended is tried again."""
        for agent in sorted(self._running.keys() - self._changing):
            if self._office.lead is not None or agent in self._changing:
                continue
            with self._alone(agent):
                try:
                    await self._stop(agent)
                except MeshError:
                    continue  # ``keep_tidy`` tries it again
                self._stray.discard(agent)

    def serves(self, agent: AgentId) -> bool:
        """Whether calls of ``agent`` can be tried: not while this node, which leads since a moment ago, has still to start it."""
        return bool(self._running.get(agent)) or (self._ran == self._office.lead and agent not in self._changing)

    # -- parts -------------------------------------------------------------------------------------------------------

    def _must_lead(self) -> int:
        """The term of this node's lead."""
        lead = self._office.lead
        if lead is None:
            raise leads_not()
        return lead

    async def _stop(self, agent: AgentId) -> None:
        await Port[None](StopAgent(agent))
        self._running.pop(agent, None)

    @contextmanager
    def _alone(self, agent: AgentId) -> Iterator[None]:
        if agent in self._changing:
            raise Refused("agent-changing", f"{agent[:80]!r} is being deployed, started or withdrawn", hint="try again in a moment")
        self._changing.add(agent)
        try:
            yield
        finally:
            self._changing.discard(agent)

    async def _tidy(self) -> None:
        """Settle what cancelled Flows have left behind."""
        for agent in sorted(self._stray - self._changing):
            if agent in self._changing:
                continue  # another Flow came first while this one settled the one before
            with self._alone(agent):
                try:
                    await self._settle(agent)
                except MeshError:
                    continue  # it stays a stray for the next Flow; this one is about another agent

    async def _settle(self, agent: AgentId) -> None:
        """What is recorded now, by whomever, is what runs and is published; nothing, if nothing is. Nothing runs where nobody leads."""
        if self._office.lead is None:
            await self._stop(agent)
            self._stray.discard(agent)
            return
        found = await _recorded(agent)
        if found is not None:
            # A refusal of the directory has been told to whoever deployed it; here only the process is to be mended.
            await Propose[Merged](Publish((parse(found.record),)), to="directory")
        if found is None or found.withdrawn:
            await self._stop(agent)
        else:
            await Port[object](StartAgent(agent, parse_canonical(found.agent_file), found.folder, must_start=False))
            self._running[agent] = found.version
        self._stray.discard(agent)

    async def _publish_missing(self) -> None:
        """Publish what runs here and is in no directory: whoever deployed it was told so, and has maybe made room since."""
        running = [agent for agent, version in sorted(self._running.items()) if version and agent not in self._stray]
        for start in range(0, len(running), PAGE):
            some = tuple(running[start : start + PAGE])
            held = await Propose[tuple[Held | None, ...]](Find(some), to="directory")
            for agent, one in zip(some, held, strict=True):
                if (one is None or one.sealed is None) and agent not in self._changing and self._office.lead is not None:
                    with self._alone(agent):
                        try:
                            await self._publish_again(agent)
                        except MeshError:
                            continue  # there is no room yet, or nobody knows its version: it is tried again

    async def _publish_again(self, agent: AgentId) -> None:
        found = await _recorded(agent)
        if found is not None and not found.withdrawn:
            await _published_again(Publish((await self._vouched(agent, found),)))

    async def _next_version(self, agent: AgentId, before: Agent | None) -> tuple[int, Entry | None]:
        """Above whatever this organisation, the ledger or anybody who holds its records has seen, also after this node lost its disk; and
        the entry that it replaces. Where nobody who would know can be reached, what this node knows has to do.
        """
        (known,) = await self._newest((agent,))
        return max(0 if before is None else before.version, known.version, self._above(agent)) + 1, known.entry

    async def _sealed(self, profile: Profile, version: int, last: Entry | None) -> Sealed:
        checked(profile)
        (read,) = await Compute(lambda: self._embedder.read([profile.text()]), cost_s=EMBED_COST_S)
        return await self._signed(described(self._me.org, profile, version, self._wall_ms(), self._embedder.name, read, last))

    async def _signed(self, entry: Entry) -> Sealed:
        signature = await Port[EntrySignature](SignEntry(body_of(entry)))
        return seal(entry, signature.signer, signature.signature, signature.proof)

    async def _start_again(self, agent: AgentId, term: int) -> None:
        if agent in self._changing:
            return  # whoever deploys or withdraws it now leaves it as it should be
        with self._alone(agent):
            found = await _recorded(agent)
            if found is None or found.withdrawn:
                return  # since the page was read
            file = parse_canonical(found.agent_file)
            await Propose[None](PlaceAgent(agent, self._me.node, term))  # first: another may lead already, and run it
            if self._running.get(agent) != found.version:
                self._running[agent] = 0
                try:
                    await Port[object](StartAgent(agent, file, found.folder, must_start=True))
                except MeshError:
                    await Port[object](StartAgent(agent, file, found.folder, must_start=False))  # tried again with growing pauses
                self._running[agent] = found.version
            await _published_again(Publish((await self._vouched(agent, found),)))

    async def _vouched(self, agent: AgentId, found: Agent) -> Sealed:
        """The agent's record, as this node publishes it: signed anew where another node has signed the one that the directory holds, since
        only who signed a record renews it, and what a revoked node has signed counts for nothing; or where that has lapsed, as a version
        that has comes in no more.
        """
        (known,) = await self._newest((agent,))
        recorded = parse(found.record)
        signer = recorded.signer if known.sealed is None else known.sealed.signer
        lapsed = known.sealed is None and known.version >= recorded.entry.version
        if (signer == self._me.node and not lapsed) or not isinstance(recorded.entry, AgentRecord):
            return recorded
        version, _ = await self._next_version(agent, found)
        return await self._signed(replace(recorded.entry, version=version))


async def _recorded(agent: AgentId) -> Agent | None:
    """What the organisation's state says of it, also when it was withdrawn."""
    try:
        return await Propose[Agent](GetAgent(agent))
    except Refused as error:
        if error.name != "agent-unknown":
            raise
        return None


async def _bury_again(page: tuple[Agent, ...]) -> None:
    """A crash may have come between the record of a withdrawal and its publication: without this the directory would renew a ghost."""
    tombstones = tuple(parse(agent.record) for agent in page if agent.withdrawn)
    if tombstones:
        await _published_again(Withdraw(tombstones))


async def _published(command: Publish | Withdraw) -> None:
    merged = await Propose[Merged](command, to="directory")
    for _, error in merged.refused:
        raise error


async def _published_again(command: Publish | Withdraw) -> None:
    """As ``_published``; that the directory holds a later version (a renewal, a publication of the name since) is no error, nor that it has
    let go of what a node had buried that is revoked by now.
    """
    merged = await Propose[Merged](command, to="directory")
    for _, error in merged.refused:
        if error.name not in ("old-version", "certificate-revoked"):
            raise error


def _done(error: MeshError, what: str = "it is recorded all the same") -> MeshError:
    """``error`` came after what counts was recorded."""
    return type(error)(error.name, f"{error.detail}; {what}", hint=error.hint, outcome="done")


async def processes() -> tuple[AgentProcesses, ...]:
    """How the processes of this node's agents do."""
    return await Port[tuple[AgentProcesses, ...]](LookAtAgents())


async def _ready(agent: AgentId) -> int:
    return sum(one.ready for one in await processes() if one.agent == agent)


def _command(asked: DeployAsked, version: int, sealed: Sealed, tools: tuple[Tool, ...], placed: Placement) -> DeployAgent:
    return DeployAgent(
        placed.agent,
        asked.file.name,
        version,
        asked.canonical,
        asked.folder,
        sealed.to_bytes(),
        tuple(HostedTool(tool.name, tool.read_only or tool.idempotent) for tool in tools),
        asked.file.pricing.per_query,
        asked.by,
        placed.node,
        placed.term,
    )


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
