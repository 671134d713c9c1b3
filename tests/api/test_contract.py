"""What CONTRACT.md says of the HTTP API, over a real server. Only ``live`` knows which node answers."""

import json
import secrets
from typing import Any

import httpx
import trio

from tests.api.conftest import DEPLOY, Live


async def test_public_paths_need_no_key(live: Live) -> None:
    async with live.client("") as client:
        for path in ("/healthz", "/readyz", "/openapi.json", "/docs", "/.well-known/agent-card.json"):
            assert (await client.get(path)).status_code == 200, path
        assert (await client.get("/v1/status")).json()["name"] == "no-key"


async def test_openapi_is_whole_and_lists_what_answers(live: Live) -> None:
    async with live.client() as client:
        document = (await client.get("/openapi.json")).json()
        docs = (await client.get("/docs")).text
    for path in ("/v1/tasks", "/v1/discover", "/v1/agents", "/v1/agents/{id}", "/v1/tasks/{id}", "/v1/members", "/v1/status", "/v1/events"):
        assert path in document["paths"], path
        assert path in docs
    assert "http" not in docs.replace("https://mesh", ""), "the page loads nothing"
    schemas = document["components"]["schemas"]

    def check(value: object) -> None:
        if isinstance(value, dict):
            if "$ref" in value:
                assert value["$ref"].rpartition("/")[2] in schemas, value["$ref"]
            for inner in value.values():
                check(inner)
        elif isinstance(value, list):
            for inner in value:
                check(inner)

    check(document)
    body = document["paths"]["/v1/tasks"]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert set(schemas[body.rpartition("/")[2]]["required"]) == {"agentId", "type"}


async def test_a_task_answers_with_its_result(live: Live) -> None:
    async with live.client("caller") as client:
        answer = await client.post("/v1/tasks", json={"agentId": live.agent, "type": "echo", "data": {"city": "Graz", "n": [1, 2.5, None]}})
        assert answer.status_code == 200
        task = answer.json()
        assert task["status"] == "completed"
        assert task["result"] == {"city": "Graz", "n": [1, 2.5, None]}
        assert {"taskId", "agentId", "status", "result", "error", "receipt", "timing"} <= task.keys()
        again = (await client.get(f"/v1/tasks/{task['taskId']}")).json()
        assert again["result"] == task["result"]


async def test_a_failed_task_is_an_answer(live: Live) -> None:
    async with live.client("caller") as client:
        answer = await client.post("/v1/tasks", json={"agentId": live.agent, "type": "refuse"})
        assert answer.status_code == 200
        assert answer.json()["status"] == "failed"
        assert answer.json()["error"]["name"] == "tool-failed"


async def test_a_task_may_be_left_running_and_cancelled(live: Live) -> None:
    async with live.client("caller") as client:
        answer = await client.post("/v1/tasks", json={"agentId": live.agent, "type": "sleep", "data": {"seconds": 60}, "wait": False})
        assert answer.status_code == 202
        task = answer.json()["taskId"]
        assert answer.headers["location"] == f"/v1/tasks/{task}"
        assert (await client.get(f"/v1/tasks/{task}")).json()["status"] == "running"
        assert (await client.delete(f"/v1/tasks/{task}")).json()["status"] == "cancelled"


async def test_a_task_expires(live: Live) -> None:
    async with live.client("caller") as client:
        body = {"agentId": live.agent, "type": "sleep", "data": {"seconds": 60}, "timeout": 0.05}
        assert (await client.post("/v1/tasks", json=body)).json()["status"] == "expired"


async def test_a_large_result_arrives_whole(live: Live) -> None:
    async with live.client("caller") as client:
        answer = await client.post("/v1/tasks", json={"agentId": live.agent, "type": "text", "data": {"size": 8_000_003}})
        result = answer.json()["result"]
        assert len(result) == 8_000_003
        assert result.startswith('ab"ü\nab"ü\n')


async def test_a_file_is_sent_along(live: Live) -> None:
    async with live.client("caller") as client:
        file = {"filename": "patent.pdf", "content": "aGVsbG8="}
        answer = await client.post("/v1/tasks", json={"agentId": live.agent, "type": "echo", "files": {"document": file}})
        assert "patent.pdf:2cf24dba5fb0a30e" in answer.json()["result"]["document"]


async def test_discover_finds_filters_and_says_when_it_is_partial(live: Live) -> None:
    async with live.client("caller") as client:
        found = (await client.post("/v1/discover", json={"query": "the time in a city"})).json()
        assert found["complete"] is True
        first = found["agents"][0]
        assert first["agentId"] == live.agent
        assert 0 <= first["score"] <= 1
        assert "time" in first["matched"]
        assert "embeddings" not in first
        assert first["pricing"]["perQuery"] == "2"
        none = {"query": "time", "filters": {"maxPrice": "1.5"}}
        assert (await client.post("/v1/discover", json=none)).json()["agents"] == []
        elsewhere = {"query": "time", "filters": {"region": "eu-1", "trustScore": {"min": 10}}}
        assert (await client.post("/v1/discover", json=elsewhere)).json()["agents"] == []
        with_vectors = (await client.post("/v1/discover", json={"query": "time", "embeddings": True})).json()
        assert len(with_vectors["agents"][0]["embeddings"]) == 768
        if live.memory is not None:
            live.memory.cells_missing = 1
            assert (await client.post("/v1/discover", json={"query": "time"})).json()["complete"] is False


async def test_discover_pages_counts_leaves_out_and_finds_what_is_related(live: Live) -> None:
    async with live.client("caller") as client:

        async def ask(**body: object) -> dict[str, Any]:
            answer = await client.post("/v1/discover", json=body)
            assert answer.status_code == 200, answer.text
            return dict(answer.json())

        asked = {"query": "the time in a city", "filters": {"capabilities": ["time"]}}
        found = await ask(**asked, limit=100, facets=True, weigh={"trust": 0.5, "latency": 1, "price": 0})
        assert found["cursor"] is None and live.agent in [one["agentId"] for one in found["agents"]]
        assert {"value": "time", "agents": len(found["agents"])} in found["facets"]["capabilities"]
        page = await ask(**asked, limit=1)
        assert (page["cursor"] is None) == (len(found["agents"]) == 1) and "facets" not in page
        out = {"capabilities": ["time"], "exclude": {"capabilities": ["time"]}}
        assert (await ask(query="time", filters=out))["agents"] == []
        assert live.agent not in [one["agentId"] for one in (await ask(related=live.agent))["agents"]]
        nobody = await client.post("/v1/discover", json={"related": "a-0000000000000000"})
        assert (nobody.status_code, nobody.json()["name"]) == (404, "no-such-agent")
        wrong = await client.post("/v1/discover", json={**asked, "cursor": "nonsense"})
        assert (wrong.status_code, wrong.json()["name"]) == (400, "bad-cursor")


async def test_agents_come_and_go(live: Live) -> None:
    async with live.client("operator") as client:
        before = (await client.get(f"/v1/agents/{live.agent}")).json()["version"]
        again = await client.post("/v1/agents", json=DEPLOY, timeout=120)
        assert again.json()["version"] == before + 1
        assert again.json()["agentId"] == live.agent
        listed = (await client.get("/v1/agents")).json()["agents"]
        assert [one["name"] for one in listed] == ["Clock"]
        assert (await client.get(f"/v1/agents/{live.agent}")).json()["meshId"].startswith("did:mesh:")
        assert (await client.delete(f"/v1/agents/{live.agent}", timeout=120)).status_code == 200
        gone = await client.get(f"/v1/agents/{live.agent}")
        assert (gone.status_code, gone.json()["name"]) == (404, "no-such-agent")


async def test_publish_takes_the_good_lines_and_names_the_bad(live: Live) -> None:
    async with live.client("operator") as client:
        far = {"name": "Far", "description": "an agent elsewhere", "runtime": {"mcp": {"url": "https://far.example/mcp"}}}
        lines = [json.dumps(far), "{", json.dumps({"description": "no name"})]
        answer = (await client.post("/v1/publish", json={"lines": lines}, timeout=60)).json()
        assert answer["accepted"] == len(answer["agentIds"]) == 1, answer
        assert [one["line"] for one in answer["refused"]] == [2, 3]
        assert all(one["name"] for one in answer["refused"])


async def test_the_nodes_of_the_org_and_removing_one(live: Live) -> None:
    async with live.client("admin") as client:
        found = (await client.get("/v1/org/nodes")).json()
        assert {"nodes", "leader", "term", "commit", "canLose"} <= found.keys()
        assert {"node_id", "name", "role", "leader", "lag", "state"} <= found["nodes"][0].keys()
        assert (await client.delete("/v1/org/nodes/nobody")).json()["name"] == "no-such-node"
        assert (await client.delete(f"/v1/org/nodes/{'x' * 3000}")).status_code == 400
    async with live.client("caller") as client:
        assert (await client.get("/v1/org/nodes")).status_code == 200
        refused = await client.delete(f"/v1/org/nodes/{found['nodes'][0]['name']}")
        assert refused.status_code == 403, "only who may operate the node"


async def test_members_status_explain_metrics(live: Live) -> None:
    async with live.client("admin") as client:
        members = (await client.get("/v1/members")).json()["members"]
        assert {"node_id", "name", "org", "region", "state", "incarnation"} <= members[0].keys()
        status = (await client.get("/v1/status")).json()
        assert status["health"] == "healthy"
        task = (await client.post("/v1/tasks", json={"agentId": live.agent, "type": "echo"})).json()["taskId"]
        assert (await client.get(f"/v1/explain/{task}")).json()["lines"]
        metrics = (await client.get("/metrics")).text
        assert metrics.startswith("# ")
        assert 'mesh_api_requests_total{method="POST",status="2xx"}' in metrics


async def test_dids_resolve_for_anybody(live: Live) -> None:
    async with live.client("") as client:
        good = (await client.get("/1.0/identifiers/did:mesh:enterprise:alpha")).json()
        assert good["didDocument"]["id"] == "did:mesh:enterprise:alpha"
        assert (await client.get("/1.0/identifiers/did:mesh:enterprise:nobody")).status_code == 404
        assert (await client.get("/1.0/identifiers/did:web:example")).json()["name"] in ("bad-did", "no-such-did")


async def test_what_is_not_there_yet_says_what_it_waits_for(live: Live) -> None:
    async with live.client() as client:
        for path in ("/v1/trust/did:mesh:enterprise:alpha", "/v1/audit"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["name"]) == (501, "not-yet"), path
            assert "waits for" in answer.json()["detail"]


async def test_every_answer_carries_the_requests_id_and_trace(live: Live) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    async with live.client("caller") as client:
        answer = await client.post("/v1/discover", json={"query": "time"}, headers={"X-Request-Id": "mine-1", "traceparent": trace})
        assert answer.headers["x-request-id"] == "mine-1"
        assert answer.headers["traceparent"].split("-")[1] == trace.split("-")[1]
        assert answer.headers["traceparent"] != trace, "a span of this hop"
        if live.memory is not None:
            seen = live.memory.callers[-1]
            assert (seen.request_id, seen.trace) == ("mine-1", answer.headers["traceparent"])
        bad = await client.get("/v1/agents/a-0", headers={"X-Request-Id": "x y", "traceparent": "00-0-0-00"})
        assert bad.headers["x-request-id"].startswith("r-")
        assert bad.json()["requestId"] == bad.headers["x-request-id"]


async def test_events_stream_and_take_up_where_a_reader_left(live: Live) -> None:
    async with live.client("operator") as client:
        async with client.stream("GET", "/v1/events", headers={"Last-Event-ID": "other-7"}) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            first = await _event(answer.aiter_lines())
        assert {"id", "kind", "time", "text", "data"} <= first.keys()
        before = str(first["id"])
        await client.post("/v1/agents", json=DEPLOY, timeout=120)
        async with client.stream("GET", "/v1/events", headers={"Last-Event-ID": before}) as answer:
            lines = answer.aiter_lines()
            while "Clock" not in str((event := await _event(lines))["text"]):
                assert event["id"] != before
    if live.memory is not None:
        with trio.fail_after(5):
            while live.memory.log.readers:
                await trio.sleep(0.01)


async def _event(lines: object) -> dict[str, object]:
    async for line in lines:  # type: ignore[attr-defined]
        if line.startswith("data: "):
            value: dict[str, object] = json.loads(line[6:])
            return value
    raise AssertionError("the stream ended")


async def test_http2_without_tls_on_loopback(live: Live) -> None:
    async with live.client("caller", http1=False, http2=True) as client:
        answer = await client.post("/v1/tasks", json={"agentId": live.agent, "type": "echo", "data": {"a": 1}})
        assert answer.http_version == "HTTP/2"
        assert answer.json()["result"] == {"a": 1}


async def test_a_client_that_leaves_cancels_its_task(live: Live) -> None:
    async with live.client("caller") as client, live.client("admin") as watching:

        async def running() -> int:
            count: int = (await watching.get("/v1/status")).json()["tasks"]["running"]
            return count

        async with trio.open_nursery() as nursery:
            body = {"agentId": live.agent, "type": "sleep", "data": {"seconds": 600}, "timeout": 600}
            nursery.start_soon(lambda: client.post("/v1/tasks", json=body, timeout=600))
            with trio.fail_after(10):
                while not await running():
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        with trio.fail_after(10):
            while await running():
                await trio.sleep(0.01)
    if live.memory is not None:
        assert live.memory.cancelled == 1


async def test_the_same_request_twice_is_one_task(live: Live) -> None:
    body = {"agentId": live.agent, "type": "echo", "data": {"a": 1}, "idempotencyKey": secrets.token_hex(8)}
    async with live.client("caller") as client:
        first = await client.post("/v1/tasks", json=body)
        second = await client.post(
            "/v1/tasks", content=json.dumps(body, indent=3, sort_keys=True), headers={"Content-Type": "application/json"}
        )
        assert first.json() == second.json()
        assert second.headers["idempotent-replayed"] == "true"
        assert live.memory is None or live.memory.runs == 1
        for more in ({"data": {"a": 2}}, {"timeout": 77}):
            other = await client.post("/v1/tasks", json={**body, **more})
            assert (other.status_code, other.json()["name"]) == (409, "idempotency-conflict")
        async with live.client("admin") as stranger:
            other = await stranger.post("/v1/tasks", json=body)
        assert other.json()["taskId"] != first.json()["taskId"], "a key's names are its own"


async def test_the_same_request_at_the_same_time_is_one_task(live: Live) -> None:
    body = {"agentId": live.agent, "type": "sleep", "data": {"seconds": 0.2}, "idempotencyKey": secrets.token_hex(8)}
    answers: list[httpx.Response] = []

    async def post() -> None:
        async with live.client("caller") as client:
            answers.append(await client.post("/v1/tasks", json=body))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(post)
    assert live.memory is None or live.memory.runs == 1
    assert len({answer.json()["taskId"] for answer in answers}) == 1
