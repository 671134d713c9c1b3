"""What the API says of the ledger and has done on it: read from this node's own replica, and marked with how far that is."""

import hashlib
from dataclasses import dataclass
from typing import Any

import trio

from meshos import catalogue
from meshos.consensus.ledger import bundles, queries, transaction, tree
from meshos.consensus.ledger.accounts import Transfer
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.keys import HUMAN, KEYS, NODE
from meshos.consensus.ledger.kinds import Order, read
from meshos.consensus.ledger.light_client import encode_bundle
from meshos.consensus.ledger.results import COMMITTED, Result, decode_result
from meshos.consensus.ledger.tabs import TABS, Tab
from meshos.consensus.pbft.block import Certified, request_hash
from meshos.consensus.pbft.events import Committed, Head, ReadBlock, ReadHead, Submit
from meshos.consensus.pbft.replica import Replica
from meshos.errors import KINDS, BadInput, Done, Failed, MeshError, Refused, Unreachable
from meshos.ids import NodeId, OrgDid, parse_org_did
from meshos.node.api import shapes
from meshos.node.facade.orgs import org_view
from meshos.node.facade.tabs import close_tab
from meshos.node.facade.views import NameOf
from meshos.node.kernel.asking import ASK_LEDGER, SEND
from meshos.node.runtime.host import Host
from meshos.protocols.ledger.port import ReplicaLedger
from meshos.protocols.ledger.sender import IsKnown, Send
from meshos.protocols.ledger.slots import UNKNOWN, Concluded
from meshos.storage.store import LiveView, View

LOOK_S = 5.0
"""A question to this node's own replica."""
BACK = 4096
"""A transaction is looked for in so many of the newest blocks."""
MAX_TABS_SHOWN = 100
"""Of an account; more only where the organisation pays on more (``MAX_TABS`` of the ledger is the most)."""


@dataclass(frozen=True, slots=True)
class Books:
    """What the API reads: this node's replica, its state as a View, and the View of its whole store (for proofs)."""

    replica: Replica
    window: ReplicaLedger
    store: LiveView


class LedgerDesk:
    """The part of the facade that has to do with the ledger. ``genesis_hash`` names the mesh."""

    def __init__(self, host: Host, books: Books, genesis_hash: bytes, me: NodeId, name_of: NameOf) -> None:
        self._host = host
        self._books = books
        self._genesis_hash = genesis_hash
        self._me = me
        self._name_of = name_of
        self._searching = trio.Lock()
        """Looking for a transaction, or for the tabs of an organisation, takes a core: one at a time."""

    async def head(self) -> shapes.LedgerHead:
        """The newest block that this node has."""
        head: Head = await self._ask(ReadHead())
        validators = self._books.replica.core.chain.validators
        seat = validators.index_of(self._me)
        suspended = seat is not None and validators.entries[seat].suspended
        silent = head.silent or ("validator-suspended" if suspended else "")
        return shapes.LedgerHead(
            height=head.height,
            hash=head.hash.hex(),
            state_root=head.state_root.hex(),
            time_ms=head.time_ms,
            epoch=head.epoch,
            view=head.view,
            primary=self.name_of(head.primary),
            validators=validators.n,
            quorum=validators.q,
            votes=head.validator and not silent,
            silent=silent,
            behind=head.behind,
            waiting=head.pool,
        )

    async def block(self, height: int) -> shapes.Json:
        """A block, who signed it, and what became of each of its transactions; raises Refused ``no-such-block``."""
        found: Certified | None = await self._ask(ReadBlock(height))
        if found is None:
            newest = self._books.window.height
            raise Refused("no-such-block", f"this node has no block {height}", hint=f"its newest is {newest}; old ones may be pruned")
        header, chain = found.block.header, self._books.replica.core.chain
        validators = chain.validators_of(header.epoch)
        signers = [index for index, _ in found.certificate.signatures]
        return {
            "height": header.height,
            "hash": found.block.hash.hex(),
            "parent": header.parent.hex(),
            "stateRoot": header.state_root.hex(),
            "requestsRoot": header.requests_root.hex(),
            "time_ms": header.time_ms,
            "epoch": header.epoch,
            "view": found.certificate.view,
            "signedBy": [validators.entries[index].org for index in signers] if validators is not None else signers,
            "transactions": [self._described(request) for request in found.block.requests],
        }

    async def account(self, did: str) -> shapes.Json:
        """An organisation's account and its tabs; raises BadInput ``bad-did``, Refused ``no-such-account`` or ``state-incomplete``."""
        org, books = read_did(did), self._books
        async with self._searching:
            if books.window.restoring:
                raise tree.incomplete()
            account = queries.account(books.window, org)
            if account is None:
                raise Refused("no-such-account", f"the ledger has no account of {org}", hint="`mesh members --json` has their DIDs")
            said = {"did": org, "balance_micro": account.balance, "open": account.open, "height": books.window.height}
            picture = books.store.snapshot()
            try:
                return {**said, "tabs": await trio.to_thread.run_sync(_tabs_of, tree.State(picture), org)}
            finally:
                picture.close()

    async def transfer(self, to: str, micro: int, key: str, timeout_s: float) -> shapes.Json:
        """Move MESH of this node's organisation; returns when it is committed.

        Raises what the catalogue has for the ledger's refusal or ``transaction-expired``, Unreachable ``unknown-yet``.
        """
        body = Transfer.read([read_did(to), micro])  # its bounds are looked at before a nonce is spent on it
        done = await self.send(body, key, timeout_s)
        return {"txId": done.id.hex(), "height": done.height, "outcome": done.outcome}

    async def send(self, body: Body, key: str, timeout_s: float) -> Concluded:
        """Have ``body`` done in the name of this node, once for one ``key``; returns when it is committed. Raises as ``transfer``."""
        try:
            done: Concluded = await self._host.flow(SEND, Send(_ref(key), body), timeout_s=timeout_s)
        except MeshError as error:
            if error.name != "deadline-exceeded":
                raise
            raise _unknown_yet(timeout_s) from error
        if done.outcome == COMMITTED:
            return done
        if done.outcome == UNKNOWN:
            what = "the ledger has decided on this transaction while this node was away, and what it decided is not known here"
            raise Unreachable("unknown-yet", what, hint=f"ask another node: mesh ledger tx {done.id.hex()[:16]}; it cannot be done twice")
        raise _failed(done.name or "transaction-expired")

    async def knows(self, key: str) -> bool:
        """Whether ``send`` has sent something for this ``key``, so that it would only tell what became of it."""
        known: bool = await self._host.flow(SEND, IsKnown(_ref(key)), timeout_s=LOOK_S)
        return known

    async def submit(self, request: bytes, timeout_s: float) -> shapes.Json:
        """Have a transaction ordered that somebody signed elsewhere. Raises as ``transfer``."""
        tx = transaction.decode(request)
        try:
            placed: Committed = await self._host.flow(ASK_LEDGER, Submit(request), timeout_s=timeout_s)
        except MeshError as error:
            if error.name != "deadline-exceeded":
                raise
            raise _unknown_yet(timeout_s) from error
        result = decode_result(placed.result)
        if result.outcome != COMMITTED:
            raise _failed(result.name, "not_done" if result.final else "unknown")
        return {"txId": tx.id.hex(), "height": placed.height, "outcome": result.outcome}

    async def transaction(self, text: str) -> shapes.Json:
        """What became of a transaction, by its id or the beginning of it.

        Raises BadInput ``bad-transaction-id``, Refused ``no-such-transaction``.
        """
        if not 8 <= len(text) <= 64 or any(sign not in "0123456789abcdef" for sign in text):
            raise BadInput("bad-transaction-id", f"{text[:70]!r} is no transaction's id", hint="it is 64 hex digits; 8 of them are enough")
        async with self._searching:
            newest = self._books.window.height
            for height in range(newest, max(0, newest - BACK), -1):
                found = self._books.replica.core.chain.certified(height)
                for request in () if found is None else found.block.requests:
                    if request_id(request).hex().startswith(text):
                        return self._described(request) | {"height": height}
                await trio.lowlevel.checkpoint()  # thousands of blocks take seconds, and the node votes meanwhile
        raise Refused(
            "no-such-transaction", f"none of this node's newest {BACK} blocks holds {text[:16]}", hint="it may wait yet, or have expired"
        )

    async def key(self, name: str) -> shapes.Json:
        """What the ledger knows of a key, and what its next transaction must have; raises Refused ``no-such-ledger-key``."""
        window = self._books.window
        found = KEYS.read(window, name)
        if found is None:
            hint = "its organisation registers it: `mesh org register`"
            raise Refused("no-such-ledger-key", f"the ledger knows no key {name[:64]!r}", hint=hint)
        return {
            "key": name,
            "role": found.role or "retired",
            "org": found.org,
            "name": found.label if found.role == HUMAN else None,
            "validator": found.label if found.role == NODE else None,
            "nonce": found.nonce,
            "genesis": self._genesis_hash.hex(),
            "height": window.height,
            "time_ms": window.time_ms,
        }

    async def org(self, did: str) -> shapes.Json:
        """An organisation's keys and its seat; raises BadInput ``bad-did``, and as ``org_view``."""
        return org_view(self._books.window, self._books.replica.core.chain.validators, read_did(did), self._name_of)

    async def close_tab(self, text: str) -> shapes.Json:
        """See ``tabs.close_tab``."""
        return await close_tab(self._host, self._books.window, self._me, text, self._name_of)

    async def proof(self, key: str) -> bytes:
        """A file by which anybody can check what the ledger says of ``key`` (``mesh ledger verify``)."""
        return encode_bundle(bundles.bundle(self._books.store, self._genesis_hash, key.encode()))

    def name_of(self, node: NodeId) -> str:
        """What a node calls itself; its id, if it is no member now."""
        return self._name_of(node) or node

    # -- parts -------------------------------------------------------------------------------------------------------

    async def _ask(self, command: object) -> Any:
        return await self._host.flow(ASK_LEDGER, command, timeout_s=LOOK_S)

    def _described(self, request: bytes) -> dict[str, object]:
        result: Result | None = self._books.window.result(request)
        try:
            order = read(request)
        except Refused as refusal:
            return {"kind": None, "refusal": refusal.name, "bytes": len(request)}
        came: dict[str, object] = {
            "outcome": None if result is None else result.outcome,
            "refusal": (result.name or None) if result is not None else None,
        }
        if not isinstance(order, Order):
            return {"txId": order.id.hex(), "kind": "evidence", **came}
        tx = order.transaction
        said: dict[str, object] = {"txId": tx.id.hex(), "kind": tx.kind, "key": tx.key, "nonce": tx.nonce, "expires_ms": tx.expires_ms}
        return said | came


def _ref(key: str) -> bytes:
    return b"api/" + hashlib.sha256(key.encode()).digest()


def read_did(did: str) -> OrgDid:
    """The DID of an organisation; raises BadInput ``bad-did``."""
    try:
        parse_org_did(did)
    except ValueError as error:
        raise BadInput("bad-did", str(error), hint="`mesh members --json` has the DIDs of this mesh") from error
    return OrgDid(did)


def request_id(request: bytes) -> bytes:
    """The id of a transaction in a block; of what is none (evidence) its hash."""
    try:
        return transaction.decode(request).id
    except Refused:
        return request_hash(request)


def advice(name: str) -> str:
    """What the catalogue says is to be done about an error of the ledger, as a hint."""
    known = catalogue.entries().get(name)
    return "" if known is None else known.do[:1].lower() + known.do[1:].rstrip(".")


def _failed(name: str, outcome: Done = "not_done") -> MeshError:
    """Of the kind that the catalogue says, so that a command ends with the exit code that is documented."""
    known = catalogue.entries().get(name)
    kind = Failed if known is None else KINDS[known.kind]
    return kind(name, f"the ledger did not do it: {name}", hint=advice(name), outcome=outcome)


def _tabs_of(state: View, org: OrgDid) -> list[dict[str, object]]:
    """Those of all tabs of the mesh in which ``org`` pays, of which the ledger allows it a few, then those in which it is paid, up to
    MAX_TABS_SHOWN in all: for a worker thread.
    """
    paying: list[dict[str, object]] = []
    earning: list[dict[str, object]] = []
    for key, value in state.scan(TABS.prefix):
        tab = TABS.decode(value)
        if tab.org == org:
            paying.append(_tab(key.removeprefix(TABS.prefix), tab))
        elif tab.provider == org and len(earning) < MAX_TABS_SHOWN:
            earning.append(_tab(key.removeprefix(TABS.prefix), tab))
    return paying + earning[: max(0, MAX_TABS_SHOWN - len(paying))]


def _tab(id_: bytes, tab: Tab) -> dict[str, object]:
    return {
        "tab": id_.hex(),
        "caller": tab.caller,
        "org": tab.org,
        "provider": tab.provider,
        "reserved_micro": tab.reserved,
        "redeemed_micro": tab.redeemed,
        "closes_ms": tab.closes_ms or None,
    }


def _unknown_yet(timeout_s: float) -> Unreachable:
    what = f"the ledger has not said within {timeout_s:g} s what became of it"
    return Unreachable("unknown-yet", what, hint="it may be done later, once: look again when the ledger goes on")
