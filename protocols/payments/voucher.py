"""Vouchers: what a caller's node signs for a provider (``consensus/ledger/tabs.py``), and how it travels."""

from meshos.cbor import Value
from meshos.consensus.ledger.fields import is_hash, is_number, is_signature
from meshos.consensus.ledger.tabs import voucher as payload
from meshos.consensus.ledger.transaction import domain
from meshos.crypto.signing import Claim, Domain
from meshos.errors import Refused
from meshos.ids import NodeId
from meshos.values import frozen


@frozen
class Voucher:
    """On ``tab`` its caller owes ``micro`` in all so far."""

    tab: bytes
    micro: int
    signature: bytes

    def fields(self) -> list[object]:
        """As ``read`` takes it."""
        return [self.tab, self.micro, self.signature]

    def claim(self, genesis_hash: bytes, caller: NodeId) -> Claim:
        """That ``caller`` signed it."""
        return Claim(caller, voucher_domain(genesis_hash), payload(self.tab, self.micro), self.signature)


def voucher_domain(genesis_hash: bytes) -> Domain:
    """For what a voucher is signed."""
    return domain(genesis_hash, "voucher")


def read(value: Value) -> Voucher:
    """From ``[tab, micro, signature]``; raises Refused ``bad-message``."""
    match value:
        case [tab, micro, signature] if is_hash(tab) and is_number(micro, 1) and is_signature(signature):
            return Voucher(tab, micro, signature)
    raise Refused("bad-message", "a voucher is [tab, micro, signature]")
