"""From one view to the next: what a new view must carry over, and why that is safe.

A replica that loses patience promises to vote in no view below w any more, at any height of this epoch, and says what it has: its committed
height H, and for H + 1 the highest view in which it holds q prepare votes. The primary of w shows q such promises (NEW-VIEW), and everybody
recomputes what follows from them (Castro & Liskov 1999, section 4.4):

    the view begins with the height after the highest H;
    if one of those who have that H holds a prepared block for it, the one of the highest view must be proposed again, as it is;
    else the primary proposes freely, or a null block (time of the parent + 1 ms), which needs no clock.

Why nothing that was decided is lost. Let a block be committed at height h of epoch e in a view u < w: q of e's validators hold q prepare
votes for it. An honest one of them, i, is among the q of the NEW-VIEW, since two quorums share one. i cast its commit vote before
its promise (else it broke it) and so, when it promised, had committed h - 1 and held that block prepared, or had committed h. So
the highest H is at least h - 1. Is it h - 1, then i's claim for h counts, and a claim of a higher view u' with u < u' < w can only be
for the same block: q prepare votes in u' need an honest one who prepared in u as well, and by induction over the views between
every NEW-VIEW has carried the block over. Is it h or more, then h is decided by a certificate that everybody can fetch.

Why one claim is enough for all heights. A replica votes only at the height after its committed one, so the votes that the q have
ever cast below w are at heights of at most their H + 1. No quorum can exist below w at any height above the highest H + 1: there
view w starts afresh. This uses that all q are of one validator set. Hence **views are counted within an epoch**: each set of
validators begins with view 0 at its first height, and a promise binds within its epoch. A NEW-VIEW of an old epoch says nothing in a
new one, and a validator that has not seen the boundary fetches its block first. Were views to run on across a boundary, a quorum
of the old set could move the new set to a view in which something else is proposed than what the new set has prepared meanwhile:
their quorums need not meet.

A replica that learns of view w from a certificate (a block committed in w) enters it without the NEW-VIEW: q validators voted in w, so
an honest one has seen its proof; the height after that block is above all that was carried over, and starts afresh by the argument
above.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from meshos import cbor
from meshos.consensus.pbft.block import PROTOCOL
from meshos.consensus.pbft.messages import NewView, Signatures, ViewChange
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.crypto.signing import Domain
from meshos.errors import Refused

_CHANGE_TAG = b"meshos/view-change/1\0"
_NEW_VIEW_TAG = b"meshos/new-view/1\0"


@dataclass(frozen=True, slots=True)
class Choice:
    """What a view begins with: ``height``, and the hash of the block that must be proposed for it, prepared in ``view`` (None: any)."""

    height: int
    hash: bytes | None = None
    view: int = 0


def choose(changes: Iterable[ViewChange]) -> Choice:
    """What follows from these promises; the same for everybody."""
    votes = list(changes)
    highest = max(change.height for change in votes)
    prepared = [change.prepared for change in votes if change.height == highest and change.prepared is not None]
    if not prepared:
        return Choice(highest + 1)
    view, block = max(prepared)  # of one view there is one block: q prepare votes for each of two would share an honest voter
    return Choice(highest + 1, block, view)


def change_domain(genesis_hash: bytes, change: ViewChange) -> Domain:
    """What the signature of a vote for a view is for."""
    return Domain(genesis_hash, PROTOCOL, change.epoch, change.view, change.height, "view-change")


def change_payload(change: ViewChange) -> bytes:
    """What it covers besides."""
    return hashlib.sha256(_CHANGE_TAG + cbor.encode([change.hash, change.prepared])).digest()


def new_view_domain(genesis_hash: bytes, message: NewView) -> Domain:
    """What the signature of a new view is for."""
    return Domain(genesis_hash, PROTOCOL, message.epoch, message.view, message.height, "new-view")


def new_view_payload(message: NewView) -> bytes:
    """What it covers: the promises that it rests on."""
    rows = [[change.height, change.hash, change.prepared, change.index, change.signature] for change in message.changes]
    return hashlib.sha256(_NEW_VIEW_TAG + cbor.encode(rows)).digest()


def check_form(message: NewView, validators: ValidatorSet) -> Choice:
    """What ``message`` must lead to, if its signatures hold; raises Refused ``not-primary``, ``no-quorum`` or ``forged-new-view``."""
    if message.index != validators.primary(message.view):
        raise Refused("not-primary", f"validator {message.index} is not the primary of view {message.view}")
    if len(message.changes) < validators.q:
        raise Refused("no-quorum", f"a new view on {len(message.changes)} votes, {validators.q} are a quorum")
    if any((change.epoch, change.view) != (message.epoch, message.view) for change in message.changes):
        raise Refused("forged-new-view", "a vote for another view or epoch stands in this new view")
    return choose(message.changes)


class Changes:
    """The promises of one epoch's validators: of each the newest."""

    def __init__(self) -> None:
        self._of: dict[int, ViewChange] = {}

    def add(self, change: ViewChange) -> bool:
        """Keep it, if it says more than what its sender said before."""
        known = self._of.get(change.index)
        if known is not None and (known.view, known.height) >= (change.view, change.height):
            return False
        self._of[change.index] = change
        return True

    def of(self, index: int) -> ViewChange | None:
        """The newest of a validator."""
        return self._of.get(index)

    def supporting(self, view: int) -> list[ViewChange]:
        """Those for exactly ``view``, in the order of the validators."""
        return [change for _, change in sorted(self._of.items()) if change.view == view]

    def count_from(self, view: int) -> int:
        """How many ask for ``view`` or a later one."""
        return sum(change.view >= view for change in self._of.values())

    def joined(self, view: int, weak: int) -> int | None:
        """The view to move to because f + 1 others have left ``view``: the smallest of the views that they ask for (Castro & Liskov
        1999, section 4.5.2). One of them is honest, so there is a cause."""
        above = sorted(change.view for change in self._of.values() if change.view > view)
        return above[0] if len(above) >= weak else None

    def usable(self, view: int, height: int, hash_at: dict[int, bytes]) -> list[ViewChange]:
        """Those for ``view`` that one who has committed ``height`` can stand for: not ahead of it, and of the same chain where
        ``hash_at`` knows it."""
        found = [change for change in self.supporting(view) if change.height <= height]
        return [change for change in found if hash_at.get(change.height, change.hash) == change.hash]


def new_view(epoch: int, view: int, index: int, changes: Sequence[ViewChange]) -> NewView:
    """The proof of ``view``, not signed yet, with the proof of what it carries over."""
    choice = choose(changes)
    proof: Signatures = ()
    for change in changes:
        if choice.hash is not None and change.height == choice.height - 1 and change.prepared == (choice.view, choice.hash):
            proof = change.proof
            break
    return NewView(epoch, view, tuple(replace(change, proof=()) for change in changes), proof, index, b"")
