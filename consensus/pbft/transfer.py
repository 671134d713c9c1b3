"""Taking a whole state from others: for a node that joins, or that fell behind further than others keep blocks.

It asks for the newest checkpoint and the epochs that lead to it. Each epoch's validators are proven by the ones before, from those that
this node knows (genesis, at worst), and the checkpoint by q signatures of the last: so nothing is believed of whom it comes from. Then
it fetches the parts of the state one by one, each proven by the checkpoint's root; whoever gives a false one is left for another.

From the first part on the state here is neither the old nor the new one. A mark on the disk says so, and as long as it is there this node
neither executes nor votes, and goes on after a restart.

Trust in old keys: an attacker with the keys of a quorum of a past epoch could invent later ones. Who joins after long absence
compares a recent header hash out of band, as everywhere (in CometBFT's words: weak subjectivity).
"""

from collections.abc import Callable

from meshos import cbor
from meshos.consensus.pbft.checkpointing import Checkpointing
from meshos.consensus.pbft.codec import checkpoint_fields, step_fields
from meshos.consensus.pbft.desk import Desk
from meshos.consensus.pbft.limits import MAX_CHUNK_BYTES, MAX_EPOCH_STEPS, MAX_PEERS
from meshos.consensus.pbft.messages import Checkpoint, Checkpoints, ChunkOf, EpochStep, FetchCheckpoint, FetchChunk
from meshos.consensus.pbft.records import RESTORING, epoch_key
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.effects import Delete, Persist, Put, WriteBack
from meshos.errors import MeshError
from meshos.ids import NodeId

TRANSFER = "transfer"


class Transfer:
    """``done`` is called when the state is whole."""

    def __init__(self, desk: Desk, checkpointing: Checkpointing, done: Callable[[], None]) -> None:
        self._desk = desk
        self._checkpointing = checkpointing
        self._done = done
        self._sources: list[NodeId] = []
        self._steps: dict[int, EpochStep] = {}  # epochs learned, not yet begun here
        self._target: Checkpoint | None = None
        self._at = b""
        self._asked: NodeId | None = None
        desk.restoring = desk.store.get(RESTORING) is not None

    @property
    def parts_at(self) -> bytes:
        """Where the part that is being fetched begins."""
        return self._at

    def validators_of(self, epoch: int) -> ValidatorSet | None:
        """Of an epoch that was learned on the way."""
        step = self._steps.get(epoch)
        return None if step is None else step.validators

    # -- asking --------------------------------------------------------------------------------------------------------

    def begin(self, source: NodeId) -> None:
        """Take the state that ``source`` has a checkpoint of."""
        if source in self._sources:
            self._sources.remove(source)
        self._sources.insert(0, source)
        del self._sources[MAX_PEERS:]
        if not self._desk.timers.runs(TRANSFER):
            self.go_on()

    def go_on(self) -> None:
        """Ask for what comes next, each time another who may have it."""
        desk = self._desk
        sources = self._sources or list(desk.others())
        if not sources:
            return
        if self._asked is not None and self._asked in self._sources:  # it has not answered, or with a lie
            self._sources.remove(self._asked)
            self._sources.append(self._asked)
            sources = self._sources
        self._asked = sources[0]
        if self._target is not None:
            desk.send(self._asked, FetchChunk(self._target.header.height, self._at))
        else:
            desk.send(self._asked, FetchCheckpoint(max(self._steps, default=desk.chain.epoch)))
        desk.again(TRANSFER, desk.timing.fetch_ms)

    def timed_out(self) -> None:
        """Nobody has answered in time."""
        desk = self._desk
        if self._target is not None and len(self._sources) < 2:
            self._target = None  # its only holder is gone, or has a newer one
        if desk.restoring or self._target is not None or self._sources:
            if self._asked is not None and self._target is None and not desk.restoring:
                self._sources = [source for source in self._sources if source != self._asked]
                self._asked = None
                if not self._sources:
                    return
            self.go_on()

    def on_checkpoints(self, sender: NodeId, message: Checkpoints) -> None:
        """A checkpoint and the epochs before it, whose signatures hold."""
        desk = self._desk
        if sender != self._asked or self._target is not None:
            return
        self._asked = None
        for step in message.steps:
            if step.validators.epoch > desk.chain.epoch:
                self._steps[step.validators.epoch] = step
        checkpoint = message.checkpoint
        if checkpoint is None:
            if message.steps:
                self.go_on()
            return
        if checkpoint.header.height < desk.chain.height + desk.config.checkpoint_interval and not desk.restoring:
            desk.timers.stop(TRANSFER)
            self._sources.clear()
        elif self._validators_after(checkpoint) is not None:
            self._target, self._at = checkpoint, b""
            desk.restoring = True
            desk.write(Persist((Put(RESTORING, cbor.encode(checkpoint_fields(checkpoint))),)))
            self.go_on()

    def on_chunk(self, sender: NodeId, message: ChunkOf) -> None:
        """A part of the state."""
        desk, target = self._desk, self._target
        if target is None or sender != self._asked or (message.height, message.at) != (target.header.height, self._at):
            return
        try:
            restored = desk.application.restore(desk.store, message.data, target.root)
        except MeshError as error:
            desk.notice(error)
            self.go_on()
            return
        self._asked = None
        if restored.next is not None:
            desk.write(WriteBack(restored.writes))
            self._at = restored.next
            self.go_on()
            return
        validators = self._validators_after(target)
        assert validators is not None
        steps = [Put(epoch_key(epoch), cbor.encode(step_fields(step))) for epoch, step in sorted(self._steps.items())]
        head = desk.chain.restored(target, validators)
        desk.write(Persist((*restored.writes, *steps, *head, Delete(RESTORING))))
        desk.restoring = False
        self._target = None
        self._steps.clear()
        self._sources.clear()
        desk.timers.stop(TRANSFER)
        self._checkpointing.restored(target)
        self._done()

    def _validators_after(self, checkpoint: Checkpoint) -> ValidatorSet | None:
        """Who decides the height after it."""
        known = [self._desk.chain.validators, *(step.validators for step in self._steps.values())]
        return next((validators for validators in known if validators.hash == checkpoint.header.next_validators), None)

    # -- answering -----------------------------------------------------------------------------------------------------

    def on_fetch_checkpoint(self, sender: NodeId, fetch: FetchCheckpoint) -> None:
        """Show the newest stable checkpoint whose state is here."""
        desk, stable = self._desk, self._checkpointing.stable
        if stable is None or self._checkpointing.snapshot_at(stable.header.height) is None:
            return
        steps: list[EpochStep] = []
        for epoch in range(fetch.epoch + 1, fetch.epoch + 1 + MAX_EPOCH_STEPS):
            step = desk.chain.step_into(epoch)
            if step is None or step.header.height > stable.header.height:
                break
            steps.append(step)
        more = len(steps) == MAX_EPOCH_STEPS
        desk.send(sender, Checkpoints(tuple(steps), None if more else stable))

    def on_fetch_chunk(self, sender: NodeId, fetch: FetchChunk) -> None:
        """Send a part of the state of the stable checkpoint."""
        desk = self._desk
        snapshot = self._checkpointing.snapshot_at(fetch.height)
        if snapshot is None:
            return
        data = desk.application.chunk(snapshot, fetch.at)
        assert len(data) <= MAX_CHUNK_BYTES
        if not desk.allowance.take(sender, len(data), desk.now):
            return
        desk.send(sender, ChunkOf(fetch.height, fetch.at, data))
