"""kill -9 of random real processes under load, with a restart after each: is everything there that was acknowledged, and only once?

Four organisations, one of them of three nodes, as the product's own processes. At each, one client moves MESH and one calls agents of the
others, which ask a price and write down each run; each operation has a key and is repeated until it is answered. Meanwhile nodes
are killed as the seed says: one, several, or all at once; started again soon or late; killed again while they start. In the end all
are left alone, every acknowledged task is asked after at its provider, the nodes are stopped, and their disks are audited.
"""

import contextlib
import http.client
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml import YAML

from meshos.bench.asker import Asker
from meshos.bench.report import Report, Row, row
from meshos.bench.soak_audit import Asked, Evidence, Findings, Run, audit
from meshos.bench.soak_books import read_books
from meshos.bench.soak_load import DONE, UNSURE, Load, Operation
from meshos.bench.soak_mesh import Mesh, mesh

MINUTES, SHORT_MINUTES = 10.0, 0.4
DRAIN_S = 150.0
"""An operation is answered within so much once all nodes are back: a transaction that lapsed takes a minute, and its filler some more."""
MOVES_S = 120.0
"""Some transfer is acknowledged within so much after all nodes are back."""
RECORDER = Path(__file__).resolve().parent / "soak_agent"
LOOK_S = 10.0
SHOWN = 40
"""Findings that are told one by one."""


@dataclass(frozen=True, slots=True)
class Kill:
    """After ``pause_s`` of peace these are killed, and started ``down_s`` later; one of them again ``again_s`` after that, if at all."""

    pause_s: float
    victims: tuple[str, ...]
    down_s: float
    again_s: float | None


def plan(seed: int, names: Sequence[str]) -> Iterator[Kill]:
    """What ``seed`` has in store for the nodes of these names, without end."""
    dice = random.Random(seed)
    while True:
        many = dice.random()
        count = 1 if many < 0.7 else len(names) if many > 0.93 else dice.randint(2, len(names) - 1)
        victims = tuple(sorted(dice.sample(list(names), count)))
        long = dice.random() < 0.1
        down_s = dice.uniform(8.0, 20.0) if long else dice.choice((0.0, dice.uniform(0.0, 3.0)))
        again_s = dice.uniform(0.1, 3.0) if dice.random() < 0.25 else None
        yield Kill(dice.uniform(0.5, 5.0), victims, down_s, again_s)


@dataclass(slots=True)
class Soaked:
    """What came of it. ``stuck`` says who ended by itself, and what did not come in time; ``gaps_ms`` is by whether one node was
    killed, or several.
    """

    killed: int = 0
    kills: list[tuple[float, Kill]] = field(default_factory=list)
    gaps_ms: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})
    back_s: list[float] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)
    load: Load | None = None
    loaded_s: float = 0.0


def measure(report: Report, *, short: bool, minutes: float | None = None, seed: int | None = None) -> None:
    """Soak it, and add what was found. The folder of a mesh in which something was found stays."""
    chosen = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    report.command += "" if seed is not None else f" --seed {chosen}"
    lasting = minutes if minutes is not None else SHORT_MINUTES if short else MINUTES
    soaked = Soaked()
    with mesh(_say) as (live, keep):
        _soak(live, soaked, chosen, lasting * 60)
        if soaked.stuck or soaked.findings.all():
            keep()
            report.notes.append(f"the nodes' folders, with node.log in each and what was acknowledged, are kept in {live.folder.parent}")
    _rows(report, soaked)
    report.notes.append(f"seed {chosen}: the same nodes are killed after the same pauses; what they do meanwhile is as it comes")


def _soak(live: Mesh, soaked: Soaked, seed: int, seconds: float) -> None:
    agent = YAML(typ="safe").load(RECORDER / "agent.yaml")
    agents = {org: live.deploy(org, agent, RECORDER) for org in dict.fromkeys(node.org for node in live.nodes)}
    load = soaked.load = Load(live.folder.parent)
    load.start(live.validators, agents)
    began = time.monotonic()
    try:
        if load.wait_transfer(began, MOVES_S) is None:
            soaked.stuck.append(f"nothing was acknowledged within {MOVES_S:g} s of the start")
        for kill in plan(seed, live.names):
            time.sleep(kill.pause_s)
            soaked.stuck += live.ended()
            if soaked.stuck or time.monotonic() - began > seconds:
                break
            _round(live, load, soaked, kill, began)
        _say(f"{time.monotonic() - began:6.1f} s  left alone: clients finish what they have begun")
    finally:
        load.stop.set()
    load.end(DRAIN_S)
    soaked.loaded_s = time.monotonic() - began
    soaked.stuck += live.ended()
    heads, same = live.settled()
    if not same:
        soaked.stuck.append(f"the nodes do not come to one block: {heads}")
    soaked.findings = audit(_evidence(live, load, soaked))
    soaked.errors = live.errors()
    for finding in [*soaked.stuck, *soaked.findings.all()][:SHOWN]:
        _say(f"x {finding}")


def _round(live: Mesh, load: Load, soaked: Soaked, kill: Kill, began: float) -> None:
    at = time.monotonic()
    soaked.kills.append((at, kill))
    live.kill(kill.victims)
    time.sleep(kill.down_s)
    live.start(kill.victims)
    if kill.again_s is not None:
        time.sleep(kill.again_s)
        live.kill(kill.victims[:1])
        live.start(kill.victims[:1])
    started = time.monotonic()
    why = live.wait_ready(kill.victims)
    soaked.killed += len(kill.victims) + (kill.again_s is not None)
    if why:
        soaked.stuck.append(why)
        return
    soaked.back_s.append(time.monotonic() - started)
    next_ = load.wait_transfer(at, MOVES_S)
    if next_ is None:
        soaked.stuck.append(f"nothing was acknowledged within {MOVES_S:g} s after {', '.join(kill.victims)} were back")
        return
    soaked.gaps_ms[len(kill.victims) == 1].append((next_ - at) * 1000)
    again = "" if kill.again_s is None else f", {kill.victims[0]} again after {kill.again_s:.1f} s"
    _say(f"{at - began:6.1f} s  kill -9 {' '.join(kill.victims)}, down {kill.down_s:.1f} s{again}: next transfer after {next_ - at:.2f} s")


# -- what is found ---------------------------------------------------------------------------------------------------


def _evidence(live: Mesh, load: Load, soaked: Soaked) -> Evidence:
    asked = _ask_after(live, load, soaked)
    late = live.stop()
    if late:
        soaked.stuck.append(f"{', '.join(late)} did not leave when told to")
    return Evidence(
        dids={node.org: node.did for node in live.nodes},
        org_of={node.name: node.org for node in live.nodes},
        keys={node.name: node.node_id for node in live.nodes},
        transfers=load.transfers,
        tasks=load.tasks,
        runs=[run for name in live.names for run in _runs(live, name)],
        asked=asked,
        books=[read_books(name, live.data(name)) for name in live.names],
    )


def _ask_after(live: Mesh, load: Load, soaked: Soaked) -> dict[str, list[Asked]]:
    """What each node of its provider says of each task that has an end."""
    ended = [task for task in load.tasks if task.outcome]
    _say(f"{len(ended)} tasks are asked after at their providers")
    found: dict[str, list[Asked]] = {}
    for node in live.nodes:
        asker = Asker(node)
        for task in [task for task in ended if task.to == node.org]:
            try:
                said = _asked(node.name, *asker.get(f"/v1/tasks/{task.id}", LOOK_S))
            except (OSError, http.client.HTTPException, ValueError) as error:
                soaked.stuck.append(f"{node.name} does not say what became of {task.id}: {error}")
                break
            found.setdefault(task.key, []).append(said)
    return found


def _asked(node: str, status: int, answer: dict[str, object]) -> Asked:
    receipt = answer.get("receipt")
    signed = str(receipt["signed"]) if isinstance(receipt, dict) else ""
    return Asked(node, str(answer.get("status" if status == 200 else "name")), str(answer.get("result") or ""), signed)


def _runs(live: Mesh, name: str) -> Iterator[Run]:
    node = live.node(name)
    for file in Path(node.dir).glob("agents/*/*/home/executions"):
        for line in file.read_text().splitlines():
            key, _, word = line.partition(" ")
            yield Run(node.org, key, word)


def _rows(report: Report, soaked: Soaked) -> None:
    load, findings = soaked.load, soaked.findings
    assert load is not None
    done = [one for one in load.transfers if one.outcome == DONE]
    tasks = [one for one in load.tasks if one.outcome == DONE]
    unsure = sum(one.outcome == UNSURE for one in load.tasks)
    errors = soaked.errors
    rounds = sum(map(len, soaked.gaps_ms.values()))
    report.rows += [
        Row("processes killed", soaked.killed, "", count=rounds),
        Row("transfers acknowledged", len(done), "", note=f"{len(load.transfers)} begun, {len(done) / soaked.loaded_s:.0f}/s over all"),
        Row(
            "tasks acknowledged",
            len(tasks),
            "",
            note=f"{len(load.tasks)} begun; of {unsure} their providers have recorded that nobody knows",
        ),
        row("one node killed, to the next transfer acknowledged", soaked.gaps_ms[True], "ms"),
        row("several killed at once, to the next transfer acknowledged", soaked.gaps_ms[False], "ms"),
        row("a node killed, to the next transfer acknowledged to its own client", own_gaps(load.transfers, soaked.kills), "ms"),
        row("a transfer, from the first try to its acknowledgement", [(one.ended - one.asked) * 1000 for one in done], "ms"),
        row("a task, likewise", [(one.ended - one.asked) * 1000 for one in tasks], "ms"),
        row("ready again after the start", soaked.back_s, "s"),
        Row("errors in the nodes' logs", len(errors), "", note="; ".join(errors[:3])),
        *(
            Row(what, len(found), "", bar="0", met=not found, note="; ".join(found[:3]))
            for what, found in (
                ("acknowledged operations lost", findings.lost),
                ("done, run or settled twice", findings.twice),
                ("replicas that are not at one block with one state root", findings.apart),
                ("accounts that do not follow from the blocks", findings.tokens),
                ("operations without an answer in the end", findings.unanswered),
                ("nodes that ended, and what did not come in time", soaked.stuck),
            )
        ),
    ]


def own_gaps(transfers: Sequence[Operation], kills: Sequence[tuple[float, Kill]]) -> list[float]:
    """For each node that was killed and has a client, milliseconds until that client was next told that a transfer is done."""
    gaps = []
    for at, kill in kills:
        for victim in kill.victims:
            told = min((one.ended for one in transfers if one.node == victim and one.outcome == DONE and one.ended >= at), default=None)
            if told is not None:
                gaps.append((told - at) * 1000)
    return gaps


def _say(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(text, file=sys.stderr, flush=True)
