"""One testnet of four organisations for all tests of this folder, as a user brings it up, and the agents that most of them use."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from meshos.node.cli.testnet import making, processes, record
from tests.mesh.testnet import AGENTS, EXAMPLES, Net, free_base


@dataclass(frozen=True, slots=True)
class Agents:
    """The ids of what runs: echo and concierge at alpha, units at beta, probe at gamma (and at alpha and beta)."""

    echo: str
    units: str
    probe: str
    concierge: str
    probe_of_alpha: str
    probe_of_beta: str


def bring_up(folder: Path, orgs: int, *more: object) -> Net:
    """A fresh testnet in ``folder``."""
    net = Net(folder)
    done = net.mesh("testnet", "up", "--detach", "--orgs", orgs, "--timing", "fast", "--base-port", free_base(), *more)
    assert done.code == 0, done
    return net


def end(folder: Path) -> None:
    """Whatever a test left running is ended."""
    if making.exists(folder / "testnet"):
        processes.kill(record.load(folder / "testnet").nodes)


@pytest.fixture(scope="session")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    """The testnet. A test that hurts a node mends it again."""
    folder = tmp_path_factory.mktemp("mesh")
    try:
        yield bring_up(folder, 4)
    finally:
        end(folder)


@pytest.fixture(scope="session")
def agents(net: Net) -> Agents:
    """Deployed, and known to all nodes."""
    probe = AGENTS / "probe" / "agent.yaml"
    found = net.deploy_all(
        {
            ("alpha", EXAMPLES / "echo" / "agent.yaml"): "echo",
            ("beta", EXAMPLES / "units" / "agent.yaml"): "units",
            ("gamma", probe): "probe",
            ("alpha", EXAMPLES / "concierge" / "agent.yaml"): "concierge",
            ("alpha", probe): "probe_of_alpha",
            ("beta", probe): "probe_of_beta",
        }
    )
    return Agents(**found)
