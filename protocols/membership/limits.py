"""What membership holds and sends at most, and why; the relations between the limits are asserted."""

DATAGRAM_BYTES = 1_120
"""A datagram before it is boxed. A box adds a nonce (24), a tag (16) and the sender's public key (32)."""

BOXED_BYTES = 1_200
"""Passes every path that IPv6 and QUIC pass (RFC 9000, section 14) without fragments."""

BOX_OVERHEAD_BYTES = 24 + 16 + 32

STATEMENT_BYTES = 960
"""A signed statement; a node's facts with ordinary names take 220 to 350."""

UPDATES = 23
"""Statements in one datagram: as many as the shortest (an accusation, some 180 bytes) leaves room for, with reserve. Up to 23 a
CBOR array has a head of one byte."""

HEAD_BYTES = 80
"""What a datagram holds besides its updates: at most a type, a sequence number and a node id."""

USER_SHARE_BYTES = 360
"""Kept free in each datagram for facts and notes while some wait, so that a storm of accusations does not starve them; all
the rest is kept from them, so that they do not starve accusations."""

NAME_CHARS = 64
ORG_CHARS = 84
ROLE_CHARS = 16
REGION_CHARS = 32
VERSION_CHARS = 24
ADDRESS_CHARS = 80
API_CHARS = 120
HEALTH_CHARS = 16
NODE_CHARS = 64
"""Texts of a statement, in bytes of UTF-8. A DID of an organisation has at most 9 + 10 + 1 + 63; a node id 52."""

TOPIC_CHARS = 24
NOTE_BYTES = 256
TOPICS = 4
"""Notes: small announcements of a node, the newest of each topic; with more topics the first ones by name stay."""

ANCHORS = 3
"""Of a leaf. Two that are of different organisations are enough to say that it is dead; with a third, one of them may go."""

NUMBER = 2**62
"""Above every incarnation and revision, and below what CBOR and databases call a large integer."""

MEMBERS = 4_096
"""Members listed, dead ones included. A digest of each (8 bytes) fits one frame of a sync."""

MEMBERS_OF_ORG = 1_024
"""Of one organisation, which could otherwise fill the table with nodes of its own."""

CREDENTIALS = 2 * MEMBERS
"""Certificates remembered: of members, and of nodes met on a link whose facts have not come yet."""

EXPELLED = CREDENTIALS
"""Revoked certificates that are recognised without a check; of older ones the check itself says that they are revoked."""

BURIED = 2 * MEMBERS
"""Incarnations remembered of nodes that are no longer listed."""

DECODED = 4_096
"""Decoded statements remembered by their bytes (under 2 KiB each): between the check for news and the merge, and, in a
simulation, among all nodes."""

STALE = 8_192
"""Superseded statements that are recognised by their bytes, without decoding them again."""

QUEUE = 2 * MEMBERS
"""News that waits to be gossiped, in each of the two classes; beyond it the most sent is dropped, since a sync brings it anyway."""

WORDS_IN_HASTE = 8
"""An organisation whose accusations stand open against more members than this, and than a quarter of all, has further ones
relayed in the user share: it cannot crowd out the others' news."""

DATAGRAMS_OF_NODE = (200.0, 400.0)
DATAGRAMS_OF_ORG = (500.0, 1_000.0)
"""Datagrams heard of one node, and of all nodes of its organisation: a second, and in a burst. What a node receives in all does not
grow with the mesh, as everybody picks whom to tell at random: on the fast preset some 40 a second of one node in a mesh of four,
and under 400 of one organisation that has half of the nodes (docs/decisions/0006-gossip-budget.md). A datagram with the most
updates takes some 0.2 ms, so an organisation that floods takes a tenth of the loop."""

CHECKS_OF_NODE = (100.0, 200.0)
CHECKS_OF_ORG = (400.0, 800.0)
"""The same of signature checks, at 53 us each: a fiftieth of the loop; the burst takes 42 ms. Most news comes by syncs, which check in
worker threads; by gossip one node brought 18 news a second while half of a mesh died."""

OVER_LINKS_OF_NODE, OVER_LINKS_OF_ORG = 1 / 2, 1 / 4
"""Of each of these four, so much again is heard over links, where leaves and their anchors gossip: in budgets of its own, since that is
dealt with in the machine's step, which must be the same when a recording is replayed. So an organisation that floods both ways takes an
eighth of the loop, and its signatures a fortieth. A leaf hears all news so, of three anchors; its own are few."""

SIGNING = 2 * MEMBERS
"""Signatures asked for and not yet made."""

PROBES = 64
"""Probes under way at once: one a round, and those that confirm suspicions."""

RELAYS = 256
"""Probes under way on behalf of others; one more is answered with a nack at once."""

REFUTATIONS = 4
"""Refutations that a node may make at once when it is accused again and again; further ones wait for a suspicion's shortest time."""

SYNCS = 2
"""Syncs that this node has begun and that still run."""

PAGE_BYTES = 40 * 1024
"""Statements or certificates in one message of a sync: with the digests below a link's frame."""

FRAME_BYTES = 63 * 1024
"""One message of a sync: a frame of a link (64 KiB) less its envelope."""

PAGES = 256
"""Pages of one sync; then the next sync goes on."""

DIGEST_BYTES = 8
DIGESTS = 7_680
"""Statements named in one request of a sync: those of a full table, and words and notes beside them."""

CERTIFICATE_BYTES = 4 * 1024

LISTS = 4
"""Revocation lists taken from a peer in one sync; the next brings the others."""

SPREAD = 4
"""Peers that a node asks when a list is new to it. With each of them doing the same, one in e^4 is left to the syncs (Demers 1987, 1.4)."""

LIST_EVERY_S = 60.0
"""Of one organisation a list is taken from peers at most this often: each costs a look at all certificates of the organisation (half
a millisecond each, in a worker thread), its links, and its records, and its root could sign one a millisecond."""

LISTS_NAMED = 1_024
LISTS_NAMED_BYTES = 128 * 1024
"""Organisations whose lists are named in one question, above those of a large mesh; and that question. A node that holds more lists is
offered one that it has after every sync; they are offered in turn, so that new ones come all the same."""

STORED_PEERS = 16
"""Addresses written down, so that a node finds the mesh again after a restart without its seeds."""

STORED_PEERS_S = 60.0
"""They are written at most this often."""

REMINDED = 2
"""Suspects pinged beside each round's probe, so that a refutation that was lost is asked for again."""

SKIPS = 8
"""Members passed over in one round of probing because they were heard of lately."""

assert CHECKS_OF_NODE[1] >= UPDATES, "a full datagram fits into a full bucket"
assert CHECKS_OF_NODE[1] * OVER_LINKS_OF_NODE >= UPDATES
assert DATAGRAMS_OF_NODE[0] * OVER_LINKS_OF_NODE < DATAGRAMS_OF_ORG[0] * OVER_LINKS_OF_ORG
assert DATAGRAMS_OF_NODE < DATAGRAMS_OF_ORG and CHECKS_OF_NODE < CHECKS_OF_ORG, "one node does not silence its organisation"
assert DATAGRAM_BYTES + BOX_OVERHEAD_BYTES <= BOXED_BYTES
assert HEAD_BYTES + STATEMENT_BYTES + 3 <= DATAGRAM_BYTES
assert USER_SHARE_BYTES < DATAGRAM_BYTES - HEAD_BYTES - STATEMENT_BYTES // 2
assert DIGESTS * DIGEST_BYTES + 1024 <= FRAME_BYTES and DIGESTS > MEMBERS
assert PAGE_BYTES + 2 * STATEMENT_BYTES + MEMBERS * DIGEST_BYTES // 2 <= FRAME_BYTES
assert MEMBERS_OF_ORG <= MEMBERS // 2
assert CERTIFICATE_BYTES < PAGE_BYTES
assert LISTS_NAMED * (ORG_CHARS + 2 + 9) + 64 <= LISTS_NAMED_BYTES

ASK_S = 5.0
"""One question of a sync; the Flow's deadline is above it."""

PUSH = 40
"""Statements pushed at once: at their largest they fill a page."""

NODES_ASKED = 256
"""Nodes whose certificates are asked for at once; what does not fit a page is asked for again."""

assert PUSH * STATEMENT_BYTES <= PAGE_BYTES
assert NODES_ASKED * (NODE_CHARS + 3) + 1024 <= FRAME_BYTES
