"""What an organisation does with itself: its keys, its root, its leaving. All of it is signed by its root key.

``org`` stands in each body although the sender's key says it: the new key agrees to belong to that one, and to no other.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from meshos import cbor
from meshos.consensus.ledger.accounts import ACCOUNTS, Account, give, take
from meshos.consensus.ledger.audit import record
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.draft import Draft, Sender
from meshos.consensus.ledger.fields import is_key, is_name, is_signature, is_text, malformed
from meshos.consensus.ledger.keys import HUMAN, KEYS, NODE, ROOT, VALIDATOR, Key, check_room, own_key, possession, register, retire
from meshos.consensus.ledger.limits import MAX_LABEL_BYTES, MAX_NODES, MAX_RETIRED_KEYS
from meshos.consensus.ledger.members import CERTIFICATES, ORGS, Org, member, set_coordinator
from meshos.consensus.ledger.seats import seat_of, set_seat
from meshos.crypto.signing import Claim
from meshos.errors import Refused, busy
from meshos.genesis_content import MAX_CERTIFICATE_BYTES, MAX_HUMAN_KEYS
from meshos.values import frozen


@frozen
class AddNode(Body):
    """``node`` (a node id) belongs to the organisation; ``validator`` is the key it would vote with. Both agree."""

    KIND: ClassVar[str] = "add-node"

    org: str
    node: str
    validator: str
    node_agrees: bytes
    validator_agrees: bytes

    @classmethod
    def read(cls, value: cbor.Value) -> "AddNode":
        """From ``[org, node, validator, signature, signature]``; raises Refused ``transaction-malformed``."""
        match value:
            case [org, node, key, first, second] if is_name(org) and is_key(node) and is_key(key):
                if is_signature(first) and is_signature(second):
                    return cls(org, node, key, first, second)
        raise malformed("registration of a node")

    def fields(self) -> list[object]:
        """As ``read`` takes it."""
        return [self.org, self.node, self.validator, self.node_agrees, self.validator_agrees]

    def claims(self, genesis_hash: bytes) -> Sequence[Claim]:
        """Both keys agree."""
        node = possession(genesis_hash, self.node, self.org, NODE, self.node_agrees)
        return [node, possession(genesis_hash, self.validator, self.org, VALIDATOR, self.validator_agrees)]

    def apply(self, draft: Draft, by: Sender) -> None:
        """Raises Refused ``signer-not-allowed``, ``busy`` or ``key-in-use``."""
        org = _own(draft, by, self.org)
        if len(org.nodes) >= MAX_NODES:
            raise busy(f"the list of nodes of {self.org}")
        check_room(draft, self.org)
        register(draft, self.node, Key(NODE, self.org, 0, self.validator))
        register(draft, self.validator, Key(VALIDATOR, self.org, 0, self.node))
        draft.write(ORGS, self.org, replace(org, nodes=tuple(sorted((*org.nodes, self.node)))))
        record(draft, by.org, self.KIND, self.node)


@frozen
class RemoveNode(Body):
    """``node`` no longer belongs to the organisation. One that votes hands its seat over first."""

    KIND: ClassVar[str] = "remove-node"

    node: str

    @classmethod
    def read(cls, value: cbor.Value) -> "RemoveNode":
        """From ``[node]``; raises Refused ``transaction-malformed``."""
        return cls(_only_key(value, "removal of a node"))

    def fields(self) -> list[object]:
        """As ``read`` takes it."""
        return [self.node]

    def apply(self, draft: Draft, by: Sender) -> None:
        """Raises Refused ``key-unknown`` or ``node-seated``."""
        key, org, seat = own_key(draft, by, self.node, NODE), member(draft, by.org), seat_of(draft, by.org)
        if seat is not None and seat.node == self.node:
            raise Refused("node-seated", f"{self.node} votes for {by.org}: move the seat to another node first, or give it up")
        retire(draft, self.node)
        retire(draft, key.label)
        draft.write(ORGS, by.org, replace(org, nodes=tuple(node for node in org.nodes if node != self.node)))
        record(draft, by.org, self.KIND, self.node)


@frozen
class AddHuman(Body):
    """A person may speak with ``key``, under ``name``. No node holds that key."""

    KIND: ClassVar[str] = "add-human"

    org: str
    name: str
    key: str
    agrees: bytes

    @classmethod
    def read(cls, value: cbor.Value) -> "AddHuman":
        """From ``[org, name, key, signature]``; raises Refused ``transaction-malformed``."""
        match value:
            case [org, name, key, signature] if is_name(org) and is_key(key) and is_signature(signature):
                if is_text(name, MAX_LABEL_BYTES):
                    return cls(org, name, key, signature)
        raise malformed("registration of a person's key")

    def fields(self) -> list[object]:
        """As ``read`` takes it."""
        return [self.org, self.name, self.key, self.agrees]

    def claims(self, genesis_hash: bytes) -> Sequence[Claim]:
        """The key agrees."""
        return [possession(genesis_hash, self.key, self.org, HUMAN, self.agrees)]

    def apply(self, draft: Draft, by: Sender) -> None:
        """Raises Refused ``signer-not-allowed``, ``busy`` or ``key-in-use``."""
        org = _own(draft, by, self.org)
        if len(org.humans) >= MAX_HUMAN_KEYS:
            raise busy(f"the list of people of {self.org}")
        check_room(draft, self.org)
        register(draft, self.key, Key(HUMAN, self.org, 0, self.name))
        draft.write(ORGS, self.org, replace(org, humans=tuple(sorted((*org.humans, self.key)))))
        record(draft, by.org, self.KIND, self.key)


@frozen
class RemoveHuman(Body):
    """A person's key counts no longer, also not for a seat in genesis."""

    KIND: ClassVar[str] = "remove-human"

    key: str

    @classmethod
    def read(cls, value: cbor.Value) -> "RemoveHuman":
        """From ``[key]``; raises Refused ``transaction-malformed``."""
        return cls(_only_key(value, "removal of a person's key"))

    def fields(self) -> list[object]:
        """As ``read`` takes it."""
        return [self.key]

    def apply(self, draft: Draft, by: Sender) -> None:
        """Raises Refused ``key-unknown``."""
        own_key(draft, by, self.key, HUMAN)
        org = member(draft, by.org)
        retire(draft, self.key)
        draft.write(ORGS, by.org, replace(org, humans=tuple(key for key in org.humans if key != self.key)))
        record(draft, by.org, self.KIND, self.key)


@frozen
class RotateValidator(Body):
    """``node`` votes with another key from now on, if it votes; signed by the root key or by the node itself. The new key agrees."""

    KIND: ClassVar[str] = "rotate-validator"

    org: str
    node: str
    validator: str
    agrees: bytes

    @classmethod
    def read(cls, value: cbor.Value) -> "RotateValidator":
        """From ``[org, node, validator, signature]``; raises Refused ``transaction-malformed``."""
        match value:
            case [org, node, key, signature] if is_name(org) and is_key(node) and is_key(key) and is_signature(signature):
                return cls(org, node, key, signature)
        raise malformed("rotation of a validator's key")

    def fields(self) -> list[object]:
        """As ``read`` takes it."""
        return [self.org, self.node, self.validator, self.agrees]

    def claims(self, genesis_hash: bytes) -> Sequence[Claim]:
        """The new key agrees."""
        return [possession(genesis_hash, self.validator, self.org, VALIDATOR, self.agrees)]

    def apply(self, draft: Draft, by: Sender) -> None:
        """Raises Refused ``signer-not-allowed``, ``key-unknown``, ``key-in-use`` or ``busy``."""
        _own(draft, by, self.org)
        key, seat = own_key(draft, by, self.node, NODE), seat_of(draft, by.org)
        if by.role != ROOT and by.key != self.node:
            raise Refused("signer-not-allowed", f"{by.key} is neither the root key of {self.org} nor the node {self.node}")
        check_room(draft, self.org, MAX_RETIRED_KEYS // 2)  # the other half is for what the root key alone signs
        register(draft, self.validator, Key(VALIDATOR, self.org, 0, self.node))
        retire(draft, key.label)
        draft.write(KEYS, self.node, Key(key.role, key.org, key.nonce, self.validator))
        if seat is not None and seat.node == self.node:
            set_seat(draft, by.org, self.node)
        record(draft, by.key, self.KIND, self.node)


@frozen
class RotateRoot(Body):
    """The organisation has another root key from now on, with another certificate. Signed by the old one; the new one agrees."""

    KIND: ClassVar[str] = "rotate-root"

    org: str
    root: str
    certificate: bytes
    agrees: bytes

    @classmethod
    def read(cls, value: cbor.Value) -> "RotateRoot":
        """From ``[org, root, certificate, signature]``; raises Refused ``transaction-malformed``."""
        match value:
            case [org, root, bytes() as certificate, signature] if is_name(org) and is_key(root) and is_signature(signature):
                if len(certificate) <= MAX_CERTIFICATE_BYTES:
                    return cls(org, root, certificate, signature)
        raise malformed("rotation of a root key")

    def fields(self) -> list[object]:
        """As ``read`` takes it."""
        return [self.org, self.root, self.certificate, self.agrees]

    def claims(self, genesis_hash: bytes) -> Sequence[Claim]:
        """The new key agrees."""
        return [possession(genesis_hash, self.root, self.org, ROOT, self.agrees)]

    def apply(self, draft: Draft, by: Sender) -> None:
        """Raises Refused ``signer-not-allowed``, ``key-in-use`` or ``busy``."""
        org = _own(draft, by, self.org)
        check_room(draft, self.org)
        register(draft, self.root, Key(ROOT, self.org))
        retire(draft, org.root)
        draft.write(ORGS, self.org, replace(org, root=self.root))
        draft.write(CERTIFICATES, self.org, self.certificate)
        record(draft, by.org, self.KIND, self.root)


@frozen
class Leave(Body):
    """The organisation leaves the mesh: its seat and all its keys go. What it has goes to ``heir``; None: it waits in its account.

    As a caller it closes its tabs first. What it could still redeem as a provider it redeems first: then no key of its own is left.
    """

    KIND: ClassVar[str] = "leave"

    heir: str | None

    @classmethod
    def read(cls, value: cbor.Value) -> "Leave":
        """From ``[heir or null]``; raises Refused ``transaction-malformed``."""
        match value:
            case [heir] if heir is None or is_name(heir):
                return cls(heir)
        raise malformed("leaving")

    def fields(self) -> list[object]:
        """As ``read`` takes it."""
        return [self.heir]

    def apply(self, draft: Draft, by: Sender) -> None:
        """Raises Refused ``tabs-open``, ``last-seat`` or ``account-unknown``."""
        org = member(draft, by.org)
        if org.tabs:
            raise Refused("tabs-open", f"{by.org} has {org.tabs} open tabs; close them first, and wait until their time is over")
        account = draft.read(ACCOUNTS, by.org)
        assert account is not None
        if self.heir is not None and account.balance:
            take(draft, by.org, account.balance)
            give(draft, self.heir, account.balance)
        part(draft, by.org)
        record(draft, by.org, self.KIND, by.org)


def part(draft: Draft, did: str) -> None:
    """``did`` is a member no longer: its seat goes, its keys are retired, its account is closed with what is in it.

    Raises Refused ``not-a-member``, ``last-seat`` or ``seat-needed``.
    """
    org, account = member(draft, did), draft.read(ACCOUNTS, did)
    assert account is not None
    if seat_of(draft, did) is not None:
        set_seat(draft, did, None)
    for node in org.nodes:
        key = draft.read(KEYS, node)
        assert key is not None
        retire(draft, key.label)
    for name in (org.root, *org.nodes, *org.humans):
        retire(draft, name)
    set_coordinator(draft, did, False)
    draft.write(ACCOUNTS, did, Account(account.balance, False))
    draft.write(ORGS, did, replace(org, left_ms=max(1, draft.time_ms), nodes=(), humans=()))


def _own(draft: Draft, by: Sender, org: str) -> Org:
    if by.org != org:
        raise Refused("signer-not-allowed", f"{by.key} is no key of {org}")
    return member(draft, org)


def _only_key(value: cbor.Value, what: str) -> str:
    match value:
        case [name] if is_key(name):
            return name
    raise malformed(what)
