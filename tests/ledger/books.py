"""A ledger to try things on: a genesis of a few organisations with readable key names, one replica, and its audit after every block."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from random import Random

from meshos.consensus.ledger import kinds, transaction, tree
from meshos.consensus.ledger.accounts import ACCOUNTS
from meshos.consensus.ledger.application import Ledger
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.conservation import faults
from meshos.consensus.ledger.draft import Table
from meshos.consensus.ledger.keys import KEYS, possession
from meshos.consensus.ledger.results import COMMITTED, REFUSED, SKIPPED, Result, decode_result
from meshos.consensus.ledger.tabs import RedeemTab, voucher
from meshos.consensus.ledger.tree import State
from meshos.consensus.pbft.block import Block, Header
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.crypto.signing import Domain
from meshos.crypto.simulated import SimulatedSigner, SimulatedVerifier, SimulatedWorld
from meshos.genesis import Genesis, HumanKey, Org, Seat, Validator, parse
from meshos.ids import NodeId, OrgDid
from meshos.storage.memory import MemoryStore

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = parse((ROOT / "genesis.json").read_bytes())
NAMES = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta")
FUNDS = 1_000_000
RECEIPTS = b"r" * 32

WORLD = SimulatedWorld(1)


def did(name: str) -> OrgDid:
    return OrgDid(f"did:mesh:hospital:{name}")


def genesis(count: int = 4, coordinators: int | None = None, seats: int = 5) -> Genesis:
    """``count`` organisations, each with a root, a node, its validator key and two people; the first ``seats`` people share the council."""
    names = NAMES[:count]
    orgs = tuple(
        Org(
            did(name),
            f"{name}-root",
            b"0certificate",
            Validator(NodeId(f"{name}-1"), f"{name}-1-votes"),
            (HumanKey("Ada", f"{name}-ada"), HumanKey("Bob", f"{name}-bob")),
            FUNDS,
        )
        for name in names
    )
    people = [f"{name}-{who}" for who in ("ada", "bob") for name in names][:seats]
    taken = tuple(Seat("council", "Ada", did(key.split("-")[0]), key) for key in people)
    return replace(
        TEMPLATE,
        supply=FUNDS * count + 77,
        orgs=orgs,
        meta_coordinators=tuple(did(name) for name in names[: count if coordinators is None else coordinators]),
        governance=replace(TEMPLATE.governance, seats=taken),
    )


class Books:
    """One replica. Every signature is verified before a request is executed, as the agreement does it."""

    def __init__(self, of: Genesis | None = None) -> None:
        self.genesis = of or genesis()
        self.ledger = Ledger(self.genesis)
        self.store = MemoryStore(Random(0))
        self.store.write(self.ledger.genesis().writes)
        self.state = State(self.store)
        self.height = 0
        self.time_ms = self.genesis.time_ms
        self.validators: ValidatorSet | None = None
        self.blocks: list[Block] = []
        assert faults(self.state) == []

    # -- making requests

    def sign(self, key: str, domain: Domain, payload: bytes) -> bytes:
        return SimulatedSigner(WORLD, key).sign(domain, payload)

    def agrees(self, key: str, org: str, role: str) -> bytes:
        """The signature by which ``key`` agrees to belong to ``org``."""
        claim = possession(self.genesis.hash, key, org, role, b"")
        return self.sign(key, claim.domain, claim.payload)

    def redemption(self, tab: bytes, caller: str, micro: int) -> RedeemTab:
        signature = self.sign(caller, transaction.domain(self.genesis.hash, "voucher"), voucher(tab, micro))
        return RedeemTab(tab, caller, micro, RECEIPTS, signature)

    def nonce(self, key: str) -> int:
        found = KEYS.read(self.state, key)
        return 0 if found is None else found.nonce

    def request(self, key: str, body: Body, nonce: int | None = None, expires_ms: int | None = None) -> bytes:
        expires_ms = self.time_ms + 60_000 if expires_ms is None else expires_ms
        envelope = kinds.envelope_of(body, key, self.nonce(key) if nonce is None else nonce, expires_ms)
        return self.signed(key, envelope)

    def signed(self, key: str, envelope: bytes) -> bytes:
        return transaction.request(envelope, self.sign(key, transaction.domain(self.genesis.hash), envelope))

    # -- running blocks

    def holds(self, request: bytes) -> bool:
        """Whether all that the request claims was signed."""
        return all(SimulatedVerifier(WORLD).verify_many(self.ledger.claims(request)))

    def block(self, requests: Iterable[bytes] = (), later_ms: int = 1_000) -> list[Result]:
        """Execute a block; what would not have passed verification must not be in it."""
        self.height += 1
        self.time_ms += later_ms
        header = Header(self.height, 0, self.time_ms, bytes(32), tree.root(self.store), bytes(32), bytes(32))
        block = Block(header, tuple(requests))
        executed = self.ledger.execute(self.store, block)
        self.store.write(executed.writes)
        self.blocks.append(block)
        self.validators = executed.next_validators or self.validators
        assert executed.root == tree.root(self.store)
        assert faults(self.state) == []
        return [decode_result(result) for result in executed.results]

    def run(self, key: str, body: Body) -> Result:
        """One transaction in a block of its own."""
        request = self.request(key, body)
        assert self.holds(request)
        assert self.ledger.admit(self.store, request, self.time_ms) is None
        return self.block([request])[0]

    def do(self, key: str, body: Body) -> bytes:
        """It is committed; gives its id."""
        result = self.run(key, body)
        assert (result.outcome, result.name) == (COMMITTED, "")
        return result.id

    def refused(self, key: str, body: Body, name: str) -> None:
        """It is refused by this name, and nothing changes but the key's nonce and the block's outcomes."""
        before = self.entries()
        result = self.run(key, body)
        assert (result.outcome, result.name) == (REFUSED, name)
        after = self.entries()
        changed = {entry for entry in before.keys() | after.keys() if before.get(entry) != after.get(entry)}
        assert changed == {KEYS.key(key)}

    def skipped(self, request: bytes, name: str) -> None:
        """It cannot be included, by this name, and nothing changes; an honest primary would not have proposed it."""
        before = self.entries()
        result = self.block([request], later_ms=1)[0]
        assert (result.outcome, result.name) == (SKIPPED, name)
        assert self.entries() == before

    # -- looking

    def entries(self) -> dict[bytes, bytes]:
        """The state, without the proofs of results."""
        return {key: value for key, value in self.state.scan(b"") if not key.startswith(b"outcomes/")}

    def balance(self, name: str) -> int:
        account = ACCOUNTS.read(self.state, did(name))
        assert account is not None
        return account.balance

    def read(self, table: Table, name: str | bytes) -> object:  # type: ignore[type-arg]
        return table.read(self.state, name)
