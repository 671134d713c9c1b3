"""What the Flows of the directory work with; the composition root fills it in, in a node and in the simulator alike."""

from collections import Counter
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from typing import TypeAlias

from meshos.errors import Refused
from meshos.ids import AgentId, NodeId, OrgDid
from meshos.protocols.directory import limits
from meshos.protocols.directory.cells.codebook import Codebook
from meshos.protocols.directory.cells.layout import Layout, whole
from meshos.protocols.directory.cells.routing import Chart
from meshos.protocols.directory.cells.summary import Summary
from meshos.protocols.directory.checking import Checker
from meshos.protocols.directory.shelf import Shelf
from meshos.protocols.directory.suspects import Suspects
from meshos.protocols.ledger.quarantine import Barred, nobody


@dataclass(frozen=True, slots=True)
class Measured:
    """What the mesh has measured of an agent. None: nothing yet. ``uptime`` is 0..1, ``avg_latency_ms`` in milliseconds."""

    trust_score: float = 50.0
    trust_evidence: int = 0
    uptime: float | None = None
    avg_latency_ms: float | None = None


Measures: TypeAlias = Callable[[AgentId], Measured]
"""Called in worker threads too: it reads, and changes nothing."""


def unmeasured(agent: AgentId) -> Measured:
    """The measures of a mesh that has measured nothing."""
    return Measured()


@dataclass(frozen=True, slots=True)
class Agreed:
    """What the ledger says of codebooks: whether the mesh wants cells; version and hash of the one in force (0: none); hashes ``endorsed``
    for the next. ``speaks``: this node endorses for its organisation; ``trains``: it is its turn to bring one.
    ``restoring``: nothing can be known now.
    """

    in_cells: bool = False
    version: int = 0
    name: bytes = b""
    endorsed: tuple[bytes, ...] = ()
    speaks: bool = False
    trains: bool = False
    restoring: bool = False

    def names(self) -> tuple[bytes, ...]:
        """Of the codebooks that a node wants to have."""
        return tuple(dict.fromkeys((*((self.name,) if self.version else ()), *self.endorsed)))


def nobody_else() -> Set[NodeId]:
    """Of a mesh of one node."""
    return frozenset()


def never() -> bool:
    """Of a node whose ledger is never behind the others'."""
    return False


def unmeasured_way(node: NodeId) -> float | None:
    """Of a node that measures no ways."""
    return None


def nobody_accused() -> Sequence[NodeId]:
    """Of a node without a ledger."""
    return ()


@dataclass(slots=True)
class Charted:
    """What a node has heard of cells: by cell and holder the newest summary with its name, and the chart drawn of them; ``own`` has its
    own, encoded, with the digest of what they were made of. ``news``: cells in which others say that there is something new, with the
    holders that are yet to be asked what. The chart is of the first ``drawn`` of all ``changes``; ``drawing`` and ``making`` say that
    somebody is about it, or about these own summaries."""

    layout: bytes = b""
    told: dict[int, dict[NodeId, tuple[bytes, Summary]]] = field(default_factory=dict)
    own: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    chart: Chart | None = None
    news: dict[int, Set[NodeId]] = field(default_factory=dict)
    changes: int = 0
    drawn: int = 0
    drawing: bool = False
    making: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Former:
    """How the directory was laid by the codebook before, which a node asks by too while the present one's holders lack something.

    ``unheard`` are the nodes that held something then and that this one has not compared its places with since: what is now its own may
    be theirs alone; ``tries`` says in how many rounds each was asked. ``rounds``: after so many it is forgotten, whatever is missing.
    """

    layout: Layout
    chart: Chart
    unheard: set[NodeId]
    rounds: int
    tries: Counter[NodeId] = field(default_factory=Counter)


@dataclass(slots=True)
class Watch:
    """How long a node has had the codebook of this ``version`` in force, or has last looked whether it is to be followed by another:
    ``rounds`` of ``keeping``. ``looks``: how often it has."""

    version: int = 0
    rounds: int = 0
    looks: int = 0


@dataclass(slots=True)
class Parts:
    """``peers`` gives the other nodes that are alive, now. ``busy_with`` are those that a round is under way with, ``hinted_by`` those
    whose announcement is being followed, and whether to ask them again after it. ``barred`` knows who is in quarantine.

    ``layout`` is how entries lie here, ``seen`` how they ought to by what this node knows now (None: whole for good); the keeping Flow has
    the one follow the other. ``unsure`` are the places that this node holds and may lack something in, since it came to hold them lately,
    with the other holders that it has compared them with: it is sure once one of these was, or it has compared with all.
    ``former``: until lately it lay by another codebook (``switching``).
    ``caught_up``: while the directory was whole, this node has compared it with one that was, or with all ``others`` that the ledger has
    (None: that is not known), or that are there; ``compared`` with these since it started. ``laid``: it is known how it ought to be laid.
    ``behind``: whether others' ledger is ahead of this node's, so that it may not know who is in quarantine.
    ``spots``: whether this node checks whether holders lie; ``accused`` gives those of whom others say so on the ledger.
    """

    node: NodeId
    org: OrgDid
    checker: Checker
    shelf: Shelf
    peers: Callable[[], Sequence[NodeId]]
    measures: Measures = unmeasured
    barred: Barred = nobody
    layout: Layout = field(init=False)
    seen: Callable[[], Layout] | None = None
    unsure: dict[int, frozenset[NodeId]] = field(default_factory=dict)
    former: Former | None = None
    caught_up: bool = False
    compared: set[NodeId] = field(default_factory=set)
    laid: bool = False
    agreed: Callable[[], Agreed] | None = None
    behind: Callable[[], bool] = never
    others: Callable[[], Set[NodeId] | None] = nobody_else
    codebooks: dict[bytes, Codebook] = field(default_factory=dict)
    refused_codebooks: set[bytes] = field(default_factory=set)
    endorses: tuple[int, bytes] | None = None
    watch: Watch = field(default_factory=Watch)
    rtt_s: Callable[[NodeId], float | None] = unmeasured_way
    charted: Charted = field(default_factory=Charted)
    spots: bool = True
    accused: Callable[[], Sequence[NodeId]] = nobody_accused
    suspects: Suspects = field(default_factory=Suspects)
    busy_with: set[NodeId] = field(default_factory=set)
    hinted_by: dict[NodeId, bool] = field(default_factory=dict)

    def distance_s(self, node: NodeId) -> float:
        """How long the way there and back is, as far as it was measured."""
        return limits.FAR_S if (measured := self.rtt_s(node)) is None else measured

    def check_layout(self, name: bytes) -> None:
        """Return if this is the layout by which entries lie here; raises Refused ``other-layout``."""
        if name != self.layout.name:
            raise Refused(
                "other-layout", "this node's directory is cut into other cells", hint="ask again when both have heard of the change"
            )

    def sure_of(self, places: Sequence[int]) -> tuple[int, ...]:
        """Those of ``places`` that this node holds and lacks nothing in, as far as it knows."""
        if self.former is not None and not self.former.unheard.isdisjoint(self.peers()):
            return ()
        held = frozenset(self.layout.mine)
        return tuple(place for place in places if place in held and place not in self.unsure)

    def holds_all(self) -> bool:
        """Whether the directory is whole and this node lacks nothing of it, as far as it knows."""
        return self.laid and self.layout.codebook is None and (self.caught_up or self.others() == frozenset())

    def __post_init__(self) -> None:
        self.layout = whole(self.node)
