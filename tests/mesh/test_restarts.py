"""A caller's node that ends and comes back between a request and its repetition (docs/decisions/0007-replays.md): what is done twice,
what is not, and what the node says of the tasks of before."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mesh.conftest import Agents
from tests.mesh.test_calling import happened, value
from tests.mesh.test_surviving import kill, start
from tests.mesh.testnet import EXAMPLES, Answer, Net, until


@pytest.fixture
def restarted(net: Net, agents: Agents) -> Iterator[Net]:
    """The testnet; the test restarts delta's node by ``again``."""
    yield net
    until(lambda: net.acquainted("alpha", "beta", "gamma", "delta"))


def again(net: Net) -> None:
    kill(net, "delta")
    start(net, "delta")
    until(lambda: net.acquainted("gamma", "delta"))


def test_a_task_is_not_run_twice(restarted: Net, agents: Agents) -> None:
    net, body = restarted, {"agentId": agents.probe, "type": "count", "data": {"name": "restarted"}, "idempotencyKey": "before and after"}
    first = net.ask("delta", "POST", "/v1/tasks", body).body
    again(net)
    second = until(lambda: answered(net.ask("delta", "POST", "/v1/tasks", body)), "the repetition never had an answer").body
    assert (second["taskId"], value(second)) == (first["taskId"], value(first)) == (first["taskId"], 1)
    assert happened(net, agents)["restarted"] == 1
    other = net.ask("delta", "POST", "/v1/tasks", {**body, "data": {"name": "something else"}})
    assert (other.status, other.body["name"]) == (409, "idempotency-conflict"), "its provider remembers what the key was for"


def answered(answer: Answer) -> Answer | None:
    """The answer, unless the nodes have not found each other yet."""
    return answer if answer.status == 200 else None


def test_a_node_says_truthfully_what_it_knows_of_the_tasks_of_before(restarted: Net, agents: Agents) -> None:
    net = restarted
    task = net.call("delta", agents.probe, "slow", {"seconds": 0, "name": "before"}, wait=False)["taskId"]
    until(lambda: net.ask("delta", "GET", f"/v1/tasks/{task}").body["status"] == "completed")
    again(net)
    for found in (net.ask("delta", "GET", f"/v1/tasks/{task}"), net.ask("delta", "DELETE", f"/v1/tasks/{task}")):
        assert (found.status, found.body["name"]) == (404, "no-such-task")
        assert "before this one last started" in found.body["detail"] and "idempotency key" in found.body["hint"]
    explained = net.mesh("explain", task, "--org", "delta")
    assert explained.code == 4 and "[no-such-task]" in explained.err
    assert net.ask("gamma", "GET", f"/v1/tasks/{task}").body["status"] == "completed", "its provider knows"


def test_a_deployment_a_publication_and_a_key_are_made_anew_and_harm_nobody(restarted: Net, tmp_path: Path) -> None:
    net = restarted
    shutil.copytree(EXAMPLES / "echo", tmp_path / "echo")
    agent = {"name": "Twice", "description": "An echo", "runtime": {"mcp": {"command": ["python", "server.py"]}}}
    deploy = {"agent": agent, "folder": str(tmp_path / "echo"), "idempotencyKey": "deployed once"}
    publish = {
        "lines": ['{"name": "Elsewhere", "description": "Told twice", "runtime": {"mcp": {"url": "https://x.invalid/mcp"}}}'],
        "idempotencyKey": "published once",
    }
    make_key = {"name": "made twice", "role": "caller", "idempotencyKey": "made once"}
    wanted = {"/v1/agents": deploy, "/v1/publish": publish, "/v1/keys": make_key}
    first = {path: net.ask("delta", "POST", path, body).body for path, body in wanted.items()}
    assert {path: net.ask("delta", "POST", path, body).body for path, body in wanted.items()} == first
    again(net)
    second = {path: net.ask("delta", "POST", path, body).body for path, body in wanted.items()}
    assert second["/v1/agents"]["agentId"] == first["/v1/agents"]["agentId"]
    assert second["/v1/agents"]["version"] == first["/v1/agents"]["version"] + 1, "the first is above what was ever withdrawn here"
    hosted = net.ask("delta", "GET", "/v1/agents").body["agents"]
    assert [(one["name"], one["replicas"]["running"]) for one in hosted if one["name"] == "Twice"] == [("Twice", 1)]
    assert first["/v1/publish"] == second["/v1/publish"] and second["/v1/publish"]["accepted"] == 1
    keys = [key for key in net.ask("delta", "GET", "/v1/keys").body["keys"] if key["name"] == "made twice"]
    assert len(keys) == 2 and first["/v1/keys"]["key"] != second["/v1/keys"]["key"], "no key's text is kept, so none can be given again"
    for key in keys:
        net.ask("delta", "DELETE", f"/v1/keys/{key['id']}")
    net.must("undeploy", second["/v1/agents"]["agentId"], "--org", "delta")
