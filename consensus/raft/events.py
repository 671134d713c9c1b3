"""What a Replica is asked, what it tells, and what it hears beside messages."""

from dataclasses import dataclass

from meshos.consensus.raft.membership import Change, Configuration
from meshos.consensus.raft.raft import Saved
from meshos.ids import NodeId
from meshos.values import frozen

# -- asked, as ``Perform(op, Propose(…))``; answered with ``Completed`` -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChangeMembers:
    """Gives the new Configuration once it is in force and committed; asked of the leader, else Refused ``not-leader``."""

    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class TransferLeadership:
    """Gives None once ``to`` leads or at least this node does no more; asked of the leader, else Refused ``not-leader``."""

    to: NodeId


@dataclass(frozen=True, slots=True)
class Stale:
    """Answers ``question`` from this node's own state at once, without asking whether it is the newest."""

    question: object


@dataclass(frozen=True, slots=True)
class GetGroup:
    """Gives this node's ``Group`` at once."""


@dataclass(frozen=True, slots=True)
class Group:
    """The group as one node sees it."""

    group: str
    term: int
    leader: NodeId | None
    leads: bool
    members: Configuration
    commit: int
    applied: int
    first: int
    last: int
    lags: dict[NodeId, int]
    """How many entries each other member lacks, where this node leads."""


# -- told to the subscribers ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Led:
    """This node leads ``group`` in ``term`` and knows all that was decided before. What it causes from now on carries (group, term), and
    whoever executes it refuses a lower term."""

    group: str
    term: int


@dataclass(frozen=True, slots=True)
class Followed:
    """This node does not lead ``group``; ``leader`` does in ``term``, or nobody that it knows of."""

    group: str
    term: int
    leader: NodeId | None


@dataclass(frozen=True, slots=True)
class Fence:
    """In whose name a leader acts."""

    group: str
    term: int


# -- heard -----------------------------------------------------------------------------------------------------------


@frozen
class Stored:
    """What was persisted is on disk. The Replica tells it to itself."""

    saved: Saved


@frozen
class Settle:
    """Everything that came together has been looked at: send what was gathered. The Replica tells it to itself."""


@dataclass(frozen=True, slots=True)
class Unlinked:
    """The link to ``node`` broke. A hint: elections are faster with it, and correct without."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class WallTime:
    """The wall clock shows ``ms`` (milliseconds since 1970, UTC)."""

    ms: int
