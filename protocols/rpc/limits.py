"""The bounds of rpc and of its codec, with their reasons and the relations between them."""

from typing import Final

from meshos.flow import Lane

KIB = 1024
MIB = 1024 * 1024

# -- frames (codec.py) -----------------------------------------------------------------------------------------------

FRAME_BYTES = 64 * KIB
"""A whole frame with its header: what one side must be able to hold before it can check anything."""

FRAME_HEADER_BYTES = 10
FRAME_PAYLOAD_BYTES = FRAME_BYTES - FRAME_HEADER_BYTES

CONTROL_FRAME_BYTES = 512
"""Hello, ping, pong, goodbye and refusal are smaller than this."""

FRAGMENT_BYTES: Final[dict[Lane, int]] = {"control": 16 * KIB, "work": 16 * KIB, "bulk": FRAME_PAYLOAD_BYTES - 4}
"""How much of one message goes out before another has its turn: a TLS record's worth where somebody may be waiting."""

MESSAGE_HEAD_BYTES = 2 * KIB
"""Id, protocol name, deadline, trace, or the error of a reply: all of a message but its body."""

# -- bodies ----------------------------------------------------------------------------------------------------------

BODY_BYTES: Final[dict[Lane, int]] = {"control": 64 * KIB, "work": 1 * MIB, "bulk": 128 * MIB}
"""The largest body that a lane carries; above the last it is refused as ``request-too-large`` or ``result-too-large``."""

REMEMBERED_HEADS = 256
"""Encoded names of protocols and heads of notices that are remembered: one for each that is in use, and room for what peers make up."""

CAST_OPEN_AGAIN_S = 0.5
"""For casts to the same peer a link is asked for no more often: soon after the peer is back, and seldom while it is away."""

PROTOCOL_CHARS = 100
TRACE_CHARS = 256
ERROR_NAME_CHARS = 64
ERROR_DETAIL_CHARS = 400
ID_BYTES = 16

# -- a link's queues and reassembly ----------------------------------------------------------------------------------

ACTIVE_MESSAGES: Final[dict[Lane, int]] = {"control": 4, "work": 16, "bulk": 2}
"""How many messages of more than one frame are interleaved in a lane, and so how many may lie half received."""

ACTIVE_BYTES: Final[dict[Lane, int]] = {"control": 1 * MIB, "work": 20 * MIB, "bulk": 130 * MIB}
"""What the messages that are interleaved in a lane may have together: on bulk the largest goes alone, as the other side's share is
hardly larger."""

OUTBOUND_BYTES: Final[dict[Lane, int]] = {"control": 1 * MIB, "work": 16 * MIB, "bulk": 256 * MIB}
"""What may wait to be written, per link and lane; ``busy`` beyond. Bodies are held, not copied."""

OUTBOUND_MESSAGES: Final[dict[Lane, int]] = {"control": 4096, "work": 16384, "bulk": 16}

ALL_LINKS_PARTIAL_BYTES = 512 * MIB
"""Half received messages of all links together, counted as their bytes arrive."""

PARTIAL_BYTES_PER_ORG = 192 * MIB
"""The same of one organisation, whose node ids cost it nothing: the largest message, and all else that one link interleaves.
Who would exceed it loses the connection. Two organisations at their bounds leave room for the largest message of a third."""

# -- paths (paths.py) ------------------------------------------------------------------------------------------------

STALL_MIN_S = 0.1
STALL_ROUND_TRIPS = 3.0
"""A path is stalled when what was sent has waited longer than both. An acknowledgement may wait for data to travel with, up to 40 ms in
Linux's TCP or a round trip if that is longer, and one that is late is no reason to send everything again."""

BETTER = 0.7
BETTER_S = 3.0
"""Another path has to cost so little of what the present one does, for so long: the figures are noisy, and nothing is won by haste."""

NEXT_PATH_S = 0.005
"""What a path costs more for each place further back in the order: a message over QUIC takes twice as much of a core as one over TCP.
As much as a busy machine adds to a round trip, so that between neighbours the first carries unless it fails."""

PATHS_NAMED = 8
PATH_CHARS = 16
"""What a hello may name."""

REROUTES_BURST = 4
REROUTES_PER_S = 1.0
"""A peer may have this node send again what it waits for so often; two paths that fail one after the other are two."""

# -- asking ----------------------------------------------------------------------------------------------------------

ASKS_PER_PEER = 1024
"""Requests on their way to one peer; the peer takes no more from us either (SERVED_PER_PEER)."""

ASKS = 16384

RETRY_BUDGET = 10.0
"""Tries beyond the first that may be made to a peer in a burst; each first try puts back RETRY_DEPOSIT, time RETRY_REFILL_PER_S."""

RETRY_DEPOSIT = 0.1
RETRY_REFILL_PER_S = 0.5

BACKOFF_BASE_S = 0.05
BACKOFF_CAP_S = 2.0

RESEND_MIN_S = 0.25
"""An unanswered request is not sent again sooner: several round trips across the world."""

RESEND_BODY_BYTES = 1 * MIB
"""Larger requests are sent again only once it is known that they did not arrive."""

HOP_MARGIN_MIN_MS = 2
HOP_MARGIN_MAX_MS = 50
"""The other side gets a twentieth less time than we have, within these, so that its ``deadline-exceeded`` reaches us in time."""

TTL_MAX_S = 3600.0
"""The longest that a request may take: what a flow waits for longer is asked for again."""

OPEN_AGAIN_S = 10.0
"""A link that was asked for is asked for again after this, in case nobody ever answered."""

# -- serving ---------------------------------------------------------------------------------------------------------

SERVED_PER_PEER = 1024
SERVED = 4096
"""Requests that run here, of one peer and of all. Each is a Flow: at most half of the node's table of Flows (FLOWS in
node/kernel/assembly.py, 8192, is at least 2 * SERVED), so that peers never take the room of the node's own work.

One organisation has no more than what is left for all others, as a dynamic threshold (Choudhury and Hahne, "Dynamic Queue
Length Thresholds for Shared-Memory Packet Switches", 1998, with alpha = 1): alone it has half, with n others at their bounds
one (n + 2)th, and there is always room for one that comes new."""

SERVED_BYTES_PER_PEER = 192 * MIB
SERVED_BYTES = 768 * MIB
"""Bodies of the requests that run here, of one peer and of all: one of the largest, and many of the usual. One organisation
has no more than what is left for all others, as above."""

RECORD_GRACE_S = 10.0
"""A recorded reply is kept until the asker's deadline (it does not repeat the id after it), and this long beyond."""

RECORDS_PER_PEER = 8192
RECORDS = 65536
RECORD_BYTES = 64 * MIB
"""Bodies of small recorded replies, all peers together; the oldest go first and leave their id behind."""

LARGE_RECORD_BYTES = 256 * MIB
"""The same for bodies that go on the bulk lane."""

PEERS = 8192
"""Peers that anything is remembered of."""

SWEEP_S = 5.0
"""Expired records are cleared away this often: well below what they are kept beyond need, and seldom enough that a node at rest
is not woken for it all the time."""

assert SWEEP_S <= RECORD_GRACE_S / 2
assert CONTROL_FRAME_BYTES < FRAME_PAYLOAD_BYTES
assert all(size + 4 <= FRAME_PAYLOAD_BYTES for size in FRAGMENT_BYTES.values())
assert BODY_BYTES["control"] < BODY_BYTES["work"] < BODY_BYTES["bulk"] < 2**32
assert all(OUTBOUND_BYTES[lane] >= 2 * BODY_BYTES[lane] for lane in BODY_BYTES), "two of the largest fit"
assert all(ACTIVE_BYTES[lane] > BODY_BYTES[lane] + MESSAGE_HEAD_BYTES for lane in BODY_BYTES), "the largest can go"
assert sum(ACTIVE_BYTES.values()) <= PARTIAL_BYTES_PER_ORG, "who keeps to the limits when sending over one link is not refused"
assert 2 * PARTIAL_BYTES_PER_ORG + BODY_BYTES["bulk"] <= ALL_LINKS_PARTIAL_BYTES
assert PROTOCOL_CHARS + TRACE_CHARS < MESSAGE_HEAD_BYTES and 4 * (ERROR_NAME_CHARS + ERROR_DETAIL_CHARS) < MESSAGE_HEAD_BYTES
assert BODY_BYTES["bulk"] <= LARGE_RECORD_BYTES, "the largest reply can be recorded"
assert SERVED_PER_PEER >= ASKS_PER_PEER, "who keeps to the limits when asking is not refused when served"
assert BODY_BYTES["bulk"] < SERVED_BYTES_PER_PEER < SERVED_BYTES, "the largest request can be served"
assert RECORDS_PER_PEER >= SERVED_PER_PEER and RECORDS >= SERVED
assert 2 * SERVED_PER_PEER <= SERVED and 2 * BODY_BYTES["bulk"] <= SERVED_BYTES, "an organisation alone can use one peer's bound"
assert HOP_MARGIN_MIN_MS / 1000 < BACKOFF_BASE_S < RESEND_MIN_S < OPEN_AGAIN_S
assert CAST_OPEN_AGAIN_S < OPEN_AGAIN_S
assert STALL_MIN_S < RESEND_MIN_S, "a request goes over another path before it goes again over the same"
assert PATHS_NAMED * (PATH_CHARS + 2) < CONTROL_FRAME_BYTES / 2
assert OUTBOUND_MESSAGES["work"] >= ASKS_PER_PEER + SERVED_PER_PEER
