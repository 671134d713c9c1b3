"""Where entries lie, as one node sees it now: in one whole that every node holds, or in cells by a codebook.

An entry lies in *places*. While the directory is whole, a place is one of 256 buckets by the agent's id, and every node holds all. In
cells, places are the cells of its vector and of its former ones, where questions look, and one more by its id, where whoever wants to
call it looks: those have the numbers behind the cells.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from meshos.ids import AgentId, NodeId
from meshos.protocols.directory.cells.codebook import Codebook, whole_numbers
from meshos.protocols.directory.cells.limits import ID_PLACES
from meshos.protocols.directory.cells.placement import Seat, holders
from meshos.protocols.directory.commands import Places
from meshos.protocols.directory.holdings import bucket_of
from meshos.protocols.directory.limits import BUCKETS
from meshos.protocols.directory.record import Entry, vectors_of


@dataclass(frozen=True)
class Layout:
    """``name`` (16 bytes) is that of the codebook, empty while the directory is whole; ``holders`` has the nodes of each place."""

    me: NodeId
    name: bytes = b""
    codebook: Codebook | None = None
    holders: tuple[tuple[NodeId, ...], ...] = ()

    @cached_property
    def mine(self) -> Places:
        """The places that this node holds, rising: all, where the directory is whole."""
        if self.codebook is None:
            return tuple(range(BUCKETS))
        return tuple(place for place, nodes in enumerate(self.holders) if self.me in nodes)

    @cached_property
    def _shared(self) -> Mapping[NodeId, Places]:
        found: dict[NodeId, list[int]] = {}
        for place in self.mine if self.codebook is not None else ():
            for node in self.holders[place]:
                if node != self.me:
                    found.setdefault(node, []).append(place)
        return {node: tuple(places) for node, places in found.items()}

    def partners(self) -> Iterable[NodeId] | None:
        """The nodes that hold something that this one holds; None: all do."""
        return None if self.codebook is None else self._shared

    def shared_with(self, node: NodeId) -> Places:
        """The places that both hold."""
        return self.mine if self.codebook is None else self._shared.get(node, ())

    def holds(self, places: Places) -> bool:
        """Whether this node holds one of them."""
        return self.codebook is None or any(self.me in self.holders[place] for place in places)

    def place_of_id(self, agent: AgentId) -> int | None:
        """The place in which whoever has an agent's id finds its record; None while the directory is whole."""
        return None if self.codebook is None else self.codebook.cells + bucket_of(agent) % ID_PLACES

    def places_of(self, entries: Sequence[Entry]) -> list[Places]:
        """Where each lies, a record's own cell first and the place of its id last. For worker threads, in cells: 20 microseconds each."""
        if self.codebook is None:
            return [(bucket_of(entry.agent_id),) for entry in entries]
        vectors = [vectors_of(entry) for entry in entries]
        every = [vector for some in vectors for vector in some]
        cells = iter(self.codebook.place(whole_numbers(every)).tolist() if every else [])
        found: list[Places] = []
        for entry, some in zip(entries, vectors, strict=True):
            of_vectors = dict.fromkeys(next(cells) for _ in some)
            found.append((*of_vectors, self.codebook.cells + bucket_of(entry.agent_id) % ID_PLACES))
        return found


def whole(me: NodeId) -> Layout:
    """The layout of a directory that every node holds in full."""
    return Layout(me)


def in_cells(me: NodeId, name: bytes, codebook: Codebook, seed: bytes, seats: Sequence[Seat]) -> Layout:
    """The layout by a codebook, among the members in ``seats``."""
    return Layout(me, name, codebook, holders(seed, seats, codebook.cells + ID_PLACES))
