"""Accounts: each organisation has one, in millionths of a MESH; and what all of them hold together.

Tokens are where an account or a tab has them, or not issued yet. ``Totals`` counts them as they move, so that every block can say
at the cost of one addition that none came or went; ``conservation.py`` counts them anew, entry by entry.
"""

from typing import ClassVar

from meshos import cbor
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.draft import Draft, Sender, Table
from meshos.consensus.ledger.fields import amount, is_name, malformed
from meshos.consensus.ledger.packing import pack, unpack
from meshos.errors import Broken, Refused
from meshos.ids import OrgDid
from meshos.values import frozen


@frozen
class Account:
    """``balance`` is what can be spent. A closed one (its organisation left) receives nothing."""

    balance: int
    open: bool = True


@frozen
class Totals:
    """Where the tokens are: ``supply`` is the sum of the others, always."""

    supply: int
    accounts: int
    tabs: int
    unissued: int


ACCOUNTS = Table(b"account/", lambda account: pack(account.balance, account.open), lambda value: Account(*unpack(value)))
TOTALS = Table(b"totals", lambda t: pack(t.supply, t.accounts, t.tabs, t.unissued), lambda value: Totals(*unpack(value)))


@frozen
class Transfer(Body):
    """``micro`` millionths go from the sender's organisation to ``to``."""

    KIND: ClassVar[str] = "transfer"

    to: OrgDid
    micro: int

    @classmethod
    def read(cls, value: cbor.Value) -> "Transfer":
        """From ``[to, micro]``; raises Refused ``transaction-malformed`` or ``amount-out-of-bounds``."""
        match value:
            case [to, micro] if is_name(to):
                return cls(OrgDid(to), amount(micro))
        raise malformed("transfer")

    def fields(self) -> list[object]:
        """As ``read`` takes it."""
        return [self.to, self.micro]

    def apply(self, draft: Draft, by: Sender) -> None:
        """Raises Refused ``insufficient-funds`` or ``account-unknown``."""
        take(draft, by.org, self.micro)
        give(draft, self.to, self.micro)


def take(draft: Draft, org: str, micro: int) -> None:
    """``org`` has ``micro`` less; raises Refused ``insufficient-funds``."""
    account = draft.read(ACCOUNTS, org)
    if account is None or account.balance < micro:
        raise Refused("insufficient-funds", f"{org} does not have {micro} millionths")
    draft.write(ACCOUNTS, org, Account(account.balance - micro, account.open))


def give(draft: Draft, org: str, micro: int) -> None:
    """``org`` has ``micro`` more; raises Refused ``account-unknown`` unless it is a member."""
    account = draft.read(ACCOUNTS, org)
    if account is None or not account.open:
        raise Refused("account-unknown", f"{org} has no account here, or has left")
    draft.write(ACCOUNTS, org, Account(account.balance + micro))


def give_back(draft: Draft, org: str, micro: int) -> None:
    """As ``give``, to a former member too: what was its own stays its own."""
    account = draft.read(ACCOUNTS, org) or Account(0, False)
    draft.write(ACCOUNTS, org, Account(account.balance + micro, account.open))


def move_to_tabs(draft: Draft, micro: int) -> None:
    """``micro`` of the accounts' tokens lie in tabs from now on; a negative number: the other way."""
    totals = draft.read(TOTALS, b"")
    assert totals is not None
    draft.write(TOTALS, b"", Totals(totals.supply, totals.accounts - micro, totals.tabs + micro, totals.unissued))


def withdraw_from_circulation(draft: Draft, micro: int) -> None:
    """``micro`` of the accounts' tokens are not issued any more."""
    totals = draft.read(TOTALS, b"")
    assert totals is not None
    draft.write(TOTALS, b"", Totals(totals.supply, totals.accounts - micro, totals.tabs, totals.unissued + micro))


def check_totals(draft: Draft) -> None:
    """Raises Broken ``tokens-not-conserved``: a bug, on which every replica stops before it signs the state."""
    totals = draft.read(TOTALS, b"")
    if totals is None or totals.accounts + totals.tabs + totals.unissued != totals.supply or min(totals.accounts, totals.tabs) < 0:
        raise Broken("tokens-not-conserved", f"the ledger's totals do not add up: {totals}")
