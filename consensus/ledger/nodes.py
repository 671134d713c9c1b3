"""The nodes of the state tree: how they are written and hashed.

A key's position is SHA-256 of it, 64 digits in base 16; a node's path is the beginning that the positions of all keys below it share.

    leaf   0x00 ++ (length of key (1), key, SHA-256 of value) …    1 to 8 keys in the order of their bytes; hash = SHA-256 of it
    page   0x01 ++ 16 hashes, one for each next digit              hash = SHA-256(0x01 ++ 4 quads),
                                                                   quad = SHA-256(0x01 ++ 4 of the hashes)
    nothing                                                        hash = 32 zero bytes

A path below which there are at most 8 keys has a leaf, any other a page: so the tree is a function of its content alone. Hashing a page in
two steps of four makes a proof carry 6 hashes a page instead of 15. Both steps have the same prefix, and whoever verifies takes both, so
that neither can stand for the other; a leaf begins with another byte than they do.

Here a node is ``bytes``: a leaf as above, a page with its four quads after the 16 hashes, so that a change of one hash costs two SHA-256
and not five. Nodes are also kept in memory by their hash. Whoever asks for a hash gets what has this hash, whatever view, block
or replica it comes from; so the memory needs no invalidation, and what comes from the disk is checked when it comes.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256

from meshos.consensus.ledger.tree_limits import BUCKET_ENTRIES, CACHED_NODES, CACHED_VALUES, HASH_BYTES, MAX_KEY_BYTES

EMPTY = bytes(HASH_BYTES)
"""The hash of a subtree without keys."""

LEAF, PAGE = 0, 1
"""The first byte of a node."""

_SLOTS = 16 * HASH_BYTES
RECORD_BYTES = 1 + _SLOTS
"""Of a page on disk and in chunks: without its quads."""


def position(key: bytes) -> str:
    """Where ``key`` stands: 64 digits."""
    return sha256(key).hexdigest()


def leaf(entries: Mapping[bytes, bytes]) -> bytes:
    """The leaf of these keys and the hashes of their values."""
    return b"\0" + b"".join([bytes((len(key),)) + key + entries[key] for key in sorted(entries)])


def entries_of(node: bytes) -> dict[bytes, bytes]:
    """The keys of a leaf, in order, and the hashes of their values."""
    found = {}
    at = 1
    while at < len(node):
        end = at + 1 + node[at]
        found[node[at + 1 : end]] = node[end : end + HASH_BYTES]
        at = end + HASH_BYTES
    return found


def with_value(node: bytes, key: bytes, value_hash: bytes) -> bytes | None:
    """The leaf with another value under a key that it has; None if it has not."""
    at = 1
    while at < len(node):
        end = at + 1 + node[at]
        if node[at + 1 : end] == key:
            return node[:end] + value_hash + node[end + HASH_BYTES :]
        at = end + HASH_BYTES
    return None


def page(hashes: bytes) -> bytes:
    """The page of 16 hashes, given one after the other."""
    return b"\1" + hashes + b"".join([quad(hashes[at : at + 128]) for at in range(0, _SLOTS, 128)])


def quad(four: bytes) -> bytes:
    """The hash of four hashes."""
    return sha256(b"\1" + four).digest()


def with_slot(node: bytes, digit: int, hashed: bytes) -> tuple[bytes, bytes]:
    """The page with another hash at a digit, and its own hash."""
    at = 1 + HASH_BYTES * digit
    first = at - HASH_BYTES * (digit & 3)
    lower = sha256(b"\1" + node[first:at] + hashed + node[at + HASH_BYTES : first + 4 * HASH_BYTES]).digest()
    to = RECORD_BYTES + HASH_BYTES * (digit >> 2)
    quads = node[RECORD_BYTES:to] + lower + node[to + HASH_BYTES :]
    return node[:at] + hashed + node[at + HASH_BYTES : RECORD_BYTES] + quads, sha256(b"\1" + quads).digest()


def with_slots(node: bytes, changed: Sequence[tuple[int, bytes]]) -> tuple[bytes, bytes]:
    """The page with other hashes at some of its digits, and its own hash."""
    if len(changed) == 1:
        return with_slot(node, *changed[0])
    made = bytearray(node)
    for digit, hashed in changed:
        at = 1 + HASH_BYTES * digit
        made[at : at + HASH_BYTES] = hashed
    for number in {digit >> 2 for digit, _ in changed}:
        at = 1 + 4 * HASH_BYTES * number
        to = RECORD_BYTES + HASH_BYTES * number
        made[to : to + HASH_BYTES] = sha256(b"\1" + made[at : at + 4 * HASH_BYTES]).digest()
    return bytes(made), sha256(b"\1" + made[RECORD_BYTES:]).digest()


def slot(node: bytes, digit: int) -> bytes:
    """The hash that a page has for a digit."""
    at = 1 + HASH_BYTES * digit
    return node[at : at + HASH_BYTES]


def hash_of(node: bytes) -> bytes:
    """The hash of a leaf or a page."""
    return sha256(node).digest() if node[0] == LEAF else quad(node[RECORD_BYTES:])


def record(node: bytes) -> bytes:
    """What is stored of a node."""
    return node if node[0] == LEAF else node[:RECORD_BYTES]


def parse(stored: bytes) -> bytes | None:
    """The node of a record; None if these bytes are none. The keys' order and places are proven by the hash, not here."""
    if stored[:1] == b"\1":
        return page(stored[1:]) if len(stored) == RECORD_BYTES else None
    return stored if stored[:1] == b"\0" and _is_leaf(stored) else None


def _is_leaf(stored: bytes) -> bool:
    at, count = 1, 0
    while at < len(stored):
        if not 1 <= stored[at] <= MAX_KEY_BYTES:
            return False
        at += 1 + stored[at] + HASH_BYTES
        count += 1
    return at == len(stored) and 1 <= count <= BUCKET_ENTRIES


class Kept:
    """What has been hashed, by its hash, in two generations of ``most``: what is asked for moves to the young one, and when that is full
    the old one goes.
    """

    __slots__ = ("_most", "_old", "_young", "spares_reads")

    def __init__(self, most: int) -> None:
        self._most = most
        self.spares_reads = True
        """Whether what is remembered is not read from the disk. Not where a machine's reads are recorded: what is remembered here came
        from anywhere, and a replay remembers nothing."""
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}

    def get(self, hashed: bytes) -> bytes | None:
        """What has this hash, if it is remembered."""
        found = self._young.get(hashed)
        if found is None:
            found = self._old.get(hashed)
            if found is not None:
                self.keep(hashed, found)
        return found

    def keep(self, hashed: bytes, data: bytes) -> None:
        """Remember it."""
        if len(self._young) >= self._most:
            self._old, self._young = self._young, {}
        self._young[hashed] = data

    def clear(self) -> None:
        """Forget all: what was damaged on the disk is then met there."""
        self._young, self._old = {}, {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)


KEPT = Kept(CACHED_NODES)
"""The nodes of this process: a memory of a pure function, as ``functools.lru_cache`` is."""

VALUES = Kept(CACHED_VALUES)
"""Values that were written lately: of a key that the newest block changed, the one before is asked for (``tree.prove_at``)."""
