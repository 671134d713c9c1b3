"""Nodes that call and pay each other over the simulator's links and disks, and one chain that runs the ledger's own state function.

There is no agreement here: the chain takes what it is given, in its own time, or not at all while it is down. Each node sees it late, each
at its own pace. Every signature that reaches it is verified first, as the agreement does it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from meshos import cbor
from meshos.consensus.ledger import transaction
from meshos.consensus.ledger.accounts import ACCOUNTS
from meshos.consensus.ledger.conservation import faults
from meshos.consensus.ledger.founding import initial
from meshos.consensus.ledger.keys import KEYS, NODE, VALIDATOR, possession
from meshos.consensus.ledger.kinds import envelope_of, read
from meshos.consensus.ledger.orgs import AddNode
from meshos.consensus.ledger.results import SKIPPED, Result, decode_result
from meshos.consensus.ledger.state import refusal_to_include, run
from meshos.consensus.ledger.tabs import TABS, OpenTab, RedeemTab, Tab, TopUpTab
from meshos.consensus.org.commands import DeployAgent, Tool
from meshos.consensus.org.entries import read_task
from meshos.consensus.org.machine import OrgMachine
from meshos.consensus.org.queries import Ended
from meshos.crypto.signing import Domain
from meshos.crypto.simulated import SimulatedSigner, SimulatedVerifier, SimulatedWorld
from meshos.effects import Completed, Err, Machine, Ok, Outcome, Tell, Tick
from meshos.errors import Unreachable
from meshos.flow import Propose
from meshos.flow_machine import Abandon, CancelFlow, FlowEnded, Flows, Perform, Service, StartFlow
from meshos.genesis_content import Genesis, Org, Validator
from meshos.ids import AgentId, NodeId, OrgDid, Peer, TaskId
from meshos.node.kernel.core import OUTSIDE
from meshos.protocols.ledger.port import LEDGER, Decided, Submit
from meshos.protocols.ledger.sender import MACHINE as TRANSACTIONS
from meshos.protocols.ledger.sender import Sender
from meshos.protocols.payments.books import OrgBooks
from meshos.protocols.payments.budget import USUAL, Budget
from meshos.protocols.payments.commands import EARNING, PAYING
from meshos.protocols.payments.earning import Earnings
from meshos.protocols.payments.paying import Paying
from meshos.protocols.payments.voucher import voucher_domain
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
from meshos.simulations.world import WALL_BEGIN_MS, SimNode, Spec, World
from tests.ledger.books import TEMPLATE, did

ALPHA, BETA, GAMMA = did("alpha"), did("beta"), did("gamma")
CALLERS = (NodeId("alpha-1"), NodeId("alpha-2"))
PROVIDERS = (NodeId("beta-1"), NodeId("gamma-1"))
ORG = {CALLERS[0]: ALPHA, CALLERS[1]: ALPHA, PROVIDERS[0]: BETA, PROVIDERS[1]: GAMMA}
FUNDS = 1_000_000_000
PRICE = 700_000
CREDIT = 10 * PRICE
AGENT = AgentId("a-0123456789abcdef")
STORES = ("org", TRANSACTIONS, PAYING, EARNING)


def genesis() -> Genesis:
    """Three organisations with one node each."""
    orgs = tuple(
        Org(did(name), f"{name}-root", b"0certificate", Validator(NodeId(f"{name}-1"), f"{name}-1-votes"), (), FUNDS)
        for name in ("alpha", "beta", "gamma")
    )
    governance = replace(TEMPLATE.governance, seats=())
    return replace(TEMPLATE, supply=3 * FUNDS, orgs=orgs, meta_coordinators=(), governance=governance, testnet=True, time_ms=WALL_BEGIN_MS)


@dataclass(frozen=True)
class Height:
    """The chain as it was after a block."""

    height: int
    time_ms: int
    entries: Mapping[bytes, bytes]

    def get(self, key: bytes) -> bytes | None:
        return self.entries.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted((key, value) for key, value in self.entries.items() if key.startswith(prefix)))


class Chain:
    """What is decided, once and for all."""

    def __init__(self, world: World, keys: SimulatedWorld) -> None:
        self.world = world
        self.keys = keys
        self.genesis = genesis()
        self.rng = world.generator("chain")
        self.blocks = [Height(0, WALL_BEGIN_MS, initial(self.genesis))]
        self.results: dict[bytes, Result] = {}
        self.pool: dict[bytes, None] = {}
        self.down = False
        self.every_s = (0.05, 0.6)
        self.done: list[tuple[str, object]] = []
        """Bodies that were committed, with who signed them."""
        self.seen: dict[bytes, Tab] = {}
        """Every tab that ever was, as it was last."""
        self.told: Callable[[], None] = lambda: None
        self._add_second_node()
        world.after(0.1, self._block)

    @property
    def head(self) -> Height:
        return self.blocks[-1]

    def submit(self, request: bytes) -> None:
        """It reached the agreement."""
        claims = read(request).claims(self.genesis.hash)
        assert all(SimulatedVerifier(self.keys).verify_many(claims)), "a node submitted what was not signed"
        if request not in self.results:
            self.pool[request] = None

    def _add_second_node(self) -> None:
        hash_ = self.genesis.hash

        def agrees(key: str, role: str) -> bytes:
            claim = possession(hash_, key, ALPHA, role, b"")
            return SimulatedSigner(self.keys, key).sign(claim.domain, claim.payload)

        body = AddNode(ALPHA, CALLERS[1], "alpha-2-votes", agrees(CALLERS[1], NODE), agrees("alpha-2-votes", VALIDATOR))
        envelope = envelope_of(body, "alpha-root", 0, WALL_BEGIN_MS + 60_000)
        self.submit(transaction.request(envelope, SimulatedSigner(self.keys, "alpha-root").sign(transaction.domain(hash_), envelope)))
        self.execute()

    def _block(self) -> None:
        self.world.after(self.rng.uniform(*self.every_s), self._block)
        if not self.down and (self.pool or self.world.now * 1000 + WALL_BEGIN_MS > self.head.time_ms + 5_000):
            self.execute()

    def execute(self) -> None:
        """A block with all that can be in it."""
        now_ms = max(WALL_BEGIN_MS + round(self.world.now * 1000), self.head.time_ms + 1)
        requests = [request for request in self.pool if self._fits(request, now_ms)]
        self.rng.shuffle(requests)
        requests.sort(key=lambda request: read(request).transaction.nonce)
        ran = run(self.head, self.head.height + 1, now_ms, requests)
        for request, encoded in zip(requests, ran.results, strict=True):
            result = decode_result(encoded)
            if result.outcome != SKIPPED:
                self.results[request] = result
                del self.pool[request]
            if result.outcome == "committed":
                order = read(request)
                self.done.append((order.transaction.key, order.body))
        entries = {**self.head.entries, **{key: value for key, value in ran.changes.items() if value is not None}}
        for key, value in ran.changes.items():
            if value is None:
                del entries[key]
        self.blocks.append(Height(self.head.height + 1, now_ms, entries))
        for height in self.blocks[-2:]:
            for key, value in height.scan(TABS.prefix):
                self.seen[key.removeprefix(TABS.prefix)] = TABS.decode(value)
        assert faults(self.head) == [], "the ledger's books do not add up"
        self.told()

    def _fits(self, request: bytes, now_ms: int) -> bool:
        order = read(request)
        tx = order.transaction
        refusal = refusal_to_include(order, KEYS.read(self.head, tx.key), now_ms)
        if refusal is not None and refusal.name != "nonce-ahead":
            if refusal.name in ("transaction-expired", "nonce-used"):
                self.pool = {other: None for other in self.pool if other != request}
            return False
        return True

    def opened(self) -> list[OpenTab | TopUpTab]:
        return [body for _, body in self.done if isinstance(body, OpenTab | TopUpTab)]

    def redeemed(self) -> list[RedeemTab]:
        return [body for _, body in self.done if isinstance(body, RedeemTab)]


DECIDED = Decided(None, ())  # type: ignore[arg-type]  # nobody looks into it


class Late:
    """The chain as one node sees it: a ``LedgerView``."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._at = chain.blocks[0]

    @property
    def height(self) -> int:
        return self._at.height

    @property
    def time_ms(self) -> int:
        return self._at.time_ms

    def move(self, height: int) -> None:
        self._at = self._chain.blocks[max(height, self._at.height)]

    def get(self, key: bytes) -> bytes | None:
        return self._at.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self._at.scan(prefix)

    def result(self, request: bytes) -> Result | None:
        found = self._chain.results.get(request)
        return found if found is not None and found.height <= self.height else None


@dataclass(frozen=True)
class Advance:
    """The node has executed up to this height."""

    height: int


class Replica:
    """The machine "ledger" of a node: it passes on, tells, and sometimes does neither."""

    def __init__(self, mesh: "Mesh", view: Late, rng: Random) -> None:
        self.mesh, self.view, self.rng = mesh, view, rng
        self.waiting: dict[bytes, list[tuple[str, int]]] = {}

    def step(self, now: float, event: object) -> list[object]:
        del now
        match event:
            case Perform(op, Propose(Submit(request))):
                return self._submit(event.reply_to, op, request)
            case Advance(height):
                self.view.move(height)
                done = [request for request in self.waiting if self.view.result(request) is not None]
                told = [Tell(machine, Completed(op, Ok(None))) for request in done for machine, op in self.waiting.pop(request)]
                return [*told, *(Tell(machine, DECIDED) for machine in (TRANSACTIONS, PAYING, EARNING))]
            case Abandon() | Tick():
                return []
        raise AssertionError(f"the ledger has no use for {event!r}")

    def deadline(self) -> float | None:
        return None

    def _submit(self, machine: str, op: int, request: bytes) -> list[object]:
        mesh = self.mesh
        if self.rng.random() < mesh.deaf:
            return [Tell(machine, Completed(op, Err(Unreachable("deadline-exceeded", "no quorum answered"))))]
        if self.rng.random() >= mesh.lossy:
            mesh.world.after(self.rng.uniform(0.001, 0.3), mesh.chain.submit, request)
        self.waiting.setdefault(request, []).append((machine, op))
        return []


class Watched:
    """A ``Signer`` of a node's own key: what it signs is out, whatever becomes of the node."""

    def __init__(self, mesh: "Mesh", name: NodeId) -> None:
        self.mesh, self.name = mesh, name

    def sign(self, domain: Domain, payload: bytes) -> bytes:
        if domain == voucher_domain(self.mesh.chain.genesis.hash):
            self.mesh.voucher_signed(self.name, payload)
        return SimulatedSigner(self.mesh.keys, self.name).sign(domain, payload)


class Mesh:
    """Two nodes that call, two that serve. ``lossy``: the share of submissions that are lost; ``deaf``: that are answered with an error."""

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
        self.world.noticed = self._noticed
        for node in (*CALLERS, *PROVIDERS):
            signer = Watched(self, node)
            ports: dict[type, Callable[[SimNode, object], object]] = {CallTool: self._call_tool, SignBytes: self._sign_bytes}
            self.world.add(
                Spec(node, ORG[node], self._build, STORES, signer, SimulatedVerifier(self.keys), ports=ports, first=self._first())
            )
        for node in self.nodes():
            node.start()
        self.agent = DeployAgent(AGENT, "Demo", 1, b"", "/", b"", (Tool("once", False), Tool("look", True)), price, "tests")
        for provider in PROVIDERS:
            self.propose(provider, self.agent)
        self.run(1.0)

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
        services = TaskServices(me, holder=holder, genesis_hash=hash_, verifier=verifier, payments=OnCredit(me.org))
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
        view = self.views[node.name] = Late(self.chain)
        self.world.after(0.0, self._catch_up, node)
        now, wall_ms = node.now(), node.wall_ms()
        return {
            "flows": Flows(table, limit=1000),
            "rpc": Rpc(me, dict.fromkeys((TASK, CALL_OFF, RECEIPT), lambda _: True), node.rng),
            "org": OrgMachine(node.views["org"], now=now, wall_ms=wall_ms),
            RECEIPTS: ReceiptOutbox(),
            LEDGER: Replica(self, view, self.rng),
            TRANSACTIONS: Sender(node.name, hash_, view, node.views[TRANSACTIONS], now=now, wall_ms=wall_ms),
            PAYING: Paying(me, hash_, self.budget, view, node.views[PAYING], now=now, wall_ms=wall_ms),
            EARNING: Earnings(me, view, OrgBooks(node.views["org"]), node.views[EARNING], now=now, credit_micro=self.credit, redeem_s=2.0),
        }

    @staticmethod
    def _providers_of(org: OrgDid) -> tuple[NodeId, ...]:
        return tuple(node for node, of in ORG.items() if of == org)

    def _call_tool(self, node: SimNode, effect: object) -> object:
        assert isinstance(effect, CallTool)
        return self.agents.call(effect)

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

    def voucher_signed(self, node: str, payload: bytes) -> None:
        """Every voucher that is signed: never over less than before, never above what is set aside."""
        tab, micro = cbor.decode(payload, max_bytes=100)
        assert isinstance(tab, bytes) and isinstance(micro, int)
        assert micro >= self.signed.get(tab, 0), "a voucher over less than one before"
        on_chain = TABS.read(self.chain.head, tab) or self.chain.seen[tab]
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
        view = self.world.nodes[provider].views["org"]
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
