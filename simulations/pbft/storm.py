"""The agreement without a driver: whole replicas, and nothing but messages, disks, deadlines, crashes and liars in any order.

The world of ``scenario.py`` has a driver that never steps a machine while its disk works, and clocks that run. Safety asks for none of
that. Here each ``Replica`` is stepped by hand. A node's clock jumps to its next deadline whenever chance says so; messages are overtaken,
lost and doubled; disks are synced when chance says so, while the node goes on; a crash keeps any prefix of what was not synced, and now and
then it takes all nodes at once. Up to f of the validators are puppets (``puppets.py``); or one is honest and its disk is put
back to an old copy, which counts as a fault too. What holds at each step stands in ``laws.py``.
"""

import random
from collections.abc import Callable, Sequence

from meshos.consensus.pbft.block import request_hash
from meshos.consensus.pbft.events import Submit, WallTime
from meshos.consensus.pbft.records import VOTE, decode_voted
from meshos.consensus.pbft.validators import encode_validators
from meshos.crypto.simulated import SimulatedSigner
from meshos.effects import Heard, Put, Tick
from meshos.flow import Propose
from meshos.flow_machine import Perform
from meshos.ids import NodeId, OrgDid, Peer
from meshos.node.kernel.core import OUTSIDE
from meshos.simulations.pbft import group as group_of
from meshos.simulations.pbft.fleet import CLIENTS, Fleet, Observe
from meshos.simulations.pbft.group import GENESIS, MACHINE
from meshos.simulations.pbft.toy import request
from meshos.simulations.run import Checker, Scenario, no_faults, node_ids
from meshos.simulations.world import SimNode, Spec, World
from meshos.storage.memory import MemoryStore

ACTS = 60
"""Acts of one run, for each pair of nodes (n * n)."""


class Storm(Fleet):
    """A fleet, and what chance does to it."""

    def __init__(self, world: World, ids: Sequence[NodeId], observe: Observe) -> None:
        super().__init__(world, ids, observe)
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

    def come(self) -> None:
        """A node that never had a seat comes for the first time: with an empty disk."""
        node = self._some(lambda node: not self.reference.seated(node))
        if node is not None:
            self._start(node, MemoryStore(random.Random(self.rng.random())), self.servers[node].now)

    def black_out(self) -> None:
        """The same everywhere at once."""
        for node in self.ids:
            self._crash(node)

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
        """Some nodes do not hear the others any more: as often as any, the one alone that has decided most."""
        heights = {node: self.servers[node].replica.core.chain.height for node in self._honest()}
        first = max(sorted(heights), key=lambda node: heights[node])
        some = [first] if self.rng.random() < 0.5 else self.rng.sample(self.ids, k=self.rng.randint(1, len(self.ids) - 1))
        self.side = frozenset(some)

    def join(self) -> None:
        """All hear all."""
        self.side = frozenset()


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
        self._storm.run(ACTS * len(ids) ** 2)
        self._storm.finish()

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """See ``Checker``."""

    def finish(self, world: World) -> None:
        """See ``Checker``."""


def populate(world: World, nodes: int) -> Sequence[Checker]:
    """Nothing but the storm."""
    return [Stormed(world, nodes)]


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
