"""Replicas without a driver: each is stepped by hand, and what it wants done is done here, or waits for its disk.

A step that persists something keeps back all that it says, until the disk is synced, as a node's driver does; but the node goes on.
What must hold at each step (``laws.py``) is looked at here.
"""

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from meshos.consensus.pbft.config import Config, Timing
from meshos.consensus.pbft.events import Committed, Decided, Noticed, WallTime
from meshos.consensus.pbft.records import ViewRecord
from meshos.consensus.pbft.replica import Replica
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.crypto.signing import Domain
from meshos.crypto.simulated import SimulatedSigner, SimulatedVerifier, SimulatedWorld
from meshos.effects import Ahead, Cast, Completed, Machine, Ok, Persist, Sign, Signed, Tell, Write, WriteBack
from meshos.errors import Broken
from meshos.flow import Compute
from meshos.flow_machine import Perform
from meshos.ids import NodeId, OrgDid
from meshos.node.kernel.core import OUTSIDE
from meshos.simulations.pbft import group as group_of
from meshos.simulations.pbft.group import GENESIS
from meshos.simulations.pbft.laws import Reference, Signatures, unsafe
from meshos.simulations.pbft.liars import Plot
from meshos.simulations.pbft.puppets import Puppet
from meshos.simulations.pbft.toy import PREFIX, Toy, root_of, seat
from meshos.simulations.world import WALL_BEGIN_MS, World
from meshos.storage.memory import MemoryStore
from meshos.storage.overlay import Overlay

CLIENTS = ("c0", "c1", "c2")
LETTERS = 24
"""On their way at most, for each node: what is too much is lost, at random."""
TIMING = Timing(patience_ms=1_000, max_patience_ms=1_000, resend_ms=900, relay_ms=900, follow_ms=1_000)
"""Nobody waits here, so patience is the same whatever was in vain, and little is said again before it ends."""


@dataclass(slots=True)
class Server:
    """One node: its replica, its clock, its disk, and what waits for the disk or for a signature."""

    machine: Machine
    replica: Replica
    store: MemoryStore
    view: Overlay
    now: float = 0.0
    dirty: bool = False  # whether something that was persisted is not synced yet
    held: list[object] = field(default_factory=list)
    signing: list[Sign] = field(default_factory=list)
    base: int = 0
    record: ViewRecord | None = None


@dataclass(slots=True)
class Copy:
    """An old copy of a disk; ``witnesses``: who remembers newer votes of its node than it does, and of which epoch."""

    writes: tuple[Write, ...] = ()
    witnesses: dict[NodeId, int] = field(default_factory=dict)


Observe = Callable[[NodeId, object, list[object]], None]


class Fleet:
    """``count`` nodes, of which some are validators."""

    def __init__(self, world: World, ids: Sequence[NodeId], observe: Observe) -> None:
        self.rng = rng = world.generator("storm")
        self.ids = ids
        self._observe = observe
        self.secret = SimulatedWorld(world.seed)
        self.verifier = SimulatedVerifier(self.secret)
        self.orgs = {node: OrgDid(f"did:mesh:enterprise:o{number:03d}") for number, node in enumerate(ids, 1)}
        seated = list(ids[: 7 if len(ids) >= 7 and rng.random() < 0.5 else 4])
        genesis = self._set_of(seated)
        most = group_of.liars_of(len(seated))
        lying = rng.sample(seated, k=rng.choice((most, most, most, 0)))
        if lying and rng.random() < 0.7:
            first = seated[rng.choice((0, 1, 1))]  # who leads the first or second view
            lying = [first, *(node for node in lying if node != first)][: len(lying)]
        self.liars = set(lying)
        self.forgetful = rng.choice(seated) if most and not lying else None
        self.copy = Copy()
        self.plot = Plot(rng)
        interval = rng.choice((2, 2, 3, 6))
        self.config = Config(
            NodeId(""),
            "",
            GENESIS,
            WALL_BEGIN_MS,
            genesis,
            TIMING,
            checkpoint_interval=interval,
            batch_requests=rng.choice((1, 4)),
            keep_blocks=rng.choice((None, 1, 1)),
            transfer_blocks=rng.choice((2, interval, 64)),
        )
        self.submitted: set[bytes] = set()
        self.reference = Reference(GENESIS, genesis, interval, self.verifier, self.submitted, world.visited)
        self.signatures = Signatures()
        self.clients: dict[str, list[bytes]] = {name: [] for name in (*CLIENTS, "operator")}
        self.letters: list[tuple[NodeId, NodeId, Cast]] = []
        self.side: frozenset[NodeId] = frozenset()  # nothing passes between these and the others
        self.wall_ms = WALL_BEGIN_MS + 1
        self.asked: dict[int, bytes] = {}
        self.servers: dict[NodeId, Server] = {}
        self.promptly = rng.choice((0.5, 0.9, 1.0))  # how often a disk is synced at once
        self.lonely = rng.choice((0.0, 0.3, 0.6))  # how often whoever is the first to decide is cut off at that moment
        self.startled = rng.choice((0.0, 0.8, 0.8))  # see ``_startle``
        for node in ids:
            self._start(node, MemoryStore(random.Random(rng.random())), 0.0)

    def _set_of(self, nodes: Sequence[NodeId]) -> ValidatorSet:
        return ValidatorSet(0, tuple(seat(self.orgs[node], node) for node in nodes))

    # -- nodes -------------------------------------------------------------------------------------------------------

    def _start(self, node: NodeId, store: MemoryStore, now: float) -> None:
        view = Overlay(store)
        toy = Toy(GENESIS, self.config.validators)
        config = replace(self.config, node=node, key=str(node))
        replica = Replica(config, toy, view, self.verifier, now=now, wall_ms=self.wall_ms, listeners=(OUTSIDE,))
        toy.sets = replica.core.validators_of
        machine: Machine = replica
        if node in self.liars:
            machine = Puppet(replica, SimulatedSigner(self.secret, str(node)), self.rng, self.plot, self.ids)
        self.servers[node] = Server(machine, replica, store, view, now)
        self.servers[node].record = replica.core.desk.ballot.record
        self._step(node, WallTime(self.wall_ms))

    def _step(self, node: NodeId, event: object) -> None:
        """Let something happen to a node, and whatever follows from it at once."""
        server = self.servers[node]
        events = deque([event])
        while events:
            event = events.popleft()
            effects = server.machine.step(server.now, event)
            self._observe(node, event, effects)
            if node not in self.liars:
                self._judge(node, effects)
            self._write(server, effects)
            events += self._carry(node, server, effects)
        self._startle(node)

    def _write(self, server: Server, effects: list[object]) -> None:
        for effect in effects:
            if isinstance(effect, Persist | WriteBack):
                server.view.lay(effect.writes)
                server.store.begin(effect.writes)
                server.dirty |= isinstance(effect, Persist)
        if server.dirty and self.rng.random() < self.promptly:
            self._synced(server)

    def _synced(self, server: Server) -> None:
        server.store.sync()
        server.view.settle(server.view.pending)
        server.dirty = False

    def _carry(self, node: NodeId, server: Server, effects: list[object]) -> list[object]:
        """Do what need not wait for the disk; gives the events that come of it."""
        effects, server.held = [*server.held, *effects], []
        events: list[object] = []
        for effect in effects:
            if isinstance(effect, Ahead):
                effect = effect.effect
            elif server.dirty and not isinstance(effect, Perform):
                if not isinstance(effect, Persist | WriteBack):
                    server.held.append(effect)
                continue
            match effect:
                case Cast():
                    self._send(node, effect)
                case Sign():
                    server.signing.append(effect)
                case Perform(op=op, operation=Compute(work)):
                    events.append(Completed(op, Ok(work())))
                case Tell(event=Completed(op, Ok(Committed() as place))) if node not in self.liars:
                    self.reference.told(self.asked[op], place)
        if server.signing and self.rng.random() < 0.9:
            events += self._signed(node, server)
        return events

    def _signed(self, node: NodeId, server: Server) -> list[object]:
        signing, server.signing = server.signing, []
        signer = SimulatedSigner(self.secret, str(node))
        events: list[object] = []
        for sign in signing:
            assert isinstance(sign.domain, Domain)
            if node not in self.liars:
                self._judge_signature(node, sign.domain, sign.payload)
            events.append(Signed(sign.op, signer.sign(sign.domain, sign.payload)))
        return events

    def _send(self, sender: NodeId, cast: Cast) -> None:
        if cast.to in self.servers:
            self.letters.append((sender, cast.to, cast))
            if len(self.letters) > LETTERS * len(self.ids):
                self.letters.pop(self.rng.randrange(len(self.letters)))

    def _some(self, wanted: Callable[[NodeId], object] = lambda node: True) -> NodeId | None:
        nodes = [node for node in self.ids if wanted(node)]
        return self.rng.choice(nodes) if nodes else None

    def _honest(self) -> list[NodeId]:
        return [node for node in self.ids if node not in self.liars]

    def _seen_order(self, witness: NodeId, node: NodeId) -> tuple[int, int, int, int]:
        """Of the newest vote of ``node`` that ``witness`` remembers."""
        vote = self.servers[witness].replica.core._asking._seen.of(node)
        return (0, 0, 0, 0) if vote is None else (vote.epoch, vote.height, vote.view, 2 if vote.phase == "commit" else 1)

    # -- laws ----------------------------------------------------------------------------------------------------------

    def _judge(self, node: NodeId, effects: list[object]) -> None:
        for effect in effects:
            if type(effect) is Tell:
                told = effect.event
                if type(told) is Decided:
                    self._decided(node, told)
                elif type(told) is Noticed and isinstance(told.error, Broken):
                    raise unsafe(f"{node}: {told.error}")
                elif type(told) is Noticed and told.error.name == "disk-rolled-back" and node != self.forgetful:
                    raise unsafe(f"honesty: others have seen votes of {node} that its disk does not know of")
        server = self.servers[node]
        chain = server.replica.core.chain
        if chain.base > server.base:
            server.base = chain.base
            if chain.base == chain.height + 1:
                self._judge_state(node)

    def _decided(self, node: NodeId, told: Decided) -> None:
        before = len(self.reference.headers)
        self.reference.decided(node, told)
        if len(self.reference.headers) > before and self.rng.random() < self.lonely:
            self.side = frozenset([node])  # what it has decided nobody else knows yet

    def _judge_state(self, node: NodeId) -> None:
        """A state that was taken from others, or the one in the end, is the one of its root."""
        desk = self.servers[node].replica.core.desk
        if not desk.restoring and not desk.chain.new and root_of(dict(desk.store.scan(PREFIX))) != desk.chain.root:
            raise unsafe(f"the state of {node} is not the one of its root")

    def _judge_signature(self, node: NodeId, domain: Domain, payload: bytes) -> None:
        if node != self.forgetful:
            self.signatures.signs(str(node), domain, payload)
        elif domain.phase in ("prepare", "commit", "view-change"):
            self._judge_old_copy(node, domain)

    def _judge_old_copy(self, node: NodeId, domain: Domain) -> None:
        """An old copy votes in no epoch of which n - q + 1 others remember newer votes of it (``witness.py``)."""
        validators = self.servers[node].replica.core.chain.validators
        knowing = [
            other for other, epoch in self.copy.witnesses.items() if epoch >= domain.epoch and validators.index_of(other) is not None
        ]
        if len(knowing) >= validators.n - validators.q + 1:
            raise unsafe(f"honesty: {node} votes from an old copy of its disk, and {knowing} know newer votes of it")

    def _startle(self, node: NodeId) -> None:
        """In some seeds the power goes just when a node has learned what its view must begin with."""
        record = self.servers[node].replica.core.desk.ballot.record
        if record is not self.servers[node].record:
            self.servers[node].record = record
            if self._bound(node) and self.rng.random() < self.startled:
                self._crash(node)

    def _bound(self, node: NodeId) -> bool:
        core = self.servers[node].replica.core
        choice = core.desk.ballot.record.choice
        return choice.hash is not None and choice.height == core.chain.height + 1 and not core.desk.ballot.has_prepared(choice.height)

    def _crash(self, node: NodeId) -> None:
        if node in self.liars:
            return  # an honest node can crash; a liar does as it likes
        server = self.servers[node]
        server.store.crash()
        self.copy.witnesses.pop(node, None)  # what it has seen may be forgotten
        self._start(node, server.store, server.now)

    def finish(self) -> None:
        """What must hold in the end."""
        for node in self._honest():
            self._judge_state(node)
