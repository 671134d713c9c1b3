"""What is replicated: the protocol that a ledger implements, and all that the agreement knows of it.

The application's state lives in the replica's own Store, under keys that do not begin with ``b"pbft/"``; it reads through a View in
which everything executed so far is visible, and changes only by the writes that ``execute`` returns. All but ``admit`` of a new
request must be a function of that state and the arguments alone: every replica must come to the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from meshos.consensus.pbft.block import Block
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.crypto.signing import Claim
from meshos.effects import Write
from meshos.errors import MeshError
from meshos.storage.store import View

RESERVED = b"pbft/"
"""No key of an application begins like this."""


@dataclass(frozen=True, slots=True)
class Executed:
    """What a block did."""

    root: bytes
    """Of the state after it: ``Header.state_root`` of the next block."""
    writes: tuple[Write, ...]
    results: tuple[bytes, ...]
    """One for each request, in order: what its sender hears."""
    next_validators: ValidatorSet | None = None
    """The set that shall decide from the next checkpoint boundary on, if this block changed that. The last one before the boundary counts;
    its ``epoch`` is set by the agreement: one more than that of the set it replaces."""


@dataclass(frozen=True, slots=True)
class Restored:
    """A part of a state that was laid down: the writes, and where the next one that is still missing begins (None: the state is whole)."""

    writes: tuple[Write, ...]
    next: bytes | None


class Batch(Protocol):
    """What one block may hold, asked request by request in their order."""

    def admit(self, request: bytes) -> MeshError | None:
        """Why ``request`` cannot come next in the block, or None: then it does."""
        ...


class Application(Protocol):
    """A deterministic state machine."""

    def genesis(self) -> Executed:
        """The state at height 0: its root, and the writes that lay it down (no results, no validators)."""
        ...

    def claims(self, request: bytes) -> Sequence[Claim]:
        """What must be verified before ``request`` counts; raises a named refusal for bytes that are no request."""
        ...

    def admit(self, view: View, request: bytes, now_ms: int) -> MeshError | None:
        """Why ``request`` can never be ordered from ``now_ms`` (ledger time) on, or None. Its signature was verified before.

        Cheap: asked when it comes in, and again while it waits. What was executed already must be refused for ever.
        """
        ...

    def batch(self, view: View, now_ms: int) -> Batch:
        """A new block of the time ``now_ms`` after the state in ``view``: a proposal with a request that it does not admit is refused.

        A request that ``admit`` lets wait and a batch does not take (its nonce is too high) stays in the pool.
        """
        ...

    def execute(self, view: View, block: Block) -> Executed:
        """Apply ``block`` to the state before it. A request that turns out to be invalid is a result; what this node must not go on after
        (a state that is corrupt, an upgrade that it lacks) is raised as Failed, and ends its part in the agreement."""
        ...

    def wants_block(self, view: View, now_ms: int) -> bool:
        """Whether something waits for ledger time to pass (an expiry, a dispute window): then idle blocks are made."""
        ...

    def accusation(self, evidence: bytes) -> bytes | None:
        """The request that puts ``evidence`` of a validator's lie (``encode_evidence``) before the application, if it takes any. The same
        evidence gives the same request at every replica, so that it is ordered once."""
        ...

    def chunk(self, view: View, at: bytes) -> bytes:
        """The part of the state that begins at ``at`` (empty: the first), for another replica.

        At most MAX_CHUNK_BYTES, and it proves itself against the root. ``view`` stands still at a checkpoint. Raises a named refusal for
        an ``at`` that is none.
        """
        ...

    def restore(self, view: View, chunk: bytes, root: bytes) -> Restored:
        """Lay ``chunk`` down over whatever is there; raises a named refusal unless ``root`` proves it.

        Where a restore was broken off, or turns to another root, it goes on from the part at ``next``, and begins with the first.
        """
        ...
