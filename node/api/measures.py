"""What the API measures of itself, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class Measures:
    """Requests by method and class of status, and how long they took. A registry of its own: several nodes fit in one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter("mesh_api_requests", "Requests answered", ["method", "status"], registry=self._registry)
        self._seconds = Histogram("mesh_api_request_seconds", "From headers to answer", buckets=_BUCKETS, registry=self._registry)
        self.running = Gauge("mesh_api_requests_running", "Requests under way", registry=self._registry)

    def request(self, method: str, status: int, seconds: float) -> None:
        """One more request has ended; status 0 for a client that went away."""
        known = method if method in ("GET", "POST", "DELETE", "HEAD", "OPTIONS") else "other"
        self._requests.labels(known, f"{status // 100}xx" if status else "gone").inc()
        self._seconds.observe(seconds)

    def text(self) -> bytes:
        """Prometheus text format."""
        return generate_latest(self._registry)
