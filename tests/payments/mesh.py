"""Nodes that call and pay each other over the simulator's links and disks, over one chain (``chain.py``)."""

from collections.abc import Callable, Mapping
from typing import Any

from meshos import cbor
from meshos.consensus.ledger.accounts import ACCOUNTS
from meshos.consensus.ledger.tabs import TABS, Tab
from meshos.consensus.org.commands import DeployAgent, Tool
from meshos.consensus.org.entries import read_task
from meshos.consensus.org.machine import OrgMachine
from meshos.consensus.org.queries import Ended
from meshos.crypto.signing import Domain
from meshos.crypto.simulated import SimulatedSigner, SimulatedVerifier, SimulatedWorld
from meshos.effects import Err, Machine, Outcome
from meshos.flow import Propose
from meshos.flow_machine import CancelFlow, FlowEnded, Flows, Service, StartFlow
from meshos.ids import AgentId, NodeId, OrgDid, Peer, TaskId
from meshos.node.kernel.core import OUTSIDE
from meshos.node.kernel.payments import STORED, Terms, payment_machines
from meshos.protocols.ledger.port import LEDGER, LedgerView
from meshos.protocols.payments.books import OrgBooks
from meshos.protocols.payments.budget import USUAL, Budget
from meshos.protocols.payments.commands import EARNING, PAYING
from meshos.protocols.payments.earning import Earnings
from meshos.protocols.payments.paying import Paying
from meshos.protocols.payments.voucher import voucher_domain
from meshos.protocols.rpc.casting import Listeners
from meshos.protocols.rpc.machine import Rpc
from meshos.protocols.tasks.call import CallRequest, Calls
from meshos.protocols.tasks.outbox import MACHINE as RECEIPTS
from meshos.protocols.tasks.outbox import Delivery, ReceiptOutbox
from meshos.protocols.tasks.payments import OnCredit
from meshos.protocols.tasks.ports import CallTool, SignBytes
from meshos.protocols.tasks.receipt import PROTOCOL as RECEIPT
from meshos.protocols.tasks.serve import TaskServices
from meshos.protocols.tasks.settling import Settling
from meshos.protocols.tasks.wire import CALL_OFF, TASK
from meshos.simulations.agents import Agents
from meshos.simulations.world import SimNode, Spec, World
from tests.org.lone import found, org_machine
from tests.payments.chain import ALPHA, BETA, GAMMA, SECOND, Advance, Chain, Late, Stub
from tests.tasks.driver import Elsewhere

CALLERS = (NodeId("alpha-1"), SECOND)
PROVIDERS = (NodeId("beta-1"), NodeId("gamma-1"))
ORG = {CALLERS[0]: ALPHA, CALLERS[1]: ALPHA, PROVIDERS[0]: BETA, PROVIDERS[1]: GAMMA}
PRICE = 700_000
CREDIT = 10 * PRICE
AGENT = AgentId("a-0123456789abcdef")
STORES = ("org", *STORED)


class Watched:
    """A ``Signer`` of a node's own key: what it signs is out, whatever becomes of the node."""

    def __init__(self, mesh: "Mesh", name: NodeId) -> None:
        self.mesh, self.name = mesh, name

    def sign(self, domain: Domain, payload: bytes) -> bytes:
        if domain == voucher_domain(self.mesh.chain.genesis.hash):
            self.mesh.voucher_signed(self.name, payload)
        return SimulatedSigner(self.mesh.keys, self.name).sign(domain, payload)


class Mesh:
    """Two nodes that call, two that serve; see ``Losses``."""

    stores: tuple[str, ...] = STORES
    signer: type[Watched] = Watched

    def __init__(self, seed: int, *, budget: Budget = USUAL, price: int = PRICE, credit: int = CREDIT) -> None:
        self.world = World(seed)
        self.keys = SimulatedWorld(seed)
        self.chain = Chain(self.world, self.keys)
        self.chain.told = self._block
        self.agents = Agents(self.world)
        self.rng = self.world.generator("mesh")
        self.budget, self.price, self.credit = budget, price, credit
        self.lossy = self.deaf = 0.0
        self.late_s = (0.0, 0.3)
        self.views: dict[NodeId, Late] = {}
        self.signed: dict[bytes, int] = {}
        """By tab: the highest voucher that its caller ever signed."""
        self.on_voucher: Callable[[NodeId], None] = lambda node: None
        self.ended: dict[int, Outcome[object]] = {}
        self.requests: dict[int, CallRequest] = {}
        self.numbers = 0
        self.listeners: Listeners = {}
        self.world.noticed = self._noticed
        for node in (*CALLERS, *PROVIDERS):
            signer = self.signer(self, node)
            ports: dict[type, Callable[[SimNode, object], object]] = {CallTool: self._call_tool, SignBytes: self._sign_bytes}
            self.world.add(
                Spec(node, ORG[node], self._build, self.stores, signer, SimulatedVerifier(self.keys), ports=ports, first=self._first())
            )
        for node in self.nodes():
            if node.name in (CALLERS[0], *PROVIDERS):  # the first of its organisation
                found(node.stores["org"], Peer(node.name, ORG[node.name]))
        for node in self.nodes():
            node.start()
        for provider in PROVIDERS:
            self.propose(provider, self.agent(provider))
        self.run(1.0)

    def agent(self, node: NodeId) -> DeployAgent:
        """What ``node`` serves."""
        tools = (Tool("once", False), Tool("look", True))
        return DeployAgent(AGENT, "Demo", 1, b"", "/", b"", tools, self.price, "tests", node, 0)

    # -- nodes

    def nodes(self) -> list[SimNode]:
        return list(self.world.nodes.values())

    def _first(self) -> tuple[tuple[str, object], ...]:
        flows = ("recover", "deliver", "settle")
        return tuple(("flows", StartFlow(name, name, None, None, OUTSIDE)) for name in flows)

    def _build(self, node: SimNode) -> Mapping[str, Machine]:
        me, verifier, hash_ = Peer(node.name, ORG[node.name]), SimulatedVerifier(self.keys), self.chain.genesis.hash
        calls = Calls(me, genesis_hash=hash_, verifier=verifier, org_of=ORG.get, pays=True)
        holder = CALLERS[0] if me.org == ALPHA else me.node
        self.agents.start(node, AGENT)
        org = org_machine(node.views["org"], me, now=node.now(), wall_ms=node.wall_ms())
        office = org if holder == me.node else Elsewhere(holder)
        services = TaskServices(me, office=office, genesis_hash=hash_, verifier=verifier, payments=OnCredit(me.org))
        table: dict[str, Service] = {
            TASK: services.task,
            CALL_OFF: services.call_off,
            RECEIPT: services.receipt,
            "call": calls.call,
            "call-off": calls.call_off,
            "recover": services.recover,
            "deliver": Delivery(self._providers_of, pays=True).deliver,
            "settle": Settling(calls, self._providers_of).settle,
            "propose": _propose,
            "propose-to": _propose_to,
        }
        ledger, view = self._ledger(node)
        terms = Terms(self.budget, self.credit, redeem_s=2.0)
        now, wall_ms = node.now(), node.wall_ms()
        return {
            "flows": Flows(table, limit=1000),
            "rpc": Rpc(me, dict.fromkeys((TASK, CALL_OFF, RECEIPT), lambda _: True), node.rng, listeners=self.listeners),
            "org": org,
            RECEIPTS: ReceiptOutbox(),
            LEDGER: ledger,
            **payment_machines(me, hash_, view, OrgBooks(org.replica.view), terms, node.views, now=now, wall_ms=wall_ms),
        }

    def _ledger(self, node: SimNode) -> tuple[Machine, LedgerView]:
        """The machine "pbft" of a node, and what it shows."""
        view = self.views[node.name] = Late(self.chain)
        self.world.after(0.0, self._catch_up, node)
        return Stub(self.chain, view, self, self.rng), view

    @staticmethod
    def _providers_of(org: OrgDid) -> tuple[NodeId, ...]:
        return tuple(node for node, of in ORG.items() if of == org)

    def _call_tool(self, node: SimNode, effect: object) -> object:
        assert isinstance(effect, CallTool)
        return self.agents.call(node, effect)

    def _sign_bytes(self, node: SimNode, effect: object) -> bytes:
        assert isinstance(effect, SignBytes)
        return SimulatedSigner(self.keys, node.name).sign(effect.domain, effect.payload)

    # -- the chain reaches the nodes

    def _block(self) -> None:
        for node in self.nodes():
            self.world.after(self.rng.uniform(*self.late_s), self._advance, node, self.chain.head.height)

    def _advance(self, node: SimNode, height: int) -> None:
        if node.alive and height > self.views[node.name].height:
            node.deliver(LEDGER, Advance(height))

    def _catch_up(self, node: SimNode) -> None:
        self._advance(node, self.chain.head.height)

    # -- what happens

    def decided(self, tab: bytes) -> Tab:
        """A tab as it is, or was last."""
        return TABS.read(self.chain.head, tab) or self.chain.seen[tab]

    def voucher_signed(self, node: str, payload: bytes) -> None:
        """Every voucher that is signed: never over less than before, never above what is set aside."""
        tab, micro = cbor.decode(payload, max_bytes=100)
        assert isinstance(tab, bytes) and isinstance(micro, int)
        assert micro >= self.signed.get(tab, 0), "a voucher over less than one before"
        on_chain = self.decided(tab)
        assert micro <= on_chain.reserved and on_chain.caller == node, "a voucher above what is set aside"
        self.signed[tab] = micro
        self.on_voucher(NodeId(node))

    def _noticed(self, node: SimNode, effect: object) -> None:
        if isinstance(effect, FlowEnded) and isinstance(effect.flow, int):
            self.ended[effect.flow] = effect.outcome

    def run(self, seconds: float) -> None:
        self.world.run(self.world.now + seconds)

    def flow(self, node: NodeId, service: str, argument: object, timeout_s: float = 60.0) -> int:
        self.numbers += 1
        sim = self.world.nodes[node]
        sim.deliver("flows", StartFlow(self.numbers, service, argument, sim.now() + timeout_s, OUTSIDE))
        return self.numbers

    def propose(self, node: NodeId, command: object, to: str = "org") -> Any:
        """Put a command to a machine of a node, and wait."""
        number = self.flow(node, "propose-to", (command, to))
        for _ in range(600):
            if number in self.ended:
                break
            self.run(0.1)
        outcome = self.ended[number]
        if isinstance(outcome, Err):
            raise outcome.error
        return outcome.value

    def call(self, node: NodeId = CALLERS[0], provider: NodeId = PROVIDERS[0], **changes: object) -> int:
        """Begin a call."""
        fields: dict[str, object] = {
            "task": TaskId(f"t-{self.numbers + 1:032x}"),
            "agent": AGENT,
            "providers": (provider,),
            "provider_org": ORG[provider],
            "tool": "once",
            "arguments": cbor.encode({}),
            "timeout_s": 10.0,
            "price_micro": self.price,
        }
        request = CallRequest(**(fields | changes))
        number = self.flow(node, "call", request)
        self.requests[number] = request
        return number

    def cancel(self, node: NodeId, number: int) -> None:
        self.world.nodes[node].deliver("flows", CancelFlow(number))

    # -- what is there

    def completed(self, provider: NodeId) -> dict[TaskId, Ended]:
        """What a provider has recorded as completed for others."""
        machine = self.world.nodes[provider].core.machine("org")
        assert isinstance(machine, OrgMachine)
        view = machine.replica.view()
        tasks = (read_task(view, TaskId(key.removeprefix(b"task/").decode())) for key, _ in view.scan(b"task/"))
        return {task.intent.task: task.ended for task in tasks if task is not None and task.ended is not None and task.ended.owed_micro}

    def paying(self, node: NodeId) -> Paying:
        machine = self.world.nodes[node].core.machine(PAYING)
        assert isinstance(machine, Paying)
        return machine

    def earning(self, node: NodeId) -> Earnings:
        machine = self.world.nodes[node].core.machine(EARNING)
        assert isinstance(machine, Earnings)
        return machine

    def is_closed(self, tab: bytes) -> bool:
        return TABS.read(self.chain.head, tab) is None

    def balance(self, org: OrgDid) -> int:
        account = ACCOUNTS.read(self.chain.head, org)
        assert account is not None
        return account.balance


async def _propose(command: object) -> object:
    return await Propose[object](command)


async def _propose_to(argument: tuple[object, str]) -> object:
    return await Propose[object](argument[0], to=argument[1])
