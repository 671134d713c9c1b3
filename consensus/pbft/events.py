"""What the agreement's core asks for, besides writes and signatures, and what clients ask of the machine around it."""

from dataclasses import dataclass

from meshos.consensus.pbft.block import Certified
from meshos.consensus.pbft.messages import Message
from meshos.errors import MeshError
from meshos.ids import NodeId

# -- of the core -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """``message`` goes to each of these nodes; it may be lost."""

    to: tuple[NodeId, ...]
    message: Message


@dataclass(frozen=True, slots=True)
class Decided:
    """A block was committed here; one result for each of its requests."""

    certified: Certified
    results: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Dropped:
    """A request that waited will not be ordered, for this reason."""

    request_hash: bytes
    error: MeshError


@dataclass(frozen=True, slots=True)
class Noticed:
    """Something that an operator should know: what was refused, or why this replica does not vote."""

    error: MeshError


# -- of clients --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Submit:
    """Order this request; gives ``Committed`` once it is. Refused by the application's names, or ``busy``."""

    request: bytes


@dataclass(frozen=True, slots=True)
class Committed:
    """Where a request stands, and what came of it."""

    height: int
    index: int
    result: bytes


@dataclass(frozen=True, slots=True)
class FindRequest:
    """Where the request of this hash stands; gives ``Committed`` or None."""

    request_hash: bytes


@dataclass(frozen=True, slots=True)
class ReadBlock:
    """Gives the ``Certified`` block at ``height``, or None where it is not kept."""

    height: int


@dataclass(frozen=True, slots=True)
class ReadHead:
    """Gives ``Head``."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where this replica stands."""

    height: int
    hash: bytes
    time_ms: int
    state_root: bytes
    """After the newest block."""
    epoch: int
    view: int
    primary: NodeId
    validator: bool
    """Whether this node has a seat in this epoch."""
    behind: int
    """By how many blocks others say that they are ahead."""
    pool: int
    """Requests that wait."""
    silent: str
    """Why this validator does not vote, by name; empty if it does."""


@dataclass(frozen=True, slots=True)
class WallTime:
    """The wall clock shows ``ms`` (milliseconds since 1970, UTC)."""

    ms: int
