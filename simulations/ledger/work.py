"""What organisations have their ledger do while faults happen: transfers, and decisions that several coordinators must approve.

All of it goes through the node's own sender of transactions, as from its API. Now and then the same is asked for again under its name,
also after a crash: it must not be done twice.
"""

import random
from dataclasses import dataclass
from functools import partial
from typing import Any

from meshos.consensus.ledger.accounts import Transfer
from meshos.consensus.ledger.actions import Action, Quarantine, Tune
from meshos.consensus.ledger.approvals import APPROVE, DECISIONS, OPEN, REJECT, WAITING, Judge, Propose
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.commitments import COMMITMENTS
from meshos.consensus.ledger.draft import Table
from meshos.consensus.ledger.parameters import PARAMETERS, SPECS
from meshos.consensus.ledger.quarantine import QUARANTINE
from meshos.effects import Ok, Outcome
from meshos.ids import NodeId
from meshos.node.kernel.asking import SEND
from meshos.protocols.ledger.sender import Send
from meshos.protocols.ledger.slots import COMMITTED, Concluded
from meshos.simulations.mesh import Mesh
from meshos.simulations.work import Asking
from meshos.simulations.world import SimNode, World
from meshos.storage.store import View

SENT_S = 60.0
"""How long somebody waits for a transaction."""
TUNED = "directory-record-ttl-ms"
"""The parameter that decisions change: a little of it is no risk, much of it is."""


@dataclass(slots=True)
class Sent:
    """A transaction that was asked for, and all that was said of it."""

    node: SimNode
    ref: bytes
    body: Body
    outcomes: list[Concluded]


class LedgerWork:
    """Each organisation's validator transfers about every ``every_s`` seconds until ``until_s``, and proposes and judges now and then."""

    AGAIN = 0.2
    DECIDE_S = 4.0

    def __init__(self, mesh: Mesh, asking: Asking, *, until_s: float, every_s: float = 1.0) -> None:
        self.world: World = mesh.world
        self.sent: dict[bytes, Sent] = {}
        self._mesh, self._asking, self._until_s, self._every_s = mesh, asking, until_s, every_s
        self._rng: random.Random = mesh.world.generator("ledger work")
        self._orgs = list(mesh.holder)
        for node in mesh.holder.values():
            mesh.world.at(4.0 + self._rng.random(), self._transfer, node)
            mesh.world.at(8.0 + self._rng.random(), self._decide, node)

    def send(self, node: SimNode, ref: bytes, body: Body) -> None:
        """Ask ``node`` to have ``body`` done under ``ref``."""
        sent = self.sent.setdefault(ref, Sent(node, ref, body, []))
        self._asking.ask(node, SEND, Send(ref, body), SENT_S, partial(self._heard, sent))

    def _heard(self, sent: Sent, outcome: Outcome[object]) -> None:
        if isinstance(outcome, Ok):
            assert isinstance(outcome.value, Concluded)
            sent.outcomes.append(outcome.value)

    def _ready(self, name: NodeId) -> SimNode | None:
        node = self.world.nodes[name]
        return node if node.alive and not node.paused else None

    # -- transfers ---------------------------------------------------------------------------------------------------

    def _transfer(self, name: NodeId) -> None:
        if self.world.now > self._until_s:
            return
        self.world.after(self._rng.expovariate(1 / self._every_s), self._transfer, name)
        node = self._ready(name)
        if node is None:
            return
        ref = f"transfer {len(self.sent)}".encode()
        body = Transfer(self._rng.choice(self._orgs), self._rng.randrange(1, 10_000_000))
        self.send(node, ref, body)
        if self._rng.random() < self.AGAIN:
            self.world.after(self._rng.uniform(0.0, 15.0), self._again, name, ref, body)

    def _again(self, name: NodeId, ref: bytes, body: Body) -> None:
        node = self._ready(name)
        if node is not None:
            self.send(node, ref, body)

    # -- decisions ---------------------------------------------------------------------------------------------------

    def _decide(self, name: NodeId) -> None:
        """Judge what waits, or propose something."""
        if self.world.now > self._until_s:
            return
        self.world.after(self._rng.expovariate(1 / self.DECIDE_S), self._decide, name)
        node = self._ready(name)
        if node is None:
            return
        ledger, org = self._mesh.assemblies[name].window, self._mesh.org_of[name]
        waiting = WAITING.read(ledger, b"") or ()
        for id_ in waiting:
            decision = DECISIONS.read(ledger, id_)
            if decision is not None and decision.status == OPEN and org not in (*decision.approved, *decision.rejected):
                act = REJECT if self._rng.random() < 0.25 else APPROVE
                self.send(node, f"judge {len(self.sent)}".encode(), Judge(id_, act, "as it seems best"))
                return
        parameters = PARAMETERS.read(ledger, b"")
        if parameters is None:
            return  # a state is being laid down
        action = self._action(ledger, parameters[TUNED])
        self.send(node, f"propose {len(self.sent)}".encode(), Propose(action, "to see"))

    def _action(self, ledger: View, ttl_ms: int) -> Action:
        draw = self._rng.random()
        if draw < 0.3:
            return Tune(((TUNED, max(SPECS[TUNED].least, ttl_ms - self._rng.randrange(1, 1 + ttl_ms // 2))),))  # small enough for one alone
        if draw < 0.5:
            return Tune(((TUNED, self._rng.randrange(SPECS[TUNED].least, 1_000_000_000)),))
        barred, agents = _names(ledger, QUARANTINE), _names(ledger, COMMITMENTS)
        if barred and self._rng.random() < 0.5:
            return Quarantine(self._rng.choice(barred), lift=True)
        orgs = not agents or (not barred and self._rng.random() < 0.7)  # of organisations only one: else nobody would be left to judge
        return Quarantine(self._rng.choice(self._orgs if orgs else agents))


def _names(ledger: View, table: Table[Any]) -> list[str]:
    return [key.removeprefix(table.prefix).decode() for key, _ in ledger.scan(table.prefix)]


def committed(sent: Sent) -> bool:
    """Whether somebody was told that it is done."""
    return any(each.outcome == COMMITTED for each in sent.outcomes)
