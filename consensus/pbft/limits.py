"""Every bound of the agreement between organisations, with its reason, and how the bounds hang together."""

MAX_VALIDATORS = 100
"""Seats. A view change then carries 67 proofs of 67 votes: about 450 KiB (see MAX_NEW_VIEW_BYTES)."""

MIN_VALIDATORS = 1
"""Four for one fault; fewer have no quorum that a liar could not join, and are for tests and first steps."""

CHECKPOINT_INTERVAL = 64
"""Blocks between two checkpoints (Castro & Liskov 1999, section 4.3, take 100 requests). A set change waits this long at most."""

MAX_BLOCK_REQUESTS = 4096
"""Requests of one block: two seconds of what four validators on two cores can verify."""

MAX_BLOCK_BYTES = 1 << 20
"""Requests of one block together; what a Cast carries, less its frame."""

MAX_REQUEST_BYTES = 64 << 10
"""One request."""

HASH_BYTES = 32
SIGNATURE_BYTES = 64
MAX_NAME_CHARS = 128
"""An organisation's DID, a node id or a Multikey."""

MAX_NUMBER = 2**53
"""Heights, epochs, views and milliseconds: above anything reached in this universe, and exact in every language's JSON."""

MAX_HEADER_BYTES = 256
"""A header's CBOR: eight fields, 4 hashes of 34 bytes and 4 numbers of 9."""

MAX_CERTIFICATE_BYTES = 16 + MAX_VALIDATORS * (SIGNATURE_BYTES + 8)
MAX_VALIDATORS_BYTES = 64 + MAX_VALIDATORS * (3 * (MAX_NAME_CHARS + 3) + 2)

assert MAX_REQUEST_BYTES < MAX_BLOCK_BYTES
assert 4 * (HASH_BYTES + 2) + 4 * 9 + 2 <= MAX_HEADER_BYTES
