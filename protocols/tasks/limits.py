"""Every bound of tasks on the wire, with its reason, and how the bounds hang together."""

from meshos.consensus.org.limits import MAX_RECEIPT_BYTES, MAX_RECEIPTS, MAX_TIMEOUT_MS
from meshos.protocols.rpc.limits import BODY_BYTES, TTL_MAX_S

MAX_DEPTH = 8
"""How many calls may follow one another (an agent that is called may call agents); docs/decisions/0004-depth.md says what counts."""

HEAD_BYTES = 16 << 10
"""All of a request or reply but the arguments or the result: ids, times, an error, a receipt."""

MAX_RESULT_BYTES = BODY_BYTES["bulk"] - HEAD_BYTES - 4
"""The largest result, 128 MiB with its head; above it, ``result-too-large``."""

MAX_ARGUMENTS_BYTES = 16 << 20
"""The largest data of a task; the files among it, too; above it, ``arguments-too-large``. The API takes less (node/api/limits.py)."""

INLINE_BYTES = 256 << 10
"""Hashing or checking more than this (0.2 ms) goes to a worker thread."""

MAX_NAME_CHARS = 128
"""Ids, names of tools, idempotency keys."""

GRACE_S = 1.0
"""How much longer than the task the caller waits, so that the provider's own word on how it ended arrives."""

REPLY_MARGIN_S = 0.2
"""How much before the caller stops waiting the provider stops the tool, for the outcome to be recorded and to travel."""

RECEIPTS_DECODED = 64
"""Receipts that are kept decoded: one is read three times within a call."""

WORD_S = 2.0
"""How long the caller of a task that was called off waits to hear how it ended; then it says ``outcome_unknown``. A round trip across
the world and a sync on a busy disk, and short enough for somebody who waits at a terminal."""

PRIORITY = 5
"""Of a call that names none, from 0 to 9."""

CONCURRENCY = 128
MAX_CONCURRENCY = 128
"""Calls that one replica is given at once: where its file says nothing, and at most. Half of what a session takes
(adapters/onprem/limits.py, MAX_CALLS), so that a replica that is down for a moment leaves the others room."""

WAITING_CALLS = 1024
"""Calls that wait for one agent, of all organisations; one has at most as many as are left for all others, so alone half."""

RECOVERED_AT_ONCE = 16
"""Interrupted tasks that are run again side by side after a start: calls of now have the agents too."""

RECOVER_S = 10.0
"""How often a leader looks for open tasks that nobody runs; there are none, but after something has failed."""

OUTBOX_RECEIPTS = 10_000
"""Countersigned receipts that wait to be sent; when it is full the oldest go (the caller keeps its own copy)."""

OUTBOX_BATCH = MAX_RECEIPTS
"""Receipts sent to one provider at once."""

LINGER_S = 0.25
"""How long a receipt waits for others, unless a batch is full: alone, each would cost both sides a third of a call's work."""

OUTBOX_PROVIDERS = 8
"""Providers that are sent to side by side."""

OUTBOX_TRIES = 8
"""Tries to send a receipt, with doubling pauses from RETRY_S: about 4 minutes in all."""

RETRY_S = 1.0

RECEIPT_TIMEOUT_S = 10.0

assert GRACE_S > REPLY_MARGIN_S
assert MAX_TIMEOUT_MS / 1000 <= TTL_MAX_S
assert BODY_BYTES["bulk"] > MAX_ARGUMENTS_BYTES + HEAD_BYTES
assert MAX_RECEIPT_BYTES < HEAD_BYTES
