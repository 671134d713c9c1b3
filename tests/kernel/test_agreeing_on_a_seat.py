"""What the nodes of one organisation sign when the one that votes for it is gone, and what the one that leads makes of their answers.

The Flows of ``node/kernel/seating.py`` on a ledger to try things on (``tests/ledger/books.py``), without a world around them.
"""

from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, cast

import pytest

from meshos import cbor
from meshos.consensus.ledger import queries
from meshos.consensus.ledger.actions import Quarantine
from meshos.consensus.ledger.approvals import APPROVE, DECISIONS, OPEN, Judge, decision_id
from meshos.consensus.ledger.approvals import Propose as ProposeAction
from meshos.consensus.ledger.keys import NODE, VALIDATOR
from meshos.consensus.ledger.limits import STATEMENT_MS
from meshos.consensus.ledger.orgs import AddNode
from meshos.consensus.ledger.seats import SEATS, Seat
from meshos.consensus.org.machine import Lead
from meshos.crypto.simulated import SimulatedVerifier
from meshos.effects import Err, Ok
from meshos.errors import MeshError, Unreachable
from meshos.flow import Ask, Compute, Gather, Port, Propose, Sleep
from meshos.ids import NodeId, Peer
from meshos.node.kernel.seating import ABSENT_LOOKS, SEAT, Seating
from meshos.protocols.ledger.port import LedgerView
from meshos.protocols.ledger.sender import Send
from meshos.protocols.ledger.slots import EXPIRED, Concluded
from meshos.protocols.membership.probing import PROBE_PROTOCOL
from meshos.protocols.rpc.events import Inbound
from tests.kernel.test_news import Window
from tests.ledger.books import WORLD, Books, did
from tests.ledger.test_validators import lie

ALPHA = did("alpha")
HOLDER, SECOND, THIRD = (NodeId(f"alpha-{number}") for number in (1, 2, 3))


START_MS = Books().time_ms


def asking_for(node: str, moves: int = 0, ends_ms: int = START_MS + 60_000) -> bytes:
    return cbor.encode([node, moves, ends_ms])


def agreed_to(books: Books, action: Quarantine, by: str) -> None:
    """Several decide it, where one does not suffice."""
    id_ = decision_id(books.genesis.hash, books.do(by, ProposeAction(action, "because")))
    for other in ("beta-1", "gamma-1", "delta-1"):
        decision = DECISIONS.read(books.state, id_)
        if decision is not None and decision.status == OPEN and other != by:
            books.do(other, Judge(id_, APPROVE, "yes"))


class Siblings:
    """The nodes of alpha, ``count`` of them, all registered. The first has the seat, the second leads. ``up``: who answers."""

    def __init__(self, count: int = 3) -> None:
        self.books = Books()
        self.nodes = [NodeId(f"alpha-{number + 1}") for number in range(count)]
        for node in self.nodes[1:]:
            agree = [self.books.agrees(name, ALPHA, role) for name, role in ((node, NODE), (f"{node}-votes", VALIDATOR))]
            self.books.do("alpha-root", AddNode(ALPHA, node, f"{node}-votes", *agree))
        self.up = set(self.nodes)
        self.routable = set(self.nodes)
        self.lies: dict[NodeId, bytes] = {}
        """What these nodes answer, whatever they are asked for."""
        self.behind: set[NodeId] = set()
        """Who lacks blocks."""
        self.leaves: set[NodeId] = set()
        """Whom nobody can dial, as all of them know."""
        self.outcome: str | None = None
        """How every transaction ends, instead of what the ledger does with it."""
        self.wall_ms = self.books.time_ms
        self.tried = False
        self.asked = 0
        self.sent: list[Seat] = []
        self.flows = {node: self._seating(node) for node in self.nodes}
        self._looking = {node: flows.keep(None) for node, flows in self.flows.items()}
        for looking in self._looking.values():
            looking.send(None)

    @property
    def holder(self) -> str:
        held = SEATS.read(self.books.state, b"")
        assert held is not None
        return next(entry.node for entry in held.entries if entry.org == ALPHA)

    def end(self, *nodes: NodeId) -> None:
        self.up -= set(nodes)
        self.routable -= set(nodes)

    def look(self, times: int = 1) -> None:
        """All that are there look so often."""
        for _ in range(times):
            for node in sorted(self.up):
                self._run(node, self._looking[node], None)

    def ask(self, node: NodeId, body: bytes, by: str = SECOND) -> bytes:
        """What ``node`` answers to ``by``, who wants the seat."""
        inbound = Inbound(Peer(NodeId(by), ALPHA), SEAT, body, 60.0)
        return cast(bytes, self._run(node, self.flows[node].agree(inbound)))

    def refusal(self, node: NodeId, body: bytes, by: str = SECOND) -> str:
        with pytest.raises(MeshError) as caught:
            self.ask(node, body, by)
        return caught.value.name

    # -- parts -------------------------------------------------------------------------------------------------------

    def _seating(self, node: NodeId) -> Seating:
        return Seating(
            Peer(node, ALPHA),
            office=cast(Lead, SimpleNamespace(lead=1 if node == SECOND else None)),
            ledger=cast(LedgerView, Window(self.books)),
            verifier=SimulatedVerifier(WORLD),
            genesis_hash=self.books.genesis.hash,
            routable=lambda: self.routable,
            wall_ms=lambda: self.wall_ms,
            behind=lambda: int(node in self.behind),
            is_leaf=lambda one: one in self.leaves,
        )

    def _run(self, node: NodeId, flow: Coroutine[Any, Any, object], value: object = None) -> object:
        """Until it ends, or sleeps again."""
        failed: MeshError | None = None
        while True:
            try:
                operation = flow.send(value) if failed is None else flow.throw(failed)
            except StopIteration as done:
                return done.value
            if isinstance(operation, Sleep):
                return None
            try:
                value, failed = self._do(node, operation), None
            except MeshError as error:
                failed = error

    def _do(self, node: NodeId, operation: object) -> object:
        match operation:
            case Gather():
                return [self._outcome(node, child) for child in operation.children]
            case Ask():
                return self._ask(node, operation)
            case Compute():
                return operation.work()
            case Port():
                return self.books.sign(node, operation.effect.domain, operation.effect.payload)
            case Propose():
                return self._send(node, operation.command)
        raise AssertionError(f"no use for {operation!r}")

    def _outcome(self, node: NodeId, child: object) -> Ok[object] | Err:
        try:
            return Ok(self._do(node, child))
        except MeshError as error:
            return Err(error)

    def _ask(self, node: NodeId, ask: Ask) -> bytes:
        self.tried |= ask.protocol == SEAT
        if ask.to not in self.up:
            raise Unreachable("no-link", "nobody answers")
        if ask.protocol == PROBE_PROTOCOL:
            return b""
        self.asked += 1
        return self.lies.get(ask.to) or self.ask(ask.to, ask.body, by=node)

    def _send(self, node: NodeId, send: Send) -> Concluded:
        assert isinstance(send.body, Seat)
        self.sent.append(send.body)
        request = self.books.request(node, send.body)
        if self.outcome is not None or not self.books.holds(request):
            return Concluded(send.ref, bytes(32), self.outcome or EXPIRED)
        result = self.books.block([request])[0]
        return Concluded(send.ref, result.id, result.outcome, result.name, self.books.height)


@pytest.mark.parametrize(("count", "left"), [(2, 1), (3, 1), (4, 2), (5, 2)])
def test_as_many_as_half_move_nothing_and_one_more_does(count: int, left: int) -> None:
    alpha = Siblings(count)
    others = [node for node in alpha.nodes if node not in (HOLDER, SECOND)]
    alpha.end(HOLDER)
    alpha.up -= set(others[left - 1 :])  # they were there a moment ago: the one that leads asks them too
    alpha.look(2 * ABSENT_LOOKS)
    assert alpha.tried == (len(others) > 0) and not alpha.sent and alpha.holder == HOLDER
    if others:
        alpha.up = set(alpha.nodes) - {HOLDER}
        alpha.look(ABSENT_LOOKS + 1)
        assert alpha.holder == SECOND


def test_a_leaf_takes_no_seat_and_nobody_gives_it_one() -> None:
    alpha = Siblings(3)
    leaf = alpha.nodes[2]
    alpha.leaves, alpha.outcome = {leaf}, EXPIRED
    alpha.end(HOLDER)
    alpha.look(4 * ABSENT_LOOKS)
    assert len(alpha.sent) > 2 and {seat.node for seat in alpha.sent} == {SECOND}, "however often it comes to nothing"
    alpha = Siblings(3)
    alpha.leaves = {leaf, SECOND}  # also the one that leads
    alpha.end(HOLDER)
    alpha.look(2 * ABSENT_LOOKS)
    assert not alpha.sent and alpha.holder == HOLDER
    body = cbor.encode([leaf, 0, alpha.wall_ms + 60_000])
    assert alpha.refusal(SECOND, body, by=leaf) == "leaf-no-seat"


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b"", "bad-encoding"),
        (cbor.encode(0), "bad-message"),
        (cbor.encode([SECOND, 0]), "bad-message"),
        (cbor.encode([SECOND, 0, -1]), "bad-message"),
        (cbor.encode([SECOND, 0, 2**53]), "bad-message"),
        (cbor.encode([SECOND, -1, 1]), "bad-message"),
        (cbor.encode([SECOND, True, 1]), "bad-message"),
        (cbor.encode(["k" * 65, 0, 1]), "bad-message"),
        (cbor.encode(["", 0, 1]), "bad-message"),
        (cbor.encode([bytes(8), 0, 1]), "bad-message"),
        (bytes(200), "too-large"),
    ],
)
def test_what_is_no_question_for_a_seat_is_refused(body: bytes, name: str) -> None:
    assert Siblings().refusal(THIRD, body) == name


def test_what_is_about_another_move_is_not_signed() -> None:
    alpha = Siblings()
    alpha.books.do("alpha-root", Seat(ALPHA, THIRD, 0))
    alpha.books.do("alpha-root", Seat(ALPHA, HOLDER, 1))
    alpha.end(HOLDER)
    alpha.look(ABSENT_LOOKS)
    assert [alpha.refusal(THIRD, asking_for(SECOND, moves)) for moves in (0, 1, 3)] == ["statement-used"] * 3
    assert len(alpha.ask(THIRD, asking_for(SECOND, 2))) == 64


def test_what_is_signed_has_an_end_that_is_near() -> None:
    alpha = Siblings()
    alpha.end(HOLDER)
    alpha.look(ABSENT_LOOKS)
    now = alpha.wall_ms = alpha.books.time_ms + 3_600_000  # the ledger's clock stands still while nothing happens there
    for ends_ms in (0, now - 1, now + STATEMENT_MS + 1, 2**53 - 1):
        assert alpha.refusal(THIRD, asking_for(SECOND, ends_ms=ends_ms)) == "statement-expired"
    assert len(alpha.ask(THIRD, asking_for(SECOND, ends_ms=now + STATEMENT_MS))) == 64
    alpha.wall_ms = START_MS - 3_600_000  # a clock that is behind: the ledger's counts
    assert len(alpha.ask(THIRD, asking_for(SECOND))) == 64
    alpha.look()
    assert alpha.holder == SECOND and alpha.sent[0].ends_ms > alpha.books.time_ms


def test_only_registered_nodes_ask_and_only_for_registered_ones() -> None:
    alpha = Siblings()
    alpha.end(HOLDER)
    alpha.look(ABSENT_LOOKS)
    assert alpha.refusal(THIRD, asking_for(SECOND), by="alpha-9") == "key-unknown"
    assert [alpha.refusal(THIRD, asking_for(node)) for node in ("alpha-9", "beta-1", "alpha-2-votes")] == ["key-unknown"] * 3
    assert alpha.refusal(THIRD, asking_for(HOLDER)) == "seat-held"


def test_whoever_can_be_reached_is_not_missed_though_membership_holds_it_for_dead() -> None:
    alpha = Siblings()
    alpha.routable.discard(HOLDER)
    alpha.look(2 * ABSENT_LOOKS)
    assert alpha.refusal(THIRD, asking_for(SECOND)) == "seat-held" and alpha.holder == HOLDER
    alpha.end(HOLDER)
    alpha.look(ABSENT_LOOKS + 1)
    assert alpha.holder == SECOND


def test_one_that_has_come_back_since_the_last_look_keeps_its_seat() -> None:
    alpha = Siblings()
    alpha.end(HOLDER)
    alpha.look(ABSENT_LOOKS)
    assert len(alpha.ask(THIRD, asking_for(SECOND))) == 64
    alpha.up.add(HOLDER)
    assert alpha.refusal(THIRD, asking_for(SECOND)) == "seat-held"


def test_what_is_no_signature_counts_for_nothing_and_the_others_do() -> None:
    alpha = Siblings(7)
    alpha.end(HOLDER)
    alpha.lies[THIRD] = bytes(64)
    alpha.look(ABSENT_LOOKS + 1)
    assert alpha.holder == SECOND
    assert [name for name, _ in alpha.sent[0].nodes] == ["alpha-4", "alpha-5", "alpha-6"], (
        "more than half with the one that takes it, and no more"
    )


def test_of_three_one_that_lies_is_none_that_agrees() -> None:
    alpha = Siblings()
    alpha.end(HOLDER)
    alpha.lies[THIRD] = bytes(64)
    alpha.look(2 * ABSENT_LOOKS)
    assert alpha.asked and not alpha.sent and alpha.holder == HOLDER


def test_a_seat_that_the_ledger_would_not_give_to_the_leader_goes_to_another() -> None:
    alpha = Siblings()
    alpha.books.block([lie(alpha.books, "alpha-2-votes")])
    alpha.end(HOLDER)
    alpha.look(ABSENT_LOOKS + 1)
    assert alpha.holder == THIRD and len(alpha.sent) == 1


def test_nothing_is_sent_that_the_ledger_would_refuse() -> None:
    alpha = Siblings()
    alpha.books.block([lie(alpha.books, f"alpha-{number}-votes") for number in (2, 3)])
    alpha.end(HOLDER)
    alpha.look(3 * ABSENT_LOOKS)
    assert not alpha.sent and not alpha.asked and alpha.holder == HOLDER
    assert alpha.refusal(THIRD, asking_for(SECOND)) == "key-burnt"


def test_whoever_has_not_caught_up_takes_no_seat() -> None:
    alpha = Siblings()
    alpha.books.block([lie(alpha.books, "alpha-2-votes")])
    alpha.behind = {THIRD}
    alpha.end(HOLDER)
    alpha.look(2 * ABSENT_LOOKS)
    assert alpha.asked and not alpha.sent
    assert alpha.refusal(THIRD, asking_for(THIRD)) == "seat-behind"
    alpha.behind.clear()
    alpha.look(2 * ABSENT_LOOKS)
    assert alpha.holder == THIRD


def test_what_is_in_vain_is_tried_less_and_less_often_and_for_each_that_could_take_it() -> None:
    alpha = Siblings(5)
    alpha.end(HOLDER)
    alpha.outcome = EXPIRED
    alpha.look(20 * ABSENT_LOOKS)
    assert 20 <= len(alpha.sent) <= 30, "once a minute in the end"
    assert [seat.node for seat in alpha.sent[:5]] == ["alpha-2", "alpha-3", "alpha-4", "alpha-5", "alpha-2"]
    alpha.outcome = None
    alpha.look(2 * ABSENT_LOOKS)
    assert alpha.holder in alpha.nodes[1:]


def test_no_seat_goes_to_a_node_in_quarantine() -> None:
    """One coordinator alone may put it there, and could so have a rival's organisation judge nothing."""
    alpha = Siblings()
    alpha.books.do("beta-1", ProposeAction(Quarantine(SECOND), "because"))
    alpha.end(HOLDER)
    alpha.look(ABSENT_LOOKS)
    assert alpha.refusal(THIRD, asking_for(SECOND)) == "quarantined"
    alpha.look()
    assert alpha.holder == THIRD and queries.judging(alpha.books.state) >= {ALPHA}


def test_where_all_that_are_left_are_in_quarantine_the_seat_stays() -> None:
    alpha = Siblings()
    for node, judge in ((SECOND, "beta-1"), (THIRD, "gamma-1")):
        agreed_to(alpha.books, Quarantine(node), judge)
    alpha.end(HOLDER)
    alpha.look(2 * ABSENT_LOOKS)
    assert not alpha.asked and alpha.holder == HOLDER
