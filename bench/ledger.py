"""A validator that joins late: how long until it is where the others are, who go on committing; and what the state tree costs.

The processes of ``mesh bench pbft``: three of four validators commit transfers, and the fourth has never run. It is started with an empty
disk while the three go on, one transfer of each organisation in flight; what these take is compared with before. Then it is killed,
and misses more blocks than are fetched one by one: it comes back by a checkpoint's state, in chunks that are proven by its root.
"""

import contextlib
import os
import sys
import time
from dataclasses import dataclass, field

import trio

from meshos.bench import ledger_tree
from meshos.bench.pbft import Mesh, running
from meshos.bench.pbft_node import VALIDATORS, State
from meshos.bench.report import Report, Row, percentile, row
from meshos.errors import Failed

TRANSACTIONS, TRANSACTIONS_SHORT = 100_000, 5_000
JOINER = VALIDATORS - 1
MANY = 256
"""Of each organisation in flight, while the joiner is not there."""
STRIDE_S = 5.0
"""How often the progress is told."""
PIECE_S = 0.5
"""The others' load while the joiner syncs comes in pieces of so long."""
BEFORE_S, BEFORE_SHORT_S = 10.0, 3.0
BLOCKS_AWAY = 1_024 + 100
"""More than are fetched one by one (``transfer_blocks`` in consensus/pbft/config.py)."""
LOOK_S = 0.05
SYNC_BAR_S, STALL_BAR_MS = 60.0, 2000.0
GIVE_UP_S = 300.0


@dataclass(slots=True)
class Synced:
    """One time that the joiner caught up. ``before`` and ``during`` are how long the others' transfers took, in milliseconds."""

    what: str
    transactions: int
    was: int = 0
    """The height that the joiner had."""
    blocks: int = 0
    took_s: float = 0.0
    same_root: bool = False
    before: list[float] = field(default_factory=list)
    during: list[float] = field(default_factory=list)


def measure(report: Report, *, short: bool, transactions: int | None = None) -> None:
    """The late joiner, twice; then the tree."""
    count = transactions if transactions is not None else TRANSACTIONS_SHORT if short else TRANSACTIONS
    load = os.getloadavg()[0]
    synced: list[Synced] = []
    trio.run(_measure, synced, count, BEFORE_SHORT_S if short else BEFORE_S)
    for each in synced:
        _rows(report, each)
    report.notes.append(f"load average of the machine: {load:.1f} before, {os.getloadavg()[0]:.1f} after the late joiner")
    ledger_tree.measure(report, short=short)


def _rows(report: Report, synced: Synced) -> None:
    what = f"{synced.what}, {synced.transactions:,} transactions in {synced.blocks:,} blocks behind"
    report.rows.append(
        row(
            f"{what}: from its start to the others' height", [synced.took_s], "s", bar=f"< {SYNC_BAR_S:g} s", met=synced.took_s < SYNC_BAR_S
        )
    )
    report.rows.append(Row("the same state root then", float(synced.same_root), "", bar="1", met=synced.same_root))
    worst = max(synced.during, default=float("inf"))
    ratio = percentile(synced.during, 0.5) / percentile(synced.before, 0.5)
    report.rows.append(row("the others' transfers, before", synced.before, "ms"))
    report.rows.append(row("the others' transfers, meanwhile", synced.during, "ms", note=f"p50 {ratio:.2f} times that before"))
    bar = f"<= {STALL_BAR_MS:g} ms"
    report.rows.append(row("the longest of these", [worst], "ms", bar=bar, met=worst <= STALL_BAR_MS))


# -- the joiner ------------------------------------------------------------------------------------------------------


async def _measure(synced: list[Synced], count: int, before_s: float) -> None:
    with running(JOINER) as mesh:
        async with trio.open_nursery() as nursery:
            await nursery.start(mesh.client.run)
            await mesh.settled()
            done = await _commit(mesh, count)
            synced.append(await _sync(mesh, Synced("a new validator", done), before_s))
            mesh.processes[JOINER].kill()
            mesh.processes.pop(JOINER).wait(10)
            was = (await mesh.settled())[0].height
            done = await _miss(mesh, BLOCKS_AWAY)
            synced.append(await _sync(mesh, Synced("one that was down", done, was), before_s))
            nursery.cancel_scope.cancel()


async def _commit(mesh: Mesh, count: int) -> int:
    """Have the three commit ``count`` transfers, and a few more."""
    done, began = 0, time.monotonic()
    while done < count:
        done += len((await mesh.submit(mesh.payers[:JOINER], MANY, min(STRIDE_S, count / 2_000))).taken_ms)
        took = time.monotonic() - began
        _say(f"{took:6.1f} s  {done:,} of {count:,} transactions committed, {done / took:,.0f}/s")
    return done


async def _miss(mesh: Mesh, blocks: int) -> int:
    """Have the three commit so many blocks, with a few transfers in each."""
    done, began, first = 0, time.monotonic(), (await mesh.settled())[0].height
    while (height := (await mesh.settled())[0].height) < first + blocks:
        if time.monotonic() > began + GIVE_UP_S:
            raise Failed("bench-command-failed", f"the three committed {height - first} of {blocks} blocks in {GIVE_UP_S:g} s")
        done += len((await mesh.submit(mesh.payers[:JOINER], 1, STRIDE_S)).taken_ms)
        _say(f"{time.monotonic() - began:6.1f} s  {height - first:,} of {blocks:,} blocks")
    return done


async def _sync(mesh: Mesh, synced: Synced, before_s: float) -> Synced:
    """Start the joiner while the others go on; back when it is where they are, and all vote."""
    synced.before += (await mesh.submit(mesh.payers[:JOINER], 1, before_s)).taken_ms
    synced.blocks = (await mesh.settled())[0].height - synced.was
    there = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_go_on, mesh, synced, there)
        began = time.monotonic()
        mesh.processes.append(mesh.start(JOINER))
        synced.same_root = await _there(mesh, began)
        synced.took_s = time.monotonic() - began
        _say(f"{synced.took_s:6.1f} s  {synced.what} is where the others are")
        there.set()
    states = await mesh.settled()
    synced.same_root = synced.same_root and len({state.root for state in states}) == 1
    return synced


async def _go_on(mesh: Mesh, synced: Synced, there: trio.Event) -> None:
    while not there.is_set():
        synced.during += (await mesh.submit(mesh.payers[:JOINER], 1, PIECE_S)).taken_ms


async def _there(mesh: Mesh, began: float) -> bool:
    """Wait until the joiner is as high as another was just before; whether their roots were the same where both were seen."""
    roots: dict[int, bytes] = {}
    same: list[bool] = []
    while time.monotonic() < began + GIVE_UP_S:
        other, joiner = await mesh.state(mesh.nodes[0]), await mesh.state(mesh.nodes[JOINER])
        for state in (other, joiner):
            if state is not None:
                same.append(roots.setdefault(state.height, state.root) == state.root)
        if _caught_up(other, joiner):
            return all(same)
        await trio.sleep(LOOK_S)
    raise Failed("bench-command-failed", f"after {GIVE_UP_S:g} s the joiner is at {joiner}, another at {other}")


def _caught_up(other: State | None, joiner: State | None) -> bool:
    return other is not None and joiner is not None and joiner.height >= other.height


def _say(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(text, file=sys.stderr, flush=True)
