"""The kinds of transactions: what each is, who may send it, how large it may be. One table, and the way from bytes to a kind."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from meshos import cbor
from meshos.consensus.ledger import transaction
from meshos.consensus.ledger.accounts import Transfer
from meshos.consensus.ledger.approvals import Judge, Propose
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.codebooks import Endorse
from meshos.consensus.ledger.commitments import Commit
from meshos.consensus.ledger.evidence import Accusation, is_accusation, read_accusation
from meshos.consensus.ledger.keys import HUMAN, NODE, ROOT
from meshos.consensus.ledger.limits import CERTIFIED_BYTES, COSIGNED_BYTES, REASONED_BYTES, SMALL_BYTES, TRANSACTIONS_CACHED
from meshos.consensus.ledger.motions import Move, Vote
from meshos.consensus.ledger.orgs import AddHuman, AddNode, Leave, RemoveHuman, RemoveNode, RotateRoot, RotateValidator
from meshos.consensus.ledger.people import Pause
from meshos.consensus.ledger.rents import Rent
from meshos.consensus.ledger.seats import Seat
from meshos.consensus.ledger.tabs import CloseTab, OpenTab, RedeemTab, TopUpTab
from meshos.consensus.ledger.testimonies import Testify
from meshos.consensus.ledger.transaction import Transaction
from meshos.consensus.ledger.upgrades import Support
from meshos.crypto.signing import Claim
from meshos.errors import Refused
from meshos.values import frozen


@frozen
class Kind:
    """How bodies of one kind are read; the roles of the keys that may sign it; the largest request."""

    read: Callable[[cbor.Value], Body]
    roles: frozenset[str]
    max_bytes: int


_ROOT, _NODE, _ORG, _HUMAN = frozenset({ROOT}), frozenset({NODE}), frozenset({ROOT, NODE}), frozenset({HUMAN})

KINDS: Mapping[str, Kind] = {
    Transfer.KIND: Kind(Transfer.read, _ORG, SMALL_BYTES),
    OpenTab.KIND: Kind(OpenTab.read, _NODE, SMALL_BYTES),
    TopUpTab.KIND: Kind(TopUpTab.read, _ORG, SMALL_BYTES),
    RedeemTab.KIND: Kind(RedeemTab.read, _ORG, SMALL_BYTES),
    CloseTab.KIND: Kind(CloseTab.read, _ORG, SMALL_BYTES),
    Rent.KIND: Kind(Rent.read, _ORG, SMALL_BYTES),
    Commit.KIND: Kind(Commit.read, _ORG, SMALL_BYTES),
    AddNode.KIND: Kind(AddNode.read, _ROOT, SMALL_BYTES),
    RemoveNode.KIND: Kind(RemoveNode.read, _ROOT, SMALL_BYTES),
    AddHuman.KIND: Kind(AddHuman.read, _ROOT, SMALL_BYTES),
    RemoveHuman.KIND: Kind(RemoveHuman.read, _ROOT, SMALL_BYTES),
    RotateRoot.KIND: Kind(RotateRoot.read, _ROOT, CERTIFIED_BYTES),
    RotateValidator.KIND: Kind(RotateValidator.read, _ORG, SMALL_BYTES),
    Leave.KIND: Kind(Leave.read, _ROOT, SMALL_BYTES),
    Seat.KIND: Kind(Seat.read, _ORG, COSIGNED_BYTES),
    Move.KIND: Kind(Move.read, _ORG, CERTIFIED_BYTES),
    Vote.KIND: Kind(Vote.read, _ORG, SMALL_BYTES),
    Support.KIND: Kind(Support.read, _ORG, SMALL_BYTES),
    Endorse.KIND: Kind(Endorse.read, _ORG, SMALL_BYTES),
    Testify.KIND: Kind(Testify.read, _NODE, SMALL_BYTES),
    Propose.KIND: Kind(Propose.read, _ORG, REASONED_BYTES),
    Judge.KIND: Kind(Judge.read, _ORG | _HUMAN, REASONED_BYTES),
    Pause.KIND: Kind(Pause.read, _HUMAN, REASONED_BYTES),
}


@frozen
class Order:
    """A transaction whose body was read."""

    transaction: Transaction
    kind: Kind
    body: Body

    def claims(self, genesis_hash: bytes) -> Sequence[Claim]:
        """What must be verified before it counts: its signature, and those that its body holds."""
        tx = self.transaction
        own = Claim(tx.key, transaction.domain(genesis_hash), tx.envelope, tx.signature)
        return (own, *self.body.claims(genesis_hash))


def read(request: bytes) -> Order | Accusation:
    """What ``request`` asks for. It is asked for on arrival, in a proposal and in execution; small ones, which are most, are kept for that.

    Raises Refused ``too-large``, ``bad-encoding``, ``unknown-version``, ``unknown-kind``, ``transaction-malformed``,
    ``amount-out-of-bounds``, ``parameter-unknown`` or ``no-evidence``.
    """
    return _kept(request) if len(request) <= SMALL_BYTES else _read(request)


def _read(request: bytes) -> Order | Accusation:
    if is_accusation(request):
        return read_accusation(request)
    tx = transaction.decode(request)
    kind = KINDS.get(tx.kind)
    if kind is None:
        raise Refused("unknown-kind", f"there is no transaction of the kind {tx.kind!r}")
    if len(request) > kind.max_bytes:
        raise Refused("too-large", f"a {tx.kind} has at most {kind.max_bytes} bytes, this one {len(request)}")
    return Order(tx, kind, kind.read(tx.body))


_kept = lru_cache(maxsize=TRANSACTIONS_CACHED)(_read)


def envelope_of(body: Body, key: str, nonce: int, expires_ms: int) -> bytes:
    """The bytes that ``key`` signs to have ``body`` done (``transaction.request`` then makes a request of it)."""
    return transaction.envelope(body.KIND, key, nonce, expires_ms, body.fields())
