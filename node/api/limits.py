"""Every bound of the HTTP API, and why it is where it is."""

KIB = 1024
MIB = 1024 * KIB

HEADER_BYTES = 16 * KIB
"""All headers of a request; a bearer token and a trace need under 1 KiB."""

BODY_BYTES = 1 * MIB
"""A request's body where nothing else is said: room for a large agent file."""

DATA_BYTES = 1 * MIB
"""The arguments of one task as CBOR; larger input is a file."""

FILE_BYTES = 8 * MIB
"""All files sent along with one task, decoded."""

TASK_BODY_BYTES = 16 * MIB
"""POST /v1/tasks: the files in base64 (4/3), the arguments as JSON, and the keys around them."""

PUBLISH_BODY_BYTES = 8 * MIB
"""POST /v1/publish: a batch of lines; the client splits longer files."""

PUBLISH_LINES = 1_000
"""Lines of one publication: each costs an embedding of 10 to 16 ms."""

RESULT_BYTES = 128 * MIB
"""A task's result; the provider refuses more as ``result-too-large``."""

LARGE_BYTES = 64 * KIB
"""From here on JSON is read and written in a worker thread, and a result is sent in pieces."""

PIECE_CHARS = 128 * KIB
"""How much of a large result is turned into JSON at a time, so that no single step holds the interpreter for long."""

JSON_DEPTH = 16
"""Nesting of a task's arguments, the depth that the wire takes (meshos.cbor.MAX_DEPTH)."""

TEXT_CHARS = 2_000
REQUEST_CHARS = 96 * KIB
"""A signed transaction of the largest size (consensus/pbft/limits.py, MAX_REQUEST_BYTES), in base64."""
APPLICATION_CHARS = 4 * KIB
"""An organisation's application to be admitted (node/applying.py)."""
LEDGER_S = 300.0
"""The longest that a client may wait for the ledger."""
"""A question, a task's name, an idempotency key: what a person types."""

DISCOVER_LIMIT = 100
"""Agents in one answer."""

CURSOR_CHARS = 128
"""What asks for the next page; as the directory has it."""

TIMEOUT_S_DEFAULT = 30.0
TIMEOUT_S_MAX = 3_600.0
"""A task's time. The API waits ``TIMEOUT_GRACE_S`` longer, so that the service's own answer comes first."""

TIMEOUT_GRACE_S = 5.0

REQUEST_S = 30.0
"""Any request that is neither a task, a deployment, a publication nor a stream of events."""

DEPLOY_S = 120.0
"""A deployment starts processes; a publication embeds up to PUBLISH_LINES descriptions."""

BODY_S = 10.0
"""From the end of the headers to the end of the body: a client that dribbles is cut off."""

IDLE_S = 30.0
"""A connection without a request, and the time its headers may take. SDKs keep connections, so not less."""

STALLED_S = 20.0
"""A client that takes nothing of what it is sent for this long has its connection reset (TCP_USER_TIMEOUT)."""

DRAIN_S = 1.0
DRAIN_BYTES = 8 * MIB
"""What is still read of a refused request, so that its client sees the refusal and not a reset connection."""

CONNECTIONS = 2_048
"""Open connections, over all clients, half of them of one address; each costs some 30 KiB, and one file descriptor."""

DESCRIPTORS_SHARE = 4
"""At most one in so many of the process's file descriptors is a connection of the API: without one LevelDB cannot open its next file,
and a node that cannot write ends."""

BREAKS_TOLD = 32
"""Kinds of errors by which connections broke that are logged, each once with its traceback."""

HELD_BYTES = 64 * KIB
"""What a connection gathers of an answer before it is sent on: a head and an ordinary body leave as one piece."""

REQUESTS = 1_024
"""Requests under way at once, over all keys; each costs some 50 KiB."""

STREAMS_PER_CONNECTION = 128
"""HTTP/2: requests under way on one connection."""

KEYS = 8_192
"""API keys of a node: people's, and one for each agent's process."""

KEYS_FILE_BYTES = 64 * 1024 * 1024
"""Of the file of API keys, with 8 KiB for each; what is larger is another file."""

REPLAYS = 4_096
REPLAY_BYTES = 16 * MIB
REPLAY_BODY_BYTES = 64 * KIB
"""Recorded answers by idempotency key: how many, how many bytes in all, and the largest that is kept whole."""

STRANGERS = 1_024
"""Addresses whose failed keys are counted."""

FAILED_KEYS_PER_S = 2.0
FAILED_KEYS_BURST = 20.0
"""How often an address may present a wrong key before it is refused unheard."""

EVENTS = 1_024
"""Events kept for those who come back; a reader that is further behind is told what it missed."""

EVENT_READERS = 64
"""Open event streams."""

EVENT_HEARTBEAT_S = 15.0
"""A comment on a quiet event stream, so that proxies keep it open and a dead client is noticed."""

RATES: dict[str, tuple[float, float]] = {
    "admin": (2_000.0, 4_000.0),
    "operator": (2_000.0, 4_000.0),
    "caller": (1_000.0, 2_000.0),
    "agent": (200.0, 400.0),
    "read": (100.0, 200.0),
}
"""Requests per second and burst for one key, by role. A node answers some 700 trivial requests a second on one core, so
the first two guard against loops only; an agent that calls in a loop meets its own limit long before the node's."""

assert BODY_BYTES <= TASK_BODY_BYTES
assert FILE_BYTES * 4 // 3 + DATA_BYTES * 2 < TASK_BODY_BYTES
assert REPLAY_BODY_BYTES * 16 <= REPLAY_BYTES
assert LARGE_BYTES <= BODY_BYTES
assert REQUESTS <= CONNECTIONS, "who may ask may connect"
assert EVENT_HEARTBEAT_S < STALLED_S, "a stalled reader is noticed by its next heartbeat"
assert BODY_S < REQUEST_S < TIMEOUT_S_MAX
