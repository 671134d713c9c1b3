"""Every bound of storage in one place, with its reason, and how the bounds hang together."""

SCHEMA = 2
"""Version of the layout of keys and values in a node's folder; raised when programs would misread what others wrote.

2: records have pieces.
"""

MAX_KEY_BYTES = 1024
"""A key is an index path (a few ids of at most 128 bytes), never content."""

MAX_VALUE_BYTES = 128 << 20
"""More than anything that is stored: the largest is a recorded task result of 1 MiB (consensus/org/limits.py). LevelDB holds a batch
in memory twice."""

WRITE_BUFFER_BYTES = 8 << 20
"""LevelDB's memtable: what is replayed at an open (about 0.1 s), and what a database holds in memory, twice."""

BLOCK_CACHE_BYTES = 8 << 20
"""LevelDB's cache of blocks; the hot tables of a node are smaller than this."""

MAX_OPEN_FILES = 128
"""Table files that one LevelDB keeps open, so that a node stays far below the usual 1,024 file descriptors."""

MAX_PENDING_BATCHES = 4096
"""Batches that an Overlay holds while they are on their way to the disk; a driver that is so far behind does not drain on."""

WRITE_BACK_S = 0.5
"""Writes that nothing waits for go to the disk after so long, if the machine's next synced batch has not taken them along: seldom
enough to cost nothing, soon enough that a crash leaves little to be made again."""

WRITE_BACK_BATCHES = 1024
WRITE_BACK_BYTES = 8 << 20
"""Or as soon as so many of them wait: they are held in memory twice."""

assert MAX_KEY_BYTES < MAX_VALUE_BYTES
