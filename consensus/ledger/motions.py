"""Motions: what the voting organisations decide by vote, until governance does (VISION, "Hybrid DAO"): q of the n seats must be for it.

What can be moved is a short list of subjects, each typed, and checked when it is moved and again when it is carried: to admit an
organisation or to expel one, to make one a meta-coordinator or end that, to change parameters, to give a suspended validator its vote
back, to set an activation height.

An organisation with a seat has one vote, once. Only votes that count when they are counted count: of organisations that still have a
seat, and are not suspended. A motion ends when it is carried, when so many are against it that it cannot be, or when its time is over.
Its id is its transaction's hash, which never comes again: no vote can be used for another motion, in whatever epoch.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Protocol

from meshos import cbor
from meshos.consensus.ledger.accounts import ACCOUNTS, give, take
from meshos.consensus.ledger.agenda import DUE, Item, cancel, schedule
from meshos.consensus.ledger.audit import record
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.draft import Draft, Sender, Table
from meshos.consensus.ledger.expelling import Expel
from meshos.consensus.ledger.fields import is_hash, is_key, is_name, is_number, is_signature, malformed
from meshos.consensus.ledger.keys import KEYS, ROOT, possession
from meshos.consensus.ledger.limits import MAX_COORDINATORS, MAX_MOTIONS
from meshos.consensus.ledger.members import ORGS, admit, coordinators, member, set_coordinator
from meshos.consensus.ledger.packing import pack, unpack
from meshos.consensus.ledger.parameters import changed, parameters, read_changes, set_parameters
from meshos.consensus.ledger.seats import seat_of, seats, set_suspended, speaks, validator_key
from meshos.consensus.ledger.upgrades import set_activation
from meshos.crypto.signing import Claim
from meshos.errors import Refused, busy
from meshos.genesis_content import MAX_CERTIFICATE_BYTES
from meshos.ids import OrgDid, parse_org_did
from meshos.values import frozen

MOVED, VOTED_FOR, VOTED_AGAINST = "moved", "voted-for", "voted-against"
CARRIED, REJECTED, EXPIRED = "motion-carried", "motion-rejected", "motion-expired"
ENDS = (CARRIED, REJECTED, EXPIRED)
"""What the audit trail says of a motion: who moved it, who voted how, and how it ended."""

EXPIRES = "motion"
"""On the agenda: the end of a motion's voting period."""


class Subject(Protocol):
    """What is moved."""

    __slots__ = ()

    def fields(self) -> list[object]:
        """Its CBOR value; ``read_subject`` takes it back."""
        ...

    def words(self) -> str:
        """What would be done, for people: it stands in the audit trail, also when the motion is gone."""
        ...

    def claims(self, genesis_hash: bytes) -> Sequence[Claim]:
        """Signatures that it holds."""
        return ()

    def check(self, draft: Draft) -> None:
        """Raise Refused if it could not be carried now."""
        ...

    def carry(self, draft: Draft, by: str) -> None:
        """Do what ``by`` moved; raises Refused as ``check``, and then nothing was written."""
        ...


@frozen
class Admit(Subject):
    """The organisation ``did``, with this root key (which agrees) and certificate, becomes a member. Who moved it gives it what the
    parameters say, if it has that."""

    did: str
    root: str
    certificate: bytes
    agrees: bytes

    def fields(self) -> list[object]:
        """See ``Subject.fields``."""
        return ["admit", self.did, self.root, self.certificate, self.agrees]

    def words(self) -> str:
        """See ``Subject.words``."""
        return f"admit {self.did}"

    def claims(self, genesis_hash: bytes) -> Sequence[Claim]:
        """See ``Subject.claims``."""
        return [possession(genesis_hash, self.root, self.did, ROOT, self.agrees)]

    def check(self, draft: Draft) -> None:
        """Raises Refused ``already-a-member`` or ``key-in-use``."""
        org = draft.read(ORGS, self.did)
        if org is not None and not org.left_ms:
            raise Refused("already-a-member", f"{self.did} is an organisation of this mesh")
        if draft.read(KEYS, self.root) is not None:
            raise Refused("key-in-use", f"{self.root} is registered already, or was until a day ago")

    def carry(self, draft: Draft, by: str) -> None:
        """As ``check``."""
        self.check(draft)
        is_new = draft.read(ACCOUNTS, self.did) is None  # who comes back is given nothing: else it would pay to leave
        admit(draft, self.did, self.root, self.certificate)
        if is_new:
            _welcome(draft, by, self.did)


@frozen
class Entitle(Subject):
    """``did`` is a meta-coordinator from now on, or no longer."""

    did: str
    entitled: bool

    def fields(self) -> list[object]:
        """See ``Subject.fields``."""
        return ["coordinator", self.did, self.entitled]

    def words(self) -> str:
        """See ``Subject.words``."""
        return f"{self.did} is {'a' if self.entitled else 'no'} meta-coordinator"

    def check(self, draft: Draft) -> None:
        """Raises Refused ``not-a-member`` or ``busy``."""
        member(draft, self.did)
        if self.entitled and len(coordinators(draft)) >= MAX_COORDINATORS:
            raise busy("the list of meta-coordinators")

    def carry(self, draft: Draft, by: str) -> None:
        """As ``check``."""
        self.check(draft)
        set_coordinator(draft, self.did, self.entitled)


@frozen
class Configure(Subject):
    """Parameters get other values."""

    changes: tuple[tuple[str, int], ...]

    def fields(self) -> list[object]:
        """See ``Subject.fields``."""
        return ["parameters", dict(self.changes)]

    def words(self) -> str:
        """See ``Subject.words``."""
        return ", ".join(f"{name} = {value}" for name, value in self.changes)

    def check(self, draft: Draft) -> None:
        """Raises Refused ``parameter-out-of-bounds``."""
        changed(parameters(draft), dict(self.changes))

    def carry(self, draft: Draft, by: str) -> None:
        """As ``check``."""
        set_parameters(draft, dict(self.changes))


@frozen
class Reinstate(Subject):
    """The vote of ``did`` counts again; another key than the one that lied holds its seat by now."""

    did: str

    def fields(self) -> list[object]:
        """See ``Subject.fields``."""
        return ["reinstate", self.did]

    def words(self) -> str:
        """See ``Subject.words``."""
        return f"reinstate {self.did}"

    def check(self, draft: Draft) -> None:
        """Raises Refused ``not-a-member``, ``not-seated`` or ``key-burnt``."""
        member(draft, self.did)
        seat = seat_of(draft, self.did)
        if seat is None or not seat.suspended:
            raise Refused("not-seated", f"{self.did} has no seat that is suspended")
        validator_key(draft, self.did, seat.node)

    def carry(self, draft: Draft, by: str) -> None:
        """As ``check``."""
        self.check(draft)
        set_suspended(draft, self.did, False)


@frozen
class Upgrade(Subject):
    """Version ``version`` of the rules takes effect at ``height``."""

    version: int
    height: int

    def fields(self) -> list[object]:
        """See ``Subject.fields``."""
        return ["upgrade", self.version, self.height]

    def words(self) -> str:
        """See ``Subject.words``."""
        return f"version {self.version} of the rules from block {self.height} on"

    def check(self, draft: Draft) -> None:
        """Nothing yet: support may still be announced while the motion is open."""

    def carry(self, draft: Draft, by: str) -> None:
        """Raises Refused ``upgrade-not-possible``."""
        set_activation(draft, self.version, self.height)


def _welcome(draft: Draft, by: str, did: str) -> None:
    """The gift to a new member. No motion fails because the giver has too little, or has left: then there is none."""
    gift = parameters(draft)["admission-gift"]
    giver = draft.read(ACCOUNTS, by)
    if gift and giver is not None and giver.open and giver.balance >= gift:
        take(draft, by, gift)
        give(draft, did, gift)


def read_subject(value: cbor.Value) -> Subject:
    """The subject; raises Refused ``transaction-malformed`` or ``parameter-unknown``."""
    match value:
        case ["admit", did, root, bytes() as certificate, agrees] if is_name(did) and is_key(root) and is_signature(agrees):
            if len(certificate) <= MAX_CERTIFICATE_BYTES and _is_did(did):
                return Admit(did, root, certificate, agrees)
        case ["coordinator", did, bool() as entitled] if is_name(did):
            return Entitle(did, entitled)
        case ["parameters", changes]:
            return Configure(tuple(sorted(read_changes(changes).items())))
        case ["reinstate", did] if is_name(did):
            return Reinstate(did)
        case ["expel", did] if is_name(did):
            return Expel(did)
        case ["upgrade", version, height] if is_number(version, 1) and is_number(height, 1):
            return Upgrade(version, height)
    raise malformed("subject of a motion")


@frozen
class Motion:
    """``by`` moved ``subject``; the DIDs of those ``in_favour`` and ``against``."""

    by: str
    subject: Subject
    expires_ms: int
    in_favour: tuple[str, ...]
    against: tuple[str, ...] = ()


def _decode(value: bytes) -> Motion:
    by, subject, expires_ms, in_favour, against = unpack(value)
    return Motion(by, read_subject(subject), expires_ms, tuple(in_favour), tuple(against))


MOTIONS = Table(b"motion/", lambda m: pack(m.by, m.subject.fields(), m.expires_ms, m.in_favour, m.against), _decode)


def motion_id(transaction: bytes) -> bytes:
    """The motion that this transaction moves."""
    return hashlib.sha256(b"meshos/motion/1\0" + transaction).digest()


@frozen
class Move(Body):
    """The sender's organisation moves ``subject``, and is for it."""

    KIND: ClassVar[str] = "move"

    subject: Subject

    @classmethod
    def read(cls, value: cbor.Value) -> "Move":
        """From ``[subject]``; raises Refused ``transaction-malformed`` or ``parameter-unknown``."""
        match value:
            case [subject]:
                return cls(read_subject(subject))
        raise malformed("motion")

    def fields(self) -> list[object]:
        """As ``read`` takes it."""
        return [self.subject.fields()]

    def claims(self, genesis_hash: bytes) -> Sequence[Claim]:
        """Those of the subject."""
        return self.subject.claims(genesis_hash)

    def apply(self, draft: Draft, by: Sender) -> None:
        """Raises Refused ``no-voice``, ``not-seated``, ``validator-suspended``, ``busy`` and as the subject's ``check``."""
        speaks(draft, by)
        org = member(draft, by.org)
        _check_vote(draft, by.org)
        if org.motions >= MAX_MOTIONS:
            raise busy(f"the list of open motions of {by.org}")
        self.subject.check(draft)
        id_, expires_ms = motion_id(by.id), draft.time_ms + parameters(draft)["voting-period-ms"]
        draft.write(ORGS, by.org, replace(org, motions=org.motions + 1))
        schedule(draft, DUE, Item(expires_ms, EXPIRES, id_))
        record(draft, by.org, MOVED, id_.hex(), self.subject.words())
        _count(draft, id_, Motion(by.org, self.subject, expires_ms, (by.org,)))


@frozen
class Vote(Body):
    """The sender's organisation is for or against a motion."""

    KIND: ClassVar[str] = "vote"

    motion: bytes
    in_favour: bool

    @classmethod
    def read(cls, value: cbor.Value) -> "Vote":
        """From ``[motion, true or false]``; raises Refused ``transaction-malformed``."""
        match value:
            case [motion, bool() as in_favour] if is_hash(motion):
                return cls(motion, in_favour)
        raise malformed("vote")

    def fields(self) -> list[object]:
        """As ``read`` takes it."""
        return [self.motion, self.in_favour]

    def apply(self, draft: Draft, by: Sender) -> None:
        """Raises Refused ``no-voice``, ``not-seated``, ``validator-suspended``, ``motion-not-open``, ``already-voted``, and as the
        subject's ``carry`` if this vote is the last one that was needed: then it is not cast, and the motion stays open.
        """
        speaks(draft, by)
        _check_vote(draft, by.org)
        motion = draft.read(MOTIONS, self.motion)
        if motion is None or motion.expires_ms <= draft.time_ms:
            raise Refused("motion-not-open", "there is no open motion with this id: it was decided, expired, or never was")
        if by.org in motion.in_favour or by.org in motion.against:
            raise Refused("already-voted", f"{by.org} has voted on this motion")
        record(draft, by.org, VOTED_FOR if self.in_favour else VOTED_AGAINST, self.motion.hex())
        if self.in_favour:
            _count(draft, self.motion, replace(motion, in_favour=(*motion.in_favour, by.org)))
        else:
            _count(draft, self.motion, replace(motion, against=(*motion.against, by.org)))


def expire_motion(draft: Draft, id_: bytes) -> None:
    """Its voting period is over."""
    _end(draft, id_, EXPIRED)


def _count(draft: Draft, id_: bytes, motion: Motion) -> None:
    """Keep the motion, or carry or end it if that is decided."""
    now = seats(draft)
    voting = {entry.org for entry in now.entries if not entry.suspended}
    draft.write(MOTIONS, id_, motion)
    if len(voting.intersection(motion.in_favour)) >= now.q:
        motion.subject.carry(draft, motion.by)
        _end(draft, id_, CARRIED)
    elif len(voting.intersection(motion.against)) > len(now.entries) - now.q:
        _end(draft, id_, REJECTED)


def _end(draft: Draft, id_: bytes, how: str) -> None:
    motion = draft.read(MOTIONS, id_)
    assert motion is not None
    org = draft.read(ORGS, motion.by)
    assert org is not None
    draft.write(MOTIONS, id_, None)
    draft.write(ORGS, motion.by, replace(org, motions=org.motions - 1))
    cancel(draft, DUE, Item(motion.expires_ms, EXPIRES, id_))
    record(draft, motion.by, how, id_.hex(), motion.subject.words())


def _check_vote(draft: Draft, org: str) -> None:
    seat = seat_of(draft, OrgDid(org))
    if seat is None:
        raise Refused("not-seated", f"{org} has no seat among the validators")
    if seat.suspended:
        raise Refused("validator-suspended", f"the vote of {org} is suspended")


def _is_did(text: str) -> bool:
    try:
        parse_org_did(text)
    except ValueError:
        return False
    return True
