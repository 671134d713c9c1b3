"""The example agents, each started from its own agent.yaml in the real sandbox, do what they say."""

import json
import os
from functools import partial
from pathlib import Path

import pytest
import trio

from meshos import cbor
from meshos.adapters.onprem.provider import AgentSpec
from meshos.ids import AgentId, TaskId
from meshos.protocols.tasks.agent_file import AgentFile, parse_yaml
from meshos.protocols.tasks.ports import CallTool

from .conftest import Bench

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/agent.yaml"))
AGENT = AgentId("a-example")


def example(name: str) -> AgentFile:
    path = EXAMPLES / name / "agent.yaml"
    return parse_yaml(path.read_text(encoding="utf-8"), str(path))


async def deploy(bench: Bench, name: str, **env: str) -> set[str]:
    tools = await bench.provider.start(AgentSpec(AGENT, example(name), EXAMPLES / name, env))
    return {tool.name for tool in tools}


def test_each_is_listed() -> None:
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert NAMES == ["concierge", "echo", "git", "tables", "time", "units"]
    assert all(f"| `{name}` |" in readme for name in NAMES)
    assert len({example(name).name for name in NAMES}) == len(NAMES)


async def test_world_clock(bench: Bench) -> None:
    assert await deploy(bench, "time") == {"get_current_time", "convert_time"}
    said = await bench.call(AGENT, "get_current_time", timezone="Asia/Tokyo")
    assert "Asia/Tokyo" in json.dumps(said) and "+09:00" in json.dumps(said)


async def test_echo(bench: Bench) -> None:
    assert "echo" in await deploy(bench, "echo")
    assert "hello" in json.dumps(await bench.call(AGENT, "echo", text="hello"))


async def test_repository_reader(bench: Bench) -> None:
    assert "git_log" in await deploy(bench, "git")
    if not (EXAMPLES.parent / ".git").is_dir() or not all(path.stat().st_mode & 0o001 for path in EXAMPLES.parents):
        pytest.skip("the project does not stand in a git repository that others may read")
    said = await bench.call(AGENT, "git_log", repo_path=str(EXAMPLES.parent), max_count=1)
    assert "Commit" in json.dumps(said) and "Author" in json.dumps(said)


async def test_unit_converter(bench: Bench) -> None:
    assert await deploy(bench, "units") == {"convert", "list_units"}
    for value, source, target, wanted in [
        (42.195, "km", "miles", 26.218757456454306),
        (70, "F", "celsius", 21.11111111111111),
        (-40, "C", "F", -40),
        (1, "nautical mile", "km", 1.852),
        (12, "kn", "km/h", 22.224),
        (1, "GiB", "MB", 1073.741824),
        (1, "Feet", "inch", 12),
    ]:
        said = await bench.call(AGENT, "convert", value=value, from_unit=source, to_unit=target)
        assert isinstance(said, dict) and said["value"] == wanted, said
    result = await bench.provider.call(
        CallTool(AGENT, TaskId("t-1"), "convert", cbor.encode({"value": 1, "from_unit": "kg", "to_unit": "m"}), 20)
    )
    assert result.failed and "measures mass" in str(cbor.decode(result.value, max_bytes=1000))


TABLE = b"country;amount;days\nNorway;10;1\nChad;20;2\nNorway;30;3\nPeru;;4\n"


async def test_table_analyst(bench: Bench) -> None:
    assert await deploy(bench, "tables") == {"describe_table", "summarise_by", "correlate"}
    said = await bench.call(AGENT, "describe_table", file={"filename": "sales.csv", "content": TABLE})
    assert (
        isinstance(said, dict)
        and said["rows"] == 4
        and said["columns"]["amount"]["mean"] == 20
        and said["columns"]["amount"]["missing"] == 1
    )
    said = await bench.call(AGENT, "summarise_by", group="country", value="amount", text=TABLE.decode())
    assert isinstance(said, dict) and said["groups"][0] == {"group": "Norway", "value": 40.0} and said["skipped"] == 1
    said = await bench.call(AGENT, "correlate", first="amount", second="days", text=TABLE.decode())
    assert isinstance(said, dict) and said["correlation"] == pytest.approx(1)


async def answer_as_a_node(requests: list[tuple[str, str, object]], stream: trio.SocketStream) -> None:
    """The two calls of a node's API that the concierge makes, answered as the contract says."""
    data = b""
    async with stream:
        while b"\r\n\r\n" not in data:
            data += await stream.receive_some()
        head, _, body = data.partition(b"\r\n\r\n")
        headers = {line.split(b":")[0].lower(): line.split(b":", 1)[1].strip() for line in head.split(b"\r\n")[1:]}
        while len(body) < int(headers[b"content-length"]):
            body += await stream.receive_some()
        path = head.split()[1].decode()
        requests.append((path, headers[b"authorization"].decode(), json.loads(body)))
        properties = {"value": {}, "from_unit": {}, "to_unit": {}}
        tasks = [
            {"name": "list_units", "description": "List units", "inputSchema": {"properties": {"quantity": {}}}},
            {"name": "convert", "description": "Convert", "inputSchema": {"properties": properties, "required": list(properties)}},
        ]
        agents = [
            {"agentId": "a-me", "meshId": "did:mesh:enterprise:beta", "name": "Concierge", "score": 0.9, "tasks": tasks},
            {"agentId": "a-units", "meshId": "did:mesh:enterprise:alpha", "name": "Unit Converter", "score": 0.8, "tasks": tasks},
        ]
        answer = {"agents": agents} if path == "/v1/discover" else {"status": "completed", "result": {"value": 26.2}, "error": None}
        text = json.dumps(answer).encode()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(text) + text)


async def test_concierge_finds_another_organisations_agent_and_has_it_work(bench: Bench, nursery: trio.Nursery) -> None:
    requests: list[tuple[str, str, object]] = []
    listeners = await nursery.start(partial(trio.serve_tcp, partial(answer_as_a_node, requests), 0, host="127.0.0.1"))
    node = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    assert await deploy(bench, "concierge", MESH_NODE=node, MESH_API_KEY="token-of-this-agent") == {"find", "delegate"}
    given = {"value": 42.195, "from_unit": "km", "to_unit": "mi"}
    said = await bench.call(AGENT, "delegate", request="how many miles is a marathon", arguments=given)
    assert isinstance(said, dict) and said["result"] == {"value": 26.2} and said["status"] == "completed"
    assert said["doneBy"]["meshId"] == "did:mesh:enterprise:alpha" and said["doneBy"]["task"] == "convert"
    assert [path for path, _, _ in requests] == ["/v1/discover", "/v1/tasks"]
    assert {key for _, key, _ in requests} == {"Bearer token-of-this-agent"}
    assert requests[1][2] == {"agentId": "a-units", "type": "convert", "data": given, "timeout": 30}


def test_no_example_is_unreadable_for_others() -> None:
    closed = [str(path) for path in EXAMPLES.rglob("*") if not os.stat(path).st_mode & 0o004]
    assert closed == []
