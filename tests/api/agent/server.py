"""The tools of ``memory_node.TOOLS`` as an MCP server, for the same tests against a real node."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

server = MCPServer("clock")
harmless = ToolAnnotations(read_only_hint=True, idempotent_hint=True)


@server.tool(annotations=harmless)
async def echo(city: str | None = None, n: list[Any] | None = None, a: int | None = None, document: str | None = None) -> dict[str, Any]:
    """What it is given; a file as its name and SHA-256."""
    given: dict[str, Any] = {"city": city, "n": n, "a": a}
    if document is not None:
        path = Path(document)
        given["document"] = f"{path.name}:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    return {name: value for name, value in given.items() if value is not None}


@server.tool(annotations=harmless)
async def sleep(seconds: float) -> str:
    """Takes its time."""
    await asyncio.sleep(seconds)
    return "slept"


@server.tool(annotations=harmless, structured_output=False)
async def text(size: int) -> str:
    """A text of this size, with quotes and umlauts in it."""
    return ('ab"ü\n' * (size // 5 + 1))[:size]


@server.tool(annotations=harmless)
async def refuse() -> str:
    """Says no."""
    raise ToolError("the tool says no")


if __name__ == "__main__":
    server.run()
