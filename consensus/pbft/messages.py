"""What replicas say to each other, decoded. Each is checked in its form by ``codec.py``, in its signatures before the core sees it.

Votes are signed over the hash of a header in the domain (genesis, "pbft", epoch, view, height, phase). A proposal carries its
primary's own prepare vote, so there is one kind of vote, one kind of certificate and one kind of evidence: the pre-prepare of
Castro & Liskov 1999 (section 4.2) is that vote with the block beside it.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from meshos.consensus.pbft.block import Block, Certificate, Certified, Header
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.values import frozen

Phase: TypeAlias = Literal["prepare", "commit", "checkpoint"]
PHASES: tuple[Phase, ...] = ("prepare", "commit", "checkpoint")

Signatures: TypeAlias = tuple[tuple[int, bytes], ...]
"""(index, signature), in the order of the indices."""


@frozen
class Vote:
    """Validator ``index`` stands for ``hash``: a header's for prepare and commit, a checkpoint's digest for checkpoint."""

    phase: Phase
    epoch: int
    view: int
    height: int
    hash: bytes
    index: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class Proposal:
    """The primary of ``view`` proposes ``block``, which ``signature`` is its prepare vote for."""

    view: int
    block: Block
    index: int
    signature: bytes

    @property
    def vote(self) -> Vote:
        """The primary's."""
        header = self.block.header
        return Vote("prepare", header.epoch, self.view, header.height, header.hash, self.index, self.signature)


@dataclass(frozen=True, slots=True)
class ViewChange:
    """``index`` votes in no view below ``view`` any more, in this epoch, at any height.

    It has committed ``height`` with the header ``hash`` (at height 0 the genesis hash). ``prepared``: for the height after, the highest
    view in which it holds q prepare votes, and for what; ``proof`` are these votes. The signature covers all but ``proof``, which stands
    for itself.
    """

    epoch: int
    view: int
    height: int
    hash: bytes
    prepared: tuple[int, bytes] | None
    proof: Signatures
    index: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class NewView:
    """The primary ``index`` of ``view`` shows q votes for it (without their proofs), and the proof of the prepared block that they make
    it carry over, if they do (``view_change.choose``)."""

    epoch: int
    view: int
    changes: tuple[ViewChange, ...]
    proof: Signatures
    index: int
    signature: bytes

    @property
    def height(self) -> int:
        """The height that the view begins with: above the highest that one of the q has committed."""
        return max(change.height for change in self.changes) + 1


@frozen
class Status:
    """How far its sender is. Proves nothing: it says whom to ask for what."""

    epoch: int
    view: int
    height: int


@frozen
class Fetch:
    """Send certified blocks from ``height`` on; with ``follow``, also each new one for a while."""

    height: int
    follow: bool = False


@dataclass(frozen=True, slots=True)
class Blocks:
    """Certified blocks in a row, as many as fit. Its sender is at ``height``, and has none below ``base``. ``began`` is not sent: whoever
    leaves out what is known or too far ahead notes there the height of the first that came.
    """

    height: int
    base: int
    blocks: tuple[Certified, ...]
    began: int | None = None

    @property
    def first(self) -> int | None:
        """The height of the first block that came; None where none did."""
        return self.blocks[0].block.header.height if self.began is None and self.blocks else self.began


@frozen
class FetchBody:
    """Send the block with this ``hash`` that is being decided at ``height``."""

    height: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Body:
    """A block by itself: whoever wants it knows its hash."""

    block: Block


@dataclass(frozen=True, slots=True)
class Relay:
    """Requests of clients, so that all replicas see to it that they are ordered."""

    requests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two votes of one validator in one domain for different hashes: it has lied, and this proves it."""

    one: Vote
    other: Vote


@frozen
class AskSeen:
    """What have you seen of me? (``witness.py``)"""

    epoch: int


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest vote and vote for a view that its sender, who is in ``epoch``, has seen of the one who asked."""

    epoch: int
    vote: Vote | None
    change: ViewChange | None


@dataclass(frozen=True, slots=True)
class EpochStep:
    """How an epoch follows from the one before: its validators, named by a header that those before have certified."""

    header: Header
    certificate: Certificate
    validators: ValidatorSet


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state that q validators vouch for: after the block ``header``, with this root.

    ``pending`` is a validator set that was decided and is not in force yet, ``validators`` those that decide from the height after on.
    ``signatures`` are checkpoint votes for its digest, ``certificate`` is the block's own.
    """

    header: Header
    certificate: Certificate
    root: bytes
    pending: ValidatorSet | None
    signatures: Signatures


@frozen
class FetchCheckpoint:
    """Send the newest checkpoint, and the epochs after ``epoch`` that lead to it."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Epochs in a row, and the checkpoint if no more epochs lead to it."""

    steps: tuple[EpochStep, ...]
    checkpoint: Checkpoint | None


@frozen
class FetchChunk:
    """Send the part at ``at`` of the state of the checkpoint at ``height``."""

    height: int
    at: bytes


@frozen
class ChunkOf:
    """The part of a state that was asked for; it proves itself against the checkpoint's root."""

    height: int
    at: bytes
    data: bytes


Message: TypeAlias = (
    Vote
    | Proposal
    | ViewChange
    | NewView
    | Status
    | Fetch
    | Blocks
    | FetchBody
    | Body
    | Relay
    | Evidence
    | AskSeen
    | Seen
    | FetchCheckpoint
    | Checkpoints
    | FetchChunk
    | ChunkOf
)
