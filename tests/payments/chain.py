"""One chain that runs the ledger's own state function, and what a node sees of it.

There is no agreement here: the chain takes what it is given, in its own time, or not at all while it is down. Each node sees it late, each
at its own pace. Every signature that reaches it is verified first, as the agreement does it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Protocol

from meshos.consensus.ledger import transaction
from meshos.consensus.ledger.conservation import faults
from meshos.consensus.ledger.founding import initial
from meshos.consensus.ledger.keys import KEYS, NODE, VALIDATOR, possession
from meshos.consensus.ledger.kinds import envelope_of, read
from meshos.consensus.ledger.orgs import AddNode
from meshos.consensus.ledger.results import SKIPPED, Result, decode_result
from meshos.consensus.ledger.state import refusal_to_include, run
from meshos.consensus.ledger.tabs import TABS, OpenTab, RedeemTab, Tab, TopUpTab
from meshos.crypto.simulated import SimulatedSigner, SimulatedVerifier, SimulatedWorld
from meshos.effects import Completed, Err, Ok, Tell, Tick
from meshos.errors import Unreachable
from meshos.flow import Propose
from meshos.flow_machine import Abandon, Perform
from meshos.genesis_content import Genesis, Org, Validator
from meshos.ids import NodeId
from meshos.node.kernel.payments import STORED
from meshos.protocols.ledger.port import Decided, Submit
from meshos.simulations.world import WALL_BEGIN_MS, World
from tests.ledger.books import TEMPLATE, did

ALPHA, BETA, GAMMA = did("alpha"), did("beta"), did("gamma")
SECOND = NodeId("alpha-2")
"""A node that genesis does not know."""
FUNDS = 1_000_000_000


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

        body = AddNode(ALPHA, SECOND, "alpha-2-votes", agrees(SECOND, NODE), agrees("alpha-2-votes", VALIDATOR))
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

    restoring = False

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


class Losses(Protocol):
    """``lossy``: the share of submissions that are lost; ``deaf``: that are answered with an error."""

    lossy: float
    deaf: float


@dataclass(frozen=True)
class Advance:
    """The node has executed up to this height."""

    height: int


class Stub:
    """The machine "ledger" of a node: it passes on, tells, and sometimes does neither."""

    def __init__(self, chain: Chain, view: Late, losses: "Losses", rng: Random) -> None:
        self.chain, self.view, self.losses, self.rng = chain, view, losses, rng
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
                return [*told, *(Tell(machine, DECIDED) for machine in STORED)]
            case Abandon() | Tick():
                return []
        raise AssertionError(f"the ledger has no use for {event!r}")

    def deadline(self) -> float | None:
        return None

    def _submit(self, machine: str, op: int, request: bytes) -> list[object]:
        losses, chain = self.losses, self.chain
        if self.rng.random() < losses.deaf:
            return [Tell(machine, Completed(op, Err(Unreachable("deadline-exceeded", "no quorum answered"))))]
        if self.rng.random() >= losses.lossy:
            chain.world.after(self.rng.uniform(0.001, 0.3), chain.submit, request)
        self.waiting.setdefault(request, []).append((machine, op))
        return []
