"""Taking a whole state from others: for a node that joins, or that fell behind further than others keep blocks.

It asks for the newest checkpoint and the epochs that lead to it. Each epoch's validators are proven by the ones before, from those that
this node knows (genesis, at worst), and the checkpoint by q signatures of the last: so nothing is believed of whom it comes from. Then
it fetches the parts of the state one by one, each proven by the checkpoint's root; whoever gives a false one is left for another.

From the first part on the state here is neither the old nor the new one. A mark on the disk says so, and as long as it is there this node
neither executes nor votes, and goes on after a restart. There is no way back then, so whoever was the first to offer a state is not the
only one asked: all validators take turns until the state is whole, and after a round in which nobody gave the next part somebody
else names the state to be taken, none older than the blocks that were here. Of N that are asked, one honest one whose turn it is to name it
is enough.

Before that first part a round that helped nobody is followed by a rest: whoever offers a state within it waits for its end, so that nobody
is asked without end by saying again and again that it has one. After it, where a state had been named and nobody gave it, it is the next
one's turn to name one; else all is forgotten until somebody offers a state.

Trust in old keys: an attacker with the keys of a quorum of a past epoch could invent later ones. Who joins after long absence
compares a recent header hash out of band, as everywhere (in CometBFT's words: weak subjectivity).
"""

from collections.abc import Callable

from meshos import cbor
from meshos.consensus.pbft.checkpointing import Checkpointing
from meshos.consensus.pbft.codec import step_fields
from meshos.consensus.pbft.desk import Desk
from meshos.consensus.pbft.limits import MAX_CHUNK_BYTES, MAX_EPOCH_STEPS, MAX_PEERS
from meshos.consensus.pbft.messages import Checkpoint, Checkpoints, ChunkOf, EpochStep, FetchCheckpoint, FetchChunk
from meshos.consensus.pbft.records import RESTORING, epoch_key
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.effects import Delete, Persist, Put, Write, WriteBack
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
        self._after: ValidatorSet | None = None  # who decides the height after it
        self._at = b""
        self._asked: NodeId | None = None
        self._vain = 0  # questions since the last answer that helped
        desk.restoring = desk.store.get(RESTORING) is not None

    def validators_of(self, epoch: int) -> ValidatorSet | None:
        """Of an epoch that was learned on the way."""
        step = self._steps.get(epoch)
        return None if step is None else step.validators

    # -- asking --------------------------------------------------------------------------------------------------------

    def begin(self, source: NodeId) -> None:
        """Take the state that ``source`` has a checkpoint of."""
        if source not in self._sources and len(self._sources) < MAX_PEERS:
            self._sources.append(source)  # behind those whose turn comes before: nobody pushes in
        if not self._desk.timers.runs(TRANSFER):
            self.ask()

    def ask(self) -> None:
        """Ask for what comes next."""
        desk = self._desk
        if not self._sources:
            self._sources = list(desk.others())
        if not self._sources:
            return
        self._asked = self._sources[0]
        if self._target is not None:
            desk.send(self._asked, FetchChunk(self._target.header.height, self._at))
        else:
            desk.send(self._asked, FetchCheckpoint(self._newest_epoch))
        desk.again(TRANSFER, desk.timing.fetch_ms)

    def in_vain(self) -> None:
        """Whoever was asked has not answered in time, or with a lie: ask another. Where nobody has the state any more, take one that the
        next of them names; where nothing was laid down yet, let it be for a time limit."""
        desk = self._desk
        if desk.restoring:
            self._turn_to_all()
        if self._sources:
            self._sources.append(self._sources.pop(0))
        self._vain += 1
        if self._vain > len(self._sources):  # a round and one more: it is not the turn again of who named this state
            named, self._target, self._vain = self._target is not None, None, 0
            if not desk.restoring:
                if named:
                    self._asked = None  # after the rest it is the next one's turn to name a state
                else:
                    self._give_up()
                desk.again(TRANSFER, desk.timing.fetch_ms)
                return
        self.ask()

    def due(self) -> None:
        """The time is over that a question has, or a rest."""
        if self._asked is not None:
            self.in_vain()
        elif self._sources:
            self.ask()

    def _turn_to_all(self) -> None:
        """Ask all validators that are known, of the newest epoch too, besides those that have offered a state."""
        newest = () if self._after is None else tuple(entry.node for entry in self._after.entries)
        for node in (*self._desk.others(), *newest):
            if node not in self._sources and node != self._desk.config.node:
                self._sources.append(node)

    def awaits(self, sender: NodeId) -> bool:
        """Whether ``sender`` was asked for a checkpoint."""
        return sender == self._asked and self._target is None

    def _give_up(self) -> None:
        self._target = self._asked = None
        self._vain = 0
        self._sources.clear()
        self._desk.timers.stop(TRANSFER)

    @property
    def _newest_epoch(self) -> int:
        """The newest whose validators are known here."""
        return max((self._desk.chain.epoch, *self._steps))

    @property
    def _lowest(self) -> int:
        """The lowest height of a checkpoint that may be taken. Not below the head that was here, even where its state is gone: the votes
        and promises on this disk stand on it, and what was committed is never taken back."""
        desk = self._desk
        return desk.chain.height if desk.restoring else desk.chain.height + 1

    def on_checkpoints(self, sender: NodeId, message: Checkpoints) -> None:
        """A checkpoint and the epochs before it, whose signatures hold. One that helps nothing is as good as none: the next is asked when
        the time for it is over, so that those who have nothing newer are not asked again and again at once."""
        desk, checkpoint = self._desk, message.checkpoint
        if not self.awaits(sender):
            return
        newest = self._newest_epoch
        for step in message.steps:
            if step.validators.epoch > desk.chain.epoch:
                self._steps[step.validators.epoch] = step
        if checkpoint is None:
            if self._newest_epoch > newest:  # known ones are genuine, but a liar could tell them for ever
                self.ask()
        elif checkpoint.header.height < self._lowest:
            if not desk.restoring:
                self.in_vain()
        else:
            self._after = self._validators_after(checkpoint)
            if self._after is not None:
                self._target, self._at, self._vain = checkpoint, b"", 0
                self.ask()

    def on_chunk(self, sender: NodeId, message: ChunkOf) -> None:
        """A part of the state."""
        desk, target = self._desk, self._target
        if target is None or sender != self._asked or (message.height, message.at) != (target.header.height, self._at):
            return
        if target.header.height <= desk.chain.height and not desk.restoring:
            self._give_up()  # blocks have come meanwhile
            return
        try:
            restored = desk.application.restore(desk.store, message.data, target.root)
        except MeshError as error:
            desk.notice(error)
            self.in_vain()
            return
        self._vain = 0
        if restored.next is None:
            self._whole(target, restored.writes)
            return
        if desk.restoring:
            desk.write(WriteBack(restored.writes))
        else:
            desk.restoring = True
            desk.write(Persist((Put(RESTORING, cbor.encode(target.header.height)), *restored.writes)))
        self._at = restored.next
        self.ask()

    def _whole(self, target: Checkpoint, writes: tuple[Write, ...]) -> None:
        """The last part: from here on the state is that of the checkpoint."""
        desk = self._desk
        validators = self._after
        assert validators is not None
        steps = [Put(epoch_key(epoch), cbor.encode(step_fields(step))) for epoch, step in sorted(self._steps.items())]
        head = desk.chain.restored(target, validators)
        desk.write(Persist((*writes, *steps, *head, Delete(RESTORING))))
        desk.restoring = False
        self._steps.clear()
        self._give_up()
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
        if stable is None or not desk.allowance.has_more(sender, desk.now):
            return
        if self._checkpointing.snapshot_at(stable.header.height) is None:
            return
        steps: list[EpochStep] = []
        for epoch in range(fetch.epoch + 1, fetch.epoch + 1 + MAX_EPOCH_STEPS):
            step = desk.chain.step_into(epoch)
            if step is None or step.header.height > stable.header.height:
                break
            steps.append(step)
        desk.allowance.take(sender, 0, desk.now, parts=len(steps))
        more = len(steps) == MAX_EPOCH_STEPS
        desk.send(sender, Checkpoints(tuple(steps), None if more else stable))

    def on_fetch_chunk(self, sender: NodeId, fetch: FetchChunk) -> None:
        """Send a part of the state of the stable checkpoint."""
        desk = self._desk
        if not desk.allowance.has_more(sender, desk.now):
            return
        snapshot = self._checkpointing.snapshot_at(fetch.height)
        if snapshot is None:
            return
        data = desk.application.chunk(snapshot, fetch.at)
        assert len(data) <= MAX_CHUNK_BYTES
        desk.allowance.take(sender, len(data), desk.now)
        desk.send(sender, ChunkOf(fetch.height, fetch.at, data))
