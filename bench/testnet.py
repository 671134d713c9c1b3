"""How long four organisations take to be ready, and what a node weighs before and after it has loaded the model."""

import time

from meshos.bench.live import LiveNode, testnet
from meshos.bench.machine import rss_mib
from meshos.bench.report import Report, row

READY_BAR_S = 10.0
RSS_BAR_MIB = 150.0
MODEL_BAR_MIB = 380.0


def measure(report: Report, *, short: bool) -> None:
    """Bring it up, weigh it, ask each node one question, weigh it again."""
    ready: list[float] = []
    before: list[float] = []
    after: list[float] = []
    for _ in range(1 if short else 3):
        with testnet() as live:
            took_ms = live.up["took_ms"]
            assert isinstance(took_ms, int | float)
            ready.append(took_ms / 1000)
            before += [rss_mib(node.pid) for node in live.nodes()]
            for node in live.nodes():
                _ask(node)
            time.sleep(1.0)
            after += [rss_mib(node.pid) for node in live.nodes()]
    report.rows += [
        row("4-org testnet ready", ready, "s", bar=f"< {READY_BAR_S:g} s", met=max(ready) < READY_BAR_S),
        row("memory of a node", before, "MiB", bar=f"< {RSS_BAR_MIB:g} MiB", met=max(before) < RSS_BAR_MIB),
        row("memory of a node, model loaded", after, "MiB", bar=f"< {MODEL_BAR_MIB:g} MiB", met=max(after) < MODEL_BAR_MIB),
    ]


def _ask(node: LiveNode) -> None:
    with node.client() as client:
        client.post("/v1/discover", json={"query": "what time is it in another city"}).raise_for_status()
