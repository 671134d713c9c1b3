"""What is put to the machines "paying" (the caller's side) and "earning" (the provider's side). Amounts are millionths of a MESH."""

from dataclasses import dataclass

from meshos.ids import AgentId, NodeId, OrgDid, Peer, TaskId
from meshos.protocols.payments.voucher import Voucher
from meshos.values import frozen

PAYING = "paying"
EARNING = "earning"


@frozen
class Promised:
    """A call that may come to cost up to ``most``, with all that is needed to learn later how it ended: ``asked`` is its request's hash,
    ``key`` its idempotency key or empty. ``at_ms``: wall time.
    """

    task: TaskId
    agent: AgentId
    provider: OrgDid
    asked: bytes
    key: str
    most: int
    at_ms: int = 0


# -- to "paying" -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Promise:
    """A call of ``agent`` is about to be made that costs at most ``most_micro`` (None: whatever is left); it has ended for its caller
    ``timeout_s`` from now. Gives the most that it may cost; Refused ``over-limit``, ``insufficient-funds`` or ``busy``.
    """

    task: TaskId
    agent: AgentId
    provider: OrgDid
    asked: bytes
    key: str
    most_micro: int | None
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Settle:
    """The call has ended and costs ``micro``, by the receipt of ``node`` (None where nothing is owed). Gives None. Counted once: a task
    that was settled, or never promised, changes nothing.
    """

    task: TaskId
    micro: int
    node: NodeId | None = None


@dataclass(frozen=True, slots=True)
class TakeUnsettled:
    """Gives tuple[Promised, …], as soon as there are any: calls that whoever made them left without settling them."""


@dataclass(frozen=True, slots=True)
class GetVoucher:
    """Gives the Voucher over all that is owed to ``provider`` and covered by its tab, or None where there is nothing to sign for."""

    provider: OrgDid


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """``provider`` has the voucher over ``micro`` on ``tab``, or a higher one. Gives None."""

    provider: OrgDid
    tab: bytes
    micro: int


@dataclass(frozen=True, slots=True)
class PayNow:
    """``provider`` has refused a call as ``unpaid``: send it the voucher that it does not have yet, if there is one. Gives None."""

    provider: OrgDid


@dataclass(frozen=True, slots=True)
class EndTab:
    """Close the tab with ``provider``; gives None at once. The next paid call opens another. Refused ``tab-not-open``, or ``tab-in-use``
    while the provider does not have all that it is owed."""

    provider: OrgDid


@dataclass(frozen=True, slots=True)
class ListTabs:
    """Gives tuple[TabStatus, …]."""


@frozen
class TabStatus:
    """How this node stands with a provider. ``owed`` on this tab, of which ``signed`` by voucher and ``acknowledged``; ``promised`` to
    calls under way; ``spent`` today.
    """

    provider: OrgDid
    state: str
    tab: bytes
    reserved: int
    owed: int
    signed: int
    acknowledged: int
    promised: int
    spent: int


# -- to "earning" ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Admit:
    """``caller`` wants ``task`` run for ``micro``. Gives None if its credit allows it, perhaps after CREDIT_WAIT_S; Refused ``unpaid``."""

    task: TaskId
    caller: Peer
    micro: int


@dataclass(frozen=True, slots=True)
class Release:
    """``task`` has ended: what it costs is recorded, or nothing. Gives None."""

    task: TaskId
    caller: OrgDid


@dataclass(frozen=True, slots=True)
class Accept:
    """``caller`` sent ``voucher``, whose signature holds (or None), with the receipts ``leaves``: (task, ``merkle.leaf_hash`` of its
    payload).

    Gives Accepted. A voucher that the ledger does not back is named there; the receipts are kept all the same.
    """

    caller: Peer
    voucher: Voucher | None
    leaves: tuple[tuple[TaskId, bytes], ...]


@frozen
class Accepted:
    """``micro`` is covered by vouchers on that tab now. ``refused``: the name of what is wrong with the voucher, or empty."""

    micro: int
    refused: str = ""


@dataclass(frozen=True, slots=True)
class TakeOver:
    """This node acts for its organisation from now on, after another. What that one was paid is not known here, so all that is owed
    until now counts as paid. Gives None."""


@dataclass(frozen=True, slots=True)
class ListEarnings:
    """Gives tuple[Earning, …]."""


@frozen
class Earning:
    """How ``caller`` stands with this organisation: ``unpaid`` of ``owed`` is not covered by vouchers, ``unredeemed`` is covered and not
    yet ours on the ledger."""

    caller: OrgDid
    owed: int
    unpaid: int
    unredeemed: int
