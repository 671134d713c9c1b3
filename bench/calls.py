"""A trivial tool called from one organisation to another through the API, beside the same tool over one warm MCP session.

Both are asked in turn, a few calls each, by one client on this machine, so that they meet the same noise. The ratio counts. The
peer is the ``mcp`` package's own client and server over streamable HTTP; ours adds, on the way: the API, two nodes, mutual TLS, an
intent and an outcome on disk, and a receipt signed by both sides.
"""

import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import httpx
import trio
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from meshos.bench.live import EXAMPLES, Live, LiveNode, testnet
from meshos.bench.machine import QUIET, calibration
from meshos.bench.report import Report, percentile, row
from meshos.errors import Failed

TURN = 10
P50_BAR_MS, P95_BAR_MS, RATIO_BAR = 8.0, 20.0, 1.5
BULK_BYTES = 64 << 20


def measure(report: Report, *, short: bool) -> None:
    """Deploy the echo agent at alpha, call it from beta."""
    turns = 20 if short else 200
    with testnet() as live:
        beta = live.nodes()[1]
        agent = deployed(live, beta)
        port = _free_port()
        command = [sys.executable, str(EXAMPLES / "echo" / "server.py"), "--http", str(port)]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            ours, peers = trio.run(_side_by_side, beta, agent, port, turns)
        finally:
            server.terminate()
            server.wait(10)
        bulk = [_bulk_s(beta, agent) for _ in range(1 if short else 3)]
    ratio = percentile(ours, 0.5) / percentile(peers, 0.5)
    report.noise = max(report.noise, calibration())
    quiet = report.noise <= QUIET
    fast = percentile(ours, 0.5) < P50_BAR_MS and percentile(ours, 0.95) < P95_BAR_MS
    report.rows += [
        row(
            "call across orgs, at the API",
            ours,
            "ms",
            bar=f"p50 < {P50_BAR_MS:g}, p95 < {P95_BAR_MS:g} ms on a quiet machine",
            met=fast if fast or quiet else None,
            note="" if fast or quiet else "above the bar, but not held to it: the machine was not quiet",
        ),
        row("peer: the same tool over MCP streamable HTTP", peers, "ms"),
        row("ratio of the medians", [ratio], "x", bar=f"<= {RATIO_BAR:g}", met=ratio <= RATIO_BAR),
        row(f"a result of {BULK_BYTES >> 20} MiB, from the call to the last byte at the API", bulk, "s", bar="arrives", met=True),
    ]


def _bulk_s(node: LiveNode, agent: str) -> float:
    """Seconds of a call whose result has BULK_BYTES; raises Failed ``bench-command-failed`` if it does not arrive whole."""
    piece = "0123456789abcdef" * 64
    call = {"agentId": agent, "type": "repeat", "data": {"text": piece, "times": BULK_BYTES // len(piece)}}
    with node.client() as client:
        began = time.perf_counter()
        answer = client.post("/v1/tasks", json=call).json()
        took = time.perf_counter() - began
    result = answer.pop("result", None)
    if not isinstance(result, str) or len(result) != BULK_BYTES:
        raise Failed("bench-command-failed", f"the large result did not arrive: {str(answer)[:300]}")
    return took


def deployed(live: Live, caller: LiveNode) -> str:
    """The echo agent's id, once ``caller`` knows it."""
    deployed = live.mesh("deploy", "--agent", str(EXAMPLES / "echo" / "agent.yaml"), "--org", "alpha")
    agent = str(deployed["agentId"])
    deadline = time.monotonic() + 60
    with caller.client() as client:
        while client.get(f"/v1/agents/{agent}").status_code != httpx.codes.OK:
            if time.monotonic() > deadline:
                raise Failed("bench-command-failed", f"{caller.name} has not heard of {agent} within a minute")
            time.sleep(0.1)
    return agent


async def _side_by_side(node: LiveNode, agent: str, port: int, turns: int) -> tuple[list[float], list[float]]:
    headers = {"Authorization": f"Bearer {node.api_key}"}
    async with httpx.AsyncClient(base_url=node.api, headers=headers, timeout=60) as client:

        async def ours() -> None:
            answer = await client.post("/v1/tasks", json={"agentId": agent, "type": "echo", "data": {"text": "hello"}})
            if answer.json().get("status") != "completed":
                raise Failed("bench-command-failed", f"a call ended as {answer.text[:300]}")

        await _until_it_listens(port)
        async with (
            streamable_http_client(f"http://127.0.0.1:{port}/mcp") as (read, write, *_),
            ClientSession(read, write) as session,
        ):
            await session.initialize()

            async def peer() -> None:
                result = await session.call_tool("echo", {"text": "hello"})
                if result.is_error:
                    raise Failed("bench-command-failed", "the peer's call failed")

            return await _in_turn(ours, peer, turns)


async def _in_turn(one: Callable[[], Awaitable[None]], other: Callable[[], Awaitable[None]], turns: int) -> tuple[list[float], list[float]]:
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(turns + 3):
        for call, taken in zip((one, other), times, strict=True):
            for _ in range(TURN):
                began = time.perf_counter()
                await call()
                if turn >= 3:  # the first turns warm both
                    taken.append((time.perf_counter() - began) * 1000)
    return times


async def _until_it_listens(port: int) -> None:
    with trio.fail_after(60):
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                await trio.sleep(0.05)
            else:
                await stream.aclose()
                return


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
