"""Many seeds: in order, those that failed before first, ended after enough failures, and Ctrl-C gives what there is."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from meshos.node.cli import main
from meshos.simulations import situations
from meshos.simulations.parallel import workers
from meshos.simulations.seeds import Job, failed_first, path_of, run_seeds
from tests.leftovers import kill_below, processes_below
from tests.mesh.testnet import until

FAILS = """
from meshos.ids import NodeId, OrgDid
from meshos.simulations.run import Scenario
from meshos.simulations.world import Spec, Violation

class EvenChecker:
    figures = {"runs": 1}
    def observe(self, node, machine, event, effects): pass
    def finish(self, world):
        world.visited("the end")
        if world.seed % 2 == 0:
            raise Violation("stuck", f"seed {world.seed} is even")

def populate(world, nodes):
    for number in range(1, nodes + 1):
        world.add(Spec(NodeId(f"n{number:03d}"), OrgDid("did:mesh:enterprise:acme"), lambda node: {}))
    return [EvenChecker()]

SCENARIO = Scenario("even", "every second seed fails", populate, 2, 10.0, 1.0, 5.0, situations=("the end", "the middle"))
"""


@pytest.fixture
def even(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "even.py").write_text(FAILS)
    return "even.py"


def test_what_failed_before_runs_first(even: str, tmp_path: Path) -> None:
    for seed in (9, 4):
        path_of(even, seed, tmp_path).write_text("")
    assert failed_first(range(1, 11), even, tmp_path) == [4, 9, 1, 2, 3, 5, 6, 7, 8, 10]


def test_reports_come_in_the_order_of_the_jobs_and_end_after_enough_failures(even: str) -> None:
    jobs = [Job(even, seed) for seed in range(1, 40)]
    assert [report.seed for report in run_seeds(jobs, quiet=True)] == list(range(1, 40))
    assert [report.seed for report in run_seeds(jobs, stop_after=3, quiet=True)] == [1, 2, 3, 4, 5, 6]


def test_each_failure_is_told_and_written_down_and_the_verdict_sums_up(
    even: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["sim", "run", even, "--seeds", "1..5", "--coverage"]) == 10
    said = capsys.readouterr().out
    assert "FAIL stuck: seed 2 is even   seed 2" in said and "Shrink  mesh sim shrink sim/even-4.json" in said
    assert "x   2 of 5 violated: even.py, 2 nodes, 5 seeds, 1 to 5, 10 virtual s each\n    runs 5\n" in said
    assert "the end" in said and "never: the middle" in said and "never: a ring of neighbours" in said
    assert json.loads((tmp_path / "sim" / "even-2.json").read_text())["checker"] == "EvenChecker"
    assert main.run(["sim", "run", even, "--seeds", "1..5", "--stop-after", "1"]) == 10
    assert "x   1 of 1 violated: even.py, 2 nodes, 1 of 5 seeds" in capsys.readouterr().out, "seed 2 has failed before"


def test_ctrl_c_is_raised_between_two_results_and_not_inside_of_the_pool() -> None:
    handled = signal.getsignal(signal.SIGINT)
    got = []
    with pytest.raises(KeyboardInterrupt), workers(2) as pool:
        for result in pool.map(abs, range(-1_000, 0)):
            got.append(result)
            if len(got) == 3:
                os.kill(os.getpid(), signal.SIGINT)
                got.append(0)  # it did not end this step
    assert got == [1_000, 999, 998, 0] and signal.getsignal(signal.SIGINT) is handled
    with pytest.raises(KeyboardInterrupt), workers(2):
        for _ in range(2):  # who is not heard presses again
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_gives_the_verdict_so_far(even: str, tmp_path: Path) -> None:
    (tmp_path / even).write_text(FAILS + "\nimport time\n_sleep = time.sleep\n" + SLOW)
    command = [sys.executable, "-m", "meshos.node.cli.main", "sim", "run", even, "--seeds", "1..4000"]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # also where whoever runs the tests ignores it
    run = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heard
    )
    assert run.stdout is not None
    first = run.stdout.readline()
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: the workers get it too
    out, err = run.communicate(timeout=60)
    assert first.startswith("FAIL stuck: seed 2 is even") and run.returncode == 130
    assert "stopped after" in err and "Traceback" not in err and "violated: even.py, 2 nodes" in out


def test_a_second_ctrl_c_while_the_workers_still_start_ends_it_quietly(even: str, tmp_path: Path) -> None:
    (tmp_path / even).write_text(FAILS)
    begin = "from meshos.node.cli.start import main; main()"
    command = [sys.executable, "-c", begin, "sim", "run", even, "--seeds", "1..4000", "--until", "10"]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    run = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heard
    )
    try:
        until(lambda: len(processes_below(tmp_path)) > 2, "no worker ever began")
        for _ in range(2):
            os.killpg(run.pid, signal.SIGINT)
            time.sleep(0.05)
        out, err = run.communicate(timeout=60)
    finally:
        run.kill()
    assert (run.returncode, out, err) == (130, "", "! stopped after 0 of 4000 runs\n")


@pytest.mark.parametrize("words", [["--seed", "1"], ["--seeds", "1..3"]])
def test_ctrl_c_before_the_first_run_says_that_there_was_none(
    words: list[str], even: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("meshos.simulations.verdicts.make_folder", interrupted)
    assert main.run(["sim", "run", even, *words]) == 130
    assert f"stopped after 0 of {1 if '--seed' in words else 3} runs" in capsys.readouterr().err


def test_workers_end_with_whoever_began_them(even: str, tmp_path: Path) -> None:
    (tmp_path / even).write_text(FAILS + "\nimport time\n_sleep = time.sleep\n" + SLOW.replace("0.05", "600"))
    command = [sys.executable, "-m", "meshos.node.cli.main", "sim", "run", even, "--seeds", "1..4000"]
    run = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: len(processes_below(tmp_path)) > 2, "no worker ever began")
        run.kill()
        run.wait()
        until(lambda: not processes_below(tmp_path), "its workers go on")
    finally:
        run.kill()
        kill_below(tmp_path)


SLOW = """
finish = EvenChecker.finish
def slowly(self, world):
    _sleep(0.05)
    finish(self, world)
EvenChecker.finish = slowly
"""


@pytest.mark.parametrize("words", [["--seeds", "5..1"], ["--seeds", "x"], ["--stop-after", "0"]])
def test_seeds_that_are_none_are_wrong_usage(words: list[str], even: str) -> None:
    assert main.run(["sim", "run", even, *words]) == 2


def test_what_no_run_was_in_is_listed_with_the_rest() -> None:
    visits = situations.summed([{"a": 2, "a value rotted": 1}, {"a": 3}], ("a", "b"))
    assert [(each.situation, each.runs, each.times) for each in visits[:2]] == [("a", 2, 5), ("b", 0, 0)]
    document = situations.to_json(visits)
    assert {"situation": "a value rotted", "runs": 1, "times": 1} in document["visited"]  # type: ignore[operator]
    assert "b" in document["never"]  # type: ignore[operator]
