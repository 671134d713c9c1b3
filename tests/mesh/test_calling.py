"""A testnet of four organisations does what it is for: agents are found, called, stopped, and never run twice by mistake."""

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.mesh.conftest import Agents
from tests.mesh.testnet import EXAMPLES, Net, until

MIB = 1 << 20


def value(answer: Any) -> Any:
    """What the tool returned: MCP wraps what is no object as ``{"result": …}``."""
    result = answer["result"]
    return result["result"] if isinstance(result, dict) and set(result) == {"result"} else result


def happened(net: Net, agents: Agents) -> dict[str, int]:
    """What the probe's tools did."""
    result: dict[str, int] = value(net.call("delta", agents.probe, "happened"))
    return result


def in_background(work: Any, into: list[Any]) -> threading.Thread:
    """``work`` in a thread; what it gives is appended."""
    thread = threading.Thread(target=lambda: into.append(work()))
    thread.start()
    return thread


def test_another_organisation_finds_an_agent_by_what_it_can_do(net: Net, agents: Agents) -> None:
    out = net.must("discover", "how many miles is a kilometre", "--org", "delta", "--quiet")
    assert out.splitlines()[0] == agents.units
    answer = net.ask("delta", "POST", "/v1/discover", {"query": "convert kilometres to miles", "limit": 3})
    first = answer.body["agents"][0]
    assert (first["agentId"], first["meshId"]) == (agents.units, "did:mesh:enterprise:beta") and first["tasks"]


def test_any_organisation_leaves_out_counts_pages_and_finds_what_is_like_an_agent(net: Net, agents: Agents) -> None:
    def ask(**body: object) -> Any:
        answer = net.ask("delta", "POST", "/v1/discover", body)
        assert answer.status == 200, answer.body
        return answer.body

    asked = {"query": "gives back what it is given", "collapse": False}  # other tests deploy the like, too
    until(lambda: agents.probe_of_beta in [one["agentId"] for one in ask(**asked, limit=100)["agents"]], "the agents are not known")
    whole = ask(**asked, limit=100, facets=True)
    ids = [one["agentId"] for one in whole["agents"]]
    assert whole["cursor"] is None and whole["facets"]["agents"] == len(ids) >= 6
    shown, cursor = [], None
    while len(shown) <= len(ids):
        page = ask(**asked, limit=2, **({} if cursor is None else {"cursor": cursor}))
        shown += [one["agentId"] for one in page["agents"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert shown == ids
    others = ask(**asked, limit=100, filters={"exclude": {"organisations": ["did:mesh:enterprise:beta"]}})
    assert [one["agentId"] for one in others["agents"]] == [one["agentId"] for one in whole["agents"] if one["meshId"][-4:] != "beta"]
    like = ask(related=agents.probe[:12], limit=2, weigh={"trust": 0.1, "latency": 0.1, "price": 0.1})
    assert {one["agentId"] for one in like["agents"]} == {agents.probe_of_alpha, agents.probe_of_beta}
    out = net.must("discover", "--substitute", agents.probe[:10], "--org", "delta", "--quiet")
    assert {agents.probe_of_alpha, agents.probe_of_beta} <= set(out.split()) and agents.probe not in out


@pytest.mark.parametrize("caller", ["alpha", "beta", "delta"])
def test_an_agent_is_called_from_its_own_and_other_organisations(net: Net, agents: Agents, caller: str) -> None:
    answer = net.call(caller, agents.units, "convert", {"value": 5, "from_unit": "km", "to_unit": "m"})
    assert answer["status"] == "completed" and "5000" in str(answer["result"])
    receipt = answer["receipt"]
    assert (receipt["callerOrg"], receipt["providerOrg"]) == (f"did:mesh:enterprise:{caller}", "did:mesh:enterprise:beta")
    assert receipt["signature"] and receipt["countersignature"]
    assert (receipt["taskId"], receipt["agentId"], receipt["price"]) == (answer["taskId"], agents.units, answer["cost"])


@pytest.mark.parametrize("size", [2 * MIB, 64 * MIB])
def test_large_results_arrive_whole(net: Net, agents: Agents, size: int) -> None:
    answer = net.call("delta", agents.probe, "big", {"size": size}, timeout=60)
    assert answer["status"] == "completed", answer["error"]
    assert len(value(answer)) == size and value(answer).count("x") == size


def test_a_result_above_128_mib_is_refused_by_name_and_harms_nobody(net: Net, agents: Agents) -> None:
    answer = net.call("delta", agents.probe, "big", {"size": 128 * MIB + 1}, timeout=60)
    assert (answer["status"], answer["error"]["name"], answer["error"]["outcome"]) == ("failed", "result-too-large", "done")
    assert value(net.call("delta", agents.echo, "echo", {"text": "still here"})) == "still here"


def test_an_agent_is_deployed_by_the_command_and_ended_by_it(net: Net, tmp_path: Path) -> None:
    file = tmp_path / "echo" / "agent.yaml"
    shutil.copytree(EXAMPLES / "echo", file.parent)
    file.write_text(file.read_text().replace("name: Echo", "name: Short Lived"))
    agent = net.deploy("delta", file)
    until(lambda: net.knows("alpha", agent), "alpha never heard of it")
    net.must("undeploy", agent, "--org", "delta")
    until(lambda: not net.knows("alpha", agent), "alpha never heard that it is gone")


def test_a_tool_that_says_no_has_failed_and_the_command_says_so(net: Net, agents: Agents) -> None:
    answer = net.call("beta", agents.probe, "fail", {"why": "it is Sunday"})
    assert (answer["status"], answer["error"]["name"]) == ("failed", "tool-failed") and "it is Sunday" in str(answer["result"])
    done = net.mesh("call", agents.probe, "fail", "--data", '{"why": "it rains"}', "--org", "beta")
    assert done.code == 1 and done.out == "" and "it rains" in done.err and "[tool-failed]" in done.err


def test_an_agent_that_dies_in_a_call_is_told_of_and_comes_back(net: Net, agents: Agents) -> None:
    answer = net.call("delta", agents.probe, "crash")
    assert (answer["status"], answer["error"]["name"]) == ("outcome_unknown", "agent-crashed")
    until(lambda: net.call("delta", agents.probe, "happened")["status"] == "completed", "the agent never came back")


def test_cancelling_reaches_the_tool(net: Net, agents: Agents) -> None:
    task = net.call("delta", agents.probe, "slow", {"seconds": 600, "name": "cancelled"}, wait=False, timeout=900)["taskId"]
    until(lambda: "cancelled began" in happened(net, agents), "the tool never began")
    assert net.ask("delta", "DELETE", f"/v1/tasks/{task}").body["status"] == "cancelled"
    until(lambda: "cancelled was stopped" in happened(net, agents), "the tool was never told")
    assert net.ask("delta", "GET", f"/v1/tasks/{task}").body["status"] == "cancelled"
    until(lambda: net.ask("gamma", "GET", f"/v1/tasks/{task}").body["status"] == "cancelled", "its provider never recorded that")


def test_a_deadline_stops_the_tool_and_the_task_has_expired(net: Net, agents: Agents) -> None:
    answer = net.call("delta", agents.probe, "slow", {"seconds": 600, "name": "late"}, timeout=1)
    assert answer["status"] == "expired"
    until(lambda: "late was stopped" in happened(net, agents), "the tool was never told")


def test_the_same_key_twice_runs_once(net: Net, agents: Agents) -> None:
    body = {"name": "once", "seconds": 0.5}
    first: list[Any] = []
    thread = in_background(lambda: net.call("delta", agents.probe, "count", body, idempotencyKey="a key of mine"), first)
    second = net.call("delta", agents.probe, "count", body, idempotencyKey="a key of mine")
    thread.join()
    assert [value(first[0]), value(second)] == [1, 1] and first[0]["taskId"] == second["taskId"]
    assert happened(net, agents)["once"] == 1
    other = net.ask("delta", "POST", "/v1/tasks", {"agentId": agents.probe, "type": "happened", "idempotencyKey": "a key of mine"})
    assert (other.status, other.body["name"]) == (409, "idempotency-conflict")
    assert value(net.call("delta", agents.probe, "count", body, idempotencyKey="another key")) == 2


def test_a_trace_is_in_the_logs_of_both_nodes(net: Net, agents: Agents) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    answer = net.ask("delta", "POST", "/v1/tasks", {"agentId": agents.probe, "type": "happened"}, headers)
    assert answer.status == 200 and trace in {key.lower(): value for key, value in answer.headers.items()}["traceparent"]
    until(lambda: trace in net.log("delta"), "the caller's node never logged it")
    until(lambda: trace in net.log("gamma"), "the provider's node never logged it")


def test_an_agent_cannot_read_its_nodes_folder(net: Net, agents: Agents) -> None:
    own, other = Path(net.node("gamma").dir), Path(net.node("alpha").dir)
    secrets = [own / "keys", own / "passphrase", own / "api-keys.json", own / "node.toml", other / "keys", other.parent / "testnet.json"]
    for path in secrets:
        assert path.exists(), "the test looks for what is there"
        said = value(net.call("delta", agents.probe, "read", {"path": str(path)}))
        assert said.startswith("cannot: "), f"{path}: {said}"
    assert not value(net.call("delta", agents.probe, "read", {"path": "/etc/hostname"})).startswith("cannot")


def test_the_beginning_of_a_tasks_id_is_enough(net: Net, agents: Agents) -> None:
    done = net.mesh("call", agents.echo, "echo", "--data", '{"text": "hello"}', "--org", "delta")
    assert done.code == 0 and "hello" in done.out
    short, *options = done.err.rpartition("mesh explain ")[2].split()
    assert options == ["--org", "delta"], "the node that was called from is the one that knows"
    assert len(short) == 14 and short.startswith("t-")
    explained = net.must("explain", short, "--org", "delta")
    assert "completed" in explained
    for org in ("delta", "alpha"):  # who called it, and who ran it
        answer = net.ask(org, "GET", f"/v1/tasks/{short}")
        assert answer.status == 200 and answer.body["taskId"].startswith(short) and value(answer.body) == "hello"
        assert net.ask(org, "GET", f"/v1/tasks/{short[:13]}").body["name"] == "no-such-task", "too short not to be guessed"
    assert net.ask("delta", "DELETE", f"/v1/tasks/{short}").body["status"] == "completed"


@pytest.mark.parametrize("did", ["alpha", "did:web:alpha", "did:mesh:club:alpha", "did:mesh:enterprise:ALPHA"])
def test_a_malformed_did_is_bad_input(net: Net, did: str) -> None:
    answer = net.ask("alpha", "GET", f"/1.0/identifiers/{did}")
    assert (answer.status, answer.body["name"]) == (400, "bad-did")
    assert net.ask("alpha", "GET", "/1.0/identifiers/did:mesh:enterprise:nobody").body["name"] == "no-such-did"
    assert net.ask("alpha", "GET", "/1.0/identifiers/did:mesh:enterprise:beta").status == 200


def test_a_published_record_is_found_and_calling_it_says_what_is_missing(net: Net, tmp_path: Path) -> None:
    line = '{"name": "Weather", "description": "Rain and sun of tomorrow", "runtime": {"mcp": {"url": "https://weather.invalid/mcp"}}}'
    (tmp_path / "lines.jsonl").write_text(line + "\n")
    net.must("publish", tmp_path / "lines.jsonl", "--org", "beta")
    found = net.ask("beta", "POST", "/v1/discover", {"query": "will it rain tomorrow", "limit": 1}).body["agents"][0]
    assert found["name"] == "Weather"
    until(lambda: net.knows("delta", found["agentId"]))
    answer = net.ask("delta", "POST", "/v1/tasks", {"agentId": found["agentId"], "type": "forecast", "data": {}})
    assert (answer.status, answer.body["name"], answer.body["outcome"]) == (403, "agent-not-served", "not_done")
    refused = net.ask("delta", "DELETE", f"/v1/agents/{found['agentId']}")
    assert (refused.status, refused.body["name"]) == (403, "not-your-agent"), "only its owner withdraws it"
    assert "--org beta" in refused.body["hint"]
    net.must("undeploy", found["agentId"], "--org", "beta")
    until(lambda: not net.knows("delta", found["agentId"]), "a withdrawn record is still there")


# -- agents that call agents -----------------------------------------------------------------------------------------


def test_the_concierge_finds_and_calls_another_organisations_agent(net: Net, agents: Agents) -> None:
    data = {"request": "convert kilometres to miles", "arguments": {"value": 1, "from_unit": "km", "to_unit": "m"}, "task": "convert"}
    answer = net.call("delta", agents.concierge, "delegate", data, timeout=60)
    assert answer["status"] == "completed", answer
    assert answer["result"]["doneBy"]["agentId"] == agents.units and "1000" in str(answer["result"]["result"])


def test_calls_follow_one_another_across_organisations_only_so_deep(net: Net, agents: Agents) -> None:
    """A person's key allows 8 calls in a row: 7 agents that pass it on, and one that does it."""
    probes = [agents.probe, agents.probe_of_alpha, agents.probe_of_beta]
    ring = [probes[place % 3] for place in range(8)]

    def through(agents_after_the_first: list[str]) -> Any:
        data = {"agents": [*agents_after_the_first, agents.echo], "tool": "echo", "data": {"text": "deep"}}
        return net.call("delta", ring[0], "pass_on", data, timeout=60)

    allowed = through(ring[1:7])
    assert allowed["status"] == "completed" and "deep" in str(allowed["result"]), allowed
    refused = through(ring[1:8])
    assert refused["status"] == "failed" and "too-deep" in str(refused["result"])
    again = net.call("delta", ring[7], "pass_on", {"agents": [agents.echo], "tool": "echo", "data": {"text": "shallow"}})
    assert "shallow" in str(again["result"]), "what was refused leaves nothing behind"
