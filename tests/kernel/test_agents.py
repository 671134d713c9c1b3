"""Deploying and withdrawing whatever crashes, whoever else does it at once, and whatever fails at the start."""

from typing import Any

import pytest

from meshos.consensus.org.commands import Agent, GetAgent
from meshos.effects import Err, Ok, Outcome, Tick
from meshos.errors import Failed, MeshError, Refused
from meshos.ids import AgentId, agent_id
from meshos.node.kernel.agents import TIDY_S, DeployAsked, StartAgent, StopAgent, UndeployAsked
from meshos.node.kernel.asking import ASK_ORG, DEPLOY, UNDEPLOY
from meshos.node.kernel.watch import Happened
from meshos.presets import LAN
from meshos.protocols.directory import limits
from meshos.protocols.directory.machine import Directory
from meshos.protocols.tasks.agent_file import parse_mapping
from meshos.protocols.tasks.tools import Tool
from meshos.simulations.mesh import TOOLS, Mesh
from meshos.simulations.work import Asking
from meshos.simulations.world import SimNode, World


class Programs:
    """What runs on the first node of a mesh: agent -> description of the file it was started from."""

    def __init__(self, seed: int, nodes: int = 1) -> None:
        self.world = World(seed)
        self.mesh = Mesh(self.world, nodes, timing=LAN, whole=True)
        self.asking = Asking(self.world)
        self.happened: list[Happened] = []
        asked = self.world.noticed
        assert asked is not None

        def noticed(node: SimNode, effect: object) -> None:
            if isinstance(effect, Happened):
                self.happened.append(effect)
            asked(node, effect)

        self.world.noticed = noticed
        self.node = self.world.nodes[self.mesh.ids[0]]
        self.agent = agent_id(self.node.spec.org, "Worker")
        self.runs: dict[AgentId, str] = {}
        self.broken: dict[str, MeshError] = {}  # by description: what starting it gives
        self.node.spec.ports = {**self.node.spec.ports, StartAgent: self._start, StopAgent: self._stop}
        for node in self.mesh.ids:
            self.world.nodes[node].start()
        self.run(3)

    def _start(self, node: SimNode, effect: StartAgent) -> tuple[Tool, ...]:
        if effect.file.description in self.broken:
            raise self.broken[effect.file.description]
        self.runs[effect.agent] = effect.file.description
        return TOOLS if effect.must_start else ()

    def _stop(self, node: SimNode, effect: StopAgent) -> None:
        self.runs.pop(effect.agent, None)

    def run(self, seconds: float) -> None:
        self.world.run(self.world.now + seconds)

    def deploy(self, description: str, timeout_s: float = 30.0, name: str = "Worker") -> int:
        file = parse_mapping({"name": name, "description": description, "runtime": {"mcp": {"command": ["worker"]}}})
        return self.asking.ask(self.node, DEPLOY, DeployAsked(file, file.canonical(), "/", "tester"), timeout_s)

    def undeploy(self, timeout_s: float = 30.0) -> int:
        return self.asking.ask(self.node, UNDEPLOY, UndeployAsked(self.agent, "tester"), timeout_s)

    def error(self, number: int) -> str:
        outcome = self.asking.ended[number]
        return outcome.error.name if isinstance(outcome, Err) else ""

    def value(self, number: int) -> Any:
        outcome: Outcome[object] = self.asking.ended[number]
        assert isinstance(outcome, Ok), outcome
        return outcome.value

    def recorded(self) -> Agent | None:
        number = self.asking.ask(self.node, ASK_ORG, GetAgent(self.agent), 5.0)
        self.run(1)
        return None if self.error(number) else self.value(number)

    def holders(self, agent: AgentId) -> list[str]:
        """The nodes whose directory has a record of the agent."""
        return [node for node in self.mesh.ids if self.mesh.assemblies[node].directory.beginning(agent, 1)]

    def on_disk(self) -> bool:
        """Whether the first node's directory would hold the record after a restart."""
        directory = Directory(self.node.name, self.node.stores["directory"])
        directory.step(0.0, Tick())
        return bool(directory.beginning(self.agent, 1))

    def restart(self) -> None:
        self.node.crash()
        self.runs.clear()
        self.run(1)
        self.node.start()
        self.run(5)


def next_event(world: World) -> None:
    """Everything that happens at the next moment at which something happens."""
    world.run(world.heap[0][0])


def test_an_undeploy_that_a_crash_cuts_at_any_effect_leaves_no_record_in_the_end() -> None:
    cut, ghosts = 0, 0
    while True:
        one = Programs(7, nodes=3)
        one.deploy("works")
        one.run(3)
        assert len(one.holders(one.agent)) == 3
        number = one.undeploy()
        for _ in range(cut):
            next_event(one.world)
        ended = number in one.asking.ended
        one.node.crash()
        held = one.on_disk()
        one.restart()
        known = one.recorded()
        assert known is not None
        if not known.withdrawn:
            assert one.runs == {one.agent: "works"}, "it was not recorded, so that nothing has changed"
            one.undeploy()
        else:
            ghosts += held
            assert not one.runs
        one.run(5)
        assert one.holders(one.agent) == [], f"cut after {cut} moments"
        if ended:
            break
        cut += 1
    assert cut > 3 and ghosts, "one of the cuts was between the organisation's record and the directory's"


def test_a_tombstone_that_is_published_again_does_not_bury_what_was_deployed_since() -> None:
    one = Programs(8)
    for ask in (lambda: one.deploy("works"), one.undeploy, lambda: one.deploy("works again")):
        ask()
        one.run(1)
    one.restart()
    assert one.holders(one.agent) and one.runs == {one.agent: "works again"}
    assert "start-failed" not in [happened.kind for happened in one.happened]


@pytest.mark.parametrize("lapsed", [False, True])
def test_what_runs_and_the_directory_has_no_room_for_is_found_once_it_has(lapsed: bool) -> None:
    one = Programs(31 + lapsed, nodes=3)
    caps, rooms = [one.mesh.assemblies[node].directory._held for node in one.mesh.ids], [0 if not lapsed else None]
    for held in caps:
        held._caps = lambda org: (limits.TOTAL_RECORDS, limits.ORG_RECORDS, rooms[0])
    if lapsed:
        for node in one.mesh.ids:
            one.mesh.assemblies[node].directory._lifetime = lambda: 60.0
    number = one.deploy("works")
    one.run(3)
    assert one.error(number) == ("" if lapsed else "org-full") and one.runs == {one.agent: "works"}
    rooms[0] = 0
    one.run(200)
    assert one.holders(one.agent) == [] and one.runs == {one.agent: "works"}
    rooms[0] = 1
    one.run(2 * TIDY_S + 5)
    assert one.holders(one.agent) == list(one.mesh.ids)
    one.undeploy()
    one.run(2 * TIDY_S + 5)
    assert one.holders(one.agent) == [] and not one.runs


def test_two_deployments_of_a_name_at_once_are_one_and_a_refusal() -> None:
    one = Programs(9)
    first, second, third = one.deploy("first"), one.deploy("second"), one.undeploy()
    other = one.deploy("other", name="Other")
    one.run(2)
    assert [one.error(number) for number in (first, second, third, other)] == ["", "agent-changing", "agent-changing", ""]
    assert one.runs[one.agent] == "first"
    again = one.deploy("second")
    one.run(2)
    assert one.value(again).record.entry.version == 2 and one.runs[one.agent] == "second"


def test_a_deployment_while_the_node_starts_the_same_agent_is_refused_or_wins() -> None:
    for moments in range(12):
        one = Programs(10)
        one.deploy("first")
        one.run(2)
        one.node.crash()
        one.runs.clear()
        one.node.start()
        for _ in range(moments):
            next_event(one.world)
        number = one.deploy("second")
        one.run(5)
        refused = one.error(number)
        assert refused in ("", "agent-changing", "not-leading")
        known = one.recorded()
        assert known is not None
        assert one.runs == {one.agent: "first" if refused else "second"} and known.version == (1 if refused else 2)
        assert "start-failed" not in [happened.kind for happened in one.happened]


def test_what_a_cancelled_deployment_left_running_is_stopped_by_the_next_flow() -> None:
    one = Programs(11)
    cancelled = one.deploy("works", timeout_s=0.003)
    one.run(2)
    assert one.error(cancelled) == "deadline-exceeded" and one.runs == {one.agent: "works"} and one.recorded() is None
    number = one.undeploy()
    one.run(2)
    assert one.error(number) == "agent-unknown" and not one.runs


@pytest.mark.parametrize("before", [False, True])
def test_what_a_cancelled_deployment_left_running_does_not_run_on_though_nobody_deploys_again(before: bool) -> None:
    one = Programs(11)
    if before:
        one.deploy("first")
        one.run(2)
    cancelled = one.deploy("second", timeout_s=0.003)
    one.run(0.1)
    assert one.error(cancelled) == "deadline-exceeded" and one.runs == {one.agent: "second"}
    one.run(TIDY_S)
    assert one.runs == ({one.agent: "first"} if before else {})


def test_what_a_cancelled_deployment_has_replaced_runs_again_before_another_is_deployed() -> None:
    one = Programs(12)
    one.deploy("first")
    one.run(2)
    cancelled = one.deploy("second", timeout_s=0.003)
    one.run(2)
    assert one.error(cancelled) == "deadline-exceeded" and one.runs == {one.agent: "second"}
    one.deploy("other", name="Other")
    one.run(2)
    assert one.runs == {one.agent: "first", agent_id(one.node.spec.org, "Other"): "other"}


@pytest.mark.parametrize("moments", range(12))
def test_a_withdrawal_that_is_cancelled_at_any_moment_is_finished_by_the_next_flow(moments: int) -> None:
    one = Programs(13)
    one.deploy("works")
    one.run(2)
    number = one.undeploy(timeout_s=0.0005 * moments)
    one.run(2)
    one.deploy("other", name="Other")
    one.run(2)
    known = one.recorded()
    assert known is not None
    assert bool(one.holders(one.agent)) == (one.agent in one.runs) == (not known.withdrawn)
    assert known.withdrawn or one.error(number) == "deadline-exceeded"


def test_a_failed_deployment_leaves_what_ran() -> None:
    one = Programs(14)
    one.deploy("first")
    one.run(2)
    one.broken["second"] = Failed("agent-crashed", "it ended at once")
    number = one.deploy("second")
    one.run(2)
    assert one.error(number) == "agent-crashed" and one.runs == {one.agent: "first"}


def test_a_start_that_fails_is_told_after_all_were_tried_and_the_node_is_ready() -> None:
    one = Programs(15)
    for name in ("A", "B", "C"):
        one.deploy(name, name=name)
    one.run(2)
    first = min(one.runs)
    one.broken[one.runs[first]] = Refused("runtime-not-offered", "agents of this kind are not offered")
    expected = {agent: text for agent, text in one.runs.items() if agent != first}
    one.restart()
    assert one.runs == expected
    told = [happened for happened in one.happened if happened.kind == "start-failed"]
    assert [dict(happened.fields)["err"] for happened in told] == ["runtime-not-offered"]
    assert one.mesh.assemblies[one.node.name].watch.ready
