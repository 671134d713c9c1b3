"""The ledger's books, audited: everything counted anew from the entries themselves. For tests and the simulator's checkers.

It must hold after every block, whatever was in it: no token came or went, nobody was paid more than was set aside, every count is that
of what is counted, every key belongs to its organisation.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import TypeVar

from meshos.consensus.ledger.accounts import ACCOUNTS, TOTALS
from meshos.consensus.ledger.agenda import AGENDA, DUE, PRUNE, Agenda
from meshos.consensus.ledger.approvals import DECISIONS, OPEN, WAITING
from meshos.consensus.ledger.commitments import COMMITMENTS, FORGOTTEN, WITHDRAWN
from meshos.consensus.ledger.draft import Table
from meshos.consensus.ledger.keys import KEYS, RETIRED, RETIRED_KEYS
from meshos.consensus.ledger.limits import DAY_MS
from meshos.consensus.ledger.members import ORGS
from meshos.consensus.ledger.motions import MOTIONS
from meshos.consensus.ledger.rents import ENDS, RENTS
from meshos.consensus.ledger.seats import SEATS
from meshos.consensus.ledger.tabs import PAIRS, TABS, pair
from meshos.consensus.ledger.testimonies import DISCHARGES
from meshos.storage.store import View

T = TypeVar("T")


def faults(view: View) -> list[str]:
    """What does not hold in the state, one sentence each; empty if all is well."""
    return [*_tokens(view), *_tabs(view), *_counts(view), *_agents(view), *_rents(view), *_keys(view), *_deadlines(view)]


def _all(view: View, table: Table[T]) -> Iterator[tuple[bytes, T]]:
    return ((key.removeprefix(table.prefix), table.decode(value)) for key, value in view.scan(table.prefix))


def _tokens(view: View) -> Iterator[str]:
    totals = TOTALS.read(view, b"")
    if totals is None:
        yield "there are no totals"
        return
    balances = [account.balance for _, account in _all(view, ACCOUNTS)]
    reserved = sum(tab.reserved - tab.redeemed for _, tab in _all(view, TABS))
    if sum(balances) + reserved + totals.unissued != totals.supply:
        yield f"tokens are not conserved: {sum(balances)} in accounts, {reserved} in tabs, {totals.unissued} unissued, of {totals.supply}"
    if (sum(balances), reserved) != (totals.accounts, totals.tabs):
        yield f"the running totals say {totals}, and there are {sum(balances)} in accounts, {reserved} in tabs"
    if min(balances, default=0) < 0 or totals.unissued < 0:
        yield "an account is below zero"


def _tabs(view: View) -> Iterator[str]:
    pairs = dict(_all(view, PAIRS))
    tabs = dict(_all(view, TABS))
    for id_, tab in tabs.items():
        if not 0 <= tab.redeemed <= tab.reserved:
            yield f"tab {id_.hex()}: {tab.redeemed} redeemed of {tab.reserved}"
        if pairs.get(pair(tab.caller, tab.provider)) != id_:
            yield f"tab {id_.hex()} is not that of its caller and provider"
    if len(pairs) != len(tabs):
        yield f"{len(tabs)} tabs, and {len(pairs)} pairs that have one"


def _counts(view: View) -> Iterator[str]:
    decisions = dict(_all(view, DECISIONS))
    waiting = WAITING.read(view, b"") or ()
    counted = {
        "tabs": Counter(tab.org for _, tab in _all(view, TABS)),
        "agents": Counter(commitment.org for _, commitment in _all(view, COMMITMENTS) if commitment.record),
        "motions": Counter(motion.by for _, motion in _all(view, MOTIONS)),
        "decisions": Counter(decision.by for decision in decisions.values() if decision.status == OPEN),
        "kept decisions": Counter(decision.by for decision in decisions.values()),
    }
    for did, org in _all(view, ORGS):
        said = {
            "tabs": org.tabs,
            "agents": org.agents,
            "motions": org.motions,
            "decisions": org.decisions,
            "kept decisions": org.kept_decisions,
        }
        found = {what: counts[did.decode()] for what, counts in counted.items()}
        if said != found:
            yield f"{did.decode()} has {found}, and its entry says {said}"
    if sorted(waiting) != sorted(id_ for id_, decision in decisions.items() if decision.status == OPEN):
        yield "the list of decisions that wait is not that of the open ones"


def _agents(view: View) -> Iterator[str]:
    """Each tombstone is on the agenda, counted, and no higher than its organisation says; its floor is no higher either."""
    gone = {id_: one for id_, one in _all(view, COMMITMENTS) if not one.record}
    due = {(at, id_) for at, what, id_ in _forgotten(view) if what == FORGOTTEN}
    if due != {(one.forgotten_ms, id_) for id_, one in gone.items()}:
        yield "the agents that are to be forgotten are not those that were withdrawn"
    withdrawn = {org.decode(): said for org, said in _all(view, WITHDRAWN)}
    counted = Counter(one.org for one in gone.values())
    if counted != {org: said.remembered for org, said in withdrawn.items() if said.remembered}:
        yield "the counts of withdrawn agents are not those of their tombstones"
    if any(one.version > withdrawn[one.org].highest for one in gone.values() if one.org in withdrawn):
        yield "an agent was withdrawn in a version above the highest of its organisation"
    if any(said.floor > said.highest for said in withdrawn.values()):
        yield "a floor is above all that was withdrawn"


def _rents(view: View) -> Iterator[str]:
    """What is paid for falls with the days, and is on the agenda once."""
    rents = dict(_all(view, RENTS))
    for org, steps in rents.items():
        if not steps or any(one[0] <= next_[0] or one[1] >= next_[1] for one, next_ in pairwise(steps)):
            yield f"the rent of {org.decode()} is no staircase: {steps}"
    due = [(at, id_) for at, what, id_ in _listed(view, DUE) if what == ENDS]
    if sorted(due) != sorted(((steps[0][1] + 1) * DAY_MS, org) for org, steps in rents.items() if steps):
        yield "the rents that are to end are not those that there are"


def _forgotten(view: View) -> Iterator[tuple[int, str, bytes]]:
    """What is on the list of what is to be forgotten."""
    return _listed(view, PRUNE)


def _listed(view: View, table: Table[bool]) -> Iterator[tuple[int, str, bytes]]:
    for name, _ in _all(view, table):
        what, _, id_ = name[8:].partition(b"/")
        yield int.from_bytes(name[:8], "big"), what.decode(), id_


def _keys(view: View) -> Iterator[str]:
    keys = {name.decode(): key for name, key in _all(view, KEYS)}
    named: set[str] = set()
    for did, org in _all(view, ORGS):
        own = [] if org.left_ms else [org.root, *org.nodes, *org.humans, *(keys[node].label for node in org.nodes if node in keys)]
        named.update(own)
        if any(name not in keys or keys[name].org != did.decode() or keys[name].role == RETIRED for name in own):
            yield f"a key of {did.decode()} does not count, or belongs to another"
    if named != {name for name, key in keys.items() if key.role != RETIRED}:
        yield "a key counts that no organisation has"
    waiting = Counter(keys[id_.decode()].org for _, what, id_ in _forgotten(view) if what == "key")
    if waiting != {org.decode(): count for org, count in _all(view, RETIRED_KEYS)}:
        yield "the counts of retired keys are not those of the keys that are to be forgotten"
    seats = SEATS.read(view, b"")
    for entry in () if seats is None else seats.entries:
        node = keys.get(entry.node)
        if node is None or node.org != entry.org or node.label != entry.key:
            yield f"the seat of {entry.org} is not with one of its nodes and that node's key"


def _deadlines(view: View) -> Iterator[str]:
    expected = {(tab.closes_ms, id_) for id_, tab in _all(view, TABS) if tab.closes_ms}
    expected |= {(motion.expires_ms, id_) for id_, motion in _all(view, MOTIONS)}
    expected |= {(decision.expires_ms, id_) for id_, decision in _all(view, DECISIONS) if decision.status == OPEN}
    expected |= {(discharge.until_ms, node) for node, discharge in _all(view, DISCHARGES)}
    found = {(int.from_bytes(name[:8], "big"), name[8:].partition(b"/")[2]) for name, _ in _all(view, DUE)}
    if not expected <= found:
        yield "something has a deadline that is not on the agenda"
    agenda = AGENDA.read(view, b"") or Agenda()
    for table, known in ((DUE, agenda.due_ms), (PRUNE, agenda.prune_ms)):
        first = next((int.from_bytes(name[:8], "big") for name, _ in _all(view, table)), None)
        if first is not None and not 0 < known <= first:
            yield f"the agenda says {known} is the first time under {table.prefix!r}, and {first} is"
