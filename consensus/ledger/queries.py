"""What is asked of the ledger's state: by the API, the commands, a node that wants to send something. ``state`` is a ``tree.State``."""

from collections.abc import Collection, Iterator
from heapq import nlargest
from itertools import islice

from meshos.consensus.ledger import seats as seats_of
from meshos.consensus.ledger.accounts import ACCOUNTS, Account
from meshos.consensus.ledger.approvals import DECISIONS, WAITING, Decision, approvals_needed
from meshos.consensus.ledger.audit import AUDIT, NEXT, Entry, place
from meshos.consensus.ledger.draft import Draft
from meshos.consensus.ledger.keys import HUMAN, KEYS
from meshos.consensus.ledger.limits import MAX_AUDIT
from meshos.consensus.ledger.members import CERTIFICATES, COORDINATORS, ORGS, Org
from meshos.consensus.ledger.motions import MOTIONS, Motion
from meshos.consensus.ledger.people import CONSTITUTION, PAUSES, Constitution
from meshos.consensus.ledger.quarantine import QUARANTINE, UNSETTLED
from meshos.consensus.ledger.results import Result
from meshos.consensus.ledger.seats import SEATS, Seats
from meshos.consensus.ledger.tabs import PAIRS, TABS, Tab, pair
from meshos.consensus.ledger.transaction import Transaction
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.ids import NodeId
from meshos.storage.store import View
from meshos.values import frozen

EXPIRED, UNKNOWN_YET = "expired", "unknown"
SCANNED = 1_024
"""Decisions that one question looks at: some 30 ms."""


def fate(state: View, tx: Transaction, result: Result | None, ledger_ms: int) -> str:
    """What became of ``tx``, as far as this replica knows: ``committed``, ``refused``, ``expired``, or ``unknown`` yet.

    ``result`` is what the agreement has recorded of it, if anything; ``ledger_ms`` the time of the last block that ``state`` has seen.
    It is *expired* only if its nonce is unused and no later block can include it. A used nonce of which no result is known here was this
    transaction's or another's: that is unknown, never a failure.
    """
    if result is not None and result.final:
        return result.outcome
    key = KEYS.read(state, tx.key)
    unused = key is not None and key.nonce <= tx.nonce
    return EXPIRED if unused and ledger_ms >= tx.expires_ms else UNKNOWN_YET


def next_nonce(state: View, key: str) -> int | None:
    """What the next transaction of ``key`` must have, if nothing of it waits; None: it is no key of the mesh."""
    found = KEYS.read(state, key)
    return None if found is None else found.nonce


def account(state: View, did: str) -> Account | None:
    """The account of an organisation."""
    return ACCOUNTS.read(state, did)


def org(state: View, did: str) -> Org | None:
    """The organisation, also one that has left."""
    return ORGS.read(state, did)


def orgs(state: View) -> Iterator[tuple[str, Org]]:
    """All organisations, in the order of their DIDs."""
    return ((key.removeprefix(ORGS.prefix).decode(), ORGS.decode(value)) for key, value in state.scan(ORGS.prefix))


def roots(state: View) -> dict[str, tuple[str, bytes]]:
    """The trust bundle: of each member its root key (Multikey), and the certificate (DER) that it gave, which nobody has looked at."""
    found = ((did, org.root, CERTIFICATES.read(state, did)) for did, org in orgs(state) if not org.left_ms)
    return {did: (root, der or b"") for did, root, der in found}


def leaving(state: View, deciding: ValidatorSet) -> dict[str, tuple[str, bytes, NodeId]]:
    """Who has left, and is among those that are ``deciding`` now: as ``roots``, and the node that votes until the next checkpoint."""
    found = ((entry.org, entry.node, ORGS.read(state, entry.org)) for entry in deciding.entries)
    gone = [(did, node, org.root) for did, node, org in found if org is not None and org.left_ms]
    return {did: (root, CERTIFICATES.read(state, did) or b"", node) for did, node, root in gone}


def seats(state: View) -> Seats:
    """Who votes from the next checkpoint boundary on."""
    found = SEATS.read(state, b"")
    assert found is not None
    return found


def coordinators(state: View) -> tuple[str, ...]:
    """The meta-coordinators."""
    return COORDINATORS.read(state, b"") or ()


def judging(state: View) -> set[str]:
    """The meta-coordinators whose approvals count: those that are neither suspended nor in quarantine."""
    return seats_of.judging(Draft(state, 0, 0))


def quarantined(state: View, most: int, after: str = "") -> list[tuple[str, int, bool]]:
    """Who is in quarantine, after ``after`` in the order of their names: since when, and whether several have decided so."""
    alone = dict(UNSETTLED.read(state, b"") or ())
    names = ((key.removeprefix(QUARANTINE.prefix).decode(), value) for key, value in state.scan(QUARANTINE.prefix))
    rows = ((name, QUARANTINE.decode(value), name not in alone) for name, value in names if name > after)
    return list(islice(rows, most))


def tab_with(state: View, caller: str, provider: str) -> tuple[bytes, Tab] | None:
    """The open tab of a caller's key with a provider, and its id."""
    id_ = PAIRS.read(state, pair(caller, provider))
    tab = None if id_ is None else TABS.read(state, id_)
    return None if id_ is None or tab is None else (id_, tab)


def tabs_for(state: View, provider: str) -> Iterator[tuple[bytes, Tab]]:
    """All open tabs for a provider, by their ids: a scan over all tabs, for a provider that starts."""
    for key, value in state.scan(TABS.prefix):
        tab = TABS.decode(value)
        if tab.provider == provider:
            yield key.removeprefix(TABS.prefix), tab


def motions(state: View) -> Iterator[tuple[bytes, Motion]]:
    """All open motions, by their ids."""
    return ((key.removeprefix(MOTIONS.prefix), MOTIONS.decode(value)) for key, value in state.scan(MOTIONS.prefix))


@frozen
class Waiting:
    """A decision, and how many meta-coordinators must approve it."""

    id: bytes
    decision: Decision
    needed: int


def decision(state: View, id_: bytes) -> Waiting | None:
    """The decision with this id; open, or ended not too long ago."""
    found, constitution = DECISIONS.read(state, id_), CONSTITUTION.read(state, b"")
    if found is None or constitution is None:
        return None
    return Waiting(id_, found, approvals_needed(constitution.min_approvals, len(coordinators(state))))


def open_decisions(state: View) -> list[Waiting]:
    """Those that wait for approval, oldest first."""
    found = (decision(state, id_) for id_ in WAITING.read(state, b"") or ())
    return [one for one in found if one is not None]


def waiting(state: View) -> int:
    """How many decisions wait for approval."""
    return len(WAITING.read(state, b"") or ())


def ended_decisions(state: View, most: int) -> list[Waiting]:
    """The newest of those that have ended and are not forgotten yet, newest first: of SCANNED, where there are more."""
    kept = islice(state.scan(DECISIONS.prefix), SCANNED)
    decoded = ((key.removeprefix(DECISIONS.prefix), DECISIONS.decode(value)) for key, value in kept)
    ended = nlargest(most, ((one.ended_ms, id_) for id_, one in decoded if one.ended_ms))
    found = (decision(state, id_) for _, id_ in ended)
    return [one for one in found if one is not None]


def decisions_beginning(state: View, digits: str, most: int) -> list[bytes]:
    """The ids that begin with these hex digits, at most so many."""
    whole = bytes.fromhex(digits[: len(digits) // 2 * 2])
    ids = (key.removeprefix(DECISIONS.prefix) for key, _ in state.scan(DECISIONS.prefix + whole))
    return list(islice((id_ for id_ in ids if id_.hex().startswith(digits)), most))


def power_of(state: View, keys: Collection[str]) -> int:
    """The share of human power that these keys have together, in percent, rounded down."""
    powers = dict(constitution(state).powers)
    held = sum(powers.get(key, 0) for key in keys if (found := KEYS.read(state, key)) is not None and found.role == HUMAN)
    return held * 100 // max(1, sum(powers.values()))


def constitution(state: View) -> Constitution:
    """What genesis says of people and approvals."""
    found = CONSTITUTION.read(state, b"")
    assert found is not None
    return found


def paused_until(state: View) -> int:
    """The ledger time until which people have paused autonomy; 0 if they never did."""
    pauses = PAUSES.read(state, b"")
    return 0 if pauses is None else pauses.until_ms


def audit(state: View, most: int, before: int | None = None) -> list[Entry]:
    """At most ``most`` entries of the audit trail, newest first, with numbers below ``before``."""
    made = NEXT.read(state, b"") or 0
    newest = made if before is None else min(before, made)
    numbers = range(newest - 1, max(-1, made - MAX_AUDIT - 1), -1)
    found = (AUDIT.read(state, place(number)) for number in islice(numbers, most))
    return [entry for entry in found if entry is not None]
