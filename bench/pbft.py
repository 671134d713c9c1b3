"""Transactions that four organisations agree on, execute and have on disk, beside what this machine can verify in the same run.

Four processes with the product's host, links (TCP, mutual TLS 1.3), LevelDB, PBFT and ledger, and this process as a peer that submits
signed transfers on its links and waits for each to be committed. Every replica verifies every client's signature, so a quarter of what
all cores verify is the machine's own limit; both take turns, so that they meet the same machine. The client has its share of it too.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from meshos.bench.live import free_ports
from meshos.bench.machine import cpu_ms, every_core_busy
from meshos.bench.pbft_node import ORGS, STATE, VALIDATORS, Members, Node, State
from meshos.bench.pbft_payer import Payer, Submitting, at, run
from meshos.bench.report import Report, percentile, row
from meshos.bench.verifying import Verifying, verifying
from meshos.errors import Failed, MeshError
from meshos.flow import Ask
from meshos.ids import NodeId

MANY = 256
"""Transactions in flight of each organisation: half of what the ledger lets one key have."""
TURNS, TURNS_SHORT = 5, 2
SINGLE_S, MANY_S, VERIFY_S = 3.0, 10.0, 1.0
SINGLE_SHORT_S, MANY_SHORT_S = 2.0, 3.0
KILLS, KILLS_SHORT = 5, 2
PREPARED_PER_S = 600
"""Of each organisation: more than four replicas on two cores have done so far; what goes beyond is signed on the way."""
BUSY_S, BUSY_SHORT_S = 600.0, 30.0
GIVEN_UP_S = 60.0
P50_BAR_MS, RATE_BAR, KILL_BAR_MS = 10.0, 1500.0, 2000.0


@dataclass(slots=True)
class Figures:
    """Of one run; of the sustained load one figure a turn."""

    single: list[float] = field(default_factory=list)
    loaded: list[float] = field(default_factory=list)
    many: list[float] = field(default_factory=list)
    limits: list[Verifying] = field(default_factory=list)
    primary_ms: list[float] = field(default_factory=list)
    backup_ms: list[float] = field(default_factory=list)
    client_ms: list[float] = field(default_factory=list)
    had: list[float] = field(default_factory=list)
    per_block: list[float] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)
    kills: list[float] = field(default_factory=list)
    views_left: int = 0
    busy_s: float = 0.0


def measure(report: Report, *, short: bool) -> None:
    """Turns of one client, of many, and of verifying alone; kills of primaries, and a time in which other work has every core."""
    figures = Figures()
    before = os.getloadavg()[0]
    trio.run(_measure, figures, short)
    _latency(report, figures)
    _throughput(report, figures)
    _where_it_goes(report, figures)
    _failover(report, figures)
    report.notes.append(f"load average of the machine: {before:.1f} before, {os.getloadavg()[0]:.1f} after")


def _latency(report: Report, figures: Figures) -> None:
    p50 = percentile(figures.single, 0.5)
    bar = f"p50 <= {P50_BAR_MS:g} ms"
    report.rows.append(row("transfer, one at a time, through a backup", figures.single, "ms", bar=bar, met=p50 <= P50_BAR_MS))


def _throughput(report: Report, figures: Figures) -> None:
    rate, limit = percentile(figures.many, 0.5), percentile([each.rate / VALIDATORS for each in figures.limits], 0.5)
    what = f"transfers, {VALIDATORS * MANY} in flight"
    report.rows.append(row(what, figures.many, "/s", bar=f">= {RATE_BAR:g} /s", met=rate >= RATE_BAR))
    report.rows.append(row("how long each of them took", figures.loaded, "ms"))
    report.rows.append(row("transfers in a block then", figures.per_block, ""))
    floor = [each.rate / VALIDATORS for each in figures.limits]
    report.rows.append(row("floor: what all cores verify, a quarter of it", floor, "/s"))
    report.rows.append(row("share of the floor reached", [rate / limit * 100], "%"))
    same = min(figures.roots)
    what = "validators with one state root after each turn"
    report.rows.append(row(what, [float(same)], "", bar=f"{VALIDATORS}", met=same == VALIDATORS))


def _where_it_goes(report: Report, figures: Figures) -> None:
    """Processor time says it whatever else the machine does meanwhile."""
    primary, backup = percentile(figures.primary_ms, 0.5), percentile(figures.backup_ms, 0.5)
    verify_ms = percentile([each.cpu_us for each in figures.limits], 0.5) / 1000
    report.rows.append(row("processor time of a transfer: the primary", figures.primary_ms, "ms"))
    report.rows.append(row("processor time of a transfer: a backup", figures.backup_ms, "ms"))
    report.rows.append(row("processor time of a transfer: the client", figures.client_ms, "ms"))
    report.rows.append(row("processor time of one verification", [verify_ms], "ms"))
    report.rows.append(row("of all cores' time, what these five had", figures.had, "%"))
    share = VALIDATORS * verify_ms / (primary + (VALIDATORS - 1) * backup) * 100
    report.rows.append(row("of the validators' processor time, client signatures", [share], "%"))


def _failover(report: Report, figures: Figures) -> None:
    p50 = percentile(figures.kills, 0.5)
    bar = f"p50 <= {KILL_BAR_MS:g} ms"
    report.rows.append(row("kill -9 of the primary to the next commit", figures.kills, "ms", bar=bar, met=p50 <= KILL_BAR_MS))
    left = figures.views_left
    what = f"views left while every core is busy for {figures.busy_s:g} s, and nobody fails"
    report.rows.append(row(what, [float(left)], "", bar="0", met=left == 0))


# -- the turns -------------------------------------------------------------------------------------------------------


async def _measure(figures: Figures, short: bool) -> None:
    turns, kills = (TURNS_SHORT, KILLS_SHORT) if short else (TURNS, KILLS)
    single_s, many_s = (SINGLE_SHORT_S, MANY_SHORT_S) if short else (SINGLE_S, MANY_S)
    with running() as mesh:
        async with trio.open_nursery() as nursery:
            await nursery.start(mesh.client.run)
            await mesh.settled()
            await _turn(mesh, Figures(), 1.0, 1.0)  # warms it
            for _ in range(turns):
                await _turn(mesh, figures, single_s, many_s)
            for _ in range(kills):
                figures.kills.append(await mesh.kill_primary())
            figures.busy_s = BUSY_SHORT_S if short else BUSY_S
            figures.views_left = await _views_left(mesh, figures.busy_s)
            nursery.cancel_scope.cancel()


async def _turn(mesh: "Mesh", figures: Figures, single_s: float, many_s: float) -> None:
    figures.limits.append(await trio.to_thread.run_sync(verifying, VERIFY_S))
    figures.single += (await mesh.submit([mesh.backup()], 1, single_s)).taken_ms
    for payer in mesh.payers:
        payer.prepare(int(PREPARED_PER_S * many_s))
    height = (await mesh.settled())[0].height
    used, own = [cpu_ms(process.pid) for process in mesh.processes], time.process_time()
    submitted = await mesh.submit(mesh.payers, MANY, many_s)
    took = [cpu_ms(process.pid) - before for process, before in zip(mesh.processes, used, strict=True)]
    count = len(submitted.taken_ms)
    own_ms = (time.process_time() - own) * 1000
    figures.client_ms.append(own_ms / count)
    figures.had.append((sum(took) + own_ms) / (submitted.last - submitted.began) / 10 / len(os.sched_getaffinity(0)))
    figures.loaded += submitted.taken_ms
    figures.many.append(submitted.rate())
    primary = took.pop(mesh.nodes.index(mesh.primary))
    figures.primary_ms.append(primary / count)
    figures.backup_ms.append(sum(took) / len(took) / count)
    states = await mesh.settled()
    figures.per_block.append(count / (states[0].height - height))
    figures.roots.append(max(sum(other.root == state.root for other in states) for state in states))


async def _views_left(mesh: "Mesh", seconds: float) -> int:
    """How many views pass while every core is kept busy and transfers go on."""
    before = (await mesh.settled())[0].view
    with every_core_busy(), trio.move_on_after(seconds):
        while True:
            await mesh.submit([mesh.backup()], 1, 1.0)
            await trio.sleep(0.1)
    return (await mesh.settled())[0].view - before


# -- ours ------------------------------------------------------------------------------------------------------------


@contextmanager
def running(validators: int = VALIDATORS) -> Iterator["Mesh"]:
    """So many of the validators in a temporary folder; their processes are ended, whatever happens. Enter it inside of trio."""
    with tempfile.TemporaryDirectory(prefix="mesh-bench-pbft-", ignore_cleanup_errors=True) as name:
        mesh = Mesh(Path(name), validators)
        try:
            yield mesh
        finally:
            for process in mesh.processes:
                process.kill()
                process.wait(10)


class Mesh:
    """The first so many of the four processes, and the client."""

    def __init__(self, folder: Path, validators: int) -> None:
        self._folder = folder
        members = Members.new(free_ports(VALIDATORS + 1))
        members.save(folder)
        self.nodes = [members.peer(number).node for number in range(VALIDATORS)]
        self.processes = [self.start(number) for number in range(validators)]
        self.client = Node(members, VALIDATORS)
        genesis_hash = members.mesh().hash
        self.payers = [Payer(members.key(number), genesis_hash, ORGS[number - 1]) for number in range(VALIDATORS)]
        self.primary = self.nodes[0]

    def start(self, number: int) -> subprocess.Popen[bytes]:
        """A process for the validator ``number``, which goes on with what its folder holds."""
        command = [sys.executable, "-m", "meshos.bench.pbft_node", str(self._folder), str(number)]
        with open(self._folder / f"node{number}.log", "ab") as log:
            return subprocess.Popen(command, stderr=log)

    def backup(self) -> Payer:
        """Who pays through the validator after the primary."""
        return at(self.payers, self.nodes[(self.nodes.index(self.primary) + 1) % VALIDATORS])

    async def submit(self, payers: Sequence[Payer], each: int, seconds: float) -> Submitting:
        """Transactions of ``payers``, ``each`` of every one of them in flight, until all are committed."""
        return await run(self.client.host.deliver, payers, each, seconds)

    async def state(self, node: NodeId) -> State | None:
        """Where ``node`` stands, if it answers."""
        try:
            return State.decode(await self.client.host.perform(Ask(node, STATE, b"", 1.0, retries=0), timeout_s=1.0))
        except MeshError:
            return None

    async def settled(self) -> list[State]:
        """Wait until all that run are at one height in one view, all vote and nothing waits; raises Failed ``bench-command-failed``."""
        count = len(self.processes)
        states: list[State | None] = []
        with trio.move_on_after(GIVEN_UP_S):
            while True:
                states = [await self.state(node) for node in self.nodes[:count]]
                found = [state for state in states if state is not None and not state.silent and not state.waiting]
                if len(found) == count and len({(state.view, state.height) for state in found}) == 1:
                    self.primary = found[0].primary
                    return found
                await trio.sleep(0.05)
        raise Failed("bench-command-failed", f"the {count} validators are not at one height after {GIVEN_UP_S:g} s: {states}")

    async def kill_primary(self) -> float:
        """Milliseconds from its end to the commit of a transaction given to another at once; all are up again afterwards."""
        number, payer = self.nodes.index(self.primary), self.backup()
        payer.prepare(1)
        self.processes[number].kill()
        took = (await self.submit([payer], 1, 0.0)).taken_ms[0]
        self.processes[number].wait(10)
        self.processes[number] = self.start(number)
        await self.settled()
        return took
