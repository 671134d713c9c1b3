"""What must hold of the ledger of whole nodes, counted anew from its blocks by a bookkeeper of the checker's own.

Safety, at each block as it is first decided: all decide one block at a height; no transaction is done twice; no token comes or goes, and
each organisation has what its transfers, tabs and redemptions leave it; nothing is redeemed on a tab beyond what its caller has signed;
no decision above the risk threshold is executed without max(3, f_c + 1) coordinators that have approved it in transactions of their own,
unless people with enough power approve it, and none twice; nor do decisions below it take a parameter further, together, than one may from
what several decided. What is in quarantine neither decides nor is called (``standing.py``); what people have rejected is not executed, nor
anything on the coordinators' word while they have paused that (``overruling.py``). What a node was
told of its transactions is what the blocks say. Liveness: after healing everybody is at one height with one root, and a transfer of
every organisation whose validator does not lie is committed in time; where validators lie, somebody has set the clocks by then.
"""

from collections import Counter

from meshos import cbor
from meshos.consensus.ledger.accounts import ACCOUNTS, Transfer
from meshos.consensus.ledger.actions import Quarantine, Tune
from meshos.consensus.ledger.approvals import (
    APPROVE,
    DECISIONS,
    EXECUTED,
    OPEN,
    REJECTED,
    REVERSED,
    Decision,
    Judge,
    Propose,
    decision_id,
)
from meshos.consensus.ledger.commitments import COMMITMENTS
from meshos.consensus.ledger.conservation import faults
from meshos.consensus.ledger.kinds import Order, read
from meshos.consensus.ledger.parameters import PARAMETERS, RISK_THRESHOLD, SPECS
from meshos.consensus.ledger.people import Pause
from meshos.consensus.ledger.results import SKIPPED, decode_result
from meshos.consensus.ledger.tabs import TABS
from meshos.consensus.pbft.block import Block
from meshos.effects import Sign, Tell
from meshos.errors import Broken
from meshos.ids import NodeId, OrgDid
from meshos.protocols.ledger.port import LEDGER, Decided, Noticed
from meshos.protocols.ledger.slots import COMMITTED, EXPIRED, REFUSED
from meshos.protocols.payments.commands import PAYING
from meshos.simulations.genesis import ALLOCATION, person_key
from meshos.simulations.ledger.overruling import Overruling
from meshos.simulations.ledger.standing import Standing
from meshos.simulations.ledger.work import TUNED, LedgerWork, committed
from meshos.simulations.mesh import Mesh
from meshos.simulations.world import SimNode, Violation, World

MAX_PAYLOAD = 256
AFTER_THE_END = frozenset({(REJECTED, EXECUTED), (REJECTED, REVERSED), (EXECUTED, REVERSED)})
"""What people do with a decision that has ended; two steps where both are in one block."""
AUDITED = 8
"""Every so many blocks all entries are counted anew."""


class LedgerChecker:
    """See the module's text. ``finish`` lets time pass: nobody asks for anything any more but it."""

    CAUGHT_UP_S, SERVED_S = 25.0, 20.0

    def __init__(self, mesh: Mesh, work: LedgerWork) -> None:
        self._mesh, self._work = mesh, work
        self._headers: list[bytes] = []
        self._done: dict[bytes, tuple[str, int]] = {}  # by the transaction's id: how it ended, at which height
        self._moved: Counter[OrgDid] = Counter()
        self._signed: dict[bytes, int] = {}  # by tab: the most that its caller has signed
        self._tabs: dict[bytes, tuple[str, str, int]] = {}  # caller's organisation, provider, redeemed
        self._approved: dict[bytes, set[OrgDid]] = {}
        self._status: dict[bytes, str] = {}
        self._tuned = self._settled = 0  # what a parameter is, and what it was when several coordinators last decided on it
        self._standing = Standing()
        self._people = frozenset(map(person_key, mesh.holder))
        self._overruling = Overruling(mesh.genesis)
        self.figures: dict[str, float] = dict.fromkeys(
            ("blocks", "transactions done", "transfers told", "decisions approved", "decisions ended", "redeemed micro"), 0
        )

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """See ``Checker``."""
        if machine == PAYING:
            for effect in effects:
                if type(effect) is Sign:
                    self._sign(effect.payload)
        if machine == "flows":
            self._standing.begins(node, self._mesh.assemblies[node.name].window, effects)
        if machine != LEDGER:
            return
        seen: set[int] = set()
        for effect in effects:
            if type(effect) is not Tell:
                continue
            told = effect.event
            if type(told) is Decided and id(told) not in seen:
                seen.add(id(told))
                self._decided(node, told)
            elif type(told) is Noticed and isinstance(told.error, Broken):
                raise Violation("safety", f"{node.name}: {told.error}")

    # -- blocks ------------------------------------------------------------------------------------------------------

    def _sign(self, payload: bytes) -> None:
        match cbor.decode(payload, max_bytes=MAX_PAYLOAD):
            case [bytes() as tab, int() as micro]:
                self._signed[tab] = max(micro, self._signed.get(tab, 0))

    def _decided(self, node: SimNode, decided: Decided) -> None:
        block = decided.certified.block
        height = block.header.height
        if height <= len(self._headers):
            if self._headers[height - 1] != block.header.hash:
                raise Violation("safety", f"{node.name} decides another block at height {height} than was decided")
            return
        if height != len(self._headers) + 1:
            raise Violation("safety", f"{node.name} decides height {height} before {len(self._headers) + 1}")
        self._headers.append(block.header.hash)
        self.figures["blocks"] = height
        self._count(block, decided.results, height)
        self._look(node.name, height)

    def _count(self, block: Block, results: tuple[bytes, ...], height: int) -> None:
        for request, encoded in zip(block.requests, results, strict=True):
            result, order = decode_result(encoded), read(request)
            if result is None or not isinstance(order, Order):
                continue
            before = self._done.get(result.id)
            if before is not None and before[0] != SKIPPED:
                raise Violation("safety", f"the transaction {result.id.hex()} of height {before[1]} ends again at height {height}")
            self._done[result.id] = (result.outcome, height)
            if result.outcome == COMMITTED:
                self.figures["transactions done"] += 1
                self._do(order, result.id, block.header.time_ms)

    def _do(self, order: Order, id_: bytes, time_ms: int) -> None:
        if order.transaction.key in self._people:
            if isinstance(order.body, Judge):
                self._overruling.judged(order.transaction.key, order.body)
            elif isinstance(order.body, Pause):
                self._overruling.paused(order.body, time_ms)
            return
        org, body = self._mesh.org_of[NodeId(order.transaction.key)], order.body
        if isinstance(body, Propose | Judge):
            self._standing.said(org)
        if isinstance(body, Transfer):
            self._moved[org] -= body.micro
            self._moved[body.to] += body.micro
        elif isinstance(body, Propose):
            self._approved[decision_id(self._mesh.genesis.hash, id_)] = {org}
        elif isinstance(body, Judge) and body.act == APPROVE:
            self._approved[body.decision].add(org)
            self.figures["decisions approved"] += 1

    # -- the state after them ----------------------------------------------------------------------------------------

    def _look(self, node: NodeId, height: int) -> None:
        """At the state as ``node`` has it, which is that of this block or of the one before."""
        ledger = self._mesh.assemblies[node].window
        for key, value in ledger.scan(TABS.prefix):
            id_, tab = key.removeprefix(TABS.prefix), TABS.decode(value)
            if tab.redeemed > self._signed.get(id_, 0):
                raise Violation("safety", f"{tab.redeemed} redeemed on tab {id_.hex()}, of which {self._signed.get(id_, 0)} was signed")
            if tab.redeemed < self._tabs.get(id_, ("", "", 0))[2]:
                raise Violation("safety", f"less is redeemed on tab {id_.hex()} than before")
            self._tabs[id_] = (tab.org, tab.provider, tab.redeemed)
        tuned_by_several = False
        for key, value in ledger.scan(DECISIONS.prefix):
            id_, decision = key.removeprefix(DECISIONS.prefix), DECISIONS.decode(value)
            before = self._status.get(id_, OPEN)
            if decision.status != before:
                if (before, decision.status) not in AFTER_THE_END and before != OPEN:
                    raise Violation("safety", f"decision {id_.hex()} was {before} and is {decision.status}")
                self._status[id_] = decision.status
                self.figures["decisions ended"] += before == OPEN
                tuned_by_several |= self._ended(id_, before, decision)
        self._check_tuned(node, tuned_by_several)
        self._standing.look(ledger)
        if height % AUDITED == 0:
            self._audit(node)

    def _ended(self, id_: bytes, before: str, decision: Decision) -> bool:
        """Look at a decision with another status than ``before``; whether it is one of several, or of people, on a parameter."""
        by_people = self._overruling.ended(id_, decision)
        enough = by_people or len(self._approved.get(id_, ())) >= self._needed()
        tuned = isinstance(decision.action, Tune)
        if decision.status == EXECUTED or (decision.status == REVERSED and before != EXECUTED):
            if isinstance(decision.action, Quarantine):
                self._standing.decided(decision.action, alone=not enough and decision.status == EXECUTED)
            if decision.risk > RISK_THRESHOLD and not enough and decision.status == EXECUTED:
                raise Violation("safety", f"decision {id_.hex()} is executed, approved by {sorted(self._approved.get(id_, ()))} only")
        if decision.status == REVERSED and isinstance(decision.back, Quarantine):
            self._standing.decided(decision.back, alone=False)
        return tuned and (decision.status == REVERSED or (decision.status == EXECUTED and enough))

    def _check_tuned(self, node: NodeId, by_several: bool) -> None:
        parameters = PARAMETERS.read(self._mesh.assemblies[node].window, b"")
        if parameters is None:
            return  # a state is being laid down
        value = parameters[TUNED]
        if by_several or not self._tuned:
            self._settled = value
        elif value != self._tuned:
            risk = min(100, abs(value - self._settled) * 100 // self._settled) * SPECS[TUNED].sensitivity // 100
            if risk > RISK_THRESHOLD:
                raise Violation(
                    "safety", f"{TUNED} went from {self._settled} to {value}, a risk of {risk}, on nobody's word but single ones"
                )
        self._tuned = value

    def _needed(self) -> int:
        return max(3, (len(self._mesh.holder) - 1) // 3 + 1)

    def _audit(self, node: NodeId) -> None:
        found = faults(self._mesh.assemblies[node].window)
        if found:
            raise Violation("safety", f"the books of {node}: {found[0]}")

    # -- the end -----------------------------------------------------------------------------------------------------

    def finish(self, world: World) -> None:
        """See ``Checker``."""
        if self._mesh.liars:  # f of them leave no room for an honest validator that refuses the others' time
            for sim in world.nodes.values():
                sim.wall_offset_s = 0.0
        last = []
        for number, (org, name) in enumerate(self._mesh.holder.items()):
            if name in self._mesh.liars:
                continue  # it keeps back its own
            ref = f"last {number}".encode()
            self._work.send(world.nodes[name], ref, Transfer(org, 1))
            last.append(ref)
        world.run(world.now + self.CAUGHT_UP_S)
        for ref in last:
            if not committed(self._work.sent[ref]):
                raise Violation(
                    "stuck", f"after healing, {self._work.sent[ref].node.name} has its transfer not committed in {self.CAUGHT_UP_S:g} s"
                )
        self._check_told()
        committed_to = [
            COMMITMENTS.decode(value) for _, value in self._mesh.assemblies[self._mesh.living()[0]].window.scan(COMMITMENTS.prefix)
        ]
        self.figures |= self._standing.figures | self._overruling.figures | {"agents committed to": len(committed_to)}
        self.figures["of them withdrawn"] = sum(not one.record for one in committed_to)
        living = self._mesh.living()
        heights = {node: self._mesh.assemblies[node].window.height for node in living}
        if set(heights.values()) != {len(self._headers)}:
            raise Violation("stuck", f"heights after healing: {heights}, and {len(self._headers)} are decided")
        states = {node: dict(self._mesh.assemblies[node].window.scan(b"")) for node in living}
        first = states[living[0]]
        for node, state in states.items():
            if state != first:
                raise Violation("safety", f"{node} has another state than {living[0]} at height {heights[node]}")
        self._look(living[0], 0)
        self._check_balances(living[0])

    def _check_told(self) -> None:
        """What was said of transactions is what became of them, each time it was said."""
        for sent in self._work.sent.values():
            for told in sent.outcomes:
                ended = self._done.get(told.id)
                if {each.id for each in sent.outcomes} != {told.id}:
                    raise Violation("safety", f"{sent.ref!r} was sent as more than one transaction")
                if told.outcome == COMMITTED and (ended is None or ended != (COMMITTED, told.height)):
                    raise Violation("safety", f"{sent.ref!r} is said to be committed at {told.height}, and the ledger has {ended}")
                if told.outcome in (REFUSED, EXPIRED) and ended is not None and ended[0] == COMMITTED:
                    raise Violation("safety", f"{sent.ref!r} is said to be {told.outcome}, and was done at height {ended[1]}")
                self.figures["transfers told"] += told.outcome == COMMITTED

    def _check_balances(self, node: NodeId) -> None:
        ledger = self._mesh.assemblies[node].window
        aside: Counter[str] = Counter()
        for _, value in ledger.scan(TABS.prefix):
            tab = TABS.decode(value)
            aside[tab.org] += tab.reserved - tab.redeemed
        paid, earned = Counter[str](), Counter[str]()
        for org, provider, redeemed in self._tabs.values():
            paid[org] += redeemed
            earned[provider] += redeemed
        self.figures["redeemed micro"] = sum(paid.values())
        for did in self._mesh.holder:
            account = ACCOUNTS.read(ledger, did)
            assert account is not None
            expected = ALLOCATION + self._moved[did] - paid[did] + earned[did]
            if account.balance + aside[did] != expected:
                raise Violation("safety", f"{did} has {account.balance} and {aside[did]} set aside, and should have {expected} in all")
