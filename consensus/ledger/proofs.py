"""Proofs for one key of the ledger's state: small, self-contained, checked by anybody who has the root.

A proof is the way from a leaf up to the root: for each page the 6 hashes beside it (``nodes.py``: 3 of its quad, then the 3 other quads),
and the leaf itself. The leaf lists all keys that stand there with the hashes of their values, so it proves a key's value as well
as its absence; where nothing stands at all, the hash of nothing does. A verifier computes the key's position by itself, so a proof
for one place is none for another.
"""

import itertools
from dataclasses import dataclass
from hashlib import sha256

from meshos import cbor
from meshos.consensus.ledger.nodes import EMPTY, RECORD_BYTES, leaf, position, quad
from meshos.consensus.ledger.tree_limits import BUCKET_ENTRIES, DEPTH, HASH_BYTES, MAX_KEY_BYTES, MAX_PROOF_BYTES
from meshos.errors import Refused

_SIBLINGS_BYTES = 6 * HASH_BYTES


@dataclass(frozen=True, slots=True)
class Proof:
    """From the top down, the 6 hashes beside the way at each page; then the leaf's keys with the hashes of their values, in order."""

    levels: tuple[bytes, ...]
    entries: tuple[tuple[bytes, bytes], ...]


def siblings(page: bytes, digit: int) -> bytes:
    """The 6 hashes of ``page`` that, with the one at ``digit``, give its hash."""
    first = 1 + HASH_BYTES * (digit & 12)
    quad_of = RECORD_BYTES + HASH_BYTES * (digit >> 2)
    return (
        page[first : 1 + HASH_BYTES * digit]
        + page[1 + HASH_BYTES * (digit + 1) : first + 4 * HASH_BYTES]
        + page[RECORD_BYTES:quad_of]
        + page[quad_of + HASH_BYTES :]
    )


def verify(root: bytes, key: bytes, value: bytes | None, proof: Proof) -> None:
    """Return if the state with ``root`` has ``value`` under ``key`` (None: has nothing there); raises Refused ``bad-proof``."""
    if (None if value is None else sha256(value).digest()) != value_hash(root, key, proof):
        raise _bad("the state has another value under this key")


def value_hash(root: bytes, key: bytes, proof: Proof) -> bytes | None:
    """SHA-256 of the value that the state with ``root`` has under ``key``, or None; raises Refused ``bad-proof``."""
    entries = dict(proof.entries)
    if len(proof.levels) > DEPTH or not _well_formed(proof):
        raise _bad("it is not well formed")
    place = position(key)
    found = sha256(leaf(entries)).digest() if entries else EMPTY
    for depth in reversed(range(len(proof.levels))):
        found = _page_hash(found, int(place[depth], 16), proof.levels[depth])
    if found != root:
        raise _bad("it leads to another root")
    return entries.get(key)


def encode_proof(proof: Proof) -> bytes:
    """Canonical CBOR ``[[hashes, …], [[key, value hash], …]]``."""
    return cbor.encode(proof_fields(proof))


def decode_proof(data: bytes) -> Proof:
    """The proof again; raises Refused ``too-large``, ``bad-encoding`` or ``bad-proof``."""
    return proof_of(cbor.decode(data, max_bytes=MAX_PROOF_BYTES, max_depth=3))


def proof_fields(proof: Proof) -> list[object]:
    """A proof as a CBOR value."""
    return [proof.levels, proof.entries]


def proof_of(value: object) -> Proof:
    """The proof that a decoded value is; raises Refused ``bad-proof``."""
    match value:
        case [[*levels], [*rows]] if len(levels) <= DEPTH and len(rows) <= BUCKET_ENTRIES:
            proof = Proof(tuple(_bytes(level) for level in levels), tuple(_entry(row) for row in rows))
            if _well_formed(proof):
                return proof
    raise _bad("it is not well formed")


def _well_formed(proof: Proof) -> bool:
    keys = [key for key, _ in proof.entries]
    return (
        len(keys) <= BUCKET_ENTRIES
        and all(1 <= len(key) <= MAX_KEY_BYTES and len(hashed) == HASH_BYTES for key, hashed in proof.entries)
        and all(one < other for one, other in itertools.pairwise(keys))
        and all(len(level) == _SIBLINGS_BYTES for level in proof.levels)
    )


def _page_hash(child: bytes, digit: int, level: bytes) -> bytes:
    inner = HASH_BYTES * (digit & 3)
    outer = HASH_BYTES * (3 + (digit >> 2))
    lower = quad(level[:inner] + child + level[inner : 3 * HASH_BYTES])
    return quad(level[3 * HASH_BYTES : outer] + lower + level[outer:])


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    raise _bad("it is not well formed")


def _entry(row: object) -> tuple[bytes, bytes]:
    match row:
        case [bytes() as key, bytes() as hashed]:
            return key, hashed
    raise _bad("it is not well formed")


def _bad(why: str) -> Refused:
    return Refused("bad-proof", f"this proves nothing: {why}")
