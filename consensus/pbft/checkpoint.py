"""Checkpoints: every CHECKPOINT_INTERVAL blocks q validators sign what the state is (Castro & Liskov 1999, section 4.3).

A checkpoint proves a state by itself, with no block after it: whoever fell behind or joins takes the state from anybody, part by part,
each part proven by the root that q validators signed. It is also the only place where a new validator set comes into force: a
set that was decided waits (it is ``pending``, and part of what is signed) until the header at a boundary names it as the next.

Below the newest checkpoint nothing is needed any more to agree. Blocks are kept all the same, as long as the node wants to serve them.
"""

import hashlib
from dataclasses import dataclass, field

from meshos import cbor
from meshos.consensus.pbft.block import Header
from meshos.consensus.pbft.limits import CHECKPOINT_INTERVAL, HASH_BYTES
from meshos.consensus.pbft.messages import Signatures, Vote
from meshos.consensus.pbft.validators import ValidatorSet

_TAG = b"meshos/checkpoint/1\0"


def is_boundary(height: int, interval: int = CHECKPOINT_INTERVAL) -> bool:
    """Whether a checkpoint is made after the block at ``height``, and a new validator set decides from the height after it on."""
    return height > 0 and height % interval == 0


def checkpoint_digest(header: Header, root: bytes, pending: ValidatorSet | None) -> bytes:
    """What a checkpoint vote stands for: a block, the state after it, and the validators that wait to come into force."""
    waiting = bytes(HASH_BYTES) if pending is None else pending.hash
    return hashlib.sha256(_TAG + cbor.encode([header.height, header.hash, root, waiting])).digest()


@dataclass(slots=True)
class CheckpointVotes:
    """The votes for the newest two boundaries: of each validator one a boundary."""

    _of: dict[int, dict[int, Vote]] = field(default_factory=dict)

    def add(self, vote: Vote) -> None:
        """Count it, unless its sender has voted for this height before."""
        self._of.setdefault(vote.height, {}).setdefault(vote.index, vote)
        while len(self._of) > 2:
            del self._of[min(self._of)]

    def signatures(self, height: int, digest: bytes) -> Signatures:
        """Those for ``digest``, in the order of the validators."""
        votes = self._of.get(height, {})
        return tuple((index, vote.signature) for index, vote in sorted(votes.items()) if vote.hash == digest)

    def leading(self, height: int) -> bytes | None:
        """The digest that most have voted for."""
        votes = [vote.hash for vote in self._of.get(height, {}).values()]
        return max(set(votes), key=lambda digest: (votes.count(digest), digest), default=None)
