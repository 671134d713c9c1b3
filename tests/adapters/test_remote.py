"""Agents that run elsewhere: a real MCP server over HTTP, and servers that misbehave, all on loopback."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from mcp.server.mcpserver import MCPServer

from meshos import cbor
from meshos.adapters.onprem import limits
from meshos.adapters.onprem.egress_policy import LOOPBACK, EgressPolicy
from meshos.adapters.onprem.remote import RemoteAgent
from meshos.errors import MeshError, Refused, Unreachable
from meshos.protocols.tasks.agent_file import A2aUrl, McpUrl

from .conftest import QUICK, Bench

ALLOWED = EgressPolicy.of(LOOPBACK)


async def start_mcp_server(nursery: trio.Nursery) -> str:
    """A real server of the mcp package; its address."""
    server = MCPServer("elsewhere")
    cancelled = trio.Event()

    @server.tool()
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @server.tool()
    async def wait() -> str:
        """Wait for ever."""
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    @server.tool()
    def was_cancelled() -> bool:
        """Whether wait was cancelled."""
        return cancelled.is_set()

    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.accesslog = config.errorlog = None
    app = server.streamable_http_app()
    binds = await nursery.start(partial(serve, app, config, mode="asgi"))  # type: ignore[arg-type]
    return f"{binds[0]}/mcp"


@asynccontextmanager
async def connected(url: str, policy: EgressPolicy = ALLOWED) -> AsyncIterator[RemoteAgent]:
    agent = RemoteAgent(url, policy, QUICK)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(agent.run, must_start=True))
        try:
            await agent.wait_ready()
            yield agent
        finally:
            await agent.stop()


async def why(work: object) -> MeshError:
    """The error that ``work`` ends with, out of the groups that nurseries make."""
    with pytest.raises((MeshError, ExceptionGroup)) as caught:
        await work  # type: ignore[misc]
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, MeshError)
    return error


async def connect(url: str, policy: EgressPolicy = ALLOWED) -> None:
    async with connected(url, policy):
        pass


async def test_a_server_elsewhere_is_listed_and_called(nursery: trio.Nursery, bench: Bench) -> None:
    url = await start_mcp_server(nursery)
    spec = bench.spec()
    tools = await bench.provider.start(replace(spec, file=replace(spec.file, runtime=McpUrl(url))))
    assert {tool.name for tool in tools} == {"add", "wait", "was_cancelled"}
    assert await bench.call(spec.agent, "add", a=2, b=3) == {"result": 5}
    await bench.provider.stop(spec.agent)


async def test_cancelling_reaches_the_tool(nursery: trio.Nursery) -> None:
    async with connected(await start_mcp_server(nursery)) as agent:
        assert (await why(agent.call("wait", {}, {}, 0.3))).name == "deadline-exceeded"
        with trio.fail_after(5):
            while cbor.decode((await agent.call("was_cancelled", {}, {}, 5))[0], max_bytes=100) != {"result": True}:
                await trio.sleep(0.01)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]", "2130706433", "169.254.169.254"])
async def test_private_addresses_are_refused_without_a_connection(host: str) -> None:
    touched: list[object] = []

    async def accept(stream: trio.SocketStream) -> None:
        touched.append(stream)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, accept, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        error = await why(connect(f"http://{host}:{port}/mcp", EgressPolicy()))
        nursery.cancel_scope.cancel()
    assert error.name == "egress-refused" and isinstance(error, Refused) and touched == []


async def test_a_name_that_resolves_to_something_else_at_the_call_is_refused(nursery: trio.Nursery) -> None:
    """DNS rebinding: the address is checked at each connection, not when the agent is deployed."""
    port = int((await start_mcp_server(nursery)).split(":")[2].split("/")[0])

    class Rebinding(trio.abc.HostnameResolver):
        address = "127.0.0.1"

        async def getaddrinfo(self, host: object, at: object, *more: object, **named: object) -> list[object]:  # type: ignore[override]
            return [(2, 1, 6, "", (self.address, at))]

        async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
            raise NotImplementedError

    names = Rebinding()
    trio.socket.set_custom_hostname_resolver(names)
    async with connected(f"http://localhost:{port}/mcp") as agent:
        assert cbor.decode((await agent.call("add", {"a": 1, "b": 1}, {}, 5))[0], max_bytes=100) == {"result": 2}
        names.address = "10.0.0.1"
        await agent._pool.aclose()  # the next call connects anew
        assert (await why(agent.call("add", {"a": 1, "b": 1}, {}, 5))).name == "egress-refused"


async def start_rude_server(nursery: trio.Nursery, body: Callable[[trio.SocketStream, int], object], head: bytes) -> str:
    """Answers every POST with ``head`` and whatever ``body`` writes; shakes hands properly unless ``head`` says otherwise."""

    async def one(stream: trio.SocketStream) -> None:
        data = b""
        async with stream:
            while True:
                while b"\r\n\r\n" not in data:
                    chunk = await stream.receive_some()
                    if not chunk:
                        return
                    data += chunk
                top, _, data = data.partition(b"\r\n\r\n")
                length = int(next(line for line in top.lower().split(b"\r\n") if line.startswith(b"content-length")).split(b":")[1])
                while len(data) < length:
                    data += await stream.receive_some()
                message, data = json.loads(data[:length]), data[length:]
                number, method = message.get("id"), message["method"]
                results = {
                    "initialize": {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "rude", "version": "1"}},
                    "tools/list": {"tools": [{"name": "t", "inputSchema": {}}]},
                }
                if method in results and head != b"BAD":
                    answer = json.dumps({"jsonrpc": "2.0", "id": number, "result": results[method]}).encode()
                    await stream.send_all(
                        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer
                    )
                elif number is None:
                    await stream.send_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
                else:
                    await stream.send_all(head)
                    try:
                        await body(stream, number)  # type: ignore[misc]
                    except trio.BrokenResourceError:
                        return
                    return

    listeners = await nursery.start(partial(trio.serve_tcp, one, 0, host="127.0.0.1"))
    return f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/mcp"


GOOD_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
EVENT_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def writing(data: bytes, times: int = 1) -> Callable[[trio.SocketStream, int], object]:
    async def write(stream: trio.SocketStream, number: int) -> None:
        for _ in range(times):
            await stream.send_all(data.replace(b"NUMBER", b"%d" % number))

    return write


@pytest.mark.parametrize(
    ("head", "body", "name"),
    [
        (JSON_HEAD, writing(b"no json"), "agent-garbage"),
        (JSON_HEAD, writing(b'{"jsonrpc":"2.0","id":NUMBER1,"result":{}}'), "agent-garbage"),
        (JSON_HEAD, writing(b'{"jsonrpc":"2.0","id":NUMBER,"error":{"code":-5,"message":"no"}}'), "tool-refused"),
        (JSON_HEAD, writing(b'{"jsonrpc":"2.0","id":NUMBER,"result":"\xff"}'), "agent-garbage"),
        (JSON_HEAD, writing(b"x" * (1 << 20), 1 << 12), "result-too-large"),
        (EVENT_HEAD, writing(b"data: " + b"x" * (1 << 20), 1 << 12), "result-too-large"),
        (EVENT_HEAD, writing(b"data: x\r\n", 3), "agent-garbage"),
        (EVENT_HEAD, writing(b": nothing\r\n\r\n", 3), "agent-garbage"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n", writing(b""), "agent-garbage"),
        (b"HTTP/1.1 500 No\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n", writing(b""), "agent-garbage"),
        (b"nonsense\r\n\r\n", writing(b""), "agent-unreachable"),
        (b"", writing(b""), "agent-unreachable"),
    ],
)
async def test_a_server_that_misbehaves_costs_one_call(
    nursery: trio.Nursery, head: bytes, body: Callable[[trio.SocketStream, int], object], name: str
) -> None:
    assert limits.MAX_LINE_BYTES < 1 << 32
    async with connected(await start_rude_server(nursery, body, head)) as agent:
        error = await why(agent.call("t", {}, {}, 30))
        assert error.name == name, error
        assert agent.state == "ready" and agent.in_flight == 0


async def test_events_in_pieces_are_put_together(nursery: trio.Nursery) -> None:
    async def pieces(stream: trio.SocketStream, number: int) -> None:
        data = b': hello\r\n\r\nevent: message\r\ndata: {"jsonrpc":"2.0","method":"notifications/progress"}\r\n\r\n'
        data += b'data: {"jsonrpc":"2.0",\r\ndata: "id":%d,"result":{"content":[{"type":"text","text":"ok"}]}}\r\n\r\n' % number
        for index in range(len(data)):
            await stream.send_all(data[index : index + 1])

    async with connected(await start_rude_server(nursery, pieces, EVENT_HEAD)) as agent:
        assert cbor.decode((await agent.call("t", {}, {}, 10))[0], max_bytes=100) == "ok"


async def test_nobody_there(bench: Bench) -> None:
    error = await why(connect("http://127.0.0.1:9/mcp"))
    assert error.name == "agent-unreachable" and isinstance(error, Unreachable) and error.outcome == "not_done"
    assert (await why(connect("http://no-such-name.invalid/mcp"))).name == "agent-unreachable"


async def test_a2a_is_refused_in_one_sentence(bench: Bench) -> None:
    spec = bench.spec()
    error = await why(bench.provider.start(replace(spec, file=replace(spec.file, runtime=A2aUrl("http://x.org/")))))
    assert error.name == "runtime-not-offered"
