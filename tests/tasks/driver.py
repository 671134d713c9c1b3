"""A small deterministic driver for the Flows of tasks: real Flows, organisation machines, outboxes and stores, a link that can
break, tools that count how often they ran, virtual time, and a crash after any single effect of a node.
"""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from meshos import cbor
from meshos.consensus.org.commands import DeployAgent, Intent, Tool
from meshos.consensus.org.machine import OrgMachine
from meshos.consensus.org.queries import open_intents
from meshos.crypto.simulated import SimulatedSigner, SimulatedVerifier, SimulatedWorld
from meshos.effects import Completed, Err, Machine, Ok, Outcome, Persist, Report, Tell, Tick, WriteBack
from meshos.errors import Failed, MeshError, Unreachable
from meshos.flow import Ask, Compute, Port, Propose
from meshos.flow_machine import Abandon, CancelFlow, FlowEnded, Flows, Perform, Service, StartFlow
from meshos.ids import AgentId, NodeId, OrgDid, Peer, TaskId
from meshos.protocols.rpc.events import Inbound
from meshos.protocols.tasks import outbox, receipt, wire
from meshos.protocols.tasks.call import CallRequest, Calls, TaskResult
from meshos.protocols.tasks.payments import OwedOnly
from meshos.protocols.tasks.ports import CallTool, SignBytes, ToolResult
from meshos.protocols.tasks.serve import Policy, TaskServices, allow_all
from meshos.storage.memory import MemoryStore
from meshos.storage.overlay import Overlay
from tests.org.lone import found, org_machine

GENESIS = b"g" * 32
WALL_MS = 1_700_000_000_000
ACME, BETA = OrgDid("did:mesh:enterprise:acme"), OrgDid("did:mesh:hospital:beta")
CALLER = Peer(NodeId("caller"), ACME)
PROVIDER = Peer(NodeId("provider"), BETA)
SECOND = Peer(NodeId("second"), BETA)
STRANGER = Peer(NodeId("stranger"), OrgDid("did:mesh:community:gamma"))
AGENT = AgentId("a-0123456789abcdef")
PRICE = 2_000_000
ECHO = cbor.encode({"echo": cbor.encode({"x": 1})})
"""What a tool says to the arguments that ``World.call`` gives it."""
RERUN = ("read", "crash-read", "broken-read", "big")
TOOLS = tuple(Tool(name, name in RERUN) for name in (*RERUN, "pay", "slow", "stuck", "sad", "crash", "broken"))


@dataclass
class Execution:
    """One run of a tool."""

    task: TaskId
    tool: str
    arguments: bytes
    how: str = "running"


@dataclass(frozen=True)
class Elsewhere:
    """What a node knows of its organisation's leader, where that is another."""

    leader: NodeId
    lead: None = None


class Node:
    """One node: its machines over its disk. ``effects`` counts what it did, and it dies after ``crash_after`` of them."""

    def __init__(self, world: "World", peer: Peer, leader: NodeId, random: Random, policy: Policy) -> None:
        self.world, self.peer, self.leader, self.policy = world, peer, leader, policy
        self.store = MemoryStore(random)
        self.quarantine: set[str] = set()
        self.life = 0
        self.effects = 0
        self.crash_after: int | None = None
        self.alive = False

    def start(self) -> None:
        """Begin, or begin again after a crash."""
        self.life += 1
        self.alive = True
        world = self.world
        self.overlay = Overlay(self.store)
        verifier = SimulatedVerifier(world.simulated)
        self.org = self._organisation()
        office = self.org if self.leader == self.peer.node else Elsewhere(self.leader)
        self.services = TaskServices(
            self.peer, office=office, genesis_hash=GENESIS, verifier=verifier, payments=OwedOnly(), policy=self.policy, barred=self.barred
        )
        calls = Calls(self.peer, genesis_hash=GENESIS, verifier=verifier, org_of=world.org_of, barred=self.barred)
        table: dict[str, Service] = {
            wire.TASK: self.services.task,
            wire.CALL_OFF: self.services.call_off,
            receipt.PROTOCOL: self.services.receipt,
            "recover": self.services.recover,
            "call": calls.call,
            "call-off": calls.call_off,
            "deliver": outbox.Delivery(lambda _: (), pays=False).deliver,
            "propose": _propose,
        }
        self.machines: dict[str, Machine] = {"flows": Flows(table, limit=100), "org": self.org, "receipts": outbox.ReceiptOutbox()}
        self.running: dict[int, Execution] = {}
        self.asked: dict[int, NodeId] = {}
        self.recovery = self.begin("recover", None)
        self.begin("deliver", None)

    def barred(self, *names: str) -> str | None:
        """What this node's ledger says."""
        return next((name for name in names if name in self.quarantine), None)

    def _organisation(self) -> OrgMachine:
        """Its machine; of the node that its organisation's group was founded on, one that leads already."""
        if self.leader == self.peer.node:
            found(self.store, self.peer)
        world = self.world
        org = org_machine(self.overlay, self.peer, now=world.now, wall_ms=WALL_MS + round(world.now * 1000))
        queue: deque[object] = deque()
        while self.leader == self.peer.node and org.lead is None:
            for effect in org.step(world.now, queue.popleft() if queue else Tick()):
                if isinstance(effect, Persist | WriteBack):
                    self.store.write(effect.writes)
                elif isinstance(effect, Tell) and effect.machine == "org":
                    queue.append(effect.event)
        return org

    def open_intents(self) -> tuple[Intent, ...]:
        """The tasks without an outcome."""
        return open_intents(self.org.replica.view())

    def waits(self) -> tuple[int, int]:
        """How many hold a task here, and how many wait for one."""
        figures = self.org.statistics()
        return figures["held"], figures["waiting"]

    def crash(self) -> None:
        """A power cut."""
        self.alive = False
        self.store.crash()
        for run in self.running.values():
            run.how = "lost"
        self.world.link_lost(self.peer.node)

    def begin(self, service: str, argument: object, deadline: float | None = None) -> int:
        """Start a Flow from outside; its end is in ``world.ended``."""
        self.world.flows += 1
        number = self.world.flows
        self.post("flows", StartFlow(number, service, argument, deadline, "outside"))
        return number

    def post(self, machine: str, event: object) -> None:
        """``event`` has happened."""
        life = self.life
        self.world.queue.append(lambda: self._step(machine, event) if self.alive and self.life == life else None)

    def _step(self, machine: str, event: object) -> None:
        effects = self.machines[machine].step(self.world.now, event)
        for later in [effect for effect in effects if isinstance(effect, WriteBack)]:
            self.overlay.lay(later.writes)
            self.store.begin(later.writes)
        for persist in [effect for effect in effects if isinstance(effect, Persist)]:
            self.overlay.lay(persist.writes)
            self.store.begin(persist.writes)
            if self._died():
                return
            self.store.sync()
            self.overlay.settle(self.overlay.pending)
            if self._died():
                return
        for effect in effects:
            if not isinstance(effect, Persist | WriteBack):
                self._carry_out(effect)
                if self._died():
                    return

    def _died(self) -> bool:
        self.effects += 1
        if self.effects == self.crash_after:
            self.crash()
        return not self.alive

    def _carry_out(self, effect: object) -> None:
        world = self.world
        match effect:
            case Tell("rpc", Perform(op, Ask() as ask, deadline)):
                world.ask(self, op, ask, deadline)
            case Tell("rpc", Abandon(op)):
                world.abandon(self, op)
            case Tell("link", FlowEnded(flow, outcome)):
                world.reply(flow, outcome)
            case Tell("outside", FlowEnded(flow, outcome)):
                world.ended[flow] = outcome
            case Tell(machine, event):
                self.post(machine, event)
            case Perform(op, Port(CallTool() as call)):
                self._run(op, call)
            case Perform(op, Port(SignBytes(domain, payload))):
                signature = SimulatedSigner(world.simulated, self.peer.node).sign(domain, payload)
                if world.broken_signer == self.peer.node:
                    self.post("flows", Completed(op, Err(Failed("signer-broken", "the key store is away"))))
                else:
                    self.post("flows", Completed(op, Ok(signature)))
            case Perform(op, Compute(work)):
                self.post("flows", Completed(op, _computed(work)))
            case Abandon(op, Port(CallTool())):
                self.running.pop(op).how = "cancelled"
            case Abandon():
                pass
            case Report(_, error):
                if not world.bugs_expected:
                    raise error
            case _:
                raise AssertionError(f"nobody carries out {effect!r}")

    def _run(self, op: int, call: CallTool) -> None:
        execution = Execution(call.task, call.tool, call.arguments)
        self.world.executions.append(execution)
        self.running[op] = execution
        seconds = 30.0 if call.tool == "slow" else 0.01
        in_time = seconds <= call.timeout_s
        life = self.life

        def end() -> None:
            if self.alive and self.life == life and self.running.pop(op, None) is not None:
                outcome = _given(call) if in_time else Err(Unreachable("deadline-exceeded", "the tool did not answer"))
                execution.how = "ended" if in_time else "cancelled"
                self.post("flows", Completed(op, outcome))

        if call.tool != "stuck":  # which ends by being cancelled only
            self.world.later(min(seconds, call.timeout_s), end)


def _computed(work: Callable[[], object]) -> Outcome[object]:
    try:
        return Ok(work())
    except MeshError as error:
        return Err(error)


def _given(call: CallTool) -> Outcome[object]:
    """What the tools of these tests answer."""
    if call.tool.startswith("crash"):
        return Err(Failed("agent-crashed", "it ended in the middle", outcome="unknown"))
    if call.tool.startswith("broken"):
        return Ok("not what a tool gives")
    value = cbor.encode({"echo": call.arguments}) if call.tool != "big" else b"\x5a" + (2 << 20).to_bytes(4, "big") + bytes(2 << 20)
    return Ok(ToolResult(value, call.tool == "sad", "replica-0"))


async def _propose(command: object) -> object:
    return await Propose[object](command)


class World:
    """A caller's node, a provider's two nodes (the first holds the state) and a stranger, with links between all."""

    def __init__(self, seed: int = 0, policy: Policy = allow_all) -> None:
        random = Random(seed)
        self.simulated = SimulatedWorld(seed)
        self.now = 100.0
        self.queue: deque[Callable[[], None]] = deque()
        self.timers: list[tuple[float, int, Callable[[], None]]] = []
        self.count = self.flows = 0
        self.ended: dict[Any, Outcome[Any]] = {}
        self.executions: list[Execution] = []
        self.requests: dict[int, CallRequest] = {}
        self.pending: dict[tuple[NodeId, int, int], NodeId] = {}
        self.bugs_expected = False
        self.broken_signer: NodeId | None = None
        self.tamper: Callable[[bytes], bytes] | None = None
        leaders = {ACME: CALLER.node, BETA: PROVIDER.node, STRANGER.org: STRANGER.node}
        peers = (CALLER, PROVIDER, SECOND, STRANGER)
        self.nodes = {peer.node: Node(self, peer, leaders[peer.org], Random(random.random()), policy) for peer in peers}
        for node in self.nodes.values():
            node.start()
        self.caller, self.provider = self.nodes[CALLER.node], self.nodes[PROVIDER.node]
        self.propose(self.provider, DeployAgent(AGENT, "Demo", 1, b"file", "/folder", b"record", TOOLS, PRICE, "tests", PROVIDER.node, 0))
        for node in self.nodes.values():
            node.effects = 0

    def org_of(self, node: NodeId) -> OrgDid | None:
        """What membership would say."""
        return self.nodes[node].peer.org if node in self.nodes else None

    # -- running -----------------------------------------------------------------------------------------------------

    def run(self, until: Callable[[], bool] = lambda: False, seconds: float = 600.0) -> None:
        """Until nothing is left to do, ``until`` holds, or so much time has passed."""
        end = self.now + seconds
        while not until():
            if self.queue:
                self.queue.popleft()()
                continue
            due = [deadline for node in self._alive() for machine in node.machines.values() if (deadline := machine.deadline()) is not None]
            due += [self.timers[0][0]] if self.timers else []
            if not due or min(due) > end:
                return
            self.now = max(self.now, min(due))
            while self.timers and self.timers[0][0] <= self.now:
                heapq.heappop(self.timers)[2]()
            for node in self._alive():
                for name, machine in node.machines.items():
                    deadline = machine.deadline()
                    if deadline is not None and deadline <= self.now:
                        node.post(name, Tick())

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Do it then."""
        self.count += 1
        heapq.heappush(self.timers, (self.now + seconds, self.count, what))

    def propose(self, node: Node, command: object) -> Any:
        """Put a command to a node's organisation; gives the answer or raises."""
        return self.result(node.begin("propose", command))

    def call(self, tool: str = "read", **changes: Any) -> TaskResult:
        """One call from the caller to its end; gives the result or raises."""
        result = self.result(self.begin_call(tool, **changes))
        assert isinstance(result, TaskResult)
        return result

    def begin_call(self, tool: str = "read", *, node: Node | None = None, **changes: Any) -> int:
        """Begin a call; ``world.result`` waits for it."""
        self.flows += 1
        fields: dict[str, Any] = {
            "task": TaskId(f"t-{self.flows:032x}"),
            "agent": AGENT,
            "providers": (PROVIDER.node,),
            "provider_org": BETA,
            "tool": tool,
            "arguments": cbor.encode({"x": 1}),
            "timeout_s": 10.0,
        }
        request = CallRequest(**(fields | changes))
        flow = (node or self.caller).begin("call", request)
        self.requests[flow] = request
        return flow

    def result(self, flow: int) -> Any:
        """Run until this Flow has ended; its value, or its error raised."""
        self.run(until=lambda: flow in self.ended)
        outcome = self.ended[flow]
        if isinstance(outcome, Err):
            raise outcome.error
        return outcome.value

    def _alive(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.alive]

    # -- links -------------------------------------------------------------------------------------------------------

    def ask(self, asker: Node, op: int, ask: Ask, deadline: float | None) -> None:
        """Bring a request to the other node, or say that it cannot be reached."""
        target = self.nodes.get(ask.to)
        if target is None or not target.alive:
            asker.post("flows", Completed(op, Err(Unreachable("peer-unreachable", f"no link to {ask.to}", outcome="not_done"))))
            return
        assert deadline is not None
        key = (asker.peer.node, asker.life, op)
        self.pending[key] = ask.to
        inbound = Inbound(asker.peer, ask.protocol, ask.body, deadline - 0.05)
        target.post("flows", StartFlow(key, ask.protocol, inbound, deadline - 0.05, "link"))

        def too_late() -> None:
            if self.pending.pop(key, None) is not None:
                asker.post("flows", Completed(op, Err(Unreachable("deadline-exceeded", "no answer in time"))))

        self.later(deadline - self.now, too_late)

    def reply(self, key: Any, outcome: Outcome[object]) -> None:
        """Bring the answer back."""
        if self.pending.pop(key, None) is not None:
            node, life, op = key
            if self.tamper is not None and isinstance(outcome, Ok) and isinstance(outcome.value, bytes):
                outcome = Ok(self.tamper(outcome.value))
            if self.nodes[node].life == life:
                self.nodes[node].post("flows", Completed(op, outcome))

    def abandon(self, asker: Node, op: int) -> None:
        """The asker does not wait any more: the other node hears of it."""
        key = (asker.peer.node, asker.life, op)
        target = self.pending.pop(key, None)
        if target is not None:
            self.nodes[target].post("flows", CancelFlow(key))

    def link_lost(self, gone: NodeId) -> None:
        """Those who wait for ``gone`` do not know what became of their requests."""
        for key in [key for key, target in self.pending.items() if target == gone]:
            del self.pending[key]
            node, life, op = key
            if self.nodes[node].alive and self.nodes[node].life == life:
                self.nodes[node].post("flows", Completed(op, Err(Unreachable("link-lost", f"the link to {gone} broke"))))
