"""Every bound of the ledger, with its reason, and how the bounds hang together."""

from meshos.consensus.ledger.tree_limits import MAX_KEY_BYTES, MAX_VALUE_BYTES
from meshos.consensus.pbft.limits import MAX_BLOCK_REQUESTS, MAX_REQUEST_BYTES, MAX_VALIDATORS
from meshos.consensus.pbft.limits import MAX_NAME_CHARS as MAX_NAME_CHARS_OF_PBFT
from meshos.genesis_content import MAX_CERTIFICATE_BYTES, MAX_HUMAN_KEYS, MAX_ORGS, MAX_SAFE_INTEGER, MAX_SEATS

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

# -- transactions ------------------------------------------------------------------------------------------------------

MAX_AMOUNT = MAX_SAFE_INTEGER
"""Millionths in one amount, and in all accounts together: the supply is not larger, so no sum overflows in any language's JSON."""

MAX_NUMBER = MAX_SAFE_INTEGER
"""Nonces, times, heights, versions."""

MAX_LIFETIME_MS = DAY_MS
"""How far ahead of ledger time a transaction may expire: a root key signs offline. What is older than this can no longer be replayed."""

MAX_PENDING = 512
"""Nonces of one key that may wait at the same time, counted from the next: what one client has in flight, and all that it can flood."""

MAX_NAME_CHARS = 96
"""A DID (at most 83 characters), an agent's id; ASCII, since keys of the state hold it."""

MAX_KEY_CHARS = 64
"""A node id (52 characters) or a Multikey (48)."""

MAX_LABEL_BYTES = 256
"""A person's name of 64 characters."""

MAX_AGENT_NAME_BYTES = 512
"""An agent's name of 128 characters."""

MAX_REASON_BYTES = 800
"""Why somebody decided so, in UTF-8; people read it in one glance."""

MAX_KIND_CHARS = 32
MAX_BODY_DEPTH = 4

SMALL_BYTES = 640
"""A transfer, a vote, most kinds: an envelope of about 160 bytes, three names at their longest."""
REASONED_BYTES = 1_024 + MAX_REASON_BYTES
"""A kind with a reason."""
CERTIFIED_BYTES = 1_024 + MAX_CERTIFICATE_BYTES
"""A kind with a root certificate."""

TRANSACTIONS_CACHED = 4 * MAX_BLOCK_REQUESTS
"""Transactions of at most SMALL_BYTES kept decoded from their arrival to their execution: a few blocks' worth, about 30 MiB."""

# -- accounts, organisations, keys -------------------------------------------------------------------------------------

MAX_NODES = 32
"""Registered nodes of one organisation: 5 that vote in its Raft, learners, leaves."""

COSIGNED_BYTES = 1_024 + MAX_NODES * (64 + 64)
"""A hand-over signed by all nodes of an organisation."""

STATEMENT_MS = 600_000
"""How far ahead of ledger time a statement of nodes about their seat may end: what some of them signed in one outage must not lie ready for
the next."""

RETIRED_MS = MAX_LIFETIME_MS
"""How long a retired key is remembered: until all that it signed while it counted has expired."""

MAX_RETIRED_KEYS = 256
"""Of one organisation at a time, before it may have no new ones: nobody grows the state by changing keys. Keys can be taken away all the
same, and a node by itself can use up half of it."""

MAX_AGENTS = 1_000
"""Agents of one organisation whose records are committed to; as many as it may have (``consensus/org/limits.py``)."""

MAX_WITHDRAWN = MAX_AGENTS
"""Withdrawn agents of one organisation that are remembered at a time, before it may have no new ones: nobody grows the state by deploying
and withdrawing. Agents can be withdrawn all the same, and deployed again."""

WITHDRAWN_MS = 7 * DAY_MS
"""How long each is remembered: longer than a deployment waits for its commitment, whatever happens to the organisation's nodes."""

TESTIMONY_MS = DAY_MS
"""How long an organisation's word that a node lies counts: others find the same within hours, and what lies no more is not held to it."""

MAX_TESTIMONIES = 16
"""Nodes of others about which one organisation has testified within that time: who lies about holders has no more of them looked at."""

DISCHARGE_MS = 7 * DAY_MS
"""How long a node holds nothing after enough have testified about it."""

MAX_VERSION_STEP = 1 << 32
"""How far above all that is known the version of a record may be: a node that lies uses up no more of an organisation's numbers."""

MAX_COORDINATORS = 100
"""Meta-coordinators: as many as validators. All of them may vote on one decision."""

MAX_MOTIONS = 8
"""Open motions of one organisation."""

MAX_TABS = 256
"""Open tabs of one organisation as the caller: a few nodes times the providers they use."""

RENT_DAYS = 30
"""What the price of a record is for."""

MAX_RENT_DAYS = 90
"""How far ahead room for records is paid for: a price that the organisations change counts for everybody after that."""

# -- time --------------------------------------------------------------------------------------------------------------

DUE_PER_BLOCK = 256
"""Deadlines carried out by one block; what is left over comes with the next. Whether a deadline has passed is asked of the time, never
of whether it was carried out."""

PRUNED_PER_BLOCK = 64
"""Ended things forgotten by one block: more than come in, by a wide margin."""

# -- decisions ---------------------------------------------------------------------------------------------------------

MAX_OPEN_DECISIONS = 64
"""Decisions that wait for approval, of all coordinators together: more than people could look at."""

MAX_DECISIONS_PER_ORG = 8
"""Of these of one coordinator, so that one cannot use up what is there for all."""

MAX_KEPT_DECISIONS_PER_ORG = 256
"""Of one coordinator, with those that have ended and are not forgotten: one every six minutes all day. Of all together 10 MiB."""

MAX_CHANGES = 8
"""Parameters changed by one decision or motion."""

MAX_PAUSES = 64
"""Pauses remembered within the window they are counted in."""

KEPT_DECISION_MS = DAY_MS
"""How long an ended decision can still be looked up and reversed, at least; the time lock of genesis, where that is longer."""

MAX_RISK = 100

MAX_AUDIT = 4_096
"""Entries of the audit trail kept in the state; the oldest go first. The blocks hold all."""

# -- results -----------------------------------------------------------------------------------------------------------

KEPT_OUTCOMES = 4_096
"""Blocks whose results can be proven from a header: an hour at one block a second."""

NOTICE_BLOCKS = 128
"""Between the decision on an activation height and that height: two checkpoints, so that everybody has heard of it."""

assert MAX_LIFETIME_MS <= RETIRED_MS, "a retired key is forgotten only when nothing that it signed can be replayed"
assert STATEMENT_MS <= MAX_LIFETIME_MS
assert TESTIMONY_MS <= RETIRED_MS < DISCHARGE_MS, "nobody is rid of a testimony or of a discharge by removing a node and adding it again"
assert MAX_TESTIMONIES * (MAX_KEY_CHARS + 64) <= MAX_VALUE_BYTES and MAX_VALIDATORS * (83 + 16) + 64 <= MAX_VALUE_BYTES
assert SMALL_BYTES < REASONED_BYTES and CERTIFIED_BYTES < MAX_REQUEST_BYTES and COSIGNED_BYTES < MAX_REQUEST_BYTES
assert MAX_DECISIONS_PER_ORG < MAX_OPEN_DECISIONS and MAX_DECISIONS_PER_ORG < MAX_KEPT_DECISIONS_PER_ORG
assert len(b"prune/") + 8 + MAX_NAME_CHARS + MAX_KIND_CHARS // 2 <= MAX_KEY_BYTES
# The largest entries: a decision on which every coordinator and every human seat voted; an organisation with all its keys.
assert MAX_COORDINATORS * (83 + 3) + MAX_SEATS * (48 + 4) <= MAX_VALUE_BYTES - 1_024
assert MAX_VALIDATORS * (83 + 3) + CERTIFIED_BYTES <= MAX_VALUE_BYTES
assert (MAX_NODES + MAX_HUMAN_KEYS) * (MAX_KEY_CHARS + 2) + 512 <= MAX_VALUE_BYTES
assert MAX_VALIDATORS * (83 + 2 * MAX_KEY_CHARS + 8) + 64 <= MAX_VALUE_BYTES
assert RENT_DAYS <= MAX_RENT_DAYS and MAX_RENT_DAYS * 16 <= MAX_VALUE_BYTES  # a rent has a step for each day at most
assert MAX_KEY_CHARS < MAX_NAME_CHARS < MAX_NAME_CHARS_OF_PBFT
assert MAX_VALIDATORS <= MAX_ORGS and MAX_HUMAN_KEYS < MAX_ORGS and MAX_SEATS < MAX_ORGS
