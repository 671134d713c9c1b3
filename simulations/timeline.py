"""A run as a page: nodes as lanes, time downwards, messages, faults, what machines were, and what was violated.

A ``Tracer`` watches a run and keeps what a page can show: of the messages all of the last ones, since a violation ends a run, and
a fair sample of each kind before (Vitter's algorithm R, ACM TOMS 1985), so that a page stays small however long the run was.
``page`` puts that into ``timeline.html``, one file that loads nothing from anywhere. Times in it are whole tenths of milliseconds.
"""

import json
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from meshos.ids import NodeId
from meshos.simulations.faults import Disk, Fault, Heal, Mend, OneWay, Partition, Ring, SlowDisk, Weather, in_words
from meshos.simulations.faults.schedule import nodes_named
from meshos.simulations.marks import Mark, Watched
from meshos.simulations.run import Observer, Report, Scenario, run
from meshos.simulations.scenario_files import chosen
from meshos.simulations.world import SimNode, World

LAST = 6000
"""Messages at the end that are all kept."""
SAMPLED = 800
"""Messages of each kind that are kept of what was before."""
MAX_KINDS = 40
MAX_MARKS = 8000
MAX_STATES = 2000
"""Changes of one state over all nodes: a view changes seldom, a commit index all the time."""
MAX_STATE_NAMES = 8
MAX_TEXT = 160
"""Characters of a mark; a page of all of them is below two megabytes."""

TEMPLATE = Path(__file__).with_name("timeline.html")


@dataclass(frozen=True, slots=True)
class Sent:
    """A message: when it was sent, when it arrives (before that where it is lost), from which node to which, of which kind."""

    at: float
    arrives: float
    source: NodeId
    target: NodeId
    kind: str


@dataclass(slots=True)
class Sample:
    """A fair choice of at most SAMPLED messages out of all that were offered."""

    offered: int = 0
    kept: list[Sent] = field(default_factory=list)

    def offer(self, sent: Sent, rng: random.Random) -> None:
        """Keep it, perhaps in the place of another."""
        self.offered += 1
        if len(self.kept) < SAMPLED:
            self.kept.append(sent)
        elif (place := rng.randrange(self.offered)) < SAMPLED:
            self.kept[place] = sent


class Tracer:
    """Watches a world; see ``World.tracer``. It changes nothing in it, and draws no chance from it."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._rng = random.Random(0)
        self._last: deque[Sent] = deque()
        self._samples: dict[str, Sample] = {}
        self.messages = 0
        self.lives: list[tuple[float, str, str]] = []
        self._states: dict[str, deque[tuple[float, str, str, str]]] = {}
        self.marks: deque[tuple[float, str, str, str]] = deque(maxlen=MAX_MARKS)
        self._now: dict[tuple[str, str], str] = {}

    def sent(self, now: float, arrives: float, source: NodeId, target: NodeId, message: object) -> None:
        """A message went out."""
        self.messages += 1
        protocol = getattr(message, "protocol", "")
        kind = f"{type(message).__name__} {protocol}".strip()
        self._last.append(Sent(now, arrives, source, target, kind))
        if len(self._last) > LAST:
            old = self._last.popleft()
            kind = old.kind if old.kind in self._samples or len(self._samples) < MAX_KINDS else "others"
            self._samples.setdefault(kind, Sample()).offer(old, self._rng)

    def life(self, now: float, node: NodeId, what: str) -> None:
        """A node was started, crashed, paused or resumed."""
        self.lives.append((now, node, what))

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """After each step: what the scenario wants to be seen of it."""
        for each in self._watched(node, machine, event, effects):
            if isinstance(each, Mark):
                self.marks.append((node.world.now, node.name, each.kind, each.text[:MAX_TEXT]))
            elif self._now.get((node.name, each.name), "") != each.value:
                self._now[node.name, each.name] = each.value
                if each.name in self._states or len(self._states) < MAX_STATE_NAMES:
                    changes = self._states.setdefault(each.name, deque(maxlen=MAX_STATES))
                    changes.append((node.world.now, node.name, each.name, each.value[:MAX_TEXT]))

    @property
    def states(self) -> list[tuple[float, str, str, str]]:
        """The last changes of each state: when, of which node, which state, its value."""
        return sorted(row for changes in self._states.values() for row in changes)

    def kept(self) -> list[Sent]:
        """Every message that is shown, in the order of sending."""
        sampled = [sent for sample in self._samples.values() for sent in sample.kept]
        return sorted([*sampled, *self._last], key=lambda sent: sent.at)


def traced(report: Report) -> str:
    """The page of a run: it is run once more, step by step the same, with a tracer."""
    scenario = chosen(report.scenario).scenario
    tracer, nodes = Tracer(scenario.marks), list[NodeId]()

    def watch(scenario: Scenario, world: World) -> Observer:
        world.tracer = tracer
        nodes.extend(world.nodes)
        return tracer.observe

    again = run(scenario, report.seed, nodes=report.nodes, until_s=report.until_s, schedule=report.schedule, tracer=watch)
    return page(again, tracer, nodes)


def page(report: Report, tracer: Tracer, nodes: Sequence[NodeId]) -> str:
    """The whole page."""
    data = json.dumps(_document(report, tracer, list(nodes)), separators=(",", ":"), ensure_ascii=True)
    return TEMPLATE.read_text(encoding="utf-8").replace("/*DATA*/null", data.replace("<", "\\u003c"))


def _document(report: Report, tracer: Tracer, nodes: list[NodeId]) -> dict[str, object]:
    index = {node: at for at, node in enumerate(nodes)}
    kept = [sent for sent in tracer.kept() if sent.source in index and sent.target in index]
    kinds = sorted({sent.kind for sent in kept})
    kind_at = {kind: at for at, kind in enumerate(kinds)}
    end = max(report.at_s, 0.001)
    return {
        "scenario": report.scenario,
        "seed": report.seed,
        "verdict": report.verdict,
        "message": report.message,
        "checker": report.checker,
        "nodes": nodes,
        "end": _tick(end),
        "kinds": kinds,
        "messages": {
            "at": [_tick(sent.at) for sent in kept],
            "takes": [_tick(sent.arrives) - _tick(sent.at) if sent.arrives >= sent.at else -1 for sent in kept],
            "from": [index[sent.source] for sent in kept],
            "to": [index[sent.target] for sent in kept],
            "kind": [kind_at[sent.kind] for sent in kept],
        },
        "sent": tracer.messages,
        "faults": [_fault(row, report.schedule[at + 1 :], end, index) for at, row in enumerate(report.schedule) if row[0] <= end],
        "lives": [[_tick(at), index[NodeId(node)], what] for at, node, what in tracer.lives],
        "states": [[_tick(at), index[NodeId(node)], name, value] for at, node, name, value in tracer.states],
        "marks": [[_tick(at), index[NodeId(node)], kind, text] for at, node, kind, text in tracer.marks],
    }


def _tick(seconds: float) -> int:
    return round(seconds * 10_000)


def _fault(row: tuple[float, Fault], later: Sequence[tuple[float, Fault]], end: float, index: dict[NodeId, int]) -> dict[str, object]:
    at, fault = row
    named = [index[NodeId(node)] for node in nodes_named(fault) if node in index]
    own = isinstance(getattr(fault, "node", None), str)  # a fault of one node stands in its lane, one of the mesh beside all of them
    return {"at": _tick(at), "to": _tick(min(end, _until(row, later, end))), "words": in_words(fault), "nodes": named, "own": own}


def _until(row: tuple[float, Fault], later: Sequence[tuple[float, Fault]], end: float) -> float:
    """When a fault is over, as far as that can be said of it; its own time for what happens in a moment."""
    at, fault = row
    for_s = next((getattr(fault, each.name) for each in fields(fault) if each.name == "for_s"), None)  # type: ignore[arg-type]
    if isinstance(for_s, float):
        return at + for_s
    if isinstance(fault, Partition | OneWay | Ring):
        return next((time for time, other in later if isinstance(other, Heal | Mend)), end)
    if isinstance(fault, Weather) and (fault.loss or fault.spike or fault.duplication):
        return next((time for time, other in later if isinstance(other, Weather | Mend)), end)
    if (isinstance(fault, Disk) and fault.error_rate) or (isinstance(fault, SlowDisk) and fault.takes_s):
        same = (time for time, other in later if isinstance(other, Mend) or (type(other) is type(fault) and _of(other) == fault.node))
        return next(same, end)
    return at


def _of(fault: Fault) -> object:
    return getattr(fault, "node", None)
