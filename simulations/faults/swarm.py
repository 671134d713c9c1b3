"""Which faults a seed draws: a mixture of its own (Groce et al., "Swarm Testing", ISSTA 2012).

A run that suffers everything at once mostly shows that nothing works then; what is rare needs the other faults to be absent. So each
seed first picks which kinds of fault there are at all and how much of each, and then their places and times. Every time is
rounded to a millisecond, so that a schedule reads the same in words.

All faults lie between two times, at the later of which ``Mend`` ends them.
"""

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from meshos.simulations.faults.disks import Corrupt, CrashAt, Disk, SlowDisk, Stall
from meshos.simulations.faults.network import CALM, Clog, ClogNode, Heal, Lossy, OneWay, Partition, Ring, Unlink, Weather
from meshos.simulations.faults.processes import Crash, Drift, Mend, Pause, Restart, Resume, Wall
from meshos.simulations.faults.schedule import Fault, Schedule


@dataclass(frozen=True, slots=True)
class Draw:
    """What one kind of fault is drawn from. ``much`` is how much of it: 1 is some of it on a fourth of the nodes."""

    rng: random.Random
    nodes: Sequence[str]
    machines: Sequence[str]
    begin: float
    end: float
    much: float

    def times(self) -> int:
        """How often something happens that happens to the whole mesh."""
        return self.rng.randint(1, max(1, round(3 * self.much)))

    def some(self) -> list[str]:
        """The nodes that it happens to."""
        most = min(len(self.nodes), max(1, round(self.much * len(self.nodes) / 4)))
        return self.rng.sample(list(self.nodes), k=self.rng.randint(1, most))

    def at(self) -> float:
        """A time between the two."""
        return round(self.rng.uniform(self.begin, self.end), 3)

    def lasting(self, at: float, mean_s: float) -> float:
        """For how long, not beyond the end."""
        return round(min(self.end - at, self.rng.expovariate(1 / mean_s)), 3)

    def one_and_others(self) -> tuple[str, tuple[str, ...]]:
        """A node, and some of the others."""
        one, *others = self.rng.sample(list(self.nodes), k=self.rng.randint(2, len(self.nodes)))
        return one, tuple(others)


def _crashes(draw: Draw) -> Schedule:
    return _there_and_back(draw, Crash, Restart, 10.0)


def _pauses(draw: Draw) -> Schedule:
    return _there_and_back(draw, Pause, Resume, 3.0)


def _there_and_back(draw: Draw, there: Callable[[str], Fault], back: Callable[[str], Fault], mean_s: float) -> Schedule:
    schedule: Schedule = []
    for node in draw.some():
        at = draw.at()
        schedule += [(at, there(node)), (round(at + draw.lasting(at, mean_s), 3), back(node))]
    return schedule


def _power_cuts(draw: Draw) -> Schedule:
    """At a write or a sync that is counted: where chance alone would seldom be."""
    schedule: Schedule = []
    for node in draw.some():
        at = draw.at()
        point, operation = draw.rng.choice(("before", "torn", "after")), draw.rng.choice(("write", "sync"))
        machine = draw.rng.choice((*draw.machines, "any"))
        schedule.append((at, CrashAt(node, point, operation, draw.rng.choice((1, 1, 2, 3, 10)), machine)))
        schedule.append((round(at + draw.lasting(at, 10.0), 3), Restart(node)))
    return schedule


def _disk_errors(draw: Draw) -> Schedule:
    schedule: Schedule = []
    for node in draw.some():
        at = draw.at()
        mended = round(at + draw.lasting(at, 10.0), 3)
        schedule += [(at, Disk(node, draw.rng.choice((0.1, 1.0)))), (mended, Disk(node, 0.0)), (mended, Restart(node))]
    return schedule


def _slow_disks(draw: Draw) -> Schedule:
    schedule: Schedule = []
    for node in draw.some():
        at = draw.at()
        schedule.append((at, SlowDisk(node, draw.rng.choice((0.01, 0.05, 0.3)))))
        schedule.append((round(at + draw.lasting(at, 10.0), 3), SlowDisk(node, 0.0)))
    return schedule


def _stalls(draw: Draw) -> Schedule:
    return [(at := draw.at(), Stall(node, draw.lasting(at, draw.rng.choice((0.5, 5.0))))) for node in draw.some()]


def _rot(draw: Draw) -> Schedule:
    return [(draw.at(), Corrupt(node, draw.rng.choice((*draw.machines, "any")))) for node in draw.some()[:1]]


def _partitions(draw: Draw) -> Schedule:
    schedule: Schedule = []
    for _ in range(draw.times()):
        at = draw.at()
        schedule += [(at, _cut(draw)), (round(at + draw.lasting(at, 15.0), 3), Heal())]
    return schedule


def _cut(draw: Draw) -> Fault:
    """In two at a random place, in two halves, one node alone, in two with a node that hears both, in a ring, or in three."""
    rng, size = draw.rng, len(draw.nodes)
    nodes = rng.sample(list(draw.nodes), k=size)
    shapes = ["two", "alone"] + (["halves", "bridge", "three"] if size > 2 else []) + (["ring"] if size > 3 else [])
    match rng.choice(shapes):
        case "ring":
            return Ring(tuple(nodes))
        case "three":
            places = sorted(rng.sample(range(1, size), k=2))
            return _sides(nodes, *places)
        case "bridge":
            return _sides(nodes[1:], rng.randint(1, size - 2))
        case "alone":
            return _sides(nodes, 1)
        case "halves":
            return _sides(nodes, size // 2)
        case _:
            return _sides(nodes, rng.randint(1, size - 1))


def _sides(nodes: Sequence[str], *places: int) -> Partition:
    ends = (0, *places, len(nodes))
    return Partition(tuple(tuple(nodes[one:other]) for one, other in itertools.pairwise(ends)))


def _mutes(draw: Draw) -> Schedule:
    schedule: Schedule = []
    for _ in range(draw.times()):
        at = draw.at()
        schedule += [(at, OneWay(*draw.one_and_others())), (round(at + draw.lasting(at, 15.0), 3), Heal())]
    return schedule


def _losses(draw: Draw) -> Schedule:
    return [(draw.at(), Lossy(*draw.one_and_others(), draw.rng.choice((0.05, 0.3, 0.7)))) for _ in range(draw.times())]


def _clogs(draw: Draw) -> Schedule:
    schedule: Schedule = []
    for _ in range(draw.times()):
        at, release = draw.at(), draw.rng.choice(("order", "burst"))
        for_s = draw.lasting(at, draw.rng.choice((0.3, 3.0)))
        if draw.rng.random() < 0.5:
            schedule.append((at, ClogNode(draw.rng.choice(list(draw.nodes)), for_s, release)))
        else:
            schedule.append((at, Clog(*draw.one_and_others(), for_s, release)))
    return schedule


def _resets(draw: Draw) -> Schedule:
    return [(draw.at(), Unlink(*draw.one_and_others())) for _ in range(3 * draw.times())]


def _weather(draw: Draw) -> Schedule:
    rng = draw.rng
    shares = (rng.choice((0.0, 0.01, 0.05, 0.2)), rng.choice((0.0, 0.02)), rng.choice((0.0, 0.05)), rng.choice((0.05, 0.5)))
    at = draw.at()
    return [(at, Weather(*shares)), (round(at + draw.lasting(at, 30.0), 3), CALM)]


def _drifts(draw: Draw) -> Schedule:
    return [(0.0, Drift(node, round(1 + draw.rng.uniform(-0.0005, 0.0005), 6))) for node in draw.some()]


def _walls(draw: Draw) -> Schedule:
    """Wall clocks that are wrong from the start, by seconds or by most of an hour, and ones that jump."""
    schedule: Schedule = []
    for node in draw.some():
        at = draw.rng.choice((0.0, draw.at()))
        schedule.append((at, Wall(node, round(draw.rng.choice((1.0, 60.0, 3600.0)) * draw.rng.uniform(-1.0, 1.0), 3))))
    return schedule


DRAWN: dict[str, Callable[[Draw], Schedule]] = {
    "crashes": _crashes,
    "power cuts": _power_cuts,
    "pauses": _pauses,
    "partitions": _partitions,
    "mutes": _mutes,
    "losses": _losses,
    "clogs": _clogs,
    "link resets": _resets,
    "weather": _weather,
    "disk errors": _disk_errors,
    "slow disks": _slow_disks,
    "stalled disks": _stalls,
    "rot": _rot,
    "drifting clocks": _drifts,
    "wrong wall clocks": _walls,
}
"""The kinds of fault that can be drawn, by the names that scenario files give them."""

NEED_TWO = frozenset({"partitions", "mutes", "losses", "clogs", "link resets"})
"""Those that lie between nodes."""


def mixture(rng: random.Random) -> dict[str, float]:
    """Which kinds a seed has, and how much of each."""
    share = rng.choice((0.15, 0.35, 0.6))
    return {kind: rng.choice((0.5, 1.0, 1.0, 3.0)) for kind in DRAWN if rng.random() < share}


def draw(
    rng: random.Random, nodes: Sequence[str], mixed: Mapping[str, float], *, begin: float, end: float, machines: Sequence[str] = ()
) -> Schedule:
    """A schedule of the kinds in ``mixed``, by how much there is of each."""
    schedule: Schedule = []
    for kind, much in mixed.items():
        if len(nodes) > 1 or kind not in NEED_TWO:
            schedule += DRAWN[kind](Draw(rng, nodes, machines, begin, end, much))
    schedule.sort(key=lambda row: row[0])
    return [*schedule, (end, Mend())]


def swarm(rng: random.Random, nodes: Sequence[str], *, begin: float, end: float, machines: Sequence[str] = ()) -> Schedule:
    """A schedule of a mixture that ``rng`` picks. ``machines`` are the stores whose writes and syncs power cuts may choose."""
    return draw(rng, nodes, mixture(rng), begin=begin, end=end, machines=machines)
