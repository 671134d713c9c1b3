"""When a view is left, and how the next one begins. Why that is safe stands in ``view_change.py``.

Liveness (Castro & Liskov 1999, section 4.5.2). A replica waits for ``patience``: from when something waits to be decided, or from the last
progress. Then it promises the next view. Once q validators ask for a view it waits for its proof, twice as long each time after the
first few; with fewer it waits without end, so that a part that is cut off does not run ahead. f + 1 that ask for later views take it
along, as one of them is honest. Nobody follows fewer, who may all lie: who has left a view alone votes no more, and is met in the next one
as soon as another is missed while something waits, after one patience.

So nobody honest asks for a view that is more than one beyond what another honest one has voted in or asked for. That matters: while f are
away, all the others are needed in the very same view, and whoever had run ahead could be met only view by view.
"""

from collections.abc import Callable

from meshos.consensus.pbft.desk import Desk
from meshos.consensus.pbft.limits import MAX_PEERS
from meshos.consensus.pbft.messages import NewView, Status, ViewChange
from meshos.consensus.pbft.view_change import Changes, Choice, choose, new_view
from meshos.errors import Refused
from meshos.ids import NodeId

PATIENCE = "patience"
IMPATIENCE = "impatience"


class Views:
    """The view of this replica and its way to the next; ``progress`` is called when votes have become possible."""

    def __init__(self, desk: Desk, progress: Callable[[], None], behind: Callable[[NodeId, int], None]) -> None:
        self._desk = desk
        self._progress = progress
        self._behind = behind
        self._changes = Changes()
        self._proof: NewView | None = None  # of the view this replica is in
        self._held: tuple[NodeId, NewView] | None = None  # waits for blocks that it rests on
        self._assembled = -1  # the view that this replica is proving
        self._in_a_row = 0  # views left since a block was decided
        self._answered: dict[NodeId, float] = {}

    # -- what is known -------------------------------------------------------------------------------------------------

    @property
    def choice(self) -> Choice:
        """What the present view began with."""
        return self._desk.ballot.record.choice

    @property
    def leaving(self) -> bool:
        """Whether the present view is left and the next not reached."""
        record = self._desk.ballot.record
        return record.promised > record.view

    def newest_change(self, index: int) -> ViewChange | None:
        """Of a validator, in this epoch."""
        return self._changes.of(index)

    def claimants(self, block: bytes) -> list[int]:
        """Who has said that it holds ``block`` prepared."""
        if self._proof is None:
            return []
        return [change.index for change in self._proof.changes if change.prepared is not None and change.prepared[1] == block]

    # -- patience ------------------------------------------------------------------------------------------------------

    def patience_ms(self) -> int:
        """How long to wait: flat at first, then twice as long each time, bounded."""
        timing = self._desk.timing
        doublings = min(max(0, self._in_a_row - timing.flat), 20)
        return min(timing.patience_ms << doublings, timing.max_patience_ms)

    def watch(self, waiting: bool) -> None:
        """Something waits to be decided, or nothing does."""
        timers = self._desk.timers
        if not waiting or self.leaving or self._desk.index is None:
            timers.stop(PATIENCE)
        else:
            timers.begin(PATIENCE, self._desk.after(self.patience_ms()))

    def progressed(self) -> None:
        """A proposal was accepted: wait anew."""
        self._desk.timers.stop(PATIENCE)

    def committed(self) -> None:
        """A block was decided: this view works, or the mesh is elsewhere."""
        self._in_a_row = 0
        self._desk.timers.stop(PATIENCE)
        if not self.leaving:
            self._desk.timers.stop(IMPATIENCE)
        if self._held is not None:
            sender, message = self._held
            self._held = None
            self.on_new_view(sender, message)

    def begin_epoch(self) -> None:
        """Other validators decide: views begin anew."""
        self._changes = Changes()
        self._proof = self._held = None
        self._assembled = -1
        self._in_a_row = 0
        for name in (PATIENCE, IMPATIENCE):
            self._desk.timers.stop(name)

    # -- leaving -------------------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Patience is at its end."""
        record = self._desk.ballot.record
        self._leave_for(max(record.view, record.promised) + 1)

    def _leave_for(self, view: int) -> None:
        if not self._desk.speaks:
            return
        self._in_a_row += 1
        self._desk.timers.stop(PATIENCE)
        self._desk.timers.stop(IMPATIENCE)
        self._promise(view)

    def _promise(self, view: int) -> None:
        chain = self._desk.chain
        self._desk.ballot.promise(view, chain.height, chain.head)

    def resume(self) -> None:
        """This validator may speak again, as after a restart: what it had promised holds, and whom it would have joined it joins now."""
        record, weak = self._desk.ballot.record, self._desk.chain.validators.weak
        if not self._desk.speaks:
            return
        joined = self._changes.joined(record.promised, weak)
        if joined is not None:
            self._leave_for(joined)
        elif self.leaving:
            self._promise(record.promised)

    def promised(self, change: ViewChange) -> None:
        """The own promise is signed."""
        if change.view == self._desk.ballot.record.promised and self.leaving:
            self._desk.broadcast(change)
            self._count(change)

    def say_again(self) -> None:
        """The own promise, for those who have not heard it; anew, where more is committed by now."""
        desk = self._desk
        promised = desk.ballot.record.promised
        if not self.leaving or not desk.speaks or desk.index is None:
            return
        change = self._changes.of(desk.index)
        if change is None or change.view != promised:
            return  # it is being signed
        if change.height < desk.chain.height:
            self._promise(promised)
        else:
            desk.broadcast(change)

    def on_change(self, sender: NodeId, change: ViewChange) -> None:
        """A validator's promise."""
        desk = self._desk
        record = desk.ballot.record
        if change.epoch != desk.chain.epoch:
            return
        if change.view <= record.view:
            return
        if change.height > desk.chain.height:
            self._behind(sender, change.height)
        elif change.height < desk.chain.height:
            self._tell_status(sender)
        self._count(change)

    def _count(self, change: ViewChange) -> None:
        desk = self._desk
        if not self._changes.add(change):
            return
        record = desk.ballot.record
        joined = self._changes.joined(record.promised, desk.chain.validators.weak)
        if joined is not None:
            self._leave_for(joined)
        if self.leaving:
            if self._changes.count_from(record.promised) >= desk.chain.validators.q:
                desk.timers.begin(IMPATIENCE, desk.after(self.patience_ms()))
            self._assemble()

    def stalled(self, late_s: float) -> bool:
        """Whether this replica itself was away when its patience ended (paused, starved): then the others are not to blame, and it waits
        anew."""
        return late_s * 4000 > self.patience_ms()

    def impatient(self) -> None:
        """q validators ask for a view, and its primary does not prove it."""
        if self.leaving:
            self.leave()

    # -- the proof -----------------------------------------------------------------------------------------------------

    def _assemble(self) -> None:
        """Prove the promised view, as its primary, once q promises can be stood for."""
        desk, chain = self._desk, self._desk.chain
        view, validators = desk.ballot.record.promised, chain.validators
        if not desk.speaks or self._assembled >= view or validators.primary(view) != desk.index:
            return
        usable = self._changes.usable(view, chain.height, {chain.height: chain.head})
        if len(usable) >= validators.q and any(change.index == desk.index for change in usable):
            self._assembled = view
            assert desk.index is not None
            desk.ballot.show(new_view(chain.epoch, view, desk.index, usable))

    def shown(self, message: NewView) -> None:
        """The proof is signed."""
        record = self._desk.ballot.record
        if message.epoch == record.epoch and message.view == record.promised > record.view:
            self._desk.broadcast(message)
            self._enter(message)

    def on_new_view(self, sender: NodeId, message: NewView) -> None:
        """The proof of a view, whose signatures hold."""
        desk = self._desk
        chain, record = desk.chain, desk.ballot.record
        committed = message.height - 1
        if message.epoch != chain.epoch:
            return
        if message.view > record.view and message.view >= record.promised:
            if committed > chain.height:
                if self._held is None or self._held[1].view <= message.view:
                    self._held = (sender, message)
                self._behind(sender, committed)
            elif self._contradicts(message):
                desk.notice(Refused("forged-new-view", f"the proof of view {message.view} rests on another chain than was decided"))
            else:
                self._enter(message)

    def _contradicts(self, message: NewView) -> bool:
        known = self._desk.chain.hash_at(message.height - 1)
        return known is not None and any(c.height == message.height - 1 and c.hash != known for c in message.changes)

    def _enter(self, message: NewView) -> None:
        desk = self._desk
        self._proof = message
        desk.ballot.enter(message.view, choose(message.changes))
        desk.timers.stop(IMPATIENCE)
        desk.timers.set(PATIENCE, desk.after(self.patience_ms()))
        self._progress()

    def followed(self) -> None:
        """The view was entered by a certificate, without its proof."""
        self._proof = None
        if not self.leaving:
            self._desk.timers.stop(IMPATIENCE)

    # -- those who are late --------------------------------------------------------------------------------------------

    def answer_late(self, sender: NodeId) -> None:
        """Somebody asks for a view that has begun: show it, or how far the mesh is."""
        desk = self._desk
        if not self._may_answer(sender):
            return
        if self._proof is not None:
            desk.send(sender, self._proof)
        self._tell_status(sender)

    def _tell_status(self, sender: NodeId) -> None:
        desk = self._desk
        desk.send(sender, Status(desk.chain.epoch, desk.ballot.record.view, desk.chain.height))

    def _may_answer(self, sender: NodeId) -> bool:
        last = self._answered.get(sender)
        if last is not None and self._desk.now - last < self._desk.timing.resend_ms / 2000:
            return False
        if len(self._answered) >= MAX_PEERS:
            self._answered.clear()
        self._answered[sender] = self._desk.now
        return True
