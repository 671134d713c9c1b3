"""Seats: which organisation votes in PBFT, and which of its nodes votes for it.

Each node has a validator key of its own, never copied. An organisation moves its seat to another of its nodes, takes one or gives it
up by a ``seat`` transaction, with the authority of its root key or of more than half of its nodes: whoever holds one node of an
organisation with three cannot take its vote along. A statement of the nodes names how often the seat was moved before, so it is used once;
and when it ends, at most STATEMENT_MS of ledger time ahead, so that what a few signed in one outage is worth nothing in the next.

The seats that are set here are in force from the next checkpoint boundary on (``consensus/pbft``). Until then the old ones decide.

A new seat is taken by a node that is there and has caught up; it is its organisation that says so. With one boundary at most max(1, f)
organisations come in, and at most max(1, f) give their seats up: of three and more, those who stay are a quorum until the boundary, also if
whoever goes votes no more at once, and a quorum after it, also while the new ones settle in. Nobody goes who would leave fewer votes behind
than a quorum, as some of them are suspended. Who gives a seat up and has it again at the boundary has changed nothing, and is not counted.

A validator that signed two things where it must sign one is suspended (``evidence.py``): its vote does not count, its seat does, so that
neither n nor the quorum moves. A motion of the others gives it back, once another key holds the seat.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from meshos import cbor
from meshos.consensus.ledger.audit import record
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.draft import Draft, Sender, Table
from meshos.consensus.ledger.fields import is_key, is_name, is_number, is_signature, malformed
from meshos.consensus.ledger.keys import KEYS, NODE, ROOT
from meshos.consensus.ledger.limits import MAX_NODES, STATEMENT_MS
from meshos.consensus.ledger.members import ORGS, coordinators, member
from meshos.consensus.ledger.packing import pack, unpack
from meshos.consensus.ledger.quarantine import in_quarantine
from meshos.consensus.ledger.transaction import domain
from meshos.consensus.pbft.limits import CHECKPOINT_INTERVAL, MAX_VALIDATORS
from meshos.consensus.pbft.quorum import faults, quorum
from meshos.consensus.pbft.validators import ValidatorEntry, ValidatorSet
from meshos.crypto.signing import Claim
from meshos.errors import Refused
from meshos.ids import NodeId, OrgDid
from meshos.values import frozen


@frozen
class Seats:
    """``entries`` in the order of the DIDs."""

    entries: tuple[ValidatorEntry, ...]

    @property
    def q(self) -> int:
        """How many organisations decide a motion."""
        return quorum(len(self.entries))

    def validators(self) -> ValidatorSet:
        """For the agreement, which sets the epoch."""
        return ValidatorSet(0, self.entries)


@frozen
class Deciding:
    """``orgs`` have the seats that are in force from checkpoint number ``checkpoint`` until the next."""

    checkpoint: int
    orgs: tuple[str, ...]


def _encode(seats: Seats) -> bytes:
    return pack([[e.org, e.node, e.key, e.suspended] for e in seats.entries])


def _decode(value: bytes) -> Seats:
    (rows,) = unpack(value)
    return Seats(tuple(ValidatorEntry(*row) for row in rows))


def _deciding_of(value: bytes) -> Deciding:
    checkpoint, orgs = unpack(value)
    return Deciding(checkpoint, tuple(orgs))


SEATS = Table(b"seats", _encode, _decode)
DECIDING = Table(b"deciding", lambda now: pack(now.checkpoint, now.orgs), _deciding_of)
"""As it was before the first change of a seat since that checkpoint; what is older counts no more."""


def seats(draft: Draft) -> Seats:
    """All seats."""
    found = draft.read(SEATS, b"")
    assert found is not None
    return found


def seat_of(draft: Draft, org: str) -> ValidatorEntry | None:
    """The seat of ``org``, if it has one."""
    return next((entry for entry in seats(draft).entries if entry.org == org), None)


def judging(draft: Draft) -> set[str]:
    """The meta-coordinators whose word counts now. It does not of a proven liar's organisation (``evidence.py``), nor of one that is in
    quarantine, or whose node with the seat is: nobody judges whether it is to be let out itself.
    """
    nodes = {str(entry.org): entry.node for entry in seats(draft).entries}
    found = ((did, draft.read(ORGS, did)) for did in coordinators(draft))
    trusted = (did for did, org in found if org is not None and not org.suspended)
    return {did for did in trusted if not in_quarantine(draft, did, nodes.get(did, did))}


def speaks(draft: Draft, by: Sender) -> None:
    """Raise Refused ``no-voice`` unless ``by`` speaks for its organisation: its root key, or the node that holds its seat."""
    seat = seat_of(draft, by.org)
    if by.role != ROOT and (seat is None or seat.node != by.key):
        raise Refused("no-voice", f"{by.key} does not speak for {by.org}: its root key does, and the node that votes for it")


def set_seat(draft: Draft, org: str, node: str | None) -> None:
    """The seat of ``org`` is with ``node`` from now on, or gone.

    Raises Refused ``seats-full`` or ``key-burnt``, ``last-seat`` or ``seat-needed``.
    """
    now, deciding = seats(draft).entries, _deciding(draft)
    had = next((entry for entry in now if entry.org == org), None)
    others = tuple(entry for entry in now if entry.org != org)
    if node is None:
        if had is not None:
            _check_gone(had, others, deciding)
        draft.write(SEATS, b"", Seats(others))
        return
    if had is None:
        _check_room(org, others, deciding)
    entry = ValidatorEntry(OrgDid(org), NodeId(node), validator_key(draft, org, node), member(draft, org).suspended)
    draft.write(SEATS, b"", Seats(tuple(sorted((*others, entry), key=lambda one: one.org))))


def _deciding(draft: Draft) -> frozenset[str]:
    """The organisations that decide until the next boundary."""
    checkpoint, known = draft.height // CHECKPOINT_INTERVAL, draft.read(DECIDING, b"")
    if known is None or known.checkpoint != checkpoint:
        known = Deciding(checkpoint, tuple(entry.org for entry in seats(draft).entries))
        draft.write(DECIDING, b"", known)
    return frozenset(known.orgs)


def _check_gone(had: ValidatorEntry, others: Sequence[ValidatorEntry], deciding: frozenset[str]) -> None:
    """Raise Refused unless the ``others`` can do without the seat that one ``had``."""
    if not others:
        raise Refused("last-seat", f"{had.org} holds the only seat: without it nothing could be decided")
    gone = len(deciding - {entry.org for entry in others})
    if had.org in deciding and gone > max(1, faults(len(deciding))):
        raise Refused("seat-needed", f"{gone - 1} of {len(deciding)} seats are given up already; no more before the next checkpoint")
    count = sum(not entry.suspended for entry in others)
    if not had.suspended and count < quorum(len(others)):
        raise Refused("seat-needed", f"of the {len(others)} other votes {count} count, as the rest are suspended: too few without it")


def _check_room(org: str, others: Sequence[ValidatorEntry], deciding: frozenset[str]) -> None:
    """Raise Refused ``seats-full`` unless there is room for the seat of ``org``, which has none."""
    seated = {entry.org for entry in others}
    added = len(seated - deciding)
    full = org not in deciding and added >= max(1, faults(max(1, len(seated & deciding))))
    if full or len(others) >= MAX_VALIDATORS:
        raise Refused("seats-full", f"no more seats before the next checkpoint; there are {len(others)}, {added} of them new")


def validator_key(draft: Draft, org: str, node: str) -> str:
    """The validator key of a node of ``org``; raises Refused ``key-unknown`` or ``key-burnt``."""
    found = draft.read(KEYS, node)
    if found is None or found.org != org or found.role != NODE:
        raise Refused("key-unknown", f"{node} is no node of {org}")
    validator = draft.read(KEYS, found.label)
    if validator is None or validator.burnt:
        raise Refused("key-burnt", f"the validator key of {node} signed two things where it must sign one; it never votes again")
    return found.label


def set_suspended(draft: Draft, org: str, suspended: bool) -> None:
    """Whether the vote of ``org`` counts, from the next boundary on."""
    draft.write(ORGS, org, replace(member(draft, org), suspended=suspended))
    now = seats(draft)
    entries = tuple(replace(entry, suspended=suspended) if entry.org == org else entry for entry in now.entries)
    draft.write(SEATS, b"", Seats(entries))


@frozen
class Seat(Body):
    """The seat of ``org`` goes to ``node``; None: it is given up. ``nodes``: (node, signature) of nodes that agree, until ``ends_ms``; what
    the root key signs ends as the transaction does.
    """

    KIND: ClassVar[str] = "seat"

    org: str
    node: str | None
    moves: int
    nodes: tuple[tuple[str, bytes], ...] = ()
    ends_ms: int = 0

    @classmethod
    def read(cls, value: cbor.Value) -> "Seat":
        """From ``[org, node or null, moves, [[node, signature], …], ends_ms]``; raises Refused ``transaction-malformed``."""
        match value:
            case [org, node, moves, [*rows], ends_ms] if is_name(org) and (node is None or is_key(node)) and is_number(moves):
                signed = tuple(_signed(row) for row in rows[: MAX_NODES + 1])
                if is_number(ends_ms) and len(signed) <= MAX_NODES and len({name for name, _ in signed}) == len(signed):
                    return cls(org, node, moves, signed, ends_ms)
        raise malformed("move of a seat")

    def fields(self) -> list[object]:
        """As ``read`` takes it."""
        return [self.org, self.node, self.moves, self.nodes, self.ends_ms]

    def claims(self, genesis_hash: bytes) -> Sequence[Claim]:
        """That each of ``nodes`` signed the statement."""
        where, what = domain(genesis_hash, "seat"), statement(self.org, self.node, self.moves, self.ends_ms)
        return [Claim(name, where, what, signature) for name, signature in self.nodes]

    def apply(self, draft: Draft, by: Sender) -> None:
        """Raises Refused ``no-authority``, ``statement-expired``, ``statement-used`` and as ``set_seat``."""
        org = member(draft, self.org)
        if by.role != ROOT or by.org != self.org:
            agreeing = {name for name, _ in self.nodes} | {by.key}
            if 2 * len(agreeing & set(org.nodes)) <= len(org.nodes):
                raise Refused("no-authority", f"the seat of {self.org} is moved by its root key or by more than half of its nodes")
            if self.nodes:
                check_end(self.ends_ms, draft.time_ms)
        if self.moves != org.moves:
            raise Refused("statement-used", f"this is about move {self.moves} of the seat of {self.org}; the next is {org.moves}")
        set_seat(draft, self.org, self.node)
        draft.write(ORGS, self.org, replace(org, moves=org.moves + 1))
        record(draft, by.key, "seat", self.org, self.node or "given up")


def statement(org: str, node: str | None, moves: int, ends_ms: int) -> bytes:
    """What nodes sign for a ``seat`` transaction, in the phase "seat"."""
    return cbor.encode([org, node, moves, ends_ms])


def check_end(ends_ms: int, time_ms: int) -> None:
    """Raise Refused ``statement-expired`` unless what ends then counts at this time: it has not ended, and does not last for too long."""
    if not time_ms <= ends_ms <= time_ms + STATEMENT_MS:
        what = f"what nodes sign about their seat counts until {ends_ms}, and it is {time_ms}"
        raise Refused("statement-expired", f"{what}: it has ended, or lasts for more than {STATEMENT_MS // 60_000} minutes")


def _signed(row: cbor.Value) -> tuple[str, bytes]:
    match row:
        case [name, signature] if is_key(name) and is_signature(signature):
            return name, signature
    raise malformed("signature of a node")
