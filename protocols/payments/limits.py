"""Every bound of paying and of being paid, with its reason, and how the bounds hang together. Amounts are millionths of a MESH."""

from meshos.consensus.ledger.limits import MAX_TABS
from meshos.consensus.org.limits import DEDUP_MS, HOUR_MS, MAX_OPEN_PER_CALLER, MAX_OPEN_TASKS, MAX_RECEIPTS
from meshos.protocols.tasks.amounts import MICRO
from meshos.protocols.tasks.limits import LINGER_S, WORD_S

DAY_MS = 24 * HOUR_MS

# -- the caller --------------------------------------------------------------------------------------------------------

PER_PROVIDER_MICRO = 1_000 * MICRO
IN_ALL_MICRO = 10_000 * MICRO
"""What a node spends a day (UTC) with one provider, and with all: ``[payments]`` in node.toml. An API key's own budget comes before it."""

RESERVED_CALLS = 20
"""A tab is opened, and topped up, for so many calls of the dearest price of late."""

MIN_RESERVE_MICRO = MICRO
"""And for this much at least, so that cheap calls do not cost a ledger round every few seconds."""

TOP_UP_NUMERATOR, TOP_UP_DENOMINATOR = 7, 10
"""A tab is topped up when this share of it is used: what is left must last for the ledger round."""

MAX_PROVIDERS = 1_024
"""Organisations that a node remembers having paid; the ledger takes MAX_TABS open tabs of an organisation."""

MAX_PROMISED = 8_192
"""Priced calls of a node that have not ended for certain: those under way, and those whose provider did not say how they ended."""

UNSETTLED_AT_ONCE = 16
"""Providers' words on calls that nobody waits for any more are asked for side by side."""

PATIENCE_S = 2 * WORD_S + 2.0
"""How long after its time a call may take to be settled by whoever made it, before it is asked after in the background."""

ASK_AGAIN_S = 30.0
ASK_AGAIN_MOST_S = 3_600.0
"""Pauses between such questions, doubling: a provider that is down for a night is asked about a dozen times."""

FORGET_PROMISE_MS = DEDUP_MS
"""After this nobody can say any more how a call ended: providers forget it then."""

NUDGE_S = 2.0
NUDGE_MOST_S = 300.0
"""How soon a voucher that the provider has not acknowledged is sent again, without a receipt if need be; doubling."""

ATTEMPT_S = 2.0
ATTEMPT_MOST_S = 120.0
"""Pauses after a transaction about a tab that failed, doubling."""

IDLE_MS = 7 * DAY_MS
"""A tab that was not used for so long is closed, and its rest comes back."""

IDLE_S = 3_600.0
"""How often that is looked at."""

LOOK_S = 1.0
"""How often all tabs are looked up in the ledger's state while blocks come: also how late one hears that a caller closes its tab."""

# -- the provider ------------------------------------------------------------------------------------------------------

CREDIT_MICRO = 100 * MICRO
"""What an organisation may owe here without a voucher: ``[payments] credit`` in node.toml. A dearer call is taken while it owes nothing."""

CREDIT_WAIT_S = 1.0
"""How long a call waits for the next voucher where its caller's tab has enough: a burst is slowed to what its vouchers cover, not
refused."""

MAX_CREDIT_WAITERS = 1_024
"""Calls that wait so, of one organisation."""

REDEEM_S = 60.0
TESTNET_REDEEM_S = 2.0
"""A voucher is redeemed at the latest so long after it came (DESIGN.md), or as soon as REDEEM_SHARE of what is left on its tab is used."""

REDEEM_NUMERATOR, REDEEM_DENOMINATOR = 8, 10

LEAVES = 512
MAX_LEAVES = 4 * LEAVES
"""Receipts of one redemption: so many bring the next one on, and beyond the larger number none is added. A Merkle tree of 512 hashes takes
0.5 ms."""
MAX_LEAVES_IN_ALL = 64 * LEAVES
"""Of all callers, about 10 MiB."""

KEPT_REDEMPTIONS = 256
"""Redemptions whose receipts are kept by name, about 20 KiB each: what they prove is still to be shown (trust)."""

MAX_TABS_KNOWN = 4_096
"""Tabs on which this organisation is paid: each of them holds somebody's MESH on the ledger."""

MAX_CALLERS = 4_096
"""Organisations that are accounted for here: more than a mesh has."""

WRITE_OFF_MS = DAY_MS
"""What no voucher of a whole such time has covered is written off: callers lose the ends of tasks in crashes, and would be locked out one
day. So an organisation that never pays gets its credit once a day, and no more."""

assert TOP_UP_NUMERATOR < TOP_UP_DENOMINATOR and REDEEM_NUMERATOR < REDEEM_DENOMINATOR
assert TOP_UP_NUMERATOR * REDEEM_DENOMINATOR < REDEEM_NUMERATOR * TOP_UP_DENOMINATOR, "a tab that may be topped up is not redeemed early"
assert PER_PROVIDER_MICRO <= IN_ALL_MICRO and MIN_RESERVE_MICRO <= PER_PROVIDER_MICRO
assert MAX_TABS <= MAX_PROVIDERS and MAX_OPEN_TASKS <= MAX_PROMISED
assert MAX_CREDIT_WAITERS >= MAX_OPEN_PER_CALLER, "whoever may have a task open may wait for credit"
assert 2 * LINGER_S < CREDIT_WAIT_S < WORD_S, "a voucher comes while a call waits, and a caller that gives up is heard after it"
assert MAX_RECEIPTS <= LEAVES
assert WRITE_OFF_MS >= FORGET_PROMISE_MS, "nothing is written off that its caller may still pay"
assert NUDGE_S > 2 * LINGER_S, "a voucher that travels with receipts is not sent twice"
