"""Every bound of an organisation's state, with its reason, and how the bounds hang together."""

from meshos.consensus.raft.limits import MAX_COMMAND_BYTES

HOUR_MS = 3_600_000

DEDUP_MS = 24 * HOUR_MS
"""How long a key that a caller chose is remembered (DESIGN.md, 'A task, exactly')."""

AUTOMATIC_DEDUP_MS = 2 * HOUR_MS
"""How long a task without a chosen key is remembered: only the tries of one call can repeat it, and these end with its timeout."""

MAX_TIMEOUT_MS = HOUR_MS
"""The longest that a task may run."""

MAX_TASKS = 1_000_000
"""Tasks remembered, about 600 bytes each: eleven a second for 24 h with chosen keys, 130 a second without."""

MAX_TASKS_PER_CALLER = 250_000
"""Of these for one organisation, so that one cannot use up what is there for all."""

MAX_OPEN_TASKS = 4096
"""Tasks that run at the same time on this organisation's agents."""

MAX_OPEN_PER_CALLER = 1024
"""Of these for one organisation."""

MAX_CALLED_OFF = MAX_OPEN_PER_CALLER
"""Tasks of one organisation that were called off before their request came: as many as it may have under way. The oldest go first."""

MAX_WAITING = 4096
"""Repeated calls that wait for the outcome of the first."""

MAX_RECORDED_RESULT_BYTES = 768 << 10
"""A larger result is recorded by its hash: replicating it through the organisation's log would cost more than running most tools again."""

MAX_KEPT_BYTES = 1 << 30
"""Recorded results in all; when it is reached, results are recorded by hash until older ones expire."""

MAX_RECORDED_ARGUMENTS_BYTES = 768 << 10
"""Larger arguments are not recorded, so that such a task is not run again after a crash."""

PURGED_PER_COMMAND = 4
"""Expired tasks removed with each new one: more than come in, so the table shrinks, and no command is slow."""

MAX_AGENTS = 1000
"""Agents of one organisation, withdrawn ones (which keep their version) included while there is room for them."""

WITHDRAWN_MS = 7 * 24 * HOUR_MS
"""How long a withdrawn agent keeps its place in a table that is full: until every record of it has lapsed, and the ledger has heard of it
(``consensus/ledger/commitments.py``, which keeps what its version was)."""

AGENTS_DECODED = 64
"""Agents that are kept decoded between their calls: at most 20 MiB, where all records are as large as they may be."""

MAX_REMOVED = 1024
"""Nodes that were removed for good: three a day for a year."""

LOOKED_AT = 32
LOOK_S = 0.25
"""So many of the tasks that somebody waits for are looked at each time, and so often: what another node has recorded of them. A look takes
a third of a millisecond."""

MAX_AGENT_FILE_BYTES = 64 << 10
MAX_RECORD_BYTES = 256 << 10
"""A signed record with the JSON Schemas of its tools."""
MAX_TOOLS = 256
MAX_NAME_CHARS = 128
"""Names of agents, tools, config entries; ids; idempotency keys."""
MAX_PATH_CHARS = 1024
MAX_CONFIG_ENTRIES = 256
MAX_CONFIG_BYTES = 64 << 10
MAX_AUDIT = 20_000
"""Entries of the audit kept; the oldest go first."""
MAX_PAGE = 1000
"""Entries that one query gives."""
MAX_DETAIL_CHARS = 400
"""Of an error that is recorded."""
MAX_RECEIPT_BYTES = 4096
MAX_RECEIPTS = 64
"""Countersigned receipts recorded with one command."""

assert MAX_TIMEOUT_MS < AUTOMATIC_DEDUP_MS < DEDUP_MS
assert MAX_OPEN_PER_CALLER < MAX_OPEN_TASKS < MAX_TASKS_PER_CALLER < MAX_TASKS
assert MAX_RECORDED_RESULT_BYTES < MAX_KEPT_BYTES
assert (
    max(MAX_RECORDED_RESULT_BYTES, MAX_RECORDED_ARGUMENTS_BYTES, MAX_AGENT_FILE_BYTES + MAX_RECORD_BYTES) + (64 << 10) < MAX_COMMAND_BYTES
)
assert MAX_RECEIPTS * MAX_RECEIPT_BYTES < MAX_COMMAND_BYTES
