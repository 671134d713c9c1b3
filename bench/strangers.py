"""What strangers can do to members: calls between two organisations while 200 connections of strangers work on the provider's node.

In turns, the same load goes to an idle sink on this machine and to the node, so that both meet the same noise and lose the same half
core to the attacker; the ratio counts.
"""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from meshos.bench.asker import Asker
from meshos.bench.calls import deployed
from meshos.bench.live import Live, testnet
from meshos.bench.machine import rss_mib
from meshos.bench.report import Report, Row, percentile, row
from meshos.errors import Failed
from meshos.node.cli.testnet import record

TURNS, TURN_S = 6, 12.0
SHORT_TURNS, SHORT_S = 2, 5.0
LEAD_S = 2.0
"""The load is there before the first call is counted."""
PAUSE_S = 0.02
P95_BAR, MEMORY_BAR_MIB = 2.0, 64.0

SINK = """
import asyncio, sys
async def drink(reader, writer):
    try:
        while await reader.read(65536):
            pass
    except ConnectionError:
        pass
    finally:
        writer.close()
async def main():
    servers = [await asyncio.start_server(drink, "127.0.0.1", 0) for _ in range(2)]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def measure(report: Report, *, short: bool) -> None:
    """beta calls alpha's agent; alpha's node is where the strangers are."""
    turns, seconds = (SHORT_TURNS, SHORT_S) if short else (TURNS, TURN_S)
    with testnet() as live, _sink() as sink:
        alpha, beta = live.nodes()[:2]
        agent, target = deployed(live, beta), _ports(live)
        asker = Asker(record.load(live.folder).nodes[1])
        _calls(asker, agent, 3.0)  # warm
        before = rss_mib(alpha.pid)
        times: dict[bool, list[float]] = {False: [], True: []}
        did: Counter[str] = Counter()
        most = first = before
        for turn in range(turns):
            for attacked, ports in ((False, sink), (True, target)):
                with _load(ports, seconds + 2 * LEAD_S) as load:
                    time.sleep(LEAD_S)
                    times[attacked] += _calls(asker, agent, seconds)
                    most = max(most, rss_mib(alpha.pid))
                    first = most if turn == 0 else first
                    told = json.loads(load.communicate(timeout=60)[0])
                    did.update({name: count for name, count in told.items() if attacked})
        asker.close()
        after = rss_mib(alpha.pid)
    ratio = percentile(times[True], 0.95) / percentile(times[False], 0.95)
    report.rows += [
        row("call while 200 strangers work on an idle sink", times[False], "ms"),
        row("call while they work on the provider's node", times[True], "ms"),
        Row("ratio of the p95", ratio, "x", bar=f"<= {P95_BAR:g}", met=ratio <= P95_BAR),
        Row(
            "memory of the node that they have come to",
            most - before,
            "MiB more",
            bar=f"<= {MEMORY_BAR_MIB:g}",
            met=most - before <= MEMORY_BAR_MIB,
            note=f"{before:.0f} MiB before, {first:.0f} MiB in the first turn, {after:.0f} MiB at the end",
        ),
    ]
    report.notes.append(
        f"the strangers, in {turns} turns of {seconds:g} s: {', '.join(f'{count:g} {name}' for name, count in did.items())}"
    )


def _ports(live: Live) -> tuple[int, int]:
    """Of alpha's node: where the square and the links are, over TCP."""
    node = record.load(live.folder).nodes[0]
    square = next(int(text.split("/")[4]) for text in node.p2p if "/tcp/" in text)
    return square, int(node.link.rpartition(":")[2])


@contextmanager
def _load(ports: tuple[int, int], seconds: float) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "meshos.bench.stranger_load", "127.0.0.1", *map(str, ports), str(seconds)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield child
    finally:
        child.kill()
        child.wait(10)


@contextmanager
def _sink() -> Iterator[tuple[int, int]]:
    child = subprocess.Popen([sys.executable, "-c", SINK], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        square, link = map(int, child.stdout.readline().split())
        yield square, link
    finally:
        child.kill()
        child.wait(10)


def _calls(asker: Asker, agent: str, seconds: float) -> list[float]:
    """Milliseconds of each call, one after another; raises Failed ``bench-command-failed`` where one does not end well."""
    taken: list[float] = []
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        began = time.perf_counter()
        status, answer = asker.post("/v1/tasks", {"agentId": agent, "type": "echo", "data": {"text": "hello"}}, 60)
        taken.append((time.perf_counter() - began) * 1000)
        if answer.get("status") != "completed":
            raise Failed("bench-command-failed", f"a call ended with {status} as {str(answer)[:300]}")
        time.sleep(PAUSE_S)
    return taken
