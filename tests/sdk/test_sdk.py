"""CONTRACT.md's Python SDK, against a real API: the sketch there, errors with names, sync, asyncio and trio."""

import ast
import asyncio
import inspect
import json
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from mesh import AgentDiscovery
from mesh_os import Agent as SyncAgent
from mesh_os import (
    AgentConfig,
    AgentRecord,
    AsyncAgent,
    AsyncFederation,
    AsyncMeshOS,
    BadInput,
    Failed,
    Federation,
    MeshError,
    MeshOS,
    Refused,
    Unreachable,
)
from tests.cli_client.conftest import ROOT, Node

CONFIG = AgentConfig(
    name="LegalBot",
    model="gpt-4-turbo",
    capabilities=["contract-review"],
    region="us-east-1",
    runtime={"mcp": {"command": ["python", "-m", "legal_bot"]}},
)


@pytest.fixture
def mesh(node: Node) -> Iterator[MeshOS]:
    with MeshOS(api_key=node.key, node=node.url) as client:
        yield client


def test_the_sketch_of_the_contract(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESH_NODE", node.url)
    monkeypatch.setenv("MESH_API_KEY", node.key)
    (tmp_path / "patent-12345.pdf").write_bytes(b"hello")
    os = MeshOS()
    agent = os.deploy_agent(CONFIG)
    experts = os.discover("legal contract review")
    assert experts[0].name == "LegalBot"
    assert experts[0].models == ["gpt-4-turbo"]
    result = agent.collaborate_with(experts[0], task={"echo": "patent-12345.pdf"})
    assert result["document"].startswith("patent-12345.pdf:2cf24dba5fb0a30e")
    agents = AgentDiscovery().search(query="contract review", filters={"trustScore": {"min": 40}, "maxLatency": 500}, limit=5)
    federation = os.federate(agents[0].meshId)
    task = {"type": "echo", "data": {"region": "pacific", "horizon": "2050"}}
    os.publish(['{"name": "echo", "description": "echo"}'])
    assert federation.execute_task(task) == {"region": "pacific", "horizon": "2050"}
    agent.undeploy()
    assert "LegalBot" not in [one.name for one in os.agents()]


def test_an_agent_without_a_runtime_is_one_clear_refusal(mesh: MeshOS) -> None:
    with pytest.raises(BadInput) as caught:
        mesh.deploy_agent(AgentConfig(name="LegalBot", model="gpt-4-turbo"))
    assert caught.value.name == "no-runtime"
    assert caught.value.outcome == "not_done"
    assert "runtime=" in caught.value.hint


def test_the_agent_file_has_what_was_said_and_nothing_else() -> None:
    assert CONFIG.agent_file() == {
        "name": "LegalBot",
        "description": "LegalBot: contract review",
        "capabilities": ["contract-review"],
        "models": ["gpt-4-turbo"],
        "region": "us-east-1",
        "runtime": {"mcp": {"command": ["python", "-m", "legal_bot"]}},
    }


def test_tasks_in_all_forms(mesh: MeshOS, tmp_path: Path) -> None:
    agent = mesh.deploy_agent(CONFIG)
    record = agent.record
    file = tmp_path / "patent.pdf"
    file.write_bytes(b"hello")
    ways = [
        ({"echo": {"a": 1}}, {"a": 1}),
        ({"echo": 7}, {"document": 7}),
        ({"echo": "no file of this name"}, {"document": "no file of this name"}),
        ({"type": "echo", "data": {"a": 1}}, {"a": 1}),
        ({"type": "echo"}, {}),
    ]
    for task, result in ways:
        assert agent.collaborate_with(record, task=task) == result  # type: ignore[arg-type]
    sent = agent.collaborate_with(record, {"echo": file})
    assert sent == agent.collaborate_with(agent, {"type": "echo", "files": {"document": str(file)}})
    assert sent["document"].startswith("patent.pdf:2cf24dba")


@pytest.mark.parametrize(
    "task",
    [
        {},
        {"a": 1, "b": 2},
        {"type": "echo", "dat": {}},
        {"type": 7},
        {"type": "echo", "data": []},
        {"type": "echo", "files": []},
        {"nothing": 1},
        {"type": "echo", "files": {"document": "nowhere.pdf"}},
        {"type": "echo", "files": {"document": 7}},
        {"echo": Path("nowhere.pdf")},
    ],
)
def test_tasks_that_are_none(mesh: MeshOS, task: dict[str, object]) -> None:
    agent = mesh.deploy_agent(CONFIG)
    with pytest.raises(BadInput) as caught:
        agent.collaborate_with(agent, task)
    assert caught.value.name in ("bad-task", "bad-file")


def test_a_search_is_paged_counted_and_made_for_another_agent(mesh: MeshOS) -> None:
    lines = [
        {"name": f"Sums {place}", "description": "adds numbers", "capabilities": ["sums", "all"][: 1 + place % 2], "region": f"sdk-{place}"}
        for place in range(3)
    ]
    mesh.publish([json.dumps(line) for line in lines])
    asked: dict[str, Any] = {"filters": {"capabilities": ["sums"]}, "weigh": {"trust": 0.5}}
    whole = mesh.discover("adds numbers", facets=True, **asked)
    assert len(whole) == 3 and whole.cursor is None and whole.facets is not None
    assert {"value": "sums", "agents": 3} in whole.facets["capabilities"] and mesh.discover("numbers").facets is None
    page, shown = mesh.discover("adds numbers", limit=2, **asked), []
    shown += page
    page = mesh.discover("adds numbers", limit=2, cursor=page.cursor, **asked)
    assert [one.agentId for one in (*shown, *page)] == [one.agentId for one in whole] and page.cursor is None
    out = mesh.discover("adds numbers", filters={"capabilities": ["sums"], "exclude": {"regions": ["sdk-0", "sdk-1"]}})
    assert [one.name for one in out] == ["Sums 2"]
    both = next(one for one in whole if one.capabilities == ["sums", "all"])
    assert both.agentId not in [one.agentId for one in mesh.related(both, limit=100)]
    assert list(mesh.substitutes(both)) == [] and list(mesh.substitutes(both.agentId)) == []
    one = next(one for one in whole if one.capabilities == ["sums"])
    assert {found.name for found in mesh.substitutes(one.agentId)} == {"Sums 0", "Sums 1", "Sums 2"} - {one.name}
    with pytest.raises(BadInput, match="bad-cursor"):
        mesh.discover("adds numbers", cursor="nonsense")


def test_errors_have_names_and_say_whether_anything_was_done(mesh: MeshOS, node: Node) -> None:
    agent = mesh.deploy_agent(CONFIG)
    with pytest.raises(Failed) as failed:
        agent.collaborate_with(agent, {"refuse": {}})
    assert (failed.value.name, failed.value.detail, failed.value.outcome) == ("tool-failed", "the tool says no", "done")
    with pytest.raises(Failed) as expired:
        mesh.call(agent.record, "sleep", {"seconds": 60}, timeout=0.05).value()
    assert expired.value.name == "task-expired"
    with pytest.raises(Refused) as nobody:
        mesh.call("a-0000000000000000", "echo")
    assert (nobody.value.name, nobody.value.status, nobody.value.outcome) == ("no-such-agent", 404, "not_done")
    with pytest.raises(BadInput, match="bad-request"):
        mesh.discover("x", filters={"trustscore": 1})
    with pytest.raises(Refused, match="no-agent-for-task"):
        mesh.federate("did:mesh:enterprise:nobody").execute_task({"type": "echo"})
    with MeshOS("mk_wrong_key", node.url) as stranger, pytest.raises(Refused) as unknown:
        stranger.status()
    assert unknown.value.name == "unknown-api-key"


def test_a_task_may_be_left_running(mesh: MeshOS) -> None:
    agent = mesh.deploy_agent(CONFIG)
    task = mesh.call(agent.record, "sleep", {"seconds": 60}, wait=False)
    assert task.status == "running"
    with pytest.raises(Unreachable, match="still-running"):
        task.value()
    assert mesh.cancel(task.taskId).status == "cancelled"
    assert mesh.task(task.taskId).status == "cancelled"


def test_the_same_key_twice_is_one_task(mesh: MeshOS) -> None:
    agent = mesh.deploy_agent(CONFIG)
    first = mesh.call(agent.agentId, "echo", {"a": 1}, idempotency_key="once")
    assert mesh.call(agent.agentId, "echo", {"a": 1}, idempotency_key="once").taskId == first.taskId
    with pytest.raises(Refused, match="idempotency-conflict"):
        mesh.call(agent.agentId, "echo", {"a": 2}, idempotency_key="once")


def test_which_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MESH_NODE", raising=False)
    monkeypatch.delenv("MESH_API_KEY", raising=False)
    for key, node, name in [
        ("k", None, "no-node-named"),
        (None, "http://127.0.0.1:1", "no-key"),
        ("k", "http://example.org:80", "bad-node"),
        ("k", "ftp://127.0.0.1:1", "bad-node"),
        ("k", "http://127.0.0.1:99999", "bad-node"),
        ("k", "http://", "bad-node"),
        ("k\n", "http://127.0.0.1:1", "bad-node"),
    ]:
        with pytest.raises(BadInput) as caught:
            MeshOS(key, node)
        assert caught.value.name == name, node


def test_nobody_answers() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with MeshOS("k", f"http://127.0.0.1:{unused.getsockname()[1]}") as mesh, pytest.raises(Unreachable) as caught:
            mesh.call("a-0", "echo")
    assert (caught.value.name, caught.value.outcome) == ("unreachable", "not_done")


@pytest.mark.parametrize(
    ("reply", "name", "outcome"),
    [
        (b"", "no-answer", "unknown"),
        (b"SSH-2.0-OpenSSH\r\n", "no-answer", "unknown"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "bad-answer", "unknown"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "bad-answer", "unknown"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "bad-answer", "unknown"),
        (b"HTTP/1.1 302 x\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n", "bad-answer", "unknown"),
        (b"HTTP/1.1 500 x\r\nContent-Length: 2\r\n\r\n{}", "internal", "unknown"),
    ],
)
def test_something_else_answers(reply: bytes, name: str, outcome: str) -> None:
    tries: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                with peer:
                    tries.append(_whole(peer))
                    peer.sendall(reply)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with MeshOS("k", f"http://127.0.0.1:{server.getsockname()[1]}") as mesh, pytest.raises(MeshError) as caught:
            mesh.call("a-0", "echo")
        assert (caught.value.name, caught.value.outcome) == (name, outcome)
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)
    keys = {piece.partition(b"idempotencyKey")[2][:45] for piece in tries}
    assert len(keys) == 1, "what is repeated has the same key"
    assert len(tries) == (2 if name == "no-answer" else 1)


RECORD = '"agentId": "a-0", "meshId": "m", "name": "n"'


def answering(status: int, text: str) -> MeshOS:
    """A client of a node that answers everything with ``text``."""
    transport = httpx.MockTransport(lambda request: httpx.Response(status, text=text))
    client = MeshOS("k", "http://127.0.0.1:1")
    client._http = httpx.Client(transport=transport, base_url="http://127.0.0.1:1")
    return client


@pytest.mark.parametrize(
    "text",
    [
        '{"agents": 5}',
        '{"agents": [5]}',
        '{"agents": [], "cellsAsked": 1e999}',
        '{"agents": [], "cellsMissing": Infinity}',
        f'{{"agents": [{{{RECORD}, "trustEvidence": -Infinity}}]}}',
        f'{{"agents": [{{{RECORD}, "trustScore": 1{"0" * 400}}}]}}',
        f'{{"agents": [{{{RECORD}, "alikeCount": NaN}}]}}',
        f'{{"agents": [{{{RECORD}, "pricing": "much"}}]}}',
        f'{{"agents": [{{{RECORD}, "tasks": [{{"name": "t", "inputSchema": "abc"}}]}}]}}',
    ],
)
def test_a_search_that_is_answered_with_nonsense(text: str) -> None:
    with answering(200, text) as mesh, pytest.raises(Unreachable, match="bad-answer"):
        mesh.discover("anything")


@pytest.mark.parametrize("schema", ['{"required": 5}', '{"required": {"a": 1}}', '{"properties": 5}', '{"properties": ["a"]}'])
def test_a_schema_that_is_none_says_nothing_of_a_bare_value(schema: str) -> None:
    text = f'{{"agents": [{{{RECORD}, "tasks": [{{"name": "t", "inputSchema": {schema}}}]}}]}}'
    with answering(200, text) as mesh, pytest.raises(Unreachable, match="bad-answer"):
        mesh.federate("m").execute_task({"t": "a bare value"})


@pytest.mark.parametrize(
    "members",
    ['"status": "failed", "error": "no"', '"status": "failed", "error": ["no"]', '"status": []', '"status": "failed", "timing": 3'],
)
def test_a_task_that_is_answered_with_nonsense(members: str) -> None:
    with answering(200, f'{{"taskId": "t", "agentId": "a-0", {members}}}') as mesh, pytest.raises(Unreachable, match="bad-answer"):
        mesh.call("a-0", "echo")


@pytest.mark.parametrize(
    "text", ['{"exit": []}', '{"exit": {}}', '{"exit": 1e999}', '{"exit": 2, "outcome": []}', '{"name": 5, "hint": []}']
)
def test_a_problem_that_is_none_is_still_an_error_of_the_mesh(text: str) -> None:
    with answering(400, text) as mesh, pytest.raises(MeshError) as caught:
        mesh.call("a-0", "echo")
    assert caught.value.outcome == "unknown"


def _whole(peer: socket.socket) -> bytes:
    """All of a request: closing before it has come would be a reset, and no answer."""
    got = b""
    while b"}" not in got and (piece := peer.recv(65536)):
        got += piece
    return got


async def use(node: Node) -> None:
    """The same, awaited."""
    async with AsyncMeshOS(api_key=node.key, node=node.url) as mesh:
        agent = await mesh.deploy_agent(CONFIG)
        found = await mesh.discover("contract review", limit=1)
        assert isinstance(found[0], AgentRecord)
        assert found.complete
        assert await agent.collaborate_with(found[0], {"echo": {"a": 1}}) == {"a": 1}
        assert (await mesh.status())["name"] == "alpha-1"
        assert len((await mesh.members())["members"]) == 2
        with pytest.raises(Failed, match="tool-failed"):
            await agent.collaborate_with(agent, {"refuse": {}})
        await mesh.publish(['{"name": "echo", "description": "echo"}'])
        assert await mesh.federate(found[0].meshId).execute_task({"echo": {"b": 2}}) == {"b": 2}
        await agent.undeploy()


def test_asyncio(node: Node) -> None:
    asyncio.run(use(node))


def test_trio(node: Node) -> None:
    trio.run(use, node)


async def test_cancelling_a_call_cancels_its_task(node: Node) -> None:
    async with AsyncMeshOS(api_key=node.key, node=node.url) as mesh:
        agent = await mesh.deploy_agent(CONFIG)
        with trio.move_on_after(0.3):
            await mesh.call(agent.record, "sleep", {"seconds": 600}, timeout=600)
        with trio.fail_after(5):
            while (await mesh.status())["tasks"]["running"]:
                await trio.sleep(0.02)


@pytest.mark.parametrize(("sync", "asynchronous"), [(MeshOS, AsyncMeshOS), (SyncAgent, AsyncAgent), (Federation, AsyncFederation)])
def test_sync_and_async_have_the_same_names_and_arguments(sync: type, asynchronous: type) -> None:
    def public(kind: type) -> dict[str, list[str]]:
        functions = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(function).parameters) for name, function in functions if not name.startswith("_")}

    assert public(sync) == public(asynchronous)


def test_the_package_is_light_and_builds(tmp_path: Path) -> None:
    source = ROOT / "sdk" / "python"
    for file in source.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                top = name.partition(".")[0]
                assert top in ("httpx", "mesh_os") or top in sys.stdlib_module_names, f"{file.name} imports {name}"
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"mesh_os/client.py", "mesh_os/py.typed", "mesh/__init__.py", "mesh/py.typed"} <= names
    assert httpx.__version__.startswith("0.28")


def test_agents_that_are_alike_come_as_one_or_each(mesh: MeshOS) -> None:
    mesh.publish([json.dumps({"name": f"Divides copy {number}", "description": "divides numbers"}) for number in range(6)])
    (one,) = mesh.discover("divides")
    assert one.alikeCount == 5 and len(one.alike) == 4 and one.agentId not in one.alike
    assert len(mesh.discover("divides", collapse=False)) == 6


def test_why_an_agent_has_its_score(mesh: MeshOS) -> None:
    mesh.publish([json.dumps({"name": "Subtracts", "description": "subtracts numbers", "capabilities": ["minus"]})])
    (one,) = mesh.discover("subtracts")
    told = mesh.explain(one, "subtracts", filters={"capabilities": ["minus"]}, weigh={"trust": 0.5})
    assert told["kind"] == "score" and told["facts"] == {"score": 0.5}
    assert told["lines"] == ["Subtracts scores 0.5000: subtracts", "('minus',) 0.5"] and mesh.explain(one.agentId, "subtracts")["lines"]
    with pytest.raises(Refused, match="nothing-to-explain"):
        mesh.explain("t-none")


def test_an_empty_id_is_refused_and_an_odd_one_reaches_no_other_route(mesh: MeshOS) -> None:
    for ask in (mesh.agent, mesh.undeploy_agent, mesh.task, mesh.cancel, mesh.explain):
        with pytest.raises(BadInput) as empty:
            ask("")
        assert empty.value.name == "bad-id"
    for identity in ("../members", "a/b"):
        with pytest.raises(Refused) as refused:
            mesh.agent(identity)
        assert refused.value.name == "no-such-agent"
