"""Times and sizes of a Raft group. They hang together, so they are set together and checked together; presets replace what differs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from meshos.consensus.raft.limits import MAX_CHUNK_BYTES, MAX_COMMANDS, MAX_PROPOSALS, ORDERED_BYTES
from meshos.storage.limits import MAX_KEY_BYTES


@dataclass(frozen=True, slots=True)
class Config:
    """How one group is timed and sized. The defaults are those of a LAN: nodes of one organisation in one building or region."""

    heartbeat_s: float = 0.08
    """A leader speaks to each follower at least this often. Well below ``election_s``, so that one late or lost heartbeat, or a
    processor that is busy for a moment, is no reason to elect (thesis, section 3.9: broadcast time << election timeout)."""

    election_s: float = 0.4
    """A follower that heard no leader for a time drawn anew from [election_s, 2 * election_s) asks for votes. Until ``election_s`` have
    passed since it heard the leader, it answers nobody who asks (thesis, section 4.2.3). A leader that did not hear a quorum for
    election_s steps down, and so does one whose disk did not answer for election_s.

    Of two followers the first wakes after 4/3 election_s on average, half a heartbeat earlier seen from the leader's death; an election
    takes two round trips (PreVote, then the vote) and two syncs. So writes go on 0.5 s after a leader's machine is gone, and at once
    where its links were seen to break (``suspicion_s``)."""

    suspicion_s: float = 0.05
    """A follower whose link to the leader broke asks the others (PreVote) within this time, drawn at random; they agree only if
    they miss the leader too. Spread over several round trips, so that one asks before the others do."""

    notice_s: float = 0.01
    """A commit index that no append carried to the followers is told them after this time; below ``heartbeat_s``, which would tell
    it otherwise. Only what the followers show to readers waits for it."""

    append_bytes: int = 48 << 10
    """Entries of one append message, and commands of one entry, are gathered up to this size (a larger one goes alone). At most
    ORDERED_BYTES, so that appends keep their order."""

    entry_commands: int = MAX_COMMANDS
    """Commands of one entry; see ``append_bytes``."""

    inflight_messages: int = 64
    """Appends to one follower that are sent before the first is answered (pipelining; thesis, section 10.2.1). With
    ``inflight_bytes`` this bounds what a slow follower makes the leader hold and resend."""

    inflight_bytes: int = 4 << 20
    """See ``inflight_messages``; at least ``append_bytes``."""

    proposals: int = MAX_PROPOSALS
    """Proposals in flight at a node; one more is ``busy``."""

    proposal_s: float = 10.0
    """A proposal whose outcome is not known by then ends as unknown; one that was never sent for want of a leader, as not done. Many
    elections fit into it."""

    retry_s: float = 1.0
    """What was forwarded to a leader is sent again after this time without news; above ``election_s``, below ``proposal_s``."""

    compact_entries: int = 512
    """The log is cut whenever this many applied entries lie in it beyond ``keep_entries``: often, so that no cut is long."""

    keep_entries: int = 4096
    """Applied entries left in the log when it is cut, so that a follower that was away for a moment needs no state."""

    keep_bytes: int = 32 << 20
    """The log is also cut when it is larger than this by a quarter, so that it is read within a moment at a start."""

    cached_bytes: int = 8 << 20
    """The newest entries stay in memory up to this size; older ones are read from the disk."""

    chunk_bytes: int = MAX_CHUNK_BYTES
    """A state is sent in chunks of this size."""

    chunks_inflight: int = 4
    """Chunks that are sent to one follower before the first is answered, and so held in memory for it."""

    transfers: int = 2
    """Followers that are sent a state at the same time; others wait."""

    def __post_init__(self) -> None:
        """Raises ValueError with the relation that does not hold."""
        relations = {
            "0 < notice_s < heartbeat_s": 0 < self.notice_s < self.heartbeat_s,
            "3 * heartbeat_s <= election_s": 3 * self.heartbeat_s <= self.election_s,
            "0 < suspicion_s < election_s": 0 < self.suspicion_s < self.election_s,
            "election_s < retry_s < proposal_s": self.election_s < self.retry_s < self.proposal_s,
            "0 < append_bytes <= min(ORDERED_BYTES, inflight_bytes)": 0 < self.append_bytes <= min(ORDERED_BYTES, self.inflight_bytes),
            "1 <= inflight_messages": self.inflight_messages >= 1,
            "1 <= entry_commands <= MAX_COMMANDS": 1 <= self.entry_commands <= MAX_COMMANDS,
            "1 <= proposals <= MAX_PROPOSALS": 1 <= self.proposals <= MAX_PROPOSALS,
            "1 <= keep_entries, compact_entries": min(self.keep_entries, self.compact_entries) >= 1,
            "2 * MAX_KEY_BYTES <= chunk_bytes <= MAX_CHUNK_BYTES": 2 * MAX_KEY_BYTES <= self.chunk_bytes <= MAX_CHUNK_BYTES,
            "1 <= chunks_inflight, transfers": min(self.chunks_inflight, self.transfers) >= 1,
            "0 < cached_bytes <= keep_bytes": 0 < self.cached_bytes <= self.keep_bytes,
        }
        for relation, holds in relations.items():
            if not holds:
                raise ValueError(f"raft: {relation}")


LAN = Config()

WAN = replace(LAN, heartbeat_s=0.4, election_s=2.0, suspicion_s=0.3, notice_s=0.1, retry_s=4.0, proposal_s=30.0)
"""Nodes of one organisation on several continents: round trips up to 0.3 s."""

FAST = replace(LAN, heartbeat_s=0.05, election_s=0.25)
"""A testnet that shows failover; not for busy machines."""

PRESETS: Mapping[str, Config] = MappingProxyType({"lan": LAN, "wan": WAN, "local": LAN, "fast": FAST})
"""By the names of ``meshos.presets``."""
