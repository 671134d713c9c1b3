"""Reading a whole state again: does all that is on this disk add up to its root?

For the end of a restore, after a backup came back, and for whoever doubts his disk. Nodes come in the order of their paths, so each
comes after the page that names it; what pages have named and has not come yet is all that is kept.
"""

from collections.abc import Iterator
from hashlib import sha256

from meshos.consensus.ledger.nodes import EMPTY, LEAF, entries_of, hash_of, parse, slot
from meshos.consensus.ledger.tree import STATE, TREE, root, state_corrupt
from meshos.storage.store import View


def scrub(view: View) -> Iterator[int]:
    """Check all keys, values and nodes; gives after each leaf how many keys were checked. Raises Failed ``state-corrupt``."""
    named = {"": root(view)} if root(view) != EMPTY else {}
    keys = 0
    for tree_key, stored in view.scan(TREE):
        path, node = tree_key[len(TREE) :].decode(), parse(stored)
        if node is None or hash_of(node) != named.pop(path, None):
            raise state_corrupt(f"the tree's node at {path or 'the root'} is not the one that its parent names")
        if node[0] == LEAF:
            for key, value_hash in entries_of(node).items():
                value = view.get(STATE + key)
                if value is None or sha256(value).digest() != value_hash:
                    raise state_corrupt(f"the value of {key!r} is not the one that the tree names")
                keys += 1
            yield keys
        else:
            named |= {f"{path}{digit:x}": slot(node, digit) for digit in range(16) if slot(node, digit) != EMPTY}
    if named:
        raise state_corrupt(f"{len(named)} nodes of the tree are missing")
    if sum(1 for _ in view.scan(STATE)) != keys:
        raise state_corrupt("there are values that the tree does not name")
