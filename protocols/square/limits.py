"""Every bound of what strangers may ask, with its reason, and how the bounds hang together."""

from meshos.consensus.ledger.tree_limits import MAX_BUNDLE_BYTES, MAX_KEY_BYTES, MAX_PROOF_BYTES, MAX_VALUE_BYTES
from meshos.consensus.pbft.limits import MAX_CERTIFICATE_BYTES, MAX_HEADER_BYTES, MAX_VALIDATORS_BYTES

KIB = 1024

# -- frames (wire.py) --------------------------------------------------------------------------------------------------

LENGTH_BYTES = 4
"""Of a frame's length as an unsigned varint: lengths below 2**28."""

REQUEST_BYTES = 4 * KIB
"""The largest request of a protocol that asks for no more: a question of 1,000 characters with its filters, or a key."""

MOST_REQUEST_BYTES = 64 * KIB
"""The largest request that any protocol may allow itself: what is read of a stranger before anything can be checked."""

ANSWER_BYTES = 512 * KIB
"""The largest answer: a bundle of 20 changes of a large validator set, or 32 records. What is larger comes in pages."""

REQUEST_DEPTH = 6

REFUSAL_CHARS = 512
"""Of the sentence of a refusal, and of its hint."""

# -- pages ---------------------------------------------------------------------------------------------------------------

GENESIS_PIECE_BYTES = 256 * KIB
"""Of genesis.json in one answer: all of it for some 120 organisations."""

ORGS = 1_024
"""Organisations in a description, as many as a genesis may have; of more the rest is counted."""
ORG_BYTES = 160
"""One of them: its DID, its root key, whether it has a seat."""

STEPS_A_PAGE = 16
"""Changes of the validator set in one answer, of any size."""

STEPS_A_PAGE_BYTES = 320 * KIB

STEPS_A_BUNDLE = 32
"""Changes of the validator set with a proof: each costs some 0.1 ms. Who is further behind follows headers first."""

FOUND = 20
FOUND_BYTES = 448 * KIB
"""Agents in one answer to a search, and their records together; some 8 KiB each, at most 64."""

QUERY_CHARS = 1_000

# -- the budget (budget.py): one token is about a millisecond of this node's processor ---------------------------------

TOKENS_A_SECOND = 250
"""All strangers together: a quarter of a core, so that the node's own work keeps three quarters of one."""
TOKENS_SAVED = 500

ADDRESS_TOKENS_A_SECOND = 100
ADDRESS_TOKENS_SAVED = 300
"""Of one address (an IPv4 address, an IPv6 network of 64 bits): a page load's worth of questions at once."""

PEER_TOKENS_A_SECOND = 50
PEER_TOKENS_SAVED = 150

REMEMBERED = 4_096
"""Peers, and addresses, whose tokens are counted. Whoever has been quiet longest is forgotten; the budget of all holds all the same."""

CONNECT_TOKENS = 10
"""A handshake: two Diffie-Hellmans, two signatures, two rounds of negotiation (measured: 5 to 9 ms)."""

STREAM_TOKENS = 3
"""A new stream: its negotiation (measured: 2 to 4 ms)."""

ANSWER_BYTES_A_TOKEN = 16 * KIB
"""Encoding, sealing and sending so much costs as much as a token, beside what made the answer."""

assert STEPS_A_PAGE_BYTES + MAX_VALIDATORS_BYTES + 2 * (MAX_CERTIFICATE_BYTES + MAX_HEADER_BYTES) <= ANSWER_BYTES
assert GENESIS_PIECE_BYTES + KIB <= ANSWER_BYTES
assert ORGS * ORG_BYTES + MAX_CERTIFICATE_BYTES + 24 * KIB <= ANSWER_BYTES  # beside the organisations, names, protocols and 16 peers
assert MAX_PROOF_BYTES + MAX_KEY_BYTES + MAX_VALUE_BYTES + MAX_CERTIFICATE_BYTES + MAX_HEADER_BYTES <= ANSWER_BYTES
assert ANSWER_BYTES <= MAX_BUNDLE_BYTES
assert REQUEST_BYTES <= MOST_REQUEST_BYTES < ANSWER_BYTES < 1 << 7 * LENGTH_BYTES
assert FOUND_BYTES + QUERY_CHARS * 4 + KIB <= ANSWER_BYTES
assert QUERY_CHARS * 3 < REQUEST_BYTES
assert CONNECT_TOKENS + STREAM_TOKENS < PEER_TOKENS_SAVED < ADDRESS_TOKENS_SAVED < TOKENS_SAVED
