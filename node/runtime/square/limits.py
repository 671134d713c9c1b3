"""The bounds of the square's connections, with their reasons; what a question may cost is in ``protocols/square/limits.py``."""

from meshos.protocols.square.limits import ANSWER_BYTES, MOST_REQUEST_BYTES

KIB = 1024

# -- connections -------------------------------------------------------------------------------------------------------

CONNECTIONS = 256
"""Of all strangers together: some 200 KiB each."""
CONNECTIONS_AN_ADDRESS = 16
CONNECTIONS_A_PEER = 4
HANDSHAKES = 32
"""Connections that have not proven a key yet; each holds little and is over within HANDSHAKE_S. Beyond, the oldest gives way."""
HANDSHAKES_AN_ADDRESS = 8
"""A household, or a testnet, begins a few at once; who says nothing needs four addresses to fill the list."""

HANDSHAKE_S = 10.0
"""From the first byte to a multiplexed connection: six round trips, over a slow path too."""
IDLE_S = 90.0
"""A connection without a request: a client that wants to stay pings, or asks."""
EVICTABLE_S = 5.0
"""Where all places are taken, the one that was quiet longest gives way, if it was quiet so long."""
LIFETIME_S = 3_600.0
"""Then the peer connects again: nothing that was begun wrongly lasts for ever."""
CLOSE_S = 2.0
REAP_S = 5.0

# -- streams -----------------------------------------------------------------------------------------------------------

STREAMS = 32
"""Open at once on one connection, both ways: far below Yamux's 256 and QUIC's 128, at which libp2p waits for ever."""
STREAMS_IN_ALL = 1_024
STREAMS_REFUSED = 64
"""On one connection, for want of places or tokens: who goes on opening them is cut off. Each costs some 0.2 ms."""
NEGOTIATE_S = 10.0
NEGOTIATE_TRIES = 16
"""Protocols that a peer may ask for on one stream; js-libp2p tries at most four names of one protocol."""
PROTOCOL_BYTES = 256

REQUEST_S = 5.0
"""From a frame's first byte to its last: who sends one byte a second is not waited for."""
STREAM_IDLE_S = 60.0
"""Between one request and the next."""
LINGER_S = 2.0
"""For a peer to end its side of a stream that this side has ended."""
WRITE_S = 20.0
"""For a peer to take an answer off us."""

# -- bytes -------------------------------------------------------------------------------------------------------------

READ_BYTES = 64 * KIB
BACKLOG_BYTES = 512 * KIB
"""Received on a connection and not yet read by us. Yamux in py-libp2p 0.8.1 warns of a peer that ignores its window, and keeps the bytes
all the same, so this is looked at before each frame is read."""
PIECE_BYTES = 256 * KIB
"""Of one Yamux frame: the first window."""

UNTAKEN_BYTES, UNTAKEN_AN_ADDRESS_BYTES = 16 * KIB * KIB, 4 * KIB * KIB
"""Of answers that strangers have not taken off us: of all, and of one address, eight of the largest."""

FRAMES_A_DATAGRAM = 256
"""Of QUIC: some 30 are the most that an honest peer packs; 1,200 fit, at a microsecond or more each."""
FRAMES_A_TURN = 256
"""Of QUIC, taken before other tasks have their turn: some 5 ms at most."""
FRAMES_A_PACKET = 8
"""So many more frames of QUIC count as a packet more: aioquic takes up to 20 microseconds for one."""
IDS_RETIRED = 64
"""Connection ids on one connection: honest ones retire one or two an hour, and each brings a new one that is sent."""

UNACKNOWLEDGED_BYTES, ALL_UNACKNOWLEDGED_BYTES = 128 * KIB, 256 * KIB
"""Of QUIC, written to one stream, and to all of one connection, that the peer has not acknowledged: what is more waits. A peer that
acknowledges nothing has so much kept for it, whatever it has asked for."""

PACKETS_A_SECOND, PACKETS_SAVED = 500, 4_000
"""Reads of the socket on one connection, or datagrams of it."""
ADDRESS_PACKETS_A_SECOND, ADDRESS_PACKETS_SAVED = 1_000, 4_000
"""Datagrams of all connections of one address: four tenths of what all have, as of tokens."""
FRAME_PACKETS = 2
"""A header of Yamux counts as so many packets of all: a ping is answered in 0.2 ms."""
FRAMES_A_SECOND, FRAMES_SAVED = 500, 500
"""Headers and bodies of Yamux on one connection: pings and window updates have no other bound, and 5,459 of them fit one message of Noise,
which is four reads of the socket."""
ALL_PACKETS_A_SECOND, ALL_PACKETS_SAVED = 2_500, 8_000
"""All of these of all connections together: 0.1 ms each, a quarter of a core."""

# -- asking (asking.py) ------------------------------------------------------------------------------------------------

DIAL_S = 10.0
ASK_S = 30.0

# -- living (square.py) ------------------------------------------------------------------------------------------------

RESTART_S, RESTART_MOST_S = 1.0, 300.0
"""After the square has ended by an error of its own: twice as long each time. After RESTART_MOST_S without one it is the first again."""

assert CONNECTIONS_A_PEER < CONNECTIONS_AN_ADDRESS < CONNECTIONS
assert STREAMS < 127
assert CONNECTIONS_A_PEER <= HANDSHAKES_AN_ADDRESS < CONNECTIONS_AN_ADDRESS < HANDSHAKES
assert MOST_REQUEST_BYTES <= PIECE_BYTES <= BACKLOG_BYTES
assert ANSWER_BYTES / WRITE_S < 64 * KIB  # bytes a second: a slow path may still take the largest answer
assert 8 * (ANSWER_BYTES + KIB) <= 2 * UNTAKEN_AN_ADDRESS_BYTES <= UNTAKEN_BYTES
assert READ_BYTES < UNACKNOWLEDGED_BYTES < ALL_UNACKNOWLEDGED_BYTES
assert PACKETS_A_SECOND < ADDRESS_PACKETS_A_SECOND < ALL_PACKETS_A_SECOND and ADDRESS_PACKETS_SAVED < ALL_PACKETS_SAVED
assert FRAMES_A_DATAGRAM <= FRAMES_A_TURN
assert EVICTABLE_S < IDLE_S < LIFETIME_S
