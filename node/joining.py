"""Joining a running mesh from outside: what a stranger asks at a node's square, and what it believes of the answers.

A stranger trusts nobody. From the genesis hash (given, or told by the node that is asked) follows the genesis, from that the validators,
from them each header, and from a header whatever the ledger says: above all that one was admitted. What else a node tells is a hint.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from meshos.consensus.ledger import light_client
from meshos.consensus.ledger.light_client import Signed, Trusted
from meshos.consensus.ledger.members import ORGS, Org
from meshos.crypto.signing import Ed25519Verifier
from meshos.errors import MeshError, Refused, Unreachable
from meshos.genesis import Genesis
from meshos.ids import OrgDid
from meshos.node.runtime.square.asking import Asking, Where, dial
from meshos.protocols.square import describe, headers, join, proof

T = TypeVar("T")

MAX_PAGES = 4_096
"""Of changes of the validator set: no mesh has had so many, and a node that goes on and on is a liar."""


@dataclass(slots=True)
class Visit:
    """A mesh as a stranger sees it at one node: all that it has proven so far. ``head`` is None before the first block."""

    square: Asking
    where: Where
    genesis: Genesis
    trusted: Trusted
    head: Signed | None
    standing: join.Standing

    async def knock(self, application: str, invitation: str | None) -> join.Standing:
        """Ask to be admitted, or hear how that stands; raises what the node refuses with."""
        self.standing = join.read_standing(
            await self.square.ask(join.NAME, join.request(application, invitation), timeout_s=join.TIMEOUT_S)
        )
        return self.standing

    async def member(self, org: OrgDid) -> Org | None:
        """What the ledger says of the organisation, proven; None where it is no member. Raises as the light client does."""
        key = ORGS.key(org)
        bundle = proof.read_bundle(await self.square.ask(proof.NAME, proof.request(key, self.trusted.validators.epoch)), key)
        after = light_client.follow(self.trusted, bundle.steps, Ed25519Verifier())
        proven = light_client.prove_to(after, bundle, Ed25519Verifier())
        self.trusted = after
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
                found = await _learn(square, place, expected)
                learned = True
                return await act(found)
        except (Unreachable, Refused) as error:
            if learned:
                raise
            last = error
    raise last


async def _learn(square: Asking, place: Where, expected: str) -> Visit:
    described = describe.read_description(await square.ask(describe.NAME, describe.request()))
    if not described.genesis.hex().startswith(expected):
        what = f"{place} is of the mesh {described.genesis.hex()[:16]}, not of {expected[:16]}"
        raise Refused("wrong-genesis", what, hint="look at the address, and at --genesis-hash")
    fetch = describe.GenesisFetch(described.genesis)
    while not fetch.done:
        fetch.take(await square.ask(describe.NAME, fetch.request()))
    genesis = fetch.genesis()
    trusted, head = light_client.begin(genesis), None
    for _ in range(MAX_PAGES):
        page = headers.read_page(await square.ask(headers.NAME, headers.request(trusted.validators.epoch)))
        trusted, head = headers.follow(trusted, page, Ed25519Verifier())
        if not page.more:
            standing = join.read_standing(await square.ask(join.NAME, join.request()))
            return Visit(square, place, genesis, trusted, head, standing)
    raise Refused(
        "square-bad-answer", f"{place} has sent {MAX_PAGES} pages of headers, and says that there are more", hint="ask another node"
    )
