"""Transactions: what a key signs so that the ledger does it, once.

    envelope   [version, kind, key, nonce, expires_ms, body]
    request    [envelope (its bytes), signature]

Both canonical CBOR. ``key`` names the signer: the Multikey of a root or human key, the node id of a node. The signature covers the
envelope's bytes in the domain (genesis, "ledger", phase "transaction"); they are stored and forwarded as they came, never encoded
again. A transaction's id is the SHA-256 of its envelope: the signature is no part of it, so another valid signature by the same key
makes no other transaction.

``nonce`` counts the key's transactions from 0. Exactly the next one can be executed, so none is executed twice. ``expires_ms`` is in
ledger time: in a block with a later time the transaction does nothing. Whoever waits for it therefore learns one of three things
in the end: committed, refused, or expired.

A version that is not known is invalid. A new version takes effect at an activation height (``upgrades.py``).
"""

import hashlib
from functools import lru_cache

from meshos import cbor
from meshos.consensus.ledger.fields import is_key, is_number, is_signature
from meshos.consensus.ledger.limits import MAX_BODY_DEPTH, MAX_KIND_CHARS
from meshos.consensus.pbft.limits import MAX_REQUEST_BYTES
from meshos.crypto.signing import Domain
from meshos.errors import Refused
from meshos.values import frozen

PROTOCOL = "ledger"
VERSION = 1


@frozen
class Transaction:
    """A decoded request. ``body`` is what its kind makes of it (``kinds.py``)."""

    kind: str
    key: str
    nonce: int
    expires_ms: int
    body: cbor.Value
    envelope: bytes
    signature: bytes
    id: bytes


@lru_cache(maxsize=16)
def domain(genesis_hash: bytes, phase: str = "transaction") -> Domain:
    """What a signature is for: a "transaction"; a "voucher" (tabs.py), the "possession" of a key (keys.py), a "seat" (seats.py)."""
    return Domain(genesis_hash, PROTOCOL, phase=phase)


def envelope(kind: str, key: str, nonce: int, expires_ms: int, body: object) -> bytes:
    """The bytes to sign."""
    return cbor.encode([VERSION, kind, key, nonce, expires_ms, body])


def request(envelope: bytes, signature: bytes) -> bytes:
    """A signed envelope as it travels."""
    return cbor.encode([envelope, signature])


def transaction_id(envelope: bytes) -> bytes:
    """32 bytes."""
    return hashlib.sha256(envelope).digest()


def decode(request: bytes) -> Transaction:
    """The transaction in ``request``, its signature not yet checked.

    Raises Refused ``too-large``, ``bad-encoding``, ``unknown-version`` or ``transaction-malformed``.
    """
    match cbor.decode(request, max_bytes=MAX_REQUEST_BYTES, max_depth=1):
        case [bytes() as signed, signature] if is_signature(signature):
            return _opened(signed, signature)
    raise Refused("transaction-malformed", "a transaction is [envelope, signature]")


def _opened(signed: bytes, signature: bytes) -> Transaction:
    match cbor.decode(signed, max_bytes=MAX_REQUEST_BYTES, max_depth=MAX_BODY_DEPTH):
        case [version, *rest] if is_number(version):
            if version != VERSION:
                raise Refused("unknown-version", f"a transaction of version {version}; this mesh knows {VERSION}")
            match rest:
                case [str() as kind, key, nonce, expires_ms, body] if is_key(key) and is_number(nonce) and is_number(expires_ms):
                    if len(kind) <= MAX_KIND_CHARS:
                        return Transaction(kind, key, nonce, expires_ms, body, signed, signature, transaction_id(signed))
    raise Refused("transaction-malformed", "an envelope is [version, kind, key, nonce, expires_ms, body]")
