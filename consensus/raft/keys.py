"""Where a replica's things lie in its Store.

raft/hard                   term, and the vote of that term
raft/base                   index and term of the entry before the log's first
raft/session                how often this replica was started: the name of its proposals' numbers
raft/state                  the generation in which the state lies
raft/garbage/<generation>   (empty) a state that is no use any more, and is being deleted
raft/partial                of a state that is being received: its generation, index and term
raft/log/<index>            the entries, each as its ``raw`` bytes

A state lies under one prefix, its generation (``g`` and four bytes), so that another one can be received beside it, piece by piece, and
then take its place with one small write. Within a generation:

m                           what the state is: applied index and term, time, configuration
s<node>                     which proposals of a node were applied
u<key>                      the state machine's own keys
"""

HARD = b"raft/hard"
BASE = b"raft/base"
SESSION = b"raft/session"
STATE = b"raft/state"
PARTIAL = b"raft/partial"
LOG = b"raft/log/"
GARBAGE = b"raft/garbage/"

GENERATION_BYTES = 4
GENERATION = b"g"

META = b"m"
PROPOSED = b"s"
USER = b"u"


def log_key(index: int) -> bytes:
    """In the order of the indices."""
    return LOG + index.to_bytes(8, "big")


def generation_prefix(number: int) -> bytes:
    """Before each key of a state."""
    return GENERATION + number.to_bytes(GENERATION_BYTES, "big")


def garbage_key(number: int) -> bytes:
    """There while the state is being deleted."""
    return GARBAGE + number.to_bytes(GENERATION_BYTES, "big")


def garbage_of(key: bytes) -> int:
    """Which state that is."""
    return int.from_bytes(key[len(GARBAGE) :], "big")
