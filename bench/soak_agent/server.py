"""The agent of ``mesh bench soak``: each run is a line in a file of its private folder, which is on disk before there is an answer."""

import os
import secrets
from pathlib import Path

from mcp.server.mcpserver import MCPServer

server = MCPServer("recorder")
FILE = Path(os.environ.get("HOME", ".")) / "executions"


@server.tool(structured_output=False)
def record(name: str) -> str:
    """A word that no other run gives, also not one with the same ``name``."""
    word = secrets.token_hex(8)
    handle = os.open(FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, f"{name} {word}\n".encode())
        os.fsync(handle)
    finally:
        os.close(handle)
    return word


if __name__ == "__main__":
    server.run("stdio")
