"""The nodes that agree: how each is built, how their casts travel, and who of them lies.

Each organisation has one node, but the first, which has two, so that a seat can be handed over. Some nodes have a seat at the
beginning, the others follow. What a node casts goes as a datagram, which is harsher than a link: it is lost, doubled, overtaken.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from meshos.consensus.pbft.config import Config, Timing
from meshos.consensus.pbft.events import WallTime
from meshos.consensus.pbft.quorum import faults
from meshos.consensus.pbft.replica import Replica
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.crypto.signing import Domain, Signer
from meshos.crypto.simulated import SimulatedSigner, SimulatedVerifier, SimulatedWorld
from meshos.effects import Cast, Completed, Heard, Machine
from meshos.flow import Propose
from meshos.flow_machine import Perform
from meshos.ids import NodeId, OrgDid
from meshos.node.kernel.core import OUTSIDE
from meshos.simulations.pbft.liars import Liar, Plot
from meshos.simulations.pbft.toy import PREFIX, Toy, root_of, seat
from meshos.simulations.run import node_ids
from meshos.simulations.world import WALL_BEGIN_MS, SimNode, Spec, World
from meshos.storage.store import View

MACHINE = "pbft"
GENESIS = bytes(32)
liars_of = faults
"""How many of n validators lie at most."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A cast on its way out."""

    cast: Cast


class Wire:
    """The machine "rpc" of these nodes."""

    def step(self, now: float, event: object) -> list[object]:
        """See ``meshos.effects.Machine``."""
        assert isinstance(event, Cast)
        return [Packet(event)]

    def deadline(self) -> float | None:
        """It waits for nothing."""
        return None


class Watched:
    """The signer of an honest validator; ``look`` sees what it really signs."""

    def __init__(self, inner: Signer, look: Callable[[str, Domain, bytes], None]) -> None:
        self._inner = inner
        self._look = look

    @property
    def name(self) -> str:
        """See ``Signer``."""
        return self._inner.name

    def sign(self, domain: Domain, payload: bytes) -> bytes:
        """See ``Signer``."""
        self._look(self.name, domain, payload)
        return self._inner.sign(domain, payload)


class Group:
    """``count`` nodes; ``looked`` is told of each honest signature. ``full``: each organisation has a seat, and f of them lie; else it is
    as the seed says.
    """

    def __init__(self, world: World, count: int, *, full: bool = False) -> None:
        self.world = world
        self.rng = rng = world.generator("group")
        self.ids = node_ids(count)
        self.secret = SimulatedWorld(world.seed)
        self.verifier = SimulatedVerifier(self.secret)
        self.looked: list[Callable[[str, Domain, bytes], None]] = []
        self.orgs = {node: OrgDid(f"did:mesh:enterprise:o{number:03d}") for number, node in enumerate(self.ids, 1)}
        if count > 5:
            self.orgs[self.ids[-1]] = self.orgs[self.ids[0]]  # the second node of the first organisation
        single = [node for node in self.ids if node != self.ids[-1]] if count > 5 else self.ids
        self.fewest = len(single) if full else min(4, len(single))
        """So many seats there are at least, whichever change."""
        seated = single[: rng.randint(self.fewest, len(single))]
        self.genesis = ValidatorSet(0, tuple(sorted((seat(self.orgs[node], node) for node in seated), key=lambda entry: entry.org)))
        most = liars_of(len(seated))
        lying = rng.sample(seated, k=most if full else rng.choice((0, most, most)))
        if lying and seated[0] not in lying and rng.random() < 0.5:
            lying[0] = seated[0]  # who leads first
        self.liars = set(lying)
        self.suspects = set(self.liars)  # those that count among the f
        self.forgetful: NodeId | None = None  # whose disk is put back to an old copy
        if not self.liars and most and rng.random() < 0.7:
            self.forgetful = rng.choice(seated)
            self.suspects.add(self.forgetful)
        self.plot = Plot(rng)
        world.network.faults.latency_s = rng.choice(((0.0002, 0.002), (0.005, 0.05), (0.02, 0.1)))
        world.disk_range_s = rng.choice(((0.0001, 0.001), (0.002, 0.03)))
        interval = rng.choice((4, 8, 8, 16))
        self.timing = Timing(max_patience_ms=4_000)
        self.config = Config(
            NodeId(""),
            "",
            GENESIS,
            WALL_BEGIN_MS,
            self.genesis,
            self.timing,
            checkpoint_interval=interval,
            batch_requests=rng.choice((1, 4, 64)),
            keep_blocks=rng.choice((None, 2, interval)),
            transfer_blocks=rng.choice((interval, 4 * interval)),
        )
        self.replicas: dict[NodeId, Replica] = {}
        self._waiting: dict[int, Callable[[object], None]] = {}
        self._ops = 0
        for node in self.ids:
            inner: Signer = SimulatedSigner(self.secret, node)
            signer = inner if node in self.liars else Watched(inner, self._look)
            world.add(Spec(node, self.orgs[node], self._build, stores=(MACHINE,), signer=signer, verifier=self.verifier))
        world.noticed = self._noticed
        world.at(1.0, self._tell_time)

    @property
    def honest(self) -> list[NodeId]:
        """The nodes that do not lie."""
        return [node for node in self.ids if node not in self.liars]

    def living(self) -> list[NodeId]:
        """The honest ones whose process runs."""
        return [node for node in self.honest if self.world.nodes[node].alive]

    def toy(self) -> Toy:
        """A new application."""
        return Toy(GENESIS, self.genesis)

    def toy_root(self, view: View) -> bytes:
        """Of the state in ``view``."""
        return root_of(dict(view.scan(PREFIX)))

    def _build(self, node: SimNode) -> Mapping[str, Machine]:
        toy = self.toy()
        config = replace(self.config, node=node.name, key=str(node.name))
        view = node.views[MACHINE]
        replica = Replica(config, toy, view, self.verifier, now=node.now(), wall_ms=node.wall_ms(), listeners=(OUTSIDE,))
        toy.sets = replica.core.validators_of
        self.replicas[node.name] = replica
        node.handlers[Packet] = lambda packet: self._send(node, packet.cast)
        machine: Machine = replica
        if node.name in self.liars:
            machine = Liar(replica, SimulatedSigner(self.secret, node.name), node.rng, self.plot, self.ids)
            machine.visited = self.world.visited
        return {MACHINE: machine, "rpc": Wire()}

    def _look(self, name: str, domain: Domain, payload: bytes) -> None:
        for look in self.looked:
            look(name, domain, payload)

    def _send(self, node: SimNode, cast: Cast) -> None:
        world = self.world
        target = world.nodes.get(cast.to)
        if target is not None:
            heard = Heard(world.peer(node.name), cast.protocol, cast.body)
            for delay in world.network.datagram(node.name, cast.to, world.now):
                world.after(delay, target.deliver, MACHINE, heard)

    def _tell_time(self) -> None:
        """Each node looks at its wall clock now and then, as a process does."""
        self.world.after(1.0, self._tell_time)
        for node in self.world.nodes.values():
            node.deliver(MACHINE, WallTime(node.wall_ms()))

    def ask(self, node: NodeId, command: object, ended: Callable[[object], None]) -> int:
        """Put ``command`` to a living node; ``ended`` hears the outcome, if there is one."""
        self._ops += 1
        self._waiting[self._ops] = ended
        self.world.nodes[node].deliver(MACHINE, Perform(self._ops, Propose(command), None, OUTSIDE))
        return self._ops

    def _noticed(self, node: SimNode, effect: object) -> None:
        if isinstance(effect, Completed):
            ended = self._waiting.pop(effect.op, None)
            if ended is not None:
                ended(effect.outcome)
