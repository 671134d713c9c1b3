"""How much is kept, and how much may wait; the reasons, and the relations between them."""

RING_BYTES = 64 * 1024 * 1024
"""Of all segments together. A node of a small mesh without work writes some 5 MiB an hour."""
SEGMENT_BYTES = 8 * 1024 * 1024
"""A segment is ended at this size. The oldest is removed as a whole, so the ring holds at least RING_BYTES - SEGMENT_BYTES of the past."""
INLINE_BYTES = 128 * 1024
"""Longer byte strings (a large argument or result) are kept as length and hash: what they said is not needed to follow who sent what,
and one of 64 MiB would be the whole ring. A machine that looks inside of one (an organisation's log takes results up to 1 MiB) cannot be
followed from there to the next segment."""
LIGHT_BYTES = 1024
"""Byte strings above this count for what waits, beside the number of entries."""
LONGEST_BYTES = 256 * 1024 * 1024
"""The longest that is believed when a length is read back: twice the largest body that a link carries."""
EDGE_BYTES = 256 * 1024
"""The hash of a long byte string is over this much of its beginning and of its end: half a millisecond, however long it is."""
PENDING = 8192
"""Entries that wait for a slow disk: some seconds of a busy node. Beyond it nothing is recorded until the disk has caught up, and then a
new segment begins."""
PENDING_BYTES = 16 * 1024 * 1024
"""The same for the long byte strings in them."""
IN_A_ROW = 16
"""Entries that the writing thread encodes as one value, before it lets others have the interpreter: 0.1 ms."""
SNAPSHOT_BYTES = 1024 * 1024
"""Of what is read off one snapshot. Chunks of a large state that is sent to somebody would push all else out of the ring."""
BEGINNING_BYTES = 16 * 1024 * 1024
"""Of what one machine reads while it is built. One that reads more is recorded, but cannot be replayed."""
BATCH = 64
"""The writing thread is woken for so many entries, since each turn costs it 0.2 ms, however little it writes."""
BATCH_S = 0.5
"""It wakes by itself after this. So a SIGKILL costs the last 64 steps, or those of half a second, whichever are less."""
RETRY_S = 30.0
"""After a failure of the disk."""
ENTRIES_BYTES = 64 * 1024 * 1024
"""Of entries that were written as one value, when they are read back."""
MAX_OBJECTS = 10_000
"""Of a machine whose state a segment begins with: 7 µs each, on the event loop, so 70 ms with every eighth of the ring; a third of the lag
that raises an alarm. Membership comes to it with some 800 members. A larger machine is followed from before, or not at all."""
STATE_BYTES = 1024 * 1024
"""Of the byte strings and texts in the state of one machine that a segment begins with. One that holds more is not written then."""
STATES_BYTES = 4 * STATE_BYTES
"""The same of all machines together."""
AGAIN_SEGMENTS = RING_BYTES // SEGMENT_BYTES
"""A machine of too many objects is tried again after so many segments: a burst may have made it large."""
LOG_BYTES = 512 * 1024
"""Of an organisation's log, what a node that records keeps in memory (``cached_bytes`` of its group), since each segment begins with it."""
DEPTH = 100
"""How deep lists may be nested when they are read back; the state of a machine comes to 40."""

assert SEGMENT_BYTES * 4 <= RING_BYTES, "losing one segment is losing a small part of the past"
assert LOG_BYTES * 2 <= STATE_BYTES and STATES_BYTES * 2 <= SEGMENT_BYTES, "at least half of a segment is steps"
assert BATCH < PENDING
assert LIGHT_BYTES < INLINE_BYTES < EDGE_BYTES
assert PENDING_BYTES > 32 * INLINE_BYTES
assert PENDING * LIGHT_BYTES <= PENDING_BYTES, "what is not counted comes to no more than what is, a field an entry"
assert BEGINNING_BYTES < ENTRIES_BYTES
