"""What supervising costs: start, memory, and a warm call beside the mcp package's own client, on the same server.

    python tests/adapters/measure.py [CALLS]

Not a test: the figures depend on the machine. `raw` is one line out and one line in on plain blocking pipes: the server's own time.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio
from mcp.client.session import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client

from meshos import cbor
from meshos.adapters.onprem.provider import AgentSpec, OnPremConfig, OnPremProvider
from meshos.ids import AgentId, TaskId
from meshos.protocols.tasks.agent_file import parse_mapping
from meshos.protocols.tasks.ports import CallTool

UNITS = Path(__file__).resolve().parents[2] / "examples" / "units"
ARGUMENTS = {"value": 1, "from_unit": "km", "to_unit": "m"}
CALLS = int(sys.argv[1]) if len(sys.argv) > 1 else 1000


def show(name: str, seconds: list[float]) -> None:
    seconds.sort()
    at = [seconds[int(len(seconds) * share)] * 1e3 for share in (0.5, 0.95, 0.99)]
    print(f"{name:34} p50 {at[0]:6.2f}  p95 {at[1]:6.2f}  p99 {at[2]:6.2f} ms")


class Raw:
    """The server on blocking pipes."""

    def __init__(self) -> None:
        self.server = subprocess.Popen([sys.executable, "server.py"], cwd=UNITS, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
        self.number = 0
        self.ask({"id": 0, "method": "initialize", "params": hello})
        self.send({"method": "notifications/initialized"})

    def send(self, message: dict[str, object]) -> None:
        assert self.server.stdin
        self.server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self.server.stdin.flush()

    def ask(self, message: dict[str, object]) -> bytes:
        assert self.server.stdout
        self.send(message)
        return self.server.stdout.readline()

    async def call(self) -> object:
        self.number += 1
        return self.ask({"id": self.number, "method": "tools/call", "params": {"name": "convert", "arguments": ARGUMENTS}})

    def close(self) -> None:
        assert self.server.stdin
        self.server.stdin.close()
        self.server.wait()


async def interleaved(contestants: dict[str, Callable[[], Awaitable[object]]]) -> None:
    """Ten calls of each in turn, so that noise meets all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    own = dict.fromkeys(contestants, 0.0)
    for turn in range(5 + CALLS // 10):
        for name, call in contestants.items():
            spent = time.process_time()
            for _ in range(10):
                began = time.perf_counter()
                await call()
                if turn >= 5:
                    seconds[name].append(time.perf_counter() - began)
            own[name] += time.process_time() - spent
    for name, found in seconds.items():
        print(f"{1e6 * own[name] / (CALLS + 50):5.0f} us of our own CPU a call ", end="")
        show(name, found)


def resident_kib(pid: int, key: str) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(key + ":"))


def processes(folder: str) -> list[tuple[int, str]]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes()
            if entry.name.isdigit() and folder.encode() in command + (entry / "environ").read_bytes():
                found.append((int(entry.name), command.split(b"\0")[1].decode()[:2].replace("-I", "launcher or init") or "agent"))
        except OSError:
            continue
    return found


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        provider = OnPremProvider(OnPremConfig(Path(folder) / "agents", hidden=()))
        agent = AgentId("a-measure")
        async with trio.open_nursery() as nursery:
            began = time.perf_counter()
            await nursery.start(provider.run)
            print(f"probe of the sandbox {1e3 * (time.perf_counter() - began):.0f} ms: {', '.join(provider.layers())}")
            spec = parse_mapping({"name": "m", "description": "d", "runtime": {"mcp": {"command": ["python", "server.py"]}}})
            starts = []
            for _ in range(5):
                await provider.stop(agent)
                began = time.perf_counter()
                await provider.start(AgentSpec(agent, spec, UNITS))
                starts.append(time.perf_counter() - began)
            show("start, launch to list of tools", starts)
            for pid, command in processes(folder):
                print(f"  {command:32} RSS {resident_kib(pid, 'Rss') >> 10} PSS {resident_kib(pid, 'Pss') >> 10} MiB")
            call = CallTool(agent, TaskId("t-1"), "convert", cbor.encode(ARGUMENTS), 10)
            server = Raw()
            async with (
                stdio_client(StdioServerParameters(command=sys.executable, args=["server.py"], cwd=UNITS)) as (read, write),
                ClientSession(read, write) as session,
            ):
                await session.initialize()
                contestants: dict[str, Callable[[], Awaitable[object]]] = {
                    "raw pipes": server.call,
                    "this provider, in its sandbox": lambda: provider.call(call),
                    "the mcp package's client": lambda: session.call_tool("convert", dict(ARGUMENTS)),
                }
                await interleaved(contestants)
            server.close()
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
