"""Joining a running mesh from outside: what a stranger asks at a node's square, and what is believed of the answers.

A stranger trusts nobody. From the genesis hash (given, or told by the node that is asked) follows the genesis, and from that whatever the
ledger says (``runtime/square/following.py``): above all that one was admitted. What else a node tells is a hint.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from meshos.consensus.ledger.members import ORGS, Org
from meshos.errors import MeshError, Refused, Unreachable
from meshos.ids import OrgDid
from meshos.node.runtime.square.asking import Where, dial
from meshos.node.runtime.square.following import Follower, describe_mesh
from meshos.protocols.square import join

T = TypeVar("T")


@dataclass(slots=True)
class Visit:
    """A mesh as a stranger sees it at the node ``where``: what ``client`` has proven so far, and how the stranger stands to it."""

    where: Where
    client: Follower
    standing: join.Standing

    async def knock(self, application: str, invitation: str | None) -> join.Standing:
        """Ask to be admitted, or hear how that stands; raises what the node refuses with."""
        asked = join.request(application, invitation)
        self.standing = join.read_standing(await self.client.square.ask(join.NAME, asked, timeout_s=join.TIMEOUT_S))
        return self.standing

    async def member(self, org: OrgDid) -> Org | None:
        """What the ledger says of the organisation, proven; None where it is no member. Raises as ``Follower.prove``."""
        proven = await self.client.prove(ORGS.key(org))
        found = None if proven.value is None else ORGS.decode(proven.value)
        return None if found is None or found.left_ms else found


async def visit(places: Sequence[Where], expected: str, act: Callable[[Visit], Awaitable[T]]) -> T:
    """What ``act`` does at the first of ``places`` that answers as a node of the mesh whose genesis hash begins with ``expected`` (in hex;
    empty: of whatever mesh it says).

    Raises what ``act`` raises, or what the last place failed with.
    """
    last: MeshError = Unreachable("square-unreachable", "no node was named", outcome="not_done")
    for place in places:
        learned = False
        try:
            async with dial(place) as square:
                described = await describe_mesh(square)
                if not described.genesis.hex().startswith(expected):
                    what = f"{place} is of the mesh {described.genesis.hex()[:16]}, not of {expected[:16]}"
                    raise Refused("wrong-genesis", what, hint="look at the address, and at --genesis-hash")
                client = await Follower.begin(square, described.genesis)
                standing = join.read_standing(await square.ask(join.NAME, join.request()))
                learned = True
                return await act(Visit(place, client, standing))
        except MeshError as error:
            if learned:
                raise
            last = error
    raise last
