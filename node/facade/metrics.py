"""The node's metrics for Prometheus: what its machines and ports count, read when somebody asks.

Names are ``mesh_<part>_<figure>``; every part keeps its own figures in ``statistics()``, so nothing is counted twice.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CALLS = 512
"""The last calls of which the 95th percentile is told."""
WINDOW_S = 60.0

Source = Callable[[], Mapping[str, float]]


class Metrics(Collector):
    """``sources`` maps a part's name to its statistics."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = sources
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._calls: deque[tuple[float, float]] = deque(maxlen=CALLS)

    def collect(self) -> Iterable[Metric]:
        """One gauge a figure."""
        for part, source in self._sources.items():
            for name, value in source().items():
                yield GaugeMetricFamily(f"mesh_{part}_{_identifier(name)}", f"{name} of {part}", value=float(value))

    def text(self) -> bytes:
        """Prometheus text format."""
        return generate_latest(self._registry)

    def called(self, total_ms: float) -> None:
        """A call from this node took so long."""
        self._calls.append((time.monotonic(), total_ms))

    def calls(self) -> tuple[float, float | None]:
        """Calls a second over the last minute, and the 95th percentile of what they took in ms (None without any)."""
        now = time.monotonic()
        recent = [(when, took) for when, took in self._calls if now - when < WINDOW_S]
        if not recent:
            return 0.0, None
        span = WINDOW_S if len(recent) < CALLS else max(1.0, now - recent[0][0])
        took = sorted(ms for _, ms in recent)
        return len(recent) / span, took[int(0.95 * (len(took) - 1))]


def _identifier(name: str) -> str:
    return "".join(char if char.isalnum() else "_" for char in name)
