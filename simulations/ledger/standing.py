"""Who is in quarantine, counted anew from what is decided, and what must hold of it.

One coordinator alone never holds more under quarantine than the risk threshold allows, however many steps it takes; nobody in quarantine
decides anything; and no node begins a task for what its own ledger has in quarantine.
"""

from meshos.consensus.ledger.actions import Quarantine
from meshos.consensus.ledger.parameters import RISK_THRESHOLD
from meshos.consensus.ledger.quarantine import QUARANTINE
from meshos.consensus.org.commands import RecordIntent
from meshos.effects import Tell
from meshos.flow import Propose
from meshos.flow_machine import Perform
from meshos.ids import OrgDid
from meshos.protocols.ledger.port import LedgerView
from meshos.simulations.world import SimNode, Violation

AGENT_RISK, ORG_RISK = 20, 90
"""In these worlds every organisation has a seat and is a coordinator."""
LOOKS = 3
"""A look may show the state of the block before. Who was in quarantine at so many in a row was so when the block in the middle was run."""


class Standing:
    """See the module's text."""

    def __init__(self) -> None:
        self._alone: dict[str, int] = {}
        self._barred: list[frozenset[str]] = [frozenset()] * LOOKS  # at the last looks
        self._said: list[set[OrgDid]] = [set(), set(), set()]  # who judged or proposed in the blocks before each of them
        self.figures: dict[str, float] = {"quarantines": 0, "quarantines on one word": 0}

    def said(self, org: OrgDid) -> None:
        """What ``org`` said of a decision was taken, in the block that is looked at next."""
        self._said[-1].add(org)

    def decided(self, action: Quarantine, *, alone: bool) -> None:
        """It was executed."""
        self.figures["quarantines"] += not action.lift
        before = self._alone.pop(action.subject, None)
        if not alone:
            return
        if action.lift:
            raise Violation("safety", f"{action.subject} is let out on the word of one")
        if before is None:
            self._alone[action.subject] = AGENT_RISK if action.subject.startswith("a-") else ORG_RISK
        self.figures["quarantines on one word"] += 1
        if sum(self._alone.values()) > RISK_THRESHOLD:
            raise Violation("safety", f"{sorted(self._alone)} are in quarantine on nobody's word but single ones")

    def look(self, ledger: LedgerView) -> None:
        """After a block."""
        if ledger.restoring:
            return
        names = (key.removeprefix(QUARANTINE.prefix).decode() for key, _ in ledger.scan(QUARANTINE.prefix))
        self._barred = [*self._barred[1:], frozenset(names)]
        liars = self._said[1].intersection(*self._barred)
        if liars:
            raise Violation("safety", f"{sorted(liars)} decide while they are in quarantine")
        self._said = [*self._said[1:], set()]

    def begins(self, node: SimNode, ledger: LedgerView, effects: list[object]) -> None:
        """``effects`` of the node's Flows: those that begin a task."""
        for effect in effects:
            if type(effect) is Tell and type(effect.event) is Perform and isinstance(effect.event.operation, Propose):
                intent = effect.event.operation.command
                if isinstance(intent, RecordIntent) and not ledger.restoring:
                    self._check(node, ledger, intent)

    def _check(self, node: SimNode, ledger: LedgerView, intent: RecordIntent) -> None:
        for name in (intent.agent, node.spec.org, node.name, intent.caller.org, intent.caller.node):
            if QUARANTINE.read(ledger, name) is not None:
                raise Violation("safety", f"{node.name} begins {intent.task} while {name} is in quarantine")
