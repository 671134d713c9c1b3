"""What a provider has of its callers: vouchers, receipts, and what of both is on its way to the ledger. The stored form.

caller/<did>           [paid]: what its vouchers cover in all, ever
tab/<id>               Till
leaf/<node>/<number>   [task, hash]: a receipt of that node's, not yet part of a redemption
redeemed/<number>      [tab, micro, root, [[task, hash], …]]: what a root on the ledger stands for, the newest KEPT_REDEMPTIONS
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from meshos.consensus.ledger.packing import pack, unpack
from meshos.consensus.ledger.tabs import RedeemTab
from meshos.crypto import merkle
from meshos.effects import Delete, Put, Write
from meshos.ids import NodeId, OrgDid, TaskId
from meshos.storage.store import View
from meshos.values import frozen


@frozen
class Redemption:
    """A voucher on its way to the ledger, with the root of the receipts up to number ``last`` (-1: there were none)."""

    micro: int
    signature: bytes
    root: bytes
    last: int


@dataclass(slots=True)
class Till:
    """The highest voucher of ``caller`` of ``org`` on ``tab``, of which ``redeemed`` is ours on the ledger. ``height``: of the newest
    ledger state in which the tab was seen."""

    tab: bytes
    caller: NodeId
    org: OrgDid
    micro: int
    signature: bytes
    redeemed: int = 0
    height: int = 0
    attempt: int = 0
    """Counts redemptions, so that each has a name."""
    redemption: Redemption | None = None

    reserved: int = 0
    closes_ms: int = 0
    since: float = 0.0
    """When the oldest voucher came that is not redeemed."""
    op: int = 0
    """Of the redemption under way, in this life."""
    failures: int = 0
    not_before: float = 0.0

    @property
    def unredeemed(self) -> int:
        """Covered by the voucher, and not ours yet."""
        return self.micro - self.redeemed

    def body(self, redemption: Redemption) -> RedeemTab:
        """The transaction."""
        return RedeemTab(self.tab, self.caller, redemption.micro, redemption.root, redemption.signature)

    def ref(self) -> bytes:
        """The name of the transaction under way."""
        return b"redeem/" + self.tab + self.attempt.to_bytes(8, "big")

    def write(self) -> Put:
        """Keep it."""
        redemption = self.redemption
        sent = None if redemption is None else [redemption.micro, redemption.signature, redemption.root, redemption.last]
        fields = (self.caller, self.org, self.micro, self.signature, self.redeemed, self.height, self.attempt, sent)
        return Put(b"tab/" + self.tab, pack(*fields))

    def drop(self) -> Delete:
        """The tab is gone."""
        return Delete(b"tab/" + self.tab)


def read_tills(view: View) -> Iterator[Till]:
    """All that are kept."""
    for key, value in view.scan(b"tab/"):
        *fields, sent = unpack(value)
        till = Till(key.removeprefix(b"tab/"), *fields)
        till.redemption = None if sent is None else Redemption(*sent)
        yield till


@dataclass(slots=True)
class Leaves:
    """Receipts of one caller's node, in the order in which they came, by number."""

    node: NodeId
    hashes: dict[int, tuple[TaskId, bytes]] = field(default_factory=dict)
    tasks: set[TaskId] = field(default_factory=set)
    next: int = 0

    def add(self, task: TaskId, leaf: bytes) -> Write:
        """One more."""
        number, self.next = self.next, self.next + 1
        self.hold(number, task, leaf)
        return Put(self._key(number), pack(task, leaf))

    def hold(self, number: int, task: TaskId, leaf: bytes) -> None:
        """One that is on disk."""
        self.hashes[number] = (task, leaf)
        self.tasks.add(task)
        self.next = max(self.next, number + 1)

    def root(self) -> tuple[bytes, int]:
        """Over all that are here, and the last one's number (-1: there are none)."""
        return merkle.root_of([leaf for _, leaf in self.hashes.values()]), max(self.hashes, default=-1)

    def take(self, last: int) -> tuple[list[tuple[TaskId, bytes]], list[Write]]:
        """Those up to ``last``, and the writes that take them away."""
        numbers = [number for number in self.hashes if number <= last]
        taken = [self.hashes.pop(number) for number in numbers]
        self.tasks.difference_update(task for task, _ in taken)
        return taken, [Delete(self._key(number)) for number in numbers]

    def _key(self, number: int) -> bytes:
        return b"leaf/" + self.node.encode() + b"/" + number.to_bytes(8, "big")


def read_leaves(view: View) -> dict[NodeId, Leaves]:
    """All that are kept, by the caller's node."""
    found: dict[NodeId, Leaves] = {}
    for key, value in view.scan(b"leaf/"):
        node = NodeId(key[5:-9].decode())
        task, leaf = unpack(value)
        found.setdefault(node, Leaves(node)).hold(int.from_bytes(key[-8:], "big"), TaskId(task), leaf)
    return found


def caller_write(org: OrgDid, paid: int) -> Put:
    """Keep what the vouchers of ``org`` cover."""
    return Put(b"caller/" + org.encode(), pack(paid))


def read_paid(view: View) -> dict[OrgDid, int]:
    """What the vouchers of each organisation cover."""
    return {OrgDid(key.removeprefix(b"caller/").decode()): unpack(value)[0] for key, value in view.scan(b"caller/")}


def redeemed_write(number: int, till: Till, redemption: Redemption, leaves: list[tuple[TaskId, bytes]]) -> Put:
    """Keep what a root stands for."""
    fields = (till.tab, redemption.micro, redemption.root, [[task, leaf] for task, leaf in leaves])
    return Put(redeemed_key(number), pack(*fields))


def redeemed_key(number: int) -> bytes:
    """Where a redemption's receipts lie."""
    return b"redeemed/" + number.to_bytes(8, "big")
