"""Every bound of the directory in one place, with its reason, and how the bounds hang together."""

from meshos.protocols.rpc.limits import BODY_BYTES
from meshos.storage.index.limits import PIECES, RERANKED
from meshos.storage.index.pieces import PIECE_BYTES

# -- one record ------------------------------------------------------------------------------------------------------

NAME_CHARS = 128
"""An agent's name; those of the MCP registry (`io.github.owner/server`) have up to 110."""

DESCRIPTION_CHARS = 4_096
WORD_CHARS = 64
WORDS = 64
"""Entries of a list (capabilities, models, ...) and their length: as in the agent file."""

TASKS = 256
"""The largest servers of the registries have some 200 tools."""

TASK_DESCRIPTION_CHARS = 2_048
SCHEMA_BYTES = 16 << 10

RECORD_BYTES = 64 << 10
"""A sealed record. Real cards have 1 to 3 KiB; 40 tools with schemas some 30."""

PROOF_BYTES = 4 << 10
"""The certificate that says whose node has signed; some 500 bytes."""

SIGNER_CHARS = 128
MODEL_CHARS = 64
MAX_NUMBER = 2**53
"""Versions, times, prices: what every language reads exactly."""

DENSE_BYTES = 2 * 384
"""The sentence model's half of the vector as 16-bit floats: their rounding of 1/2048 moves no cosine by more than .001."""

PIECES_BYTES = PIECES * PIECE_BYTES
"""The signs of a text's telling pieces. Real cards have 1.3 KiB of them."""

FORMER_VECTORS = 4
"""Vectors of former versions that an entry carries, 384 bytes each: what is changed more often in a day is found in the places of the
oldest until those lapse."""

TEXT_CHARS = 4_096
"""Of a record's text, what is given to the model and to the words."""

# -- what a node holds -----------------------------------------------------------------------------------------------

ORG_RECORDS = 10_000
"""Records of one organisation: a crawled registry has a few thousand."""

ROOM = 10_000
"""Records that fit besides: no organisation alone can fill the directory."""

TOTAL_RECORDS = ORG_RECORDS + ROOM
"""Records of all organisations beyond what each is sure of: 30 MB of vectors, 25 MB of pieces, some 60 MB of records besides."""

ORG_SURE = 250
"""Records that an organisation may have even when the directory is full."""

ORG_ENTRIES = 2 * ORG_RECORDS
"""Records, tombstones and marks of one organisation; who publishes and withdraws new names all day waits for the old to lapse."""

TTL_S = 24 * 3600.0
"""How long a record lives from when it was received, unless its owner renews it (by a higher version); what the shipped genesis says, and
what counts while a node cannot read the mesh's parameter ``directory-record-ttl-ms``."""

RENEWALS = 3
"""An owner renews a record at the age of a lifetime divided by this: two attempts may fail."""

TOMBSTONE_LIVES = 3
"""A tombstone, or the mark of a lapsed version, lives so many lifetimes: it outlives every copy of the record that another node may have
received later."""

# -- keeping alike ---------------------------------------------------------------------------------------------------

BUCKETS = 256
"""By the first two hex digits of the agent's id; 40 entries each at 10,000."""

DIGEST_BYTES = 16

PLACES = 1_280
"""Places of a directory: its buckets while it is whole, or up to 1,024 cells and 256 places by id."""

LAYOUT_BYTES = 16
"""The name of a layout: the beginning of its codebook's hash."""

PLACES_ASKED = 32
"""Places listed in one request: 1,250 entries of a directory of 10,000, a page or two."""

SUMMARY_NAME_BYTES = 8
"""By which a summary is known to be the same as another."""

MAKING_S = 0.02
"""Between two looks whether a summary was made that another request waits for, too: 2 ms each."""

SUMMARIES_FROM = 8
"""Nodes asked for news of their cells in one round: all, in a small mesh."""

ANSWER_BYTES = 384 << 10
"""Records or summaries in one answer."""

CODEBOOKS = 4
"""Codebooks that a node fetches: that in force, and those endorsed for the next."""

CODEBOOK_PEERS = 8
"""Peers that are asked for a codebook in one round."""

PART_BYTES = 256 << 10
"""Of a codebook in one answer."""

HANDED_PLACES = 128
"""Places that a node has something in and does not hold, looked after in one go, each minute: own records, and what it held before."""

PAGES_LISTED = 64
"""Pages of a list that are asked of one holder: more than what the places of one request have."""

TRANSITION_ROUNDS = 300
"""After a change of codebook the former one is asked by too for so many rounds, ten minutes, at most: what a thousand nodes need to hear of
all others, twice."""

LINGERING_ROUNDS = 15
"""Rounds for which a node that lacks nothing more goes on answering by the former codebook: others are behind it."""

HEARD_AT_ONCE = 8
"""Nodes with which a node compares its new places in one round."""

HEARD_TRIES = 10
"""After so many rounds in which it was there and did not compare, a node is not waited for any more: half a minute to a minute."""

WATCH_ROUNDS = 450
"""A codebook has been in force for so many rounds, a quarter of an hour, before it can be followed by another; and as long lies between two
looks of a node, each of which may cost it some 20,000 records."""

DRAWN_AT_ONCE = 8
"""Places of which records are drawn side by side: all 256 take some seconds."""

HANDED_TO = 2
"""So many holders of a place must have what this node had in it, before this one lets go of it."""

SYNC_S = 2.0
"""Between two rounds with a peer. Alike directories cost one round trip of 100 bytes."""

ITEMS_A_PAGE = 1_000
"""Entries listed in one reply, some 45 bytes each."""

IDS_A_PAGE = 64
PAGE_BYTES = 96 << 10
"""Sealed records in one reply; also what is verified in one go in a worker thread, and merged in one step (some 50 records, 2 ms)."""

DRAWN_S = 20.0
"""A holder hands over what is drawn of a place in so long, 80 records of 3 KiB or fewer large ones, or the next is asked."""

NEWEST_S = 5.0
"""How long a holder may take to tell which versions of some agents it knows, with their records."""

CLAIMED_VERSIONS = 2**40
"""A version that a holder names without showing what is signed counts up to here: nobody comes there by publishing, and no lie uses up
all numbers."""

PAGES_A_ROUND = 400
"""After so many pages a round ends, and the next peer is asked for what is still missing."""

HINT_ITEMS = 64
"""New entries named in an announcement; of more, the receiver only learns that it should ask."""

HINT_PEERS = 64
"""Members told at once; in a larger mesh the rounds carry the news on."""

NEWS_CELLS = 256
"""Cells named in one announcement that there is something new in them."""

NEWS_S = 0.25
"""Between two turns of asking what is new in cells that were announced, SUMMARIES_FROM holders at most: no more, whatever is announced."""

NEWS_WAIT_S = 1.0
"""A holder has so long to say it; of one that takes longer it is heard in a round."""

NEWS_AFTER_S = 0.3
"""When what was published is announced to its holders for so long, the others are told: who has it then answers them."""

SYNC_TIMEOUT_S = 5.0
HINT_TIMEOUT_S = 2.0

# -- checking vectors ------------------------------------------------------------------------------------------------

SAMPLED = 4
"""Vectors of a page computed again at once, 15 ms each, chosen so that the publisher cannot know which."""

IDLE_CHECKS = 4
"""Vectors computed again at a time when nobody searches."""

IDLE_S = 0.5
"""Pause between those, so that they take an eighth of a processor: 2,000 records in 4 minutes."""

RANKS_HIGH = 3
"""Before a record is among the first so many of an answer for the first time, its vector is checked."""

ALIKE = 0.98
"""The cosine above which two vectors are of the same text: rounding and another machine's arithmetic leave .999.

Also the share of equal signs of its pieces: another machine's arithmetic turns only those of numbers next to zero.
"""

BARRED_ROUNDS = 4
"""How often a search is made again since what it found is in quarantine: organisations, nodes or FOUND agents are left out each time."""

CHEATS_TOLERATED = 2
"""With more vectors that did not fit, no record of the organisation is taken in for REFUSED_S."""

REFUSED_S = 3600.0
"""How long a publisher that cheated is refused, and what was refused is not fetched again: checking it would cost the victim more (15 ms
a vector) than making it up has cost the cheat."""

FULL_S = 60.0
"""How long what did not fit is not fetched again: a holder that has room for it by now hears of it in a minute, and what is over an
organisation's room costs others no more than that."""

REMEMBERED_REFUSALS = 20_000
"""Refused records that are known by their digest, so that rounds do not fetch them again: all that one organisation may have."""

REMEMBERED_ORGS = 4_096
"""Organisations whose cheats are counted."""

# -- asking ----------------------------------------------------------------------------------------------------------

QUERY_CHARS = 2_000
FOUND = 100
"""Records in an answer, and in all pages of one together: those that are compared piece by piece, of which the order is exact."""

PAIRS_ALIKE = 0.5
"""The share of two texts' pairs of neighbouring words from which on they are alike, if their vectors are near, too: numbered copies of
real cards have .67 and more."""

ALIKE_SHOWN = 4
"""Of the agents that are alike to one that is shown, the ids of so many are."""

COLLAPSED_AT_ONCE = 32
"""Records that are made sure of in one go where some of those before turned out to be alike: one more round trip, not one for each."""

COLLAPSED = 4 * FOUND
"""Records that are made sure of for one page; .6 ms each. A holder answers with four of a kind, so it takes a hundred kinds."""

FILTER_ENTRIES = 64
FILTER_CHARS = 200
"""Entries of a list in a filter, and their length: as many as a record may have, and longer than any of its words."""

FILTER_PRICE_MICRO = 2**63 - 1
"""The highest price that a filter may name, in millionths of a MESH: prices are kept in 64 bits."""

CURSOR_CHARS = 128
"""A cursor; ours have 60."""

FACETS_SHOWN = 20
"""Of each kind of facet, the most frequent that an answer counts."""

FACETS_TOLD = 200
"""Of each kind, the most frequent that a holder tells of the cells that it counts."""

TALLIED_AT_ONCE = 512
"""Records looked up in the ledger's quarantine in one step of counting, a millisecond or two."""

WAVES = 3
"""How often holders are asked for cells that others could not answer for: as many as hold a cell."""

SEARCH_TIMEOUT_S = 1.5
HEDGE_S = 0.15
"""After so long another holder of a cell is asked too, and after twice as long again the third: most answers come sooner."""

SECONDED = 16
"""Of so many of the nearest cells two holders are asked at once: nine tenths of the ten best lie there, and it is a third more messages."""

SECONDS_S = 0.01
"""How often it is looked whether those that were asked first have answered, once the seconds have had the time of a hedge."""

NEAR_S = 0.01
"""Of two holders the nearer is asked, unless it holds fewer cells: what counts are its cells over the way to it and this much more."""

FAR_S = 0.1
"""The way to a node that was not measured yet."""

SCORES_ALIKE = 0.002
"""By so much a score may differ from what is computed again here: another machine's arithmetic, and rounding to four places."""

CHOSEN_ALIKE = 0.01
"""So do scores by which it is chosen what is compared piece by piece: these go up to 2."""

# -- spot checks -----------------------------------------------------------------------------------------------------

SPOT_ROUNDS = 5
"""In one round of so many, on average, a node begins to look at a holder: three messages in a quarter of a minute."""

SPOT_WAIT = 5
"""At most so many rounds after a holder has listed what it has it is asked a question about it."""

SPOT_WORDS = 6
"""Words of a record that make such a question."""

CAUGHT = 3
CAUGHT_APART = 15
"""A node is convinced that a holder lies once it was caught so often, each time so many rounds after the last: over a minute."""

SUSPECTED_ROUNDS = 1_800
"""Who was caught is suspected for so long, at least an hour."""

CONVINCED_ROUNDS = 21_600
"""How long a node is convinced of one that is not discharged meanwhile, at least half a day; then it is looked at anew."""

# -- in worker threads -----------------------------------------------------------------------------------------------

DISOWNED_AT_ONCE = 32
"""Entries read from the Store in one step, to see whether their certificates were revoked: a millisecond or two."""

PUBLISHED_AT_ONCE = 32
"""Records embedded and signed in one go, half a second of a worker thread."""

LINES = 10_000
LINE_CHARS = 256 << 10
"""Lines of a publication, and their length before they are decoded."""

WORDS_CACHED = 20_000
"""Hashed words remembered: more than the vocabulary of 10,000 real cards' frequent words, a few megabytes."""

assert RECORD_BYTES <= PAGE_BYTES <= BODY_BYTES["work"] // 2
assert DENSE_BYTES + PIECES_BYTES + FORMER_VECTORS * 384 + PROOF_BYTES + 4 * DESCRIPTION_CHARS < RECORD_BYTES
assert ORG_SURE < ORG_RECORDS < ORG_ENTRIES and TOTAL_RECORDS - ORG_RECORDS >= 10_000
assert FOUND == RERANKED and FILTER_ENTRIES >= WORDS and FILTER_CHARS >= WORD_CHARS
assert RENEWALS > 1 and TOMBSTONE_LIVES >= 2
assert BODY_BYTES["work"] > ITEMS_A_PAGE * 64 and HINT_ITEMS <= IDS_A_PAGE
assert REMEMBERED_REFUSALS >= ORG_ENTRIES and REFUSED_S < TTL_S
assert HEDGE_S < SEARCH_TIMEOUT_S < SYNC_TIMEOUT_S and BODY_BYTES["work"] // 2 > ANSWER_BYTES
assert CAUGHT * CAUGHT_APART < SUSPECTED_ROUNDS < CONVINCED_ROUNDS and RANKS_HIGH <= IDS_A_PAGE
assert SAMPLED <= IDS_A_PAGE and SYNC_S < SYNC_TIMEOUT_S

PARSED = 512
"""Records kept parsed for those who call their agents: parsing costs 0.2 to 0.5 ms, and a call needs the record each time."""
