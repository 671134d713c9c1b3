"""A second node of an organisation, made by invitation and run as a process: it serves what the first holds, and says what it cannot do."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshos.node.cli.testnet import record
from tests.mesh.conftest import Agents
from tests.mesh.testnet import EXAMPLES, Net, free_base, until

SECOND = "beta-2"


def join(net: Net, place: Path) -> record.Node:
    """Beta's second node, by the commands that its owner types; its seeds are beta's first node and alpha's."""
    first, base = net.node("beta"), free_base()
    token = net.must("org", "invite", "--node", "--dir", first.dir).strip()
    seeds = [word for org in ("beta", "alpha") for n in [net.node(org)] for word in ("--seed", f"{n.node_id},{n.gossip},{n.link}")]
    ports = ["--api-port", base, "--gossip-port", base + 100, "--link-port", base + 200]
    genesis = net.folder / "testnet" / "genesis.json"
    words = ["init", "--join", token, "--name", SECOND, "--dir", place, "--genesis", genesis, *ports, *seeds, "--json"]
    made = json.loads(net.must(*words))
    (place / "certificate.new").write_text(net.must("org", "issue", made["request"], "--dir", first.dir))
    assert "ready" in net.mesh("init", "--dir", place, "--certificate", place / "certificate.new").err
    return record.Node(
        name=SECOND,
        org="beta",
        did=first.did,
        node_id=made["node_id"],
        api=f"http://127.0.0.1:{base}",
        api_key=(place / "api-key").read_text().strip(),
        p2p=(),
        gossip=f"127.0.0.1:{base + 100}",
        link=f"127.0.0.1:{base + 200}",
        pid=None,
        dir=str(place),
        region="local",
        validator=False,
    )


class Second(Net):
    """The testnet, in which ``beta-2`` stands for the second node."""

    def __init__(self, folder: Path, second: record.Node) -> None:
        super().__init__(folder)
        self._second = second

    def node(self, org: str) -> record.Node:
        return self._second if org == SECOND else super().node(org)


@pytest.fixture(scope="module")
def both(net: Net, agents: Agents, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Second]:
    place = tmp_path_factory.mktemp("second") / SECOND
    second = Second(net.folder, join(net, place))
    command = [sys.executable, "-m", "meshos.node.cli.main", "run", "--dir", str(place)]
    with open(place / "node.log", "ab") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, cwd=place)

    def ready() -> bool:
        assert child.poll() is None, second.log(SECOND)
        try:
            return second.ask(SECOND, "GET", "/readyz").status == 200
        except OSError:
            return False

    try:
        until(ready, "the second node never became ready")
        until(lambda: second.acquainted("alpha", "beta", "gamma", "delta", SECOND), "they never got acquainted")
        yield second
    finally:
        child.terminate()
        child.wait(30)
        until(lambda: net.sees("alpha", "beta") == "alive" and "alive" not in states(second, "alpha"), "its leaving was not heard of")


def states(net: Second, org: str) -> set[str]:
    """How ``org``'s node sees the second node."""
    members = net.ask(org, "GET", "/v1/members").body["members"]
    return {member["state"] for member in members if member["name"] == SECOND}


def test_both_nodes_are_members_of_the_one_organisation(both: Second, agents: Agents) -> None:
    members = both.ask("delta", "GET", "/v1/members").body["members"]
    assert {member["name"] for member in members if member["org"] == both.node("beta").did} == {"beta-1", SECOND}


def test_the_second_finds_and_calls_what_the_first_runs_and_what_others_run(both: Second, agents: Agents) -> None:
    until(lambda: both.knows(SECOND, agents.units) and both.knows(SECOND, agents.echo), "it never heard of the agents")
    own = both.call(SECOND, agents.units, "convert", {"value": 5, "from_unit": "km", "to_unit": "m"})
    assert own["status"] == "completed" and "5000" in str(own["result"]), own
    assert own["receipt"]["callerOrg"] == own["receipt"]["providerOrg"] == both.node("beta").did
    other = both.call(SECOND, agents.echo, "echo", {"text": "from the second"})
    assert other["status"] == "completed" and "from the second" in str(other["result"])


def test_deploying_on_the_second_is_refused_by_name(both: Second, agents: Agents) -> None:
    agent = {"name": "Elsewhere", "description": "An echo", "runtime": {"mcp": {"command": ["python", "server.py"]}}}
    answer = both.ask(SECOND, "POST", "/v1/agents", {"agent": agent, "folder": str(EXAMPLES / "echo")})
    assert (answer.status, answer.body["name"], answer.body["outcome"]) == (403, "not-holder", "not_done"), answer
    assert both.node("beta").node_id in answer.body["detail"], "it says which node to ask"
    gone = both.ask(SECOND, "DELETE", f"/v1/agents/{agents.units}")
    assert (gone.status, gone.body["name"]) == (403, "not-holder") and both.knows("beta", agents.units)


def test_without_the_first_the_second_says_what_is_missing_and_goes_on_when_it_is_back(both: Second, agents: Agents) -> None:
    both.must("testnet", "kill", "beta")
    try:
        until(lambda: both.sees(SECOND, "beta") == "dead")
        answer = both.ask(SECOND, "POST", "/v1/tasks", {"agentId": agents.units, "type": "list_units", "data": {}, "timeout": 5})
        assert answer.status == 503 and answer.body["outcome"] == "not_done", answer
        served = both.call(SECOND, agents.echo, "echo", {"text": "still"})
        assert served["status"] == "completed", "what others run does not need the first"
    finally:
        both.must("testnet", "start", "beta")
    until(lambda: both.acquainted("beta", SECOND))
    until(lambda: both.call(SECOND, agents.units, "list_units").get("status") == "completed", "it never went on")
