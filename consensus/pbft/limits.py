"""Every bound of the agreement between organisations, with its reason, and how the bounds hang together."""

MAX_VALIDATORS = 100
"""Seats. A new view then carries 67 votes for it and 67 prepare votes: 16 KiB."""

CHECKPOINT_INTERVAL = 64
"""Blocks between two checkpoints (Castro & Liskov 1999, section 4.3, take 100 requests). A set change waits this long at most."""

MAX_BLOCK_REQUESTS = 1024
"""Requests of one block: what four validators on two cores verify in half a second, which is half of the shortest patience."""

MAX_BLOCK_BYTES = 960 << 10
"""Requests of one block together; with all around them they are one message."""

MAX_REQUEST_BYTES = 64 << 10
"""One request."""

MAX_RESULT_BYTES = 1024
"""What the application says of one request, recorded with it."""

HASH_BYTES = 32
SIGNATURE_BYTES = 64
MAX_NAME_CHARS = 128
"""An organisation's DID, a node id or a Multikey."""

MAX_NUMBER = 2**53
"""Heights, epochs, views and milliseconds: never reached, and exact in every language's JSON."""

MAX_HEADER_BYTES = 256
"""A header's CBOR: eight fields, 4 hashes of 34 bytes and 3 numbers of 9."""

MAX_CERTIFICATE_BYTES = 16 + MAX_VALIDATORS * (SIGNATURE_BYTES + 8)
MAX_VALIDATORS_BYTES = 64 + MAX_VALIDATORS * (3 * (MAX_NAME_CHARS + 3) + 2)

MAX_MESSAGE_BYTES = 1 << 20
"""One message between replicas: what a Cast carries."""

MAX_CHUNK_BYTES = 512 << 10
"""A part of a state in transfer."""

HEIGHTS_AHEAD = 2
"""Votes for this many heights above the one in flight are kept (the high watermark of Castro & Liskov 1999, section 4.2). One block is in
flight at a time, so a replica that is further behind lacks blocks, not votes."""

VIEWS_AHEAD = 3
"""Votes of this many views above one's own are kept; further ones come again with the proof of their view."""

MAX_PROPOSALS = VIEWS_AHEAD + 1
"""Proposed blocks kept for one height, one a view."""

MAX_WAITING_BYTES = 64 << 20
"""Messages that wait for the check of their signatures; one node that floods gets half of it at most."""

MAX_WAITING_OVERHEAD = 512
"""What one takes in memory besides its bytes."""

CHECKED_AT_ONCE = 512
"""Signatures of one batch: 30 ms in a worker thread, a fraction of every patience."""

CLAIMS_AT_ONCE = 4
"""Signatures that are verified in the step that brought them: a quarter of a millisecond, less than to hand them over costs."""

CLAIM_S = 60e-6
"""What the simulator charges for one."""

MAX_POOL_REQUESTS = 8192
"""Requests that wait to be ordered: eight full blocks."""

MAX_POOL_BYTES = 16 << 20
MAX_POOL_SHARE = 4
"""No node may fill more than one part in this many of the pool."""

MAX_FETCHED_BLOCKS = 64
"""Blocks in one answer, as far as they fit into a message."""

FETCHED_BYTES_PER_S = 32 << 20
"""Blocks and parts of a state that one node gets in a second: who is 100,000 requests behind is there within seconds."""

FETCHED_OVERHEAD = 16 << 10
"""What a question and each block counts besides its bytes: to read and decode a small block takes 0.1 ms, so that one node that does
nothing but ask for 64 of them has 0.2 s of this replica's processor in a second."""

MAX_FOLLOWERS = 256
"""Nodes that are told of each block."""

MAX_EVIDENCE = 2 * MAX_VALIDATORS
"""Pieces of evidence kept: one a validator and epoch, the oldest go first."""

MAX_EPOCH_STEPS = 16
"""Changes of the validator set in one answer to a node that joins; it asks again for the rest."""

MAX_PEERS = 4 * MAX_VALIDATORS
"""Nodes of which something is remembered (what they claim, when they were last answered)."""

MAX_COMMANDS = 4096
"""Clients of this node that wait for their request's outcome."""

assert MAX_REQUEST_BYTES < MAX_BLOCK_BYTES
assert 4 * (HASH_BYTES + 2) + 3 * 9 + 2 <= MAX_HEADER_BYTES
assert MAX_BLOCK_BYTES + 5 * MAX_BLOCK_REQUESTS + MAX_HEADER_BYTES + MAX_CERTIFICATE_BYTES + 1024 <= MAX_MESSAGE_BYTES
assert MAX_CHUNK_BYTES + 1024 <= MAX_MESSAGE_BYTES <= MAX_WAITING_BYTES
assert MAX_EPOCH_STEPS * (MAX_VALIDATORS_BYTES + MAX_CERTIFICATE_BYTES + MAX_HEADER_BYTES) <= MAX_MESSAGE_BYTES
assert MAX_POOL_BYTES // MAX_POOL_SHARE >= MAX_BLOCK_BYTES
assert MAX_POOL_REQUESTS // MAX_POOL_SHARE >= MAX_BLOCK_REQUESTS
