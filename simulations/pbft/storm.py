"""The agreement without a driver: whole replicas, and nothing but messages, disks, deadlines, crashes and liars in any order.

The world of ``scenario.py`` has a driver that never steps a machine while its disk works, and clocks that run. Safety asks for none of
that. Here each ``Replica`` is stepped by hand. A node's clock jumps to its next deadline whenever chance says so; messages are overtaken,
lost and doubled; disks are synced when chance says so, while the node goes on; a crash keeps any prefix of what was not synced, and now and
then it takes all nodes at once. Up to f of the validators are puppets (``puppets.py``); or one is honest and its disk is put
back to an old copy, which counts as a fault too. What holds at each step stands in ``laws.py``.
"""

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from meshos.consensus.pbft.block import request_hash
from meshos.consensus.pbft.config import Config, Timing
from meshos.consensus.pbft.events import Committed, Decided, Noticed, Submit, WallTime
from meshos.consensus.pbft.records import VOTE, ViewRecord, decode_voted
from meshos.consensus.pbft.replica import Replica
from meshos.consensus.pbft.validators import ValidatorSet, encode_validators
from meshos.crypto.signing import Domain
from meshos.crypto.simulated import SimulatedSigner, SimulatedVerifier, SimulatedWorld
from meshos.effects import Ahead, Cast, Completed, Heard, Machine, Ok, Persist, Put, Sign, Signed, Tell, Tick, Write, WriteBack
from meshos.errors import Broken
from meshos.flow import Compute, Propose
from meshos.flow_machine import Perform
from meshos.ids import NodeId, OrgDid, Peer
from meshos.node.kernel.core import OUTSIDE
from meshos.simulations.faults import Schedule
from meshos.simulations.pbft import group as group_of
from meshos.simulations.pbft.group import GENESIS, MACHINE
from meshos.simulations.pbft.laws import Reference, Signatures, unsafe
from meshos.simulations.pbft.liars import Plot
from meshos.simulations.pbft.puppets import Puppet
from meshos.simulations.pbft.toy import PREFIX, Toy, request, root_of, seat
from meshos.simulations.run import Checker, Scenario, node_ids
from meshos.simulations.world import WALL_BEGIN_MS, SimNode, Spec, World
from meshos.storage.memory import MemoryStore
from meshos.storage.overlay import Overlay

ACTS = 1500
"""Acts of one run."""
CLIENTS = ("c0", "c1", "c2")
LETTERS = 120
"""On their way at most: what is too much is lost, at random."""
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


class Storm:
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
        self.startled = rng.choice((0.0, 0.8, 0.8))
        for node in ids:
            self._start(node, MemoryStore(random.Random(rng.random())), 0.0)
        self.acts = self._mixture()

    def _mixture(self) -> list[tuple[Callable[[], None], float]]:
        """How often what is done: another mixture for each seed."""
        draw = self.rng.choice
        return [
            (self.deliver, 80.0),
            (self.sync, 10.0),
            (self.wake, draw((4.0, 10.0, 20.0))),
            (self.submit, draw((1.0, 4.0))),
            (self.reseat, draw((0.0, 1.0, 3.0, 3.0))),
            (self.lose, draw((0.0, 1.0, 4.0))),
            (self.double, draw((0.0, 1.0))),
            (self.crash, draw((0.0, 0.2, 0.6))),
            (self.black_out, draw((0.0, 0.1, 0.3))),
            (self.come, draw((0.3, 1.0))),
            (self.part, draw((0.0, 0.2, 1.0))),
            (self.join, draw((1.0, 2.0))),
            (self.back_up, 0.0 if self.forgetful is None else 0.5),
            (self.put_back, 0.0 if self.forgetful is None else 0.5),
        ]

    def run(self, acts: int) -> None:
        """So many acts; raises ``Violation``."""
        choices, weights = zip(*self.acts, strict=True)
        for act in self.rng.choices(choices, weights, k=acts):
            act()

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
            if len(self.letters) > LETTERS:
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

    # -- acts ----------------------------------------------------------------------------------------------------------

    def deliver(self) -> None:
        """A message arrives: mostly one of the oldest."""
        if not self.letters:
            self.rng.choice((self.wake, self.submit))()
            return
        oldest = self.rng.random() < 0.9
        place = min(int(self.rng.expovariate(0.3)), len(self.letters) - 1) if oldest else self.rng.randrange(len(self.letters))
        sender, to, cast = self.letters.pop(place)
        if (sender in self.side) == (to in self.side):
            self._step(to, Heard(Peer(sender, self.orgs[sender]), cast.protocol, cast.body))

    def lose(self) -> None:
        """A message is lost."""
        if self.letters:
            self.letters.pop(self.rng.randrange(len(self.letters)))

    def double(self) -> None:
        """A message comes twice."""
        if self.letters:
            self.letters.append(self.rng.choice(self.letters))

    def sync(self) -> None:
        """A disk has everything, and what waited for that goes out; what was to be signed is signed."""
        node = self._some(lambda node: self.servers[node].dirty or self.servers[node].signing)
        if node is None:
            return
        server = self.servers[node]
        self._synced(server)
        for event in [*self._carry(node, server, []), *self._signed(node, server)]:
            self._step(node, event)

    def wake(self) -> None:
        """A node's clock reaches its next deadline, far as that may be."""
        node = self.rng.choice(self.ids)
        server = self.servers[node]
        due = server.machine.deadline()
        if due is not None:
            server.now = max(server.now, due)
            self.wall_ms += 1
            self._step(node, WallTime(self.wall_ms))
            self._step(node, Tick())

    def submit(self) -> None:
        """A client asks: for something new, or again for what was not ordered yet, or was."""
        name = self.rng.choice(CLIENTS)
        self._ask(name, "add", self.rng.randint(1, 100))

    def reseat(self) -> None:
        """Other validators are asked for; never more liars among them than may be."""
        suspects = {*self.liars, self.forgetful}
        count = self.rng.randint(min(4, len(self.ids)), len(self.ids))
        chosen = sorted(self.rng.sample(self.ids, k=count))
        if len(suspects.intersection(chosen)) <= group_of.liars_of(count):
            self._ask("operator", "seats", encode_validators(self._set_of(chosen)))

    def _set_of(self, nodes: Sequence[NodeId]) -> ValidatorSet:
        return ValidatorSet(0, tuple(seat(self.orgs[node], node) for node in nodes))

    def _ask(self, name: str, operation: str, argument: object) -> None:
        asked = self.clients[name]
        if not asked or (request_hash(asked[-1]) in self.reference.places and self.rng.random() < 0.8):
            asked.append(request(SimulatedSigner(self.secret, name), GENESIS, len(asked) + 1, operation, argument))
            self.submitted.add(request_hash(asked[-1]))
        wanted = asked[-1] if self.rng.random() < 0.8 else self.rng.choice(asked)
        op = len(self.asked) + 1
        self.asked[op] = request_hash(wanted)
        self._step(self.rng.choice(self.ids), Perform(op, Propose(Submit(wanted)), None, OUTSIDE))

    def crash(self) -> None:
        """The power goes, and is there again."""
        self._crash(self.rng.choice(self.ids))

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

    def come(self) -> None:
        """A node that never had a seat comes for the first time: with an empty disk."""
        node = self._some(lambda node: not self.reference.seated(node))
        if node is not None:
            self._start(node, MemoryStore(random.Random(self.rng.random())), self.servers[node].now)

    def black_out(self) -> None:
        """The same everywhere at once."""
        for node in self.ids:
            self._crash(node)

    def _crash(self, node: NodeId) -> None:
        if node in self.liars:
            return  # an honest node can crash; a liar does as it likes
        server = self.servers[node]
        server.store.crash()
        self.copy.witnesses.pop(node, None)  # what it has seen may be forgotten
        self._start(node, server.store, server.now)

    def back_up(self) -> None:
        """What is durable on a disk is copied."""
        assert self.forgetful is not None
        store = self.servers[self.forgetful].store
        self.copy.writes = tuple(Put(key, value) for key, value in store.snapshot().scan(b""))

    def put_back(self) -> None:
        """A disk is put back to its copy, and its node starts on it."""
        assert self.forgetful is not None
        if not self.copy.writes:
            return
        node, now = self.forgetful, self.servers[self.forgetful].now
        store = MemoryStore(random.Random(self.rng.random()))
        store.write(self.copy.writes)
        data = store.get(VOTE)
        voted = (0, 0, 0, 0) if data is None else decode_voted(data).order
        orders = {other: self._seen_order(other, node) for other in self._honest() if other != node}
        self.copy.witnesses = {other: order[0] for other, order in orders.items() if order > voted}
        self._start(node, store, now)

    def part(self) -> None:
        """Some nodes do not hear the others any more: as often as any, the one alone that has decided most, or a primary."""
        heights = {node: self.servers[node].replica.core.chain.height for node in self._honest()}
        first = max(sorted(heights), key=lambda node: heights[node])
        some = [first] if self.rng.random() < 0.5 else self.rng.sample(self.ids, k=self.rng.randint(1, len(self.ids) - 1))
        self.side = frozenset(some)

    def join(self) -> None:
        """All hear all."""
        self.side = frozenset()

    def finish(self) -> None:
        """What must hold in the end."""
        for node in self._honest():
            self._judge_state(node)


class Stormed:
    """A Checker that is the whole run: a storm in a world whose nodes do nothing by themselves."""

    def __init__(self, world: World, nodes: int) -> None:
        self._world = world
        ids = node_ids(nodes)
        self._storm: Storm | None = None
        for node in ids:
            world.add(Spec(node, OrgDid(f"did:mesh:enterprise:{node}"), lambda node: {}))
        world.at(0.0, self._blow, ids)

    @property
    def figures(self) -> dict[str, float]:
        """What came of it."""
        if self._storm is None:
            return {}
        reference = self._storm.reference
        return {"blocks": len(reference.headers), "requests": len(reference.places), "epochs": reference.epoch}

    def _observe(self, node: NodeId, event: object, effects: list[object]) -> None:
        world = self._world
        if world.observer is not None:
            world.observer(world.nodes[node], MACHINE, event, effects)

    def _blow(self, ids: Sequence[NodeId]) -> None:
        self._storm = Storm(self._world, ids, self._observe)
        self._storm.run(ACTS)
        self._storm.finish()

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """See ``Checker``."""

    def finish(self, world: World) -> None:
        """See ``Checker``."""


def populate(world: World, nodes: int) -> Sequence[Checker]:
    """Nothing but the storm."""
    return [Stormed(world, nodes)]


def no_faults(world: World, begin_s: float, end_s: float) -> Schedule:
    """The storm brings its own."""
    del world, begin_s, end_s
    return []


SCENARIO = Scenario(
    "pbft-core",
    "the agreement without a driver: messages, disks, clocks, crashes and liars in any order",
    populate,
    5,
    1.0,
    0.0,
    1.0,
    mixture=no_faults,
    situations=("other validators came into force",),
    fewest_nodes=4,
)
