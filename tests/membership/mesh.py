"""A mesh in virtual time: the simulator's world, real cores, the real rpc machine and Flows, and membership on top."""

from collections.abc import Callable, Mapping, Sequence

from meshos.crypto.signing import Domain
from meshos.crypto.simulated import SimulatedSigner
from meshos.effects import Machine
from meshos.flow_machine import Flows
from meshos.ids import NodeId, OrgDid, Peer
from meshos.presets import LAN, Timing
from meshos.protocols.membership import events as ev
from meshos.protocols.membership.machine import Membership, Seed, domain
from meshos.protocols.membership.probing import PROBE_PROTOCOL
from meshos.protocols.membership.statements import NodeFacts
from meshos.protocols.membership.sync import PROTOCOL, services
from meshos.protocols.rpc.machine import Rpc
from meshos.simulations.authority import Authority
from meshos.simulations.network import NetworkFaults
from meshos.simulations.world import SimNode, Spec, World

DOMAIN: Domain = domain(bytes(32))


def org(number: int) -> OrgDid:
    return OrgDid(f"did:mesh:enterprise:org{number}")


def facts(node: NodeId, of: OrgDid) -> NodeFacts:
    return NodeFacts(of, f"name-of-{node}", f"{node}:1", f"{node}:2", "", "eu-west", "node", "0.1.0")


class Kernel:
    """Whoever is told of changes."""

    def __init__(self, told: list[object]) -> None:
        self._told = told

    def step(self, now: float, event: object) -> list[object]:
        self._told.append((now, event))
        return []

    def deadline(self) -> float | None:
        return None


class Mesh:
    """``nodes`` nodes of ``orgs`` organisations in turn; the first two are everybody's seeds."""

    def __init__(
        self,
        nodes: int,
        *,
        seed: int = 1,
        orgs: int = 4,
        timing: Timing = LAN,
        faults: NetworkFaults | None = None,
        start: bool = True,
        keep: bool = True,
    ) -> None:
        self.world = World(seed, faults)
        self.timing = timing
        self.authority = Authority(seed)
        width = len(str(nodes - 1))
        self.ids = [NodeId(f"n{number:0{width}}") for number in range(nodes)]
        self.org = {node: org(number % orgs) for number, node in enumerate(self.ids)}
        self.certified = {node: self.authority.issue(node, self.org[node]) for node in self.ids}
        self.seeds = [Seed(node, f"{node}:2") for node in self.ids[:2]]
        self.told: dict[NodeId, list[object]] = {node: [] for node in self.ids}
        self.keep = keep
        for node in self.ids:
            signer = SimulatedSigner(self.authority.secret, node)
            self.world.add(
                Spec(
                    node,
                    self.org[node],
                    self._build,
                    stores=("membership",),
                    signer=signer,
                    verifier=self.authority.verifier,
                    certificate=self.certified[node].certificate,
                    first=(("membership", ev.Started()),),
                )
            )
        if start:
            for node in self.ids:
                self.start(node)

    def _build(self, node: SimNode) -> Mapping[str, Machine]:
        def anybody(_: Peer) -> bool:
            return True

        rpc = Rpc(Peer(node.name, node.spec.org), {PROTOCOL: anybody, PROBE_PROTOCOL: anybody}, node.rng)
        membership = Membership(
            self.certified[node.name],
            facts(node.name, node.spec.org),
            domain=DOMAIN,
            timing=self.timing,
            seeds=self.seeds,
            rng=node.rng,
            view=node.views["membership"],
            subscribers=("kernel",) if self.keep else (),
        )
        flows = Flows(services(self.authority.verifier, DOMAIN, self.authority.check), limit=10_000)
        return {"membership": membership, "flows": flows, "rpc": rpc, "kernel": Kernel(self.told[node.name])}

    def start(self, node: NodeId) -> None:
        self.world.nodes[node].start()

    def crash(self, node: NodeId) -> None:
        self.world.nodes[node].crash()

    def machine(self, node: NodeId) -> Membership:
        machine = self.world.nodes[node].core.machine("membership")
        assert isinstance(machine, Membership)
        return machine

    def run(self, seconds: float) -> None:
        self.world.run(self.world.now + seconds)

    def run_until(self, holds: Callable[[], bool], within: float, step: float = 0.1) -> float:
        """Seconds until ``holds``; fails after ``within``."""
        began = self.world.now
        while not holds():
            assert self.world.now - began < within, f"not within {within} s: {self.summary()}"
            self.run(step)
        return self.world.now - began

    def living(self) -> list[NodeId]:
        return [node for node in self.ids if self.world.nodes[node].alive]

    def states(self, node: NodeId) -> dict[NodeId, str]:
        return {view.node_id: view.state for view in self.machine(node).members()}

    def converged(self) -> bool:
        """Every living node sees exactly the living ones alive and routable."""
        living = self.living()
        for node in living:
            seen = [view.node_id for view in self.machine(node).members() if view.state == "alive" and view.routable]
            if len(seen) != len(living) or set(seen) != set(living):
                return False
        return True

    def all_see(self, subject: NodeId, state: str, among: Sequence[NodeId] | None = None) -> bool:
        return all(self.states(node).get(subject) == state for node in (among or self.living()) if node != subject)

    def changes(self, node: NodeId) -> list[ev.MemberChanged]:
        return [event for _, event in self.told[node] if isinstance(event, ev.MemberChanged)]  # type: ignore[misc]

    def summary(self) -> str:
        return "; ".join(f"{node}: " + ",".join(f"{of}={state}" for of, state in self.states(node).items()) for node in self.living()[:6])

    def partition(self, *sides: Sequence[NodeId]) -> None:
        self.world.network.faults.partition([list(side) for side in sides])

    def heal(self) -> None:
        self.world.network.faults.heal()
