"""Work for scenarios: what users ask of the nodes while faults happen, and the checkers that know what was answered."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from meshos import cbor
from meshos.consensus.org.commands import Ended
from meshos.consensus.org.entries import open_key
from meshos.effects import Completed, Err, Ok, Outcome
from meshos.flow_machine import CancelFlow, FlowEnded, StartFlow
from meshos.genesis_content import MESH
from meshos.ids import AgentId, NodeId, OrgDid, TaskId, agent_id
from meshos.node.kernel.agents import DeployAsked, UndeployAsked
from meshos.node.kernel.asking import ASK_DIRECTORY, CALL, DEPLOY, UNDEPLOY
from meshos.node.kernel.core import OUTSIDE
from meshos.protocols.directory.commands import Digest, ReadDigest
from meshos.protocols.directory.limits import BUCKETS
from meshos.protocols.directory.profile import Profile
from meshos.protocols.directory.publishing import Publication, Withdrawal
from meshos.protocols.directory.services import PUBLISH, WITHDRAW
from meshos.protocols.tasks.agent_file import parse_mapping
from meshos.protocols.tasks.call import CallRequest, TaskResult
from meshos.simulations.mesh import Mesh
from meshos.simulations.world import SimNode, Violation, World

MOST_S = 100.0
"""Nodes are given work for so long,"""
LAST_S = 20.0
"""and none so shortly before the end of a run."""


class Asking:
    """Starts Flows on nodes as the API would, and hears how they end; a Flow whose node crashes never ends."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._numbers = 0
        self.ended: dict[int, Outcome[object]] = {}
        self._hear: dict[int, Callable[[Outcome[object]], None]] = {}
        world.noticed = self._noticed

    def ask(
        self, node: SimNode, service: str, argument: object, timeout_s: float, hear: Callable[[Outcome[object]], None] | None = None
    ) -> int:
        """The number under which ``ended`` will have the outcome; ``hear`` is told at that moment."""
        self._numbers += 1
        if hear is not None:
            self._hear[self._numbers] = hear
        node.deliver("flows", StartFlow(self._numbers, service, argument, node.now() + timeout_s, OUTSIDE))
        return self._numbers

    def cancel(self, node: SimNode, number: int) -> None:
        """Whoever asked does not want it any more."""
        node.deliver("flows", CancelFlow(number))

    def _noticed(self, node: SimNode, effect: object) -> None:
        if isinstance(effect, FlowEnded) and isinstance(effect.flow, int):
            self.ended[effect.flow] = effect.outcome
            hear = self._hear.pop(effect.flow, None)
            if hear is not None:
                hear(effect.outcome)


# -- the directory ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Owner:
    """What one node wants of its own few records, one operation after the other."""

    node: SimNode
    rng: random.Random
    number: int = 0
    epoch: int = 0
    wants: tuple[str, bool] = ("", False)
    sure: dict[str, bool | None] = field(default_factory=dict)


class DirectoryWork:
    """Every node publishes and withdraws a handful of names at random; ``sure`` says what was acknowledged last (None: unknown)."""

    NAMES = 5
    EVERY_S = 2.0

    def __init__(self, mesh: Mesh, *, until_s: float | None = None) -> None:
        self.mesh, self.world = mesh, mesh.world
        self.asking = Asking(mesh.world)
        self.until_s = min(MOST_S, mesh.world.until_s - LAST_S) if until_s is None else until_s
        self.owners = [_Owner(mesh.world.nodes[node], mesh.world.generator(f"owner/{node}")) for node in mesh.ids]
        for owner in self.owners:
            mesh.world.at(3.0 + owner.rng.random(), self._next, owner)

    def _next(self, owner: _Owner) -> None:
        self.settle(owner)
        if self.world.now > self.until_s:
            return
        self.world.after(owner.rng.expovariate(1 / self.EVERY_S), self._next, owner)
        node = owner.node
        if owner.number or not node.alive or node.paused:
            return
        name = f"agent {owner.rng.randrange(self.NAMES)}"
        present = owner.rng.random() < 0.7 or owner.sure.get(name) is not True
        owner.wants, owner.epoch = (name, present), node.epoch
        argument: object = Withdrawal((name,), node.wall_ms())
        if present:
            profile = Profile(name, f"does thing {owner.rng.randrange(1000)} for whoever asks")
            argument = Publication((profile,), node.wall_ms())
        owner.number = self.asking.ask(node, PUBLISH if present else WITHDRAW, argument, 20.0)

    def settle(self, owner: _Owner) -> None:
        """What became of the operation under way: acknowledged, refused (nothing changed), or unknown."""
        if not owner.number:
            return
        name, present = owner.wants
        outcome = self.asking.ended.get(owner.number)
        if outcome is None and owner.epoch == owner.node.epoch:
            return
        if isinstance(outcome, Ok):
            owner.sure[name] = present
        elif outcome is None or (isinstance(outcome, Err) and outcome.error.outcome != "not_done"):
            owner.sure[name] = None
        owner.number = 0


class DirectoryChecker:
    """In the end every living node holds the same, and every acknowledged record, and no withdrawn one."""

    def __init__(self, mesh: Mesh, work: DirectoryWork) -> None:
        self._mesh, self._work = mesh, work
        self.figures: dict[str, float] = {}

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """See ``Checker``."""

    def finish(self, world: World) -> None:
        """See ``Checker``."""
        work = self._work
        for owner in work.owners:
            work.settle(owner)
        numbers = {
            node: work.asking.ask(world.nodes[node], ASK_DIRECTORY, ReadDigest(tuple(range(BUCKETS))), 5.0) for node in self._mesh.living()
        }
        world.run(world.now + 5)
        roots: dict[bytes, list[NodeId]] = {}
        for node, number in numbers.items():
            outcome = work.asking.ended.get(number)
            if not isinstance(outcome, Ok) or not isinstance(outcome.value, Digest):
                raise Violation("stuck", f"{node} does not answer for its directory")
            roots.setdefault(outcome.value.root, []).append(node)
        if len(roots) > 1:
            raise Violation("stuck", f"the directories differ: {[nodes[:4] for nodes in roots.values()]}")
        checked = 0
        for owner in work.owners:
            for name, present in owner.sure.items():
                agent = agent_id(owner.node.spec.org, name)
                for node in self._mesh.living():
                    held = bool(self._mesh.assemblies[node].directory.beginning(agent, 1))
                    if present is not None and held != present:
                        what = "lacks the acknowledged" if present else "still holds the withdrawn"
                        raise Violation("safety", f"{node} {what} {name!r} of {owner.node.spec.org}")
                checked += present is not None
        self.figures["records checked"] = checked


# -- calls -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Asked:
    request: CallRequest
    node: SimNode
    epoch: int
    number: int
    at: float


class CallWork:
    """One agent an organisation; random nodes call random agents, some calls twice with one key, some are cancelled. A second agent is
    taken away again."""

    TIMEOUT_S = 5.0
    CANCELLED = 0.15
    BRIEFLY = "Briefly"

    def __init__(self, mesh: Mesh, *, until_s: float | None = None, every_s: float = 0.5, price_micro: int = 0) -> None:
        self.mesh, self.world = mesh, mesh.world
        self.every_s, self.price_micro = every_s, price_micro
        self.asking = Asking(mesh.world)
        self.until_s = min(MOST_S, mesh.world.until_s - LAST_S) if until_s is None else until_s
        self.rng = mesh.world.generator("calls")
        self.asked: list[_Asked] = []
        self.agents: dict[AgentId, NodeId] = {}
        for org, holder in mesh.holder.items():
            self.agents[agent_id(org, "Worker")] = holder
            mesh.world.at(3.0, self._deploy, mesh.world.nodes[holder], "Worker")
            mesh.world.at(4.0, self._deploy, mesh.world.nodes[holder], self.BRIEFLY)
            mesh.world.at(12.0 + self.rng.uniform(0.0, 20.0), self.undeploy, mesh.world.nodes[holder])
        mesh.world.at(6.0, self._call)

    def _deploy(self, node: SimNode, name: str) -> None:
        pricing = {"pricing": {"perQuery": f"{self.price_micro / MESH:.6f} MESH"}} if self.price_micro else {}
        file = parse_mapping({"name": name, "description": "works", "runtime": {"mcp": {"command": ["worker"]}}, **pricing})
        self.asking.ask(node, DEPLOY, DeployAsked(file, file.canonical(), "/", "tester"), 30.0)

    def undeploy(self, node: SimNode) -> None:
        """Take the second agent of the node's organisation away; where that was done before, it is refused."""
        self.asking.ask(node, UNDEPLOY, UndeployAsked(agent_id(node.spec.org, self.BRIEFLY), "tester"), 10.0)

    def _call(self) -> None:
        if self.world.now > self.until_s:
            return
        self.world.after(self.rng.expovariate(1 / self.every_s), self._call)
        node = self.world.nodes[self.rng.choice(self.mesh.ids)]
        if not node.alive or node.paused:
            return
        agent = self.rng.choice(sorted(self.agents))
        key = f"key-{len(self.asked)}" if self.rng.random() < 0.5 else ""
        request = self.request(node, agent, key)
        self._ask(node, request)
        if key and self.rng.random() < 0.5:
            self.world.after(self.rng.uniform(0.0, 3.0), self._again, node, request)

    def _again(self, node: SimNode, request: CallRequest) -> None:
        if node.alive and not node.paused:
            self._ask(node, self.request(node, request.agent, request.key, request.tool, request.arguments))

    def request(self, node: SimNode, agent: AgentId, key: str, tool: str = "", arguments: bytes = b"") -> CallRequest:
        org = self.mesh.org_of[self.agents[agent]]
        return CallRequest(
            TaskId(f"t-{self.rng.getrandbits(128):032x}"),
            agent,
            self.mesh.assemblies[node.name].providers_of(org),
            org,
            tool or self.rng.choice(("once", "look")),
            arguments or cbor.encode({"n": self.rng.randrange(1000)}),
            self.TIMEOUT_S,
            key=key,
            price_micro=self.price_micro,  # as the record of the simulated agents says
        )

    def _ask(self, node: SimNode, request: CallRequest) -> None:
        number = self.asking.ask(node, CALL, request, self.TIMEOUT_S + 3)
        self.asked.append(_Asked(request, node, node.epoch, number, self.world.now))
        if self.rng.random() < self.CANCELLED:
            self.world.after(self.rng.choice((0.05, 2.0)) * self.rng.random(), self._cancel, node, node.epoch, number)

    def _cancel(self, node: SimNode, epoch: int, number: int) -> None:
        if node.epoch == epoch and not node.paused:
            self.asking.cancel(node, number)


class CallChecker:
    """No tool that must not run twice ran twice; what was said to be done was done, and what was said not to be was not.

    No task ends twice, or differently for its two sides, or stays open for ever; every call ended in its time. Once the faults are
    over every call succeeds, unless one of its sides is in quarantine, and no node holds the record of an agent that was taken away.
    """

    FINAL_S = 20.0

    def __init__(self, mesh: Mesh, work: CallWork) -> None:
        self._mesh, self._work = mesh, work
        self._told: dict[tuple[OrgDid, TaskId], str] = {}
        self.figures: dict[str, float] = {}

    @property
    def told(self) -> dict[tuple[OrgDid, TaskId], str]:
        """How each task has ended, by what its organisation has told."""
        return self._told

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """See ``Checker``. What the organisation's state has once told of a task's end stays so, also over crashes."""
        if machine == "flows" and type(event) is Completed and isinstance(event.outcome, Ok) and isinstance(event.outcome.value, Ended):
            ended = event.outcome.value
            first = self._told.setdefault((node.spec.org, ended.intent.task), ended.status)
            if first != ended.status:
                raise Violation("safety", f"{ended.intent.task} has ended as {first} at {node.spec.org}, and ends again as {ended.status}")

    def finish(self, world: World) -> None:
        """See ``Checker``."""
        work = self._work
        self._mesh.agents.slow = 0.0  # from here on nothing may fail
        finals = []
        for node in self._mesh.living():
            work.undeploy(world.nodes[node])  # where a fault has kept it from being done
            for agent in sorted(work.agents):
                request = work.request(world.nodes[node], agent, "", "once")
                finals.append((node, agent, work.asking.ask(world.nodes[node], CALL, request, work.TIMEOUT_S + 3)))
        world.run(world.now + self.FINAL_S)
        for asked in work.asked:
            self._check(asked)
        self._check_keys()
        for node, agent, number in finals:
            outcome = work.asking.ended.get(number)
            if isinstance(outcome, Err) and outcome.error.name == "quarantined" and self._is_barred(node, agent):
                continue
            if not (isinstance(outcome, Ok) and isinstance(outcome.value, TaskResult) and outcome.value.status == "completed"):
                raise Violation("stuck", f"after healing, a call from {node} to {agent} ends as {outcome}")
        self._check_withdrawn()
        self._check_open()
        self.figures["calls"] = len(work.asked)
        self.figures["calls completed"] = sum(self._status(asked) == "completed" for asked in work.asked)
        self.figures["tasks ended"] = len(self._told)

    def _is_barred(self, node: NodeId, agent: AgentId) -> bool:
        mesh, provider = self._mesh, self._work.agents[agent]
        names = (agent, provider, mesh.org_of[provider], node, mesh.org_of[node])
        return mesh.assemblies[node].barred(*names) is not None

    def _check_open(self) -> None:
        """A task whose tool nobody waits for has ended: none is left open for ever."""
        for node in self._mesh.living():
            view = self._mesh.assemblies[node].org.replica.view()
            still_open = [key for key, _ in view.scan(open_key(TaskId("")))]
            if still_open:
                raise Violation("stuck", f"{node} still has {len(still_open)} tasks open that nobody runs")

    def _check_withdrawn(self) -> None:
        for org in self._mesh.holder:
            agent = agent_id(org, self._work.BRIEFLY)
            for node in self._mesh.living():
                if self._mesh.assemblies[node].directory.beginning(agent, 1):
                    raise Violation("safety", f"{node} still holds the record of {agent}, which {org} has withdrawn")

    def _check_keys(self) -> None:
        """Calls with one key are one task, whatever their ids: its tool ran once at most."""
        runs: dict[tuple[OrgDid, AgentId, str], int] = {}
        for asked in self._work.asked:
            request = asked.request
            if request.key and request.tool == "once":
                task = (asked.node.spec.org, request.agent, request.key)
                runs[task] = runs.get(task, 0) + self._mesh.agents.runs.get((request.agent, request.task), 0)
        for (org, agent, key), count in runs.items():
            if count > 1:
                raise Violation(
                    "safety", f"calls of {org} to {agent} with the key {key!r} ran a tool {count} times that must not run twice"
                )

    def _status(self, asked: _Asked) -> str:
        outcome = self._work.asking.ended.get(asked.number)
        return outcome.value.status if isinstance(outcome, Ok) and isinstance(outcome.value, TaskResult) else ""

    def _check(self, asked: _Asked) -> None:
        request = asked.request
        runs = self._mesh.agents.runs
        own = runs.get((request.agent, request.task), 0)
        if request.tool == "once" and own > 1:
            raise Violation("safety", f"{request.task}: a tool that must not run twice ran {own} times")
        outcome = self._work.asking.ended.get(asked.number)
        if outcome is None:
            if asked.epoch == asked.node.epoch:
                raise Violation("stuck", f"{request.task}: the call from {asked.node.name} never ended")
            return
        if isinstance(outcome, Ok):
            result = outcome.value
            assert isinstance(result, TaskResult)
            told = self._told.get((request.provider_org, result.task))
            if told is None and result.status == "cancelled":  # called off before it came, and so never begun (CallOff)
                if runs.get((request.agent, result.task)):
                    raise Violation("safety", f"{result.task} is said never to have begun, and its tool ran")
                self._mesh.world.visited("a call called off before it came")
                return
            if result.status not in (told, "outcome_unknown"):
                raise Violation("safety", f"{result.task} is {result.status} for {asked.node.name}, and {told} for {request.provider_org}")
            if result.status == "completed" and not runs.get((request.agent, result.task)):
                raise Violation("safety", f"{result.task} is said to be completed, and its tool never ran")
        elif outcome.error.outcome == "not_done" and own:
            raise Violation("safety", f"{request.task} is said not to be done ({outcome.error.name}), and its tool ran")
