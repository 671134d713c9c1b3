"""What the simulated world does to nodes: tools that are left, links whose two sides learn of a break apart, wall clocks that are wrong."""

import pytest

from meshos.effects import Cast, Completed, Heard, Machine, Ok, Persist, Put, Tell, WriteBack
from meshos.flow import Port
from meshos.flow_machine import Abandon, Perform
from meshos.ids import AgentId, NodeId, OrgDid, Peer, TaskId
from meshos.protocols.rpc.casting import Listener
from meshos.protocols.rpc.events import Cancel, LinkDown, LinkUp, MessageReceived, SendMessage
from meshos.protocols.rpc.machine import Rpc
from meshos.protocols.tasks.ports import CallTool
from meshos.simulations.agents import Agents
from meshos.simulations.faults import Crash, Restart, Wall
from meshos.simulations.links import LATER_S
from meshos.simulations.world import SimNode, Spec, Violation, World
from meshos.storage.disk import DiskFailed

ORG = OrgDid("did:mesh:enterprise:acme")
ONE, OTHER = NodeId("n001"), NodeId("n002")


class Script:
    """A machine that does what it is given, and keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def step(self, now: float, event: object) -> list[object]:
        self.heard.append(event)
        return list(event) if isinstance(event, tuple) else []

    def deadline(self) -> float | None:
        return None


class Pair:
    """Two nodes whose only machine is a script named rpc."""

    def __init__(self, seed: int) -> None:
        self.world = World(seed)
        self.agents = Agents(self.world)
        self.scripts: dict[NodeId, Script] = {}
        for node in (ONE, OTHER):
            self.world.add(Spec(node, ORG, self._build, ports={CallTool: self.agents.call}))
            self.world.nodes[node].start()
            self.agents.start(self.world.nodes[node], AgentId("a-1"))

    def _build(self, node: SimNode) -> dict[str, Machine]:
        self.scripts[node.name] = Script()
        return {"rpc": self.scripts[node.name]}

    def do(self, node: NodeId, *effects: object) -> None:
        self.world.nodes[node].deliver("rpc", effects)

    def heard(self, node: NodeId, kind: type) -> list[object]:
        return [event for event in self.scripts[node].heard if isinstance(event, kind)]


def _called(pair: Pair) -> Perform:
    perform = Perform(1, Port(CallTool(AgentId("a-1"), TaskId("t-1"), "once", b"", 60.0)), None, reply_to="rpc")
    pair.do(ONE, perform)
    return perform


def test_a_tool_takes_its_time_and_may_stop_or_go_on_when_it_is_left() -> None:
    ran, stopped = 0, 0
    for seed in range(40):
        pair = Pair(seed)
        perform = _called(pair)
        assert not pair.heard(ONE, Completed)
        pair.do(ONE, Abandon(perform.op, perform.operation, reply_to="rpc"))
        pair.world.run(30.0)
        assert not pair.heard(ONE, Completed), "nobody waits for it"
        ran += pair.agents.runs.get(("a-1", "t-1"), 0)
        stopped += not pair.agents.runs
    assert ran and stopped and ran + stopped == 40


def test_a_tool_that_nobody_leaves_runs_once_and_answers() -> None:
    pair = Pair(1)
    _called(pair)
    pair.world.run(30.0)
    (completed,) = pair.heard(ONE, Completed)
    assert isinstance(completed, Completed) and isinstance(completed.outcome, Ok) and pair.agents.runs == {("a-1", "t-1"): 1}


def test_the_answer_of_a_tool_does_not_reach_a_later_life() -> None:
    pair = Pair(1)
    _called(pair)
    Crash(ONE).do(pair.world)
    Restart(ONE).do(pair.world)
    pair.world.run(30.0)
    assert not pair.heard(ONE, Completed) and not pair.world.nodes[ONE].outside


def test_what_is_under_way_when_a_link_breaks_may_arrive_although_its_sender_has_seen_the_break() -> None:
    arrived = 0
    for seed in range(40):
        pair = Pair(seed)
        pair.world.links.open(pair.world.nodes[ONE], OTHER)
        pair.world.run(1.0)
        assert pair.heard(ONE, LinkUp) and pair.heard(OTHER, LinkUp)
        pair.do(OTHER, SendMessage(ONE, "control", Cancel(b"x")))
        pair.do(ONE, SendMessage(OTHER, "control", Cancel(b"y")))
        pair.world.links._break((ONE, OTHER), 1)
        pair.world.run(1.0 + 2 * LATER_S)
        got = [len(pair.heard(node, MessageReceived)) for node in (ONE, OTHER)]
        assert sum(got) <= 1, "the side that has learnt it takes nothing any more"
        for node in (ONE, OTHER):
            kinds = [type(event) for event in pair.scripts[node].heard]
            assert kinds.count(LinkDown) == 1 and MessageReceived not in kinds[kinds.index(LinkDown) :]
        arrived += sum(got)
    assert arrived > 0


def test_a_wall_clock_that_is_wrong_moves_no_other_clock() -> None:
    world = World(1)
    node = world.add(Spec(ONE, ORG, lambda node: {}))
    world.run(10.0)
    before, now = node.wall_ms(), node.now()
    Wall(ONE, -1800.0).do(world)
    assert node.wall_ms() == before - 1_800_000 and node.now() == now


def test_a_cast_opens_a_link_and_the_next_one_is_heard() -> None:
    world, scripts = World(1), dict[NodeId, Script]()

    def build(node: SimNode) -> dict[str, Machine]:
        scripts[node.name] = Script()
        listeners = {"/t/1": Listener("script", lambda peer: True)}
        return {"rpc": Rpc(Peer(node.name, ORG), {}, node.rng, listeners=listeners), "script": scripts[node.name]}

    for name in (ONE, OTHER):
        world.add(Spec(name, ORG, build)).start()
    for body in (b"lost", b"heard"):
        world.nodes[ONE].deliver("script", (Cast(OTHER, "/t/1", body),))
        world.run(world.now + 1.0)
    assert scripts[OTHER].heard == [Heard(Peer(ONE, ORG), "/t/1", b"heard")]


def test_a_crash_loses_a_tail_of_what_was_written_back_and_nothing_that_was_synced() -> None:
    survived = set()
    for seed in range(40):
        world = World(seed)
        node = world.add(Spec(ONE, ORG, lambda node: {"script": Script()}, stores=("script",)))
        node.start()
        node.deliver("script", (WriteBack((Put(b"0", b"back"),)), Persist((Put(b"1", b"synced"),))))
        world.run(0.01)
        for number in (2, 3, 4):
            node.deliver("script", (WriteBack((Put(b"%d" % number, b"back"),)),))
        assert node.views["script"].get(b"4") == b"back"
        node.crash()
        kept = b"".join(key for key, _ in node.stores["script"].scan(b""))
        assert b"01234".startswith(kept) and kept.startswith(b"01"), kept
        survived.add(kept)
    assert survived >= {b"01", b"012", b"0123"}


def test_what_is_written_back_is_synced_soon_where_nothing_else_is() -> None:
    world = World(1)
    node = world.add(Spec(ONE, ORG, lambda node: {"script": Script()}, stores=("script",)))
    node.start()
    node.deliver("script", (WriteBack((Put(b"k", b"v"),)),))
    world.run(1.0)
    assert node.stores["script"].get(b"k") == b"v" and node.views["script"].pending == 0


def test_events_that_cause_each_other_without_end_are_a_storm_and_no_run_for_ever() -> None:
    world = World(1)

    def again(delay: float) -> None:
        world.after(delay, again, delay)

    again(0.0)
    with pytest.raises(Violation, match="a storm"):
        world.run(1.0)
    world = World(1)
    again(0.0002)
    world.run(20.0)
    assert world.steps >= 100_000, "much is no storm"


class Parrot:
    """A machine that tells itself what it hears."""

    def step(self, now: float, event: object) -> list[object]:
        return [Tell("parrot", event)]

    def deadline(self) -> float | None:
        return None


def test_machines_that_tell_each_other_things_without_end_are_noticed() -> None:
    world = World(1)
    world.observer = lambda node, machine, event, effects: None
    node = world.add(Spec(ONE, ORG, lambda node: {"parrot": Parrot()}))
    node.start()
    with pytest.raises(Violation, match="n001 makes steps without end, the last of parrot for str"):
        node.deliver("parrot", "polly")


class Restless(Script):
    """A machine that is woken every tenth of a second, and dies of what is on its disk when it hears of anything."""

    def __init__(self, node: SimNode) -> None:
        super().__init__()
        self._now = node.now
        self.due = self._now()

    def step(self, now: float, event: object) -> list[object]:
        self.due = now + 0.1
        if isinstance(event, str):
            raise DiskFailed("disk-corrupt", "the value is rotten")
        return super().step(now, event)

    def deadline(self) -> float | None:
        return self.due


def test_a_node_that_dies_of_what_it_kept_while_it_was_paused_does_nothing_more() -> None:
    """Its machines went on, and wrote to the disk that the next life begins with: seed 613 of "pbft"."""
    world = World(1)
    machines: list[Restless] = []

    def build(node: SimNode) -> dict[str, Machine]:
        machines.append(Restless(node))
        return {"rpc": machines[-1]}

    world.add(Spec(ONE, ORG, build))
    node = world.nodes[ONE]
    node.start()
    world.at(1.0, node.pause)
    world.at(1.5, node.deliver, "rpc", "the last straw")
    world.at(2.0, node.resume)
    world.run(2.0)
    assert not node.alive
    steps = len(machines[0].heard)
    world.run(4.0)
    assert len(machines[0].heard) == steps
