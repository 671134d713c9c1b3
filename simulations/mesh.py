"""Whole meshes for scenarios: nodes put together by the same assembly as in a process, with simulated keys, agents and model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from meshos import cbor
from meshos.consensus.org.commands import Agent, ListAgents
from meshos.consensus.org.machine import MACHINE as ORG
from meshos.consensus.org.queries import answer
from meshos.consensus.pbft.events import WallTime as LedgerWallTime
from meshos.consensus.raft.applying import founding
from meshos.consensus.raft.config import LAN as RAFT
from meshos.consensus.raft.config import Config as RaftConfig
from meshos.consensus.raft.events import WallTime
from meshos.crypto.signing import Domain
from meshos.effects import Machine
from meshos.flow_machine import Flows
from meshos.ids import AgentId, NodeId, OrgDid, Peer, org_did
from meshos.node.kernel.agents import LookAtAgents, StartAgent, StopAgent
from meshos.node.kernel.assembly import STORED, Assembly, Outside, any_linked, assemble
from meshos.node.kernel.payments import USUAL, Terms
from meshos.node.kernel.watch import MACHINE as KERNEL
from meshos.node.kernel.watch import Begin, Watch
from meshos.presets import Timing
from meshos.protocols.directory.commands import EntrySignature, IndexChanged, SignEntry
from meshos.protocols.directory.embedder import HashedEmbedder
from meshos.protocols.directory.record import domain as entry_domain
from meshos.protocols.ledger.port import LEDGER
from meshos.protocols.ledger.sender import MACHINE as TRANSACTIONS
from meshos.protocols.membership.events import Started
from meshos.protocols.membership.lane import MACHINE as LANE
from meshos.protocols.membership.lane import Lane
from meshos.protocols.membership.machine import Membership, Seed
from meshos.protocols.membership.machine import domain as membership_domain
from meshos.protocols.membership.probing import PROBE_PROTOCOL
from meshos.protocols.membership.reach import GOSSIP
from meshos.protocols.membership.statements import NodeFacts
from meshos.protocols.membership.sync import PROTOCOL as MEMBERSHIP
from meshos.protocols.membership.sync import services as membership_services
from meshos.protocols.rpc.casting import Listener
from meshos.protocols.rpc.machine import Rpc
from meshos.protocols.tasks.ports import CallTool, SignBytes
from meshos.protocols.tasks.tools import Tool
from meshos.simulations.agents import Agents
from meshos.simulations.authority import Authority
from meshos.simulations.genesis import simulated_genesis, vote_key
from meshos.simulations.pbft.liars import Liar, Plot
from meshos.simulations.run import node_ids
from meshos.simulations.world import Lasting, SimNode, Spec, World

CHECKPOINT_INTERVAL = 16
"""Blocks between checkpoints: few, so that a run meets some."""

WALL_S = 10.0
"""How often nodes are told the wall time."""
SEEDS = 3
"""The first nodes are everybody's seeds."""


TOOLS = (
    Tool("once", "does something that must not be done twice", cbor.encode({"type": "object"})),
    Tool("look", "only looks", cbor.encode({"type": "object"}), read_only=True),
)


class Mesh:
    """``count`` nodes, each the only one of its organisation or one of several where ``orgs`` is smaller: then the first of each founds its
    group, and takes the others up.
    """

    def __init__(
        self,
        world: World,
        count: int,
        *,
        timing: Timing,
        orgs: int | None = None,
        whole: bool,
        raft: RaftConfig = RAFT,
        terms: Terms = USUAL,
        people: bool = False,
        leaves: Sequence[NodeId] = (),
    ) -> None:
        """``leaves`` are nodes that nobody can dial."""
        self.world = world
        self.timing = timing
        self.raft, self.terms = raft, terms
        self.keep_blocks = world.generator("kept blocks").choice((None, 2, CHECKPOINT_INTERVAL))
        self.authority = Authority(world.seed)
        self.agents = Agents(world)
        self.ids = node_ids(count)
        self.org_of = {node: _org(number % (orgs or count)) for number, node in enumerate(self.ids)}
        self.holder = {org: node for node, org in reversed(self.org_of.items())}
        self.genesis = simulated_genesis(world.seed, self.holder if whole else {}, people=people)
        self.seeds = [Seed(node, f"{node}:2") for node in self.ids[:SEEDS]]
        self.leaves = frozenset(leaves)
        self.assemblies: dict[NodeId, Assembly] = {}
        self.built: Callable[[SimNode, Assembly], None] = lambda node, assembly: None
        """Is told of each life that begins, before its first step."""
        self.liars: frozenset[NodeId] = frozenset()
        """Nodes whose validators lie, from their next life on; all else of them is honest."""
        self._plot = Plot(world.generator("plot"))
        build: Callable[[SimNode], Mapping[str, Machine]] = self._whole if whole else self._membership_only
        for node in self.ids:
            world.add(
                Spec(
                    node,
                    self.org_of[node],
                    build,
                    stores=STORED if whole else ("membership",),
                    signer=self.authority.signer(node),
                    signers={LEDGER: self.authority.signer(vote_key(node))},
                    verifier=self.authority.verifier,
                    certificate=self.authority.issue(node, self.org_of[node]).certificate,
                    first=(("membership", Started()), (KERNEL, Begin())) if whole else (("membership", Started()),),
                    ports=self._ports(),
                    leaf=node in self.leaves,
                )
            )
            if whole:
                world.at(WALL_S, self._tell_time, node)
            if whole and self.holder[self.org_of[node]] == node:
                world.nodes[node].stores[ORG].write(founding([node]))

    def membership(self, node: NodeId) -> Membership:
        """The membership machine of a living node."""
        machine = self.world.nodes[node].core.machine("membership")
        assert isinstance(machine, Membership)
        return machine

    def living(self) -> list[NodeId]:
        """Those whose process runs."""
        return [node for node in self.ids if self.world.nodes[node].alive]

    def nodes_of(self, org: OrgDid) -> list[NodeId]:
        """All nodes of ``org``."""
        return [node for node in self.ids if self.org_of[node] == org]

    def deployed(self, node: NodeId) -> list[AgentId]:
        """The agents that are recorded in the state that ``node`` has."""
        found = answer(self.assemblies[node].org.replica.view(), ListAgents())
        assert isinstance(found, tuple)
        return [agent.agent for agent in found if isinstance(agent, Agent)]

    def _tell_time(self, node: NodeId) -> None:
        """As a process does now and then."""
        self.world.after(WALL_S, self._tell_time, node)
        wall_ms = self.world.nodes[node].wall_ms()
        self.world.nodes[node].deliver(ORG, WallTime(wall_ms))
        self.world.nodes[node].deliver(LEDGER, LedgerWallTime(wall_ms))
        self.world.nodes[node].deliver(TRANSACTIONS, LedgerWallTime(wall_ms))

    # -- building ----------------------------------------------------------------------------------------------------

    def _membership_only(self, node: SimNode) -> Mapping[str, Machine]:
        domain = membership_domain(self.genesis.hash)
        membership = Membership(
            self.authority.issue(node.name, node.spec.org),
            self._leafy(_facts(node)) if node.name in self.leaves else _facts(node),
            domain=domain,
            timing=self.timing,
            seeds=self.seeds,
            rng=node.rng,
            view=node.views["membership"],
            subscribers=(KERNEL,),
        )
        flows = Flows(membership_services(self.authority.verifier, domain, self.authority.check), limit=1000)
        allowed, listeners = {MEMBERSHIP: any_linked, PROBE_PROTOCOL: any_linked}, {GOSSIP: Listener(LANE, any_linked)}
        rpc = Rpc(Peer(node.name, node.spec.org), allowed, node.rng, listeners=listeners)
        lane = Lane(membership, self.authority.verifier)
        return {"membership": membership, LANE: lane, "flows": flows, "rpc": rpc, KERNEL: Watch()}

    def _leafy(self, facts: NodeFacts) -> NodeFacts:
        return replace(facts, gossip="", link="", anchors=tuple(seed.node for seed in self.seeds))

    def _whole(self, node: SimNode) -> Mapping[str, Machine]:
        assembly = assemble(
            Outside(
                certified=self.authority.issue(node.name, node.spec.org),
                facts=_facts(node),
                genesis=self.genesis,
                validator_key=vote_key(node.name),
                checkpoint_interval=CHECKPOINT_INTERVAL,
                keep_blocks=self.keep_blocks,
                timing=self.timing,
                seeds=self.seeds,
                verifier=self.authority.verifier,
                check_certificate=self.authority.check,
                org_of=self.authority.org_of,
                rng=node.rng,
                secret=node.rng.randbytes(32),
                views=node.views,
                now=node.now(),
                now_ms=node.wall_ms(),
                wall_ms=node.wall_ms,
                embedder=HashedEmbedder(),
                raft=self.raft,
                terms=self.terms,
            )
        )
        self.assemblies[node.name] = assembly
        self.built(node, assembly)
        node.handlers[IndexChanged] = assembly.shelf.changed
        return {**assembly.machines, **self._lying(node, assembly)} if node.name in self.liars else assembly.machines

    def _lying(self, node: SimNode, assembly: Assembly) -> Mapping[str, Machine]:
        """Its validator, with habits that it has all its lives."""
        signer, rng = self.authority.signer(vote_key(node.name)), self.world.generator(f"liar/{node.name}")
        return {LEDGER: Liar(assembly.ledger, signer, rng, self._plot, self.ids)}

    def _ports(self) -> dict[type, Callable[[SimNode, Any], object]]:
        return {
            CallTool: self.agents.call,
            SignBytes: lambda node, effect: self._lasting(lambda: self._sign(node, effect.domain, effect.payload)),
            SignEntry: lambda node, effect: self._lasting(lambda: self._sign_entry(node, effect)),
            StartAgent: self._start_agent,
            StopAgent: self.agents.stop,
            LookAtAgents: lambda node, effect: (),
        }

    def _start_agent(self, node: SimNode, effect: StartAgent) -> Lasting:
        """A program takes its time to start; what ran before goes on until then."""

        def ended() -> tuple[Tool, ...]:
            self.agents.start(node, effect.agent)
            return TOOLS

        return Lasting(self.agents.start_s(), ended, left=lambda: None)

    def _lasting(self, sign: Callable[[], object]) -> Lasting:
        return Lasting(self.world.sign_s(), sign, left=lambda: None)

    def _sign_entry(self, node: SimNode, effect: SignEntry) -> EntrySignature:
        certificate = self.authority.issue(node.name, node.spec.org).certificate
        return EntrySignature(node.name, self._sign(node, entry_domain(self.genesis.hash), effect.body), certificate)

    def _sign(self, node: SimNode, domain: Domain, payload: bytes) -> bytes:
        return self.authority.signer(node.name).sign(domain, payload)


def _org(number: int) -> OrgDid:
    return org_did("enterprise", f"org{number + 1:03d}")


def _facts(node: SimNode) -> NodeFacts:
    return NodeFacts(node.spec.org, node.name, f"{node.name}:1", f"{node.name}:2", "", "local", "node", "0")
