"""Codebooks: by which one the directory is cut into cells (``protocols/directory/cells``). The ledger holds its version and its hash.

A codebook comes into force when q organisations with a vote have endorsed the same one, each after it has fetched and checked it. The first
to endorse a codebook is whoever has trained it: a meta-coordinator, where there are any with a vote. An organisation endorses one at a
time, of the version after the present one; its later word takes the place of the earlier.
"""

from collections.abc import Sequence
from typing import ClassVar

from meshos import cbor
from meshos.consensus.ledger.audit import record
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.draft import Draft, Sender, Table
from meshos.consensus.ledger.fields import is_hash, is_number, malformed
from meshos.consensus.ledger.members import COORDINATORS
from meshos.consensus.ledger.packing import pack, unpack
from meshos.consensus.ledger.seats import Seats, seats, speaks
from meshos.errors import Refused
from meshos.values import frozen


@frozen
class Codebooks:
    """``version`` and ``name`` (the hash) of the one in force since ``height``; version 0: there is none. ``endorsed``: (organisation,
    hash) of the next version."""

    version: int = 0
    name: bytes = b""
    height: int = 0
    endorsed: tuple[tuple[str, bytes], ...] = ()


def _decode(value: bytes) -> Codebooks:
    version, name, height, endorsed = unpack(value)
    return Codebooks(version, name, height, tuple((org, hash_) for org, hash_ in endorsed))


CODEBOOKS = Table(b"codebooks", lambda now: pack(now.version, now.name, now.height, now.endorsed), _decode)


@frozen
class Endorse(Body):
    """The sender's organisation has checked the codebook ``name`` (its hash), which is to be of ``version``."""

    KIND: ClassVar[str] = "endorse"

    version: int
    name: bytes

    @classmethod
    def read(cls, value: cbor.Value) -> "Endorse":
        """From ``[version, hash]``; raises Refused ``transaction-malformed``."""
        match value:
            case [version, name] if is_number(version, 1) and is_hash(name):
                return cls(version, name)
        raise malformed("endorsement of a codebook")

    def fields(self) -> list[object]:
        """As ``read`` takes it."""
        return [self.version, self.name]

    def apply(self, draft: Draft, by: Sender) -> None:
        """Raises Refused ``no-voice``, ``not-seated``, ``other-version`` or ``not-a-trainer``."""
        speaks(draft, by)
        voting, now = seats(draft), codebooks(draft)
        if all(entry.org != by.org for entry in voting.entries):
            raise Refused("not-seated", f"{by.org} has no seat among the validators")
        if self.version != now.version + 1:
            raise Refused("other-version", f"the next codebook is of version {now.version + 1}, this one is of {self.version}")
        if all(name != self.name for _, name in now.endorsed) and by.org not in trainers(draft.read(COORDINATORS, b""), voting):
            raise Refused("not-a-trainer", f"{by.org} may endorse codebooks of others, and trains none itself")
        seated = {entry.org for entry in voting.entries}
        endorsed = {org: name for org, name in now.endorsed if org in seated} | {by.org: self.name}
        counted = [entry.org for entry in voting.entries if not entry.suspended and endorsed.get(entry.org) == self.name]
        if len(counted) >= voting.q:
            draft.write(CODEBOOKS, b"", Codebooks(self.version, self.name, draft.height))
            record(draft, by.org, "codebook", f"version {self.version}: {self.name.hex()}")
        else:
            draft.write(CODEBOOKS, b"", Codebooks(now.version, now.name, now.height, tuple(sorted(endorsed.items()))))


def codebooks(draft: Draft) -> Codebooks:
    """The one in force, and the word on the next."""
    return draft.read(CODEBOOKS, b"") or Codebooks()


def trainers(coordinators: Sequence[str] | None, voting: Seats) -> list[str]:
    """The organisations that may bring a new codebook, the first in turn first: meta-coordinators with a vote, or else all with one."""
    orgs = sorted(str(entry.org) for entry in voting.entries if not entry.suspended)
    entitled = [org for org in orgs if org in (coordinators or ())]
    return entitled or orgs
