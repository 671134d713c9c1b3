"""States for the tests: small views, and keys whose positions begin alike, so that few keys make a deep tree."""

from collections.abc import Iterator, Mapping, Sequence
from random import Random

from meshos.consensus.ledger import tree
from meshos.consensus.ledger.nodes import position
from meshos.effects import Put, Write


class Memory(dict[bytes, bytes]):
    """A View that writes may be laid on."""

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted((key, value) for key, value in self.items() if key.startswith(prefix)))

    def lay(self, writes: Sequence[Write]) -> None:
        for write in writes:
            if isinstance(write, Put):
                self[write.key] = write.value
            else:
                self.pop(write.key, None)

    def change(self, changes: Mapping[bytes, bytes | None]) -> bytes:
        """Update, and give the root."""
        root, writes = tree.update(self, changes)
        self.lay(writes)
        assert tree.root(self) == root
        return root


def crowded(count: int, digits: int) -> list[bytes]:
    """Keys that share the first ``digits`` digits of their positions (about 16**digits hashes a key)."""
    found: list[bytes] = []
    number = 0
    while len(found) < count:
        key = b"crowded/%d" % number
        if position(key).startswith("5" * digits):
            found.append(key)
        number += 1
    return found


CROWD = crowded(12, 3)
"""Twelve keys below one path of three digits: two pages above theirs have nothing else."""
KEYS = [*CROWD, *(b"key/%d" % number for number in range(40))]


def filled(count: int, seed: int = 1, value_bytes: int = 24) -> Memory:
    """A state of ``count`` keys."""
    random, view = Random(seed), Memory()
    view.change({b"account/%d" % number: random.randbytes(value_bytes) for number in range(count)})
    return view
