"""Whether this disk is an old copy: asked before the first vote, and watched ever after.

A replica whose disk was put back (a restored backup, a snapshot of a virtual machine) has forgotten votes that it has signed, and could
sign others in their place: two votes of one domain, which is what a liar does. Nothing on the disk itself tells. But votes leave the
node, so the others know.

The rule. At its start a validator asks all others for the newest vote and the newest vote for a view that they have seen of it, and
signs nothing until q - 1 of them have answered. What they show is signed by itself: nobody can invent it. If any of it is newer than
what its own disk says, the disk is an old copy: the validator refuses to vote (``disk-rolled-back``) until an epoch begins that is newer
than all that was shown, or until its seat is handed over, which begins one. In a new epoch all domains are new, so no vote of
it can contradict a forgotten one; a promise binds within its epoch only (``view_change.py``).

Why q - 1. A rolled-back validator V is one of the f that may be faulty, so at most f - 1 of the others lie. Let V have voted at height h
before. Then h - 1 was committed: at least q - 1 others cast commit votes for it. Of the n - 1 others, these and the q - 1 that answer
have at least 2(q - 1) - (n - 1) >= f in common, so an honest one: among those that answer is one who was at h - 1 or beyond.
Hence V learns how far the mesh is, fetches up to there, and meets its own commit votes in the certificates on the way. The vote at h
itself is found if it has reached n - q + 1 honest others, since then one of those that answer has it. A vote that reached fewer had no
part in anything that an answering validator has seen, and can still be missed: if V signs another in its place, V is the faulty one
that the quorums allow for. With q - 1 and not n - 1, a silent liar cannot keep an honest validator from coming back.

Answers are about an epoch: who says that it is in a later one is not counted; V catches up and asks the validators of that epoch.
Each epoch that V enters by fetched blocks rather than by its own votes is asked about again.

An honest disk never fails this: a vote is on disk before it is signed, so nothing that others have seen can be newer.
"""

from dataclasses import dataclass, field

from meshos.consensus.pbft.messages import ViewChange, Vote
from meshos.consensus.pbft.records import ViewRecord, Voted
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.errors import Refused
from meshos.ids import NodeId


@dataclass(slots=True)
class Witness:
    """What the others have answered for ``epoch``. ``cleared``: enough of them."""

    epoch: int
    needed: int
    cleared: bool = False
    answered: set[int] = field(default_factory=set)

    @classmethod
    def asking(cls, validators: ValidatorSet, me: int | None) -> "Witness":
        """Begin to ask the validators of an epoch. Who has no seat has no vote in its own quorum: q answers."""
        needed = validators.q - (me is not None)
        return cls(validators.epoch, needed, cleared=needed == 0)

    def answer(self, index: int, epoch: int) -> None:
        """Validator ``index``, who is in ``epoch``, has shown nothing newer than what the disk says."""
        if epoch <= self.epoch:
            self.answered.add(index)
            self.cleared |= len(self.answered) >= self.needed


def newer(seen: Vote, voted: Voted) -> bool:
    """Whether the disk does not know of this vote of its own validator."""
    phase = 2 if seen.phase == "commit" else 1
    if (seen.epoch, seen.height, seen.view) == voted.order[:3]:
        return seen.hash != (voted.committed if phase == 2 else voted.prepared)
    return (seen.epoch, seen.height, seen.view, phase) > voted.order


def newer_change(seen: ViewChange, view: ViewRecord) -> bool:
    """The same of a vote for a view."""
    return (seen.epoch, seen.view) > (view.epoch, view.promised)


def rolled_back(epoch: int) -> Refused:
    """What a validator says instead of voting."""
    return Refused(
        "disk-rolled-back",
        f"others have seen votes of this validator, up to epoch {epoch}, that its disk does not know of: it was put back to an old copy",
        hint="hand the seat over to another node, or wait for the next change of validators",
    )


class SeenVotes:
    """The newest vote of each validator that was seen here, for those who ask."""

    def __init__(self) -> None:
        self._newest: dict[NodeId, Vote] = {}

    def add(self, node: NodeId, vote: Vote) -> None:
        """Keep it, if it is newer."""
        known = self._newest.get(node)
        if vote.phase != "checkpoint" and (known is None or _order(known) < _order(vote)):
            self._newest[node] = vote

    def of(self, node: NodeId) -> Vote | None:
        """Of one validator."""
        return self._newest.get(node)

    def all(self, epoch: int) -> list[Vote]:
        """Those of this epoch and the one before."""
        self._newest = {node: vote for node, vote in self._newest.items() if vote.epoch >= epoch - 1}
        return [vote for _, vote in sorted(self._newest.items())]


def _order(vote: Vote) -> tuple[int, int, int, bool]:
    return vote.epoch, vote.height, vote.view, vote.phase == "commit"
