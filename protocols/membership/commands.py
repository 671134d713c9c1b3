"""What Flows ask of the machine: ``await Propose(command, to="membership")``. Each says what it gives back."""

from dataclasses import dataclass

from meshos.ids import NodeId, OrgDid
from meshos.protocols.membership.statements import Statement


@dataclass(frozen=True, slots=True)
class Certified:
    """A certificate (DER) that was checked, and whom it names."""

    node: NodeId
    org: OrgDid
    certificate: bytes


@dataclass(frozen=True, slots=True)
class ReadStates:
    """Gives the digests (8 bytes each, joined) of all statements that this node holds: ``bytes``."""


@dataclass(frozen=True, slots=True)
class Compare:
    """Against the joined digests of a peer; gives ``Difference``."""

    have: bytes


@dataclass(frozen=True, slots=True)
class Difference:
    """``give``: statements that the peer lacks, one page of them (``more``: there are others). ``want``: digests that this node lacks."""

    give: tuple[bytes, ...]
    want: bytes
    more: bool


@dataclass(frozen=True, slots=True)
class Supply:
    """Gives those statements that this node (still) holds under the joined digests ``want``, one page: ``tuple[bytes, ...]``."""

    want: bytes


@dataclass(frozen=True, slots=True)
class ReadCertificates:
    """Gives the certificates that this node holds of ``nodes``, one page: ``tuple[bytes, ...]``."""

    nodes: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class FindStrangers:
    """Gives those of ``nodes`` whose certificate this node has not checked yet: ``tuple[NodeId, ...]``."""

    nodes: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class Merge:
    """Take over statements whose signatures hold, and certificates that were checked; gives how many were news: ``int``."""

    statements: tuple[Statement, ...]
    certificates: tuple[Certified, ...] = ()
    sender: NodeId | None = None


Command = ReadStates | Compare | Supply | ReadCertificates | FindStrangers | Merge
