"""Calls and bulk over a path of 50 ms that loses 1 %: on the links as they are, and on QUIC alone, whose congestion control is Reno.

Two processes in network namespaces of their own, and a cable between them that is a process, too (slow_cable.py): few kernels of shared
machines have netem. Both kinds of links in turn, each on a cable of its own.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from meshos.bench.asked_process import AskedProcess
from meshos.bench.namespaces import Apart
from meshos.bench.raft_node import NODES, Members
from meshos.bench.report import Report, Row, percentile, row

DELAY_MS, LOSS = 25.0, 0.01
ROUND_TRIP_MS = 2 * DELAY_MS
CALLS, CALLS_SHORT = 400, 60
TURNS, TURNS_SHORT = 3, 1
BOTH, ALONE = "tcp,quic", "quic"
MIB = {BOTH: 32, ALONE: 4}
"""Pulled in one go: some seconds each."""
CALL_BAR, BULK_BAR = 2.5, 5.0
CONGESTION = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")


def measure(report: Report, *, short: bool) -> None:
    """Calls one after another, then a large result, on both kinds of links in turn."""
    calls: dict[str, list[float]] = {BOTH: [], ALONE: []}
    bulk: dict[str, list[float]] = {BOTH: [], ALONE: []}
    told: list[dict[str, Any]] = []
    for turn in range(TURNS_SHORT if short else TURNS):
        for kinds in (BOTH, ALONE):
            with _caller(kinds, turn) as ask:
                calls[kinds] += ask(f"echo {CALLS_SHORT if short else CALLS}")
                bulk[kinds].append(MIB[kinds] / ask(f"pull {MIB[kinds]}"))
                told = ask("paths") if kinds == BOTH else told
    p95 = percentile(calls[BOTH], 0.95) / ROUND_TRIP_MS
    faster = percentile(bulk[BOTH], 0.5) / percentile(bulk[ALONE], 0.5)
    has_bbr = "bbr" in CONGESTION.read_text().split()
    report.rows += [
        row("call over the links as they are", calls[BOTH], "ms"),
        Row("its p95, in round trips", p95, "x", bar=f"<= {CALL_BAR:g}", met=p95 <= CALL_BAR),
        row("call over QUIC alone", calls[ALONE], "ms"),
        row("bulk over the links as they are", bulk[BOTH], "MiB/s"),
        row("floor: bulk over QUIC alone, with Reno", bulk[ALONE], "MiB/s"),
        Row(
            "ratio of the medians",
            faster,
            "x",
            bar=f">= {BULK_BAR:g} where the kernel has BBR",
            met=faster >= BULK_BAR if has_bbr else None,
            note="" if has_bbr else "this kernel has no BBR",
        ),
    ]
    report.notes.append(f"{ROUND_TRIP_MS:g} ms there and back, {LOSS:.0%} of packets lost each way")
    report.notes += [f"{path['path']} {'carries: ' + path['why'] if path['why'] else 'waits'}" for path in told]


@contextmanager
def _caller(kinds: str, seed: int) -> Iterator[Callable[[str], Any]]:
    """Two nodes at the ends of a cable, one of which asks the other; and how to ask that one."""
    with ExitStack() as stack:
        net, name = stack.enter_context(Apart()), stack.enter_context(tempfile.TemporaryDirectory())
        Members.new([0] * (NODES + 1)).save(Path(name))
        cable = ["meshos.bench.slow_cable", *net.names, str(DELAY_MS), str(LOSS), str(seed)]
        stack.enter_context(AskedProcess([sys.executable, "-m", *cable]))
        commands = ([*net.within(number), sys.executable, "-m", "meshos.bench.lossy_node", name, str(number), kinds] for number in (1, 0))
        _, asked = [stack.enter_context(AskedProcess(command)) for command in commands]
        yield asked.ask
