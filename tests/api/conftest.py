"""A live API for every test: the memory node's on a port of its own.

With MESH_TEST_NODE and MESH_TEST_API_KEY (an admin key) set, test_contract.py runs against that node instead, which has to
be on this machine: it gets an agent with the same tools (agent/server.py). ``Live.node`` is None then, and what only
the memory node can tell is left out.
"""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import trio

from meshos.node.api.app import build
from meshos.node.api.gate import Settings
from meshos.node.api.keys import KeyRing
from meshos.node.api.server import Listen, serve
from tests.api.memory_node import MemoryNode

ROLES = ("admin", "operator", "caller", "read")


@dataclass(slots=True)
class Live:
    """An API that answers: its address, a key for each role, and an agent whose tasks are those of ``memory_node.TOOLS``."""

    url: str
    tokens: dict[str, str]
    agent: str = ""
    memory: MemoryNode | None = None
    keys: KeyRing = field(default_factory=KeyRing)

    @property
    def node(self) -> MemoryNode:
        """The memory node, where there is one."""
        assert self.memory is not None, "this test looks inside the memory node"
        return self.memory

    def client(self, role: str = "admin", **options: object) -> httpx.AsyncClient:
        """A client with the key of ``role``; "" for none."""
        headers = {"Authorization": f"Bearer {self.tokens[role]}"} if role else {}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30, trust_env=False, **options)  # type: ignore[arg-type]

    def port(self) -> int:
        """The TCP port."""
        return int(self.url.rpartition(":")[2])


AGENT = {
    "name": "Clock",
    "description": "tells the time in another city",
    "capabilities": ["time"],
    "region": "us-east-1",
    "pricing": {"perQuery": "2 MESH"},
    "runtime": {"mcp": {"command": ["python", "server.py"]}},
}
DEPLOY = {"agent": AGENT, "folder": str(Path(__file__).parent / "agent")}


@pytest.fixture
async def live(nursery: trio.Nursery) -> AsyncIterator[Live]:
    """The memory node behind a real server on loopback, or the node that the environment names."""
    url, key = os.environ.get("MESH_TEST_NODE"), os.environ.get("MESH_TEST_API_KEY")
    here = await _elsewhere(url, key) if url and key else await _in_memory(nursery)
    async with here.client() as client:
        answer = await client.post("/v1/agents", json=DEPLOY, timeout=120)
        assert answer.status_code == 201, answer.text
        here.agent = answer.json()["agentId"]
        yield here
        if here.memory is None:
            await client.delete(f"/v1/agents/{here.agent}", timeout=120)
    nursery.cancel_scope.cancel()


async def _in_memory(nursery: trio.Nursery) -> Live:
    node, ring = MemoryNode(nursery=nursery), KeyRing()
    tokens = {role: ring.mint(role, role) for role in ROLES}  # type: ignore[arg-type]
    url = await nursery.start(lambda task_status: serve(build(node, ring), Listen(), task_status=task_status))
    return Live(url, tokens, memory=node, keys=ring)


async def _elsewhere(url: str, key: str) -> Live:
    here = Live(url, {"admin": key})
    async with here.client() as client:
        for role in ROLES[1:]:
            here.tokens[role] = (await client.post("/v1/keys", json={"name": role, "role": role})).json()["key"]
    return here


@pytest.fixture
async def hasty(nursery: trio.Nursery) -> AsyncIterator[Live]:
    """The same, with little patience and room for two requests at once."""
    node, ring = MemoryNode(nursery=nursery), KeyRing()
    tokens = {"admin": ring.mint("admin", "admin")}
    settings = Settings(requests=2, body_s=0.2, request_s=0.5)
    url = await nursery.start(lambda task_status: serve(build(node, ring, settings=settings), Listen(), task_status=task_status))
    yield Live(url, tokens, memory=node, keys=ring)
    nursery.cancel_scope.cancel()
