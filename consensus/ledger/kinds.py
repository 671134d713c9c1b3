"""The kinds of transactions: what each is, who may send it, how large it may be. One table, and the way from bytes to a kind."""

from collections.abc import Callable
from functools import lru_cache

from meshos import cbor
from meshos.consensus.ledger import transaction
from meshos.consensus.ledger.accounts import Transfer
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.keys import NODE, ROOT
from meshos.consensus.ledger.limits import SMALL_BYTES, TRANSACTIONS_CACHED
from meshos.consensus.ledger.transaction import Transaction
from meshos.crypto.signing import Claim
from meshos.errors import Refused
from meshos.values import frozen


@frozen
class Kind:
    """How bodies of one kind are read; the roles of the keys that may sign it; the largest request."""

    read: Callable[[cbor.Value], Body]
    roles: frozenset[str]
    max_bytes: int


_ORG = frozenset({ROOT, NODE})

KINDS: dict[str, Kind] = {
    Transfer.KIND: Kind(Transfer.read, _ORG, SMALL_BYTES),
}


@frozen
class Order:
    """A transaction whose body was read."""

    transaction: Transaction
    kind: Kind
    body: Body


@lru_cache(maxsize=TRANSACTIONS_CACHED)
def read(request: bytes) -> Order:
    """The order in ``request``. It is asked for on arrival, in a proposal and in execution, hence kept.

    Raises Refused ``too-large``, ``bad-encoding``, ``unknown-version``, ``unknown-kind``, ``transaction-malformed`` or ``bad-amount``.
    """
    tx = transaction.decode(request)
    kind = KINDS.get(tx.kind)
    if kind is None:
        raise Refused("unknown-kind", f"there is no transaction of the kind {tx.kind!r}")
    if len(request) > kind.max_bytes:
        raise Refused("too-large", f"a {tx.kind} has at most {kind.max_bytes} bytes, this one {len(request)}")
    return Order(tx, kind, kind.read(tx.body))


def claims(order: Order, genesis_hash: bytes) -> list[Claim]:
    """What must be verified before ``order`` counts: its signature, and those that its body holds."""
    tx = order.transaction
    return [Claim(tx.key, transaction.domain(genesis_hash), tx.envelope, tx.signature), *order.body.claims(genesis_hash)]


def envelope_of(body: Body, key: str, nonce: int, expires_ms: int) -> bytes:
    """The bytes that ``key`` signs to have ``body`` done (``transaction.request`` then makes a request of it)."""
    return transaction.envelope(body.KIND, key, nonce, expires_ms, body.fields())
