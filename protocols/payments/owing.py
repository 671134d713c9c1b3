"""How a node stands with one provider: the tab, what is owed on it, what was signed. The stored form of it, and its states.

    owing/<provider>     Owing
    call/<task>          Promised

``owed`` counts on the tab that is there; where there is none, it is what the next one begins with. ``signed`` is durable before the voucher
over it is made. What the ledger shows of the tab (``reserved``, ``redeemed``) is not kept.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from meshos.consensus.ledger.packing import pack, unpack
from meshos.effects import Delete, Put
from meshos.ids import NodeId, OrgDid, TaskId
from meshos.protocols.payments.commands import Promised
from meshos.storage.store import View

NONE, OPENING, OPEN, TOPPING_UP, CLOSING = "none", "opening", "open", "topping-up", "closing"

MOVES: Mapping[tuple[str, str], str] = {
    (NONE, "open"): OPENING,
    (NONE, "found"): OPEN,  # on the ledger, opened by an earlier life of this node
    (OPENING, "found"): OPEN,
    (OPENING, "failed"): NONE,
    (OPEN, "top-up"): TOPPING_UP,
    (OPEN, "close"): CLOSING,
    (OPEN, "closes"): CLOSING,  # somebody else's doing: the organisation's root key
    (OPEN, "gone"): NONE,
    (TOPPING_UP, "ended"): OPEN,
    (TOPPING_UP, "closes"): CLOSING,
    (TOPPING_UP, "gone"): NONE,
    (CLOSING, "failed"): OPEN,
    (CLOSING, "gone"): NONE,
}
"""What happens in which state, and what comes of it."""


@dataclass(slots=True)
class Owing:
    """See the module's text. The fields of the first part are durable."""

    provider: OrgDid
    state: str = NONE
    tab: bytes = b""
    owed: int = 0
    signed: int = 0
    amount: int = 0
    """Of the transaction under way."""
    attempt: int = 0
    """Counts transactions, so that each has a name."""
    under_way: bool = False
    node: NodeId | None = None
    """The provider's node that answered last."""
    day: int = 0
    spent: int = 0
    """On that day (UTC)."""
    used_ms: int = 0
    height: int = 0
    """Of the newest ledger state in which the tab was seen: an older one says nothing of it."""

    reserved: int = 0
    redeemed: int = 0
    acked: int = 0
    price: int = 0
    """Of the dearest promise of late."""
    op: int = 0
    """Of the transaction under way, in this life."""
    failures: int = 0
    resting: bool = False
    """A transaction has failed: none is tried until a timer says so."""
    nudges: int = 0
    nudging: bool = False
    """A timer runs, after which a voucher is sent that was not acknowledged."""

    def move(self, what: str) -> None:
        """``what`` has happened; raises ValueError if it cannot in this state."""
        try:
            self.state = MOVES[self.state, what]
        except KeyError:
            raise ValueError(f"a tab that is {self.state} does not meet {what!r}") from None

    @property
    def payable(self) -> int:
        """What the next voucher is over. Nothing new is signed on a tab that closes, where it might not be redeemed in time."""
        if not self.tab or self.state == CLOSING:
            return self.signed
        return max(self.signed, min(self.owed, self.reserved))

    def write(self) -> Put:
        """Keep it."""
        money = (self.tab, self.owed, self.signed, self.amount, self.attempt, self.under_way)
        return Put(b"owing/" + self.provider.encode(), pack(self.state, *money, self.node, self.day, self.spent, self.used_ms, self.height))

    def ref(self) -> bytes:
        """The name of the transaction under way."""
        return b"tab/" + hashlib.sha256(f"{self.attempt} {self.provider}".encode()).digest()


def read_owings(view: View) -> Iterator[Owing]:
    """All that are kept."""
    for key, value in view.scan(b"owing/"):
        state, *rest = unpack(value)
        yield Owing(OrgDid(key.removeprefix(b"owing/").decode()), state, *rest)


def write_call(call: Promised) -> Put:
    """Keep it."""
    return Put(b"call/" + call.task.encode(), pack(call.agent, call.provider, call.asked, call.key, call.most, call.at_ms))


def drop_call(task: TaskId) -> Delete:
    """It is settled."""
    return Delete(b"call/" + task.encode())


def read_calls(view: View) -> Iterator[Promised]:
    """All that are kept."""
    for key, value in view.scan(b"call/"):
        yield Promised(TaskId(key.removeprefix(b"call/").decode()), *unpack(value))
