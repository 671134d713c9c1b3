"""What can be done to a world, and how it is written: each fault does what its sentence says, and survives its file and its words."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshos.effects import Persist, Put
from meshos.errors import BadInput
from meshos.ids import NodeId, OrgDid
from meshos.protocols.rpc.events import Cancel, LinkDown, MessageReceived, SendMessage
from meshos.simulations.faults import (
    DRAWN,
    KINDS,
    Clog,
    ClogNode,
    Corrupt,
    Crash,
    CrashAt,
    Disk,
    Lossy,
    Mend,
    OneWay,
    Partition,
    Pause,
    Ring,
    SlowDisk,
    Stall,
    Unlink,
    draw,
    from_json,
    from_words,
    in_words,
    mixture,
    swarm,
    to_json,
)
from meshos.simulations.faults.schedule import check_nodes, simpler
from meshos.simulations.pbft import faults as pbft_faults
from meshos.simulations.raft import faults as raft_faults
from meshos.simulations.world import SimNode, Spec, World

ORG = OrgDid("did:mesh:enterprise:acme")
NODES = [NodeId(f"n{number}") for number in range(1, 6)]
ONE, TWO, THREE = NODES[:3]


class Script:
    """A machine that does what it is given, and keeps what it hears; its disk's first key is read when it begins."""

    def __init__(self, node: SimNode) -> None:
        self.node = node
        self.heard: list[object] = []
        self.times: list[float] = []
        if "script" in node.views:
            node.views["script"].get(b"key")

    def step(self, now: float, event: object) -> list[object]:
        self.heard.append(event)
        self.times.append(self.node.world.now)
        return list(event) if isinstance(event, tuple) else []

    def deadline(self) -> float | None:
        return None


class Rig:
    """Nodes with a script named rpc, which is what links deliver to, and one named script, which has a disk."""

    def __init__(self, seed: int = 1, nodes: int = 2) -> None:
        self.world = World(seed)
        self.scripts: dict[NodeId, Script] = {}
        for node in NODES[:nodes]:
            self.world.add(Spec(node, ORG, self._build, stores=("script",))).start()

    def _build(self, node: SimNode) -> dict[str, Script]:
        self.scripts[node.name] = Script(node)
        return {"rpc": self.scripts[node.name], "script": Script(node)}

    def write(self, node: NodeId, value: bytes) -> None:
        self.world.nodes[node].deliver("script", (Persist((Put(b"key", value),)),))

    def stored(self, node: NodeId) -> bytes | None:
        return self.world.nodes[node].stores["script"].get(b"key")

    def link(self, one: NodeId = ONE, other: NodeId = TWO) -> None:
        self.world.links.open(self.world.nodes[one], other)
        self.world.run(self.world.now + 1.0)

    def send(self, source: NodeId, target: NodeId, count: int = 1) -> None:
        for number in range(count):
            self.world.nodes[source].deliver("rpc", (SendMessage(target, "control", Cancel(b"%d" % number)),))

    def arrived(self, node: NodeId) -> list[tuple[float, bytes]]:
        script = self.scripts[node]
        rows = zip(script.times, script.heard, strict=True)
        return [(at, event.message.id) for at, event in rows if isinstance(event, MessageReceived) and isinstance(event.message, Cancel)]


# -- how a schedule is written ---------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(1, 7))
def test_what_a_seed_draws_survives_its_file_and_its_words(seed: int, count: int) -> None:
    names = [f"n{number:03d}" for number in range(1, count + 1)]
    schedule = swarm(random.Random(seed), names, begin=10.0, end=60.0, machines=("org", "raft"))
    assert from_json(json.loads(json.dumps(to_json(schedule)))) == schedule
    assert [from_words(in_words(fault)) for _, fault in schedule] == [fault for _, fault in schedule]
    check_nodes(schedule, [NodeId(name) for name in names])
    assert isinstance(schedule[-1][1], Mend) and all(at <= 60.0 for at, _ in schedule)


def test_every_kind_of_fault_is_drawn_by_some_seed() -> None:
    drawn = {type(fault).__name__.lower() for seed in range(200) for _, fault in swarm(random.Random(seed), NODES, begin=0.0, end=9.0)}
    theirs = {name.lower() for module in (pbft_faults, raft_faults) for name in vars(module)}
    ours = set(KINDS) - theirs  # scenarios add their own
    assert drawn == ours, "else it is never tried"


def test_each_seed_leaves_some_kinds_out_and_each_kind_is_in_some() -> None:
    mixtures = [mixture(random.Random(seed)) for seed in range(100)]
    assert set().union(*mixtures) == set(DRAWN) and all(len(mixed) < len(DRAWN) for mixed in mixtures)


def test_much_of_a_kind_is_more_of_it() -> None:
    def crashes(much: float) -> int:
        return sum(len(draw(random.Random(seed), NODES, {"crashes": much}, begin=0.0, end=9.0)) for seed in range(50))

    assert crashes(4.0) > 2 * crashes(0.5)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("crash n1", Crash("n1")),
        ("  partition   n1,n2 |  n3 ", Partition((("n1", "n2"), ("n3",)))),
        ("crash n1 before sync 3 of any", CrashAt("n1", "before", "sync", 3, "any")),
        ("stall disk of n1 for 300 ms", Stall("n1", 0.3)),
        ("clog all of n1 for 2 min then in burst", ClogNode("n1", 120.0, "burst")),
        ("lose 5% of what n1 sends to n2, n3", Lossy("n1", ("n2", "n3"), 0.05)),
        ("lose 0.05 of what n1 sends to n2", Lossy("n1", ("n2",), 0.05)),
    ],
)
def test_a_fault_is_written_as_a_person_would(text: str, fault: object) -> None:
    assert from_words(text) == fault


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("crush n1", "did you mean: crash {node}"),
        ("crash n1 n2", "did you mean: crash {node} or: crash {node} {point}"),
        ("stall disk of n1 for 3", "did you mean: stall disk of {node} for {for_s}"),
        ("partition n1", "at least two sides"),
        ("partition n1 | n1 n2", "on two sides"),
        ("disk of n1 fails 150 %", "from 0 to 1"),
        ("crash n1 before sync 0 of any", "no count from 1 on"),
        ("", "no fault"),
        ("x" * 10_000, "no fault"),
    ],
)
def test_words_that_are_no_fault_are_refused_with_what_may_have_been_meant(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_words(text)


@pytest.mark.parametrize(
    "rows",
    [
        None,
        [1],
        [{"at": 1}],
        [{"at": "x", "fault": "heal"}],
        [{"at": True, "fault": "heal"}],
        [{"at": -1, "fault": "heal"}],
        [{"at": float("nan"), "fault": "heal"}],
        [{"at": 1, "fault": "crash"}],
        [{"at": 1, "fault": "heal", "x": 1}],
        [{"at": 1, "fault": "crash", "node": 7}],
        [{"at": 1, "fault": "crash", "node": "../x"}],
        [{"at": 1, "fault": "partition", "sides": [["a"]]}],
        [{"at": 1, "fault": "disk", "node": "a", "error_rate": 2}],
        [{"at": 1, "fault": "drift", "node": "a", "rate": 0}],
        [{"at": 1, "fault": "crashat", "node": "a", "point": "beside", "operation": "sync", "number": 1, "machine": "any"}],
    ],
)
def test_a_bad_schedule_is_refused_by_name(rows: object) -> None:
    with pytest.raises(BadInput) as caught:
        from_json(rows)
    assert caught.value.name == "bad-schedule"


def test_a_fault_of_a_node_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadInput, match="there is no node 'n9'"):
        check_nodes([(1.0, Partition((("n1",), ("n2", "n9"))))], NODES)


def test_what_is_simpler_is_still_a_fault_and_another() -> None:
    for fault in (Partition((("n1", "n2"), ("n3",))), Clog("n1", ("n2", "n3"), 1.234, "burst"), CrashAt("n1", "torn", "write", 3, "any")):
        candidates = list(simpler(fault))
        assert candidates and fault not in candidates
        assert from_json(json.loads(json.dumps(to_json([(1.0, each) for each in candidates])))) == [(1.0, each) for each in candidates]


# -- the network -----------------------------------------------------------------------------------------------------


def test_in_a_ring_each_hears_its_two_neighbours_and_no_other() -> None:
    world = Rig(nodes=5).world
    Ring(tuple(NODES)).do(world)
    hears = {(one, other) for one in NODES for other in NODES if one != other and world.network.passes(one, other)}
    assert hears == {(NODES[at], NODES[(at + step) % 5]) for at in range(5) for step in (1, 4)}


def test_a_node_on_no_side_is_a_bridge() -> None:
    world = Rig(nodes=3).world
    Partition(((ONE,), (TWO,))).do(world)
    passes = world.network.passes
    assert not passes(ONE, TWO) and not passes(TWO, ONE)
    assert all(passes(one, THREE) and passes(THREE, one) for one in (ONE, TWO))


def test_a_muted_node_still_hears() -> None:
    world = Rig().world
    OneWay(ONE, (TWO,)).do(world)
    assert not world.network.passes(ONE, TWO) and world.network.passes(TWO, ONE)


@pytest.mark.parametrize("release", ["order", "burst"])
def test_what_a_clogged_link_holds_back_comes_after_it_in_order(release: str) -> None:
    rig = Rig()
    rig.link()
    began = rig.world.now
    Clog(ONE, (TWO,), 2.0, release).do(rig.world)
    rig.send(ONE, TWO, 20)
    rig.send(TWO, ONE, 1)
    rig.world.run(began + 1.9)
    assert not rig.arrived(TWO) and len(rig.arrived(ONE)) == 1, "the other direction passes"
    rig.world.run(began + 3.0)
    assert [name for _, name in rig.arrived(TWO)] == [b"%d" % number for number in range(20)]
    assert began + 2.0 <= rig.arrived(TWO)[0][0]


def test_datagrams_of_a_clogged_path_come_in_order_or_in_a_burst() -> None:
    for release in ("order", "burst"):
        network = Rig().world.network
        path = network.faults.path(ONE, TWO)
        path.clogged_until, path.burst = 2.0, release == "burst"
        arrive = [1.0 + network.datagram(ONE, TWO, 1.0)[0] for _ in range(50)]
        assert min(arrive) >= 2.0 and network.datagram(TWO, ONE, 1.0)[0] < 0.1
        spread = max(arrive) - min(arrive)
        assert spread < 0.005 if release == "burst" else spread > 0.02
        assert network.datagram(ONE, TWO, 2.5)[0] < 0.1, "afterwards it is as before"


def test_what_is_lost_more_in_one_direction_is_not_lost_in_the_other() -> None:
    network = Rig().world.network
    Lossy(ONE, (TWO,), 0.5).do(world := Rig().world)
    network = world.network
    there = sum(bool(network.datagram(ONE, TWO, 0.0)) for _ in range(400))
    back = sum(bool(network.datagram(TWO, ONE, 0.0)) for _ in range(400))
    assert 120 < there < 280 and back == 400
    assert max(network.stream_delay(ONE, TWO, 0.0) for _ in range(50)) > 0.2 > max(network.stream_delay(TWO, ONE, 0.0) for _ in range(50))


def test_a_link_that_is_reset_is_down_for_both_and_can_be_opened_again() -> None:
    rig = Rig()
    rig.link()
    Unlink(ONE, (TWO,)).do(rig.world)
    rig.world.run(rig.world.now + 1.0)
    assert all(sum(isinstance(event, LinkDown) for event in rig.scripts[node].heard) == 1 for node in (ONE, TWO))
    rig.link()
    rig.send(ONE, TWO)
    rig.world.run(rig.world.now + 1.0)
    assert len(rig.arrived(TWO)) == 1


# -- disks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "operation", "stored"),
    [
        ("before", "write", b"1"),
        ("torn", "write", b"1"),
        ("before", "sync", b"1"),
        ("torn", "sync", b"1"),
        ("after", "sync", b"2"),
        ("after", "write", b"2"),
    ],
)
def test_the_power_goes_at_the_write_or_sync_that_was_named(point: str, operation: str, stored: bytes) -> None:
    rig = Rig()
    CrashAt(ONE, point, operation, 2, "any").do(rig.world)
    for number in (1, 2, 3):
        rig.write(ONE, b"%d" % number)
        rig.world.run(rig.world.now + 1.0)
        assert rig.world.nodes[ONE].alive == (number == 1)
    rig.world.nodes[ONE].start()
    assert rig.stored(ONE) == stored
    rig.write(ONE, b"4")
    rig.world.run(rig.world.now + 1.0)
    assert rig.stored(ONE) == b"4" and rig.world.nodes[ONE].alive, "the power goes once"


def test_a_trap_of_one_store_lets_the_others_be() -> None:
    rig = Rig()
    CrashAt(ONE, "before", "write", 1, "another").do(rig.world)
    rig.write(ONE, b"1")
    rig.world.run(1.0)
    assert rig.world.nodes[ONE].alive and rig.stored(ONE) == b"1"


def test_a_stalled_disk_answers_when_it_is_over_and_a_slow_one_late() -> None:
    rig = Rig()
    Stall(ONE, 3.0).do(rig.world)
    rig.write(ONE, b"1")
    rig.world.run(2.9)
    assert rig.stored(ONE) is None and rig.world.nodes[ONE].alive
    rig.world.run(3.1)
    assert rig.stored(ONE) == b"1"
    SlowDisk(ONE, 1.0).do(rig.world)
    rig.write(ONE, b"2")
    rig.world.run(3.5)
    assert rig.stored(ONE) == b"1"
    rig.world.run(4.2)
    assert rig.stored(ONE) == b"2"


def test_a_disk_that_stalls_twice_stalls_until_the_later_end_and_mending_ends_both() -> None:
    rig = Rig()
    Stall(ONE, 1.0).do(rig.world)
    Stall(ONE, 5.0).do(rig.world)
    rig.write(ONE, b"1")
    rig.world.run(2.0)
    assert rig.stored(ONE) is None
    Mend().do(rig.world)
    assert rig.stored(ONE) == b"1"


def test_a_value_that_rotted_ends_the_node_that_reads_it_until_the_disk_is_mended() -> None:
    rig = Rig()
    rig.write(ONE, b"1")
    rig.world.run(1.0)
    Corrupt(ONE, "script").do(rig.world)
    Crash(ONE).do(rig.world)
    rig.world.nodes[ONE].start()
    assert not rig.world.nodes[ONE].alive and "a node that could not start: its disk is corrupt" in rig.world.situations
    rig.world.run(2.0)
    Mend().do(rig.world)
    assert rig.world.nodes[ONE].alive and rig.stored(ONE) == b"1"


def test_mending_ends_everything_but_wrong_clocks() -> None:
    rig = Rig(nodes=3)
    rig.world.nodes[ONE].drift = 1.0001
    for fault in (Partition(((ONE,), (TWO,))), Lossy(ONE, (TWO,), 0.5), Disk(ONE, 1.0), SlowDisk(TWO, 9.0), Pause(TWO), Crash(THREE)):
        fault.do(rig.world)
    Mend().do(rig.world)
    rig.world.run(1.0)
    for node in NODES[:3]:
        rig.write(node, b"1")
    rig.world.run(2.0)
    assert all(rig.stored(node) == b"1" for node in NODES[:3])
    assert rig.world.network.passes(ONE, TWO) and not rig.world.network.faults.paths and rig.world.nodes[ONE].drift == 1.0001
