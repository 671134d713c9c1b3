"""Raft's core alone in a storm: nothing but messages, disks, deadlines and crashes, in any order that chance picks.

The world of ``scenario.py`` has links that keep their order, a driver that never steps a machine while its disk works, and clocks that
run. Raft's safety asks for none of that. Here each node has a clock of its own that jumps to its next deadline whenever chance says so;
messages are overtaken, lost and doubled; disks are synced when chance says so, while the node goes on; a crash keeps any prefix of what
was not synced. So what is rare there comes all the time: two candidates, leaders that nobody follows any more, entries of old terms on
majorities. A run of some thousand such acts takes a fraction of a second.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from meshos.consensus.raft.applying import FOUNDED
from meshos.consensus.raft.config import LAN, Config
from meshos.consensus.raft.entries import read_entry
from meshos.consensus.raft.keys import LOG
from meshos.consensus.raft.log import read_base, write_base
from meshos.consensus.raft.membership import Change, Configuration, decode_configuration, encode_configuration
from meshos.consensus.raft.messages import RaftMessage
from meshos.consensus.raft.raft import Raft, Saved
from meshos.effects import Put, Write
from meshos.errors import MeshError
from meshos.ids import NodeId
from meshos.simulations.raft.group import ORG
from meshos.simulations.raft.laws import Laws
from meshos.simulations.run import Checker, Scenario, no_faults, node_ids
from meshos.simulations.world import SimNode, Spec, World
from meshos.storage.memory import MemoryStore
from meshos.storage.overlay import Overlay

ACTS = 3000
"""Acts of one run."""

CONFIGURATION = b"configuration"
"""Where a node keeps the configuration of its log's base, as its state would."""


@dataclass(frozen=True, slots=True)
class StateAt:
    """A whole state on its way to a follower."""

    term: int
    index: int
    at_term: int
    configuration: Configuration


Letter: TypeAlias = tuple[NodeId, NodeId, "RaftMessage | StateAt"]


@dataclass(slots=True)
class Server:
    """One node: its Raft, its clock, its disk, and what waits for the disk."""

    raft: Raft
    store: MemoryStore
    view: Overlay
    life: int
    base: Configuration
    now: float = 0.0
    withheld: list[tuple[NodeId, RaftMessage]] = field(default_factory=list)
    saved: list[Saved] = field(default_factory=list)
    reads: dict[int, int] = field(default_factory=dict)  # number -> what was committed anywhere when it was asked


Observe: TypeAlias = Callable[[NodeId, str, list[object]], None]
"""Is told of each step: whose, in which role after it, and what it wants written and sent."""


class Storm:
    """``count`` nodes, of which the first ``founders`` are a group."""

    def __init__(self, rng: random.Random, ids: Sequence[NodeId], observe: Observe) -> None:
        self.rng = rng
        self.laws = Laws()
        self.ids = ids
        self._observe = observe
        self.config: Config = replace(LAN, **rng.choice(({}, {"append_bytes": 16}, {"inflight_messages": 1, "append_bytes": 16})))
        self.letters: list[Letter] = []
        self.servers: dict[NodeId, Server] = {}
        self.lives = 0
        self.proposed = self.asked = 0
        self.side: frozenset[NodeId] = frozenset()  # nothing passes between these and the others
        founders = frozenset(ids[: rng.choice([size for size in (1, 3, 3, len(ids)) if size <= len(ids)])])
        for node in self.ids:
            store = MemoryStore(random.Random(rng.random()))
            configuration = Configuration(founders) if node in founders else Configuration()
            first = Put(CONFIGURATION, encode_configuration(configuration)) if node in founders else None
            if first is not None:
                store.write([write_base(FOUNDED, FOUNDED), first])
            self._start(node, store)
        self.acts = self._mixture()

    def _mixture(self) -> list[tuple[Callable[[], None], float]]:
        """How often what is done: another mixture for each seed."""
        draw = self.rng.choice
        return [
            (self.deliver, 60.0),
            (self.sync, draw((5.0, 20.0, 40.0))),
            (self.wake, draw((2.0, 6.0, 15.0))),
            (self.propose, draw((1.0, 4.0, 10.0))),
            (self.read, draw((0.0, 2.0))),
            (self.lose, draw((0.0, 1.0, 8.0))),
            (self.double, draw((0.0, 1.0))),
            (self.crash, draw((0.0, 0.3, 1.5))),
            (self.change, draw((0.0, 0.0, 0.5, 2.0))),
            (self.transfer, draw((0.0, 0.3))),
            (self.cut, draw((0.0, 0.0, 0.5))),
            (self.part, draw((0.0, 0.5, 2.0))),
            (self.join, draw((0.2, 1.0))),
        ]

    def run(self, acts: int) -> None:
        """So many acts; raises ``Violation``."""
        choices, weights = zip(*self.acts, strict=True)
        for act in self.rng.choices(choices, weights, k=acts):
            act()

    # -- nodes -------------------------------------------------------------------------------------------------------

    def _start(self, node: NodeId, store: MemoryStore) -> None:
        view = Overlay(store)
        raw = view.get(CONFIGURATION)
        base = Configuration() if raw is None else decode_configuration(raw)
        applied = read_base(view)[0]
        self.lives += 1
        now = self.servers[node].now if node in self.servers else 0.0
        raft = Raft(node, view, self.config, configuration=base, applied=applied, rng=self.rng, now=now)
        self.servers[node] = Server(raft, store, view, self.lives, base, now)

    def _write(self, server: Server, writes: Sequence[Write]) -> None:
        server.view.lay(writes)
        server.store.begin(writes)

    def _take(self, node: NodeId) -> None:
        """Do what the node's Raft wants done, up to the disk, and look at it."""
        server = self.servers[node]
        raft = server.raft
        if raft.gathered and self.rng.random() < 0.8:
            raft.flush(server.now)
        ready = raft.ready()
        if ready.writes:
            self._write(server, ready.writes)
            for write in ready.writes:
                if type(write) is Put and write.key.startswith(LOG):
                    self.laws.appended(node, raft, read_entry(write.value))
        self._observe(node, raft.role, [*ready.writes, *ready.pending.ahead, *ready.pending.after])
        self.letters += [(node, to, message) for to, message in ready.pending.ahead]
        server.withheld += ready.pending.after
        if ready.saved is not None:
            server.saved.append(ready.saved)
        self.laws.look(node, server.life, raft)
        for read in ready.pending.reads:
            self.laws.read(node, read.index, server.reads.pop(read.number, 0))
        for follower in raft.wanting():
            base = raft.log.base
            raft.state_begun(follower, base)
            self.letters.append((node, follower, StateAt(raft.term, base, raft.log.base_term, server.base)))
        if not server.saved:
            self._release(node)

    def _release(self, node: NodeId) -> None:
        server = self.servers[node]
        self.letters += [(node, to, message) for to, message in server.withheld]
        server.withheld = []

    def _some(self, wanted: Callable[[Server], object] = lambda server: True) -> NodeId | None:
        nodes = [node for node in self.ids if wanted(self.servers[node])]
        return self.rng.choice(nodes) if nodes else None

    # -- acts ----------------------------------------------------------------------------------------------------------

    def deliver(self) -> None:
        """A message arrives: mostly one of the oldest."""
        if not self.letters:
            self.wake()
            return
        oldest = self.rng.random() < 0.9
        place = min(int(self.rng.expovariate(0.7)), len(self.letters) - 1) if oldest else self.rng.randrange(len(self.letters))
        sender, to, message = self.letters.pop(place)
        if (sender in self.side) != (to in self.side):
            return
        server = self.servers[to]
        if isinstance(message, StateAt):
            self._install(sender, to, message)
        else:
            server.raft.receive(server.now, sender, message)
        self._take(to)

    def _install(self, sender: NodeId, to: NodeId, state: StateAt) -> None:
        server, leader = self.servers[to], self.servers[sender]
        raft = server.raft
        if state.term < raft.term or raft.role == "leader" or raft.has(state.index, state.at_term):
            leader.raft.state_ended(leader.now, to, 0)
            return
        writes = raft.restore(server.now, state.index, state.at_term, state.configuration)
        self._write(server, [*writes, Put(CONFIGURATION, encode_configuration(state.configuration))])
        server.base = state.configuration
        server.store.sync()
        server.view.settle(server.view.pending)
        leader.raft.state_ended(leader.now, to, state.index)

    def lose(self) -> None:
        """A message is lost."""
        if self.letters:
            self.letters.pop(self.rng.randrange(len(self.letters)))

    def double(self) -> None:
        """A message comes twice."""
        if self.letters:
            self.letters.append(self.rng.choice(self.letters))

    def sync(self) -> None:
        """A disk has everything, and what waited for that goes out."""
        node = self._some(lambda server: server.saved)
        if node is None:
            return
        server = self.servers[node]
        server.store.sync()
        server.view.settle(server.view.pending)
        saved, server.saved = server.saved, []
        self._release(node)
        for each in saved:
            server.raft.stored(server.now, each)
        self._take(node)

    def wake(self) -> None:
        """A node's clock reaches its next deadline, far as that may be."""
        node = self._some()
        assert node is not None
        server = self.servers[node]
        server.now = max(server.now, min(server.raft.deadline(), server.now + 1.0))
        server.raft.tick(server.now)
        self._take(node)

    def propose(self) -> None:
        """Whoever leads, or believes to, is given a command."""
        node = self._some(lambda server: server.raft.accepts)
        if node is not None:
            self.proposed += 1
            self.servers[node].raft.propose(self.servers[node].now, b"%d" % self.proposed)
            self._take(node)

    def read(self) -> None:
        """Whoever leads, or believes to, is asked."""
        node = self._some(lambda server: server.raft.role == "leader")
        if node is not None:
            self.asked += 1
            server = self.servers[node]
            server.reads[self.asked] = self.laws.highest
            server.raft.read(server.now, self.asked)
            self._take(node)

    def crash(self) -> None:
        """The power goes, and is there again: of a leader as often as of all others together."""
        node = self._some(lambda server: server.raft.role == "leader") if self.rng.random() < 0.5 else None
        node = node or self.rng.choice(self.ids)
        store = self.servers[node].store
        store.crash()
        self._start(node, store)

    def part(self) -> None:
        """Some nodes, or a leader alone, do not hear the others any more."""
        leader = self._some(lambda server: server.raft.role == "leader")
        alone = leader is not None and self.rng.random() < 0.5
        some = [leader] if alone and leader is not None else self.rng.sample(self.ids, k=self.rng.randint(1, len(self.ids) - 1))
        self.side = frozenset(some)

    def join(self) -> None:
        """All hear all."""
        self.side = frozenset()

    def change(self) -> None:
        """Whoever leads is asked for other members."""
        node = self._some(lambda server: server.raft.accepts)
        if node is None:
            return
        raft = self.servers[node].raft
        chosen = self.rng.sample(self.ids, k=self.rng.choice((1, 1, 2, len(self.ids))))
        changes = [Change(self.rng.choice(("voter", "voter", "learner", "removed")), other) for other in chosen]
        try:
            raft.change(self.servers[node].now, changes)
        except MeshError:
            return  # it makes no sense now
        self._take(node)

    def transfer(self) -> None:
        """Whoever leads is asked to hand over."""
        node = self._some(lambda server: server.raft.accepts)
        other = self._some()
        if node is not None and other is not None:
            try:
                self.servers[node].raft.transfer(self.servers[node].now, other)
            except MeshError:
                return
            self._take(node)

    def cut(self) -> None:
        """A log is cut somewhere below what is committed."""
        node = self._some(lambda server: server.raft.commit > server.raft.log.base and not server.saved)
        if node is None:
            return
        server = self.servers[node]
        raft = server.raft
        index = self.rng.randint(raft.log.base + 1, raft.commit)
        for entry in raft.entries(raft.log.first, index, 1 << 30):
            if entry.kind == 1:
                server.base = decode_configuration(entry.data)
        self._write(server, [*raft.log.cut(index), Put(CONFIGURATION, encode_configuration(server.base))])


class Stormed:
    """A Checker that is the whole run: a storm in a world whose nodes do nothing by themselves."""

    def __init__(self, world: World, nodes: int) -> None:
        self.figures: dict[str, float] = {}
        self._world = world
        ids = node_ids(nodes)
        for node in ids:
            world.add(Spec(node, ORG, lambda node: {}))
        self._storm = Storm(world.generator("storm"), ids, self._observe)
        world.at(0.0, self._blow)

    def _observe(self, node: NodeId, role: str, effects: list[object]) -> None:
        world = self._world
        if world.observer is not None:
            world.observer(world.nodes[node], "raft", role, effects)

    def _blow(self) -> None:
        self._storm.run(ACTS)
        laws = self._storm.laws
        self.figures = {"terms led": len(laws.leaders), "entries committed": laws.highest, "proposed": self._storm.proposed}

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """See ``Checker``."""

    def finish(self, world: World) -> None:
        """See ``Checker``."""


def populate(world: World, nodes: int) -> Sequence[Checker]:
    """Nothing but the storm."""
    return [Stormed(world, nodes)]


SCENARIO = Scenario(
    "raft-core",
    "Raft without a driver: messages, disks, clocks and crashes in any order",
    populate,
    5,
    1.0,
    0.0,
    1.0,
    mixture=no_faults,
)
