"""A live API for every test: by default the memory node's on a port of its own; the addresses come from one fixture."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

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
    node: MemoryNode = field(default_factory=MemoryNode)
    keys: KeyRing = field(default_factory=KeyRing)

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
}


@pytest.fixture
async def live(nursery: trio.Nursery) -> AsyncIterator[Live]:
    """The memory node behind a real server on loopback."""
    node, ring = MemoryNode(nursery=nursery), KeyRing()
    tokens = {role: ring.mint(role, role) for role in ROLES}  # type: ignore[arg-type]
    url = await nursery.start(lambda task_status: serve(build(node, ring), Listen(), task_status=task_status))
    here = Live(url, tokens, node=node, keys=ring)
    async with here.client() as client:
        answer = await client.post("/v1/agents", json={"agent": AGENT})
        assert answer.status_code == 201, answer.text
        here.agent = answer.json()["agentId"]
    yield here
    nursery.cancel_scope.cancel()


@pytest.fixture
async def hasty(nursery: trio.Nursery) -> AsyncIterator[Live]:
    """The same, with little patience and room for two requests at once."""
    node, ring = MemoryNode(nursery=nursery), KeyRing()
    tokens = {"admin": ring.mint("admin", "admin")}
    settings = Settings(requests=2, body_s=0.2, request_s=0.5)
    url = await nursery.start(lambda task_status: serve(build(node, ring, settings=settings), Listen(), task_status=task_status))
    yield Live(url, tokens, node=node, keys=ring)
    nursery.cancel_scope.cancel()
