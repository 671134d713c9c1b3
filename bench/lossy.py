"""Calls and bulk over a path of 50 ms that loses 1 %: on the links as they are, and on QUIC alone, whose congestion control is Reno.

Two processes in network namespaces of their own, and a cable between them that is a process, too (slow_cable.py): few kernels of shared
machines have netem. Both kinds of links in turn, each on a cable of its own.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from meshos.bench.namespaces import Apart
from meshos.bench.raft_node import NODES, Members
from meshos.bench.report import Report, Row, percentile, row
from meshos.errors import Failed

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
    with Apart() as net, tempfile.TemporaryDirectory() as name:
        Members.new([0] * (NODES + 1)).save(Path(name))
        processes: list[subprocess.Popen[str]] = []
        try:
            cable = ["meshos.bench.slow_cable", *net.names, str(DELAY_MS), str(LOSS), str(seed)]
            processes.append(_ready([sys.executable, "-m", *cable]))
            for number in (1, 0):
                node = ["meshos.bench.lossy_node", name, str(number), kinds]
                processes.append(_ready([*net.within(number), sys.executable, "-m", *node]))

            def ask(word: str) -> Any:
                asked = processes[-1]
                print(word, file=asked.stdin, flush=True)
                answer = cast("IO[str]", asked.stdout).readline()
                if not answer:
                    raise Failed("bench-command-failed", f"the node ended while it was asked for {word!r}")
                return json.loads(answer)

            yield ask
        finally:
            for process in reversed(processes):
                cast("IO[str]", process.stdin).close()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _ready(command: Sequence[str]) -> "subprocess.Popen[str]":
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if cast("IO[str]", process.stdout).readline() != "ready\n":
        process.kill()
        process.wait()
        raise Failed("peer-not-ready", f"{command[-4:]} of this benchmark ended before it was ready")
    return process
