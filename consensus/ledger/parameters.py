"""Parameters: the mesh's configuration, from genesis and then changed by motions and decisions; each change makes a new version.

All are whole numbers. ``SPECS`` says for each between which bounds it lies, whether coordinators may change it by themselves
(``approvals.py``), how much a change of it matters, and which part reads it. Of these the weights of the trust score are only kept here:
nothing computes the score yet. What people may do (seats, pauses, overruling) is no parameter: it stands in genesis.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from meshos import cbor
from meshos.consensus.ledger.draft import Draft, Table
from meshos.consensus.ledger.fields import is_name, is_number, malformed
from meshos.consensus.ledger.limits import DAY_MS, HOUR_MS, MAX_CHANGES, MAX_LIFETIME_MS, MAX_RISK
from meshos.consensus.ledger.packing import pack, unpack
from meshos.errors import Broken, Refused
from meshos.genesis_content import MESH, Genesis
from meshos.storage.store import View
from meshos.values import frozen

TRUST = "trust-"
"""The five weights of the trust score begin with this; they add up to 100."""


@frozen
class Spec:
    """What a parameter may be. ``sensitivity``: the risk of doubling it or taking it to nothing, of MAX_RISK. ``read_by``: who obeys it."""

    least: int
    most: int
    autonomous: bool
    sensitivity: int
    read_by: str


BY_VOTE, BY_INVITATION, OPEN = 0, 1, 2
"""How strangers come in (the parameter ``admission``): people vote on each; the others' nodes vote for whom a member moves to admit, and
members move for whom they have invited; or they move for everybody who asks."""

WHOLE, IN_CELLS = 0, 1
"""How the directory lies (the parameter ``directory-cells``)."""

ALL_FREE = 10_000_000
"""As many free records (the parameter ``directory-free-records``) as there may be at all."""

TESTNET_GIFT = 100 * MESH
"""What the organisation that moved to admit somebody gives it, on a testnet: it can begin to pay at once."""

_YEAR_MS = 366 * DAY_MS
_NOBODY = "nobody yet: it is for the trust score, which nothing computes so far"

SPECS: Mapping[str, Spec] = {
    "admission": Spec(
        BY_VOTE, OPEN, False, MAX_RISK, "every node: how strangers come in. 0: people vote; 1: members invite; 2: whoever asks"
    ),
    "admission-gift": Spec(0, 1_000_000 * MESH, False, MAX_RISK, "the ledger: millionths that who moved an admission gives the newcomer"),
    "approval-timeout-ms": Spec(1_000, _YEAR_MS, False, MAX_RISK, "the ledger: how long a decision waits for approvals"),
    "directory-cells": Spec(
        WHOLE, IN_CELLS, False, MAX_RISK, "every node's directory: 0: all nodes hold all; 1: it is cut into cells from 2,000 records on"
    ),
    "directory-free-records": Spec(
        0, ALL_FREE, False, MAX_RISK, "every node's directory: how many records an organisation has room for without paying"
    ),
    "directory-max-records": Spec(1, ALL_FREE, True, 60, "every node's directory, within its own limits: how many records it holds"),
    "directory-max-records-per-org": Spec(
        1, ALL_FREE, True, 60, "every node's directory, within its own limits: how many of one organisation"
    ),
    "directory-record-price": Spec(
        0,
        1_000 * MESH,
        False,
        MAX_RISK,
        "the ledger: millionths that room for a record beyond the free ones costs for 30 days; 0: nothing",
    ),
    "directory-record-ttl-ms": Spec(
        600_000, 30 * DAY_MS, True, 40, "every node's directory: how long a record lives; its owner renews it at a third of that"
    ),
    "dispute-ms": Spec(1_000, 30 * DAY_MS, True, 80, "the ledger: how long a provider can redeem after a caller began to close its tab"),
    "risk-threshold": Spec(0, MAX_RISK, False, MAX_RISK, "the ledger: above this risk a decision waits for approvals"),
    "trust-attestations": Spec(0, 100, True, 50, _NOBODY),
    "trust-compliance": Spec(0, 100, True, 50, _NOBODY),
    "trust-credentials": Spec(0, 100, True, 50, _NOBODY),
    "trust-history": Spec(0, 100, True, 50, _NOBODY),
    "trust-uptime": Spec(0, 100, True, 50, _NOBODY),
    "voting-period-ms": Spec(1_000, _YEAR_MS, False, MAX_RISK, "the ledger: how long a motion can be voted on"),
}
"""In the order of their names."""

KEPT: tuple[tuple[str, int | None], ...] = (
    ("approval-timeout-ms", None),
    ("directory-max-records", None),
    ("directory-max-records-per-org", None),
    ("directory-record-ttl-ms", None),
    ("dispute-ms", None),
    ("risk-threshold", None),
    ("trust-attestations", None),
    ("trust-compliance", None),
    ("trust-credentials", None),
    ("trust-history", None),
    ("trust-uptime", None),
    ("voting-period-ms", None),
    ("admission", BY_VOTE),
    ("admission-gift", 0),
    ("directory-cells", WHOLE),
    ("directory-free-records", ALL_FREE),
    ("directory-record-price", 0),
)
"""In which order their values are kept, and what one is where it is not there. A new one comes behind the others: a ledger that was written
before there was one is read as it was meant, and as long as nobody sets it what is written, and so the state's root, is what it was.
"""

DISPUTE_MS = HOUR_MS
"""How long a provider can still redeem after a caller began to close its tab: a node that is down for less loses nothing."""
TESTNET_DISPUTE_MS = 10_000

RISK_THRESHOLD = 25
"""Above this risk a decision waits for approvals, by default."""

assert list(SPECS) == sorted(SPECS) == sorted(name for name, _ in KEPT)
assert DISPUTE_MS <= MAX_LIFETIME_MS


@frozen
class Parameters:
    """``values`` in the order of ``SPECS``. ``settled``: what more than one organisation decided last, or people, or genesis."""

    version: int
    values: tuple[int, ...]
    settled: tuple[int, ...]

    def __getitem__(self, name: str) -> int:
        """The value of a parameter that stands in ``SPECS``."""
        return self.values[_PLACE[name]]


_PLACE = {name: place for place, name in enumerate(SPECS)}

PARAMETERS = Table(b"parameters", lambda p: pack(p.version, _kept(p.values), _kept(p.settled)), lambda value: _decode(value))


def _kept(values: Sequence[int]) -> list[int]:
    """As they are kept: without those at the end that are as if they were not there."""
    kept = [values[_PLACE[name]] for name, _ in KEPT]
    while kept[-1] == KEPT[len(kept) - 1][1]:
        kept.pop()
    return kept


def _read(kept: Sequence[int]) -> tuple[int, ...]:
    found = {name: kept[place] if place < len(kept) else absent for place, (name, absent) in enumerate(KEPT)}
    values = tuple(found[name] for name in SPECS)
    if None in values:
        raise Broken("ledger-broken", f"there are {len(kept)} parameters in the ledger's state, of {len(KEPT)}")
    return cast(tuple[int, ...], values)


def _decode(value: bytes) -> Parameters:
    version, values, settled = unpack(value)
    return Parameters(version, _read(values), _read(settled))


def from_genesis(genesis: Genesis) -> Parameters:
    """Version 1."""
    weights = genesis.trust_weights
    values = {
        "admission": OPEN if genesis.testnet else BY_VOTE,
        "admission-gift": TESTNET_GIFT if genesis.testnet else 0,
        "approval-timeout-ms": genesis.governance.approval_timeout_ms,
        "directory-cells": WHOLE,
        "directory-free-records": ALL_FREE,
        "directory-max-records": genesis.directory.max_records,
        "directory-max-records-per-org": genesis.directory.max_records_per_org,
        "directory-record-price": 0,
        "directory-record-ttl-ms": genesis.directory.record_ttl_ms,
        "dispute-ms": TESTNET_DISPUTE_MS if genesis.testnet else DISPUTE_MS,
        "risk-threshold": RISK_THRESHOLD,
        "trust-attestations": weights.attestations,
        "trust-compliance": weights.compliance,
        "trust-credentials": weights.credentials,
        "trust-history": weights.history,
        "trust-uptime": weights.uptime,
        "voting-period-ms": genesis.governance.voting_period_ms,
    }
    first = tuple(values[name] for name in SPECS)
    return Parameters(1, first, first)


def parameters(draft: Draft) -> Parameters:
    """Those in force."""
    found = draft.read(PARAMETERS, b"")
    assert found is not None
    return found


def in_force(view: View) -> Parameters:
    """As ``parameters``, for questions."""
    found = PARAMETERS.read(view, b"")
    assert found is not None
    return found


def read_changes(value: cbor.Value) -> dict[str, int]:
    """``{name: value}`` of known parameters; raises Refused ``transaction-malformed`` or ``parameter-unknown``."""
    if not isinstance(value, dict) or not 1 <= len(value) <= MAX_CHANGES:
        raise malformed("change of parameters")
    changes: dict[str, int] = {}
    for name, new in value.items():
        if not is_name(name) or not is_number(new):
            raise malformed("change of parameters")
        if name not in SPECS:
            raise Refused("parameter-unknown", f"there is no parameter {name!r}; there are {', '.join(SPECS)}")
        changes[name] = new
    return changes


def changed(now: Parameters, changes: Mapping[str, int]) -> Parameters:
    """The next version; raises Refused ``parameter-out-of-bounds``."""
    for name, value in changes.items():
        spec = SPECS[name]
        if not spec.least <= value <= spec.most:
            raise Refused("parameter-out-of-bounds", f"{name} is between {spec.least} and {spec.most}, not {value}")
    new = replace(now, version=now.version + 1, values=tuple(changes.get(name, now[name]) for name in SPECS))
    if sum(new[name] for name in SPECS if name.startswith(TRUST)) != 100:
        raise Refused("parameter-out-of-bounds", "the weights of the trust score add up to 100")
    if new["directory-max-records-per-org"] > new["directory-max-records"]:
        raise Refused("parameter-out-of-bounds", "one organisation could fill the directory")
    return new


def set_parameters(draft: Draft, changes: Mapping[str, int], *, alone: bool = False) -> None:
    """Put ``changes`` in force, decided by one coordinator ``alone`` or by several; raises as ``changed``."""
    new = changed(parameters(draft), changes)
    if not alone:
        settled = zip(SPECS, new.settled, strict=True)
        new = replace(new, settled=tuple(changes.get(name, before) for name, before in settled))
    draft.write(PARAMETERS, b"", new)
