"""Every bound of a node's own transactions and of what it owes the ledger, with its reason, and how the bounds hang together."""

from meshos.consensus.ledger.limits import MAX_LIFETIME_MS, MAX_PENDING

LIFETIME_MS = 60_000
"""How long a transaction is valid: far longer than any commit, and short enough that whoever asked learns soon that it was not done."""

FILLER_LIFETIME_MS = MAX_LIFETIME_MS // 2
"""Of what takes the place of a transaction that lapsed: half of what the ledger takes, since its clock may be behind ours."""

LAPSE_MARGIN_MS = 5_000
"""How long after its end by our clock a transaction is given up: the ledger's time may be this much behind (2 s off, and a block under
way)."""

IN_FLIGHT = 16
"""Transactions that are on their way at once: some ten blocks of one node's, and far below what the ledger keeps of a key."""

QUEUED = 256
"""Transactions that wait for a place: every tab of an organisation at once."""

KEPT = 4_096
"""Ended transactions that are remembered by name, about 150 bytes each: longer than anybody who asks again after a restart waits."""

MAX_REF_BYTES = 64
"""The name that whoever asks gives a transaction."""

RESUBMIT_S = 5.0
RESUBMIT_MOST_S = 60.0
"""How soon what was not decided is given to the ledger again, and at most, with doubling pauses."""

LOOK_S = 2.0
"""How often a node looks whether it owes the ledger something: two numbers are read."""

REFRESH_S = 600.0
"""How often an organisation's leader compares all its agents' records all the same: whatever was missed is mended within this time."""

PAGE = 16
"""Agents compared in one step, some 5 ms of it where all are new."""

AT_ONCE = 4
"""Of what is owed, on its way at the same time: payments go through the same places, and wait for somebody."""

ADMISSIONS, HOUR_S = 60, 3600.0
"""For so many strangers an organisation votes by itself, at once and then an hour: a small mesh doubles in minutes, and whoever moves for
thousands waits for people."""

SCANNED = 256
"""Open motions that are looked at, some 10 ms of it, and only once a block has come."""

OWED_S = 5.0
OWED_MOST_S = 600.0
"""After what was refused, how soon it is tried again, and at most, with doubling pauses."""

assert 4 * AT_ONCE <= IN_FLIGHT and LOOK_S < OWED_S < OWED_MOST_S
assert IN_FLIGHT < MAX_PENDING, "the ledger waits for all that we have in flight"
assert LIFETIME_MS < FILLER_LIFETIME_MS < MAX_LIFETIME_MS
assert IN_FLIGHT + QUEUED < KEPT, "nothing is forgotten that somebody may just have asked for"
