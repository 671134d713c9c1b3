"""A trivial MCP server, for measuring what is around a tool. ``python server.py --http PORT`` serves the same over HTTP."""

import sys

from mcp.server.mcpserver import MCPServer
from mcp.types import ToolAnnotations

server = MCPServer("echo")


@server.tool(annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True))
def echo(text: str) -> str:
    """Give ``text`` back."""
    return text


@server.tool(annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True), structured_output=False)
def repeat(text: str, times: int) -> str:
    """Give ``text`` back ``times`` times, one after the other: a large result of any size. It is sent once, as text."""
    return text * times


if __name__ == "__main__":
    if sys.argv[1:2] == ["--http"]:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
    else:
        server.run("stdio")
