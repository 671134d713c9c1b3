"""A running mesh seen from outside: by a libp2p program in another process, and by ``mesh square``."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from meshos.node import folder as files
from meshos.node.config import load
from tests.mesh.conftest import Agents
from tests.mesh.testnet import ROOT, Net, until

OUTSIDER = ROOT / "tests" / "mesh" / "outsider.py"


def genesis_hash(net: Net) -> str:
    return files.read_genesis(load(Path(net.node("alpha").dir)).genesis).hash.hex()


@pytest.fixture(scope="module")
def decided(net: Net) -> int:
    """There is a block, so that there is something to prove."""
    net.must("wallet", "transfer", net.node("beta").did, "3", "--org", "gamma")
    height: int = net.ask("alpha", "GET", "/v1/ledger/head").body["height"]
    return height


@pytest.mark.parametrize("place", [0, 1], ids=["tcp", "quic"])
def test_a_libp2p_program_elsewhere_proves_the_ledger_from_the_genesis_hash_alone(net: Net, decided: int, place: int) -> None:
    address, other = net.node("alpha").p2p[place], net.node("delta")
    until(lambda: other.p2p[0] in described(net)["peers"], "alpha does not know where delta's square is")
    said: dict[str, Any] = {}

    def met_all() -> bool:
        """A node's record comes with its membership, soon after the node."""
        done = subprocess.run(
            [sys.executable, str(OUTSIDER), address, genesis_hash(net), other.node_id],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        said.update(json.loads(done.stdout))
        return len(said["met"]) == len(net.nodes())

    until(met_all, "not all nodes are met at the rendezvous")
    assert said["head"] >= decided and said["signers"] >= 3 and said["balance"] > 0
    assert said["did"] == net.node("alpha").did
    assert [f"{address}/p2p/{other.node_id}" for address in said["found"]] == list(other.p2p)
    assert {node.node_id for node in net.nodes()} == said["met"].keys()
    assert [f"{address}/p2p/{other.node_id}" for address in said["met"][other.node_id]] == list(other.p2p)
    assert not [name for name in said["protocols"] if "tasks" in name or "pbft" in name or "membership" in name]


def described(net: Net) -> dict[str, list[str]]:
    said: dict[str, list[str]] = json.loads(net.must("square", "describe", net.node("alpha").p2p[0], "--json"))
    return said


def test_mesh_square_proves_what_a_node_says(net: Net, decided: int) -> None:
    at, trusted = net.node("beta").p2p[0], ("--mesh", genesis_hash(net))
    said = json.loads(net.must("square", "describe", at, *trusted, "--json"))
    assert said["proven"] and said["head"]["height"] >= decided and len(said["orgs"]) >= 4
    key = f"account/{net.node('gamma').did}"
    assert json.loads(net.must("square", "verify", at, key, *trusted, "--json"))["present"]
    assert (
        json.loads(net.must("square", "resolve", at, net.node("gamma").did, *trusted, "--json"))["didDocument"]["id"]
        == net.node("gamma").did
    )


def test_mesh_square_refuses_a_mesh_that_is_another(net: Net) -> None:
    assert json.loads(net.must("square", "describe", net.node("beta").p2p[0], "--mesh", genesis_hash(net)[:32].upper(), "--json"))["proven"]
    assert net.mesh("square", "describe", net.node("beta").p2p[0], "--mesh", genesis_hash(net)[:30]).code == 2
    done = net.mesh("square", "describe", net.node("beta").p2p[0], "--mesh", "00" * 32)
    assert done.code == 4 and "[wrong-genesis]" in done.err


def test_a_stranger_finds_agents(net: Net, agents: Agents) -> None:
    said = json.loads(net.must("square", "search", net.node("delta").p2p[1], "convert miles to kilometres", "--json"))
    assert agents.units in [agent["agentId"] for agent in said["agents"]] and said["node_id"] == net.node("delta").node_id


def test_strangers_are_counted(net: Net) -> None:
    net.must("square", "describe", net.node("alpha").p2p[0])
    figures = net.metrics("alpha")
    assert figures["square_came"] >= 1 and figures["square_answered_describe"] >= 1
    assert net.ask("alpha", "GET", "/v1/status").body["p2p"] == list(net.node("alpha").p2p)
