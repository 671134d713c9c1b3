"""Receipts: what a provider ran for a caller, signed by both.

The payload is canonical CBOR over hashes, so that a receipt of a 64 MiB result is small and shows nothing of it. The provider's node signs
it before the outcome is recorded; the caller's node signs the same bytes, for another domain, once it has checked them against
what it asked for and got. Both signatures together prove to anybody that both agreed on this task, its result and its price.
"""

import hashlib
from functools import lru_cache

from meshos import cbor
from meshos.consensus.org.commands import STATUSES
from meshos.consensus.org.limits import MAX_RECEIPT_BYTES
from meshos.crypto.signing import Domain
from meshos.errors import Refused
from meshos.ids import AgentId, NodeId, OrgDid, Peer, TaskId
from meshos.protocols.tasks.fields import Fields
from meshos.protocols.tasks.limits import RECEIPTS_DECODED
from meshos.values import frozen

PROTOCOL = "/meshos/receipt/1"
HASH_BYTES = 32


@frozen
class Receipt:
    """``request_hash`` is ``request_hash()``, ``result_hash`` the SHA-256 of the result's bytes (of none: of nothing)."""

    task: TaskId
    caller: Peer
    provider: Peer
    agent: AgentId
    request_hash: bytes
    status: str
    result_hash: bytes
    result_size: int
    price_micro: int
    at_ms: int

    def payload(self) -> bytes:
        """What is signed."""
        return cbor.encode(
            {
                "v": 1,
                "task": self.task,
                "caller": [self.caller.node, self.caller.org],
                "provider": [self.provider.node, self.provider.org],
                "agent": self.agent,
                "request": self.request_hash,
                "status": self.status,
                "result": self.result_hash,
                "size": self.result_size,
                "price": self.price_micro,
                "at": self.at_ms,
            }
        )


@frozen
class SignedReceipt:
    """A receipt's payload with the provider's and the caller's signature (empty while there is none)."""

    payload: bytes
    signature: bytes
    countersignature: bytes = b""


@lru_cache(maxsize=RECEIPTS_DECODED)
def decode_receipt(payload: bytes) -> Receipt:
    """The receipt that ``payload`` holds, which is looked at when it is checked and again when it is shown.

    Raises Refused ``bad-encoding``, ``bad-message`` or ``too-large``.
    """
    fields = Fields(cbor.decode(payload, max_bytes=MAX_RECEIPT_BYTES), "a receipt")
    if fields.number("v") != 1:
        raise fields.refusal("its version is not 1")
    caller, provider = fields.texts("caller", 2), fields.texts("provider", 2)
    receipt = Receipt(
        TaskId(fields.text("task")),
        Peer(NodeId(caller[0]), OrgDid(caller[1])),
        Peer(NodeId(provider[0]), OrgDid(provider[1])),
        AgentId(fields.text("agent")),
        fields.data("request", HASH_BYTES, exactly=True),
        fields.text("status"),
        fields.data("result", HASH_BYTES, exactly=True),
        fields.number("size"),
        fields.number("price"),
        fields.number("at"),
    )
    fields.end()
    if receipt.status not in STATUSES:
        raise fields.refusal("it has no such status")
    return receipt


def provider_domain(genesis_hash: bytes) -> Domain:
    """For what a provider's node signs a receipt."""
    return Domain(genesis_hash, PROTOCOL, phase="provider")


def caller_domain(genesis_hash: bytes) -> Domain:
    """For what a caller's node signs a receipt."""
    return Domain(genesis_hash, PROTOCOL, phase="caller")


def request_hash(agent: AgentId, tool: str, arguments_hash: bytes) -> bytes:
    """What was asked for, as 32 bytes; ``arguments_hash`` is the SHA-256 of the arguments' canonical CBOR."""
    return hashlib.sha256(b"meshos/task-request/1\0" + cbor.encode([agent, tool, arguments_hash])).digest()


def check_receipt(receipt: Receipt, expected: Receipt) -> None:
    """Whether it says what the caller knows: ``expected``, where the provider's node and time are its to say; the caller bounds the price.

    Raises Refused ``receipt-invalid``.
    """
    wrong = [
        name
        for name, same in (
            ("task", receipt.task == expected.task),
            ("caller", receipt.caller == expected.caller),
            ("provider", receipt.provider.org == expected.provider.org),
            ("agent", receipt.agent == expected.agent),
            ("request", receipt.request_hash == expected.request_hash),
            ("status", receipt.status == expected.status),
            ("result", receipt.result_hash == expected.result_hash and receipt.result_size == expected.result_size),
        )
        if not same
    ]
    if wrong:
        raise receipt_invalid(f"its {', '.join(wrong)} is not what was asked for and got")


def receipt_invalid(why: str) -> Refused:
    """The refusal of a receipt. The task ran, so it is not simply tried again."""
    return Refused("receipt-invalid", f"the provider's receipt does not hold: {why}", hint="do not rely on the result", outcome="done")
