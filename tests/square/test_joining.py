"""Joining from outside where some of the nodes that are asked are silent, broken, or lie: the others are believed, and the ledger."""

import socket
from collections.abc import Mapping
from dataclasses import replace

import pytest
import trio

from meshos.crypto.keys import SigningKey, multikey, node_id
from meshos.errors import BadInput, Broken, Failed, MeshError, Refused, Unreachable
from meshos.genesis import Genesis
from meshos.ids import OrgDid
from meshos.node import joining
from meshos.node.joining import Asked, be_admitted, learn
from meshos.node.runtime.square.asking import Where
from meshos.node.runtime.square.square import Place
from meshos.protocols.square import describe, headers, join, proof, wire
from meshos.protocols.square.answering import Answer, Answering, Asker
from meshos.protocols.square.budget import Budget
from meshos.protocols.square.join import ASKED, MEMBER, SeedEntry
from tests.ledger_tree.chains import founded
from tests.square.hosts import opened, port, square
from tests.square.mesh import GENESIS, ME, TEMPLATE, Mesh, mesh, reading

HASH = GENESIS.hash.hex()
OTHER = founded(TEMPLATE, ["a", "b", "c", "mallory"])
MESH, LATER = mesh("abcd"), mesh("abcd", "abcd")
FOUNDER, NEWCOMER = OrgDid(str(GENESIS.orgs[0].did)), OrgDid("did:mesh:enterprise:newcomer")
SLOW = "slow"
NEW_ROOT = multikey(SigningKey(b"n" * 32).public)


def seed(number: int, gossip: str = "10.0.0.1:7201", link: str = "10.0.0.1:7301") -> SeedEntry:
    return SeedEntry(node_id(SigningKey(bytes([number]) * 32).public), gossip, link)


class Door:
    """Says of everybody what it is told to say, ``states`` one after another and the last for ever, and tells of these seeds."""

    def __init__(self, *states: str, seeds: tuple[SeedEntry, ...] = ()) -> None:
        self.states, self.told, self.knocked = list(states) or [MEMBER], seeds, 0

    def policy(self) -> str:
        return "open"

    def seeds(self) -> tuple[SeedEntry, ...]:
        return self.told

    async def knock(self, application: str, invitation: str | None, address: str) -> tuple[str, bytes | None]:
        self.knocked += 1
        if self.states[min(self.knocked, len(self.states)) - 1] == SLOW:
            raise Unreachable("unknown-yet", "the ledger has not said yet", outcome="unknown")
        return self.states[min(self.knocked, len(self.states)) - 1], None


async def served(nursery: trio.Nursery, door: Door | None = None, of: Mesh = MESH, lies: Mapping[str, Answer] | None = None) -> Where:
    """A node of the mesh, which answers these protocols otherwise."""
    spoken = {protocol.name: protocol for protocol in (*reading(of.known), join.protocol(door or Door()))}
    for name, answer in (lies or {}).items():
        spoken[name] = replace(spoken[name], answer=answer)
    return Where("127.0.0.1", port(await opened(nursery, square(answers=Answering(spoken.values(), Budget())))))


def says(value: object) -> Answer:
    async def answer(fields: wire.Fields, asker: Asker) -> object:
        if isinstance(value, Exception):
            raise value
        return value

    return answer


async def never(fields: wire.Fields, asker: Asker) -> object:
    await trio.sleep_forever()


def described(**change: object) -> Answer:
    """What the node would say of its mesh, but for this."""
    honest = describe.protocol(MESH.known, lambda: ()).answer

    async def answer(fields: wire.Fields, asker: Asker) -> object:
        told = await honest(fields, asker)
        assert isinstance(told, dict)
        return told | (change if "genesis" not in fields else {"bytes": b"no genesis", "size": 10} if "garbage" in change else {})

    return answer


def after(seconds: float) -> Answer:
    """The truth, each time so much later."""

    async def answer(fields: wire.Fields, asker: Asker) -> object:
        await trio.sleep(seconds)
        return await describe.protocol(MESH.known, lambda: ()).answer(fields, asker)

    return answer


async def by_the_byte(fields: wire.Fields, asker: Asker) -> object:
    told = await describe.protocol(MESH.known, lambda: ()).answer(fields, asker)
    assert isinstance(told, dict)
    return told | {"bytes": told["bytes"][:1]} if "bytes" in told else told


LIES: dict[str, tuple[str, Answer]] = {
    "it describes nothing": (describe.NAME, says(7)),
    "its genesis is none": (describe.NAME, described(garbage=True)),
    "its genesis comes by the byte": (describe.NAME, by_the_byte),
    "it is of another mesh": (describe.NAME, described(genesis=bytes(32))),
    "it has a bug": (describe.NAME, says(ValueError("a bug"))),
    "it calls the request bad": (headers.NAME, says(BadInput("usage", "what is that"))),
    "it says that it has failed": (headers.NAME, says(Failed("cannot-write", "a disk"))),
    "it says that it is broken": (headers.NAME, says(Broken("internal", "a bug"))),
    "its headers go on without an end": (headers.NAME, says({"steps": [], "more": True, "head": None})),
    "it knows no way in": (join.NAME, says({"policy": "closed"})),
    "it says nothing at all": (describe.NAME, never),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_node_that_fails_or_lies_is_passed_over(lie: str, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "GRACE_S", 0.3)
    name, answer = LIES[lie]
    liar, honest, other = await served(nursery, lies={name: answer}), await served(nursery), await served(nursery)
    learned = await learn([liar, honest, other], HASH)
    assert (learned.genesis, learned.places) == (GENESIS, (honest, other))
    assert [place for place, _ in learned.passed] == [liar]
    assert learned.head is not None and learned.head.header.height == MESH.chain.height


async def test_who_is_quick_does_not_shut_out_those_that_need_longer(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "GRACE_S", 0.05)
    quick = await served(nursery, Door(seeds=tuple(seed(number) for number in range(10, 20))))
    slow = await served(nursery, Door(seeds=(seed(30),)), lies={describe.NAME: after(1.0)})
    learned = await learn([quick, slow, Where("127.0.0.1", 9)], HASH)
    assert learned.places == (quick, slow) and seed(30) in learned.seeds


async def test_who_asks_nodes_of_different_meshes_has_to_say_which(nursery: trio.Nursery) -> None:
    one, other = await served(nursery), await served(nursery, of=mesh("ab", genesis=OTHER))
    with pytest.raises(Refused) as caught:
        await learn([one, other], "")
    assert caught.value.name == "wrong-genesis"
    assert (await learn([one, other], OTHER.hash.hex()[:32])).places == (other,)


async def test_where_nobody_answers_the_last_ones_reason_is_told(nursery: trio.Nursery) -> None:
    liar = await served(nursery, lies={describe.NAME: says(BadInput("usage", "no"))})
    with pytest.raises(BadInput):
        await learn([Where("127.0.0.1", 9), liar], HASH)
    with pytest.raises(Unreachable):
        await learn([liar, Where("127.0.0.1", 9)], HASH)


async def test_seeds_come_from_all_and_what_nobody_can_dial_is_left_out(nursery: trio.Nursery) -> None:
    bad = (seed(1, gossip="a:1,b"), seed(2, link="10.0.0.1:0"), seed(3, gossip="nowhere"), seed(4, link="10.0.0.1:70000"))
    crowd = await served(nursery, Door(seeds=(*bad, *(seed(number) for number in range(10, 20)))))
    honest = await served(nursery, Door(seeds=(seed(10), seed(30))))
    found = (await learn([crowd, honest], HASH)).seeds
    assert [one.node for one in found[:3]] == [seed(10).node, seed(11).node, seed(30).node] and len(found) == 11


async def test_where_few_are_told_those_of_the_genesis_are_asked(nursery: trio.Nursery) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        free = int(probe.getsockname()[1])
    meeting = f"/ip4/127.0.0.1/tcp/{free}/p2p/{ME.node}"
    of = mesh("abcd", genesis=replace(GENESIS, bootstrap=(meeting,)))
    spoken = [*reading(of.known), join.protocol(Door(seeds=(seed(1), seed(2))))]
    founder = square(answers=Answering(spoken, Budget()))
    founder._place = Place("127.0.0.1", free, "127.0.0.1", ME.node)
    await opened(nursery, founder)
    lonely = await served(nursery, Door(), of)
    learned = await learn([lonely], of.known.genesis.hash.hex())
    assert learned.places == (lonely,) and [one.node for one in learned.seeds] == [seed(1).node, seed(2).node]


async def test_where_few_are_told_other_nodes_are_asked_and_what_is_no_address_is_passed_over(nursery: trio.Nursery) -> None:
    other = await served(nursery, Door(seeds=(seed(1),)))
    told = ["nonsense", f"/ip4/127.0.0.1/tcp/{other.port}/p2p/{ME.node}"]
    lonely = await served(nursery, lies={describe.NAME: described(peers=told)})
    assert [one.node for one in (await learn([lonely], HASH)).seeds] == [seed(1).node]


# -- being admitted ----------------------------------------------------------------------------------------------------


def asks(org: OrgDid = NEWCOMER, root: str = NEW_ROOT) -> Asked:
    return Asked(org, root, "an application")


async def admitted(*places: Where, asked: Asked | None = None, genesis: Genesis = GENESIS) -> joining.Admitted:
    learned = joining.Learned(genesis, None, 4, places, (), ())
    return await be_admitted(learned, asked or asks(), lambda: None)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"ADMISSION_S": 0.3, "ELSEWHERE_S": 0.1, "POLL_S": 0.05, "PROOF_S": 0.2, "PROOF_POLL_S": 0.05}.items():
        monkeypatch.setattr(joining, name, seconds)


async def test_a_member_is_one_when_the_ledger_proves_it(nursery: trio.Nursery, hasty: None) -> None:
    place = await served(nursery, Door(SLOW, ASKED, MEMBER))
    done = await admitted(place, asked=asks(FOUNDER, GENESIS.orgs[0].root_key))
    assert done == joining.Admitted(True, (place,))


async def test_who_is_a_member_by_another_root_key_is_refused_whatever_the_node_says(nursery: trio.Nursery, hasty: None) -> None:
    with pytest.raises(Refused) as caught:
        await admitted(await served(nursery), await served(nursery), asked=asks(FOUNDER))
    assert caught.value.name == "already-a-member" and "the ledger proves" in caught.value.detail


async def test_who_has_rotated_its_root_key_in_the_newest_block_is_not_refused(nursery: trio.Nursery, hasty: None) -> None:
    place = await served(nursery)
    rotated = Asked(FOUNDER, NEW_ROOT, "an application", former=GENESIS.orgs[0].root_key)
    assert await admitted(place, asked=rotated) == joining.Admitted(False, (place,))


async def test_what_no_block_can_prove_yet_is_said_to_be_a_nodes_word(nursery: trio.Nursery, hasty: None) -> None:
    place, other = await served(nursery), await served(nursery, of=mesh("abcd", blocks=False))
    assert await admitted(place, other) == joining.Admitted(False, (place, other))


async def test_a_node_that_calls_somebody_a_member_and_shows_a_later_block_without_them_lies(nursery: trio.Nursery, hasty: None) -> None:
    shown = [proof.protocol(of.known).answer for of in (MESH, LATER)]

    async def goes_on(fields: wire.Fields, asker: Asker) -> object:
        return await (shown.pop(0) if len(shown) > 1 else shown[0])(fields, asker)

    with pytest.raises(Refused) as caught:
        await admitted(await served(nursery, lies={proof.NAME: goes_on}))
    assert caught.value.name == "square-bad-answer" and "the ledger proves that it is not" in caught.value.detail


async def test_a_node_that_only_promises_holds_nobody_up_and_the_next_one_admits(nursery: trio.Nursery, hasty: None) -> None:
    promising, door = await served(nursery, Door(ASKED)), Door(ASKED, MEMBER)
    honest = await served(nursery, door)
    done = await admitted(promising, honest, asked=asks(FOUNDER, GENESIS.orgs[0].root_key))
    assert done == joining.Admitted(True, (honest,)) and door.knocked == 2


REFUSALS: list[tuple[MeshError, MeshError, str]] = [
    (Refused("admission-by-vote", "people"), Refused("square-bad-answer", "what"), "admission-by-vote"),
    (Refused("square-busy", "later"), Refused("not-invited", "who are you"), "not-invited"),
    (Unreachable("square-unreachable", "gone"), Refused("no-voice", "another has it"), "no-voice"),
]


@pytest.mark.parametrize(("one", "other", "told"), REFUSALS)
async def test_of_several_reasons_the_one_that_a_door_gave_is_told(
    one: MeshError, other: MeshError, told: str, nursery: trio.Nursery, hasty: None
) -> None:
    places = [await served(nursery, lies={join.NAME: says(error)}) for error in (one, other)]
    with pytest.raises(MeshError) as caught:
        await admitted(*places)
    assert caught.value.name == told


async def test_who_is_asked_for_and_not_agreed_on_may_ask_again(nursery: trio.Nursery, hasty: None) -> None:
    with pytest.raises(Unreachable) as caught:
        await admitted(await served(nursery, Door(ASKED)), Where("127.0.0.1", 9))
    assert caught.value.name == "unknown-yet"


@pytest.mark.parametrize("told", ["/dns/x/tcp/\u00b2", "a..b:1", "/dns/" + "a" * 64 + "/tcp/1", "/dns/a..b/udp/1/quic-v1"])
async def test_what_one_node_says_of_where_others_are_ends_nobodys_joining(told: str) -> None:
    found = await joining._asked(joining._others([told], []), "", 3.0)
    assert all(isinstance(answer, MeshError) and answer.name == "square-unreachable" for _, answer in found)
