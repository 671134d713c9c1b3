"""What recording costs: calls from one organisation to another on two testnets side by side, one that records and one that does not.

Each is called in turn, a few calls at a time, so that both meet the same noise. Processor time counts (of both nodes of a testnet,
and of the recorder's threads in them), and the ratio.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from meshos.bench.calls import deployed
from meshos.bench.live import Live, LiveNode, command, metrics, testnet
from meshos.bench.machine import cpu_ms
from meshos.bench.report import Report, Row, percentile, row
from meshos.errors import Failed

TURN = 100
WARM_UP = 300
RATIO_BAR = 1.05


def measure(report: Report, *, short: bool) -> None:
    """beta calls alpha's agent."""
    turns = 8 if short else 30
    with _recorded() as recorded, testnet(orgs=2) as plain:
        sides = [_Side(recorded), _Side(plain)]
        for side in sides:
            side.call(WARM_UP)
            side.reset()
        for turn in range(turns):
            for side in sides if turn % 2 else reversed(sides):
                side.call(TURN)
        figures = metrics(sides[0].caller)
    with_it, without = (sum(side.cpu) / sum(side.calls) for side in sides)
    medians = percentile(sides[0].took_ms, 0.5) / percentile(sides[1].took_ms, 0.5)
    report.rows += [
        Row("processor time of both nodes, one call, recorded", with_it, "ms", count=sum(sides[0].calls)),
        Row("processor time of both nodes, one call, not recorded", without, "ms", count=sum(sides[1].calls)),
        Row("ratio of processor time", with_it / without, "x", note="why a node records only where it is told to"),
        row("call, recorded", sides[0].took_ms, "ms"),
        row("call, not recorded", sides[1].took_ms, "ms"),
        Row("ratio of the medians", medians, "x", bar=f"<= {RATIO_BAR:g}", met=medians <= RATIO_BAR),
        Row("written by the caller, one call", figures["mesh_recorder_bytes"] / (sum(sides[0].calls) + WARM_UP), "B"),
        Row("dropped", figures["mesh_recorder_dropped"], ""),
    ]


class _Side:
    """One testnet: who calls, whom, and what it took."""

    def __init__(self, live: Live) -> None:
        self.nodes = live.nodes()
        self.caller: LiveNode = self.nodes[1]
        self._agent = deployed(live, self.caller)
        self.reset()

    def reset(self) -> None:
        """Forget what was measured."""
        self.took_ms: list[float] = []
        self.cpu: list[float] = []
        self.calls: list[int] = []

    def call(self, calls: int) -> None:
        """So many calls, one after the other."""
        before = sum(cpu_ms(node.pid) for node in self.nodes)
        with self.caller.client() as client:
            for _ in range(calls):
                began = time.perf_counter()
                answer = client.post("/v1/tasks", json={"agentId": self._agent, "type": "echo", "data": {"text": "hello"}})
                self.took_ms.append((time.perf_counter() - began) * 1000)
                if answer.json().get("status") != "completed":
                    raise Failed("bench-command-failed", f"a call ended as {answer.text[:300]}")
        self.cpu.append(sum(cpu_ms(node.pid) for node in self.nodes) - before)
        self.calls.append(calls)


@contextmanager
def _recorded() -> Iterator[Live]:
    """A testnet that was told to record, and started again."""
    with testnet(orgs=2) as live:
        command("testnet", "down", "--dir", str(live.folder), "--json")
        for file in live.folder.glob("*/node.toml"):
            file.write_text("recorder = true\n" + file.read_text())
        yield Live(live.folder, command("testnet", "up", "--dir", str(live.folder), "--detach", "--json"))
