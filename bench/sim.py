"""Virtual seconds per real second, with the real lan preset: of membership alone, and of whole nodes at work; and how a thousand nodes that
start together find each other."""

import time

from meshos.bench.report import Report, row
from meshos.presets import LAN
from meshos.simulations.ledger.work import LedgerWork
from meshos.simulations.mesh import Mesh
from meshos.simulations.work import CallWork
from meshos.simulations.world import World

SPEED_BAR = 150.0
WHOLE_BAR = 50.0
WHOLE_NODES = 4
CONVERGED_BAR_S = 60.0


def measure(report: Report, *, short: bool) -> None:
    """100 nodes after they have met; 1,000 nodes from nothing (not in a short run)."""
    speeds = [_speed(100, seed, 20.0 if short else 60.0) for seed in range(1, 2 if short else 4)]
    speed = sorted(speeds)[len(speeds) // 2]
    report.rows.append(
        row("100 nodes, membership, lan", speeds, "x real time", bar=f">= {SPEED_BAR:g}", met=speed >= SPEED_BAR, note="one core")
    )
    whole = [_whole_speed(seed, 20.0 if short else 60.0) for seed in range(1, 2 if short else 4)]
    report.rows.append(
        row(
            "4 organisations, one call and one transaction an organisation and second",
            whole,
            "x real time",
            bar=f">= {WHOLE_BAR:g}",
            met=sorted(whole)[len(whole) // 2] >= WHOLE_BAR,
            note="one core",
        )
    )
    if not short:
        seconds, took_s = _converged(1000)
        report.rows.append(
            row(
                "1,000 nodes started together all see all",
                [seconds],
                "virtual s",
                bar=f"<= {CONVERGED_BAR_S:g} s",
                met=seconds <= CONVERGED_BAR_S,
            )
        )
        report.notes.append(f"1,000 nodes: {took_s:.0f} s of real time, {took_s and seconds / took_s:.2f} times real time while they meet")


def _world(nodes: int, seed: int) -> Mesh:
    world = World(seed)
    mesh = Mesh(world, nodes, timing=LAN, orgs=8, whole=False)
    for node in world.nodes.values():
        node.start()
    return mesh


def _speed(nodes: int, seed: int, virtual_s: float) -> float:
    mesh = _world(nodes, seed)
    world = mesh.world
    world.run(30.0)
    began = time.perf_counter()
    world.run(world.now + virtual_s)
    return virtual_s / (time.perf_counter() - began)


def _whole_speed(seed: int, virtual_s: float) -> float:
    """Every node with all of its machines, no faults, and no checkers."""
    world = World(seed)
    mesh = Mesh(world, WHOLE_NODES, timing=LAN, whole=True)
    calls = CallWork(mesh, until_s=1e9, every_s=1.0 / WHOLE_NODES)
    LedgerWork(mesh, calls.asking, until_s=1e9, every_s=1.0)
    for node in world.nodes.values():
        node.start()
    world.run(30.0)
    began = time.perf_counter()
    world.run(world.now + virtual_s)
    return virtual_s / (time.perf_counter() - began)


def _converged(nodes: int) -> tuple[float, float]:
    """Virtual seconds until every node sees every node alive, looked at four times a second; and the real time it took."""
    mesh = _world(nodes, 1)
    began = time.perf_counter()
    while mesh.world.now < 2 * CONVERGED_BAR_S:
        mesh.world.run(mesh.world.now + 0.25)
        if all(mesh.membership(node).statistics()["live"] == nodes for node in mesh.ids):
            break
    return mesh.world.now, time.perf_counter() - began
