"""A frame over a link, beside bare TLS on trio, in one process with two ends."""

import trio

from meshos.bench.link_pair import measure as measure_links
from meshos.bench.report import Report, Row
from meshos.protocols.rpc.limits import MIB


def measure(report: Report, *, short: bool) -> None:
    """Echo, many at once, one way, and 64 MiB on the bulk connection."""
    if short:
        figures = trio.run(lambda: measure_links(echoes=500, messages=5_000, bulk_bytes=16 * MIB))
    else:
        figures = trio.run(measure_links)
    ratio = figures.echo_p50_ms / figures.bare_p50_ms
    report.rows += [
        Row("echo of 200 B through rpc and a link", figures.echo_p50_ms, "ms", p99=figures.echo_p99_ms),
        Row("floor: echo over bare TLS 1.3 on trio", figures.bare_p50_ms, "ms", p99=figures.bare_p99_ms),
        Row("ratio of the medians", ratio, "x"),
        Row("calls, 64 at once", figures.concurrent_calls_per_s, "/s"),
        Row("messages of 200 B, one way", figures.one_way_messages_per_s, "/s"),
        Row(f"{figures.bulk_bytes // MIB} MiB on the bulk connection", figures.bulk_mib_per_s, "MiB/s"),
    ]
