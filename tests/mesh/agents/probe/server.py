"""An agent that does to order what agents do when they misbehave. What it did is written to files of its private folder's."""

import json
import os
import pathlib
import time
import urllib.error
import urllib.request

import anyio
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

server = MCPServer("probe")
counted: dict[str, int] = {}


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def big(size: int) -> str:
    """Text of ``size`` bytes."""
    return "x" * size


@server.tool()
def fail(why: str) -> str:
    """Say no."""
    raise ToolError(why)


@server.tool()
async def slow(seconds: float, name: str) -> str:
    """Take ``seconds``; ``counted`` then tells how ``name`` ended."""
    counted[f"{name} began"] = 1
    try:
        await anyio.sleep(seconds)
    except BaseException:
        counted[f"{name} was stopped"] = 1
        raise
    counted[f"{name} was done"] = 1
    return name


@server.tool()
def crash() -> str:
    """Die."""
    os._exit(3)


@server.tool()
def count(name: str, seconds: float = 0) -> int:
    """How often this was called with ``name``."""
    counted[name] = counted.get(name, 0) + 1
    time.sleep(seconds)
    return counted[name]


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def happened() -> dict[str, int]:
    """What ``slow`` and ``count`` did."""
    return counted


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def read(path: str) -> str:
    """What a file holds, or why that cannot be known."""
    try:
        return pathlib.Path(path).read_bytes()[:100].decode("latin-1")
    except OSError as error:
        return f"cannot: {error.strerror}"


@server.tool()
def pass_on(agents: list[str], tool: str, data: dict[str, object]) -> object:
    """Have the first of ``agents`` do this with the rest of them; the last does ``tool``."""
    first, *rest = agents
    what = {"type": "pass_on", "data": {"agents": rest, "tool": tool, "data": data}} if rest else {"type": tool, "data": data}
    request = urllib.request.Request(
        os.environ["MESH_NODE"] + "/v1/tasks",
        data=json.dumps({"agentId": first, **what}).encode(),
        headers={"Authorization": f"Bearer {os.environ['MESH_API_KEY']}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as response:
            answer = json.loads(response.read())
    except urllib.error.HTTPError as error:
        raise ToolError(json.loads(error.read())["name"]) from error
    if answer["status"] != "completed":
        raise ToolError(str(answer.get("result") or answer["error"]["name"]))
    result: object = answer["result"]
    return result


if __name__ == "__main__":
    server.run("stdio")
