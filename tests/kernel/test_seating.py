"""In a whole mesh: the seat of an organisation of three nodes goes to another one when the one that votes is gone, and only then.

What its nodes ask and sign, case by case, is in ``test_agreeing_on_a_seat.py``.
"""

from meshos import cbor
from meshos.consensus.ledger import transaction
from meshos.consensus.ledger.keys import NODE, VALIDATOR, possession
from meshos.consensus.ledger.kinds import envelope_of
from meshos.consensus.ledger.members import ORGS
from meshos.consensus.ledger.orgs import AddNode
from meshos.consensus.ledger.seats import SEATS
from meshos.consensus.pbft.events import Submit
from meshos.effects import Ok
from meshos.ids import NodeId, Peer
from meshos.node.kernel.asking import ASK_LEDGER
from meshos.node.kernel.seating import ABSENT_LOOKS, LOOK_S, SEAT
from meshos.presets import FAST, LAN, Timing
from meshos.protocols.membership import codec
from meshos.protocols.membership.events import DatagramReceived, Gossip
from meshos.protocols.membership.statements import Kind
from meshos.protocols.rpc.events import Inbound
from meshos.simulations.genesis import root_key, vote_key
from meshos.simulations.mesh import Mesh
from meshos.simulations.work import Asking
from meshos.simulations.world import WALL_BEGIN_MS, World

HOLDER, SECOND, THIRD = NodeId("n001"), NodeId("n005"), NodeId("n009")
GONE_S = LOOK_S * (ABSENT_LOOKS + 2) + 20.0
"""From a node's end until the others have missed it for long enough, and moved its seat."""


class Seated:
    """Four organisations; the first has three nodes that are registered on the ledger, and the first of them votes for it."""

    def __init__(self, timing: Timing = FAST) -> None:
        self.world = World(5)
        self.mesh = Mesh(self.world, 9, timing=timing, orgs=4, whole=True)
        self.asking = Asking(self.world)
        for node in self.world.nodes.values():
            node.start()
        self.world.run(15.0)
        self.org = self.mesh.org_of[HOLDER]
        done = [self._register(node, nonce) for nonce, node in enumerate((SECOND, THIRD))]
        self.world.run(25.0)
        assert all(isinstance(self.asking.ended[number], Ok) for number in done)
        assert ORGS.read(self.window(SECOND), self.org).nodes == (HOLDER, SECOND, THIRD)  # type: ignore[union-attr]

    def _register(self, node: NodeId, nonce: int) -> int:
        hash_, signer, key = self.mesh.genesis.hash, self.mesh.authority.signer, vote_key(node)
        agree = [possession(hash_, name, self.org, role, b"") for name, role in ((node, NODE), (key, VALIDATOR))]
        signed = [signer(claim.signer).sign(claim.domain, claim.payload) for claim in agree]
        envelope = envelope_of(AddNode(self.org, node, key, *signed), root_key(self.org), nonce, WALL_BEGIN_MS + 600_000)
        request = transaction.request(envelope, signer(root_key(self.org)).sign(transaction.domain(hash_), envelope))
        return self.asking.ask(self.world.nodes[NodeId("n002")], ASK_LEDGER, Submit(request), 10.0)

    def window(self, node: NodeId) -> object:
        return self.mesh.assemblies[node].window

    def holder(self, seen_by: NodeId = SECOND) -> NodeId:
        held = SEATS.read(self.mesh.assemblies[seen_by].window, b"")
        assert held is not None
        return next(entry.node for entry in held.entries if entry.org == self.org)

    def end(self, *nodes: NodeId) -> None:
        for node in nodes:
            self.world.nodes[node].crash()

    def accuse(self, liar: NodeId) -> None:
        """It signs that the holder is dead, in whatever incarnation it is, and tells all."""
        membership = self.mesh.membership(SECOND)
        view = membership.member(HOLDER)
        assert view is not None
        payload = codec.word_payload(Kind.DEAD, HOLDER, view.incarnation, liar)
        said = codec.statement(payload, self.mesh.authority.signer(liar).sign(membership.domain, payload))
        for node in self.mesh.ids:
            self.world.nodes[node].deliver("membership", DatagramReceived(liar, "liar:1", Gossip((said.blob,)), (said,)))

    def asked_for(self, node: NodeId, by: NodeId) -> str:
        """What ``node`` says to ``by``, who wants the seat: the name of its refusal, or nothing."""
        ends_ms = self.world.nodes[node].wall_ms() + 60_000
        inbound = Inbound(Peer(by, self.org), SEAT, cbor.encode([by, 0, ends_ms]), 60.0)
        number = self.asking.ask(self.world.nodes[node], SEAT, inbound, 5.0)
        self.run(1.0)
        ended = self.asking.ended[number]
        return "" if isinstance(ended, Ok) else ended.error.name

    def run(self, seconds: float) -> None:
        self.world.run(self.world.now + seconds)


def test_the_others_move_the_seat_of_a_node_that_is_gone_and_it_votes_from_the_next_checkpoint_on() -> None:
    seated = Seated()
    seated.end(HOLDER)
    seated.run(LOOK_S * (ABSENT_LOOKS - 2))
    assert seated.holder() == HOLDER, "a restart takes as long"
    seated.run(GONE_S)
    taker = seated.holder()
    assert taker in (SECOND, THIRD)
    seated.run(120.0)
    core = seated.mesh.assemblies[taker].ledger.core
    assert core.desk.index is not None and core.chain.validators.entries[core.desk.index].node == taker
    seated.world.nodes[HOLDER].start()
    seated.run(30.0)
    assert seated.holder(HOLDER) == taker, "who comes back too late follows"


def test_a_node_that_is_there_keeps_its_seat_whoever_asks_for_it_and_whatever_others_say_of_it() -> None:
    seated = Seated(LAN)
    assert seated.asked_for(SECOND, by=THIRD) == "seat-held"
    doubted = 0
    for _ in range(6 * ABSENT_LOOKS * round(LOOK_S)):
        seated.accuse(THIRD)
        seated.run(0.25)
        view = seated.mesh.membership(SECOND).member(HOLDER)
        doubted += view is not None and view.state == "suspect"
    assert doubted > 4 * ABSENT_LOOKS * LOOK_S, "it refutes, and is accused again at once"
    assert seated.asked_for(SECOND, by=THIRD) == "seat-held", "who has not missed it itself signs nothing"
    assert seated.holder() == HOLDER
