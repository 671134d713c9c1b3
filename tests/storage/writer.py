"""A program that writes numbered batches until it is killed, and says each number once it was told that it is durable.

python writer.py level FOLDER FIRST | log FOLDER FIRST
"""

import sys
from pathlib import Path

from meshos.effects import Delete, Put, Write
from meshos.storage.level import LevelStore
from meshos.storage.log import Log

KEYS = 20


def body(number: int) -> bytes:
    """Sizes from a few bytes to 40 KB, so that segments and memtables turn over."""
    return (b"%d." % number) * (number * 7919 % 5000 + 1)


def level_batch(number: int) -> list[Write]:
    """Replaces all keys of the batch before, so that a batch that is there in part is seen."""
    writes: list[Write] = [Put(b"%03d" % key, body(number)) for key in range(KEYS)]
    return [*writes, Put(b"number", b"%d" % number), Delete(b"only/%d" % (number - 1)), Put(b"only/%d" % number, b"")]


def log_batch(number: int) -> list[bytes]:
    """Two records in one batch."""
    return [b"%d" % number, body(number)]


def main(base: str, folder: str, first: int) -> None:
    """Write for ever."""
    store = LevelStore(folder).prefixed("machine") if base == "level" else None
    log = Log(Path(folder), segment_bytes=1 << 18) if base == "log" else None
    number = first
    while True:
        if store is not None:
            store.write(level_batch(number))
        if log is not None:
            assert log.append(log_batch(number)) == number
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        number += 1


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
