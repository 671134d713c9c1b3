"""What an autonomous decision may do: a short list of actions, each typed, with its risk and its way back.

The *risk* of an action is a whole number from 0 to MAX_RISK. Every replica computes it from the state; nobody is asked for it.

parameters   for each parameter, its sensitivity (``parameters.py``) times how far it then is from what several have decided last, in
             percent of that, at most 100 (a doubling; to nothing); the sum over all. So what one coordinator may do alone it may not
             do again and again: many small steps have the risk of the large one
quarantine   of an agent 20, of a node 20, of an organisation 40;
             and 30 for a node that votes or an organisation that has a seat; and 20 for a meta-coordinator
             and, for each other subject that one coordinator alone has put under quarantine or let out, and that several have not decided
             on since, its risk too (``quarantine.py``): as with parameters, many small steps have the risk of the large one
lift         as the quarantine of the same subject, and 10: letting somebody back in is no routine

Several confirm what one has put under quarantine by deciding for the same again: that is theirs alone, and has the highest risk.

With the threshold of 25 that parameters begin with, coordinators put one agent or node under quarantine and turn a parameter a little by
themselves, and ask each other for anything more.
"""

from typing import Protocol

from meshos import cbor
from meshos.consensus.ledger.commitments import COMMITMENTS
from meshos.consensus.ledger.draft import Draft
from meshos.consensus.ledger.fields import is_name, malformed
from meshos.consensus.ledger.keys import KEYS, NODE
from meshos.consensus.ledger.limits import MAX_RISK
from meshos.consensus.ledger.members import ORGS, coordinators
from meshos.consensus.ledger.parameters import SPECS, changed, parameters, read_changes, set_parameters
from meshos.consensus.ledger.quarantine import QUARANTINE, in_quarantine, set_quarantine, unsettled
from meshos.consensus.ledger.seats import seat_of, seats
from meshos.errors import Refused
from meshos.values import frozen

AGENT_RISK, NODE_RISK, ORG_RISK, SEAT_RISK, COORDINATOR_RISK, LIFT_RISK = 20, 20, 40, 30, 20, 10

assert ORG_RISK + SEAT_RISK + COORDINATOR_RISK + LIFT_RISK <= MAX_RISK


class Action(Protocol):
    """What a decision does."""

    __slots__ = ()

    def fields(self) -> list[object]:
        """Its CBOR value; ``read_action`` takes it back."""
        ...

    def risk(self, draft: Draft) -> int:
        """From 0 to MAX_RISK."""
        ...

    def check(self, draft: Draft) -> None:
        """Raise Refused if it could not be done now."""
        ...

    def reverse(self, draft: Draft) -> "Action":
        """The action that takes back this one, if it is done now."""
        ...

    def do(self, draft: Draft, *, alone: bool = False) -> None:
        """Do it, ``alone``: on the word of one coordinator; raises Refused as ``check``, and then nothing was written."""
        ...


@frozen
class Tune(Action):
    """Parameters get other values. ``only_from``: the values that they must have for that, if not empty (a reversal)."""

    changes: tuple[tuple[str, int], ...]
    only_from: tuple[tuple[str, int], ...] = ()

    def fields(self) -> list[object]:
        """See ``Action.fields``."""
        return ["parameters", dict(self.changes), dict(self.only_from)]

    def risk(self, draft: Draft) -> int:
        """See ``Action.risk``."""
        now, changes = parameters(draft), dict(self.changes)
        moved = zip(SPECS.items(), now.settled, strict=True)
        risks = (spec.sensitivity * _distance(settled, changes.get(name, now[name])) for (name, spec), settled in moved)
        return min(MAX_RISK, sum(risks) // 100)

    def check(self, draft: Draft) -> None:
        """Raises Refused ``parameter-not-autonomous``, ``parameter-out-of-bounds`` or ``reversal-stale``."""
        now = parameters(draft)
        for name, _ in self.changes:
            if not SPECS[name].autonomous:
                raise Refused("parameter-not-autonomous", f"{name} is changed by a motion of the organisations only")
        if any(now[name] != value for name, value in self.only_from):
            raise Refused("reversal-stale", "what is to be taken back was changed again since")
        changed(now, dict(self.changes))

    def reverse(self, draft: Draft) -> "Tune":
        """See ``Action.reverse``."""
        now = parameters(draft)
        return Tune(tuple((name, now[name]) for name, _ in self.changes), self.changes)

    def do(self, draft: Draft, *, alone: bool = False) -> None:
        """As ``check``."""
        self.check(draft)
        set_parameters(draft, dict(self.changes), alone=alone)


@frozen
class Quarantine(Action):
    """``subject`` (an organisation, a node, an agent) is put under quarantine; with ``lift``, it is let out."""

    subject: str
    lift: bool = False

    def fields(self) -> list[object]:
        """See ``Action.fields``."""
        return ["lift" if self.lift else "quarantine", self.subject]

    def risk(self, draft: Draft) -> int:
        """See ``Action.risk``."""
        if not self.lift and in_quarantine(draft, self.subject):
            return MAX_RISK
        others = sum(weight for subject, weight in unsettled(draft).items() if subject != self.subject)
        return min(MAX_RISK, (LIFT_RISK if self.lift else 0) + self._weight(draft) + others)

    def _weight(self, draft: Draft) -> int:
        subject = self.subject
        if draft.read(ORGS, subject) is not None:
            seated = SEAT_RISK if seat_of(draft, subject) is not None else 0
            return ORG_RISK + seated + (COORDINATOR_RISK if subject in coordinators(draft) else 0)
        if draft.read(COMMITMENTS, subject) is not None:
            return AGENT_RISK
        return NODE_RISK + (SEAT_RISK if any(entry.node == subject for entry in seats(draft).entries) else 0)

    def check(self, draft: Draft) -> None:
        """Raises Refused ``subject-unknown``, ``already-quarantined`` or ``not-quarantined``."""
        known = in_quarantine(draft, self.subject)
        if self.lift:
            if not known:
                raise Refused("not-quarantined", f"{self.subject} is not in quarantine")
            return
        key = draft.read(KEYS, self.subject)
        node = key is not None and key.role == NODE
        if not node and draft.read(ORGS, self.subject) is None and draft.read(COMMITMENTS, self.subject) is None:
            raise Refused("subject-unknown", f"{self.subject} is no organisation, node or agent that the ledger knows")
        if known and self.subject not in unsettled(draft):
            raise Refused("already-quarantined", f"{self.subject} is in quarantine")

    def reverse(self, draft: Draft) -> "Quarantine":
        """See ``Action.reverse``."""
        return Quarantine(self.subject, not self.lift)

    def do(self, draft: Draft, *, alone: bool = False) -> None:
        """As ``check``."""
        self.check(draft)
        since_ms = draft.read(QUARANTINE, self.subject)
        if alone and since_ms is not None and not self.lift:
            raise Refused("already-quarantined", f"{self.subject} is in quarantine; only several confirm that")
        weight = self._weight(draft) if alone else None
        set_quarantine(draft, self.subject, None if self.lift else since_ms or draft.time_ms, weight)


def read_action(value: cbor.Value) -> Action:
    """An action that may be proposed; raises Refused ``transaction-malformed`` or ``parameter-unknown``."""
    match value:
        case ["parameters", changes]:
            return Tune(tuple(sorted(read_changes(changes).items())))
        case ["quarantine", subject] if is_name(subject):
            return Quarantine(subject)
        case ["lift", subject] if is_name(subject):
            return Quarantine(subject, lift=True)
    raise malformed("action of a decision")


def stored_action(value: cbor.Value) -> Action:
    """An action as it lies in the state, where it may be a reversal."""
    match value:
        case ["parameters", changes, only_from]:
            before = tuple(sorted(read_changes(only_from).items())) if only_from else ()
            return Tune(tuple(sorted(read_changes(changes).items())), before)
    return read_action(value)


def _distance(old: int, new: int) -> int:
    """How far a value moves, in percent of the old one, rounded up; at most 100."""
    return min(100, -(-abs(new - old) * 100 // max(1, old)))
