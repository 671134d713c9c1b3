"""10,000 calls across two organisations, then rest: what is left behind, and what a call costs in processor time.

Some calls warm both nodes; after a rest every count is taken. Then the calls, eight at once, while memory is sampled; then
a rest, and the counts again. Of each count the smallest of several looks stands, since a node has work of its own now and then.
"""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from meshos.bench.calls import deployed
from meshos.bench.live import LiveNode, metrics, testnet
from meshos.bench.machine import cpu_ms, descendants, open_files, rss_mib, threads
from meshos.bench.report import Report, Row, slope_share
from meshos.errors import Failed

CALLS, CALLS_SHORT = 10_000, 1_000
WARM_UP, WARM_UP_SHORT = 4_000, 500
"""LevelDB starts the one thread that merges its files when its write buffer is full for the first time, after some 2,500 calls."""
CLIENTS = 8
REST_S, REST_SHORT_S = 30.0, 12.0
"""trio ends a worker thread that had nothing to do for 10 s, so the shortest rest is longer."""
LOOKS, LOOK_EVERY_S = 10, 0.3
SAMPLE_EVERY_S = 0.2
SLOPE_BAR = 0.01
GAUGES = {
    "flows": "mesh_flows_flows",
    "operations of flows": "mesh_flows_operations",
    "operations of the host": "mesh_host_operations",
    "requests asked": "mesh_rpc_in_flight",
    "requests served": "mesh_rpc_running",
    "links": "mesh_links_connections",
    "requests at the API": "mesh_api_requests_running",
}


def measure(report: Report, *, short: bool) -> None:
    """beta calls alpha's agent."""
    calls, warm_up, rest_s = (CALLS_SHORT, WARM_UP_SHORT, REST_SHORT_S) if short else (CALLS, WARM_UP, REST_S)
    with testnet() as live:
        alpha, beta = live.nodes()[:2]
        agent = deployed(live, beta)
        _call(beta, agent, warm_up, [])
        time.sleep(rest_s)  # as long as after the calls, or what only closes late would hide what never does
        before = {node.name: _counts(node) for node in (alpha, beta)}
        watched = [_Watched(alpha), _Watched(beta)]
        began = time.perf_counter()
        _call(beta, agent, calls, watched)
        took_s = time.perf_counter() - began
        for each in watched:
            each.stop()
        time.sleep(rest_s)
        after = {node.name: _counts(node) for node in (alpha, beta)}
    roles = {alpha.name: "provider", beta.name: "caller"}
    for each in watched:
        _rows(report, f"{roles[each.node.name]} {each.node.name}", each, calls, before[each.node.name], after[each.node.name])
    report.rows.append(Row(f"calls a second, {CLIENTS} at once", calls / took_s, "/s", count=calls))


def _rows(report: Report, name: str, watched: "_Watched", calls: int, before: dict[str, int], after: dict[str, int]) -> None:
    left = {what: after[what] - before[what] for what in before if after[what] > before[what]}
    told = ", ".join(f"{what} {before[what]} -> {after[what]}" for what in before)
    half = len(watched.rss) // 2
    slope = slope_share(watched.done[half:], watched.rss[half:])
    report.rows += [
        Row(f"left behind at the {name} after {calls} calls and a rest", sum(left.values()), "", bar="0", met=not left, note=told),
        Row(
            f"memory of the {name}: growth over the last half",
            slope * 100,
            "%",
            count=len(watched.rss) - half,
            bar=f"<= {SLOPE_BAR:.0%}",
            met=slope <= SLOPE_BAR,
            note=f"{watched.rss[0]:.1f} MiB at the first call, {watched.rss[half]:.1f} at half, {watched.rss[-1]:.1f} at the last",
        ),
        Row(f"processor time of the {name}, one call", watched.cpu_ms / calls, "ms", count=calls),
    ]


@dataclass(slots=True)
class _Watched:
    """Memory of one node by the number of calls that were done, and the processor time it used since the first."""

    node: LiveNode
    done: list[float] = field(default_factory=list)
    rss: list[float] = field(default_factory=list)
    cpu_ms: float = 0.0

    def __post_init__(self) -> None:
        self.cpu_ms = -cpu_ms(self.node.pid)

    def sample(self, done: int) -> None:
        self.done.append(done)
        self.rss.append(rss_mib(self.node.pid))

    def stop(self) -> None:
        self.cpu_ms += cpu_ms(self.node.pid)


def _call(node: LiveNode, agent: str, calls: int, watched: Sequence[_Watched]) -> None:
    """``calls`` of them, CLIENTS at once; ``watched`` are sampled every SAMPLE_EVERY_S."""
    done = [0] * CLIENTS
    ended = threading.Event()

    def client_of(place: int) -> None:
        with node.client() as client:
            while not ended.is_set() and done[place] < calls // CLIENTS + (place < calls % CLIENTS):
                answer = client.post("/v1/tasks", json={"agentId": agent, "type": "echo", "data": {"text": "hello"}})
                if answer.json().get("status") != "completed":
                    raise Failed("bench-command-failed", f"a call ended as {answer.text[:300]}")
                done[place] += 1

    with ThreadPoolExecutor(CLIENTS) as pool:
        working = [pool.submit(client_of, place) for place in range(CLIENTS)]
        try:
            while not all(one.done() for one in working):
                for each in watched:
                    each.sample(sum(done))
                time.sleep(SAMPLE_EVERY_S)
        finally:
            ended.set()
        for one in working:
            one.result()
    for each in watched:
        each.sample(sum(done))


def _counts(node: LiveNode) -> dict[str, int]:
    """The smallest of several looks at everything that a call could leave behind."""
    looks = []
    for _ in range(LOOKS):
        looks.append(_look(node))
        time.sleep(LOOK_EVERY_S)
    return {what: min(look[what] for look in looks) for what in looks[0]}


def _look(node: LiveNode) -> dict[str, int]:
    """The API's figures hold our own question, and the descriptors our connection: both before and after."""
    figures = metrics(node)
    files = [name for name in open_files(node.pid) if not name.endswith((".ldb", ".log"))]  # LevelDB opens and merges tables as it grows
    own = {"descriptors": len(files), "threads": threads(node.pid), "child processes": len(descendants(node.pid))}
    return own | {what: int(figures[gauge]) for what, gauge in GAUGES.items()}
