"""The state of the ledger as an authenticated map: one root for all of it, a short proof for any key, present or absent.

    s/<key>     the value
    t/<path>    a node of the tree (``nodes.py``), by its path in base 16
    t           the root; while the state is being restored, what is missing of it (``chunks.py``)

Keys are placed by their hash, so nobody chooses where his keys stand. The tree depends on the content alone, never on the order in which it
came. ``update`` takes all changes of a block at once: what they share of their paths is read, hashed and written once. Nodes are written
over their elders, so there is nothing to prune: the Store holds the newest state and no other.

Header h+1 carries the root after block h, so while the state after h+1 is the newest here, the newest root that a quorum signed is the one
before. Its nodes are in the Store where block h+1 changed nothing, and in memory where it did: ``prove_at`` follows the hashes, wherever
they lead. A state that is to stand still for longer (a checkpoint that is served in chunks) is a Snapshot of the Store.

Everything here is a function of the view and its arguments. A node that is not what its parent says (a damaged disk) is refused as
``state-corrupt`` before anything is made of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import groupby, islice

from meshos.consensus.ledger.nodes import (
    EMPTY,
    KEPT,
    LEAF,
    PAGE,
    VALUES,
    entries_of,
    hash_of,
    leaf,
    page,
    parse,
    position,
    record,
    slot,
    with_slot,
    with_slots,
    with_value,
)
from meshos.consensus.ledger.proofs import Proof, siblings
from meshos.consensus.ledger.tree_limits import (
    BUCKET_ENTRIES,
    CACHED_NODES,
    HASH_BYTES,
    MAX_KEPT_VALUE_BYTES,
    MAX_KEY_BYTES,
    MAX_VALUE_BYTES,
)
from meshos.effects import Delete, Put, Write
from meshos.errors import Broken, Failed, Refused
from meshos.storage.store import View

STATE = b"s/"
TREE = b"t/"
ROOT = b"t"

_Change = tuple[str, bytes, bytes | None]
"""Position, key, hash of the new value (None: the key goes)."""


class State:
    """The values of the state in ``view``, as a View of their own."""

    __slots__ = ("_view",)

    def __init__(self, view: View) -> None:
        self._view = view

    def get(self, key: bytes) -> bytes | None:
        """See ``View.get``."""
        return self._view.get(STATE + key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See ``View.scan``."""
        cut = len(STATE)
        return ((key[cut:], value) for key, value in self._view.scan(STATE + prefix))


def root(view: View) -> bytes:
    """The root of the state in ``view``; EMPTY for no state, and for one that is still being restored."""
    found = view.get(ROOT)
    return found if found is not None and len(found) == HASH_BYTES else EMPTY


def update(view: View, changes: Mapping[bytes, bytes | None]) -> tuple[bytes, tuple[Write, ...]]:
    """The root after ``changes`` (None: the key goes) and all that is to be written for it, the values included.

    Raises Failed ``state-corrupt``, Refused ``state-incomplete``, and Broken ``store-limit`` for keys and values that are out of bounds.
    """
    before = _whole(view)
    batch = Batch(view)
    after = batch.apply("", before, _hashed(changes))
    if after != before:
        batch.written[ROOT] = after if after != EMPTY else None
    for key, value in changes.items():
        batch.written[STATE + key] = value
    return after, batch.writes()


def prove(view: View, key: bytes) -> Proof:
    """What proves the value of ``key``, or its absence, against ``root(view)``.

    Raises Failed ``state-corrupt``, Refused ``state-incomplete``.
    """
    return _prove(view, key, _whole(view))


def prove_at(view: View, key: bytes, at: bytes) -> tuple[bytes | None, Proof]:
    """The value of ``key`` in the state with the root ``at``, and what proves it: of the newest state, or one of a few blocks before.

    Raises Failed ``state-corrupt``, Refused ``state-incomplete``, and Refused ``proof-not-yet`` where that state is not known any more.
    """
    if _whole(view) == at:
        return view.get(STATE + key), _prove(view, key, at)
    try:
        proof = _prove(view, key, at)
    except Failed as error:
        raise not_yet() from error
    value_hash = dict(proof.entries).get(key)
    if value_hash is None:
        return None, proof
    value = VALUES.get(value_hash)
    if value is None:
        value = view.get(STATE + key)
    if value is None or sha256(value).digest() != value_hash:
        raise not_yet()
    return value, proof


def _prove(view: View, key: bytes, node_hash: bytes) -> Proof:
    place = position(key)
    levels: list[bytes] = []
    while True:
        depth = len(levels)
        node = load(view, place[:depth], node_hash)
        if node is None or node[0] == LEAF:
            return Proof(tuple(levels), tuple(entries_of(node).items()) if node else ())
        digit = int(place[depth], 16)
        levels.append(siblings(node, digit))
        node_hash = slot(node, digit)


def not_yet() -> Refused:
    """The refusal of a proof that the next block makes possible."""
    what = "the newest state that a quorum signed is not here any more, and the one that is here is not signed yet"
    return Refused("proof-not-yet", what, hint="try again after the next block, or ask another node")


def load(view: View, path: str, node_hash: bytes) -> bytes | None:
    """The node at ``path`` that has this hash, None for the empty one; raises Failed ``state-corrupt``."""
    if node_hash == EMPTY:
        return None
    node = KEPT.get(node_hash)
    if node is None:
        node = parse(view.get(TREE + path.encode()) or b"")
        if node is None or hash_of(node) != node_hash:
            raise state_corrupt(f"the tree's node at {path or 'the root'} is not the one that its parent names")
        KEPT.keep(node_hash, node)
    elif not KEPT.spares_reads:
        view.get(TREE + path.encode())
    return node


def _whole(view: View) -> bytes:
    """The root of a state that is all here."""
    found = view.get(ROOT)
    if found is not None and len(found) != HASH_BYTES:
        raise incomplete()
    return found or EMPTY


def incomplete() -> Refused:
    """Why nothing can be read off a state that is still being laid down."""
    what = "the ledger's state is still on its way to this node"
    return Refused("state-incomplete", what, hint="try again in a moment, or ask another")


def warm(view: View) -> int:
    """Read nodes into memory, as many as are kept; gives how many. For the start of a node: one by one they cost ten times as much."""
    count = 0
    for _, stored in islice(view.scan(TREE), CACHED_NODES):
        node = parse(stored)
        if node is not None:
            KEPT.keep(hash_of(node), node)
            count += 1
    return count


def state_corrupt(what: str) -> Failed:
    """The refusal to go on with a state that does not fit its own root."""
    return Failed(
        "state-corrupt", f"the ledger's state is damaged: {what}", hint="restore the node from a backup, or let it fetch the state"
    )


class Batch:
    """Changes of the tree on their way: what is to be written, and reads that see it."""

    __slots__ = ("_view", "written")

    def __init__(self, view: View) -> None:
        self._view = view
        self.written: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        """See ``View.get``."""
        return self.written[key] if key in self.written else self._view.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See ``View.scan``; of what was there before the batch."""
        return self._view.scan(prefix)

    def writes(self) -> tuple[Write, ...]:
        """All that is to be written."""
        return tuple(_write(key, value) for key, value in self.written.items())

    def apply(self, path: str, node_hash: bytes, changes: Sequence[_Change]) -> bytes:
        """The hash of the node at ``path`` after ``changes``, which all belong below it and are in the order of their positions."""
        if len(changes) == 1:
            return self._apply_one(path, node_hash, changes[0])
        node = load(self, path, node_hash)
        if node is None or node[0] == LEAF:
            return self._apply_leaf(path, node, node_hash, changes)
        depth, changed = len(path), []
        for digit, group in groupby(changes, lambda change: change[0][depth]):
            number = int(digit, 16)
            old = slot(node, number)
            new = self.apply(path + digit, old, list(group))
            if new != old:
                changed.append((number, new))
        shrunk = any(value_hash is None for _, _, value_hash in changes)
        return self._put_page(path, *with_slots(node, changed), node_hash, shrunk) if changed else node_hash

    def _apply_one(self, path: str, node_hash: bytes, change: _Change) -> bytes:
        """As ``apply``, without its calls from level to level: most keys of a block share only the upper pages with others."""
        place, depth = change[0], len(path)
        way, below = [], node_hash
        node = load(self, path, below)
        while node is not None and node[0] == PAGE:
            digit = int(place[depth], 16)
            way.append((node, digit, below))
            below = slot(node, digit)
            depth += 1
            node = load(self, place[:depth], below)
        new = self._apply_leaf(place[:depth], node, below, (change,))
        if new == below:
            return node_hash
        for node, digit, before in reversed(way):
            depth -= 1
            new = self._put_page(place[:depth], *with_slot(node, digit, new), before, change[2] is None)
        return new

    def _apply_leaf(self, path: str, node: bytes | None, node_hash: bytes, changes: Sequence[_Change]) -> bytes:
        if node is not None and len(changes) == 1:
            _, key, value_hash = changes[0]
            other = None if value_hash is None else with_value(node, key, value_hash)
            if other is not None:
                return self._put(path, other, hash_of(other), node_hash)
        entries = entries_of(node) if node else {}
        for _, key, value_hash in changes:
            if value_hash is None:
                entries.pop(key, None)
            else:
                entries[key] = value_hash
        return self.put_entries(path, entries, node_hash)

    def put_entries(self, path: str, entries: Mapping[bytes, bytes], before: bytes = EMPTY) -> bytes:
        """Make the subtree of ``entries`` at ``path``, where no page is left (a node with the hash ``before`` stood); gives its hash."""
        if not entries:
            if before != EMPTY:
                self.written[TREE + path.encode()] = None
            return EMPTY
        if len(entries) <= BUCKET_ENTRIES:
            node = leaf(entries)
        else:
            below: list[dict[bytes, bytes]] = [{} for _ in range(16)]
            for key, value_hash in entries.items():
                below[int(position(key)[len(path)], 16)][key] = value_hash
            node = page(b"".join([self.put_entries(f"{path}{digit:x}", part) for digit, part in enumerate(below)]))
        return self._put(path, node, hash_of(node), before)

    def _put_page(self, path: str, node: bytes, node_hash: bytes, before: bytes, shrunk: bool) -> bytes:
        """Keep a changed page, or what stands in its place if so many keys went that the others fit into a leaf."""
        few = self._few(path, node) if shrunk else None
        return self._put(path, node, node_hash, before) if few is None else self.put_entries(path, few, before)

    def _put(self, path: str, node: bytes, node_hash: bytes, before: bytes) -> bytes:
        if node_hash != before:
            KEPT.keep(node_hash, node)
            self.written[TREE + path.encode()] = record(node)
        return node_hash

    def _few(self, path: str, node: bytes) -> dict[bytes, bytes] | None:
        """The keys below a page from which some were taken, if they fit into a leaf now; the nodes below it are then gone."""
        digits = [digit for digit in range(16) if slot(node, digit) != EMPTY]
        if len(digits) > BUCKET_ENTRIES:
            return None
        found: dict[bytes, bytes] = {}
        for digit in digits:
            child = load(self, f"{path}{digit:x}", slot(node, digit))
            if child is None or child[0] == PAGE:
                return None
            found |= entries_of(child)
        if len(found) > BUCKET_ENTRIES:
            return None
        for digit in digits:
            self.written[TREE + f"{path}{digit:x}".encode()] = None
        return found


def _hashed(changes: Mapping[bytes, bytes | None]) -> list[_Change]:
    """``changes`` by position."""
    found = []
    for key, value in changes.items():
        size = 0 if value is None else len(value)
        if not 1 <= len(key) <= MAX_KEY_BYTES or size > MAX_VALUE_BYTES:
            raise Broken("store-limit", f"a key of {len(key)} and a value of {size} bytes are too large for the ledger's state")
        value_hash = None if value is None else sha256(value).digest()
        if value is not None and value_hash is not None and size <= MAX_KEPT_VALUE_BYTES:
            VALUES.keep(value_hash, value)
        found.append((position(key), key, value_hash))
    found.sort()
    return found


def _write(key: bytes, value: bytes | None) -> Write:
    return Delete(key) if value is None else Put(key, value)
