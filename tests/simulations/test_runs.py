"""Runs of the simulator: the same seed gives the same bytes anywhere, files replay, verdicts have exit codes, checkers can fail."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from meshos.errors import BadInput
from meshos.ids import NodeId
from meshos.presets import LAN
from meshos.simulations.checkers import MembershipChecker
from meshos.simulations.faults import (
    Partition,
    Schedule,
    Weather,
)
from meshos.simulations.mesh import Mesh
from meshos.simulations.run import Checker, Report, Scenario, load, run
from meshos.simulations.scenarios import SCENARIOS, scenario_named
from meshos.simulations.situations import SITUATIONS
from meshos.simulations.world import World
from meshos.storage.memory import MemoryStore

MESH = (sys.executable, "-m", "meshos.node.cli.main")


def mesh(*arguments: str, cwd: Path, hash_seed: str = "0") -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run([*MESH, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_two_processes_with_other_hash_seeds_write_the_same_bytes(scenario: str, tmp_path: Path) -> None:
    outputs, logs = [], []
    for hash_seed in ("1", "4711"):
        log = tmp_path / f"{hash_seed}.jsonl"
        arguments = ("sim", "run", scenario, "--seed", "3", "--nodes", "4", "--until", "40", "--log", str(log), "--json")
        done = mesh(*arguments, cwd=tmp_path, hash_seed=hash_seed)
        outputs.append(done.stdout)
        logs.append(log.read_bytes())
    assert outputs[0] == outputs[1] and logs[0] == logs[1]
    assert len(logs[0].splitlines()) > 100 and json.loads(outputs[0])["schema"] == "mesh.sim-run/1"


def test_another_seed_is_another_run() -> None:
    membership = scenario_named("membership")
    digests = {run(membership, seed, nodes=4, until_s=30, record=True).digest for seed in (1, 2, 1)}
    assert len(digests) == 2


@dataclass(frozen=True, slots=True)
class Amnesia:
    """A disk comes back empty: what a node must never suffer unnoticed, and so a violation to be found."""

    node: str
    machine: str

    def do(self, world: World) -> None:
        node = world.nodes[NodeId(self.node)]
        node.crash()
        node.stores[self.machine] = MemoryStore(world.generator("amnesia"))
        node.start()


def test_the_membership_checker_finds_an_incarnation_that_is_used_again() -> None:
    schedule: Schedule = [(20.0, Amnesia("n002", "membership"))]  # type: ignore[list-item]
    report = run(scenario_named("membership"), 1, nodes=5, until_s=60, schedule=schedule)
    assert report.verdict == "safety" and "incarnation" in report.message


def test_the_membership_checker_finds_a_mesh_that_does_not_come_together() -> None:
    schedule: Schedule = [(20.0, Partition((("n001", "n002"), ("n003", "n004"))))]
    report = run(scenario_named("membership"), 1, nodes=4, until_s=60, schedule=schedule)
    assert report.verdict == "stuck"


def test_what_a_machine_raises_is_the_verdict_of_the_run() -> None:
    @dataclass(frozen=True, slots=True)
    class Bug:
        def do(self, world: World) -> None:
            world.nodes[NodeId("n001")].core.deliver(world.now, "membership", "no event of membership's")

    report = run(scenario_named("membership"), 1, nodes=3, until_s=30, schedule=[(5.0, Bug())])  # type: ignore[list-item]
    assert report.verdict == "crashed" and "TypeError" in report.message


def test_a_failed_run_is_written_down_replays_and_has_its_exit_code(tmp_path: Path) -> None:
    cut = [(20.0, Partition((("n001", "n002"), ("n003", "n004"))))]
    path = tmp_path / "cut.json"
    report = run(scenario_named("membership"), 1, nodes=4, until_s=60, schedule=list(cut), record=True)
    path.write_text(json.dumps(report.to_json()))
    assert load(path) == ("membership", 1, 4, 60.0, cut, report.digest)
    done = mesh("sim", "replay", str(path), cwd=tmp_path)
    assert done.returncode == 10 and "stuck" in done.stdout and "not the same steps" not in done.stderr
    assert f"Replay  mesh sim replay {path}" in done.stdout
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["cut.json"], "a run that is replayed stays what it was"


@pytest.mark.parametrize(
    ("arguments", "name", "code"),
    [
        (["--seed", "-1"], "usage", 2),
        (["--seed", str(2**64)], "usage", 2),
        (["--until", "1e9999"], "usage", 2),
        (["--seed", "1", "--seeds", "1..3"], "usage", 2),
        (["--seed", "1", "--log", "nowhere/x"], "cannot-write", 125),
        (["--seeds", f"{2**64}..{2**64}"], "bad-seeds", 2),
    ],
)
def test_what_cannot_be_run_or_written_is_said_before_the_run(arguments: list[str], name: str, code: int, tmp_path: Path) -> None:
    done = mesh("sim", "run", "membership", *arguments, cwd=tmp_path)
    assert done.returncode == code and f"[{name}]" in done.stderr and not done.stdout


def test_a_file_where_the_folder_of_runs_should_be_is_said_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "sim").write_text("")
    done = mesh("sim", "run", "membership", "--seed", "1", cwd=tmp_path)
    assert done.returncode == 125 and "[cannot-write]" in done.stderr and not done.stdout


def test_a_page_that_cannot_be_written_is_said_before_the_replay(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run(scenario_named("membership"), 1, nodes=3, until_s=20, record=True).to_json()))
    done = mesh("sim", "replay", str(path), "--html", "nowhere/x.html", cwd=tmp_path)
    assert done.returncode == 125 and "[cannot-write]" in done.stderr and not done.stdout


def test_a_violation_that_cannot_be_written_down_is_told_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "sim" / "raft+quorum-one-less-1.json").mkdir(parents=True)
    done = mesh("sim", "run", "raft+quorum-one-less", "--seed", "1", cwd=tmp_path)
    assert done.returncode == 1 and "FAIL safety" in done.stdout and "cannot be written" in done.stderr and "Replay" not in done.stdout


@pytest.mark.parametrize("option", ["--log", "--html"])
def test_a_run_is_not_overwritten_by_what_is_written_of_it(option: str, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(text := json.dumps(run(scenario_named("membership"), 1, nodes=3, until_s=20, record=True).to_json()))
    done = mesh("sim", "replay", "run.json", option, str(path), cwd=tmp_path)
    assert done.returncode == 2 and "[usage]" in done.stderr and path.read_text() == text
    both = mesh("sim", "replay", "run.json", "--log", "one", "--html", "./one", cwd=tmp_path)
    assert both.returncode == 2 and "[usage]" in both.stderr and not (tmp_path / "one").exists()


def test_a_file_of_another_run_is_noticed_and_a_bad_one_is_undecided(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    report = run(scenario_named("membership"), 1, nodes=3, until_s=20, record=True)
    path.write_text(json.dumps({**report.to_json(), "digest": "0" * 32}))
    done = mesh("sim", "replay", str(path), cwd=tmp_path)
    assert done.returncode == 0 and "not the same steps" in done.stderr
    path.write_text(json.dumps({**report.to_json(), "version": 999}))
    assert mesh("sim", "replay", str(path), cwd=tmp_path).returncode == 125


@pytest.mark.parametrize("text", [None, "{}", "[" * 100_000])
def test_a_file_that_is_no_run_is_wrong_usage_in_plain_words(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    if text is not None:
        path.write_text(text)
    done = mesh("sim", "replay", str(path), cwd=tmp_path)
    assert done.returncode == 2 and "[bad-run-file]" in done.stderr
    assert "Errno" not in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '{"version": 1}',
        '{"version": 1, "scenario": "membership", "seed": "x", "nodes": 1, "until_s": 1, "schedule": []}',
    ],
)
def test_a_bad_run_file_is_refused_by_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        load(path)
    assert caught.value.name == "bad-run-file"


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
@pytest.mark.parametrize("seed", (1, 2))
def test_seeds(scenario: str, seed: int) -> None:
    """A few seeds of each scenario; `mesh sim run --seeds` runs as many as one likes."""
    chosen = replace(scenario_named(scenario), nodes=min(scenario_named(scenario).nodes, 8))
    report: Report = run(chosen, seed)
    assert report.verdict == "ok", f"{report.message}; again: mesh sim run {scenario} --seed {seed} --nodes {chosen.nodes}"
    assert set(report.visited) <= {*SITUATIONS, *chosen.situations}, "else nobody sees that no seed was in it"


def test_nobody_is_declared_dead_while_nothing_happens() -> None:
    def populate(world: World, nodes: int) -> Sequence[Checker]:
        return [MembershipChecker(Mesh(world, nodes, timing=LAN, orgs=5, whole=False), hurtless=True)]

    quiet = Scenario("quiet", "", populate, 20, 120.0, 0.0, 0.0)
    assert run(quiet, 1, schedule=[]).verdict == "ok"
    rain: Schedule = [(10.0, Weather(0.05, 0.02, 0.02, 0.2))]
    assert run(quiet, 2, schedule=rain).verdict == "ok"
