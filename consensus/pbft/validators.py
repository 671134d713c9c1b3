"""Who may vote: the validator set of an epoch, one seat an organisation, in the order of the organisations' DIDs.

A vote names its voter by the index in this order. Its hash stands in the header before the first block that the set decides, so
a chain of headers proves each set by the one before (``Header.next_validators``).
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

from meshos import cbor
from meshos.consensus.pbft.limits import MAX_NAME_CHARS, MAX_NUMBER, MAX_VALIDATORS, MAX_VALIDATORS_BYTES
from meshos.consensus.pbft.quorum import faults, quorum, weak_quorum
from meshos.errors import Refused
from meshos.ids import NodeId, OrgDid

_TAG = b"meshos/validators/1\0"


@dataclass(frozen=True, slots=True)
class ValidatorEntry:
    """The seat of ``org``: which of its nodes votes, and with which key (a Multikey)."""

    org: OrgDid
    node: NodeId
    key: str
    suspended: bool = False
    """Its votes do not count, its seat does."""


@dataclass(frozen=True)
class ValidatorSet:
    """All seats of one epoch; raises ValueError unless they are in order, each organisation, node and key once."""

    epoch: int
    entries: tuple[ValidatorEntry, ...]

    def __post_init__(self) -> None:
        orgs = [entry.org for entry in self.entries]
        if not 1 <= len(orgs) <= MAX_VALIDATORS:
            raise ValueError(f"a mesh has 1 to {MAX_VALIDATORS} validators, not {len(orgs)}")
        if orgs != sorted(set(orgs)):
            raise ValueError("validators are in the order of their organisations, each once")
        if len({entry.node for entry in self.entries}) < len(orgs) or len({entry.key for entry in self.entries}) < len(orgs):
            raise ValueError("a node or a key has two seats")

    @property
    def n(self) -> int:
        """Seats, suspended ones too."""
        return len(self.entries)

    @cached_property
    def f(self) -> int:
        """How many of them may lie."""
        return faults(self.n)

    @cached_property
    def q(self) -> int:
        """How many of them decide."""
        return quorum(self.n)

    @cached_property
    def weak(self) -> int:
        """How many of them include an honest one."""
        return weak_quorum(self.n)

    @cached_property
    def hash(self) -> bytes:
        """What ``Header.next_validators`` carries."""
        return hashlib.sha256(_TAG + encode_validators(self)).digest()

    @cached_property
    def _by_node(self) -> dict[NodeId, int]:
        return {entry.node: index for index, entry in enumerate(self.entries)}

    def index_of(self, node: NodeId) -> int | None:
        """The seat that ``node`` votes for."""
        return self._by_node.get(node)

    def primary(self, view: int) -> int:
        """Whose turn it is to propose: v mod n (Castro & Liskov 1999, section 4), but never a suspended seat's. The same primary goes on
        until the view changes."""
        index = view % self.n
        for _ in range(self.n):
            if not self.entries[index].suspended:
                return index
            index = (index + 1) % self.n
        return view % self.n


def encode_validators(validators: ValidatorSet) -> bytes:
    """Canonical CBOR ``[epoch, [[org, node, key, suspended], …]]``."""
    return cbor.encode(validators_fields(validators))


def validators_fields(validators: ValidatorSet) -> list[object]:
    """A validator set as a CBOR value."""
    return [validators.epoch, [[e.org, e.node, e.key, e.suspended] for e in validators.entries]]


def decode_validators(data: bytes) -> ValidatorSet:
    """The set again; raises Refused ``too-large``, ``bad-encoding`` or ``validators-malformed``."""
    return validators_of(cbor.decode(data, max_bytes=MAX_VALIDATORS_BYTES, max_depth=3))


def validators_of(value: object) -> ValidatorSet:
    """The set that a decoded value is, as ``decode_validators``."""
    match value:
        case [int() as epoch, [*rows]] if 0 <= epoch <= MAX_NUMBER and type(epoch) is int:
            try:
                return ValidatorSet(epoch, tuple(_entry(row) for row in rows))
            except ValueError as error:
                raise Refused("validators-malformed", f"this is no validator set: {error}") from error
    raise Refused("validators-malformed", "this is no validator set")


def _entry(row: object) -> ValidatorEntry:
    match row:
        case [str() as org, str() as node, str() as key, bool() as suspended]:
            if max(len(org), len(node), len(key)) <= MAX_NAME_CHARS:
                return ValidatorEntry(OrgDid(org), NodeId(node), key, suspended)
    raise ValueError("a seat is [org, node, key, suspended]")
