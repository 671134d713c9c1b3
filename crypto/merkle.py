"""Merkle trees over a list of byte strings (RFC 9162, section 2.1, the same trees as RFC 6962): one hash for all, a short proof for each.

    leaf   SHA-256(0x00 ++ data)
    node   SHA-256(0x01 ++ left ++ right), split at the largest power of two below the number of leaves
    empty  SHA-256("")

The two prefixes keep a node from being taken for a leaf. A list of n strings has a proof of at most ceil(log2 n) hashes, which says
at which place of how many the string stands: whoever is to rely on the number of leaves must learn it from somewhere else than
the prover (RFC 9162 signs it into the tree head).
"""

from collections.abc import Sequence
from hashlib import sha256
from itertools import chain

from meshos.errors import Refused

HASH_BYTES = 32

MAX_LEAVES = 1 << 32
"""Above anything that is hashed at once here, so that a stranger's proof has at most 32 steps."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of one string of the list."""
    return sha256(b"\0" + data).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The hash of the whole list."""
    return root_of(list(map(leaf_hash, leaves)))


def root_of(hashes: Sequence[bytes]) -> bytes:
    """The same, given ``leaf_hash`` of each string."""
    if not hashes:
        return sha256(b"").digest()
    level = list(hashes)
    while len(level) > 1:
        level = _above(level)
    return level[0]


def prove(hashes: Sequence[bytes], index: int) -> list[bytes]:
    """That the string at ``index`` is in the list, given ``leaf_hash`` of each (RFC 9162, section 2.1.3.1); the lowest hash first."""
    if not 0 <= index < len(hashes):
        raise ValueError(f"no string {index} in a list of {len(hashes)}")
    proof, level = [], list(hashes)
    while len(level) > 1:
        if index ^ 1 < len(level):
            proof.append(level[index ^ 1])
        index, level = index >> 1, _above(level)
    return proof


def verify(tree_root: bytes, leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> None:
    """Return if the string with the hash ``leaf`` stands at ``index`` of the list of ``size`` with ``tree_root``.

    RFC 9162, section 2.1.3.2. Raises Refused ``bad-proof``.
    """
    if not 0 <= index < size <= MAX_LEAVES:
        raise _bad("an index outside of its list")
    steps = iter(proof)
    found, last = leaf, size - 1
    while last:
        if index ^ 1 <= last:  # an odd one out moves up as it is
            other = next(steps, b"")
            if len(other) != HASH_BYTES:
                raise _bad("a proof of another length than its list needs")
            found = sha256(b"\1" + (other + found if index & 1 else found + other)).digest()
        index, last = index >> 1, last >> 1
    if next(steps, None) is not None:
        raise _bad("a proof of another length than its list needs")
    if found != tree_root:
        raise _bad("the string is not in this list")


def _above(level: list[bytes]) -> list[bytes]:
    """The next level. Pairing from the left splits where the RFC does: only the last subtree of a level may be incomplete."""
    pairs = zip(level[::2], level[1::2], strict=False)
    odd = level[len(level) & ~1 :]
    return list(chain((sha256(b"\1" + left + right).digest() for left, right in pairs), odd))


def _bad(why: str) -> Refused:
    return Refused("bad-proof", f"this proves nothing: {why}")
