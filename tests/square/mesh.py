"""A mesh without nodes: a genesis, a ledger of a few blocks and epochs, and what a node of it knows and answers."""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from meshos import cbor
from meshos.consensus.ledger import tree
from meshos.consensus.ledger.founding import initial
from meshos.consensus.pbft.block import Block, Certified, requests_root
from meshos.consensus.pbft.codec import step_fields
from meshos.consensus.pbft.records import HEAD, HeadRecord, block_key, encode_head, epoch_key
from meshos.crypto.keys import SigningKey, node_id
from meshos.crypto.signing import Domain, sign
from meshos.effects import Put
from meshos.genesis import Genesis, parse, to_json
from meshos.ids import Peer
from meshos.protocols.square import describe, headers, proof, resolve
from meshos.protocols.square.answering import Answering, Asker, Protocol
from meshos.protocols.square.budget import Budget
from meshos.protocols.square.knowledge import Known
from meshos.storage.store import View
from tests.ledger_tree.chains import Chain, founded
from tests.ledger_tree.states import Memory

TEMPLATE = parse((Path(__file__).resolve().parent.parent.parent / "genesis.json").read_bytes())
GENESIS = founded(TEMPLATE, ["a", "b", "c", "d"])
DID = "did:mesh:enterprise:a"
ACCOUNT = b"account/" + DID.encode()
KEY = SigningKey(bytes(range(32)))
ME = Peer(node_id(KEY.public), GENESIS.orgs[0].did)
ASKER = Asker("12D3KooWStranger", "192.0.2.7")
T = TypeVar("T")


class Ledger:
    """The state as ``LedgerView``."""

    def __init__(self, store: View, height: int, time_ms: int) -> None:
        state = tree.State(store)
        self.get, self.scan, self.height, self.time_ms = state.get, state.scan, height, time_ms
        self.restoring = False

    def result(self, request: bytes) -> None:
        return None


@dataclass(frozen=True)
class Mesh:
    """``known`` is what the node knows, ``chain`` how it came so far."""

    known: Known
    chain: Chain
    store: Memory
    ledger: Ledger

    def grow(self) -> None:
        """One more block."""
        _lay_block(self.store, self.chain, tree.root(self.store))
        self.ledger.height = self.chain.height


def _lay_block(store: Memory, chain: Chain, root: bytes) -> None:
    signed = chain.signed(replace(chain.header(root), requests_root=requests_root([])))
    certified = Certified(Block(signed.header, ()), signed.certificate)
    head = HeadRecord(signed.header.height, signed.header.hash, 0, 0, root, 1, 1, chain.validators, None)
    store.lay([Put(HEAD, encode_head(head)), Put(block_key(head.height), certified.encoded)])
    store.change({b"other": b"what block %d wrote" % head.height})


def mesh(*sets: str, genesis: Genesis = GENESIS, blocks: bool = True) -> Mesh:
    """With a change of the validators for each of ``sets`` (a letter an organisation), and one block after them."""
    store, chain = Memory(), Chain(genesis)
    root = store.change(dict(initial(genesis)))
    for names in sets:
        chain.hand_over(list(names))
    if blocks:
        store.lay([Put(epoch_key(step.validators.epoch), cbor.encode(step_fields(step))) for step in chain.steps])
        _lay_block(store, chain, root)
    ledger = Ledger(store, chain.height, 0)
    known = Known(ME, "0.1.0", genesis, to_json(genesis), store, ledger, lambda: ("/ip4/192.0.2.1/tcp/8401",))
    return Mesh(known, chain, store, ledger)


def reading(known: Known) -> list[Protocol]:
    """The protocols that only read the ledger."""
    names = [describe.NAME, headers.NAME, proof.NAME, resolve.NAME]
    return [describe.protocol(known, lambda: names), headers.protocol(known), proof.protocol(known), resolve.protocol(known)]


def answering(known: Known, also: Sequence[Protocol] = ()) -> Answering:
    """What a node of the mesh answers with."""
    return Answering([*reading(known), *also], Budget())


def done(work: Awaitable[T]) -> T:
    """The result of what never waits."""
    coroutine = work.__await__()
    try:
        next(coroutine)
    except StopIteration as end:
        value: T = end.value
        return value
    raise AssertionError("it waits")


async def signs(domain: Domain, payload: bytes) -> bytes:
    """By the node's key."""
    return sign(KEY, domain, payload)


MESH_KNOWN = mesh("abcde").known
