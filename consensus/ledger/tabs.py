"""Tabs: money that a caller's node sets aside for a provider, so that paying needs no ledger round (DESIGN.md, "A task, exactly").

A node opens a tab for a provider's organisation with MESH of its own organisation. Each result it takes it answers with a *voucher*: its
signature over [tab, amount] in the phase "voucher", where the amount is all that it owes on this tab so far. So of two vouchers the higher
contains the lower, and the provider needs to keep but one. The provider redeems it when it likes and gets what it has not had yet, together
with the Merkle root of the receipts that it was paid for.

The caller can begin to close the tab. Then the provider has ``dispute-ms`` of ledger time to redeem its highest voucher; when they are
over, the rest goes back. The provider, who alone would lose by it, can close a tab at once. Where the caller's organisation was expelled
any member can begin to close it in its place.

Nobody redeems twice (only what is above what was redeemed), more than was signed (the voucher), more than was set aside (a voucher above
that is refused as it stands), on another tab (its id is signed) or after the close (the tab is gone, or its time is over).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from meshos import cbor
from meshos.consensus.ledger.accounts import give, give_back, move_to_tabs, take
from meshos.consensus.ledger.agenda import DUE, Item, cancel, schedule
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.draft import Draft, Sender, Table
from meshos.consensus.ledger.fields import amount, is_hash, is_key, is_name, is_signature, malformed
from meshos.consensus.ledger.keys import ROOT
from meshos.consensus.ledger.limits import MAX_TABS
from meshos.consensus.ledger.members import ORGS, member
from meshos.consensus.ledger.packing import pack, unpack
from meshos.consensus.ledger.parameters import parameters
from meshos.consensus.ledger.transaction import domain
from meshos.crypto.signing import Claim
from meshos.errors import Refused, busy
from meshos.ids import OrgDid
from meshos.values import frozen

CLOSES = "tab"
"""On the agenda: the end of a tab's dispute window."""


@frozen
class Tab:
    """``caller`` (the key that signs vouchers) of ``org`` owes ``provider``. ``reserved`` was set aside in all, ``redeemed`` of it paid.

    ``closes_ms`` is the end of the dispute window, 0 while the tab is open. ``receipts``: the root that came with the last redemption.
    """

    caller: str
    org: str
    provider: str
    reserved: int
    redeemed: int = 0
    closes_ms: int = 0
    receipts: bytes = b""


TABS = Table(
    b"tab/",
    lambda tab: pack(tab.caller, tab.org, tab.provider, tab.reserved, tab.redeemed, tab.closes_ms, tab.receipts),
    lambda value: Tab(*unpack(value)),
)
PAIRS: Table[bytes] = Table(b"pair/", bytes, bytes)
"""The open tab of a caller's key with a provider, by the hash of both."""


def tab_id(transaction: bytes) -> bytes:
    """The tab that this transaction opens: another for each, so no voucher outlives its tab."""
    return hashlib.sha256(b"meshos/tab/1\0" + transaction).digest()


def pair(caller: str, provider: str) -> bytes:
    """The name of a pair in ``PAIRS``."""
    return hashlib.sha256(f"{caller} {provider}".encode()).digest()


def voucher(tab: bytes, micro: int) -> bytes:
    """What a caller signs: on this tab it owes so much in all."""
    return cbor.encode([tab, micro])


@frozen
class OpenTab(Body):
    """The sender's organisation sets ``micro`` aside for ``provider``; the sender's key signs the vouchers."""

    KIND: ClassVar[str] = "open-tab"

    provider: OrgDid
    micro: int

    @classmethod
    def read(cls, value: cbor.Value) -> "OpenTab":
        """From ``[provider, micro]``; raises Refused ``transaction-malformed`` or ``amount-out-of-bounds``."""
        match value:
            case [provider, micro] if is_name(provider):
                return cls(OrgDid(provider), amount(micro))
        raise malformed("opening of a tab")

    def fields(self) -> list[object]:
        """As ``read`` takes it."""
        return [self.provider, self.micro]

    def apply(self, draft: Draft, by: Sender) -> None:
        """Raises Refused ``not-a-member``, ``tab-exists``, ``busy`` or ``insufficient-funds``."""
        org, name = member(draft, by.org), pair(by.key, self.provider)
        member(draft, self.provider)
        if draft.read(PAIRS, name) is not None:
            raise Refused("tab-exists", f"{by.key} has a tab with {self.provider} already; top it up")
        if org.tabs >= MAX_TABS:
            raise busy(f"the list of open tabs of {by.org}")
        take(draft, by.org, self.micro)
        move_to_tabs(draft, self.micro)
        id_ = tab_id(by.id)
        draft.write(TABS, id_, Tab(by.key, by.org, self.provider, self.micro))
        draft.write(PAIRS, name, id_)
        draft.write(ORGS, by.org, replace(org, tabs=org.tabs + 1))


@frozen
class TopUpTab(Body):
    """The caller's organisation sets ``micro`` more aside."""

    KIND: ClassVar[str] = "top-up-tab"

    tab: bytes
    micro: int

    @classmethod
    def read(cls, value: cbor.Value) -> "TopUpTab":
        """From ``[tab, micro]``; raises Refused ``transaction-malformed`` or ``amount-out-of-bounds``."""
        match value:
            case [tab, micro] if is_hash(tab):
                return cls(tab, amount(micro))
        raise malformed("top-up of a tab")

    def fields(self) -> list[object]:
        """As ``read`` takes it."""
        return [self.tab, self.micro]

    def apply(self, draft: Draft, by: Sender) -> None:
        """Raises Refused ``tab-not-open``, ``tab-closing``, ``not-your-tab`` or ``insufficient-funds``."""
        tab = _open_tab(draft, self.tab)
        _check_caller(tab, by)
        if tab.closes_ms:
            raise Refused("tab-closing", "this tab is being closed: open another once it is")
        take(draft, by.org, self.micro)
        move_to_tabs(draft, self.micro)
        draft.write(TABS, self.tab, replace(tab, reserved=tab.reserved + self.micro))


@frozen
class RedeemTab(Body):
    """The provider shows a voucher of ``caller`` for ``micro`` in all, and ``receipts``, the root of what it was paid for."""

    KIND: ClassVar[str] = "redeem-tab"

    tab: bytes
    caller: str
    micro: int
    receipts: bytes
    signature: bytes

    @classmethod
    def read(cls, value: cbor.Value) -> "RedeemTab":
        """From ``[tab, caller, micro, receipts, signature]``; raises Refused ``transaction-malformed`` or ``amount-out-of-bounds``."""
        match value:
            case [tab, caller, micro, receipts, signature] if is_hash(tab) and is_key(caller) and is_hash(receipts):
                if is_signature(signature):
                    return cls(tab, caller, amount(micro), receipts, signature)
        raise malformed("redemption of a voucher")

    def fields(self) -> list[object]:
        """As ``read`` takes it."""
        return [self.tab, self.caller, self.micro, self.receipts, self.signature]

    def claims(self, genesis_hash: bytes) -> Sequence[Claim]:
        """That ``caller`` signed the voucher."""
        return [Claim(self.caller, domain(genesis_hash, "voucher"), voucher(self.tab, self.micro), self.signature)]

    def apply(self, draft: Draft, by: Sender) -> None:
        """Raises Refused ``tab-not-open``, ``not-your-tab``, ``voucher-of-another``, ``voucher-redeemed`` or ``voucher-above-reserve``."""
        tab = _open_tab(draft, self.tab)
        if by.org != tab.provider:
            raise Refused("not-your-tab", f"this tab is for {tab.provider}")
        if self.caller != tab.caller:
            raise Refused("voucher-of-another", f"vouchers on this tab are signed by {tab.caller}")
        if self.micro <= tab.redeemed:
            raise Refused("voucher-redeemed", f"{tab.redeemed} millionths were redeemed on this tab, which includes these {self.micro}")
        if self.micro > tab.reserved:
            raise Refused("voucher-above-reserve", f"the voucher is over {self.micro} millionths, the tab over {tab.reserved}")
        move_to_tabs(draft, tab.redeemed - self.micro)
        give(draft, tab.provider, self.micro - tab.redeemed)
        draft.write(TABS, self.tab, replace(tab, redeemed=self.micro, receipts=self.receipts))


@frozen
class CloseTab(Body):
    """The provider: the tab ends now. The caller: it ends when the dispute window does.

    Whoever is a member speaks for a caller's organisation that is none any more: it has no key left, and its provider may not care.
    """

    KIND: ClassVar[str] = "close-tab"

    tab: bytes

    @classmethod
    def read(cls, value: cbor.Value) -> "CloseTab":
        """From ``[tab]``; raises Refused ``transaction-malformed``."""
        match value:
            case [tab] if is_hash(tab):
                return cls(tab)
        raise malformed("closing of a tab")

    def fields(self) -> list[object]:
        """As ``read`` takes it."""
        return [self.tab]

    def apply(self, draft: Draft, by: Sender) -> None:
        """Raises Refused ``tab-not-open``, ``tab-closing`` or ``not-your-tab``."""
        tab = _open_tab(draft, self.tab)
        if by.org == tab.provider:
            if tab.closes_ms:
                cancel(draft, DUE, Item(tab.closes_ms, CLOSES, self.tab))
            end_tab(draft, self.tab)
            return
        org = draft.read(ORGS, tab.org)
        if org is None or not org.left_ms:
            _check_caller(tab, by)
        if tab.closes_ms:
            raise Refused("tab-closing", f"this tab closes at {tab.closes_ms} already")
        closes_ms = draft.time_ms + parameters(draft)["dispute-ms"]
        draft.write(TABS, self.tab, replace(tab, closes_ms=closes_ms))
        schedule(draft, DUE, Item(closes_ms, CLOSES, self.tab))


def end_tab(draft: Draft, id_: bytes) -> None:
    """The tab is gone, and what was not redeemed is back with the caller's organisation."""
    tab = draft.read(TABS, id_)
    assert tab is not None
    rest, org = tab.reserved - tab.redeemed, draft.read(ORGS, tab.org)
    assert org is not None
    move_to_tabs(draft, -rest)
    give_back(draft, tab.org, rest)
    draft.write(TABS, id_, None)
    draft.write(PAIRS, pair(tab.caller, tab.provider), None)
    draft.write(ORGS, tab.org, replace(org, tabs=org.tabs - 1))


def _open_tab(draft: Draft, id_: bytes) -> Tab:
    tab = draft.read(TABS, id_)
    if tab is None or (tab.closes_ms and tab.closes_ms <= draft.time_ms):
        raise Refused("tab-not-open", "there is no open tab with this id: it was closed, or never was")
    return tab


def _check_caller(tab: Tab, by: Sender) -> None:
    """The key that opened it, or the root of its organisation."""
    if by.org != tab.org or (by.role != ROOT and by.key != tab.caller):
        raise Refused("not-your-tab", f"this tab belongs to {tab.caller} of {tab.org}")
