"""The heights above the committed one: their votes and proposals, within the watermarks.

What is more than a few heights or views ahead is not kept: it comes again, with the blocks or the proof that make it the present. So
the memory that all others together can fill here is bounded by the number of seats.
"""

from meshos.consensus.pbft.desk import Desk
from meshos.consensus.pbft.limits import HEIGHTS_AHEAD, VIEWS_AHEAD
from meshos.consensus.pbft.voting import Slot
from meshos.errors import Refused


class Slots:
    """By height, the newest committed one included: late votes for it may still contradict others."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._slots: dict[int, Slot] = {}

    def current(self) -> Slot:
        """Of the height in flight."""
        height = self._desk.chain.height + 1
        slot = self._slots.get(height)
        if slot is None:
            slot = self._slots[height] = Slot(height, self._desk.chain.validators)
        return slot

    def known(self, height: int) -> Slot | None:
        """Of ``height``, if anything of it is kept."""
        return self._slots.get(height)

    def at(self, height: int, view: int, epoch: int) -> Slot:
        """Of what was said for ``height`` in ``view``; raises Refused ``too-far-ahead`` or ``wrong-epoch`` unless it may be kept."""
        chain = self._desk.chain
        if height in self._slots and self._slots[height].validators.epoch == epoch:
            slot = self._slots[height]
        else:
            if not 0 < height - chain.height <= 1 + HEIGHTS_AHEAD:
                raise Refused("too-far-ahead", f"height {height}, and {chain.height + 1} is being decided")
            validators = chain.validators_at(height)
            if validators is None or validators.epoch != epoch:
                raise Refused("wrong-epoch", f"epoch {epoch} does not decide height {height}")
            slot = self._slots[height] = Slot(height, validators)
        record = self._desk.ballot.record
        now_in = record.view if epoch == record.epoch else 0
        if view > now_in + VIEWS_AHEAD:
            raise Refused("too-far-ahead", f"view {view}, and this is view {now_in}")
        return slot

    def committed(self) -> None:
        """A height was committed: let go of what is below it."""
        height = self._desk.chain.height
        for old in [old for old in self._slots if old < height]:
            del self._slots[old]
        following = self._slots.get(height + 1)
        if following is not None and following.validators.epoch != self._desk.chain.epoch:
            del self._slots[height + 1]  # it was kept for other validators than have come into force
