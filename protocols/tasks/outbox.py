"""Countersigned receipts on their way to the providers: off the call's path, in batches, tried again with growing pauses.

The machine "receipts" keeps them in memory (the caller's own copy lies with its task's result; a provider has its own signature
anyway), and the Flow of ``Delivery`` takes them out and sends them. It waits at the machine, so an idle node does nothing.

With each batch goes a voucher over all that is owed to that provider (``protocols/payments``): one signature and one sync pay for the
batch. Where there is a voucher and no receipt to go with it, an empty batch takes it along.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from meshos import cbor
from meshos.consensus.org.limits import MAX_RECEIPT_BYTES
from meshos.effects import Completed, Err, Ok, Tell, Tick
from meshos.errors import MeshError, Refused, Unreachable
from meshos.flow import Ask, Gather, Propose
from meshos.flow_machine import Abandon, Perform
from meshos.ids import NodeId, OrgDid, Peer, TaskId
from meshos.protocols.payments.commands import PAYING, Acknowledge, GetVoucher
from meshos.protocols.payments.voucher import Voucher
from meshos.protocols.payments.voucher import read as read_voucher
from meshos.protocols.tasks.fields import Fields
from meshos.protocols.tasks.limits import (
    HEAD_BYTES,
    LINGER_S,
    OUTBOX_BATCH,
    OUTBOX_PROVIDERS,
    OUTBOX_RECEIPTS,
    OUTBOX_TRIES,
    RECEIPT_TIMEOUT_S,
    RETRY_S,
)
from meshos.protocols.tasks.receipt import PROTOCOL

MACHINE = "receipts"


@dataclass(frozen=True, slots=True)
class Countersigned:
    """The caller's signature over the receipt of ``task``, for ``provider`` of ``org``; tried ``tries`` times so far. No task: only the
    voucher is wanted.
    """

    provider: NodeId
    org: OrgDid
    task: TaskId
    signature: bytes
    tries: int = 0


@dataclass(frozen=True, slots=True)
class PutReceipts:
    """Send these (again); gives None at once."""

    receipts: tuple[Countersigned, ...]


@dataclass(frozen=True, slots=True)
class TakeReceipts:
    """Gives tuple[Countersigned, …] once a batch is full or the oldest has waited LINGER_S: up to OUTBOX_BATCH for each of up to
    OUTBOX_PROVIDERS providers.
    """


class ReceiptOutbox:
    """The machine "receipts"."""

    def __init__(self) -> None:
        self._due: deque[Countersigned] = deque()
        self._later: deque[tuple[float, Countersigned]] = deque()
        self._since = 0.0  # when the oldest of those came that are due
        self._taker: tuple[str, int] | None = None
        self.dropped = 0

    def step(self, now: float, event: object) -> list[object]:
        """See ``meshos.effects.Machine``."""
        effects: list[object] = []
        if isinstance(event, Perform):
            command = getattr(event.operation, "command", None)
            if isinstance(command, PutReceipts):
                self._put(now, command.receipts)
                effects.append(Tell(event.reply_to, Completed(event.op, Ok(None))))
            elif isinstance(command, TakeReceipts):
                self._taker = (event.reply_to, event.op)
            else:
                refusal = Refused("unknown-command", f"the outbox has no command {type(command).__name__}")
                effects.append(Tell(event.reply_to, Completed(event.op, Err(refusal))))
        elif isinstance(event, Abandon):
            if self._taker == (event.reply_to, event.op):
                self._taker = None
        elif not isinstance(event, Tick):
            raise TypeError(f"ReceiptOutbox has no use for {event!r}")
        while self._later and self._later[0][0] <= now:
            self._add(self._later[0][0], self._later.popleft()[1])
        if self._taker is not None and (len(self._due) >= OUTBOX_BATCH or (self._due and now >= self._since + LINGER_S)):
            machine, op = self._taker
            self._taker = None
            effects.append(Tell(machine, Completed(op, Ok(self._take()))))
        return effects

    def deadline(self) -> float | None:
        """When those that wait for others have waited long enough, or the earliest that was put off is due."""
        times = [self._later[0][0]] if self._later else []
        if self._taker is not None and self._due:
            times.append(self._since + LINGER_S)
        return min(times, default=None)

    def statistics(self) -> dict[str, int]:
        """Receipts that wait, and those that were given up."""
        return {"waiting": len(self._due) + len(self._later), "dropped": self.dropped}

    def _put(self, now: float, receipts: Sequence[Countersigned]) -> None:
        for receipt in receipts:
            if receipt.tries >= OUTBOX_TRIES:
                self.dropped += 1
            elif receipt.tries:
                self._put_off(now + RETRY_S * 2 ** (receipt.tries - 1), receipt)
            else:
                self._add(now, receipt)
        while len(self._due) + len(self._later) > OUTBOX_RECEIPTS:
            (self._due if self._due else self._later).popleft()
            self.dropped += 1

    def _add(self, now: float, receipt: Countersigned) -> None:
        if not self._due:
            self._since = now
        self._due.append(receipt)

    def _put_off(self, when: float, receipt: Countersigned) -> None:
        """Keep ``_later`` in the order of time; what is put off is nearly always the latest."""
        place = len(self._later)
        while place and self._later[place - 1][0] > when:
            place -= 1
        self._later.insert(place, (when, receipt))

    def _take(self) -> tuple[Countersigned, ...]:
        taken: dict[NodeId, list[Countersigned]] = {}
        left: deque[Countersigned] = deque()
        for receipt in self._due:
            batch = taken.get(receipt.provider)
            if batch is None and len(taken) < OUTBOX_PROVIDERS:
                batch = taken[receipt.provider] = []
            if batch is not None and len(batch) < OUTBOX_BATCH:
                batch.append(receipt)
            else:
                left.append(receipt)
        self._due = left
        return tuple(receipt for batch in taken.values() for receipt in batch)


class Delivery:
    """The Flow that sends receipts and vouchers. ``providers_of`` gives the nodes of an organisation that can be reached; ``pays`` says
    that this node has the machine that signs vouchers.
    """

    def __init__(self, providers_of: Callable[[OrgDid], Sequence[NodeId]], *, pays: bool) -> None:
        self._providers_of = providers_of
        self._pays = pays

    async def deliver(self, _: object) -> None:
        """Started once with the node, and without a deadline."""
        while True:
            taken = await Propose[tuple[Countersigned, ...]](TakeReceipts(), to=MACHINE)
            batches: dict[tuple[NodeId, OrgDid], list[Countersigned]] = {}
            for receipt in taken:
                batches.setdefault((receipt.provider, receipt.org), []).append(receipt)
            outcomes = await Gather(*(self._send(*to, batch) for to, batch in batches.items()), each=True)
            again = tuple(receipt for outcome in outcomes if isinstance(outcome, Ok) for receipt in outcome.value)
            if again:
                await Propose[None](PutReceipts(again), to=MACHINE)

    async def _send(self, provider: NodeId, org: OrgDid, batch: list[Countersigned]) -> list[Countersigned]:
        """Those that are to be tried again."""
        voucher = await Propose[Voucher | None](GetVoucher(org), to=PAYING) if self._pays else None
        receipts = [receipt for receipt in batch if receipt.task]
        if not receipts and voucher is None:
            return []
        body = encode_receipts([(receipt.task, receipt.signature) for receipt in receipts], behalf=None, voucher=voucher)
        try:
            reply = decode_received(await self._ask(provider, org, body))
        except MeshError as error:
            if isinstance(error, Unreachable) or error.name == "busy":
                return [replace(receipt, tries=receipt.tries + 1) for receipt in receipts]
            return []  # refused, and the same bytes would be refused again
        if voucher is not None and reply.covered >= voucher.micro:
            await Propose[None](Acknowledge(org, voucher.tab, voucher.micro), to=PAYING)
        return []

    async def _ask(self, provider: NodeId, org: OrgDid, body: bytes) -> bytes:
        """The reply of ``provider``, or of another node of its organisation where that one cannot be reached."""
        last: Unreachable | None = None
        for node in dict.fromkeys((provider, *self._providers_of(org))):
            try:
                return await Ask(node, PROTOCOL, body, RECEIPT_TIMEOUT_S)
            except Unreachable as error:
                if error.outcome != "not_done":
                    raise
                last = last or error
        assert last is not None
        raise last


def encode_receipts(signatures: Sequence[tuple[TaskId, bytes]], *, behalf: Peer | None, voucher: Voucher | None = None) -> bytes:
    """The body of a ``/meshos/receipt/1`` request."""
    listed = [[task, signature] for task, signature in signatures]
    fields: dict[str, object] = {"behalf": None if behalf is None else [behalf.node, behalf.org], "receipts": listed}
    if voucher is not None:
        fields["voucher"] = voucher.fields()
    return cbor.encode(fields)


def decode_receipts(body: bytes) -> tuple[Peer | None, list[tuple[TaskId, bytes]], Voucher | None]:
    """For whom it is, the tasks with their signatures, the voucher. Raises Refused ``bad-message``, ``bad-encoding`` or ``too-large``."""
    fields = Fields(cbor.decode(body, max_bytes=HEAD_BYTES), "a message with receipts")
    behalf = None if fields.absent("behalf") else fields.texts("behalf", 2)
    signatures = []
    for item in fields.items("receipts", OUTBOX_BATCH):
        match item:
            case [str() as task, bytes() as signature] if len(task) <= 128 and len(signature) <= MAX_RECEIPT_BYTES:
                signatures.append((TaskId(task), signature))
            case _:
                raise fields.refusal("an item is no task with a signature")
    voucher = read_voucher(fields.items("voucher", 3)) if fields.has("voucher") else None
    fields.end()
    return (None if behalf is None else Peer(NodeId(behalf[0]), OrgDid(behalf[1]))), signatures, voucher


@dataclass(frozen=True, slots=True)
class Received:
    """What a provider says: how many receipts it recorded, what its vouchers on the tab cover, the name of what was wrong with this one."""

    recorded: int
    covered: int = 0
    refused: str = ""


def encode_received(received: Received) -> bytes:
    """The reply to a ``/meshos/receipt/1`` request."""
    return cbor.encode({"recorded": received.recorded, "covered": received.covered, "refused": received.refused})


def decode_received(body: bytes) -> Received:
    """Raises Refused ``bad-message``, ``bad-encoding`` or ``too-large``."""
    fields = Fields(cbor.decode(body, max_bytes=HEAD_BYTES), "the answer to receipts")
    received = Received(fields.number("recorded", OUTBOX_BATCH), fields.number("covered"), fields.text("refused"))
    fields.end()
    return received
