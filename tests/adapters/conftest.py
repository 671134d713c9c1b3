"""Agents for the tests: real processes in the real sandbox."""

import shutil
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from meshos import cbor
from meshos.adapters.onprem.egress_policy import LOOPBACK, EgressPolicy
from meshos.adapters.onprem.process import Grace
from meshos.adapters.onprem.provider import AgentSpec, OnPremConfig, OnPremProvider
from meshos.adapters.onprem.room import Room
from meshos.adapters.onprem.supervisor import Pace
from meshos.ids import AgentId, TaskId
from meshos.protocols.tasks.agent_file import parse_mapping
from meshos.protocols.tasks.ports import CallTool
from tests.leftovers import processes_below

HERE = Path(__file__).resolve().parent
QUICK = Pace(
    start_timeout_s=20,
    backoff_first_s=0.05,
    backoff_most_s=0.2,
    ready_wait_s=10,
    grace=Grace(stdin_s=1, term_s=1, kill_s=5),
)


class Bench:
    """A provider, a folder of a pretended node with a key in it, and short ways to deploy and call."""

    def __init__(self, provider: OnPremProvider, node: Path, agents: Path) -> None:
        self.provider, self.node, self.agents = provider, node, agents

    def spec(self, mode: str = "good", name: str = "one", **more: object) -> AgentSpec:
        runtime = {"mcp": {"command": ["python", "hostile.py", mode]}}
        file = parse_mapping({"name": name, "description": "d", "runtime": runtime, **more})
        return AgentSpec(AgentId(f"a-{name}"), file, self.agents, {"MESH_NODE": "http://127.0.0.1:1", "MESH_API_KEY": "secret"})

    async def start(self, mode: str = "good", name: str = "one", **more: object) -> AgentId:
        spec = self.spec(mode, name, **more)
        await self.provider.start(spec)
        return spec.agent

    async def call(self, agent: AgentId, tool: str, timeout_s: float = 20, **arguments: object) -> object:
        result = await self.provider.call(CallTool(agent, TaskId("t-1"), tool, cbor.encode(arguments), timeout_s))
        value = cbor.decode(result.value, max_bytes=1 << 28)
        return value["value"] if isinstance(value, dict) and value.keys() == {"value"} else value


def processes_of(agents: Path) -> list[int]:
    """Every other process that has to do with the folders of this test: launchers, inits, agents, what those started."""
    return processes_below(agents.parent)


@pytest.fixture
def folders() -> Iterator[tuple[Path, Path]]:
    """A node's folder with a private key, and a world-readable folder of an agent, below a folder that others may enter."""
    top = Path(tempfile.mkdtemp(prefix="agents-"))
    top.chmod(0o755)
    node, agents = top / "node", top / "agent-folder"
    node.mkdir(mode=0o700)
    (node / "key").write_text("the node's private key")
    agents.mkdir(mode=0o755)
    shutil.copy(HERE / "hostile.py", agents)
    (agents / "hostile.py").chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
    yield node, agents
    shutil.rmtree(top, ignore_errors=True)


@pytest.fixture
def pace() -> Pace:
    """Overridden by modules that need other times."""
    return QUICK


@pytest.fixture
def room() -> Room:
    """Overridden likewise."""
    return Room()


@pytest.fixture
async def bench(folders: tuple[Path, Path], pace: Pace, room: Room, nursery: trio.Nursery) -> AsyncIterator[Bench]:
    """A running provider; afterwards no process may be left that has to do with it."""
    node, agents = folders
    provider = OnPremProvider(OnPremConfig(node / "agents", hidden=(node,), egress=EgressPolicy.of(LOOPBACK), pace=pace, room=room))
    scope = trio.CancelScope()
    ended = trio.Event()

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        with scope:
            await provider.run(task_status=task_status)
        ended.set()

    await nursery.start(run)
    yield Bench(provider, node, agents)
    scope.cancel()
    await ended.wait()
    assert processes_of(agents) == []


def impatient(pace: Pace) -> Pace:
    """Health checks at a test's speed."""
    return replace(pace, ping_interval_s=0.2, ping_timeout_s=0.5, busy_timeout_s=2)
