"""The member organisations: what the ledger knows of each, and how one is admitted.

One comes in by a motion of the others (``motions.py``). Its DID stays its own: once it has left, it can come back only by another motion.
"""

from dataclasses import replace

from meshos.consensus.ledger.accounts import ACCOUNTS, Account
from meshos.consensus.ledger.draft import Draft, Table
from meshos.consensus.ledger.keys import ROOT, Key, register
from meshos.consensus.ledger.packing import pack, unpack
from meshos.errors import Refused
from meshos.values import frozen


@frozen
class Org:
    """``nodes`` and ``humans`` are the names of its registered keys. The numbers count what it has open, for its limits."""

    root: str
    joined_ms: int
    left_ms: int = 0
    nodes: tuple[str, ...] = ()
    humans: tuple[str, ...] = ()
    agents: int = 0
    tabs: int = 0
    motions: int = 0
    decisions: int = 0
    """Open ones that it proposed."""
    kept_decisions: int = 0
    """All that it proposed and that are not forgotten."""
    moves: int = 0
    """How often its seat was moved: what a statement about the next move names, so that none is used twice."""
    suspended: bool = False
    """Its validator lied: its vote does not count until the others give it back (``seats.py``)."""


def _decode(value: bytes) -> Org:
    root, joined_ms, left_ms, nodes, humans, *counts = unpack(value)
    return Org(root, joined_ms, left_ms, tuple(nodes), tuple(humans), *counts)


def _encode(org: Org) -> bytes:
    head = (org.root, org.joined_ms, org.left_ms, org.nodes, org.humans)
    return pack(*head, org.agents, org.tabs, org.motions, org.decisions, org.kept_decisions, org.moves, org.suspended)


ORGS = Table(b"org/", _encode, _decode)
CERTIFICATES: Table[bytes] = Table(b"certificate/", bytes, bytes)
"""The root certificates (DER) that the organisations' nodes are checked against."""
COORDINATORS: Table[tuple[str, ...]] = Table(b"coordinators", lambda dids: pack(*dids), lambda value: tuple(unpack(value)))
"""The DIDs of the meta-coordinators, in order."""


def member(draft: Draft, did: str) -> Org:
    """The organisation; raises Refused ``not-a-member``."""
    org = draft.read(ORGS, did)
    if org is None or org.left_ms:
        raise Refused("not-a-member", f"{did} is no organisation of this mesh, or has left")
    return org


def admit(draft: Draft, did: str, root: str, certificate: bytes) -> None:
    """``did`` is a member from now on; raises Refused ``already-a-member`` or ``key-in-use``."""
    before = draft.read(ORGS, did)
    if before is not None and not before.left_ms:
        raise Refused("already-a-member", f"{did} is an organisation of this mesh")
    register(draft, root, Key(ROOT, did))
    org = Org(root, draft.time_ms)
    if before is not None:  # its counts go on, and nobody gets a vote back by leaving
        org = replace(before, root=root, joined_ms=draft.time_ms, left_ms=0)
    account = draft.read(ACCOUNTS, did)
    draft.write(ORGS, did, org)
    draft.write(CERTIFICATES, did, certificate)
    draft.write(ACCOUNTS, did, Account(0 if account is None else account.balance))


def coordinators(draft: Draft) -> tuple[str, ...]:
    """The meta-coordinators, in the order of their DIDs."""
    return draft.read(COORDINATORS, b"") or ()


def set_coordinator(draft: Draft, did: str, entitled: bool) -> None:
    """Whether ``did`` is a meta-coordinator."""
    others = tuple(one for one in coordinators(draft) if one != did)
    draft.write(COORDINATORS, b"", tuple(sorted((*others, did))) if entitled else others)
