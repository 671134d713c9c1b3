"""By what a node's directory ought to be laid: the codebook that the ledger names, and the members that can hold cells.

A member holds cells if the ledger has it in its organisation's list of nodes and it is no leaf. One that is gone keeps its cells for
``ABSENT_ROUNDS``: a node that starts again within half a minute finds nothing moved, and questions go to the other holders meanwhile.
One that was discharged for lying (``consensus/ledger/testimonies.py``) holds none, as long as there are enough organisations without it.
"""

from collections.abc import Callable, Iterable

from meshos.consensus.ledger import queries
from meshos.consensus.ledger.codebooks import CODEBOOKS, Codebooks, trainers
from meshos.consensus.ledger.members import COORDINATORS
from meshos.consensus.ledger.parameters import IN_CELLS, PARAMETERS
from meshos.consensus.ledger.seats import SEATS
from meshos.consensus.ledger.testimonies import discharged, said_by
from meshos.ids import NodeId, OrgDid, Peer
from meshos.protocols.directory.cells.layout import Layout, in_cells, whole
from meshos.protocols.directory.cells.limits import COPIES
from meshos.protocols.directory.cells.placement import Seat
from meshos.protocols.directory.limits import LAYOUT_BYTES
from meshos.protocols.directory.parts import Agreed, Parts
from meshos.protocols.ledger.port import LedgerView

ABSENT_ROUNDS = 15
"""Looks, two seconds apart, after which a member that is gone holds nothing any more."""


class Cells:
    """``agreed``, ``seen`` and ``accused`` are what ``Parts`` takes. ``holding`` gives the members that are there and no leaves, this
    node among them; ``seed`` is the mesh's own."""

    def __init__(self, me: Peer, ledger: LedgerView, holding: Callable[[], Iterable[NodeId]], seed: bytes) -> None:
        self._me = me
        self._ledger = ledger
        self._holding = holding
        self._seed = seed
        self._absent: dict[NodeId, int] = {}
        self._layout = whole(me.node)
        self._made_of: tuple[bytes, tuple[Seat, ...]] = (b"", ())

    def agreed(self) -> Agreed:
        """What the ledger says; nothing while this node lays down a state that it fetched."""
        parameters, voting = PARAMETERS.read(self._ledger, b""), SEATS.read(self._ledger, b"")
        if self._ledger.restoring or parameters is None or voting is None:
            return Agreed(restoring=True)
        now = CODEBOOKS.read(self._ledger, b"") or Codebooks()
        seat = next((entry for entry in voting.entries if entry.org == self._me.org), None)
        speaks = seat is not None and seat.node == self._me.node
        order = [*trainers(COORDINATORS.read(self._ledger, b""), voting), *(org for org, _ in now.endorsed)]
        endorsed = sorted(now.endorsed, key=lambda one: order.index(one[0]))  # what the first in turn has brought is looked at first
        return Agreed(
            parameters["directory-cells"] == IN_CELLS,
            now.version,
            now.name,
            tuple(dict.fromkeys(name for _, name in endorsed)),
            speaks,
            speaks and order[:1] == [self._me.org],
        )

    def seen(self, parts: Parts) -> Layout:
        """How the directory ought to be laid now; as it is, where that cannot be known yet."""
        agreed = self.agreed()
        if agreed.restoring:
            return parts.layout
        codebook = parts.codebooks.get(agreed.name) if agreed.in_cells and agreed.version else None
        if agreed.in_cells and agreed.version and codebook is None:
            return parts.layout
        seats = self._seats() if codebook is not None else ()
        made_of = (agreed.name if codebook is not None else b"", seats)
        if made_of != self._made_of:
            me, name = self._me.node, agreed.name[:LAYOUT_BYTES]
            self._layout = whole(me) if codebook is None else in_cells(me, name, codebook, self._seed, seats)
            self._made_of = made_of
        return self._layout

    def accused(self) -> list[NodeId]:
        """The nodes about which other organisations with a vote have testified, where that has not sufficed yet."""
        voting = SEATS.read(self._ledger, b"")
        if self._ledger.restoring or voting is None:
            return []
        others = (entry.org for entry in voting.entries if entry.org != self._me.org)
        return sorted({NodeId(one.node) for org in others for one in said_by(self._ledger, org, self._ledger.time_ms)})

    def others(self) -> frozenset[NodeId] | None:
        """The nodes but this one of all organisations that have not left; None where that cannot be known, or an organisation has none."""
        orgs = [] if self._ledger.restoring else [org for _, org in queries.orgs(self._ledger) if not org.left_ms]
        if not orgs or not all(org.nodes for org in orgs):
            return None
        return frozenset(NodeId(node) for org in orgs for node in org.nodes) - {self._me.node}

    def _seats(self) -> tuple[Seat, ...]:
        there = {*self._holding()}
        self._absent = {node: rounds + 1 for node, rounds in self._absent.items() if rounds < ABSENT_ROUNDS} | dict.fromkeys(there, 0)
        found = []
        for did, org in queries.orgs(self._ledger):
            if not org.left_ms:
                found += [Seat(OrgDid(did), place, NodeId(node)) for place, node in enumerate(org.nodes) if node in self._absent]
        gone = discharged(self._ledger)
        honest = [seat for seat in found if seat.node not in gone]
        return tuple(honest if len({seat.org for seat in honest}) >= COPIES else found)
