"""What people and programs ask of an organisation's nodes while leaders come and go, and what each answer says of its state.

Beside the calls (``simulations/work.py``): its configuration is written and read, and one agent is deployed, withdrawn and looked at, each
at a random node of the organisation, which need not lead. What was asked and answered is a history, to be checked for linearizability:
to whoever asks, the organisation is one thing, however many nodes it has.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from meshos.consensus.org.commands import Agent, GetAgent, GetConfig, SetConfig
from meshos.effects import Ok, Outcome
from meshos.ids import OrgDid, agent_id
from meshos.node.kernel.agents import DeployAsked, UndeployAsked
from meshos.node.kernel.asking import ASK_ORG, DEPLOY, UNDEPLOY
from meshos.protocols.tasks.agent_file import parse_canonical, parse_mapping
from meshos.simulations.history import History
from meshos.simulations.linearizability import UNKNOWN, Model, by_key
from meshos.simulations.mesh import Mesh
from meshos.simulations.work import Asking
from meshos.simulations.world import SimNode, World

MOVED = "Moved"
"""The name of the agent that is deployed and withdrawn."""

_Key: TypeAlias = tuple[OrgDid, str]


@dataclass(frozen=True, slots=True)
class Set:
    """Configure: what it gives does not matter."""

    key: _Key
    value: Hashable


@dataclass(frozen=True, slots=True)
class Get:
    """Gives the value, or None."""

    key: _Key


@dataclass(frozen=True, slots=True)
class Deploy:
    """The agent is there from now on, as ``text`` describes it."""

    key: _Key
    text: str


@dataclass(frozen=True, slots=True)
class Undeploy:
    """Gives whether the agent was there; it is not any more."""

    key: _Key


@dataclass(frozen=True, slots=True)
class Look:
    """Gives the agent's description, or None."""

    key: _Key


Op: TypeAlias = Set | Get | Deploy | Undeploy | Look


def _step(state: Hashable, op: Hashable, result: object) -> tuple[bool, Hashable]:
    if isinstance(op, Get | Look):
        return result is UNKNOWN or result == state, state
    if isinstance(op, Set):
        return True, op.value
    if isinstance(op, Deploy):
        return True, op.text
    assert isinstance(op, Undeploy)
    return result is UNKNOWN or result is (state is not None), None


def _key(op: Hashable) -> Hashable:
    assert isinstance(op, Op)
    return op.key


def organisation() -> Model[Hashable]:
    """The model: a register under each name of each organisation's configuration, and one for its agent."""
    return Model(
        "organisation",
        None,
        _step,
        split=by_key(_key),
        looks=lambda op, result: isinstance(op, Get | Look),
        show=lambda op, result: f"{op} -> {result!r}",
    )


class OrgWork:
    """Asks the nodes of every organisation, one of them at a time, until ``until_s``."""

    EVERY_S = 0.7
    NAMES = ("a", "b", "c")

    def __init__(self, mesh: Mesh, asking: Asking, *, until_s: float) -> None:
        self.world: World = mesh.world
        self.history = History(lambda: mesh.world.now)
        self._mesh, self._asking, self._until_s = mesh, asking, until_s
        self._rng = mesh.world.generator("org work")
        self._open: dict[int, tuple[Op, SimNode, int]] = {}  # by the token of the question: what, whom, in which life
        self._count = 0
        for org in mesh.holder:
            mesh.world.at(5.0 + self._rng.random(), self._next, org)

    def _next(self, org: OrgDid) -> None:
        if self.world.now > self._until_s:
            return
        self.world.after(self._rng.expovariate(1 / self.EVERY_S), self._next, org)
        node = self.world.nodes[self._rng.choice(self._mesh.nodes_of(org))]
        if not node.alive or node.paused:
            return
        self._count += 1
        draw = self._rng.random()
        name = self._rng.choice(self.NAMES)
        if draw < 0.3:
            self._ask(node, Get((org, name)), ASK_ORG, GetConfig(name), 15.0)
        elif draw < 0.6:
            value = f"v{self._count}"
            self._ask(node, Set((org, name), value), ASK_ORG, SetConfig(name, value.encode(), "tester"), 15.0)
        elif draw < 0.7:
            self._ask(node, Look((org, MOVED)), ASK_ORG, GetAgent(agent_id(org, MOVED)), 15.0)
        elif draw < 0.88:
            text = f"does thing {self._count}"
            file = parse_mapping({"name": MOVED, "description": text, "runtime": {"mcp": {"command": ["worker"]}}})
            self._ask(node, Deploy((org, MOVED), text), DEPLOY, DeployAsked(file, file.canonical(), "/", "tester"), 30.0)
        else:
            self._ask(node, Undeploy((org, MOVED)), UNDEPLOY, UndeployAsked(agent_id(org, MOVED), "tester"), 30.0)

    def _ask(self, node: SimNode, op: Op, service: str, argument: object, timeout_s: float) -> None:
        token = self.history.invoke(node.name, op)
        self._open[token] = (op, node, node.epoch)
        self._asking.ask(node, service, argument, timeout_s, partial(self._heard, token))

    def _heard(self, token: int, outcome: Outcome[object]) -> None:
        op, _, _ = self._open.pop(token)
        if isinstance(outcome, Ok):
            self.history.ok(token, _result(op, outcome.value))
        elif outcome.error.name == "agent-unknown" and isinstance(op, Undeploy | Look):
            self.history.ok(token, False if isinstance(op, Undeploy) else None)
        elif outcome.error.outcome == "done":
            self.history.ok(token, True)
        elif outcome.error.outcome == "not_done":
            self.history.fail(token)
        else:
            self.history.info(token)

    def never_ended(self) -> list[str]:
        """Questions to nodes that live since, and gave no answer."""
        return [f"{op} at {node.name}" for op, node, epoch in self._open.values() if node.epoch == epoch]


def _result(op: Op, value: object) -> object:
    if isinstance(op, Get):
        assert value is None or isinstance(value, bytes)
        return None if value is None else value.decode()
    if isinstance(op, Look):
        assert isinstance(value, Agent)
        return None if value.withdrawn else parse_canonical(value.agent_file).description
    return True
