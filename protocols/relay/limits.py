"""The bounds of relaying, with their reasons and the relations between them. Times in seconds."""

KIB, MIB = 1024, 1024 * 1024

# -- asking (seeking.py) -----------------------------------------------------------------------------------------------

CANDIDATES = 3
"""Members that are asked at once whether they would relay: a question is one small message."""

ASKED = 12
"""Members that are asked in all for one search, the next one where one says no: where members have few links, one that is near by seldom
is linked to the one that is wanted."""

SEEK_S = 2.0
"""So long their answers are waited for; it is a round trip on a link that there is already."""

SEEKS = 64
"""Searches of this node under way: as many dials at once."""

TRY_S = 4.5
"""From a grant to a connection, at one relay; a dial has time for three of them."""

ANSWERS = 32
ANSWERS_PER_RELAY = 8
"""Connections to relays that others have called this node to, and that are not yet made."""

CALLS_BURST, CALLS_PER_S = 16, 2
"""How often one relay may call this node: each costs a handshake."""

# -- relaying (carrying.py) ----------------------------------------------------------------------------------------------

TOKEN_BYTES = 16

GRANT_S = 3.0
"""From the grant until the caller comes with it: a handshake, and a packet that was lost once or twice."""

CALL_S = 3.0
"""From the call until the other side comes: less than the caller waits in all."""

PAIRS = 256
"""Pairs that a node relays for, those that were only granted among them: two connections and some 300 KiB each."""

PAIRS_PER_ORG = 128
"""Asked for by members of one organisation, whose node ids cost it nothing: the others keep half."""

PAIRS_PER_CALLER = 8
"""Asked for by one member: a few peers that it cannot reach, two connections to each."""

PAIRS_PER_CALLED = 16
"""Of those that lead to one member; who asks pays, so this bounds what others can have it do."""

PAIRS_PER_ORG_AND_CALLED = PAIRS_PER_CALLED // 2
UNJOINED_PER_ORG_AND_CALLED = PAIRS_PER_CALLED // 4
"""Of those, for one organisation; and of these, such as only one of the two has come to, or nobody: they cost messages, and would keep all
others from a member that is reached through relays alone. Two legs are opened within a second where both want them."""

WANTS_BURST, WANTS_PER_S = 16, 2
"""How often one member may ask. A node that has lost all its links asks for some at once, and seldom after that."""

REMEMBERED = 4096
"""Members of whom it is known how often they have asked; of who has been quiet longest it is forgotten."""

IDLE_S = 60.0
"""A pair that carries nothing for so long is ended: links ping every few seconds."""

CARRIED_S = 15.0
"""It is told that a pair is in use no more often than this."""

LIFE_S = 4 * 3600.0
"""A pair ends after this at the latest: by then a direct way was looked for many times, and another relay may be the better one."""

BYTES_PER_S = 4 * MIB
"""What a node relays in all, by default; one organisation's pairs have half of it."""

LEAST_BYTES_PER_S = 16 * KIB
MOST_BYTES_PER_S = 1 << 40
"""What may be configured: below the first a single message of a link takes seconds."""

BURST_S = 0.1
"""So much of a second's bytes may go at once: a call never waits for bytes that nobody else wants to send."""

ORGS = 1024
"""Organisations of which it is known how much they have had; who has been quiet longest is forgotten, and has a full bucket again."""

CHUNK_BYTES = 32 * KIB
"""Taken from one side before the other has its turn; at the default rate 8 ms."""

MESSAGE_BYTES = 256
"""The largest of the messages (wire.py): two node ids and a token."""

# -- punching (introducing.py, punching.py) ------------------------------------------------------------------------------

MEETINGS = 64
"""That a relay arranges at once, and that a node takes part in."""

MEET_S = 5.0
"""From its beginning to its end: two handshakes with the relay, and then the punches."""

PUNCHES_AT_S = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)
"""When the small datagrams leave, after both know where to: some arrive before the other side's router lets them in."""

ANSWERED_PUNCHES = 4
"""Those that come are answered so often, to where they came from."""

PUNCH_BYTES = 22
"""Of one: smaller than what any answer to it could be used for."""

MEET_FIRST_S = 1.0
MEET_AGAIN_S = 60.0
MEETINGS_PER_LINK = 4
"""Soon after a link was relayed, and then after this and twice as long each time: routers seldom change, people move."""

HOST_CHARS = 45
"""Of an IP address."""

assert CANDIDATES < ASKED
assert max(PUNCHES_AT_S) < MEET_S < MEET_AGAIN_S
assert 3 * TRY_S + SEEK_S <= 16 and CALL_S <= GRANT_S < TRY_S
assert UNJOINED_PER_ORG_AND_CALLED < PAIRS_PER_ORG_AND_CALLED <= PAIRS_PER_CALLER < PAIRS_PER_CALLED < PAIRS_PER_ORG < PAIRS < REMEMBERED
assert ORGS > PAIRS
assert 2 * CARRIED_S < IDLE_S < LIFE_S
assert ANSWERS_PER_RELAY < ANSWERS
