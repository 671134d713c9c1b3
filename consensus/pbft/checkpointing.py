"""Making checkpoints: votes for the state at a boundary, and what q of them allow.

The validators that decided a boundary's block vouch for the state after it. With q votes the checkpoint is stable: it is kept, its
state is held still for whoever needs it, and older blocks may go. A replica whose own state is another than q validators have signed has
diverged, by a bug or a broken disk, and does nothing any more.
"""

from dataclasses import dataclass

from meshos import cbor
from meshos.consensus.pbft.block import Certified
from meshos.consensus.pbft.checkpoint import CheckpointVotes, checkpoint_digest, is_boundary
from meshos.consensus.pbft.codec import checkpoint_fields, checkpoint_of
from meshos.consensus.pbft.desk import Desk
from meshos.consensus.pbft.limits import HEIGHTS_AHEAD
from meshos.consensus.pbft.messages import Checkpoint, Vote
from meshos.consensus.pbft.records import CHECKPOINT, read
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.effects import Put, WriteBack
from meshos.errors import Broken
from meshos.storage.store import Snapshot

LENT_S = 30.0
"""A state that somebody takes is held still for so long after each part."""
SNAPSHOTS = 4
"""States held still at a time: each keeps old data on disk."""


@dataclass(slots=True)
class _Made:
    """The own state at a boundary; ``lent_until``: somebody is taking it."""

    checkpoint: Checkpoint
    validators: ValidatorSet
    digest: bytes
    snapshot: Snapshot
    vote: Vote | None = None
    lent_until: float = 0.0


class Checkpointing:
    """The newest boundaries."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._votes = CheckpointVotes()
        self._made: dict[int, _Made] = {}
        data = desk.store.get(CHECKPOINT)
        self.stable: Checkpoint | None = None if data is None else checkpoint_of(read(data))

    def committed(self, certified: Certified, validators: ValidatorSet) -> None:
        """A block was committed, decided by ``validators``: vouch for the state after it, if it is a boundary."""
        desk, header = self._desk, certified.block.header
        if not is_boundary(header.height, desk.config.checkpoint_interval):
            return
        chain = desk.chain
        digest = checkpoint_digest(header, chain.root, chain.pending)
        checkpoint = Checkpoint(header, certified.certificate, chain.root, chain.pending, ())
        snapshot = desk.store.snapshot()
        self._made[header.height] = _Made(checkpoint, validators, digest, snapshot)
        while len(self._made) > SNAPSHOTS:
            self._made.pop(min(self._made)).snapshot.close()
        index = desk.seat(validators)
        if index is not None and not validators.entries[index].suspended:  # the same whoever says it: it needs no leave to vote
            desk.ballot.vouch(validators.epoch, header.height, digest, index)
        self._settle(header.height)

    def signed(self, vote: Vote) -> None:
        """The own vote is signed."""
        made = self._made.get(vote.height)
        if made is not None:
            made.vote = vote
            self._desk.broadcast(vote)
            self.on_vote(vote)

    def on_vote(self, vote: Vote) -> None:
        """A validator vouches for a state; kept for boundaries about here."""
        chain, interval = self._desk.chain, self._desk.config.checkpoint_interval
        if is_boundary(vote.height, interval) and chain.height - interval < vote.height <= chain.height + 1 + HEIGHTS_AHEAD:
            self._votes.add(vote)
            self._settle(vote.height)

    def say_again(self) -> None:
        """The own vote for a boundary that is not stable yet, for those who have not heard it."""
        for height, made in self._made.items():
            if made.vote is not None and (self.stable is None or self.stable.header.height < height):
                self._desk.broadcast(made.vote)

    def snapshot_at(self, height: int) -> Snapshot | None:
        """The state at a boundary that is stable, or below one, standing still; it is kept for a while from now on."""
        made = self._made.get(height)
        if made is None or self.stable is None or height > self.stable.header.height:
            return None
        made.lent_until = self._desk.now + LENT_S
        return made.snapshot

    def restored(self, checkpoint: Checkpoint) -> None:
        """The state of a checkpoint was taken from others."""
        self._keep(checkpoint)

    def _settle(self, height: int) -> None:
        """See whether q votes stand for the own state, or for another."""
        made = self._made.get(height)
        if made is None or (self.stable is not None and self.stable.header.height >= height):
            return
        q = made.validators.q
        leading = self._votes.leading(height)
        if leading is None or len(self._votes.signatures(height, leading)) < q:
            return
        if leading != made.digest:
            raise Broken("state-diverged", f"q validators have signed another state at height {height} than is here")
        signatures = self._votes.signatures(height, leading)[:q]
        checkpoint = made.checkpoint
        self._keep(Checkpoint(checkpoint.header, checkpoint.certificate, checkpoint.root, checkpoint.pending, signatures))

    def _keep(self, checkpoint: Checkpoint) -> None:
        desk = self._desk
        self.stable = checkpoint
        height = checkpoint.header.height
        for older in [older for older, made in self._made.items() if older < height and made.lent_until < desk.now]:
            self._made.pop(older).snapshot.close()
        desk.write(WriteBack((Put(CHECKPOINT, cbor.encode(checkpoint_fields(checkpoint))),)))
        if desk.config.keep_blocks is not None:
            desk.timers.begin("prune", desk.now)

    def prune(self) -> None:
        """Let go of blocks that nobody is promised, a few at a time."""
        desk = self._desk
        if self.stable is None or desk.config.keep_blocks is None:
            return
        writes = desk.chain.prune(self.stable.header.height + 1 - desk.config.keep_blocks)
        if writes:
            desk.write(WriteBack(writes))
            desk.again("prune", 10)
