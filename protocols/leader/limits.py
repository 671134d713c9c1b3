"""Every bound of what is asked of an organisation's leader, with its reason, and how the bounds hang together."""

from meshos.consensus.org.limits import MAX_AGENT_FILE_BYTES, MAX_AGENTS, MAX_NAME_CHARS, MAX_PATH_CHARS, MAX_RECORD_BYTES, MAX_REMOVED
from meshos.consensus.raft.limits import MAX_MEMBERS, MAX_NODE_CHARS
from meshos.protocols.rpc.limits import BODY_BYTES

CHOOSING_S = 10.0
"""How long somebody who asks waits while an organisation's nodes choose who leads, and the new leader starts its agents: the time that a
failover may take (DESIGN.md, 'Heartbeat 30 s, recovery < 60 s')."""

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0
"""Between two rounds over an organisation's nodes: doubling from the first to the longest."""

ASK_BYTES = MAX_AGENT_FILE_BYTES + MAX_PATH_CHARS * 4 + (4 << 10)
"""The largest question: a deployment."""

NOTE_CHARS = 160
"""Of why a process does not serve."""

REPLY_BYTES = max(
    MAX_RECORD_BYTES + (4 << 10),
    MAX_AGENTS * (MAX_NAME_CHARS + 4 * NOTE_CHARS + 64),
    (MAX_MEMBERS + MAX_REMOVED) * (MAX_NODE_CHARS + 32),
)
"""The largest answer: the record of a deployed agent, how all agents' processes do, or all nodes that were removed."""

WORD_S = 5.0
"""A question that the leader answers from what it knows."""

assert FIRST_PAUSE_S < LONGEST_PAUSE_S < CHOOSING_S
assert max(ASK_BYTES, REPLY_BYTES) <= BODY_BYTES["work"]
