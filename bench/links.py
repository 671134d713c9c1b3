"""A frame over a link, on TLS and on QUIC, beside bare TLS, bare aioquic and py-libp2p, in one process with two ends."""

import trio

from meshos.bench.link_pair import BARE_QUIC, BARE_TLS, PATHS, QUIC, SIZES, TCP, LinkFigures
from meshos.bench.link_pair import measure as measure_links
from meshos.bench.report import Report, Row
from meshos.protocols.rpc.limits import MIB

QUIC_TO_TLS = 3.5
"""The most that the median over QUIC may be, in medians over TLS."""
OF_BARE_QUIC = 0.6
"""The least that a connection carries of what bare aioquic does with the same datagrams."""


def measure(report: Report, *, short: bool) -> None:
    """Echoes in turns, many at once, one way, 64 MiB on the bulk connection, and bytes one way."""
    bulk = 16 * MIB if short else 64 * MIB
    if short:
        figures = trio.run(lambda: measure_links(echoes=500, messages=5_000, bulk_bytes=bulk, stream_bytes=8 * MIB))
    else:
        figures = trio.run(measure_links)
    report.rows += [*_echoes(figures), *_rates(figures, bulk), *_streams(figures)]


def _echoes(figures: LinkFigures) -> list[Row]:
    rows = [
        Row(
            f"echo of 200 B: {name}",
            echo.p(0.5),
            "ms",
            p99=echo.p(0.99),
            count=len(echo.ms),
            note=f"{echo.cpu_ms:.2f} ms of a core, both ends",
        )
        for name, echo in figures.echoes.items()
    ]
    p50 = {name: echo.p(0.5) for name, echo in figures.echoes.items()}
    rows.append(Row("ratio of medians: links on TLS to bare TLS", p50[TCP] / p50[BARE_TLS], "x"))
    ratio = p50[QUIC] / p50[TCP]
    rows.append(Row("ratio of medians: links on QUIC to links on TLS", ratio, "x", bar=f"<= {QUIC_TO_TLS}", met=ratio <= QUIC_TO_TLS))
    return rows


def _rates(figures: LinkFigures, bulk: int) -> list[Row]:
    rows = []
    for name in PATHS:
        rows += [
            Row(f"calls, 64 at once: {name}", figures.concurrent_calls[name], "/s"),
            Row(f"messages of 200 B, one way: {name}", figures.one_way_messages[name], "/s"),
            Row(f"{bulk // MIB} MiB on the bulk connection: {name}", figures.bulk_mib[name], "MiB/s"),
        ]
    return rows


def _streams(figures: LinkFigures) -> list[Row]:
    rows = []
    for size in SIZES:
        ours, bare = figures.stream[QUIC, size], figures.stream[BARE_QUIC, size]
        note = f"{ours / bare:.2f} of bare aioquic"
        rows += [
            Row(
                f"bytes one way in datagrams of {size} B: {QUIC}",
                ours,
                "MB/s",
                bar=f">= {OF_BARE_QUIC} of bare",
                met=ours >= OF_BARE_QUIC * bare,
                note=note,
            ),
            Row(f"bytes one way in datagrams of {size} B: {BARE_QUIC}", bare, "MB/s"),
        ]
    return rows
