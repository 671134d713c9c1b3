"""What is done to a world, and when: a schedule of faults, drawn from a seed or read from a file.

A schedule is data, so that a run can be written down, replayed and made smaller. Each fault is a frozen dataclass whose
``do`` changes the world; in a file it is ``{"at": seconds, "fault": name, …its fields}``.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Protocol, TypeAlias

from meshos.errors import BadInput
from meshos.ids import NodeId
from meshos.simulations.world import World
from meshos.storage.memory import DiskFaults


class Fault(Protocol):
    """One thing done to the world at one time."""

    def do(self, world: World) -> None:
        """Do it."""
        ...


@dataclass(frozen=True, slots=True)
class Crash:
    """A process dies, and what its disk had not synced is lost."""

    node: str

    def do(self, world: World) -> None:
        node = world.nodes[NodeId(self.node)]
        if node.alive:
            node.crash()


@dataclass(frozen=True, slots=True)
class Restart:
    """A dead process starts again on its disk."""

    node: str

    def do(self, world: World) -> None:
        node = world.nodes[NodeId(self.node)]
        if not node.alive:
            node.start()


@dataclass(frozen=True, slots=True)
class Pause:
    """SIGSTOP."""

    node: str

    def do(self, world: World) -> None:
        world.nodes[NodeId(self.node)].pause()


@dataclass(frozen=True, slots=True)
class Resume:
    """SIGCONT."""

    node: str

    def do(self, world: World) -> None:
        world.nodes[NodeId(self.node)].resume()


@dataclass(frozen=True, slots=True)
class Partition:
    """Nothing passes between nodes of different sides; a node on no side hears everybody (a partial partition)."""

    sides: tuple[tuple[str, ...], ...]

    def do(self, world: World) -> None:
        world.network.faults.partition([[NodeId(node) for node in side] for side in self.sides])


@dataclass(frozen=True, slots=True)
class OneWay:
    """What ``source`` sends to ``targets`` is lost; the other direction passes."""

    source: str
    targets: tuple[str, ...]

    def do(self, world: World) -> None:
        world.network.faults.cut.update((NodeId(self.source), NodeId(target)) for target in self.targets)


@dataclass(frozen=True, slots=True)
class Heal:
    """Every cut is mended."""

    def do(self, world: World) -> None:
        world.network.faults.heal()


@dataclass(frozen=True, slots=True)
class Weather:
    """How the network is from now on; see ``NetworkFaults``."""

    loss: float
    duplication: float
    spike: float
    spike_s: float

    def do(self, world: World) -> None:
        faults = world.network.faults
        faults.loss, faults.duplication, faults.spike, faults.spike_s = self.loss, self.duplication, self.spike, self.spike_s


@dataclass(frozen=True, slots=True)
class Drift:
    """A node's clock runs at ``rate`` times true time (set before it starts: a monotonic clock never jumps)."""

    node: str
    rate: float

    def do(self, world: World) -> None:
        world.nodes[NodeId(self.node)].drift = self.rate


@dataclass(frozen=True, slots=True)
class Wall:
    """A node's wall clock is off by ``offset_s`` from now on: set wrong at the start, or moved while it runs."""

    node: str
    offset_s: float

    def do(self, world: World) -> None:
        world.nodes[NodeId(self.node)].wall_offset_s = self.offset_s


@dataclass(frozen=True, slots=True)
class Disk:
    """From now on a share of the node's syncs fails. A node whose disk fails once is dead; it may be restarted."""

    node: str
    error_rate: float

    def do(self, world: World) -> None:
        for store in world.nodes[NodeId(self.node)].stores.values():
            store.faults = DiskFaults(error_rate=self.error_rate)


AnyFault: TypeAlias = Crash | Restart | Pause | Resume | Partition | OneWay | Heal | Weather | Drift | Wall | Disk
Schedule: TypeAlias = list[tuple[float, AnyFault]]

KINDS: dict[str, type[AnyFault]] = {
    kind.__name__.lower(): kind for kind in (Crash, Restart, Pause, Resume, Partition, OneWay, Heal, Weather, Drift, Wall, Disk)
}
CALM = Weather(loss=0.0, duplication=0.0, spike=0.0, spike_s=0.0)


def to_json(schedule: Schedule) -> list[dict[str, object]]:
    """The schedule as it stands in a file."""
    return [{"at": at, "fault": type(fault).__name__.lower(), **asdict(fault)} for at, fault in schedule]


def from_json(rows: object) -> Schedule:
    """A schedule from a file; raises BadInput ``bad-schedule`` naming the row."""
    if not isinstance(rows, list):
        raise BadInput("bad-schedule", "the schedule is not a list of faults")
    return [_from_row(number, row) for number, row in enumerate(rows, 1)]


def _from_row(number: int, row: object) -> tuple[float, AnyFault]:
    if not isinstance(row, Mapping):
        raise BadInput("bad-schedule", f"fault {number} is not an object")
    kind = KINDS.get(str(row.get("fault")))
    at = row.get("at")
    if kind is None or not isinstance(at, int | float):
        raise BadInput("bad-schedule", f"fault {number} needs a time `at` and a `fault`, one of {', '.join(KINDS)}")
    wanted = {field.name for field in fields(kind)}
    given = {key: _as_tuple(value) for key, value in row.items() if key not in ("at", "fault")}
    if set(given) != wanted:
        raise BadInput("bad-schedule", f"fault {number} ({row['fault']}) has the fields {', '.join(sorted(wanted)) or 'none'}")
    make: Callable[..., AnyFault] = kind
    return float(at), make(**given)


def _as_tuple(value: object) -> object:
    return tuple(_as_tuple(inner) for inner in value) if isinstance(value, list) else value


def swarm(rng: random.Random, nodes: Sequence[str], *, begin: float, end: float) -> Schedule:
    """A mixture of its own for each seed (Groce et al., "Swarm Testing", ISSTA 2012): most runs leave most faults out.

    All faults lie between ``begin`` and ``end``, where everything is healed, resumed and restarted.
    """
    schedule: Schedule = []
    for node in nodes:
        if rng.random() < 0.3:
            schedule.append((0.0, Drift(node, 1 + rng.uniform(-0.0005, 0.0005))))
    if rng.random() < 0.5:
        schedule += _walls(rng, nodes, begin, end)
    if rng.random() < 0.7:
        weather = Weather(rng.choice((0.0, 0.01, 0.05, 0.2)), rng.choice((0.0, 0.02)), rng.choice((0.0, 0.05)), rng.choice((0.05, 0.5)))
        schedule.append((rng.uniform(begin, end), weather))
    for make in (_crashes, _pauses, _partitions, _one_ways, _disks):
        if rng.random() < 0.5:
            schedule += make(rng, nodes, begin, end)
    schedule.sort(key=lambda row: row[0])
    schedule += [(end, Heal()), (end, CALM)]
    schedule += [(end, Disk(node, 0.0)) for node in nodes]
    schedule += [(end, Resume(node)) for node in nodes] + [(end, Restart(node)) for node in nodes]
    return schedule


def _walls(rng: random.Random, nodes: Sequence[str], begin: float, end: float) -> Schedule:
    """Wall clocks that are wrong from the start, by seconds or by most of an hour, and ones that jump."""
    schedule: Schedule = []
    for node in rng.sample(list(nodes), k=rng.randint(1, len(nodes))):
        at = rng.choice((0.0, rng.uniform(begin, end)))
        schedule.append((at, Wall(node, rng.choice((1.0, 60.0, 3600.0)) * rng.uniform(-1.0, 1.0))))
    return schedule


def _crashes(rng: random.Random, nodes: Sequence[str], begin: float, end: float) -> Schedule:
    schedule: Schedule = []
    for node in rng.sample(list(nodes), k=rng.randint(1, max(1, len(nodes) // 4))):
        at = rng.uniform(begin, end)
        schedule += [(at, Crash(node)), (min(end, at + rng.expovariate(1 / 10)), Restart(node))]
    return schedule


def _disks(rng: random.Random, nodes: Sequence[str], begin: float, end: float) -> Schedule:
    schedule: Schedule = []
    for node in rng.sample(list(nodes), k=rng.randint(1, max(1, len(nodes) // 4))):
        at = rng.uniform(begin, end)
        mended = min(end, at + rng.expovariate(1 / 10))
        schedule += [(at, Disk(node, rng.choice((0.1, 1.0)))), (mended, Disk(node, 0.0)), (mended, Restart(node))]
    return schedule


def _pauses(rng: random.Random, nodes: Sequence[str], begin: float, end: float) -> Schedule:
    schedule: Schedule = []
    for node in rng.sample(list(nodes), k=rng.randint(1, max(1, len(nodes) // 4))):
        at = rng.uniform(begin, end)
        schedule += [(at, Pause(node)), (min(end, at + rng.expovariate(1 / 3)), Resume(node))]
    return schedule


def _partitions(rng: random.Random, nodes: Sequence[str], begin: float, end: float) -> Schedule:
    schedule: Schedule = []
    for _ in range(rng.randint(1, 3)):
        shuffled = rng.sample(list(nodes), k=len(nodes))
        bridge = rng.randint(0, 1) if len(nodes) > 3 else 0  # with a bridge, one node hears both sides
        middle = rng.randint(1, len(nodes) - 1 - bridge)
        sides = (tuple(shuffled[:middle]), tuple(shuffled[middle : len(nodes) - bridge]))
        at = rng.uniform(begin, end)
        schedule += [(at, Partition(sides)), (min(end, at + rng.expovariate(1 / 15)), Heal())]
    return schedule


def _one_ways(rng: random.Random, nodes: Sequence[str], begin: float, end: float) -> Schedule:
    source, *targets = rng.sample(list(nodes), k=rng.randint(2, len(nodes)))
    at = rng.uniform(begin, end)
    return [(at, OneWay(source, tuple(targets))), (min(end, at + rng.expovariate(1 / 15)), Heal())]
