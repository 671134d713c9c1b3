"""Joining a running mesh from outside: what a stranger asks at the squares of several nodes, and what is believed of the answers.

A stranger trusts nobody. From the genesis hash (given, or told by the nodes that are asked) follows the genesis, and from that whatever the
ledger says (``runtime/square/following.py``): above all that one was admitted. What else a node tells is a hint, so that no single node of
those that are named can end a join, or hold it up for long: whoever fails, lies or is slower than most is passed over, and seeds come from
all of them.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import zip_longest

import trio

from meshos.consensus.ledger.light_client import Signed
from meshos.consensus.ledger.members import ORGS
from meshos.crypto.signing import Ed25519Verifier
from meshos.errors import MeshError, Refused, Unreachable
from meshos.genesis import Genesis
from meshos.ids import OrgDid
from meshos.node.address import parse_address
from meshos.node.runtime.square.asking import Where, dial, where
from meshos.node.runtime.square.following import Follower, describe_mesh
from meshos.protocols.square import join, wire
from meshos.protocols.square.join import ASKED, MEMBER, SeedEntry

LEARN_S = 60.0
"""How long one node may take to show the mesh; 4 MiB of genesis and some thousand changes of the validators fit in it."""
GRACE_S = 2.0
"""How long the others that were named are waited for, once more than half of them have. Before that they have all the time that one has:
the quickest of them may be the one that means ill, and alone it would choose all doors and seeds."""
FEW_SEEDS = 3
"""With fewer, nodes that the genesis names, or that were told of, are asked for more."""
FURTHER = 6
"""So many of them."""
ADMISSION_S, ELSEWHERE_S = 60.0, 15.0
"""How long it waits to be admitted where nodes vote by themselves, at the last node that was named, and at each before it."""
POLL_S = 0.5
PROOF_S, PROOF_POLL_S = 0.5, 0.1
"""How long it waits for the block that proves an admission: the next one, which a quiet mesh does not make."""


@dataclass(frozen=True, slots=True)
class Learned:
    """A mesh as strangers see it: its genesis has the hash that was asked for. ``head`` is the newest that was proven, and ``signers`` of
    ``seats`` have signed it. ``places`` are those that have shown it, in the order in which they were named, and ``seeds`` what they tell.
    ``passed`` are those that have not, and why.
    """

    genesis: Genesis
    head: Signed | None
    seats: int
    places: tuple[Where, ...]
    seeds: tuple[SeedEntry, ...]
    passed: tuple[tuple[Where, MeshError], ...]


@dataclass(frozen=True, slots=True)
class Admitted:
    """The organisation is a member: as the ledger proves, or only as ``by`` say, which the node will find out that is run next."""

    proven: bool
    by: tuple[Where, ...]


@dataclass(frozen=True, slots=True)
class _Shown:
    """What one place has shown of the mesh, proven but for the seeds and the other places that it tells of."""

    client: Follower
    seeds: tuple[SeedEntry, ...]
    others: tuple[str, ...]

    @property
    def height(self) -> int:
        return 0 if self.client.head is None else self.client.head.header.height


# -- learning ----------------------------------------------------------------------------------------------------------


async def learn(places: Sequence[Where], expected: str) -> Learned:
    """Learn of the mesh whose genesis hash begins with ``expected`` (in hex; empty: of whatever mesh they say) at all ``places`` at once.

    Raises what the last of them failed with if all have, and Refused ``wrong-genesis`` if they show different meshes.
    """
    found = await _asked(places, expected, LEARN_S)
    shown = [(place, answer) for place, answer in found if isinstance(answer, _Shown)]
    if not shown:
        raise found[-1][1] if found and isinstance(found[-1][1], MeshError) else _silent("no node was named")
    genesis = shown[0][1].client.genesis
    for place, answer in shown:
        if answer.client.genesis.hash != genesis.hash:
            told = f"{shown[0][0]} is of the mesh {genesis.hash.hex()[:32]}, and {place} of {answer.client.genesis.hash.hex()[:32]}"
            raise Refused("wrong-genesis", told, hint="say which one is meant: --genesis-hash")
    newest = max((answer for _, answer in shown), key=lambda answer: answer.height).client
    seeds = _merged(answer.seeds for _, answer in shown)
    if len(seeds) < FEW_SEEDS:
        named = [*genesis.bootstrap, *(other for _, answer in shown for other in answer.others)]
        further = await _asked(_others(named, places), genesis.hash.hex(), GRACE_S)
        seeds = _merged([seeds, *(answer.seeds for _, answer in further if isinstance(answer, _Shown))])
    passed = tuple((place, answer) for place, answer in found if isinstance(answer, MeshError))
    return Learned(genesis, newest.head, newest.trusted.validators.n, tuple(place for place, _ in shown), seeds, passed)


async def _asked(places: Sequence[Where], expected: str, most_s: float) -> list[tuple[Where, _Shown | MeshError]]:
    """What each of them shows, within ``most_s``, and within GRACE_S once more than half of them have."""
    found: dict[Where, _Shown | MeshError] = {}

    async def ask(place: Where) -> None:
        try:
            found[place] = await _shown_by(place, expected)
            if 2 * sum(isinstance(one, _Shown) for one in found.values()) > len(set(places)):
                nursery.cancel_scope.deadline = min(nursery.cancel_scope.deadline, trio.current_time() + GRACE_S)
        except MeshError as error:
            found[place] = error

    with trio.move_on_after(most_s):
        async with trio.open_nursery() as nursery:
            for place in places:
                nursery.start_soon(ask, place)
    late = f"it has not shown its mesh within {most_s:g} s, or {GRACE_S:g} s after most of the others"
    return [(place, found.get(place) or _silent(late)) for place in dict.fromkeys(places)]


async def _shown_by(place: Where, expected: str) -> _Shown:
    async with dial(place) as square:
        described = await describe_mesh(square)
        if not described.genesis.hex().startswith(expected):
            what = f"{place} is of the mesh {described.genesis.hex()[:32]}, not of {expected[:32]}"
            raise Refused("wrong-genesis", what, hint="look at the address, and at --genesis-hash")
        client = await Follower.begin(square, described.genesis)
        standing = join.read_standing(await square.ask(join.NAME, join.request()))
        return _Shown(client, standing.seeds, described.peers)


def _merged(lists: Iterable[Iterable[SeedEntry]]) -> tuple[SeedEntry, ...]:
    """Each node once, the first of each list before the second of any: none of those who tell fills it. What can be dialled by nobody is
    left out.
    """
    good = ([seed for seed in seeds if _can_be_dialled(seed.gossip) and _can_be_dialled(seed.link)] for seeds in lists)
    found: dict[str, SeedEntry] = {}
    for row in zip_longest(*good):
        for seed in row:
            if seed is not None:
                found.setdefault(seed.node, seed)
    return tuple(found.values())


def _can_be_dialled(text: str) -> bool:
    try:
        return parse_address(text).port > 0
    except ValueError:
        return False


def _others(told: Iterable[str], asked: Sequence[Where]) -> list[Where]:
    """Places in ``told`` that were not asked yet."""
    known, found = {(place.host, place.port) for place in asked}, dict[tuple[str, int], Where]()
    for text in told:
        try:
            place = where(text)
        except MeshError:
            continue  # some node's word; it harms nobody but those that it should have led to
        if (place.host, place.port) not in known and len(found) < FURTHER:
            found.setdefault((place.host, place.port), place)
    return list(found.values())


def _silent(what: str) -> Unreachable:
    return Unreachable("square-unreachable", what, hint="ask another node of the mesh", outcome="not_done")


# -- being admitted ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks to be admitted: ``org`` with the root key ``root`` (Multikey), by its application and where it has one by an invitation.
    ``former`` is the root key that it had before, where it has rotated it: what is proven may be one block old.
    """

    org: OrgDid
    root: str
    application: str
    invitation: str | None = None
    former: str | None = None


async def be_admitted(learned: Learned, asked: Asked, waiting: Callable[[], None]) -> Admitted:
    """Have the organisation admitted by the first of the places that does it, and have it proven by the ledger if any can.

    ``waiting`` is called while others have to agree. Raises Refused ``already-a-member`` where the ledger proves that it is one by another
    root key, Unreachable ``unknown-yet`` where the others have not agreed in time, and else what most of the places refuse with.
    """
    said: list[Where] = []
    failed: list[MeshError] = []
    for number, place in enumerate(learned.places, 1):
        patience_s = ADMISSION_S if number == len(learned.places) else ELSEWHERE_S
        try:
            with trio.fail_after(patience_s + LEARN_S):
                async with _visiting(place, learned.genesis) as visit:
                    found = await visit.admission(asked, patience_s, waiting)
        except trio.TooSlowError:
            failed.append(_silent(f"{place} does not come to an end"))
        except MeshError as error:
            failed.append(error)
        else:
            if found is False:
                raise _by_another_root(asked.org)
            if found is True:
                return Admitted(True, (place,))
            said.append(place)
    if said:
        return Admitted(False, tuple(said))
    raise min(failed, key=_telling)


def _telling(error: MeshError) -> int:
    """How far down it comes in what is told: what is under way, what a door refuses, what went wrong on the way there."""
    if error.name == "unknown-yet":
        return 0
    return 2 if isinstance(error, Unreachable) or error.name.startswith("square-") else 1


def _by_another_root(org: OrgDid) -> Refused:
    return Refused("already-a-member", f"the ledger proves that {org} is a member by another root key", hint="choose another name")


@asynccontextmanager
async def _visiting(place: Where, genesis: Genesis) -> AsyncIterator["_Visit"]:
    async with dial(place) as square:
        client = Follower(square, genesis, Ed25519Verifier())
        await client.follow()
        yield _Visit(place, client)


@dataclass(frozen=True, slots=True)
class _Visit:
    """At the door of one node."""

    where: Where
    client: Follower

    async def admission(self, asked: Asked, patience_s: float, waiting: Callable[[], None]) -> bool | None:
        """Whether the organisation is a member with this root key (True) or another one (False), proven; None: the node says that it is.

        Raises what the node refuses with, and Refused ``square-bad-answer`` if it says so and the ledger proves the contrary.
        """
        until = trio.current_time() + patience_s
        while await self._knock(asked) != MEMBER:
            waiting()
            if trio.current_time() > until:
                told = f"{asked.org} was moved to be admitted, and the others have not agreed within {patience_s:g} s, as {self.where} says"
                raise Unreachable("unknown-yet", told, hint="give the same command again: it goes on where it was", outcome="unknown")
            await trio.sleep(POLL_S)
        return await self._proof(asked)

    async def _knock(self, asked: Asked) -> str:
        """How the organisation stands to the mesh, as the node says; what it does not know yet is under way."""
        request = join.request(asked.application, asked.invitation)
        try:
            return join.read_standing(await self.client.square.ask(join.NAME, request, timeout_s=join.TIMEOUT_S)).state
        except Unreachable as error:
            if error.name != "unknown-yet":
                raise
            return ASKED

    async def _proof(self, asked: Asked) -> bool | None:
        """As ``admission``, once the node has said "member".

        A header proves the state before its own block. So what the first that is shown now does not have yet can have been decided in that
        block; what a later one does not have was not.
        """
        until, first = trio.current_time() + PROOF_S, 0
        while True:
            root, height = await self._root_of(asked.org)
            if root is not None and root != asked.former:
                return root == asked.root
            if 0 < first < height:
                told = f"it says that {asked.org} is a member with this root key, and the ledger proves that it is not"
                raise wire.bad_answer(told)
            first = first or height
            if trio.current_time() > until:
                return None
            await trio.sleep(PROOF_POLL_S)

    async def _root_of(self, org: OrgDid) -> tuple[str | None, int]:
        """The root key of a member, None where it is none, as the ledger proves; and the height of the header that does (0: none yet)."""
        try:
            proven = await self.client.prove(ORGS.key(org))
        except Refused as refusal:
            if refusal.name != "proof-not-yet":
                raise
            return None, 0
        found = None if proven.value is None else ORGS.decode(proven.value)
        return (None if found is None or found.left_ms else found.root), proven.header.height
