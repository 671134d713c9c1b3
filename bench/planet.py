"""The directory in cells on a thousand simulated nodes all over the world: how soon a question is answered, and with what, while all is
well, while a tenth of the nodes lies, while a fifth is gone, and through churn and a mesh cut in two.

The machines and Flows are those of a node, over PlanetLab's round-trip times; time is virtual. Signatures and membership are simulated
(news of who is gone comes as late as the preset wan has it), the sentence model is a table and charged with 12 ms. Records are laid at
their owners and holders, and summaries and links are there, as after an hour at rest: handing records over is tested where it belongs
(tests/directory/test_layout.py), and would be hours of the same here.

*Recall* is the share of the ten best of one exact ranking over all records that is shown in its newest version.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from meshos.bench import planet_page
from meshos.bench.planet_material import Material, material, ways
from meshos.bench.report import Report, Row, percentile, row
from meshos.ids import NodeId
from meshos.simulations.directory import liars
from meshos.simulations.directory.mesh import DirectoryMesh
from meshos.simulations.directory.questions import Asked, Questions
from meshos.simulations.network import NetworkFaults

NODES, SHORT_NODES = 1000, 60
EVERY_S, CHURN_EVERY_S = 0.2, 0.5
"""Between two questions, and while nodes come and go."""
HALF = 2
"""While a fifth is gone every other question is asked, so that all come before anybody has noticed."""
COLD = 60
"""Questions that are asked before any link is there."""
JITTER_S = (0.0, 0.002)
NOTICED_S = (60.0, 75.0)
"""After so long a node hears that others are gone, or back: the shortest suspicion of the preset wan, and a round of gossip."""
SETTLE_S = 20.0
"""After all have heard: rounds with the other holders, so that whoever holds a cell newly holds it in full."""
KILLED, LYING = 0.2, 0.1
CHURN_S, DOWN_S = 3.0, 90.0
"""Under churn a node goes this often, and comes back after so long: later than it is noticed to be gone."""
CHURNED_S, PARTED_S, HEALED_S = 60.0, 120.0, 100.0
QUIET_P99_MS, KILLED_P99_MS, RECALL_BAR = 1000.0, 1500.0, 0.93
SLICE_S = 10.0


def measure(report: Report, *, short: bool, seed: int = 1, page: Path | None = None) -> None:
    """All phases in one run of one mesh; a short run has few nodes and records, so its figures say nothing."""
    began = time.perf_counter()
    nodes = SHORT_NODES if short else NODES
    given = material(seed, nodes, short=short)
    far = ways(nodes, seed)
    ready_s = time.perf_counter() - began
    faults = NetworkFaults(latency_s=JITTER_S, way_s=far.way_s)
    mesh = DirectoryMesh(seed, nodes, given.codebook, given.readings, faults, NOTICED_S)
    mesh.lay(given.laid)
    mesh.tell_summaries(given.summaries)
    run = _Run(report, mesh, given, Questions(mesh, given.questions, given.exact, lambda _: 2), random.Random(f"{seed}/planet"), short)
    for phase in (_quiet, _lied_to, _killed, _churned):
        phase(run)
    took_s = time.perf_counter() - began - ready_s
    report.notes.append(
        f"{nodes} nodes, {len(given.laid)} records of {given.codebook.cells} cells, {len(run.questions.asked)} questions, seed {seed}: "
        f"{mesh.world.now:.0f} virtual s in {took_s:.0f} s, and {ready_s:.0f} s to read, embed and rank before"
    )
    if page is not None:
        page.write_text(planet_page.page(run.questions.asked, SLICE_S), encoding="utf-8")
        report.notes.append(f"recall, completeness and time over virtual time: {page}")


@dataclass(slots=True)
class _Run:
    report: Report
    mesh: DirectoryMesh
    given: Material
    questions: Questions
    dice: random.Random
    short: bool

    def ask(self, phase: str, count: int | None = None, step: int = 1) -> list[Asked]:
        """All questions once, or every ``step``-th of the first ``count`` of them."""
        return self.questions.ask(phase, range(len(self.given.questions))[:count:step], EVERY_S)

    def wait(self, seconds: float) -> None:
        """Nobody asks."""
        self.mesh.world.run(self.mesh.world.now + seconds)

    def tell(self, asked: Sequence[Asked], p99_ms: float | None, recall: float | None) -> None:
        """The rows of a phase; ``p99_ms`` and ``recall`` are its bars."""
        what = asked[0].phase
        took_ms = [1e3 * one.took_s for one in asked]
        worst, found = percentile(took_ms, 0.99), _mean([one.recall for one in asked])
        bar = "" if p99_ms is None else f"p99 < {p99_ms:g} ms"
        self.report.rows += [
            row(f"{what}: until it is answered", took_ms, "ms", bar=bar, met=self.met(None if p99_ms is None else worst < p99_ms)),
            Row(
                f"{what}: recall@10",
                found,
                "",
                count=len(asked),
                bar="" if recall is None else f">= {recall:g}",
                met=self.met(None if recall is None else found >= recall),
            ),
            Row(f"{what}: answers that say they are complete", _mean([float(one.complete) for one in asked]), "", count=len(asked)),
        ]
        complete = [one.recall for one in asked if one.complete]
        if len(complete) < len(asked):
            lacking = [one.missing / max(1, one.cells) for one in asked]
            self.report.rows += [
                Row(f"{what}: recall@10 of those", _mean(complete), "", count=len(complete)),
                Row(f"{what}: cells without an answer, share", _mean(lacking), "", count=len(asked)),
            ]

    def met(self, met: bool | None) -> bool | None:
        """Nothing is held to a bar in a short run."""
        return None if self.short else met


def _quiet(run: _Run) -> None:
    run.wait(5.0)
    run.tell(run.ask("no links yet", COLD), None, None)
    run.mesh.link()
    asked = run.ask("quiet")
    run.tell(asked, QUIET_P99_MS, None)
    run.report.rows.append(row("cells asked", [one.cells for one in asked], ""))


def _killed(run: _Run) -> None:
    gone = run.dice.sample(run.mesh.ids, round(KILLED * len(run.mesh.ids)))
    for node in gone:
        run.mesh.world.nodes[node].crash()
    run.mesh.changed()
    unnoticed = run.ask("a fifth killed, unnoticed", step=HALF)
    run.tell(unnoticed, KILLED_P99_MS, RECALL_BAR)
    run.wait(max(0.0, NOTICED_S[1] - EVERY_S * len(unnoticed)) + SETTLE_S)
    run.tell(run.ask("a fifth killed, noticed", step=HALF), KILLED_P99_MS, RECALL_BAR)
    for node in gone:
        run.mesh.world.nodes[node].start()
    run.mesh.changed()  # which the others hear of under churn


def _lied_to(run: _Run) -> None:
    lies = (liars.drop, liars.stale(run.given.former), liars.forge, liars.inflate)
    lying = run.dice.sample(run.mesh.ids, round(LYING * len(run.mesh.ids)))
    run.mesh.lies = {node: liars.lie(change) for node, change in zip(lying, cycle(lies), strict=False)}
    asked = run.ask("a tenth lies")
    run.mesh.lies = {}
    run.tell(asked, None, RECALL_BAR)
    back = sum(one.back for one in asked)
    run.report.rows += [
        Row("a tenth lies: shown in an old version, share", _mean([one.outdated / 10 for one in asked]), ""),
        Row("a tenth lies: shown in an older version than before", float(back), "", bar="0", met=run.met(not back)),
    ]


def _churned(run: _Run) -> None:
    _Churn(run).go()


class _Churn:
    """Nodes go and come back all the time; after a while the mesh is cut in two, and heals."""

    def __init__(self, run: _Run) -> None:
        self._run, self._mesh, self._world = run, run.mesh, run.mesh.world
        self._far: frozenset[NodeId] = frozenset()
        self._next = self._world.now
        self._down: list[tuple[float, NodeId]] = []
        self._numbers = cycle(range(len(run.given.questions)))

    def go(self) -> None:
        """All of it."""
        shrink = 0.2 if self._run.short else 1.0
        self._tell("churn", CHURNED_S * shrink)
        ids = self._mesh.ids
        self._far = frozenset(self._run.dice.sample(ids, len(ids) // 2))
        near = frozenset(ids) - self._far
        self._world.network.faults.partition([sorted(near), sorted(self._far)])
        self._mesh.changed(self._far)
        self._tell("cut in two", PARTED_S * shrink)
        self._world.network.faults.heal()
        self._far = frozenset()
        self._mesh.changed()
        self._tell("healed", HEALED_S * shrink)

    def _tell(self, phase: str, seconds: float) -> None:
        numbers = list(islice(self._numbers, round(seconds / CHURN_EVERY_S)))
        self._run.tell(self._run.questions.ask(phase, numbers, CHURN_EVERY_S, self._happen), None, None)

    def _happen(self) -> None:
        now, changed = self._world.now, False
        while self._down and self._down[0][0] <= now:
            self._world.nodes[self._down.pop(0)[1]].start()
            changed = True
        if self._next <= now:
            self._next = now + CHURN_S
            node = self._run.dice.choice([node for node in self._mesh.ids if self._world.nodes[node].alive])
            self._world.nodes[node].crash()
            self._down.append((now + DOWN_S, node))
            changed = True
        if changed:
            self._mesh.changed(self._far)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))
