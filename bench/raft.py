"""A write of 256 B that three processes agree on and have on disk, beside etcd in the same run.

Ours: three processes with the product's host, links (TCP, mutual TLS 1.3), LevelDB and Raft, and this process as a peer that asks for each
write on its link to the leader. etcd: three members with their default fsync; one client in Python over gRPC, and wrk on the JSON
gateway. Both take turns, so that they meet the same machine, and the leaders of both are killed and waited for in the same way.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from meshos.bench import etcd
from meshos.bench.live import free_ports
from meshos.bench.machine import every_core_busy
from meshos.bench.raft_node import NODES, STATE, WRITE, WRITER, Members, State, client
from meshos.bench.raft_writer import SIZE, run, write
from meshos.bench.report import Report, percentile, row
from meshos.errors import Failed, MeshError
from meshos.flow import Ask
from meshos.ids import NodeId

MANY = 64
TURNS, TURNS_SHORT = 5, 2
TURN_S = 3.0
KILLS, KILLS_SHORT = 7, 3
BUSY_S, BUSY_SHORT_S = 600.0, 30.0
GIVEN_UP_S = 30.0
P50_BAR, RATE_BAR, NATIVE_BAR, KILL_BAR_MS = 1.0, 3.0, 1.3, 600.0


@dataclass(slots=True)
class Figures:
    """Milliseconds of single writes, writes a second with MANY in flight (one figure a turn), milliseconds from a kill to a write."""

    single: list[float] = field(default_factory=list)
    many: list[float] = field(default_factory=list)
    native: list[float] = field(default_factory=list)
    kills: list[float] = field(default_factory=list)


def measure(report: Report, *, short: bool) -> None:
    """Turns of both, then kills of leaders, then load without a cause for an election."""
    ours, theirs = Figures(), Figures()
    elections = trio.run(_measure, ours, theirs, short)
    report.notes += [text for has, text in _MISSING if not has()]
    _latency(report, ours, theirs)
    _throughput(report, ours, theirs)
    _failover(report, ours, theirs)
    seconds = BUSY_SHORT_S if short else BUSY_S
    what = f"elections in {seconds:g} s with both cores busy and nothing wrong"
    report.rows.append(row(what, [float(elections)], "", bar="none", met=elections == 0))


_MISSING = (
    (etcd.installed, "etcd is not installed here, so nothing was measured beside ours (Debian: apt install etcd-server)"),
    (etcd.has_grpc, "grpcio is not installed here, so etcd was not asked from Python (pip install grpcio)"),
    (etcd.has_wrk, "wrk is not installed here, so etcd was not asked by a native client (Debian: apt install wrk)"),
)


def _latency(report: Report, ours: Figures, theirs: Figures) -> None:
    report.rows.append(row(f"write of {SIZE} B, one at a time", ours.single, "ms"))
    if theirs.single:
        ratio = percentile(ours.single, 0.5) / percentile(theirs.single, 0.5)
        report.rows.append(row("peer: etcd, from a Python gRPC client", theirs.single, "ms"))
        report.rows.append(row("ratio of the medians", [ratio], "x", bar=f"<= {P50_BAR:g}", met=ratio <= P50_BAR))


def _throughput(report: Report, ours: Figures, theirs: Figures) -> None:
    report.rows.append(row(f"writes, {MANY} in flight", ours.many, "/s"))
    rate = percentile(ours.many, 0.5)
    for peer, rates, bar in (("a Python gRPC client", theirs.many, RATE_BAR), ("wrk on its gateway", theirs.native, NATIVE_BAR)):
        if rates:
            ratio = rate / percentile(rates, 0.5)
            report.rows.append(row(f"peer: etcd, from {peer}", rates, "/s"))
            report.rows.append(row("ratio of the medians", [ratio], "x", bar=f">= {bar:g}", met=ratio >= bar))


def _failover(report: Report, ours: Figures, theirs: Figures) -> None:
    p50 = percentile(ours.kills, 0.5)
    bar = f"p50 <= {KILL_BAR_MS:g} ms"
    report.rows.append(row("kill -9 of the leader to the first write accepted", ours.kills, "ms", bar=bar, met=p50 <= KILL_BAR_MS))
    if theirs.kills:
        report.rows.append(row("peer: etcd", theirs.kills, "ms"))


# -- both in turn ----------------------------------------------------------------------------------------------------


async def _measure(ours: Figures, theirs: Figures, short: bool) -> int:
    turns, kills = (TURNS_SHORT, KILLS_SHORT) if short else (TURNS, KILLS)
    with ExitStack() as stack:
        group = stack.enter_context(_group())
        peer = stack.enter_context(etcd.cluster()) if etcd.installed() else None
        async with trio.open_nursery() as nursery:
            await nursery.start(group.client.run)
            await group.find_leader()
            for turn in range(turns + 1):
                await _turn(group, peer, *((ours, theirs) if turn else (Figures(), Figures())))  # the first one warms both
            for _ in range(kills):
                ours.kills.append(await group.kill_leader())
                if peer is not None:
                    theirs.kills.append(await trio.to_thread.run_sync(peer.kill_leader_ms, SIZE))
            if peer is not None:
                peer.end()  # from here on it would only take time away
            elections = await _elections(group, BUSY_SHORT_S if short else BUSY_S)
            nursery.cancel_scope.cancel()
    return elections


async def _turn(group: "Group", peer: etcd.Cluster | None, ours: Figures, theirs: Figures) -> None:
    ours.single += (await group.write(1, TURN_S))[0]
    ours.many.append((await group.write(MANY, TURN_S))[1])
    if peer is None:
        return
    url = peer.url(peer.leader())
    if etcd.has_grpc():
        theirs.single += (await trio.to_thread.run_sync(etcd.puts, url, 1, TURN_S, SIZE))[0]
        theirs.many.append((await trio.to_thread.run_sync(etcd.puts, url, MANY, TURN_S, SIZE))[1])
    if etcd.has_wrk():
        theirs.native.append(await trio.to_thread.run_sync(etcd.wrk, url, MANY, TURN_S, SIZE))


async def _elections(group: "Group", seconds: float) -> int:
    """By how much the term grows while every core is kept busy and writes go on."""
    before = (await group.find_leader()).term
    with every_core_busy(), trio.move_on_after(seconds):
        while True:
            await group.write(1, 1.0)
            await trio.sleep(0.1)
    return (await group.find_leader()).term - before


# -- ours ------------------------------------------------------------------------------------------------------------


@contextmanager
def _group() -> Iterator["Group"]:
    with tempfile.TemporaryDirectory(prefix="mesh-bench-raft-", ignore_cleanup_errors=True) as name:
        group = Group(Path(name))
        try:
            yield group
        finally:
            for process in group.processes:
                process.kill()
                process.wait(10)


class Group:
    """The three processes, and the client. Enter it inside of trio."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._members = Members.new(free_ports(NODES + 1))
        self._members.save(folder)
        self.nodes = [self._members.node(number) for number in range(NODES)]
        self.processes = [self._start(number) for number in range(NODES)]
        self.client = client(self._members)
        self.leader = self.nodes[0]

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "meshos.bench.raft_node", str(self._folder), str(number)]
        with open(self._folder / f"node{number}.log", "ab") as log:
            return subprocess.Popen(command, stderr=log)

    async def write(self, in_flight: int, seconds: float) -> tuple[list[float], float]:
        """Milliseconds of each write, and writes a second, with ``in_flight`` of them at any time."""
        writing = await run(self.client.host.deliver, WRITER, self.leader, in_flight, seconds)
        return writing.taken_ms, writing.rate()

    async def state(self, node: NodeId) -> State | None:
        """What ``node`` knows of its group, if it answers."""
        try:
            return State.decode(await self.client.host.perform(Ask(node, STATE, b"", 1.0, retries=0), timeout_s=1.0))
        except MeshError:
            return None

    async def find_leader(self) -> State:
        """Wait until all three follow the same one; raises Failed ``bench-command-failed``."""
        with trio.move_on_after(GIVEN_UP_S):
            while True:
                states = [await self.state(node) for node in self.nodes]
                leaders = {(state.term, state.leader) if state is not None else None for state in states}
                first = states[0]
                if first is not None and first.leader and len(leaders) == 1:
                    self.leader = first.leader
                    return first
                await trio.sleep(0.05)
        raise Failed("bench-command-failed", f"the group of {NODES} has no leader after {GIVEN_UP_S:g} s")

    async def kill_leader(self) -> float:
        """Milliseconds from its end to the first write that another node has had accepted; all are up again afterwards."""
        number = self.nodes.index(self.leader)
        others = [node for node in self.nodes if node != self.leader]
        self.processes[number].kill()
        began = time.perf_counter()
        while time.perf_counter() < began + GIVEN_UP_S:
            try:
                await self.client.host.perform(Ask(others[0], WRITE, write(b"killed", bytes(SIZE)), 5.0), timeout_s=5.0)
            except MeshError:
                others.reverse()
                continue
            took = (time.perf_counter() - began) * 1000
            self.processes[number].wait(10)
            self.processes[number] = self._start(number)
            await self.find_leader()
            return took
        raise Failed("bench-command-failed", f"no write was accepted within {GIVEN_UP_S:g} s of the leader's end")
