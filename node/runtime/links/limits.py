"""The bounds of links, with their reasons and the relations between them. Times in seconds."""

from meshos.protocols.relay.limits import PAIRS_PER_CALLED, PAIRS_PER_CALLER, TRY_S
from meshos.protocols.rpc.limits import FRAME_BYTES, RECORD_GRACE_S, RESEND_MIN_S, STALL_MIN_S

HANDSHAKE_S = 5.0
"""TLS and certificates, and then the hellos: each has this long. A round trip around the world takes 0.3 s, and there are three."""

DIAL_S = 15.0
"""A dial in all: name, TCP, handshake, hellos."""

NEXT_DIAL_S = 1.0
"""Where a path has not answered for so long, the next one is dialled beside it: a handshake around the world takes that long, and one
that a firewall swallows takes ten times as long to be given up."""

UNAUTHENTICATED = 256
"""Connections whose certificate is not yet checked (about 60 KiB each); beyond, they are closed as they come."""

UNAUTHENTICATED_PER_ADDRESS = 32
"""The same from one address: a testnet has all its nodes on one."""

HANDSHAKES_BURST = 256
"""TLS handshakes that one address may begin at once: a testnet has all its nodes on one, and they start together."""

HANDSHAKES_PER_S = 32.0
"""And this many per second after that; each costs about a millisecond of a core."""

STRANGE_HANDSHAKES_BURST, STRANGE_HANDSHAKES_PER_S = 512, 250.0
"""Of all addresses together from which no member has come yet: a quarter of a core, however many addresses strangers have."""

HANDSHAKE_SOURCES = 4096
"""Addresses whose recent handshakes are remembered; the one seen longest ago is forgotten first."""

CONNECTIONS = 8192
"""Authenticated connections of all peers together."""

CONNECTIONS_PER_PEER = 8 + PAIRS_PER_CALLER + PAIRS_PER_CALLED
"""From outside: on each of two paths a main one and the one that takes its place, two for bulk, and the ends of old ones; and what is
relayed for the peer here."""

CONNECTIONS_PER_ORG = CONNECTIONS // 4
"""From outside, of all nodes of one organisation together: node ids cost it nothing, so that a bound for each is none."""

CONNECTIONS_ACCEPTED = CONNECTIONS - CONNECTIONS // 8
"""With so many, nobody else is let in: what is left is for those that this node opens itself, so that it reaches whom it needs whoever has
come."""

CONNECTIONS_SECOND = CONNECTIONS // 2
"""With so many, no peer gets a second path: what is left is for those who have none."""

KEEPALIVE_S = 5.0
"""A ping goes out this often; it also measures the round trip."""

SILENT_S = 15.0
"""A peer from which nothing has come for so long is not there."""

STALLED_S = 30.0
"""A single write that takes longer means that the peer does not read."""

PARTIAL_S = 60.0
"""A message of which no further piece comes for so long never ends: its connection is closed, and its memory free. Longer than
a lane has to wait for those before it on any link that is not overloaded."""

IDLE_S = 600.0
"""A link without a message for so long is closed, politely; the next request opens it again in a few round trips."""

BULK_IDLE_S = 30.0

RECHECK_S = 300.0
"""Certificates of linked peers are looked at again this often: one that has ended ends its links within this."""

PARTING_S = 5.0
"""From our goodbye to the other side's; then the connection is cut."""

LINGER_S = 1.0
"""How long a refused peer has to read why."""

LINGER_BYTES = 64 * 1024

READ_BYTES = 128 * 1024
"""What one read of a socket takes."""

WRITE_BYTES = 128 * 1024
"""What one write hands over: enough to keep the path full, little enough that control passes soon."""

GATHER_S = 0.000_2
"""After a write, messages are gathered for so long before the next: at the rate at which it pays (some 5,000 a second) they share
system calls, and one that comes alone does not wait for another task."""

TURN_MESSAGES = 128
"""Messages that came together and are dealt with in one turn: their replies share a write, and so do their writes to a disk. At some
50 microseconds each, the first reply does not wait long for the last."""

FLUSH_MESSAGES = 16
"""So many messages to one peer leave in one piece; the rest of the turn does not keep them: the peer deals with them meanwhile."""

MAILBOX_PAUSE_S = 0.005
"""While the mailbox is full nothing is read, and it is offered again this often."""

# -- relayed links (relay.py) -------------------------------------------------------------------------------------------

RELAYS_TRIED = 3
"""Relays to which connections are opened for one dial, one after the other."""

RELAY_AFTER_S = 1.0
"""A relay is looked for when the direct paths have taken so long, though they may still lead there: longer than any handshake across the
world, and a call does not wait for the end of their patience."""

DIRECT_FIRST_S = 2.0
DIRECT_S = 60.0
"""So long after a link was relayed, and then this often, a direct way is looked for: one dial at a time, however many links are relayed."""

DIRECT_SETTLED_S = 1.0
"""A direct connection that has lasted so long takes the place of the relayed one."""

DIRECT_PAUSE_S = 0.05
"""Whoever has found a way looks again after this whether another dial over the same path is over."""

LATELY_S = 60.0
"""A relay whose connection to the same peer was opened so shortly before is tried last: it may be why another one is needed."""

assert RELAYS_TRIED * TRY_S <= DIAL_S
# -- several paths to a peer (standby.py, peer_links.py) ----------------------------------------------------------------

LOOK_S = 0.02
"""While something waits for a sign that it arrived, its path is looked at so often."""

MEASURE_S = 0.5
PATH_PING_S = 1.0
"""Paths are measured, and pinged, so often while there are several: little beside what goes over them."""

WARM_S = 10.0
"""A peer with which a message was exchanged within this is talked to, and gets a second path."""

STANDBY_IDLE_S = 60.0
"""After so long without a message it has one again."""

AGAIN_MIN_S = 1.0
AGAIN_MAX_S = 60.0
"""A path over which no connection could be had, or none that lasted, is tried again after so long, doubled each time. Also how long the
first one has to be there before another is dialled: most of those that are opened for one question never need it."""

SETTLED_S = 60.0
"""A connection that has lasted so long was none that did not last."""

NEWS_BURST = 4
NEWS_PER_S = 0.1
"""Changes of path that people are told of, for each peer: one that goes back and forth is known after the first few."""

ANSWER_S = 0.25
"""Where one connection broke, and over the other nothing comes for so long, not even an acknowledgement, the peer is gone. One that is busy
for a moment is not: its kernel acknowledges what comes over TCP, and over QUIC it does as soon as it runs. An organisation whose leader was
killed waits as long before it looks for another."""

ANSWER_ROUND_TRIPS = 10
"""Where a round trip takes longer, the peer has so many: its transport sends a loss again after 200 ms and one of them at the earliest
(Linux's TCP_RTO_MIN), and a link that is there must not end for one packet, nor for two."""

PATH_SILENT_S = 5.0
"""A path that has brought nothing for so long, while another has, is closed."""

# -- QUIC (quic.py) ---------------------------------------------------------------------------------------------------

QUIC_WINDOW_BYTES = 1 << 20
"""What a peer may send that nobody here has read yet: the flow control window. It bounds the memory of a connection, and
throughput at window / round trip: 20 MB/s at 50 ms, about what a core carries in small datagrams."""

QUIC_UNSENT_BYTES = 256 * 1024
"""What may wait in a connection for the network before ``send`` waits: two writes, so that the path stays full and control still
passes soon."""

QUIC_RETRY_ABOVE = 8
"""With so many connections half open, addresses are validated first (RFC 9000, section 8.1.2), which costs honest ones a round trip
and liars all: from then on nothing is kept for an address that does not answer. Also all that can be counted against an address by
somebody else who forges it."""

QUIC_RETRIES_PER_S = 1000.0
"""A tenth of a core, at some 100 microseconds each."""

QUIC_HANDSHAKES_BURST = 64
QUIC_HANDSHAKES_PER_S = 40.0
"""Handshakes of all strangers together, at some 6 milliseconds of a core each: a quarter of one, however many addresses they have, and
0.4 s of it at once. A link has TCP beside it, so who is dropped now is not alone."""

QUIC_BATCH = 64
"""Datagrams (or trains of them, with GRO) taken from the socket before other tasks run."""

QUIC_FRAMES_A_DATAGRAM = 256
"""Of a member: ours pack three or four. aioquic takes each by itself, and copies what follows a padding: more are the end of the link."""

QUIC_FRAMES_A_TURN = 256
"""Of all members, taken before other tasks run: some 5 ms at most, whatever a batch holds."""

QUIC_FRAMES_USUAL = 16
QUIC_FRAMES_PER_S = 20_000.0
QUIC_FRAMES_BURST = 20_000
"""Frames beyond the usual in one datagram, of all nodes of one organisation together: a tenth of a core. Honest ones have none."""

QUIC_ACK_DELAY_S = 0.015
"""So long an acknowledgement waits for data to travel with, below the 25 ms that peers are told to expect."""

QUIC_ACK_WITH_DATA_S = 0.002
"""Data takes an acknowledgement along that has waited so long: each costs as much as a tenth of a datagram on both sides."""

QUIC_ACK_BYTES = 12 * 1024
"""After so much an acknowledgement waits no longer: the first flight of a connection is ten datagrams."""

QUIC_RECEIVE_BUFFER_BYTES = 4 << 20
"""Of the socket, shared by all connections: four full windows."""

QUIC_DATAGRAM_BYTES = 1200
"""What every path carries (RFC 9000, section 14)."""

QUIC_PROBES_BYTES = (1452, 8900)
QUIC_PROBES_LOOPBACK_BYTES = (16000,)
"""Larger datagrams that are tried (RFC 8899): what Ethernet carries over IPv6, what jumbo frames do, and on loopback what costs least for
each byte."""

QUIC_PROBE_TIMES = 3
"""A probe may be lost for other reasons than its size."""

QUIC_RESETS_PER_S = 50.0
"""Stateless resets (RFC 9000, section 10.3) that are sent: enough for the peers of a node that has just started, and no echo."""

assert 2 * WRITE_BYTES <= QUIC_UNSENT_BYTES <= QUIC_WINDOW_BYTES
assert QUIC_WINDOW_BYTES >= 2 * FRAME_BYTES
assert QUIC_ACK_WITH_DATA_S < QUIC_ACK_DELAY_S < 0.025
assert QUIC_FRAMES_USUAL < QUIC_FRAMES_A_DATAGRAM <= QUIC_FRAMES_A_TURN < QUIC_FRAMES_BURST
assert QUIC_HANDSHAKES_BURST >= UNAUTHENTICATED_PER_ADDRESS > QUIC_RETRY_ABOVE

assert 4 * LOOK_S < STALL_MIN_S and MEASURE_S < PATH_PING_S
assert PATH_SILENT_S + 2 * MEASURE_S < RECORD_GRACE_S, "what lay in a path that was cut never comes when its record is gone"
assert 4 * PATH_PING_S < PATH_SILENT_S < WARM_S < STANDBY_IDLE_S < IDLE_S
assert STALL_MIN_S < ANSWER_S < PATH_SILENT_S
assert AGAIN_MIN_S < AGAIN_MAX_S <= SETTLED_S

assert WRITE_BYTES >= FRAME_BYTES and READ_BYTES >= FRAME_BYTES
assert 2 * HANDSHAKE_S <= DIAL_S and NEXT_DIAL_S < HANDSHAKE_S
assert HANDSHAKES_BURST >= UNAUTHENTICATED_PER_ADDRESS
assert 4 * KEEPALIVE_S < STALLED_S < PARTIAL_S
assert 2 * KEEPALIVE_S < SILENT_S < STALLED_S <= BULK_IDLE_S < IDLE_S
assert UNAUTHENTICATED_PER_ADDRESS < UNAUTHENTICATED < CONNECTIONS
assert 2 * CONNECTIONS_PER_PEER < CONNECTIONS_PER_ORG < CONNECTIONS_SECOND < CONNECTIONS_ACCEPTED < CONNECTIONS
assert MAILBOX_PAUSE_S < RESEND_MIN_S
