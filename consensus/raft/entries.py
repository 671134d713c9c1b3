"""A log entry: made into bytes once, and these bytes lie in the log, in the message and on the disk."""

from typing import Final

from meshos import cbor
from meshos.consensus.raft.limits import MAX_ENTRY_BYTES, ROUND_BITS
from meshos.errors import Refused
from meshos.values import frozen

COMMANDS: Final = 0
"""``data`` is a batch of commands, or empty: the entry with which a leader begins its term."""

CONFIGURATION: Final = 1
"""``data`` is the group's configuration from this entry on."""

KINDS = (COMMANDS, CONFIGURATION)


@frozen
class Entry:
    """``raw`` is the canonical CBOR of [index, term, kind, data]."""

    index: int
    term: int
    kind: int
    data: bytes
    raw: bytes


def make_entry(index: int, term: int, kind: int, data: bytes) -> Entry:
    """A new entry."""
    return Entry(index, term, kind, data, cbor.encode([index, term, kind, data]))


def read_entry(raw: bytes) -> Entry:
    """The entry in ``raw``; raises Refused ``too-large``, ``bad-encoding`` or ``bad-raft-message``."""
    value = cbor.decode(raw, max_bytes=MAX_ENTRY_BYTES, max_depth=1)
    if type(value) is list and len(value) == 4:
        index, term, kind, data = value
        if is_number(index) and is_number(term) and type(kind) is int and kind in KINDS and type(data) is bytes:
            assert type(index) is int and type(term) is int
            return Entry(index, term, kind, data, raw)
    raise bad_message("an entry")


def is_number(value: object) -> bool:
    """Whether it can be a term, an index, a round or a number."""
    return type(value) is int and 0 <= value < 1 << ROUND_BITS


def bad_message(what: str) -> Refused:
    """The refusal of what is no message of Raft."""
    return Refused("bad-raft-message", f"{what} is not of the form that Raft's messages have")
