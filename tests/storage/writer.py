"""A program that writes numbered batches until it is killed, and says each number once it was told that it is durable.

python writer.py FOLDER FIRST
"""

import sys

from meshos.effects import Delete, Put, Write
from meshos.storage.level import LevelStore

KEYS = 20


def body(number: int) -> bytes:
    """Sizes from a few bytes to 40 KB, so that memtables turn over."""
    return (b"%d." % number) * (number * 7919 % 5000 + 1)


def batch(number: int) -> list[Write]:
    """Replaces all keys of the batch before, so that a batch that is there in part is seen."""
    writes: list[Write] = [Put(b"%03d" % key, body(number)) for key in range(KEYS)]
    return [*writes, Put(b"number", b"%d" % number), Delete(b"only/%d" % (number - 1)), Put(b"only/%d" % number, b"")]


def main(folder: str, first: int) -> None:
    """Write for ever."""
    store = LevelStore(folder).prefixed("machine")
    number = first
    while True:
        store.write(batch(number))
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        number += 1


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
