"""Upgrades: the orgs announce which version of the ledger's rules they support, and a motion sets the height at which one takes effect.

It can be set only when q voting organisations have announced their support, so that the mesh goes on; a replica that does not support the
version stops before it executes that height (``application.py``), and goes on once it was upgraded.
"""

from dataclasses import replace
from typing import ClassVar

from meshos import cbor
from meshos.consensus.ledger.audit import record
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.draft import Draft, Sender, Table
from meshos.consensus.ledger.fields import is_number, malformed
from meshos.consensus.ledger.limits import NOTICE_BLOCKS
from meshos.consensus.ledger.packing import pack, unpack
from meshos.consensus.ledger.seats import Seats, seats, speaks
from meshos.errors import Failed, Refused
from meshos.values import frozen

SUPPORTED = 1
"""The newest version of the rules that this code knows. It counts from the first release on: before it the rules change under the number 1,
and meshes of earlier builds do not live on (CHANGELOG.md)."""


@frozen
class Rules:
    """``version`` is in force; ``next_version`` will be from ``height`` on, unless 0. ``support``: (organisation, newest it supports)."""

    version: int = 1
    next_version: int = 0
    height: int = 0
    support: tuple[tuple[str, int], ...] = ()


def _decode(value: bytes) -> Rules:
    version, next_version, height, support = unpack(value)
    return Rules(version, next_version, height, tuple((org, newest) for org, newest in support))


RULES = Table(b"rules", lambda rules: pack(rules.version, rules.next_version, rules.height, rules.support), _decode)


@frozen
class Support(Body):
    """The sender's organisation supports the rules up to ``version``."""

    KIND: ClassVar[str] = "support"

    version: int

    @classmethod
    def read(cls, value: cbor.Value) -> "Support":
        """From ``[version]``; raises Refused ``transaction-malformed``."""
        match value:
            case [version] if is_number(version, 1):
                return cls(version)
        raise malformed("announcement of support")

    def fields(self) -> list[object]:
        """As ``read`` takes it."""
        return [self.version]

    def apply(self, draft: Draft, by: Sender) -> None:
        """Raises Refused ``no-voice`` or ``not-seated``."""
        speaks(draft, by)
        now, voting = seats(draft), rules(draft)
        if all(entry.org != by.org for entry in now.entries):
            raise Refused("not-seated", f"{by.org} has no seat among the validators")
        seated = {entry.org for entry in now.entries}
        others = [row for row in voting.support if row[0] != by.org and row[0] in seated]
        draft.write(RULES, b"", replace(voting, support=tuple(sorted((*others, (by.org, self.version))))))


def rules(draft: Draft) -> Rules:
    """Those in force, and what is to come."""
    return draft.read(RULES, b"") or Rules()


def set_activation(draft: Draft, version: int, height: int) -> None:
    """``version`` takes effect at ``height``; raises Refused ``upgrade-not-possible``."""
    now = rules(draft)
    if now.next_version:
        raise Refused("upgrade-not-possible", f"version {now.next_version} takes effect at height {now.height}; wait for that")
    if version <= now.version or height < draft.height + NOTICE_BLOCKS:
        raise Refused("upgrade-not-possible", f"a later version than {now.version}, from height {draft.height + NOTICE_BLOCKS} on")
    ready = _supporting(now, seats(draft), version)
    if ready < seats(draft).q:
        raise Refused("upgrade-not-possible", f"{ready} voting organisations support version {version}, {seats(draft).q} must")
    draft.write(RULES, b"", replace(now, next_version=version, height=height))
    record(draft, "", "upgrade", f"version {version} from height {height}")


def activate(draft: Draft) -> None:
    """The first thing in each block; raises Failed ``upgrade-needed`` where these rules are not known here."""
    now = rules(draft)
    if now.next_version and draft.height >= now.height:
        now = Rules(now.next_version, 0, 0, now.support)
        draft.write(RULES, b"", now)
    if now.version > SUPPORTED:
        raise Failed(
            "upgrade-needed",
            f"from height {draft.height} on the mesh runs version {now.version} of its rules, and this node knows {SUPPORTED}",
            hint="upgrade this node; it goes on where it stopped",
        )


def _supporting(now: Rules, voting: Seats, version: int) -> int:
    newest = dict(now.support)
    return sum(1 for entry in voting.entries if not entry.suspended and newest.get(entry.org, 1) >= version)
