"""One of two paths cut under 200 calls a second: how long nothing is answered, and whether any call fails.

Two processes, each on a machine of its own (a network namespace), and a router between them. The path that carries is cut there, and so
the other one takes over; it is mended, and when both answer again, the one that carries now is cut: TCP and QUIC in turn, mostly. Calls
are asked at a steady rate without retries, so that what is lost is lost.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from meshos.bench.asked_process import AskedProcess
from meshos.bench.namespaces import Protocol, Routed
from meshos.bench.paths_node import RATE, Call, PathState
from meshos.bench.raft_node import NODES, Members
from meshos.bench.report import Report, percentile, row
from meshos.errors import Failed

CUTS, CUTS_SHORT = 50, 10
CUT_S = 1.0
WAIT_S = 30.0
GAP_BAR_MS = 200.0
PROTOCOL: dict[str, Protocol] = {"tcp": "tcp", "quic": "udp"}


def measure(report: Report, *, short: bool) -> None:
    """Cuts, one after another."""
    gaps: dict[str, list[float]] = {path: [] for path in PROTOCOL}
    undisturbed: list[float] = []
    slowest: list[float] = []
    calls: list[Call] = []
    with caller() as (net, ask):
        for _ in range(CUTS_SHORT if short else CUTS):
            both_answer(ask)
            ask("calls")
            time.sleep(CUT_S)
            calls += (before := [Call(**each) for each in ask("calls")])
            undisturbed.append(gap_ms(before, 0.0))
            carries = both_answer(ask)
            begun = time.monotonic()
            net.cut(PROTOCOL[carries])
            time.sleep(CUT_S)
            net.mend(PROTOCOL[carries])
            both_answer(ask)
            of_cut = [Call(**each) for each in ask("calls")]
            gaps[carries].append(gap_ms(of_cut, begun))
            slowest.append(max(1000 * (call.ended - call.asked) for call in of_cut))
            calls += of_cut
    failed = [call.error for call in calls if call.error]
    every = [gap for each in gaps.values() for gap in each]
    met = percentile(every, 0.99) <= GAP_BAR_MS
    report.rows.append(row(f"calls that failed, of {len(calls)}", [float(len(failed))], "", bar="none", met=not failed))
    report.rows.append(row("longest time without an answer around a cut", every, "ms", bar=f"p99 <= {GAP_BAR_MS:g} ms", met=met))
    report.rows += [row(f"the same, where {path} carried and was cut", values, "ms") for path, values in gaps.items() if values]
    report.rows.append(row(f"the same in {CUT_S:g} s in which nothing is cut", undisturbed, "ms"))
    report.rows.append(row("slowest call of a cut", slowest, "ms"))
    if failed:
        report.notes.append(f"they failed as {', '.join(sorted(set(failed)))}")
    report.notes.append(f"aioquic {version('aioquic')}; {_iproute2()}; {RATE} calls a second of 200 B, a cut lasts {CUT_S:g} s")


def gap_ms(calls: list[Call], cut: float) -> float:
    """The longest time from one answer to the next one, of those that came after the cut."""
    answered = sorted(call.ended for call in calls if not call.error)
    return 1000 * max((after - before for before, after in pairwise(answered) if after > cut), default=float("inf"))


def both_answer(ask: Callable[[str], list[dict[str, Any]]]) -> str:
    """Wait until both paths answer; gives the one that carries."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        paths = [PathState(**each) for each in ask("paths")]
        if len(paths) == len(PROTOCOL) and all(path.well for path in paths):
            (carries,) = (path.path for path in paths if path.why)
            return carries
        time.sleep(0.05)
    raise Failed("peer-not-ready", f"not both paths answered within {WAIT_S:g} s: {paths}")


@contextmanager
def caller() -> Iterator[tuple[Routed, Callable[[str], list[dict[str, Any]]]]]:
    """Two nodes in namespaces of their own, one of which calls the other, and how to ask that one."""
    with ExitStack() as stack:
        net, name = stack.enter_context(Routed()), stack.enter_context(tempfile.TemporaryDirectory())
        Members.new([0] * (NODES + 1)).save(Path(name))
        commands = ([*net.within(number), sys.executable, "-m", "meshos.bench.paths_node", name, str(number)] for number in (1, 0))
        _, asked = [stack.enter_context(AskedProcess(command)) for command in commands]
        yield net, asked.ask


def _iproute2() -> str:
    return subprocess.run(["ip", "-V"], capture_output=True, text=True, check=True).stdout.strip().removeprefix("ip utility, ")
