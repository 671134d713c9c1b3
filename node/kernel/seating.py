"""The seat of an organisation whose voting node is gone: its other nodes move it, where more than half agree (DESIGN.md, "Validators").

Every LOOK_S each node notes whether it misses the node that holds the seat. The node that leads the organisation asks the others for it,
once it has missed that node for ABSENT_LOOKS in a row and has all blocks itself. Who is asked signs (``consensus/ledger/seats.py``) if it
has missed that node for as long, by its own eyes. With the leader they must be more than half of the organisation's registered nodes, so no
single node takes the vote along; where an organisation has only one, or too few are left, the root key moves the seat (``mesh org seat``).

*Missed* is what this node has found out itself: membership does not hold that node for routable any more, and it does not answer when it is
asked over the link. Routable ends by this node's own failed probes, but also where two organisations say ``dead``, or one of the own nodes
does among very few (``protocols/membership/judgement.py``). The question at the end takes these words out: nobody's word makes a node miss
another that it can reach. That others suspect it counts for nothing, since any one organisation can keep a live node suspected.

Membership is a hint, and here it moves nothing that could be unsafe: both nodes vote with keys of their own, the move is a transaction in
force from a checkpoint on, and until then it is the old node's vote that counts. A node that came back too late follows from then on.
The node that leads takes the seat, or another one does: what the ledger would refuse (a burnt key) is not asked for, and after a
transaction that came to nothing it is another's turn, ever later. Only a node that agrees takes a seat, and none that lacks blocks, or is a
leaf as far as those know that sign.

The statement names how often the seat was moved before, and an end that is near: signatures that are left over are worth nothing after the
next move, nor in the next outage.
"""

from collections.abc import Callable, Sequence, Set

from meshos import cbor
from meshos.consensus.ledger.draft import Draft
from meshos.consensus.ledger.fields import is_key, is_number, is_signature
from meshos.consensus.ledger.limits import MAX_KEY_CHARS, STATEMENT_MS
from meshos.consensus.ledger.members import ORGS, Org
from meshos.consensus.ledger.quarantine import in_quarantine
from meshos.consensus.ledger.seats import SEATS, Seat, check_end, set_seat, statement
from meshos.consensus.ledger.transaction import domain
from meshos.consensus.org.machine import Lead
from meshos.crypto.signing import Claim, Verifier
from meshos.effects import Ok, Outcome
from meshos.errors import MeshError, Refused
from meshos.flow import Ask, Compute, Gather, Port, Propose, Sleep
from meshos.ids import NodeId, Peer
from meshos.protocols.leader.limits import WORD_S
from meshos.protocols.ledger.port import LedgerView
from meshos.protocols.ledger.sender import MACHINE as TRANSACTIONS
from meshos.protocols.ledger.sender import Send
from meshos.protocols.ledger.slots import Concluded
from meshos.protocols.membership.probing import PROBE_PROTOCOL
from meshos.protocols.rpc.events import Inbound
from meshos.protocols.tasks.ports import SignBytes

SEAT = "/meshos/seat/1"
"""The service by which nodes of one organisation agree to a move of its seat."""
LOOK_S = 5.0
PROBE_S = 2.0
"""How long a node that nothing else is heard of has to answer over the link."""
MOST_REST = 11
"""Looks between two transactions, at most: doubling from none, after those that were in vain. So one comes a minute."""
MAX_ASK_BYTES = MAX_KEY_CHARS + 32
ABSENT_LOOKS = 12
"""A minute: far longer than a restart takes, and a mesh decides without one of its validators meanwhile."""


class Seating:
    """The Flows of one node. ``routable`` gives those of its organisation that membership would send work to, ``behind`` the blocks it
    lacks; ``is_leaf`` says of whom membership knows that nobody can dial it."""

    def __init__(
        self,
        me: Peer,
        *,
        office: Lead,
        ledger: LedgerView,
        verifier: Verifier,
        genesis_hash: bytes,
        routable: Callable[[], Set[NodeId]],
        wall_ms: Callable[[], int],
        behind: Callable[[], int],
        is_leaf: Callable[[NodeId], bool] = lambda node: False,
    ) -> None:
        self._me = me
        self._office = office
        self._ledger = ledger
        self._verifier = verifier
        self._domain = domain(genesis_hash, "seat")
        self._routable, self._wall_ms, self._behind, self._is_leaf = routable, wall_ms, behind, is_leaf
        self._turn = 0  # whose it is to take it
        self._sent = 0  # transactions, since it is missed
        self._rest = 0  # looks that are left until the next
        self._missed: tuple[NodeId | None, int] = (None, 0)  # whom, in how many looks in a row

    async def keep(self, _: object) -> None:
        """Never ends. What fails (too few agree, the ledger refuses) is tried again at the next look."""
        while True:
            await Sleep(LOOK_S)
            try:
                await self._look()
            except MeshError:
                continue

    async def agree(self, inbound: Inbound) -> bytes:
        """The service SEAT: this node's signature on a move of the seat.

        Raises Refused ``bad-message``, ``key-unknown``, ``seat-held``, ``statement-used``, ``statement-expired``, ``seat-behind``, and as
        ``_check``.
        """
        node, moves, ends_ms = _read(inbound.body)
        org = self._org()
        if org is None or not {inbound.peer.node, node} <= set(org.nodes):
            raise Refused("key-unknown", f"{inbound.peer.node} or {node} is no node of {self._me.org} that the ledger knows")
        holder = self._holder()
        if holder is None or holder == node or not self._is_gone() or not await self._misses(holder):  # it may have come back just now
            raise Refused("seat-held", f"{self._me.node} has not missed the node that votes for {self._me.org} for long enough")
        if moves != org.moves:
            raise Refused("statement-used", f"this is about move {moves} of the seat of {self._me.org}; the next is {org.moves}")
        check_end(ends_ms, self._now_ms())
        if node == self._me.node and self._behind():
            raise Refused("seat-behind", f"{node} lacks blocks, and cannot vote before it has caught up")
        self._check(node)
        return await Port[bytes](SignBytes(self._domain, statement(self._me.org, node, moves, ends_ms)))

    # -- parts -------------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        holder, (missed, looks) = self._holder(), self._missed
        if holder is None or not await self._misses(holder):
            self._missed, self._turn, self._sent, self._rest = (holder, 0), 0, 0, 0
            return
        self._missed = (holder, looks + 1 if holder == missed else 1)
        org = self._org()
        if org is None or self._office.lead is None or self._behind() or not self._is_gone() or self._me.node not in org.nodes:
            return
        if self._rest:
            self._rest -= 1
            return
        others = sorted((self._routable() & {NodeId(node) for node in org.nodes}) - {self._me.node, holder})
        takers = [node for node in (self._me.node, *others) if self._may_take(node)]
        if takers:
            await self._move(takers[self._turn % len(takers)], org, others)

    async def _move(self, taker: NodeId, org: Org, others: Sequence[NodeId]) -> None:
        """The seat goes to ``taker``, if more than half agree: this node, the one that takes it, and as many more as it takes."""
        ends_ms = self._now_ms() + STATEMENT_MS // 2  # clocks may differ by as much
        agreed = await self._ask(taker, org.moves, ends_ms, sorted(others, key=lambda node: node != taker))
        needed = len(org.nodes) // 2
        if taker not in (self._me.node, *(node for node, _ in agreed)):
            self._turn += 1
        elif len(agreed) >= needed:
            sent, self._sent, self._turn = self._sent, self._sent + 1, self._turn + 1
            self._rest = min(MOST_REST, 2 ** min(sent, 4) - 1)
            seat = Seat(self._me.org, taker, org.moves, agreed[:needed], ends_ms)
            await Propose[Concluded](Send(f"seat/{org.moves}/{ends_ms}".encode(), seat), to=TRANSACTIONS)

    async def _ask(self, taker: NodeId, moves: int, ends_ms: int, others: Sequence[NodeId]) -> tuple[tuple[str, bytes], ...]:
        """Who of the others agrees, in their order, each with its signature.

        Each is verified here: with one that does not hold, the ledger would have none of the others either.
        """
        body, said = cbor.encode([taker, moves, ends_ms]), statement(self._me.org, taker, moves, ends_ms)
        outcomes: Sequence[Outcome[bytes]] = await Gather(*(Ask(node, SEAT, body, WORD_S) for node in others), each=True)
        replies = [(node, outcome.value) for node, outcome in zip(others, outcomes, strict=True) if isinstance(outcome, Ok)]
        claims = [Claim(node, self._domain, said, reply) for node, reply in replies if is_signature(reply)]
        holds = await Compute(lambda: self._verifier.verify_many(claims), cost_s=0.0001 * len(claims))
        return tuple((claim.signer, claim.signature) for claim, good in zip(claims, holds, strict=True) if good)

    def _may_take(self, node: NodeId) -> bool:
        try:
            self._check(node)
        except Refused:
            return False
        return True

    def _check(self, node: NodeId) -> None:
        """Raise Refused as ``set_seat`` where the ledger, as this node knows it, would not give ``node`` the seat; and ``quarantined``: one
        coordinator alone may put a node there, and with its seat at it the organisation would judge nothing (``seats.judging``); and
        ``leaf-no-seat`` where nobody can dial it.
        """
        if self._is_leaf(node):
            raise Refused("leaf-no-seat", f"{node} is a leaf: nobody can dial it, and it does not vote for its organisation")
        draft = Draft(self._ledger, self._ledger.height + 1, self._ledger.time_ms + 1)
        set_seat(draft, self._me.org, node)
        if in_quarantine(draft, node):
            raise Refused("quarantined", f"{node} is in quarantine: no seat goes there but by the root key")

    async def _misses(self, holder: NodeId) -> bool:
        if holder == self._me.node or holder in self._routable():
            return False
        try:
            await Ask(holder, PROBE_PROTOCOL, b"", PROBE_S, retries=0, lane="control")
        except MeshError:
            return True
        return False

    def _now_ms(self) -> int:
        """The ledger's clock stands still while nothing happens there, ours does not."""
        return max(self._wall_ms(), self._ledger.time_ms)

    def _is_gone(self) -> bool:
        holder, (missed, looks) = self._holder(), self._missed
        return holder is not None and holder == missed and looks >= ABSENT_LOOKS

    def _holder(self) -> NodeId | None:
        held = None if self._ledger.restoring else SEATS.read(self._ledger, b"")
        return None if held is None else next((entry.node for entry in held.entries if entry.org == self._me.org), None)

    def _org(self) -> Org | None:
        return None if self._ledger.restoring else ORGS.read(self._ledger, self._me.org)


def _read(body: bytes) -> tuple[NodeId, int, int]:
    match cbor.decode(body, max_bytes=MAX_ASK_BYTES, max_depth=1):
        case [node, moves, ends_ms] if is_key(node) and is_number(moves) and is_number(ends_ms):
            return NodeId(node), moves, ends_ms
    raise Refused("bad-message", "this is no question for a seat")
