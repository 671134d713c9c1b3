"""Approvals: how several coordinators decide together what none may do alone (DESIGN.md, "Approvals", "People"; VISION, 2.1).

A meta-coordinator proposes an action (``actions.py``). Where its risk is at most ``risk-threshold`` it is executed at once. Above, it
waits until max(min_approvals, f_c + 1) distinct meta-coordinators have approved it, the one that proposed it counted once, where
f_c = floor((c - 1) / 3) of the c that there are when it is counted. So among those who approve is one that does not lie. The word of
an organisation that is suspended for a lie, or in quarantine, does not count; it is counted in c all the same.

            proposed --> open --> executed --> reversed
                          | |         ^
                          | +--> rejected
                          +--> expired, failed

*open*       It ends when it is approved, when so many coordinators have rejected it that it cannot be approved any more, or when
             ``approval-timeout-ms`` of ledger time are over.
*executed*   Its action was done; *failed*: it was approved, and could not be done any more.
*rejected*   By coordinators or by people. People may still approve it.
*reversed*   People took it back.

People with 80 % of human power (``people.py``) approve what coordinators reject or have not approved, reject what they would approve, and
reverse what was executed, each with a reason. While a person has paused autonomy, nothing is proposed, and what coordinators approve is
executed when the pause ends.

*Exactly once.* A decision is done by one step of ``TRANSITIONS``, the one to *executed*, in the block in which it is decided. Its id is
the hash of the genesis and of its transaction, whose key and nonce never come again and whose bytes hold the action. An approval names
the id, in a transaction with a nonce of its own. So neither can be used again, in whatever epoch, on whatever chain.
*Under partition* only the side with a quorum has a ledger at all; the other decides nothing.
"""

import hashlib
from dataclasses import replace
from typing import ClassVar

from meshos import cbor
from meshos.consensus.ledger.actions import Action, read_action, stored_action
from meshos.consensus.ledger.agenda import DUE, PRUNE, Item, cancel, schedule
from meshos.consensus.ledger.audit import record
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.draft import Draft, Sender, Table
from meshos.consensus.ledger.fields import is_hash, is_text, malformed
from meshos.consensus.ledger.keys import HUMAN
from meshos.consensus.ledger.limits import KEPT_DECISION_MS, MAX_DECISIONS_PER_ORG, MAX_KEPT_DECISIONS_PER_ORG, MAX_OPEN_DECISIONS
from meshos.consensus.ledger.members import ORGS, coordinators, member
from meshos.consensus.ledger.packing import pack, unpack
from meshos.consensus.ledger.parameters import parameters
from meshos.consensus.ledger.people import constitution, overrule, paused, power
from meshos.consensus.ledger.seats import judging, speaks
from meshos.consensus.pbft.quorum import faults
from meshos.errors import Refused, busy
from meshos.values import frozen

OPEN, EXECUTED, REJECTED, EXPIRED, FAILED, REVERSED = "open", "executed", "rejected", "expired", "failed", "reversed"
APPROVE, REJECT, REVERSE = ACTS = ("approve", "reject", "reverse")

TRANSITIONS = frozenset(
    {
        (OPEN, EXECUTED),
        (OPEN, REJECTED),
        (OPEN, EXPIRED),
        (OPEN, FAILED),
        (REJECTED, EXECUTED),
        (EXECUTED, REVERSED),
    }
)
"""From a status to the next; no other step exists."""

TIMES_OUT = "decision"
"""On the agenda: an open decision expires; and an ended one is forgotten."""


@frozen
class Decision:
    """``by`` (a DID) proposed ``action``. ``approved`` and ``rejected``: coordinators' DIDs. ``people``: (key, approve, reject or reverse).

    ``back`` takes the action back, once it is executed. ``ended_ms`` is when it got its present status, 0 while it is open.
    """

    by: str
    action: Action
    risk: int
    expires_ms: int
    status: str = OPEN
    approved: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    people: tuple[tuple[str, str], ...] = ()
    back: Action | None = None
    ended_ms: int = 0


def _encode(d: Decision) -> bytes:
    back = None if d.back is None else d.back.fields()
    people = [(key, ACTS.index(act)) for key, act in d.people]
    return pack(d.by, d.action.fields(), d.risk, d.expires_ms, d.status, d.approved, d.rejected, people, back, d.ended_ms)


def _decode(value: bytes) -> Decision:
    by, action, risk, expires_ms, status, approved, rejected, people, back, ended_ms = unpack(value)
    done = None if back is None else stored_action(back)
    acts = tuple((key, ACTS[act]) for key, act in people)
    return Decision(by, stored_action(action), risk, expires_ms, status, tuple(approved), tuple(rejected), acts, done, ended_ms)


DECISIONS = Table(b"decision/", _encode, _decode)
WAITING: Table[tuple[bytes, ...]] = Table(b"decisions", lambda ids: pack(*ids), lambda value: tuple(unpack(value)))
"""The ids of the open decisions, oldest first."""


def decision_id(genesis_hash: bytes, transaction: bytes) -> bytes:
    """The decision that this transaction proposes."""
    return hashlib.sha256(b"meshos/decision/1\0" + genesis_hash + transaction).digest()


@frozen
class Propose(Body):
    """A meta-coordinator proposes ``action``, and approves it."""

    KIND: ClassVar[str] = "propose"

    action: Action
    reason: str

    @classmethod
    def read(cls, value: cbor.Value) -> "Propose":
        """From ``[action, reason]``; raises Refused ``transaction-malformed`` or ``parameter-unknown``."""
        match value:
            case [action, reason] if is_text(reason):
                return cls(read_action(action), reason)
        raise malformed("proposal of a decision, with a reason")

    def fields(self) -> list[object]:
        """As ``read`` takes it."""
        return [self.action.fields()[:2], self.reason]

    def apply(self, draft: Draft, by: Sender) -> None:
        """Raises Refused ``no-voice``, ``not-a-coordinator``, ``validator-suspended``, ``quarantined``, ``autonomy-paused``, ``busy``
        and as the action's ``check``.
        """
        _check_coordinator(draft, by)
        if paused(draft):
            raise Refused("autonomy-paused", "a person has paused autonomy; propose it again when that is over")
        org, waiting = member(draft, by.org), draft.read(WAITING, b"") or ()
        self.action.check(draft)
        if org.kept_decisions >= MAX_KEPT_DECISIONS_PER_ORG:
            raise busy(f"the list of decisions of {by.org}")
        org = replace(org, kept_decisions=org.kept_decisions + 1)
        draft.write(ORGS, by.org, org)
        id_ = decision_id(constitution(draft).genesis_hash, by.id)
        decision = Decision(by.org, self.action, self.action.risk(draft), draft.time_ms, approved=(by.org,))
        if decision.risk <= parameters(draft)["risk-threshold"]:
            record(draft, by.org, "proposed", id_.hex(), self.reason)
            _execute(draft, id_, decision, by.org)
            return
        if len(waiting) >= MAX_OPEN_DECISIONS or org.decisions >= MAX_DECISIONS_PER_ORG:
            raise busy("the list of decisions that wait for approval")
        expires_ms = draft.time_ms + parameters(draft)["approval-timeout-ms"]
        draft.write(ORGS, by.org, replace(org, decisions=org.decisions + 1))
        draft.write(WAITING, b"", (*waiting, id_))
        schedule(draft, DUE, Item(expires_ms, TIMES_OUT, id_))
        record(draft, by.org, "proposed", id_.hex(), self.reason)
        _settle(draft, id_, replace(decision, expires_ms=expires_ms))


@frozen
class Judge(Body):
    """The sender approves, rejects or reverses a decision: as its meta-coordinator, or as a person."""

    KIND: ClassVar[str] = "judge"

    decision: bytes
    act: str
    reason: str

    @classmethod
    def read(cls, value: cbor.Value) -> "Judge":
        """From ``[decision, approve or reject or reverse, reason]``; raises Refused ``transaction-malformed``."""
        match value:
            case [decision, "approve" | "reject" | "reverse" as act, reason] if is_hash(decision) and is_text(reason):
                return cls(decision, act, reason)
        raise malformed("judgement on a decision, with a reason")

    def fields(self) -> list[object]:
        """As ``read`` takes it."""
        return [self.decision, self.act, self.reason]

    def apply(self, draft: Draft, by: Sender) -> None:
        """Raises Refused ``decision-unknown``, ``decision-ended``, ``already-voted``; of a coordinator ``no-voice``,
        ``not-a-coordinator``, ``validator-suspended``, ``quarantined`` or ``people-only``; of a person ``no-power``, and ``reversal-stale``
        where what it would reverse was changed again since.
        """
        decision = draft.read(DECISIONS, self.decision)
        if decision is None:
            raise Refused("decision-unknown", "there is no decision with this id: it never was, or ended long ago")
        if by.role == HUMAN:
            decision = _judged_by_person(draft, decision, by, self.act)
        else:
            decision = _judged_by_coordinator(draft, decision, by, self.act)
        record(draft, by.key, self.act, self.decision.hex(), self.reason)
        if by.role == HUMAN:
            _overrule(draft, self.decision, decision, self.act)
        else:
            _settle(draft, self.decision, decision)


def _judged_by_coordinator(draft: Draft, decision: Decision, by: Sender, act: str) -> Decision:
    _check_coordinator(draft, by)
    if act == REVERSE:
        raise Refused("people-only", "people reverse decisions; coordinators propose the opposite")
    if decision.status != OPEN or decision.expires_ms <= draft.time_ms:
        raise Refused("decision-ended", f"this decision is {decision.status}, or its time is over")
    if by.org in decision.approved or by.org in decision.rejected:
        raise Refused("already-voted", f"{by.org} has judged this decision")
    if act == APPROVE:
        return replace(decision, approved=(*decision.approved, by.org))
    return replace(decision, rejected=(*decision.rejected, by.org))


def _judged_by_person(draft: Draft, decision: Decision, by: Sender, act: str) -> Decision:
    if not power(draft, by.key):
        raise Refused("no-power", f"{by.key} has no seat in a human chamber of genesis")
    running = decision.status == OPEN and decision.expires_ms > draft.time_ms
    possible = {APPROVE: running or decision.status == REJECTED, REJECT: running, REVERSE: decision.status == EXECUTED}
    if not possible[act]:
        raise Refused("decision-ended", f"this decision is {decision.status}, or its time is over: there is nothing to {act}")
    if (by.key, act) in decision.people:
        raise Refused("already-voted", f"{by.key} has said so")
    others = tuple(one for one in decision.people if one[0] != by.key)
    return replace(decision, people=(*others, (by.key, act)))


def _overrule(draft: Draft, id_: bytes, decision: Decision, act: str) -> None:
    """Do what people want, if that is enough of them."""
    if not overrule(draft, tuple(key for key, said in decision.people if said == act)):
        draft.write(DECISIONS, id_, decision)
    elif act == APPROVE:
        _execute(draft, id_, decision, "people")
    elif act == REJECT:
        _end(draft, id_, decision, REJECTED, "people")
    else:
        assert decision.back is not None
        decision.back.do(draft)
        _end(draft, id_, decision, REVERSED, "people")


def _settle(draft: Draft, id_: bytes, decision: Decision) -> None:
    """Keep an open decision, or end it if the coordinators' votes suffice; those of former and of suspended ones do not count."""
    entitled = judging(draft)
    needed = approvals_needed(constitution(draft).min_approvals, len(coordinators(draft)))
    against = len(entitled.intersection(decision.rejected))
    if len(entitled.intersection(decision.approved)) >= needed and not paused(draft):
        _execute(draft, id_, decision, "coordinators")
    elif against and len(entitled) - against < needed:
        _end(draft, id_, decision, REJECTED, "coordinators")
    else:
        draft.write(DECISIONS, id_, decision)


def approvals_needed(min_approvals: int, registered: int) -> int:
    """How many of ``registered`` meta-coordinators must approve: max(min_approvals, f_c + 1)."""
    return max(min_approvals, faults(max(1, registered)) + 1)


def expire_decision(draft: Draft, id_: bytes) -> None:
    """Its time is over, and nobody has decided."""
    decision = draft.read(DECISIONS, id_)
    assert decision is not None
    _end(draft, id_, decision, EXPIRED, "")


def end_of_pause(draft: Draft, _: bytes) -> None:
    """Execute what was approved while autonomy was paused, unless it is paused still. What expires now has expired."""
    for id_ in draft.read(WAITING, b"") or ():
        decision = draft.read(DECISIONS, id_)
        assert decision is not None
        if decision.expires_ms > draft.time_ms:
            _settle(draft, id_, decision)


def forget_decision(draft: Draft, id_: bytes) -> None:
    """It can be looked up and reversed no longer."""
    decision = draft.read(DECISIONS, id_)
    assert decision is not None
    org = draft.read(ORGS, decision.by)
    assert org is not None
    draft.write(ORGS, decision.by, replace(org, kept_decisions=org.kept_decisions - 1))
    draft.write(DECISIONS, id_, None)


def _execute(draft: Draft, id_: bytes, decision: Decision, by: str) -> None:
    back = decision.action.reverse(draft)
    try:
        decision.action.do(draft, alone=by == decision.by)
    except Refused as refusal:
        if decision.status != OPEN:
            raise
        _end(draft, id_, decision, FAILED, by, refusal.name)
        return
    _end(draft, id_, replace(decision, back=back), EXECUTED, by)


def _end(draft: Draft, id_: bytes, decision: Decision, status: str, by: str, why: str = "") -> None:
    """The decision gets its next status. Votes were for this step only; what comes after needs new ones."""
    assert (decision.status, status) in TRANSITIONS, f"{decision.status} -> {status}"
    waiting = draft.read(WAITING, b"") or ()
    if id_ in waiting:
        org = draft.read(ORGS, decision.by)
        assert org is not None
        draft.write(WAITING, b"", tuple(one for one in waiting if one != id_))
        draft.write(ORGS, decision.by, replace(org, decisions=org.decisions - 1))
        cancel(draft, DUE, Item(decision.expires_ms, TIMES_OUT, id_))
    if decision.ended_ms:
        cancel(draft, PRUNE, Item(_forgotten_ms(draft, decision), TIMES_OUT, id_))
    ended = replace(decision, status=status, ended_ms=draft.time_ms, people=())
    _keep_until_forgotten(draft, id_, ended)
    record(draft, by, status, id_.hex(), why)


def _keep_until_forgotten(draft: Draft, id_: bytes, ended: Decision) -> None:
    draft.write(DECISIONS, id_, ended)
    schedule(draft, PRUNE, Item(_forgotten_ms(draft, ended), TIMES_OUT, id_))


def _forgotten_ms(draft: Draft, ended: Decision) -> int:
    return ended.ended_ms + max(KEPT_DECISION_MS, constitution(draft).timelock_ms)


def _check_coordinator(draft: Draft, by: Sender) -> None:
    speaks(draft, by)
    if by.org not in coordinators(draft):
        raise Refused("not-a-coordinator", f"{by.org} is no meta-coordinator")
    if by.org not in judging(draft) and not member(draft, by.org).suspended:
        raise Refused("quarantined", f"{by.org}, or its node with the seat, is in quarantine: what it says of decisions does not count")
    if by.org not in judging(draft):
        raise Refused("validator-suspended", f"{by.org} is suspended: what it says of decisions does not count")
