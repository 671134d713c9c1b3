"""Every bound of the Raft group in one place, with its reason, and how the bounds hang together."""

MAX_CAST_BYTES = 1 << 20
"""The largest message: what a link carries as one cast."""

ORDERED_BYTES = 63 << 10
"""Appends whose entries are not larger than this travel on one lane of a link and keep their order. A larger one has a slower lane, on
which those that follow it would overtake it."""

MAX_MEMBERS = 16
"""Nodes of one group, learners and those that are leaving included: 1, 3 or 5 vote, the others follow or are being replaced."""

MAX_NODE_CHARS = 128
"""A node's id (a libp2p peer id has 52 characters)."""

MAX_COMMAND_BYTES = 960 << 10
"""One encoded command. It travels in one message, alone if it must."""

MAX_COMMANDS = 1024
"""Commands in one entry, and in one forwarded message."""

MAX_ENTRY_BYTES = MAX_COMMAND_BYTES + (16 << 10)
"""One entry as it is stored: at least one command of the largest size and what stands around it."""

MAX_ENTRIES = 1024
"""Entries in one append, however small they are."""

MAX_CHUNK_BYTES = 256 << 10
"""One piece of a state on its way to a follower; both sides hold a few of them in memory, never the whole."""

CHUNK_FRAME_BYTES = 64
"""Of a chunk, for what stands around its list of keys and values."""

MAX_STATE_VALUE_BYTES = 8 << 20
"""One value of a state: larger ones could be written, and not be sent; a receiver holds one in memory, in pieces."""

MAX_PROPOSALS = 4096
"""Proposals of this node whose outcome is not known yet; one more is refused as ``busy``."""

MAX_PROPOSED_BYTES = 64 << 20
"""Of these in bytes, the commands alone."""

APPLIED_PER_STEP_BYTES = 64 << 10
"""Entries that are applied with one step, so that a follower which catches up goes on hearing its leader."""

MAX_WAITING_READS = 4096
"""Reads that wait until it is known that nobody else leads."""

MAX_SESSIONS = 64
"""Nodes whose proposals are remembered, so that none is applied twice: members and those that left of late."""

DROPPED_PER_STEP = 256
DROP_PAUSE_S = 0.01
"""So many keys of an outdated state are deleted with one step, and so long is the pause to the next: a step stays short, and a state of
a million keys is gone within a minute."""

ROUND_BITS = 63
"""Terms, indices, rounds and numbers are below 2**ROUND_BITS: at a million a second that lasts 290,000 years."""

assert MAX_COMMAND_BYTES < MAX_ENTRY_BYTES < MAX_CAST_BYTES - (16 << 10), "an append of one largest entry is one message"
assert CHUNK_FRAME_BYTES < MAX_CHUNK_BYTES < MAX_CAST_BYTES
assert MAX_ENTRY_BYTES < MAX_STATE_VALUE_BYTES
assert MAX_COMMANDS <= MAX_PROPOSALS
