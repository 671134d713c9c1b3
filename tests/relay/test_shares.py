"""The machine ``relay``: what one organisation may have of the way to one member, and what a search does where the nearest cannot help."""

from meshos.effects import Cast, Err, Ok
from meshos.ids import NodeId, Peer
from meshos.protocols.relay import limits
from meshos.protocols.relay.events import Came, Gone, Grant
from meshos.protocols.relay.wire import REASONS, Declined, Denied, Granted, Want, decode
from tests.relay.test_machine import PEERS, A, B, C, World, ended, said, seek


def test_one_organisation_cannot_keep_the_others_from_a_member_by_asking_for_it() -> None:
    world = World()
    crowd = [Peer(NodeId(f"crowd-{number}"), A.org) for number in range(4)]
    world.linked.update({peer.node: peer for peer in crowd})
    answers = [said(world.hear(peer, Want(1, B.node)))[0] for peer in crowd for _ in range(limits.PAIRS_PER_CALLER)]
    assert sum(isinstance(answer, Granted) for answer in answers) == limits.UNJOINED_PER_ORG_AND_CALLED
    assert world.grant(PEERS[5], B), "another organisation gets there"
    world.later(limits.GRANT_S)
    assert world.figure("pairs") == 0, "and what nobody comes with ends soon"


def test_one_organisation_has_half_of_the_pairs_to_a_member_and_others_the_rest() -> None:
    world = World()
    crowd = [Peer(NodeId(f"crowd-{number}"), A.org) for number in range(limits.PAIRS_PER_CALLED)]
    world.linked.update({peer.node: peer for peer in crowd})
    for number, peer in enumerate(crowd[: limits.PAIRS_PER_ORG_AND_CALLED]):
        world.step(Came(2 * number + 1, B, world.call(2 * number, peer, B)))
    assert world.figure("pairs_joined") == limits.PAIRS_PER_ORG_AND_CALLED
    assert said(world.hear(crowd[-1], Want(1, B.node))) == [Denied(1, "relay-full")]
    assert world.grant(PEERS[5], B)
    world.step(Gone(0))
    assert world.grant(crowd[-1], B), "a place is free again"


def test_a_grant_that_is_not_needed_is_given_back_by_whoever_has_it_alone() -> None:
    world = World()
    token = world.grant(A, B)
    assert world.hear(B, Declined(token, "relay-declined")) == world.hear(C, Declined(token, "relay-declined")) == []
    assert world.figure("pairs") == 1
    world.hear(A, Declined(token, "relay-declined"))
    assert world.figure("pairs") == 0


def test_where_the_nearest_say_no_the_next_ones_are_asked_and_so_many_in_all() -> None:
    world = World()
    crowd = [Peer(NodeId(f"crowd-{number}"), C.org) for number in range(limits.ASKED + 5)]
    world.linked.update({peer.node: peer for peer in crowd})
    asked = [effect.to for effect in seek(world, 5, *crowd) if isinstance(effect, Cast)]
    assert asked == [peer.node for peer in crowd[: limits.CANDIDATES]]
    for number in range(limits.ASKED - limits.CANDIDATES):
        (cast,) = world.hear(crowd[number], Denied(1, "relay-unlinked"))
        assert isinstance(cast, Cast) and decode(cast.body) == Want(1, B.node)
        asked.append(cast.to)
    assert asked == [peer.node for peer in crowd[: limits.ASKED]]
    assert world.hear(crowd[0], Denied(1, "relay-unlinked")) == [], "it has answered"
    for number in range(limits.ASKED - limits.CANDIDATES, limits.ASKED - 1):
        assert world.hear(crowd[number], Denied(1, "relay-unlinked")) == []
    outcome = ended(world.hear(crowd[limits.ASKED - 1], Denied(1, "relay-off")))
    assert isinstance(outcome, Err) and outcome.error.name == "no-relay" and REASONS["relay-unlinked"] in outcome.error.detail
    seek(world, 6, *crowd)
    for number in range(3):
        world.hear(crowd[number], Denied(2, "relay-unlinked"))
    assert ended(world.hear(crowd[5], Granted(2, b"t" * 16))) == Ok(Grant(crowd[5].node, b"t" * 16))


def test_who_floods_is_not_even_answered() -> None:
    world = World()
    answers = [said(world.hear(A, Want(1, NodeId("nobody")))) for _ in range(100)]
    assert sum(map(len, answers)) == limits.WANTS_BURST
    assert world.grant(C, B), "others do not feel it"
    world.later(1.0)
    assert said(world.hear(A, Want(1, NodeId("nobody"))))
