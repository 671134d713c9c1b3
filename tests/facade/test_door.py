"""The door of a node: who is moved to be admitted when a stranger applies, and who is told why not."""

import pytest
import trio
import trio.testing

from meshos.consensus.ledger import kinds, queries, transaction
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.keys import ROOT, possession
from meshos.consensus.ledger.limits import MAX_MOTIONS
from meshos.consensus.ledger.motions import Configure, Move, Vote, motion_id
from meshos.consensus.ledger.orgs import Leave, RotateRoot
from meshos.consensus.ledger.parameters import BY_INVITATION, BY_VOTE, OPEN, in_force
from meshos.consensus.ledger.results import COMMITTED
from meshos.crypto import certificates
from meshos.crypto.guests import invite_guest
from meshos.crypto.keys import SigningKey, multikey
from meshos.crypto.signing import sign, verify_many
from meshos.crypto.simulated import SimulatedVerifier
from meshos.errors import MeshError, Unreachable
from meshos.ids import NodeId, Peer
from meshos.node import applying
from meshos.node.api.shapes import Json
from meshos.node.facade import door
from meshos.node.facade.door import PLACES_A_BLOCK, Door
from meshos.node.facade.moving import MotionDesk
from meshos.protocols.ledger.limits import ADMISSIONS, HOUR_S
from meshos.protocols.membership.events import MemberView
from meshos.protocols.membership.statements import NodeFacts
from meshos.protocols.square.join import ASKED, MEMBER, SEEDS
from tests.facade.chain import Chain
from tests.ledger.books import WORLD, Books, did

WALL = 1_800_000_000.0


class Mixed(Books):
    """Books in which strangers' roots sign as roots do outside of tests: their applications are read as they come."""

    def holds(self, request: bytes) -> bool:
        claims = self.ledger.claims(request)
        simulated = SimulatedVerifier(WORLD).verify_many(claims)
        return all(known or verify_many([claim])[0] for known, claim in zip(simulated, claims, strict=True))

    def by(self, key: SigningKey, body: Body) -> None:
        """What is signed by a real key is committed."""
        name = multikey(key.public)
        envelope = kinds.envelope_of(body, name, self.nonce(name), self.time_ms + 60_000)
        request = transaction.request(envelope, sign(key, transaction.domain(self.genesis.hash), envelope))
        assert self.holds(request) and [result.outcome for result in self.block([request])] == [COMMITTED]


class Square:
    """alpha's door, in a mesh that admits by ``policy``."""

    def __init__(self, policy: int) -> None:
        self.books = Mixed()
        self.chain = Chain(self.books)
        self.now = 0.0
        self.members: list[MemberView] = []
        self.set("admission", policy)
        window = self.chain
        me, motions, mesh = Peer(NodeId("alpha-1"), did("alpha")), window.moving("alpha-1"), window.books.genesis.hash
        self.door = Door(me, window, motions, mesh, lambda: self.members, now=lambda: self.now, wall=lambda: WALL)  # type: ignore[arg-type]

    def set(self, name: str, value: int) -> None:
        """A parameter is moved, and carried."""
        books = self.chain.books
        if in_force(books.state)[name] != value:
            self.vote(motion_id(books.do("alpha-1", Move(Configure(((name, value),))))))

    def vote(self, id_: bytes) -> None:
        for org in ("beta", "gamma"):
            self.chain.books.do(f"{org}-1", Vote(id_, True))

    def root_is(self, name: str, key: SigningKey) -> None:
        """The organisation's root key becomes a real one."""
        claim = possession(self.chain.books.genesis.hash, multikey(key.public), did(name), ROOT, b"")
        rotation = RotateRoot(did(name), multikey(key.public), b"0", sign(key, claim.domain, claim.payload))
        self.chain.books.do(f"{name}-root", rotation)

    def application(self, name: str = "zeta", seed: bytes = b"z" * 32) -> str:
        root, org = SigningKey(seed), did(name)
        return applying.of_root(root, certificates.new_root(root, org, now=WALL), self.chain.books.genesis.hash, org)

    async def knock(self, application: str, invitation: str | None = None, address: str = "192.0.2.1") -> tuple[str, bytes | None]:
        return await self.door.knock(application, invitation, address)

    async def refused(self, application: str, invitation: str | None = None, address: str = "192.0.2.1") -> str:
        with pytest.raises(MeshError) as caught:
            await self.door.knock(application, invitation, address)
        return caught.value.name


@pytest.fixture
def opened() -> Square:
    return Square(OPEN)


async def test_where_anybody_may_come_in_who_applies_is_moved_once_and_is_a_member_when_the_others_agree(opened: Square) -> None:
    application = opened.application()
    state, id_ = await opened.knock(application)
    assert state == ASKED and id_ is not None
    assert await opened.knock(application) == (ASKED, id_)
    assert len(list(queries.motions(opened.chain.books.state))) == 1
    opened.vote(id_)
    assert await opened.knock(application) == (MEMBER, None)
    assert await opened.refused(opened.application(seed=b"y" * 32)) == "already-a-member"


async def test_what_ended_without_them_is_moved_anew_when_they_ask_again(opened: Square) -> None:
    application = opened.application()
    _, first = await opened.knock(application)
    assert first is not None
    for org in ("beta", "gamma"):
        opened.chain.books.do(f"{org}-1", Vote(first, False))
    state, second = await opened.knock(application)
    assert state == ASKED and second not in (None, first)


async def test_where_people_vote_it_moves_nothing() -> None:
    square = Square(BY_VOTE)
    assert await square.refused(square.application()) == "admission-by-vote"
    assert square.door.policy() == "vote" and not square.chain.sent


async def test_where_members_invite_it_moves_whom_its_own_organisation_has_invited() -> None:
    square, roots = Square(BY_INVITATION), {name: SigningKey(name.encode().ljust(32)) for name in ("alpha", "beta")}
    square.root_is("alpha", roots["alpha"])
    application, mesh = square.application(), square.chain.books.genesis.hash

    def invited(
        host: str = "alpha", guest: str = "zeta", key: str = "alpha", now: float = WALL, genesis_hash: bytes = mesh, seed: bytes = b"z" * 32
    ) -> str:
        names, whom = {"host": did(host), "guest": did(guest)}, SigningKey(seed).public
        return invite_guest(roots[key], genesis_hash=genesis_hash, **names, key=whom, now=now, lifetime_s=60)

    assert await square.refused(application) == "not-invited"
    assert await square.refused(application, "mesh-guest-1.AAAA") == "invitation-malformed"
    assert await square.refused(application, invited(guest="eta")) == "not-invited", "it is somebody else's"
    assert await square.refused(application, invited(seed=b"y" * 32)) == "not-invited", "it is for another key of that name"
    assert await square.refused(application, invited(host="beta", key="beta")) == "not-invited", "another member's nodes see to it"
    assert await square.refused(application, invited(key="beta")) == "not-invited", "whoever signs in another's name"
    assert await square.refused(application, invited(now=WALL - 61)) == "invitation-expired"
    assert await square.refused(application, invited(genesis_hash=bytes(32))) == "bad-signature"
    thief = square.application(seed=b"y" * 32)
    assert await square.refused(thief, invited()) == "not-invited", "who has seen an invitation has no use for it"
    assert not square.chain.sent
    assert (await square.knock(application, invited()))[0] == ASKED


async def test_an_invitation_lets_in_once() -> None:
    square, root, guest = Square(BY_INVITATION), SigningKey(b"alpha".ljust(32)), SigningKey(b"z" * 32)
    square.root_is("alpha", root)
    mesh, application = square.chain.books.genesis.hash, square.application()
    token = invite_guest(root, genesis_hash=mesh, host=did("alpha"), guest=did("zeta"), key=guest.public, now=WALL, lifetime_s=60)
    _, id_ = await square.knock(application, token)
    assert id_ is not None
    square.vote(id_)
    assert await square.knock(application, token) == (MEMBER, None)
    square.books.by(guest, Leave(None))
    assert await square.refused(application, token) == "admission-by-vote"


async def test_an_application_is_read_before_anything_is_done(opened: Square) -> None:
    assert await opened.refused("mesh-application1-AAAA") == "application-malformed"
    elsewhere = applying.of_root(
        SigningKey(b"z" * 32), certificates.new_root(SigningKey(b"z" * 32), did("zeta"), now=WALL), bytes(32), did("zeta")
    )
    assert await opened.refused(elsewhere) == "wrong-mesh"
    assert not opened.chain.sent


async def let_in(square: Square, number: int, address: str) -> None:
    _, id_ = await square.knock(square.application(f"org{number}", number.to_bytes(32, "big")), address=address)
    assert id_ is not None
    square.vote(id_)


async def test_it_opens_so_often_an_hour(opened: Square) -> None:
    for number in range(ADMISSIONS):
        await let_in(opened, number, f"192.0.2.{number}")
    assert await opened.refused(opened.application()) == "busy"
    opened.now += HOUR_S / ADMISSIONS
    assert (await opened.knock(opened.application()))[0] == ASKED


async def test_and_less_often_for_one_address(opened: Square) -> None:
    for number in range(PLACES_A_BLOCK):
        await let_in(opened, number, "2001:db8::1")
    assert await opened.refused(opened.application(), address="2001:db8::2") == "busy", "it is the same network"
    assert (await opened.knock(opened.application(), address="2001:db8:0:1::2"))[0] == ASKED


async def test_half_of_the_open_motions_are_left_to_its_people(opened: Square) -> None:
    for number in range(MAX_MOTIONS // 2):
        await opened.knock(opened.application(f"org{number}", number.to_bytes(32, "big")))
    assert await opened.refused(opened.application()) == "busy"
    opened.chain.books.do("alpha-1", Move(Configure((("admission", BY_VOTE),))))


@pytest.mark.parametrize("late", [False, True], ids=["they are told", "they are told to ask again"])
async def test_nor_do_those_take_more_who_knock_at_once(opened: Square, monkeypatch: pytest.MonkeyPatch, late: bool) -> None:
    deciding, told, move = trio.Event(), list[str](), MotionDesk.move
    applications = [opened.application(f"org{number}", number.to_bytes(32, "big")) for number in range(MAX_MOTIONS)]

    async def after_a_block(self: MotionDesk, kind: str, what: object, key: str, timeout_s: float) -> Json:
        if late and not deciding.is_set():
            raise Unreachable("unknown-yet", "the ledger has not said yet", outcome="unknown")
        await deciding.wait()
        return await move(self, kind, what, key, timeout_s)

    async def knock(number: int) -> None:
        try:
            told.append((await opened.knock(applications[number]))[0])
        except MeshError as error:
            told.append(error.name)

    monkeypatch.setattr(MotionDesk, "move", after_a_block)
    async with trio.open_nursery() as nursery:
        for number in range(MAX_MOTIONS):
            nursery.start_soon(knock, number)
        await trio.testing.wait_all_tasks_blocked()
        deciding.set()
    half = MAX_MOTIONS // 2
    assert sorted(told) == sorted(["unknown-yet" if late else ASKED, "busy"] * half)
    if late:  # who was told so asks again, and is not counted twice
        told.clear()
        for number in range(MAX_MOTIONS):
            await knock(number)
        assert sorted(told) == sorted([ASKED, "busy"] * half)
    opened.chain.books.do("alpha-1", Move(Configure((("admission", BY_VOTE),))))


async def test_what_is_refused_makes_the_door_forget_nobody(opened: Square, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "REMEMBERED", 2)
    await let_in(opened, 1, "192.0.2.1")
    application = opened.application()
    _, first = await opened.knock(application)
    assert first is not None
    for org in ("beta", "gamma"):
        opened.chain.books.do(f"{org}-1", Vote(first, False))
    for number in range(4):
        assert await opened.refused(opened.application(f"eta{number}", (1).to_bytes(32, "big"))) == "key-in-use"
    state, second = await opened.knock(application)
    assert state == ASKED and second not in (None, first)


async def test_what_the_ledger_refuses_takes_no_place(opened: Square) -> None:
    taken = opened.application("eta", b"z" * 32)
    _, id_ = await opened.knock(opened.application(seed=b"z" * 32))
    assert id_ is not None
    opened.vote(id_)
    for _ in range(2 * ADMISSIONS):
        assert await opened.refused(taken) == "key-in-use"
    assert (await opened.knock(opened.application("theta", b"t" * 32)))[0] == ASKED


async def test_a_name_is_asked_for_with_one_root_key_at_a_time(opened: Square) -> None:
    await opened.knock(opened.application())
    assert await opened.refused(opened.application(seed=b"y" * 32)) == "already-asked"
    assert len(list(queries.motions(opened.chain.books.state))) == 1


async def test_who_was_a_member_before_is_not_whoever_asks_first(opened: Square) -> None:
    opened.chain.books.do("delta-root", Leave(None))
    assert await opened.refused(opened.application("delta")) == "admission-by-vote"
    assert not opened.chain.sent


def test_its_seeds_are_itself_then_one_of_each_organisation(opened: Square) -> None:
    names = ["beta-2", "beta-1", "gamma-1", "alpha-1", "delta-1", *(f"beta-{number}" for number in range(3, 30))]
    opened.members = [member(name, state="dead" if name == "delta-1" else "alive") for name in names]
    seeds = opened.door.seeds()
    assert [seed.node for seed in seeds][:4] == ["alpha-1", "beta-1", "gamma-1", "beta-10"] and len(seeds) == SEEDS
    assert (seeds[0].gossip, seeds[0].link) == ("alpha-1:1", "alpha-1:2")


def member(name: str, state: str) -> MemberView:
    facts = NodeFacts(did(name.split("-")[0]), name, f"{name}:1", f"{name}:2")
    return MemberView(NodeId(name), name, facts.org, "", state, state == "alive", 1, 0.0, facts, (), None, None, ())  # type: ignore[arg-type]
