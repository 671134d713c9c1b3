"""What ``mesh doctor`` makes of a machine's sandbox. (Its other checks are run for real in test_init.py.)"""

import json
from pathlib import Path

import pytest

from meshos.node.cli.doctor import LACKING, judge_sandbox
from tests.cli.conftest import Mesh

ALL = ("mount-namespace", "pid-namespace", "landlock", "seccomp", "cgroup-memory", "cgroup-cpu", "cgroup-pids")


def test_what_this_machine_gives_is_told(mesh: Mesh, tmp_path: Path) -> None:
    checks = {row["check"]: row for row in json.loads(mesh("doctor", "--json").out)["checks"]}
    assert checks["sandbox"]["verdict"] in ("pass", "warn") and checks["sandbox"]["sentence"].startswith("agents run behind ")


def test_a_folder_that_is_named_and_holds_no_node_is_no_healthy_one(mesh: Mesh, tmp_path: Path) -> None:
    done = mesh("doctor", "--dir", str(tmp_path / "nosuch"))
    assert done.code == 1 and "configuration" in done.err and "there is no node in" in done.out


@pytest.mark.parametrize("missing", LACKING)
def test_each_layer_that_is_missing_is_named_with_what_that_means(missing: str) -> None:
    found = judge_sandbox(root=False, layers=tuple(layer for layer in ALL if layer != missing))
    assert found.verdict == "warn" and f"without {missing} ({LACKING[missing]})" in found.sentence and found.mend


def test_a_machine_on_which_agents_could_read_keys_fails() -> None:
    assert judge_sandbox(root=False, layers=("seccomp", "pid-namespace")).verdict == "fail"
    assert judge_sandbox(root=True, layers=ALL).verdict == "fail"
    assert judge_sandbox(root=True, layers=("own-uid", *ALL)).verdict == judge_sandbox(root=False, layers=ALL).verdict == "pass"
