"""Every bound of the authenticated state, its proofs and its chunks, with its reason, and how the bounds hang together."""

HASH_BYTES = 32

MAX_KEY_BYTES = 128
"""A kind, an organisation's DID of at most 83 bytes, and a number or a hash."""

MAX_VALUE_BYTES = 24 << 10
"""The largest value is a validator set of 100 seats with the longest names in use (about 21 KiB)."""

BUCKET_ENTRIES = 8
"""Keys that stand together in one leaf of the tree (docs/decisions/0015)."""

DEPTH = 64
"""Digits of a position, SHA-256 in base 16: no path is longer. Nine keys that share d digits cost some 2**(3.5 d) hashes to find."""

CACHED_NODES = 1 << 16
"""Of each of the two generations of nodes that are kept in memory: all of a state of 100,000 keys (20 MiB); never more than 100 MiB."""

CACHED_VALUES = 1 << 13
MAX_KEPT_VALUE_BYTES = 1 << 10
"""Values that are kept in memory, again in two generations, at most 18 MiB: what the last blocks wrote. Larger ones are not kept."""

MAX_PROOF_BYTES = 16 << 10
"""A path of the full depth with a full leaf. Real ones have about 1 KiB: four levels at 100,000 keys, five at two millions."""

MAX_CHUNK_BYTES = 256 << 10
"""A part of the state on its way to another node, or in a file."""

MAX_CHUNK_ENTRIES = 512
"""Keys of one chunk: some 10 ms to make or to check."""

MAX_EPOCHS = 1_024
"""Changes of the validator set in one bundle: years of them, since each takes a decision of the mesh."""

MAX_BUNDLE_BYTES = 16 << 20
"""About 1 KiB a change with four validators, 14 KiB with a hundred. At worst the signatures take 4 s to check."""

_ENTRY_BYTES = MAX_KEY_BYTES + 3 + HASH_BYTES + 2
"""Of a leaf in a proof, with CBOR's heads."""
_SIBLINGS_BYTES = 6 * HASH_BYTES + 2

assert DEPTH * _SIBLINGS_BYTES + BUCKET_ENTRIES * _ENTRY_BYTES + 64 <= MAX_PROOF_BYTES
# A leaf is never split, so one leaf of the largest values with the longest path must fit into a chunk.
assert BUCKET_ENTRIES * (MAX_VALUE_BYTES + MAX_KEY_BYTES + 16) + DEPTH * 516 + 256 <= MAX_CHUNK_BYTES
assert BUCKET_ENTRIES <= MAX_CHUNK_ENTRIES
