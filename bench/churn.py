"""Connects, disconnects and kills for hours: what is left behind on a node that lives through all of it.

beta calls an agent of alpha; gamma's and delta's nodes are killed and started again; strangers come to alpha's square over TCP and QUIC,
ask one question and go, politely or not, and knock at its links' port without a certificate. Counts are taken on alpha's node after a
warm-up and a rest, and again at the end after a rest that is longer than any connection may be idle.
"""

import random
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

import trio

from meshos.bench.asker import Asker
from meshos.bench.calls import deployed
from meshos.bench.live import Live, LiveNode, metrics, testnet
from meshos.bench.machine import open_files, rss_mib, threads
from meshos.bench.report import Report, Row, slope_share
from meshos.errors import MeshError
from meshos.node.cli.testnet import record

MINUTES, SHORT_MINUTES = 120.0, 1.0
WARM_UP_SHARE = 0.2
"""Of the time: LevelDB, the model's memory, caches and tables of sources fill."""
REST_S = 100.0
"""Longer than ``square.limits.IDLE_S`` and what a dead member's links last."""
KILL_S = (6.0, 14.0)
"""Seconds between two kills."""
CALL_PAUSE_S, VISIT_PAUSE_S, SAMPLE_S = 0.2, 0.1, 2.0
SLOPE_BAR = 0.01
LOOKS = 10
GAUGES = {
    "links": "mesh_links_connections",
    "QUIC connections of links": "mesh_links_path_quic_connections",
    "square's connections": "mesh_square_connections",
    "square's streams": "mesh_square_streams",
    "tasks": "mesh_loop_tasks",
    "flows": "mesh_flows_flows",
    "requests asked": "mesh_rpc_in_flight",
    "requests served": "mesh_rpc_running",
}


@dataclass(slots=True)
class _Churn:
    """What is under way; each part is a thread that ends when ``over`` is set."""

    live: Live
    agent: str
    dice: random.Random
    over: threading.Event = field(default_factory=threading.Event)
    counts: Counter[str] = field(default_factory=Counter)

    def run(self, seconds: float, sample: Callable[[], None]) -> None:
        """Everything at once, for so long; a part that fails ends it with its error."""
        with ThreadPoolExecutor() as threads:
            parts = [threads.submit(part) for part in (self._call, self._kill, self._visit)]
            try:
                ends = time.monotonic() + seconds
                while time.monotonic() < ends and not any(part.done() for part in parts):
                    sample()
                    time.sleep(SAMPLE_S)
            finally:
                self.over.set()
            for part in parts:
                part.result()
        self.over.clear()

    def _call(self) -> None:
        asker = Asker(record.load(self.live.folder).nodes[1])
        while not self.over.wait(CALL_PAUSE_S):
            _, answer = asker.post("/v1/tasks", {"agentId": self.agent, "type": "echo", "data": {"text": "hello"}}, 60)
            self.counts["calls" if answer.get("status") == "completed" else "calls that failed"] += 1
        asker.close()

    def _kill(self) -> None:
        names = [node.name for node in self.live.nodes()[2:]]
        while not self.over.wait(self.dice.uniform(*KILL_S)):
            name = self.dice.choice(names)
            self.live.mesh("testnet", "kill", name)
            self.over.wait(self.dice.uniform(0.0, 6.0))
            self.live.mesh("testnet", "start", name)
            self.counts["kills"] += 1

    def _visit(self) -> None:
        trio.run(self._visits, strict_exception_groups=True)

    async def _visits(self) -> None:
        from meshos.node.runtime.square.asking import dial, where  # loads libp2p
        from meshos.protocols.square import describe

        node = record.load(self.live.folder).nodes[0]
        places = [where(text) for text in node.p2p]
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        while not self.over.is_set():
            await trio.sleep(VISIT_PAUSE_S)
            place = self.dice.choice(places)
            how = self.dice.random()
            try:
                if how < 0.5:
                    async with dial(place) as square:
                        await square.ask(describe.NAME, describe.request())
                elif how < 0.75:
                    with trio.move_on_after(self.dice.uniform(0.0, 0.05)):  # gone in the middle of it
                        async with dial(place) as square:
                            await square.ask(describe.NAME, describe.request())
                else:
                    stream = await trio.open_tcp_stream("127.0.0.1", int(node.link.rpartition(":")[2]))
                    with suppress(trio.BrokenResourceError, ssl.SSLError):
                        await trio.SSLStream(stream, context).do_handshake()
                    await trio.aclose_forcefully(stream)
                self.counts["visits"] += 1
            except (OSError, MeshError) as error:
                self.counts[f"visits refused ({getattr(error, 'name', 'OSError')})"] += 1


def measure(report: Report, *, short: bool, minutes: float | None = None, seed: int = 1) -> None:
    """Two hours; ``--minutes`` says otherwise."""
    seconds = 60 * (minutes or (SHORT_MINUTES if short else MINUTES))
    at: list[float] = []
    memory: list[float] = []
    with testnet() as live:
        alpha, beta = live.nodes()[:2]
        churn = _Churn(live, deployed(live, beta), random.Random(seed))
        churn.run(seconds * WARM_UP_SHARE, lambda: None)
        time.sleep(REST_S)
        before = _counts(alpha)

        def sample() -> None:
            at.append(time.monotonic())
            memory.append(rss_mib(alpha.pid))

        churn.run(seconds * (1 - WARM_UP_SHARE), sample)
        time.sleep(REST_S)
        after = _counts(alpha)
    left = {what: after[what] - before[what] for what in before if after[what] > before[what]}
    half = len(memory) // 2
    slope = slope_share(at[half:], memory[half:])
    failed = churn.counts["calls that failed"]
    report.rows += [
        Row("calls that failed between two nodes that lived", failed, "", count=churn.counts["calls"], bar="0", met=not failed),
        Row(
            f"left behind on a node after {seconds / 60:g} min and a rest",
            sum(left.values()),
            "",
            bar="0",
            met=not left,
            note=", ".join(f"{what} {before[what]} -> {after[what]}" for what in before),
        ),
        Row(
            "its memory: growth over the last half",
            slope * 100,
            "%",
            count=len(memory) - half,
            bar=f"<= {SLOPE_BAR:.0%}",
            met=slope <= SLOPE_BAR,
            note=f"{memory[0]:.1f} MiB after the warm-up, {memory[half]:.1f} at half, {memory[-1]:.1f} at the end",
        ),
    ]
    report.notes.append(", ".join(f"{count} {name}" for name, count in sorted(churn.counts.items())))


def _counts(node: LiveNode) -> dict[str, int]:
    """The smallest of several looks: a node has work of its own now and then."""
    looks = []
    for _ in range(LOOKS):
        figures = metrics(node)
        files = [
            name for name in open_files(node.pid) if not name.endswith((".ldb", ".log"))
        ]  # LevelDB opens and merges tables as it grows
        own = {"descriptors": len(files), "threads": threads(node.pid)}
        looks.append(own | {what: int(figures[gauge]) for what, gauge in GAUGES.items()})
        time.sleep(0.3)
    return {what: min(look[what] for look in looks) for what in looks[0]}
