"""What the ledger decides about decisions, motions and holders of the directory, as news for people: read off its audit trail whenever
a block was decided here."""

from meshos.consensus.ledger.approvals import ACTS, DECISIONS, EXECUTED, EXPIRED, FAILED, REJECTED, REVERSED
from meshos.consensus.ledger.audit import AUDIT, NEXT, Entry, place
from meshos.consensus.ledger.keys import HUMAN, KEYS
from meshos.consensus.ledger.motions import ENDS as MOTION_ENDS
from meshos.consensus.ledger.motions import MOVED, VOTED_AGAINST, VOTED_FOR
from meshos.consensus.ledger.people import Pause
from meshos.consensus.ledger.testimonies import DISCHARGED, HOLDS_AGAIN, TESTIFIED
from meshos.node.kernel.watch import Fields, Happened
from meshos.protocols.ledger.port import LedgerView

MOST = 64
"""Entries told of after one block: where more came at once (a state was fetched), the newest."""

_ENDS = (EXECUTED, REJECTED, EXPIRED, FAILED, REVERSED)


class DecisionNews:
    """Tells each entry once, of those that are made from now on. ``ledger`` shows the newest state."""

    def __init__(self, ledger: LedgerView) -> None:
        self._ledger = ledger
        self._seen = self._made()

    def take(self) -> list[Happened]:
        """What is new."""
        if not self._ledger.height:
            return []  # a state is being laid down
        made = self._made()
        numbers = range(max(self._seen, made - MOST), made)
        self._seen = made
        entries = (AUDIT.read(self._ledger, place(number)) for number in numbers)
        return [news for entry in entries if entry is not None and (news := self._news(entry)) is not None]

    def _made(self) -> int:
        return NEXT.read(self._ledger, b"") or 0

    def _news(self, entry: Entry) -> Happened | None:
        who = self._who(entry.by)
        because = f": {entry.why}" if entry.why else ""
        if entry.what == Pause.KIND:
            return Happened("pause", f"{who} pauses autonomy{because}", (("by", who), ("why", entry.why)))
        if entry.what in (MOVED, VOTED_FOR, VOTED_AGAINST, *MOTION_ENDS):
            return _motion(entry, who)
        if entry.what in (TESTIFIED, DISCHARGED, HOLDS_AGAIN):
            return _holder(entry, who)
        if len(entry.subject) != 64 or entry.what not in ("proposed", *ACTS, *_ENDS):
            return None
        fields: Fields = (("decision", entry.subject), ("what", entry.what), ("by", who), ("why", entry.why))
        name = f"decision {entry.subject[:8]}"
        if entry.what == "proposed":
            return Happened("decision", f"{who} proposes {name}, {self._about(entry.subject)}{because}", fields)
        if entry.what in ACTS:
            return Happened("decision", f"{who} says {entry.what} of {name}{because}", fields)
        return Happened("decision", f"{name} is {entry.what}{f' by {who}' if who else ''}{because}", fields)

    def _about(self, subject: str) -> str:
        decision = DECISIONS.read(self._ledger, bytes.fromhex(subject))
        if decision is None:
            return "forgotten by now"
        kind, what, *_ = decision.action.fields()
        return f"{kind} {what}, risk {decision.risk}"

    def _who(self, by: str) -> str:
        """A key by its organisation, a person by name too; what else is said to have done something as it is."""
        key = KEYS.read(self._ledger, by)
        if key is None:
            return by.rpartition(":")[2]
        org = key.org.rpartition(":")[2]
        return f"{key.label} of {org}" if key.role == HUMAN else org


def _motion(entry: Entry, who: str) -> Happened:
    """News of a motion: ``who`` moved it or voted, or it ended."""
    name = f"motion {entry.subject[:8]}"
    if entry.what in MOTION_ENDS:
        what = entry.what.removeprefix("motion-")
        text = f"{name} is {what}: {entry.why}"
    else:
        what = entry.what
        text = f"{who} moves {name}: {entry.why}" if what == MOVED else f"{who} votes {what.removeprefix('voted-')} {name}"
    return Happened("motion", text, (("motion", entry.subject), ("what", what), ("by", who), ("why", entry.why)))


def _holder(entry: Entry, who: str) -> Happened:
    """News of a node that holds a part of the directory: somebody says that it lies, enough have, or it holds again."""
    texts = {
        TESTIFIED: f"{who} says that node {entry.subject} lies about the directory: {entry.why}",
        DISCHARGED: f"node {entry.subject} holds nothing of the directory any more: {entry.why}",
        HOLDS_AGAIN: f"node {entry.subject} may hold its part of the directory again",
    }
    return Happened("holder", texts[entry.what], (("peer", entry.subject), ("what", entry.what), ("by", who), ("why", entry.why)))
