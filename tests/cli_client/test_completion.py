"""What a shell is offered while somebody types: commands that are there, nodes and agents that live, or nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli_client.conftest import Mesh, Node

Environment = dict[str, str]


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return {key: value for key, value in os.environ.items() if not key.startswith("MESH_")} | {"HOME": str(tmp_path)}


def completed(line: str, folder: Path, environment: Environment) -> list[str]:
    """What bash would be offered for the last word of ``line``."""
    asked = {"_MESH_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv[0] = 'mesh'; from meshos.node.cli.main import main; main()"],
        cwd=folder,
        env=environment | asked,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == "" and "Traceback" not in done.stdout
    return done.stdout.split()


def test_commands_are_completed_and_none_that_is_to_come(tmp_path: Path, environment: Environment) -> None:
    assert completed("mesh a", tmp_path, environment) == ["agents", "approvals", "approve"]
    assert completed("mesh testnet pa", tmp_path, environment) == ["pause", "partition"]


def test_agents_are_those_of_the_node_that_is_asked(mesh: Mesh, clock: str, node: Node, tmp_path: Path, environment: Environment) -> None:
    asked = environment | {"MESH_NODE": node.url, "MESH_API_KEY": node.key}
    assert completed("mesh undeploy a-", tmp_path, asked) == [clock]
    assert completed(f"mesh call {clock[:5]}", tmp_path, asked) == [clock]
    assert completed("mesh call b", tmp_path, asked) == []


def test_motions_are_those_that_the_node_knows(mesh: Mesh, node: Node, tmp_path: Path, environment: Environment) -> None:
    file = tmp_path / "motion.yaml"
    file.write_text("reinstate: did:mesh:enterprise:delta")
    id_ = mesh("propose", str(file)).out.strip()
    asked = environment | {"MESH_NODE": node.url, "MESH_API_KEY": node.key}
    assert completed(f"mesh vote --proposal {id_[:2]}", tmp_path, asked) == [id_]
    assert mesh("vote", "--proposal", id_, "--choice", "for").code == 0
    assert completed(f"mesh vote --proposal {id_[:2]}", tmp_path, asked) == [], "it has ended"
    assert completed(f"mesh proposals {id_[:2]}", tmp_path, asked) == [id_]
    assert completed("mesh proposals 00", tmp_path, asked) == []


def test_where_nobody_answers_nothing_is_offered(tmp_path: Path, environment: Environment) -> None:
    nobody = environment | {"MESH_NODE": "http://127.0.0.1:9", "MESH_API_KEY": "mk_x_y"}
    assert completed("mesh undeploy a-", tmp_path, nobody) == []
    assert completed("mesh members --org al", tmp_path, environment) == []


def test_scenarios_are_those_that_there_are(tmp_path: Path, environment: Environment) -> None:
    assert completed("mesh sim run pb", tmp_path, environment) == ["pbft", "pbft-full", "pbft-core"]


def test_completion_is_installed_for_a_shell(tmp_path: Path, environment: Environment) -> None:
    program = Path(sys.executable).with_name("mesh")
    done = subprocess.run(
        [program, "--install-completion", "bash"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "bash_completions/mesh.sh" in (tmp_path / ".bashrc").read_text()
