"""The bounds of agents on this machine, with their reasons; sizes in bytes, times in seconds."""

MAX_RESULT_BYTES = 128 << 20
"""A larger result is refused as ``result-too-large`` (the bound of the bulk connection)."""
MAX_LINE_BYTES = MAX_RESULT_BYTES + (1 << 20)
"""One JSON-RPC message of an agent: the largest result and what stands around it."""
MAX_REQUEST_BYTES = MAX_RESULT_BYTES
"""What waits to be written to one agent's stdin, all its calls together."""
LARGE_LINE_BYTES = 1 << 20
"""A message above this takes one of the node's LARGE_LINES slots while it is read, and is parsed in a thread."""
LARGE_LINES = 2
"""Large messages in memory at a time, on the whole node. The others wait in their pipes, which is back-pressure."""
READ_CHUNK_BYTES = 256 * 1024
PIPE_BYTES = 1 << 20
"""Asked for (F_SETPIPE_SZ) so that a large result needs fewer turns of the loop; the kernel's 64 KiB serve as well."""

MAX_CALLS = 256
"""Calls under way in one process; the next is refused as ``busy``."""
MAX_TOOLS = 256
"""The largest of 7,000 real servers seen has 150."""
MAX_TOOL_NAME = 128
MAX_TOOL_DESCRIPTION = 8_192
MAX_TOOL_SCHEMA_BYTES = 64 * 1024
MAX_TOOL_PAGES = 64
"""Pages of tools/list that are followed: a cursor that never ends is a hostile one."""

MAX_AGENTS = 256
"""Agents of one node, replicas counted. Each takes about 60 MB, so that memory ends sooner."""
MAX_FILE_BYTES = 64 << 20
"""Files sent along with one call."""

LOG_FILE_BYTES = 4 << 20
LOG_FILES = 2
"""stderr of an agent: the current file and the one before. What comes faster than it is written waits in the pipe."""
LAST_WORDS_BYTES = 2_048
"""The end of stderr, kept in memory for the error that says why an agent crashed."""

MAX_OPEN_FILES = 1_024
MAX_PROCESSES = 256
PRIVATE_BYTES = 2 << 30
"""What an agent may keep in its private folder: a large set of packages (npx, a browser) and some. Looked at every ROOM_CHECK_S, so that
a quick disk may hold more for that long."""
PRIVATE_FILES = 100_000
"""Files and folders in it: those of three large sets of packages; counting them takes 0.2 s."""
PRIVATE_DEPTH = 64
"""Folders in folders: each level of a count holds a handle open, and a deeper path cannot even be named."""
MAX_FILE_SIZE_BYTES = PRIVATE_BYTES
ROOM_CHECK_S = 3.0
ROOM_PAUSE = 20
"""After a count that took long, the pause is so many times as long: counting takes at most a twentieth of one thread."""
START_CPU_MILLIS = 1_000
"""Until it serves, an agent may use a whole processor whatever its file says: importing a server takes a second of it, and at the usual
half every deployment and restart would take twice as long. How often it may start is bounded (MAX_RESTARTS)."""

START_TIMEOUT_S = 30.0
"""From the launch to the list of tools. Real servers take 0.6 to 1.3 s on a quiet machine; a busy one ten times that."""
PING_INTERVAL_S = 10.0
PING_TIMEOUT_S = 5.0
"""A ping unanswered for so long, with no call under way, is a hang."""
BUSY_TIMEOUT_S = 60.0
"""With a call under way the verdict waits so long: many tools block their server's loop while they work."""
STDIN_GRACE_S = 2.0
TERM_GRACE_S = 2.0
"""A clean stop: stdin is closed; SIGTERM after STDIN_GRACE_S; everything is killed after TERM_GRACE_S more."""
KILL_GRACE_S = 2.0
BACKOFF_FIRST_S = 0.25
BACKOFF_MOST_S = 30.0
HEALTHY_AFTER_S = 60.0
"""A process that served for so long has earned the shortest backoff again."""
MAX_RESTARTS = 8
"""Restarts in a row, none of them healthy, after which it is given up: about a minute and a half."""
READY_WAIT_S = 2.0
"""How long a call waits for a process that is just starting."""

assert LARGE_LINE_BYTES < MAX_LINE_BYTES and MAX_RESULT_BYTES < MAX_LINE_BYTES
assert PING_TIMEOUT_S < PING_INTERVAL_S < BUSY_TIMEOUT_S
assert BACKOFF_FIRST_S * 2 ** (MAX_RESTARTS - 1) >= BACKOFF_MOST_S
assert READY_WAIT_S > BACKOFF_FIRST_S * 2
assert MAX_FILE_BYTES <= MAX_REQUEST_BYTES
