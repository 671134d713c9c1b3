"""On which nodes a cell lies: three of different organisations, which everybody who knows the same members finds alike.

Each node has a *seat*, its organisation's DID and its place in the organisation's list of nodes on the ledger, so that no node chooses
its own. A seat's rank for a cell is a hash of both and of the mesh's seed (rendezvous hashing, Thaler and Ravishankar 1998): when a
node comes or goes, only cells that it holds or will hold move, and each node has as many as any other but for chance. The nearest by
XOR, as Kademlia has it, would give one of eight nodes several times what another has.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshos.ids import NodeId, OrgDid
from meshos.protocols.directory.cells.limits import COPIES

Ranks = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Seat:
    """A node that can hold cells, and its place in its organisation's list."""

    org: OrgDid
    place: int
    node: NodeId


def holders(seed: bytes, seats: Sequence[Seat], places: int) -> tuple[tuple[NodeId, ...], ...]:
    """For each of ``places`` the nodes that hold it, the first in rank first: up to ``COPIES``, of different organisations.

    20 ms for a thousand of each, in a worker thread or where members change.
    """
    if not seats:
        return ((),) * places
    ordered = sorted(seats, key=lambda seat: (seat.org, seat.place, seat.node))
    of_seats = np.array([_number(seed, f"seat {seat.org} {seat.place}") for seat in ordered], np.uint64)
    of_places = np.array([_number(seed, f"place {place}") for place in range(places)], np.uint64)
    orgs = {org: number for number, org in enumerate(sorted({seat.org for seat in seats}))}
    org_of = np.array([orgs[seat.org] for seat in ordered])
    ranks = _mixed(of_places[:, None] ^ of_seats[None, :])
    found: list[tuple[NodeId, ...]] = [() for _ in range(places)]
    for _ in range(min(COPIES, len(orgs))):
        best = ranks.argmax(axis=1)
        for place, seat in enumerate(best):
            found[place] += (ordered[seat].node,)
        ranks[org_of[best][:, None] == org_of[None, :]] = 0
    return tuple(found)


def _number(seed: bytes, name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), key=seed[:64], digest_size=8, person=b"meshos/seat/1").digest(), "big")


def _mixed(numbers: Ranks) -> Ranks:
    """Spread evenly, one to one (the finaliser of splitmix64, Steele et al. 2014), and never 0."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (numbers ^ (numbers >> np.uint64(31))) | np.uint64(1)
