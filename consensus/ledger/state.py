"""What a block does to the ledger: ``run``, a pure function of the state before it, its height, its time and its requests.

For each request one of three things holds:

*skipped*    It could not be included: unreadable, of an unknown version or kind, too large, of an unknown key, not that key's next
             nonce, expired, or too far ahead. It changes nothing, its nonce stays, and it may yet be committed by a later block, so
             nobody is told that it failed. (An honest primary proposes none of these, but one whose key retires in the same block.)
*refused*    It was included, and its kind's rules say no (too little money, no such tab). It changes nothing but its key's nonce:
             this is the end of it, and it can never be executed later, when the rules might say yes.
*committed*  It was done.

Either way no nonce is used twice, so nothing is executed twice.

Within a block, what is due by the block's time comes first (tabs that close, what expires), then the requests in their order. All
replicas that run the same blocks have the same state, byte for byte.
"""

from collections.abc import Callable, Mapping, Sequence

from meshos.consensus.ledger import approvals, commitments, evidence, keys, motions, people, rents, tabs, testimonies, upgrades
from meshos.consensus.ledger.accounts import check_totals
from meshos.consensus.ledger.agenda import DUE, PRUNE, take_due
from meshos.consensus.ledger.draft import Draft, Sender
from meshos.consensus.ledger.evidence import Accusation
from meshos.consensus.ledger.keys import KEYS, RETIRED, Key
from meshos.consensus.ledger.kinds import Order, read
from meshos.consensus.ledger.limits import DUE_PER_BLOCK, MAX_LIFETIME_MS, MAX_PENDING, PRUNED_PER_BLOCK
from meshos.consensus.ledger.results import COMMITTED, REFUSED, SKIPPED, Result, encode_result, keep_outcomes
from meshos.consensus.ledger.seats import seats
from meshos.consensus.ledger.transaction import Transaction
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.errors import Refused
from meshos.storage.store import View
from meshos.values import frozen

_WHEN_DUE: Mapping[str, Callable[[Draft, bytes], None]] = {
    tabs.CLOSES: tabs.end_tab,
    motions.EXPIRES: motions.expire_motion,
    approvals.TIMES_OUT: approvals.expire_decision,
    people.PAUSE_ENDS: approvals.end_of_pause,
    rents.ENDS: rents.end_step,
    testimonies.TERM_ENDS: testimonies.end_term,
}
_WHEN_FORGOTTEN: Mapping[str, Callable[[Draft, bytes], None]] = {
    keys.FORGOTTEN: keys.forget,
    approvals.TIMES_OUT: approvals.forget_decision,
    commitments.FORGOTTEN: commitments.forget,
    testimonies.LAPSES: testimonies.lapse,
}


@frozen
class Ran:
    """What a block did. ``changes``: the new value of each entry of the state that changed, None where it is gone."""

    changes: dict[bytes, bytes | None]
    results: tuple[bytes, ...]
    """One a request, in their order (``results.decode_result``)."""
    validators: ValidatorSet | None
    """Who shall vote from the next checkpoint boundary on, if that changed."""


def run(view: View, height: int, time_ms: int, requests: Sequence[bytes]) -> Ran:
    """Execute a block; raises Failed ``upgrade-needed``, and Broken ``tokens-not-conserved`` for a bug of ours."""
    draft = Draft(view, height, time_ms)
    upgrades.activate(draft)
    before = seats(draft)
    due, forgotten = take_due(draft, DUE, DUE_PER_BLOCK), take_due(draft, PRUNE, PRUNED_PER_BLOCK)
    for item in due:
        _WHEN_DUE[item.what](draft, item.id)
    for item in forgotten:
        _WHEN_FORGOTTEN[item.what](draft, item.id)
    results = tuple(_execute(draft, index, request) for index, request in enumerate(requests))
    check_totals(draft)
    encoded = tuple(map(encode_result, results))
    keep_outcomes(draft, encoded)
    after = seats(draft)
    return Ran(draft.changes(), encoded, None if after.entries == before.entries else after.validators())


def _execute(draft: Draft, index: int, request: bytes) -> Result:
    try:
        order = read(request)
    except Refused as refusal:
        return Result(SKIPPED, refusal.name, draft.height, index, b"")
    if isinstance(order, Accusation):
        return _accuse(draft, index, order)
    tx = order.transaction
    key = draft.read(KEYS, tx.key)
    why_not = refusal_to_include(order, key, draft.time_ms)
    if why_not is None and key is not None and tx.nonce != key.nonce:
        why_not = nonce_ahead(tx, key)
    if why_not is not None or key is None:
        return Result(SKIPPED, why_not.name if why_not is not None else "", draft.height, index, tx.id)
    draft.write(KEYS, tx.key, Key(key.role, key.org, key.nonce + 1, key.label, key.burnt))
    draft.begin()
    try:
        order.body.apply(draft, Sender(tx.key, key.role, key.org, tx.id))
    except Refused as refusal:
        draft.undo()
        return Result(REFUSED, refusal.name, draft.height, index, tx.id)
    return Result(COMMITTED, "", draft.height, index, tx.id)


def _accuse(draft: Draft, index: int, accusation: Accusation) -> Result:
    """An accusation has no nonce: what makes it final is that a key is convicted once."""
    refusal = evidence.refusal_to_convict(draft.read(KEYS, accusation.key))
    if refusal is not None:
        return Result(SKIPPED, refusal.name, draft.height, index, accusation.id)
    draft.begin()
    evidence.convict(draft, accusation)
    return Result(COMMITTED, "", draft.height, index, accusation.id)


def refusal_to_include(order: Order, key: Key | None, time_ms: int) -> Refused | None:
    """Why ``order`` cannot be in a block of ``time_ms`` or soon after, given what is known of its key; None: it can.

    ``unknown-signer``, ``signer-not-allowed``, ``nonce-used``, ``nonce-ahead``, ``transaction-expired`` or ``expires-too-late``.
    """
    tx = order.transaction
    if key is None or key.role == RETIRED:
        return Refused("unknown-signer", f"{tx.key} is no key of this mesh's organisations")
    if key.role not in order.kind.roles:
        return Refused("signer-not-allowed", f"a {key.role} key sends no {tx.kind}")
    if tx.nonce < key.nonce:
        return Refused("nonce-used", f"nonce {tx.nonce} of {tx.key} is used; its next is {key.nonce}")
    if tx.nonce >= key.nonce + MAX_PENDING:
        return nonce_ahead(tx, key)
    if tx.expires_ms < time_ms:
        return Refused("transaction-expired", f"it expired at {tx.expires_ms}, and ledger time is {time_ms}")
    if tx.expires_ms > time_ms + MAX_LIFETIME_MS:
        return Refused("expires-too-late", f"it expires more than {MAX_LIFETIME_MS} ms from now, at {tx.expires_ms}")
    return None


def nonce_ahead(tx: Transaction, key: Key) -> Refused:
    """The refusal of a transaction whose turn has not come."""
    return Refused("nonce-ahead", f"nonce {tx.nonce} of {tx.key} is ahead of its turn; the next is {key.nonce}")
