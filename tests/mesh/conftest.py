"""One testnet of four organisations for all tests of this folder, as a user brings it up, and the agents that most of them use."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from meshos.consensus.ledger.parameters import BY_VOTE, OPEN, TESTNET_GIFT
from meshos.node.cli.testnet import making, processes, record
from tests.mesh.testnet import AGENTS, EXAMPLES, Net, free_base, until


@dataclass(frozen=True, slots=True)
class Agents:
    """The ids of what runs: echo and concierge at alpha, units at beta, probe at gamma (and at alpha and beta)."""

    echo: str
    units: str
    probe: str
    concierge: str
    probe_of_alpha: str
    probe_of_beta: str


@dataclass(frozen=True, slots=True)
class Further:
    """A node that a test makes and runs itself beside the testnet: its folder, called as the node is, and its first port."""

    place: Path
    base: int

    def options(self, net: Net) -> list[object]:
        """What ``mesh init`` is told of it; its seeds are beta's first node and alpha's."""
        seeds = [word for org in ("beta", "alpha") for n in [net.node(org)] for word in ("--seed", f"{n.node_id},{n.gossip},{n.link}")]
        ports = ["--api-port", self.base, "--gossip-port", self.base + 100, "--link-port", self.base + 200]
        return ["--dir", self.place, *ports, *seeds]

    def record(self, org: str, did: str, node_id: str) -> record.Node:
        """As the testnet's record has one of its own."""
        return record.Node(
            name=self.place.name,
            org=org,
            did=did,
            node_id=node_id,
            api=f"http://127.0.0.1:{self.base}",
            api_key=(self.place / "api-key").read_text().strip(),
            p2p=(),
            gossip=f"127.0.0.1:{self.base + 100}",
            link=f"127.0.0.1:{self.base + 200}",
            pid=None,
            dir=str(self.place),
            region="local",
            validator=False,
        )

    def run(self) -> subprocess.Popen[bytes]:
        """Start it; its log goes where the testnet's nodes have theirs."""
        command = [sys.executable, "-m", "meshos.node.cli.main", "run", "--dir", str(self.place)]
        with open(self.place / processes.LOG, "ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=self.place)


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


@pytest.fixture(scope="module")
def by_vote(net: Net) -> Iterator[None]:
    """People vote on who comes in, and nobody is given anything: a testnet is open, until its organisations decide otherwise."""
    decide(net, {"admission": BY_VOTE, "admission-gift": 0})
    yield
    decide(net, {"admission": OPEN, "admission-gift": TESTNET_GIFT})


def decide(net: Net, parameters: dict[str, int], voters: Sequence[str] = ("beta", "gamma")) -> None:
    """Have alpha and the ``voters`` change these parameters, and all nodes know it; of four organisations it takes three."""
    moved = net.ask("alpha", "POST", "/v1/proposals", {"motion": {"parameters": parameters}})
    assert moved.status in (200, 201), moved
    vote_for(net, moved.body["id"], voters)


def vote_for(net: Net, proposal: str, voters: Sequence[str] = ("beta", "gamma")) -> None:
    """Have the ``voters`` vote for what alpha has moved, and all nodes know that it is carried."""
    where = f"/v1/proposals/{proposal}"
    for org in voters:
        until(lambda org=org: net.ask(org, "GET", where).status == 200)
        assert net.ask(org, "POST", f"{where}/votes", {"choice": "for"}).status == 200
    for org in ("alpha", "beta", "gamma", "delta"):
        until(lambda org=org: net.ask(org, "GET", where).body.get("state") == "carried")
