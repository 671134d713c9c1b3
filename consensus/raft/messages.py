"""What the nodes of a group say to each other. Every message but those about proposals carries its sender's term (Raft, section 5.1)."""

from typing import TypeAlias

from meshos.consensus.raft.entries import Entry
from meshos.values import frozen

# -- elections (Raft, section 5.2; thesis, section 9.6) ----------------------------------------------------------------


@frozen
class PreVote:
    """Would you vote for me in ``term``, with a log that ends with ``last_index`` of ``last_term``? Nobody's term changes by asking."""

    term: int
    last_index: int
    last_term: int


@frozen
class PreVoteReply:
    """``term`` is the asked one if ``granted``, else the sender's own."""

    term: int
    granted: bool


@frozen
class Vote:
    """Vote for me in ``term``. ``transfer``: the leader itself asked for it, so nobody holds on to that leader."""

    term: int
    last_index: int
    last_term: int
    transfer: bool


@frozen
class VoteReply:
    """The vote of ``term``, or its refusal."""

    term: int
    granted: bool


@frozen
class TimeoutNow:
    """The leader of ``term`` wants the receiver to be elected at once (thesis, section 3.10)."""

    term: int


# -- replication (Raft, section 5.3) -----------------------------------------------------------------------------------


@frozen
class Append:
    """``entries`` follow the entry ``prev_index`` of ``prev_term``; ``commit`` is the leader's commit index. ``round`` comes back in the
    reply: with the replies of a quorum it says that nobody else led when the round began (thesis, section 6.4)."""

    term: int
    prev_index: int
    prev_term: int
    commit: int
    round: int
    entries: tuple[Entry, ...]


@frozen
class AppendReply:
    """``ok``: the log agrees with the leader's up to ``index``, on disk. Otherwise it has no entry ``index`` of the leader's term there:
    ``hint_index`` of ``hint_term`` is the last place where the two may agree."""

    term: int
    round: int
    ok: bool
    index: int
    hint_index: int
    hint_term: int


@frozen
class Heartbeat:
    """The leader is alive; ``commit`` is at most what the receiver is known to have."""

    term: int
    commit: int
    round: int


@frozen
class HeartbeatReply:
    """So is the receiver."""

    term: int
    round: int


# -- reading (thesis, section 6.4) -------------------------------------------------------------------------------------


@frozen
class ReadIndex:
    """From which index on does a state show all that was acknowledged up to now?"""

    term: int
    number: int


@frozen
class ReadIndexReply:
    """From ``index`` on."""

    term: int
    number: int
    index: int


# -- a state, for a follower that needs what the log has no longer (Raft, section 7) ----------------------------------------


@frozen
class Chunk:
    """Number ``number`` of the chunks that make the state at ``index`` (its entry is of ``at_term``). ``chain`` is the SHA-256 of the chain
    before it followed by ``data``; the last one, ``done``, vouches for all."""

    term: int
    index: int
    at_term: int
    number: int
    done: bool
    chain: bytes
    data: bytes


@frozen
class ChunkReply:
    """All chunks of the state at ``index`` before ``number`` are on disk; with ``done`` the state is in place."""

    term: int
    index: int
    number: int
    done: bool


# -- proposals of other nodes than the leader ---------------------------------------------------------------------------


@frozen
class Forward:
    """Proposals of the sender in its ``session`` (one for each of its lives): (number, command) each. All numbers up to ``floor`` are
    settled."""

    session: int
    floor: int
    proposals: tuple[tuple[int, bytes], ...]


RaftMessage: TypeAlias = (
    PreVote
    | PreVoteReply
    | Vote
    | VoteReply
    | TimeoutNow
    | Append
    | AppendReply
    | Heartbeat
    | HeartbeatReply
    | ReadIndex
    | ReadIndexReply
    | Chunk
    | ChunkReply
)
Message: TypeAlias = RaftMessage | Forward

FROM_LEADER = (Append, Heartbeat, Chunk, TimeoutNow)
"""Only the leader of their term sends these."""
