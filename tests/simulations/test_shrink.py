"""A run that fails is made as small as it can be: without any one of its faults it fails no more."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from meshos.errors import BadInput
from meshos.node.cli import main
from meshos.simulations.faults import Crash, Drift, Heal, Mend, Partition, Pause, Schedule, from_json, swarm
from meshos.simulations.parallel import Workers
from meshos.simulations.run import Report, run
from meshos.simulations.scenario_files import chosen
from meshos.simulations.shrink import Case, Shrinker, run_case, sort_of
from meshos.simulations.world import World

TOY = '''
"""Nodes that do nothing, and a checker that wants a crash of n002 while n001 and n002 are parted never to be."""

from meshos.effects import Tick
from meshos.ids import NodeId, OrgDid
from meshos.simulations.run import Scenario
from meshos.simulations.world import Spec, Violation


class Clock:
    def __init__(self):
        self.due = 0.0

    def step(self, now, event):
        self.due = now + 0.25
        return []

    def deadline(self):
        return self.due


class ToyChecker:
    def observe(self, node, machine, event, effects):
        world = node.world
        if world.nodes[NodeId("n002")].alive or world.network.passes(NodeId("n001"), NodeId("n002")):
            return
        raise Violation("safety", f"n002 is dead and parted at {world.now:.3f}")

    def finish(self, world):
        if world.nodes[NodeId("n001")].drift != 1.0:
            raise Violation("stuck", "n001 drifts")


def populate(world, nodes):
    for number in range(1, nodes + 1):
        world.add(Spec(NodeId(f"n{number:03d}"), OrgDid("did:mesh:enterprise:acme"), lambda node: {"clock": Clock()}))
    return [ToyChecker()]


SCENARIO = Scenario("toy", "a toy", populate, 6, 100.0, 10.0, 20.0)
SEEDS = range(1, 4)
'''


@pytest.fixture
def toy(tmp_path: Path) -> str:
    path = tmp_path / "toy.py"
    path.write_text(TOY)
    return str(path)


def _failing(toy: str) -> tuple[Case, Report]:
    """Some seed's faults that break it, and much besides."""
    names = [f"n{number:03d}" for number in range(1, 7)]
    much: Schedule = swarm(World(7).generator("x"), names, begin=10.0, end=79.0)[:-1]
    also: Schedule = [
        (31.417, Partition((("n001", "n003"), ("n002", "n004", "n005")))),
        (33.2, Pause("n004")),
        (36.9144, Crash("n002")),
        (50.0, Heal()),
    ]
    schedule = [*sorted([row for row in much if not isinstance(row[1], Heal)] + also, key=lambda row: row[0]), (80.0, Mend())]
    case = Case(toy, 1, 6, 100.0, tuple(schedule))
    return case, run_case(case)


def test_what_is_left_is_the_two_faults_that_it_takes(toy: str) -> None:
    case, failed = _failing(toy)
    assert failed.verdict == "safety" and case.faults > 5
    heard: list[int] = []
    least = Shrinker(case, failed, Workers(None, 1), lambda case, runs: heard.append(runs)).shrink()
    assert sort_of(run_case(least)) == sort_of(failed)
    faults = [fault for _, fault in least.schedule if not isinstance(fault, Mend)]
    assert sorted(faults, key=repr) == [Crash("n002"), Partition((("n001",), ("n002",)))]
    assert least.nodes == 2 and 0 < least.until_s < 40 and heard == sorted(heard)
    assert all(time == round(time) for time, _ in least.schedule), "times as a person would write them"
    for row in least.schedule:  # 1-minimal (Zeller and Hildebrandt, 2002, definition 11)
        fewer = replace(least, schedule=tuple(other for other in least.schedule if other is not row))
        assert isinstance(row[1], Mend) or run_case(fewer).verdict == "ok"


def test_another_failure_is_not_taken_for_a_smaller_one(toy: str) -> None:
    case, _ = _failing(toy)
    case = replace(case, schedule=((0.0, Drift("n001", 1.0001)), *case.schedule))
    failed = run_case(case)
    least = Shrinker(case, failed, Workers(None, 1), lambda case, runs: None).shrink()
    assert run_case(least).verdict == "safety", "a drifting clock alone is stuck, which is another bug"


def test_the_sort_of_a_failure_leaves_out_what_differs_between_two_runs_of_one_bug() -> None:
    one = Report("x", 1, 2, 3.0, [], "stuck", "n003 does not see ['n004', 'n005'] alive", "MembershipChecker")
    other = replace(one, message="n007 does not see ['n001'] alive")
    another = replace(one, message="n003 still sees ['n004'] alive")
    assert sort_of(one) == sort_of(other) != sort_of(another) != sort_of(replace(another, checker="QuietChecker"))


def test_a_bound_on_the_runs_is_kept(toy: str) -> None:
    case, failed = _failing(toy)
    shrinker = Shrinker(case, failed, Workers(None, 1), lambda case, runs: None, max_runs=5)
    assert run_case(shrinker.shrink()).verdict == "safety" and shrinker.runs <= 5


def test_the_command_writes_a_smaller_file_that_fails_in_the_same_way(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _, failed = _failing(toy)
    file = tmp_path / "toy-1.json"
    file.write_text(json.dumps(failed.to_json()))
    assert main.run(["sim", "shrink", str(file)]) == 0
    said = capsys.readouterr().out
    assert "Minimal schedule (2 of " in said and "crash n002" in said and "partition n001 | n002" in said
    assert f"Replay  mesh sim replay {tmp_path}/toy-1.min.json" in said
    written = json.loads((tmp_path / "toy-1.min.json").read_text())
    assert len(from_json(written["schedule"])) <= 3 and written["nodes"] == 2
    assert main.run(["sim", "replay", str(tmp_path / "toy-1.min.json")]) == 1
    assert "not the same steps" not in capsys.readouterr().err


def test_a_run_that_does_not_fail_cannot_be_made_smaller(toy: str, tmp_path: Path) -> None:
    file = tmp_path / "ok.json"
    file.write_text(json.dumps(run(chosen(toy).scenario, 1, schedule=[]).to_json()))
    assert main.run(["sim", "shrink", str(file)]) == 2


def test_a_scenario_that_needs_more_nodes_says_so(toy: str) -> None:
    needing = replace(chosen(toy).scenario, fewest_nodes=4)
    with pytest.raises(BadInput, match="too-few-nodes"):
        run(needing, 1, nodes=3)
