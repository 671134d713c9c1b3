"""A network of rpc machines in virtual time: latency, loss, doubling, reordering, links that come and go, all from one seed.

Services run in the real ``Flows`` machine of each node.
"""

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from meshos.effects import Completed, Err, Report, Tell, Tick
from meshos.flow import Ask
from meshos.flow_machine import Flows, Perform, Service
from meshos.ids import NodeId, OrgDid, Peer
from meshos.protocols.rpc.events import LinkDown, LinkUp, Message, MessageReceived, NotSent, OpenLink, Reply, SendMessage
from meshos.protocols.rpc.machine import Rpc
from meshos.protocols.rpc.serving import Allowed


@dataclass
class Faults:
    """Chances per message, and how long a link lives on the average (seconds; 0: for ever)."""

    loss: float = 0.0
    double: float = 0.0
    jitter_s: float = 0.0
    flap_s: float = 0.0
    refuse_open: float = 0.0
    not_sent: float = 0.0


@dataclass
class Asked:
    """What the test knows of one Ask."""

    ask: Ask
    at: float
    deadline: float
    ends: list[tuple[float, Completed]] = field(default_factory=list)


class Node:
    def __init__(self, name: str, services: dict[str, Service], allowed: Allowed | None, seed: int) -> None:
        self.peer = Peer(NodeId(name), OrgDid("did:mesh:enterprise:org-" + name))
        policy: Allowed = dict.fromkeys(services, lambda peer: True) if allowed is None else allowed
        self.machines: dict[str, Any] = {
            "rpc": Rpc(self.peer, policy, random.Random(f"{seed}/{name}")),
            "flows": Flows(services, limit=10_000),
        }
        self.asked: dict[int, Asked] = {}
        self.links: set[str] = set()
        self.log: list[str] = []


class Network:
    """Runs the nodes. ``names`` are their node ids."""

    def __init__(
        self, names: str, services: dict[str, Service], *, faults: Faults | None = None, allowed: Allowed | None = None, seed: int = 0
    ):
        self.now = 0.0
        self.faults = faults or Faults()
        self.rng = random.Random(seed)
        self.nodes = {name: Node(name, services, allowed, seed) for name in names}
        self.messages: Counter[str] = Counter()
        self.log: list[str] = []
        self.reports: list[Report] = []
        self._heap: list[tuple[float, int, str, str, object]] = []
        self._sequence = 0
        self._ops = 0

    def ask(self, node: str, ask: Ask, deadline: float | None = None) -> Asked:
        """Have ``node`` ask now."""
        self._ops += 1
        own = self.now + ask.timeout_s
        asked = Asked(ask, self.now, own if deadline is None else min(own, deadline))
        self.nodes[node].asked[self._ops] = asked
        self.step(node, "rpc", Perform(self._ops, ask, deadline, reply_to="test"))
        return asked

    def step(self, name: str, machine: str, event: object) -> None:
        """One step of one machine, and what follows from it at once."""
        node = self.nodes[name]
        for effect in node.machines[machine].step(self.now, event):
            self.log.append(f"{self.now:.6f} {name} {_brief(effect)}")
            if isinstance(effect, Tell) and effect.machine == "test":
                completed = effect.event
                assert isinstance(completed, Completed)
                node.asked[completed.op].ends.append((self.now, completed))
            elif isinstance(effect, Tell):
                self.step(name, effect.machine, effect.event)
            elif isinstance(effect, OpenLink):
                self._open(name, effect.to)
            elif isinstance(effect, SendMessage):
                self._carry(name, effect)
            elif isinstance(effect, Report):
                self.reports.append(effect)
            else:
                raise AssertionError(effect)

    def cut(self, a: str, b: str, reason: str = "link-lost") -> None:
        """End the link between ``a`` and ``b`` now."""
        if b in self.nodes[a].links:
            self.nodes[a].links.discard(b)
            self.nodes[b].links.discard(a)
            self.step(a, "rpc", LinkDown(NodeId(b), reason))
            self.step(b, "rpc", LinkDown(NodeId(a), reason))

    def run(self, until: float) -> None:
        """Everything that happens up to ``until``."""
        while True:
            machines = [(name, machine) for name, node in self.nodes.items() for machine in node.machines]
            deadlines = [(self.nodes[name].machines[machine].deadline(), name, machine) for name, machine in machines]
            due = [each for each in deadlines if each[0] is not None]
            timer = min(due, default=None)
            event = self._heap[0] if self._heap else None
            if timer is not None and (event is None or timer[0] <= event[0]):
                if timer[0] > until:
                    break
                self.now = max(self.now, timer[0])
                self.step(timer[1], timer[2], Tick())
            elif event is not None and event[0] <= until:
                heapq.heappop(self._heap)
                self.now = max(self.now, event[0])
                self._happen(event[2], event[3], event[4])
            else:
                break
        self.now = until

    def _at(self, delay: float, kind: str, name: str, event: object) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (self.now + delay, self._sequence, kind, name, event))

    def _happen(self, kind: str, name: str, event: Any) -> None:
        if kind == "up":
            if event in self.nodes[name].links:
                return
            self.nodes[name].links.add(event)
            self.nodes[event].links.add(name)
            self.step(name, "rpc", LinkUp(self.nodes[event].peer))
            self.step(event, "rpc", LinkUp(self.nodes[name].peer))
            if self.faults.flap_s:
                self._at(self.rng.expovariate(1 / self.faults.flap_s), "cut", name, event)
        elif kind == "cut":
            self.cut(name, event)
        else:
            self.step(name, "rpc", event)

    def _open(self, name: str, to: str) -> None:
        if to not in self.nodes or self.rng.random() < self.faults.refuse_open:
            self._at(0.005, "event", name, LinkDown(NodeId(to), "peer-unreachable"))
        else:
            self._at(0.005, "up", name, to)

    def _carry(self, name: str, effect: SendMessage) -> None:
        to, message = effect.to, effect.message
        self.messages[type(message).__name__] += 1
        if to not in self.nodes[name].links or self.rng.random() < self.faults.not_sent:
            self._at(0.0, "event", name, NotSent(NodeId(to), message, "link-lost"))
            return
        if self.rng.random() < self.faults.loss:
            return
        copies = 2 if self.rng.random() < self.faults.double and (not isinstance(message, Reply) or message.final) else 1
        for _ in range(copies):
            received = MessageReceived(self.nodes[name].peer, message, effect.lane)
            self._at(0.001 + self.rng.random() * self.faults.jitter_s, "event", to, received)


def _brief(effect: object) -> str:
    """An effect in a line, without its bodies."""
    if isinstance(effect, SendMessage):
        message = effect.message
        return f"SendMessage to={effect.to} lane={effect.lane} {type(message).__name__} id={message.id.hex()} {_word(message)}"
    if isinstance(effect, Tell):
        return f"Tell {effect.machine} {type(effect.event).__name__}"
    return repr(effect)


def _word(message: Message) -> str:
    return message.outcome.error.name if isinstance(message, Reply) and isinstance(message.outcome, Err) else "-"
