"""What people do while faults happen: they pause autonomy, and approve, reject and take back decisions, each by a key that no node has.

A person signs and gives it to whichever node runs, as with ``mesh approve --key``. The first organisation's person has by far the most
power and nobody has enough alone, so people overrule the coordinators when that one and another say the same. They mostly do: what they
think of a decision shows in its id.
"""

import random

from meshos.consensus.ledger import transaction
from meshos.consensus.ledger.approvals import APPROVE, DECISIONS, EXECUTED, OPEN, REJECT, REJECTED, REVERSE, Judge
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.keys import KEYS
from meshos.consensus.ledger.kinds import envelope_of
from meshos.consensus.ledger.people import Pause
from meshos.consensus.pbft.events import Submit
from meshos.ids import OrgDid
from meshos.node.kernel.asking import ASK_LEDGER
from meshos.protocols.ledger.port import LedgerView
from meshos.simulations.genesis import person_key
from meshos.simulations.mesh import Mesh
from meshos.simulations.work import Asking

WAITED_S = 30.0
LIFETIME_MS = 30_000
"""How long what a person signed can be committed."""


class PeopleWork:
    """Each organisation's person does something about every ACT_S seconds until ``until_s``."""

    ACT_S, PAUSE, PAUSE_MS = 3.0, 0.05, (1_000, 6_000)
    AGREE = 0.9

    def __init__(self, mesh: Mesh, asking: Asking, *, until_s: float) -> None:
        self._mesh, self._asking, self._until_s = mesh, asking, until_s
        self._rng: random.Random = mesh.world.generator("people")
        for org in mesh.holder:
            mesh.world.at(10.0 + self._rng.random(), self._act, org)

    def _act(self, org: OrgDid) -> None:
        world = self._mesh.world
        if world.now > self._until_s:
            return
        world.after(self._rng.expovariate(1 / self.ACT_S), self._act, org)
        running = [node for node in world.nodes.values() if node.alive and not node.paused]
        if not running:
            return
        node, name = self._rng.choice(running), person_key(org)
        ledger = self._mesh.assemblies[node.name].window
        key = None if ledger.restoring else KEYS.read(ledger, name)
        body = None if key is None else self._body(ledger, name)
        if key is None or body is None:
            return
        envelope = envelope_of(body, name, key.nonce, ledger.time_ms + LIFETIME_MS)
        signature = self._mesh.authority.signer(name).sign(transaction.domain(self._mesh.genesis.hash), envelope)
        self._asking.ask(node, ASK_LEDGER, Submit(transaction.request(envelope, signature)), WAITED_S)

    def _body(self, ledger: LedgerView, name: str) -> Body | None:
        if self._rng.random() < self.PAUSE:
            return Pause(self._rng.randrange(*self.PAUSE_MS), "to look at it")
        possible = []
        for key, value in ledger.scan(DECISIONS.prefix):
            id_, decision = key.removeprefix(DECISIONS.prefix), DECISIONS.decode(value)
            act = self._wish(id_, decision.status)
            if act and (name, act) not in decision.people:
                possible.append(Judge(id_, act, "as people see it"))
        return self._rng.choice(possible) if possible else None

    def _wish(self, id_: bytes, status: str) -> str:
        """What a person wants of a decision that stands so; nothing of every third."""
        if not id_[0] % 3:
            return ""
        wanted = (id_[0] % 3 == 1) == (self._rng.random() < self.AGREE)
        return {OPEN: APPROVE if wanted else REJECT, REJECTED: APPROVE if wanted else "", EXECUTED: "" if wanted else REVERSE}.get(
            status, ""
        )
