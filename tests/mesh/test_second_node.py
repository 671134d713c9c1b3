"""A second and a third node of an organisation, made by invitation and run as processes: the second follows the first, the third makes
three that decide; what each can do with and without the others.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshos.node.cli.testnet import record
from tests.mesh.conftest import Agents, Further
from tests.mesh.testnet import EXAMPLES, Net, free_base, until

SECOND, THIRD = "beta-2", "beta-3"


def join(net: Net, further: Further) -> record.Node:
    """A further node of beta, by the commands that its owner types."""
    first, place = net.node("beta"), further.place
    token = net.must("org", "invite", "--node", "--dir", first.dir).strip()
    genesis = net.folder / "testnet" / "genesis.json"
    words = ["init", "--join", token, "--name", place.name, "--genesis", genesis, *further.options(net)]
    made = json.loads(net.must(*words, "--json"))
    (place / "certificate.new").write_text(net.must("org", "issue", made["request"], "--dir", first.dir))
    assert "ready" in net.mesh("init", "--dir", place, "--certificate", place / "certificate.new").err
    return further.record("beta", first.did, made["node_id"])


class Second(Net):
    """The testnet, in which the further nodes of beta stand for themselves."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.further: dict[str, record.Node] = {}

    def node(self, org: str) -> record.Node:
        return self.further.get(org) or super().node(org)

    def roles(self, node: str) -> dict[str, str]:
        """The role of each of beta's nodes, as ``node`` is told by who leads; empty while nobody does."""
        answer = self.ask(node, "GET", "/v1/org/nodes")
        return {row["name"]: "leader" if row["leader"] else row["role"] for row in answer.body["nodes"]} if answer.status == 200 else {}

    @contextmanager
    def runs(self, name: str, place: Path) -> Iterator[None]:
        """A further node: joined, running and taken up; in the end removed and gone, so that the others decide as before."""
        further = Further(place, free_base())
        self.further[name] = join(self, further)
        child = further.run()

        def ready() -> bool:
            assert child.poll() is None, self.log(name)
            try:
                return self.ask(name, "GET", "/readyz").status == 200
            except OSError:
                return False

        try:
            until(ready, f"{name} never became ready")
            until(lambda: self.acquainted("alpha", "beta", "gamma", "delta", *self.further), "they never got acquainted")
            yield
        finally:
            self.must("org", "remove", name, "--org", "beta")
            until(lambda: name not in self.roles("beta") or self.roles("beta")[name] == "removed")
            child.terminate()
            child.wait(30)
            until(lambda: "alive" not in states(self, "alpha", name), "its leaving was not heard of")
            del self.further[name]


@pytest.fixture(scope="module")
def both(net: Net, agents: Agents, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Second]:
    second = Second(net.folder)
    with second.runs(SECOND, tmp_path_factory.mktemp("second") / SECOND):
        yield second
    assert list(second.roles("beta").values()) == ["leader"], "the first decides alone again"


def tabs_of(net: Second, caller: str) -> list[str]:
    """The open tabs on which one of beta's nodes pays."""
    rows = net.ask("beta", "GET", f"/v1/accounts/{net.node('beta').did}").body["tabs"]
    return [row["tab"] for row in rows if row["caller"] == caller]


def states(net: Second, org: str, name: str) -> set[str]:
    """How ``org``'s node sees a further node."""
    members = net.ask(org, "GET", "/v1/members").body["members"]
    return {member["state"] for member in members if member["name"] == name}


def test_both_nodes_are_members_of_the_one_organisation(both: Second, agents: Agents) -> None:
    members = both.ask("delta", "GET", "/v1/members").body["members"]
    assert {member["name"] for member in members if member["org"] == both.node("beta").did} == {"beta-1", SECOND}


def test_the_second_follows_and_has_no_vote(both: Second, agents: Agents) -> None:
    assert both.roles(SECOND) == both.roles("beta") == {"beta-1": "leader", SECOND: "learner"}
    assert both.ask(SECOND, "GET", "/v1/status").body["group"]["role"] == "learner"


def test_the_second_finds_and_calls_what_the_first_runs_and_what_others_run(both: Second, agents: Agents) -> None:
    until(lambda: both.knows(SECOND, agents.units) and both.knows(SECOND, agents.echo), "it never heard of the agents")
    own = both.call(SECOND, agents.units, "convert", {"value": 5, "from_unit": "km", "to_unit": "m"})
    assert own["status"] == "completed" and "5000" in str(own["result"]), own
    assert own["receipt"]["callerOrg"] == own["receipt"]["providerOrg"] == both.node("beta").did
    other = both.call(SECOND, agents.echo, "echo", {"text": "from the second"})
    assert other["status"] == "completed" and "from the second" in str(other["result"])


def test_the_second_is_on_the_ledger_and_can_pay(both: Second, agents: Agents) -> None:
    def paid() -> bool:
        answer = both.ask(SECOND, "POST", "/v1/transactions", {"transfer": {"to": both.node("delta").did, "amount": "1"}})
        return answer.body.get("outcome") == "committed"

    until(paid, "it never could: it is registered when its request is answered")


def test_what_is_deployed_on_the_second_runs_on_the_first(both: Second, agents: Agents) -> None:
    agent = {"name": "Elsewhere", "description": "An echo", "runtime": {"mcp": {"command": ["python", "server.py"]}}}
    made = both.ask(SECOND, "POST", "/v1/agents", {"agent": agent, "folder": str(EXAMPLES / "echo")})
    assert made.status == 201 and made.body["nodes"] == ["beta-1"] and made.body["replicasRunning"] == 1, made
    listed = {one["name"]: one["state"] for one in both.ask(SECOND, "GET", "/v1/agents").body["agents"]}
    assert listed["Elsewhere"] == "running"
    not_there = both.ask(SECOND, "POST", "/v1/agents", {"agent": agent, "folder": "/nowhere"})
    assert (not_there.status, not_there.body["name"], not_there.body["outcome"]) == (409, "agent-not-here", "not_done")
    gone = both.ask(SECOND, "DELETE", f"/v1/agents/{made.body['agentId']}")
    assert gone.status == 200 and gone.body["name"] == "Elsewhere"


def test_without_the_first_the_second_says_what_is_missing_and_goes_on_when_it_is_back(both: Second, agents: Agents) -> None:
    both.must("testnet", "kill", "beta")
    try:
        until(lambda: both.sees(SECOND, "beta") == "dead")
        answer = both.ask(SECOND, "POST", "/v1/tasks", {"agentId": agents.units, "type": "list_units", "data": {}, "timeout": 5})
        assert answer.status == 503 and answer.body["outcome"] == "not_done", answer
        until(lambda: both.ask(SECOND, "GET", "/readyz").status == 503, "it has no leader, and a learner elects nobody")
        served = both.call(SECOND, agents.echo, "echo", {"text": "still"})
        assert served["status"] == "completed", "what others run does not need the first"
    finally:
        both.must("testnet", "start", "beta")
    until(lambda: both.acquainted("beta", SECOND))
    until(lambda: both.call(SECOND, agents.units, "list_units").get("status") == "completed", "it never went on")


def test_a_third_makes_three_that_decide_and_the_first_can_be_missed(both: Second, agents: Agents, tmp_path: Path) -> None:
    with both.runs(THIRD, tmp_path / THIRD):
        until(lambda: sorted(both.roles("beta").values()) == ["leader", "voter", "voter"], "they never decided together")
        both.must("testnet", "kill", "beta")
        try:
            until(lambda: "leader" in [role for name, role in both.roles(SECOND).items() if name != "beta-1"], "nobody took over")
            until(lambda: both.call("gamma", agents.units, "list_units").get("status") == "completed", "its agents never came back")
        finally:
            both.must("testnet", "start", "beta")
        until(lambda: both.roles("beta").get("beta-1") == "voter", "it never followed")
        until(lambda: both.knows(THIRD, agents.concierge), "it never heard of an agent that asks a price")
        both.call(THIRD, agents.concierge, "find", {"request": "convert units"})
        until(lambda: tabs_of(both, both.node(THIRD).node_id), "it pays on no tab")


def test_the_tab_of_a_node_that_is_gone_is_closed_by_the_root_key(both: Second, agents: Agents) -> None:
    beta = both.node("beta")
    present = {both.node(name).node_id for name in ("beta", SECOND)}
    (tab,) = (
        one
        for one in both.ask("beta", "GET", f"/v1/accounts/{beta.did}").body["tabs"]
        if one["org"] == beta.did and one["caller"] not in present
    )
    way = f"mesh wallet close --root {beta.dir}"
    until(lambda: "is gone" in both.mesh("wallet", "balance", "--org", "beta").err, "it is still waited for")
    refused = both.mesh("org", "leave", "--dir", beta.dir, "--yes")
    assert (refused.code, "[tabs-open]" in refused.err, way in refused.err) == (4, True, True), refused
    closed = json.loads(both.must(*way.split()[1:], "--json"))
    assert closed["failed"] == [] and [(one["tab"], one["changed"]) for one in closed["closed"]] == [(tab["tab"], True)], closed
    again = json.loads(both.must("wallet", "close", tab["tab"][:12], "--root", beta.dir, "--org", "alpha", "--json"))
    assert [(one["closes"], one["changed"]) for one in again["closed"]] == [(closed["closed"][0]["closes"], False)], again
